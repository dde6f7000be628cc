/* Which message has which fields is one table; encoding and decoding both follow it. */
#include "common/core/message.h"

#include "common/core/json_read.h"
#include "common/core/json_write.h"

#include <assert.h>
#include <string.h>

enum message_field {
    HAS_ID = 1 << 0,
    HAS_INSTANCE = 1 << 1,
    HAS_PORT = 1 << 2,
    HAS_EPOCH = 1 << 3,
    HAS_REVISION = 1 << 4,
    HAS_MASTER = 1 << 5,
    HAS_ROUTE =
        1 << 6,        /* replicas, durability, acks, hold_ms, reads, readers; fence_user, left out when "" */
    HAS_TOOK = 1 << 7, /* took_us; acks, left out when 0 */
    HAS_LIMIT = 1 << 8, /* limit_ms, left out when 0 */
    HAS_VIEW = 1 << 9,  /* view, silent_us, distrusted */
};

static const struct {
    const char *name;
    unsigned fields;
} message_types[] = {
    [MESSAGE_ROUTE] = {"route", HAS_INSTANCE | HAS_PORT | HAS_EPOCH | HAS_REVISION | HAS_MASTER | HAS_ROUTE},
    [MESSAGE_HOLD] = {"hold", HAS_INSTANCE | HAS_PORT | HAS_EPOCH | HAS_REVISION | HAS_LIMIT},
    [MESSAGE_DROP] = {"drop", HAS_INSTANCE | HAS_PORT | HAS_REVISION},
    [MESSAGE_BEAT] = {"beat", HAS_ID | HAS_REVISION},
    [MESSAGE_ACK] = {"ack", HAS_ID | HAS_INSTANCE | HAS_EPOCH | HAS_TOOK},
    [MESSAGE_HINT] = {"hint", HAS_ID | HAS_INSTANCE | HAS_EPOCH | HAS_MASTER},
    [MESSAGE_HELD] = {"held", HAS_ID | HAS_INSTANCE | HAS_EPOCH},
    [MESSAGE_SURVEY] = {"survey", HAS_ID | HAS_INSTANCE | HAS_MASTER},
    [MESSAGE_VOTE] = {"vote", HAS_ID | HAS_INSTANCE | HAS_MASTER | HAS_VIEW},
};
enum { MESSAGE_TYPES = sizeof message_types / sizeof message_types[0] };

const char *message_type_name(enum message_type t)
{
    assert((unsigned)t < MESSAGE_TYPES);
    return message_types[t].name;
}

/* ---- value → text ------------------------------------------------------------------------------------- */

static void message_write_readers(struct json_write *w, json_t *root, const struct message *m)
{
    assert(m->n_readers <= TOPOLOGY_MEMBERS_MAX);
    json_t *readers = json_write_array(w);
    for (uint32_t k = 0; k < m->n_readers; k++) {
        json_t *reader = json_write_object(w);
        json_write_address(w, reader, "address", &m->readers[k].address);
        if (m->readers[k].zone[0] != '\0')
            json_write_text(w, reader, "zone", m->readers[k].zone);
        json_write_append(w, readers, reader);
    }
    json_write_text(w, root, "reads", topology_reads_name(m->reads));
    json_write_set(w, root, "readers", readers);
}

static void message_write_route(struct json_write *w, json_t *root, const struct message *m)
{
    assert(m->n_replicas <= TOPOLOGY_MEMBERS_MAX);
    json_t *replicas = json_write_array(w);
    for (uint32_t k = 0; k < m->n_replicas; k++) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        json_write_append(w, replicas, json_string(topology_address_format(&m->replicas[k], text)));
    }
    json_write_set(w, root, "replicas", replicas);
    json_write_text(w, root, "durability", topology_durability_name(m->durability));
    json_write_int(w, root, "acks", m->acks);
    json_write_int(w, root, "hold_ms", m->hold_ms);
    message_write_readers(w, root, m);
    if (m->fence_user[0] != '\0')
        json_write_text(w, root, "fence_user", m->fence_user);
}

static void message_write_view(struct json_write *w, json_t *root, const struct message *m)
{
    json_write_text(w, root, "view", m->view);
    json_write_int(w, root, "silent_us", m->silent_us);
    json_write_bool(w, root, "distrusted", m->distrusted);
}

ssize_t message_encode(const struct message *m, char *text, size_t size)
{
    assert(m != NULL);
    assert((unsigned)m->type < MESSAGE_TYPES);
    unsigned fields = message_types[m->type].fields;
    assert(!(fields & HAS_MASTER) || topology_address_is_set(&m->master));
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "v", 1);
    json_write_text(&w, root, "type", message_type_name(m->type));
    json_write_u64(&w, root, "term", m->term);
    json_write_u64(&w, root, "seq", m->seq);
    if (fields & HAS_REVISION)
        json_write_u64(&w, root, "revision", m->revision);
    if (fields & HAS_ID)
        json_write_text(&w, root, "id", m->id);
    if (fields & HAS_INSTANCE)
        json_write_text(&w, root, "instance", m->instance);
    if (fields & HAS_PORT)
        json_write_int(&w, root, "port", m->port);
    if (fields & HAS_EPOCH)
        json_write_u64(&w, root, "epoch", m->epoch);
    if (fields & HAS_MASTER)
        json_write_address(&w, root, "master", &m->master);
    if (fields & HAS_ROUTE)
        message_write_route(&w, root, m);
    if (fields & HAS_TOOK)
        json_write_int(&w, root, "took_us", m->took_us);
    if ((fields & HAS_TOOK) && m->acks != 0)
        json_write_int(&w, root, "acks", m->acks);
    if ((fields & HAS_LIMIT) && m->limit_ms != 0)
        json_write_int(&w, root, "limit_ms", m->limit_ms);
    if (fields & HAS_VIEW)
        message_write_view(&w, root, m);
    return json_write_finish(&w, root, text, size);
}

/* ---- text → value ------------------------------------------------------------------------------------- */

static void message_read_name(struct json_read *r, const json_t *root, const char *key, char *out,
                              size_t size)
{
    json_read_text(r, root, key, JSON_READ_REQUIRED, out, size);
    if (r->err == 0 && topology_name_check(out) != 0)
        json_read_fail(r, ERR_INVALID, key, "is not a legal name");
}

static void message_read_readers(struct json_read *r, const json_t *root, struct message *out)
{
    json_read_reads(r, root, JSON_READ_OPTIONAL, &out->reads);
    const json_t *readers = json_read_array(r, root, "readers", TOPOLOGY_MEMBERS_MAX);
    for (size_t k = 0; r->err == 0 && k < json_array_size(readers); k++) {
        const json_t *reader = json_array_get(readers, k);
        struct topology_reader *to = &out->readers[out->n_readers++];
        json_read_address(r, reader, "address", JSON_READ_REQUIRED, &to->address);
        json_read_text(r, reader, "zone", JSON_READ_OPTIONAL, to->zone, sizeof to->zone);
    }
}

static void message_read_route(struct json_read *r, const json_t *root, struct message *out)
{
    const json_t *replicas = json_read_array(r, root, "replicas", TOPOLOGY_MEMBERS_MAX);
    for (size_t k = 0; r->err == 0 && k < json_array_size(replicas); k++) {
        const char *text = json_string_value(json_array_get(replicas, k));
        if (text == NULL || topology_address_parse(text, &out->replicas[out->n_replicas++]) != 0)
            json_read_fail(r, ERR_INVALID, "replicas", "element %zu is not an address", k);
    }
    out->acks = 1;
    json_read_durability(r, root, JSON_READ_OPTIONAL, &out->durability);
    json_read_u32(r, root, "acks", JSON_READ_OPTIONAL, &out->acks);
    if (out->durability == TOPOLOGY_STRICT && (out->acks < 1 || out->acks >= TOPOLOGY_MEMBERS_MAX))
        json_read_fail(r, ERR_INVALID, "acks", "must be 1 to %d", TOPOLOGY_MEMBERS_MAX - 1);
    json_read_u32(r, root, "hold_ms", JSON_READ_OPTIONAL, &out->hold_ms);
    message_read_readers(r, root, out);
    json_read_text(r, root, "fence_user", JSON_READ_OPTIONAL, out->fence_user, sizeof out->fence_user);
}

/* Which words there are is health.h's matter: a newer controller may have more of them. */
static void message_read_view(struct json_read *r, const json_t *root, struct message *out)
{
    json_read_text(r, root, "view", JSON_READ_REQUIRED, out->view, sizeof out->view);
    json_read_int(r, root, "silent_us", JSON_READ_REQUIRED, 0, INT64_MAX, &out->silent_us);
    json_read_bool(r, root, "distrusted", &out->distrusted);
}

static void message_read_type(struct json_read *r, const json_t *root, enum message_type *out)
{
    const char *word = json_read_word(r, root, "type", JSON_READ_REQUIRED);
    if (word == NULL)
        return;
    for (unsigned k = 0; k < MESSAGE_TYPES; k++) {
        if (strcmp(word, message_types[k].name) == 0) {
            *out = (enum message_type)k;
            return;
        }
    }
    json_read_fail(r, ERR_NOT_FOUND, "type", "is not known here");
}

static void message_read_fields(struct json_read *r, const json_t *root, struct message *out)
{
    unsigned fields = message_types[out->type].fields;
    json_read_u64(r, root, "term", JSON_READ_REQUIRED, &out->term);
    json_read_u64(r, root, "seq", JSON_READ_REQUIRED, &out->seq);
    if (fields & HAS_REVISION)
        json_read_u64(r, root, "revision", JSON_READ_REQUIRED, &out->revision);
    if (fields & HAS_ID)
        message_read_name(r, root, "id", out->id, sizeof out->id);
    if (fields & HAS_INSTANCE)
        message_read_name(r, root, "instance", out->instance, sizeof out->instance);
    if (fields & HAS_PORT)
        json_read_port(r, root, "port", JSON_READ_REQUIRED, &out->port);
    if (fields & HAS_EPOCH)
        json_read_u64(r, root, "epoch", JSON_READ_REQUIRED, &out->epoch);
    if (fields & HAS_MASTER)
        json_read_address(r, root, "master", JSON_READ_REQUIRED, &out->master);
    if (fields & HAS_ROUTE)
        message_read_route(r, root, out);
    if (fields & HAS_TOOK) {
        json_read_int(r, root, "took_us", JSON_READ_REQUIRED, 0, INT64_MAX, &out->took_us);
        json_read_u32(r, root, "acks", JSON_READ_OPTIONAL, &out->acks);
    }
    if (fields & HAS_LIMIT)
        json_read_u32(r, root, "limit_ms", JSON_READ_OPTIONAL, &out->limit_ms);
    if (fields & HAS_VIEW)
        message_read_view(r, root, out);
}

int message_decode(const char *text, size_t len, struct message *out)
{
    assert(out != NULL);
    memset(out, 0, sizeof *out);
    struct json_read r;
    json_read_init(&r, NULL, 0);
    json_t *root = json_read_open(&r, text, len, MESSAGE_TEXT_MAX);
    if (root == NULL)
        return r.err;
    message_read_type(&r, root, &out->type);
    if (r.err == 0)
        message_read_fields(&r, root, out);
    json_decref(root);
    return r.err;
}

/* ---- instance → message ------------------------------------------------------------------------------- */

void message_from_instance(const struct topology_instance *i, struct message *out)
{
    assert(i != NULL && out != NULL);
    assert(i->n_members <= TOPOLOGY_MEMBERS_MAX);
    const struct topology_address *route = topology_route(i);
    *out = (struct message){
        .type = route != NULL ? MESSAGE_ROUTE : MESSAGE_HOLD, .port = i->port, .epoch = i->epoch};
    memcpy(out->instance, i->name, sizeof out->instance);
    if (route == NULL)
        return;
    out->master = *route;
    for (uint32_t k = 0; k < i->n_members; k++)
        if (!topology_address_equal(&i->members[k].address, route))
            out->replicas[out->n_replicas++] = i->members[k].address;
    out->durability = i->policy.durability;
    out->acks = i->policy.acks;
    out->hold_ms = i->policy.hold_ms;
    out->reads = i->policy.reads;
    if (topology_is_fenced(i))
        memcpy(out->fence_user, i->policy.fence_user, sizeof out->fence_user);
    out->n_readers = topology_readers(i, out->readers);
}
