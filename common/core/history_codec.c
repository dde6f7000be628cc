/* Entries of /history/<name> as JSON; contract in topology_codec.h. */
#include "common/core/json_read.h"
#include "common/core/json_write.h"
#include "common/core/timeline_codec.h"
#include "common/core/topology_codec.h"

#include <assert.h>
#include <string.h>

ssize_t topology_encode_history(const struct topology_history *h, char *text, size_t size)
{
    assert(h != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "v", 1);
    json_write_text(&w, root, "kind", topology_history_kind_name(h->kind));
    json_write_int(&w, root, "at_ms", h->at_ms);
    json_write_u64(&w, root, "epoch", h->epoch);
    json_write_u64(&w, root, "term", h->term);
    json_write_int(&w, root, "row", h->row);
    json_write_address(&w, root, "from", &h->from);
    json_write_address(&w, root, "to", &h->to);
    if (h->lost_bytes != 0)
        json_write_int(&w, root, "lost_bytes", h->lost_bytes);
    if (h->verdict != TOPOLOGY_VERDICT_NONE)
        json_write_text(&w, root, "verdict", topology_verdict_name(h->verdict));
    json_write_note(&w, root, "evidence", h->evidence);
    if (h->kind == TOPOLOGY_HISTORY_FAILOVER)
        timeline_codec_write(&w, root, &h->timeline);
    return json_write_finish(&w, root, text, size);
}

int topology_decode_history(const char *text, size_t len, struct topology_history *out, char *why,
                            size_t why_size)
{
    assert(out != NULL);
    memset(out, 0, sizeof *out);
    struct json_read r;
    json_read_init(&r, why, why_size);
    json_t *root = json_read_open(&r, text, len, TOPOLOGY_TEXT_MAX);
    if (root == NULL)
        return r.err;
    const char *word = json_read_word(&r, root, "kind", JSON_READ_REQUIRED);
    if (word != NULL && topology_history_kind_parse(word, &out->kind) != 0)
        json_read_fail(&r, ERR_INVALID, "kind", "\"%.40s\" is not a kind of history entry", word);
    json_read_int(&r, root, "at_ms", JSON_READ_REQUIRED, 0, INT64_MAX, &out->at_ms);
    json_read_u64(&r, root, "epoch", JSON_READ_REQUIRED, &out->epoch);
    json_read_u64(&r, root, "term", JSON_READ_OPTIONAL, &out->term);
    json_read_u32(&r, root, "row", JSON_READ_OPTIONAL, &out->row);
    json_read_address(&r, root, "from", JSON_READ_OPTIONAL, &out->from);
    json_read_address(&r, root, "to", JSON_READ_OPTIONAL, &out->to);
    json_read_int(&r, root, "lost_bytes", JSON_READ_OPTIONAL, 0, INT64_MAX, &out->lost_bytes);
    word = json_read_word(&r, root, "verdict", JSON_READ_OPTIONAL);
    if (word != NULL && topology_verdict_parse(word, &out->verdict) != 0)
        json_read_fail(&r, ERR_INVALID, "verdict", "\"%.40s\" is not a verdict", word);
    json_read_text(&r, root, "evidence", JSON_READ_OPTIONAL, out->evidence, sizeof out->evidence);
    timeline_codec_read(&r, root, &out->timeline);
    json_decref(root);
    return r.err;
}
