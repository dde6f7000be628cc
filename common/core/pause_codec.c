#include "common/core/pause_codec.h"

#include "common/core/topology_codec.h"

#include <assert.h>
#include <string.h>

void pause_codec_write(struct json_write *w, json_t *object, const struct topology_pause *p)
{
    json_t *pause = json_write_object(w);
    json_write_text(w, pause, "owner", p->owner);
    json_write_note(w, pause, "reason", p->reason);
    json_write_int(w, pause, "since_ms", p->since_ms);
    if (p->until_ms != 0)
        json_write_int(w, pause, "until_ms", p->until_ms);
    json_write_set(w, object, "pause", pause);
}

void pause_codec_read(struct json_read *r, const json_t *object, struct topology_pause *out)
{
    const json_t *pause = json_read_object(r, object, "pause");
    if (pause == NULL)
        return;
    r->where = "pause";
    json_read_text(r, pause, "owner", JSON_READ_REQUIRED, out->owner, sizeof out->owner);
    if (r->err == 0 && out->owner[0] == '\0')
        json_read_fail(r, ERR_INVALID, "owner", "must not be empty");
    json_read_text(r, pause, "reason", JSON_READ_OPTIONAL, out->reason, sizeof out->reason);
    json_read_int(r, pause, "since_ms", JSON_READ_OPTIONAL, 0, INT64_MAX, &out->since_ms);
    json_read_int(r, pause, "until_ms", JSON_READ_OPTIONAL, 0, INT64_MAX, &out->until_ms);
    r->where = NULL;
}

ssize_t topology_encode_pause(const struct topology_pause *p, char *text, size_t size)
{
    assert(p != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "v", 1);
    if (p->owner[0] != '\0')
        pause_codec_write(&w, root, p);
    return json_write_finish(&w, root, text, size);
}

int topology_decode_pause(const char *text, size_t len, struct topology_pause *out, char *why,
                          size_t why_size)
{
    assert(out != NULL);
    memset(out, 0, sizeof *out);
    struct json_read r;
    json_read_init(&r, why, why_size);
    json_t *root = json_read_open(&r, text, len, TOPOLOGY_TEXT_MAX);
    if (root == NULL)
        return r.err;
    pause_codec_read(&r, root, out);
    json_decref(root);
    return r.err;
}
