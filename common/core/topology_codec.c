/* Instances, controllers and proxies as JSON; history entries are history_codec.c's. */
#include "common/core/topology_codec.h"

#include "common/core/json_read.h"
#include "common/core/json_write.h"
#include "common/core/pause_codec.h"
#include "common/core/timeline_codec.h"

#include <assert.h>
#include <string.h>

/* ---- instance → JSON ---------------------------------------------------------------------------------- */

static void encode_policy(struct json_write *w, json_t *root, const struct topology_policy *p)
{
    json_t *policy = json_write_object(w);
    json_write_text(w, policy, "durability", topology_durability_name(p->durability));
    json_write_int(w, policy, "acks", p->acks);
    json_write_int(w, policy, "unreachable_after_ms", p->unreachable_after_ms);
    json_write_int(w, policy, "hung_after_ms", p->hung_after_ms);
    json_write_int(w, policy, "cooldown_ms", p->cooldown_ms);
    json_write_int(w, policy, "min_replicas_to_write", p->min_replicas_to_write);
    json_write_int(w, policy, "min_replicas_max_lag", p->min_replicas_max_lag);
    json_write_int(w, policy, "hold_ms", p->hold_ms);
    json_write_text(w, policy, "reads", topology_reads_name(p->reads));
    json_write_u64(w, policy, "max_lag_bytes", p->max_lag_bytes);
    json_write_bool(w, policy, "auto_failover", p->auto_failover);
    if (p->fence != TOPOLOGY_FENCE_NONE)
        json_write_text(w, policy, "fence", topology_fence_name(p->fence));
    if (p->fence_user[0] != '\0')
        json_write_text(w, policy, "fence_user", p->fence_user);
    json_write_set(w, root, "policy", policy);
}

static void encode_auth(struct json_write *w, json_t *root, const struct topology_auth *a)
{
    if (a->user[0] == '\0' && a->password[0] == '\0')
        return;
    json_t *auth = json_write_object(w);
    if (a->user[0] != '\0')
        json_write_text(w, auth, "user", a->user);
    json_write_text(w, auth, "password", a->password);
    json_write_set(w, root, "auth", auth);
}

static void encode_members(struct json_write *w, json_t *root, const struct topology_instance *i)
{
    json_t *members = json_write_array(w);
    for (uint32_t k = 0; k < i->n_members; k++) {
        const struct topology_member *m = &i->members[k];
        json_t *member = json_write_object(w);
        json_write_address(w, member, "address", &m->address);
        if (m->run_id[0] != '\0')
            json_write_text(w, member, "run_id", m->run_id);
        if (m->priority != TOPOLOGY_NEUTRAL)
            json_write_text(w, member, "priority", topology_priority_name(m->priority));
        if (m->zone[0] != '\0')
            json_write_text(w, member, "zone", m->zone);
        if (m->serves_reads)
            json_write_bool(w, member, "serves_reads", true);
        json_write_append(w, members, member);
    }
    json_write_set(w, root, "members", members);
}

static void encode_epochs(struct json_write *w, json_t *root, const struct topology_instance *i)
{
    json_t *epochs = json_write_array(w);
    for (uint32_t k = 0; k < i->n_epochs; k++) {
        json_t *row = json_write_object(w);
        json_write_u64(w, row, "epoch", i->epochs[k].epoch);
        json_write_text(w, row, "repl_id", i->epochs[k].repl_id);
        json_write_int(w, row, "start_offset", i->epochs[k].start_offset);
        json_write_append(w, epochs, row);
    }
    json_write_set(w, root, "epochs", epochs);
}

static void encode_failover(struct json_write *w, json_t *root, const struct topology_failover *f)
{
    if (f->epoch == 0)
        return;
    json_t *failover = json_write_object(w);
    json_write_int(w, failover, "at_ms", f->at_ms);
    json_write_text(w, failover, "verdict", topology_verdict_name(f->verdict));
    json_write_u64(w, failover, "epoch", f->epoch);
    json_write_address(w, failover, "old_master", &f->old_master);
    json_write_note(w, failover, "evidence", f->evidence);
    timeline_codec_write(w, failover, &f->timeline);
    json_write_address(w, failover, "target", &f->target);
    if (f->target_offset != 0)
        json_write_int(w, failover, "target_offset", f->target_offset);
    if (f->data_loss_allowed)
        json_write_bool(w, failover, "data_loss_allowed", true);
    if (f->lost_bytes != 0)
        json_write_int(w, failover, "lost_bytes", f->lost_bytes);
    json_write_set(w, root, "failover", failover);
}

static void encode_restraint(struct json_write *w, json_t *root, const struct topology_instance *i)
{
    if (i->pause.owner[0] != '\0')
        pause_codec_write(w, root, &i->pause);
    if (i->cooldown.strikes == 0)
        return;
    json_t *cooldown = json_write_object(w);
    json_write_int(w, cooldown, "strikes", i->cooldown.strikes);
    if (i->cooldown.bypassed)
        json_write_bool(w, cooldown, "bypassed", true);
    json_write_set(w, root, "cooldown", cooldown);
}

ssize_t topology_encode_instance(const struct topology_instance *i, char *text, size_t size)
{
    assert(i != NULL);
    assert(i->n_members <= TOPOLOGY_MEMBERS_MAX && i->n_epochs <= TOPOLOGY_EPOCHS_MAX);
    /* What no reader would accept must never get into a znode: it would set the instance aside for good. */
    if (topology_check(i, NULL, 0) != 0)
        return ERR_INVALID;
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "v", 1);
    json_write_text(&w, root, "name", i->name);
    json_write_int(&w, root, "port", i->port);
    json_write_text(&w, root, "state", topology_state_name(i->state));
    json_write_u64(&w, root, "epoch", i->epoch);
    json_write_address(&w, root, "master", &i->master);
    json_write_address(&w, root, "candidate", &i->candidate);
    if (i->start_offset != 0)
        json_write_int(&w, root, "start_offset", i->start_offset);
    encode_members(&w, root, i);
    encode_epochs(&w, root, i);
    encode_failover(&w, root, &i->failover);
    encode_restraint(&w, root, i);
    encode_policy(&w, root, &i->policy);
    encode_auth(&w, root, &i->auth);
    return json_write_finish(&w, root, text, size);
}

/* ---- JSON → instance ---------------------------------------------------------------------------------- */

static void decode_policy(struct json_read *r, const json_t *root, struct topology_policy *p)
{
    topology_policy_default(p);
    const json_t *policy = json_read_object(r, root, "policy");
    if (policy == NULL)
        return;
    r->where = "policy";
    json_read_durability(r, policy, JSON_READ_OPTIONAL, &p->durability);
    json_read_u32(r, policy, "acks", JSON_READ_OPTIONAL, &p->acks);
    json_read_u32(r, policy, "unreachable_after_ms", JSON_READ_OPTIONAL, &p->unreachable_after_ms);
    json_read_u32(r, policy, "hung_after_ms", JSON_READ_OPTIONAL, &p->hung_after_ms);
    json_read_u32(r, policy, "cooldown_ms", JSON_READ_OPTIONAL, &p->cooldown_ms);
    json_read_u32(r, policy, "min_replicas_to_write", JSON_READ_OPTIONAL, &p->min_replicas_to_write);
    json_read_u32(r, policy, "min_replicas_max_lag", JSON_READ_OPTIONAL, &p->min_replicas_max_lag);
    json_read_u32(r, policy, "hold_ms", JSON_READ_OPTIONAL, &p->hold_ms);
    json_read_reads(r, policy, JSON_READ_OPTIONAL, &p->reads);
    json_read_u64(r, policy, "max_lag_bytes", JSON_READ_OPTIONAL, &p->max_lag_bytes);
    json_read_bool(r, policy, "auto_failover", &p->auto_failover);
    json_read_fence(r, policy, JSON_READ_OPTIONAL, &p->fence);
    json_read_text(r, policy, "fence_user", JSON_READ_OPTIONAL, p->fence_user, sizeof p->fence_user);
    r->where = NULL;
}

static void decode_auth(struct json_read *r, const json_t *root, struct topology_auth *a)
{
    const json_t *auth = json_read_object(r, root, "auth");
    if (auth == NULL)
        return;
    r->where = "auth";
    json_read_text(r, auth, "user", JSON_READ_OPTIONAL, a->user, sizeof a->user);
    json_read_text(r, auth, "password", JSON_READ_REQUIRED, a->password, sizeof a->password);
    r->where = NULL;
}

static void decode_members(struct json_read *r, const json_t *root, struct topology_instance *i)
{
    const json_t *members = json_read_array(r, root, "members", TOPOLOGY_MEMBERS_MAX);
    r->where = "members";
    for (size_t k = 0; r->err == 0 && k < json_array_size(members); k++) {
        r->index = (int)k;
        const json_t *member = json_array_get(members, k);
        struct topology_member *m = &i->members[i->n_members++];
        json_read_address(r, member, "address", JSON_READ_REQUIRED, &m->address);
        json_read_text(r, member, "run_id", JSON_READ_OPTIONAL, m->run_id, sizeof m->run_id);
        json_read_text(r, member, "zone", JSON_READ_OPTIONAL, m->zone, sizeof m->zone);
        json_read_priority(r, member, JSON_READ_OPTIONAL, &m->priority);
        json_read_bool(r, member, "serves_reads", &m->serves_reads);
    }
    r->where = NULL;
    r->index = -1;
}

static void decode_epochs(struct json_read *r, const json_t *root, struct topology_instance *i)
{
    const json_t *epochs = json_read_array(r, root, "epochs", TOPOLOGY_EPOCHS_MAX);
    r->where = "epochs";
    for (size_t k = 0; r->err == 0 && k < json_array_size(epochs); k++) {
        r->index = (int)k;
        const json_t *row = json_array_get(epochs, k);
        struct topology_epoch *e = &i->epochs[i->n_epochs++];
        json_read_u64(r, row, "epoch", JSON_READ_REQUIRED, &e->epoch);
        json_read_text(r, row, "repl_id", JSON_READ_REQUIRED, e->repl_id, sizeof e->repl_id);
        json_read_int(r, row, "start_offset", JSON_READ_REQUIRED, 0, INT64_MAX, &e->start_offset);
    }
    r->where = NULL;
    r->index = -1;
}

static void decode_failover(struct json_read *r, const json_t *root, struct topology_failover *f)
{
    const json_t *failover = json_read_object(r, root, "failover");
    if (failover == NULL)
        return;
    r->where = "failover";
    json_read_int(r, failover, "at_ms", JSON_READ_REQUIRED, 0, INT64_MAX, &f->at_ms);
    const char *word = json_read_word(r, failover, "verdict", JSON_READ_REQUIRED);
    if (word != NULL && topology_verdict_parse(word, &f->verdict) != 0)
        json_read_fail(r, ERR_INVALID, "verdict", "\"%.40s\" is not a verdict", word);
    json_read_u64(r, failover, "epoch", JSON_READ_REQUIRED, &f->epoch);
    json_read_address(r, failover, "old_master", JSON_READ_OPTIONAL, &f->old_master);
    json_read_text(r, failover, "evidence", JSON_READ_OPTIONAL, f->evidence, sizeof f->evidence);
    timeline_codec_read(r, failover, &f->timeline);
    json_read_address(r, failover, "target", JSON_READ_OPTIONAL, &f->target);
    json_read_int(r, failover, "target_offset", JSON_READ_OPTIONAL, 0, INT64_MAX, &f->target_offset);
    json_read_bool(r, failover, "data_loss_allowed", &f->data_loss_allowed);
    json_read_int(r, failover, "lost_bytes", JSON_READ_OPTIONAL, 0, INT64_MAX, &f->lost_bytes);
    r->where = NULL;
}

static void decode_restraint(struct json_read *r, const json_t *root, struct topology_instance *i)
{
    pause_codec_read(r, root, &i->pause);
    const json_t *cooldown = json_read_object(r, root, "cooldown");
    if (cooldown == NULL)
        return;
    r->where = "cooldown";
    json_read_u32(r, cooldown, "strikes", JSON_READ_REQUIRED, &i->cooldown.strikes);
    json_read_bool(r, cooldown, "bypassed", &i->cooldown.bypassed);
    r->where = NULL;
}

int topology_decode_instance(const char *text, size_t len, struct topology_instance *out, char *why,
                             size_t why_size)
{
    assert(out != NULL);
    memset(out, 0, sizeof *out);
    struct json_read r;
    json_read_init(&r, why, why_size);
    json_t *root = json_read_open(&r, text, len, TOPOLOGY_TEXT_MAX);
    if (root == NULL)
        return r.err;
    json_read_text(&r, root, "name", JSON_READ_REQUIRED, out->name, sizeof out->name);
    json_read_port(&r, root, "port", JSON_READ_REQUIRED, &out->port);
    const char *word = json_read_word(&r, root, "state", JSON_READ_REQUIRED);
    if (word != NULL && topology_state_parse(word, &out->state) != 0)
        json_read_fail(&r, ERR_INVALID, "state", "must be stable, sealing or promoting");
    json_read_u64(&r, root, "epoch", JSON_READ_REQUIRED, &out->epoch);
    json_read_address(&r, root, "master", JSON_READ_OPTIONAL, &out->master);
    json_read_address(&r, root, "candidate", JSON_READ_OPTIONAL, &out->candidate);
    json_read_int(&r, root, "start_offset", JSON_READ_OPTIONAL, 0, INT64_MAX, &out->start_offset);
    decode_members(&r, root, out);
    decode_epochs(&r, root, out);
    decode_failover(&r, root, &out->failover);
    decode_restraint(&r, root, out);
    decode_policy(&r, root, &out->policy);
    decode_auth(&r, root, &out->auth);
    json_decref(root);
    if (r.err != 0)
        return r.err;
    return topology_check(out, why, why_size);
}

/* ---- controllers and proxies -------------------------------------------------------------------------- */

/* A host that is to be connected to or listened on: an IP literal, in its one spelling. */
static void decode_host(struct json_read *r, const json_t *root, const char *key, char *out, size_t size)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct topology_address a = {.port = 1};
    json_read_text(r, root, key, JSON_READ_REQUIRED, a.host, sizeof a.host);
    if (r->err != 0)
        return;
    if (topology_address_parse(topology_address_format(&a, text), &a) != 0) {
        json_read_fail(r, ERR_INVALID, key, "\"%.45s\" is not an IP address", a.host);
        return;
    }
    assert(strlen(a.host) < size);
    memcpy(out, a.host, strlen(a.host) + 1);
    (void)size;
}

static void decode_id(struct json_read *r, const json_t *root, char *out, size_t size)
{
    json_read_text(r, root, "id", JSON_READ_REQUIRED, out, size);
    if (r->err == 0 && topology_name_check(out) != 0)
        json_read_fail(r, ERR_INVALID, "id", "must be 1 to %d letters, digits, dots, underscores or hyphens",
                       TOPOLOGY_NAME_MAX);
}

ssize_t topology_encode_controller(const struct topology_controller *c, char *text, size_t size)
{
    assert(c != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "v", 1);
    json_write_text(&w, root, "id", c->id);
    json_write_text(&w, root, "host", c->host);
    json_write_int(&w, root, "pub_port", c->pub_port);
    json_write_int(&w, root, "ingest_port", c->ingest_port);
    if (c->vote_port != 0)
        json_write_int(&w, root, "vote_port", c->vote_port);
    json_write_int(&w, root, "http_port", c->http_port);
    json_write_text(&w, root, "version", c->version);
    json_write_int(&w, root, "started_ms", c->started_ms);
    return json_write_finish(&w, root, text, size);
}

int topology_decode_controller(const char *text, size_t len, struct topology_controller *out, char *why,
                               size_t why_size)
{
    assert(out != NULL);
    memset(out, 0, sizeof *out);
    struct json_read r;
    json_read_init(&r, why, why_size);
    json_t *root = json_read_open(&r, text, len, TOPOLOGY_TEXT_MAX);
    if (root == NULL)
        return r.err;
    decode_id(&r, root, out->id, sizeof out->id);
    decode_host(&r, root, "host", out->host, sizeof out->host);
    json_read_port(&r, root, "pub_port", JSON_READ_REQUIRED, &out->pub_port);
    json_read_port(&r, root, "ingest_port", JSON_READ_REQUIRED, &out->ingest_port);
    json_read_port(&r, root, "vote_port", JSON_READ_OPTIONAL, &out->vote_port);
    json_read_port(&r, root, "http_port", JSON_READ_REQUIRED, &out->http_port);
    json_read_text(&r, root, "version", JSON_READ_OPTIONAL, out->version, sizeof out->version);
    json_read_int(&r, root, "started_ms", JSON_READ_OPTIONAL, 0, INT64_MAX, &out->started_ms);
    json_decref(root);
    return r.err;
}

ssize_t topology_encode_proxy(const struct topology_proxy *p, char *text, size_t size)
{
    assert(p != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "v", 1);
    json_write_text(&w, root, "id", p->id);
    json_write_text(&w, root, "version", p->version);
    json_write_text(&w, root, "bind", p->bind);
    json_write_int(&w, root, "threads", p->threads);
    json_write_int(&w, root, "started_ms", p->started_ms);
    if (p->http[0] != '\0')
        json_write_text(&w, root, "http", p->http);
    return json_write_finish(&w, root, text, size);
}

int topology_decode_proxy(const char *text, size_t len, struct topology_proxy *out, char *why,
                          size_t why_size)
{
    assert(out != NULL);
    memset(out, 0, sizeof *out);
    struct json_read r;
    json_read_init(&r, why, why_size);
    json_t *root = json_read_open(&r, text, len, TOPOLOGY_TEXT_MAX);
    if (root == NULL)
        return r.err;
    decode_id(&r, root, out->id, sizeof out->id);
    json_read_text(&r, root, "version", JSON_READ_OPTIONAL, out->version, sizeof out->version);
    decode_host(&r, root, "bind", out->bind, sizeof out->bind);
    json_read_u32(&r, root, "threads", JSON_READ_OPTIONAL, &out->threads);
    json_read_int(&r, root, "started_ms", JSON_READ_OPTIONAL, 0, INT64_MAX, &out->started_ms);
    json_read_text(&r, root, "http", JSON_READ_OPTIONAL, out->http, sizeof out->http);
    json_decref(root);
    return r.err;
}
