#include "controller/http_body.h"

#include "common/core/json_read.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const int64_t pause_max_ms = INT64_C(366) * 86400 * 1000;

/* ---- shared -------------------------------------------------------------------------------------------- */

/* The body as an object of the caller's; NULL: r->err. */
static json_t *http_body_open(struct json_read *r, const char *text, size_t len)
{
    json_error_t error;
    if (len == 0)
        return json_object();
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(root))
        return root;
    if (root == NULL)
        json_read_fail(r, ERR_INVALID, "", "the body is not JSON at byte %d: %.100s", error.position,
                       error.text);
    else
        json_read_fail(r, ERR_INVALID, "", "the body must be a JSON object");
    json_decref(root);
    return NULL;
}

/* Text for people; see the header. */
static void http_body_words(struct json_read *r, const json_t *object, const char *key, char *out,
                            size_t size)
{
    json_read_text(r, object, key, JSON_READ_OPTIONAL, out, size);
    for (char *c = out; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            json_read_fail(r, ERR_INVALID, key, "must have no control characters");
        if (*c == '"' || *c == '\\')
            *c = '\'';
    }
}

/* Adds a word to "a, b". */
static void http_body_list(char *list, size_t size, const char *word)
{
    size_t len = strlen(list);
    (void)snprintf(list + len, size - len, "%s%s", len > 0 ? ", " : "", word);
}

/* ---- orders -------------------------------------------------------------------------------------------- */

#define ON(type) (1U << FAILOVER_COMMAND_##type)

static const struct {
    const char *key;
    unsigned commands; /* bit: enum failover_command_type */
} order_keys[] = {
    {"to", ON(SWITCHOVER) | ON(FAILOVER)},
    {"limit_ms", ON(SWITCHOVER)},
    {"dry_run", ON(SWITCHOVER) | ON(FAILOVER)},
    {"allow_data_loss", ON(FAILOVER)},
    {"reason", ON(PAUSE)},
    {"for_ms", ON(PAUSE)},
    {"member", ON(FORGET)},
    {"by", ON(SWITCHOVER) | ON(FAILOVER) | ON(PAUSE) | ON(RESUME) | ON(ACK) | ON(FORGET)},
};

static void http_body_check_order(struct json_read *r, json_t *root, enum failover_command_type type)
{
    const char *key;
    json_t *value;
    char known[160] = "";
    for (size_t k = 0; k < sizeof order_keys / sizeof order_keys[0]; k++)
        if (order_keys[k].commands & (1U << type))
            http_body_list(known, sizeof known, order_keys[k].key);
    json_object_foreach(root, key, value)
    {
        bool found = false;
        for (size_t k = 0; k < sizeof order_keys / sizeof order_keys[0]; k++)
            found = found || ((order_keys[k].commands & (1U << type)) && strcmp(order_keys[k].key, key) == 0);
        if (!found)
            json_read_fail(r, ERR_INVALID, "", "\"%.60s\" is no key of this command: it knows %s", key,
                           known);
    }
}

static void http_body_read_pause(struct json_read *r, const json_t *root, int64_t wall_ms,
                                 struct failover_command *c)
{
    int64_t for_ms = 0;
    http_body_words(r, root, "reason", c->pause.reason, sizeof c->pause.reason);
    json_read_int(r, root, "for_ms", JSON_READ_OPTIONAL, 1, pause_max_ms, &for_ms);
    /* An owner is what makes a pause one. */
    (void)snprintf(c->pause.owner, sizeof c->pause.owner, "%s", c->by[0] != '\0' ? c->by : "unknown");
    c->pause.since_ms = wall_ms;
    c->pause.until_ms = for_ms != 0 ? wall_ms + for_ms : 0;
}

int http_body_order(enum failover_command_type type, const char *text, size_t len, int64_t wall_ms,
                    struct http_body *out, char *why, size_t why_size)
{
    assert(type != FAILOVER_COMMAND_SET && out != NULL && why_size > 0);
    struct json_read r;
    json_read_init(&r, why, why_size);
    memset(out, 0, sizeof *out);
    out->command.type = type;
    json_t *root = http_body_open(&r, text, len);
    if (root == NULL)
        return r.err != 0 ? r.err : ERR_NOMEM;
    http_body_check_order(&r, root, type);
    http_body_words(&r, root, "by", out->command.by, sizeof out->command.by);
    json_read_address(&r, root, "to", JSON_READ_OPTIONAL, &out->command.target);
    json_read_int(&r, root, "limit_ms", JSON_READ_OPTIONAL, HTTP_BODY_LIMIT_MIN_MS, HTTP_BODY_LIMIT_MAX_MS,
                  &out->command.limit_ms);
    json_read_bool(&r, root, "dry_run", &out->dry_run);
    json_read_bool(&r, root, "allow_data_loss", &out->command.data_loss_allowed);
    if (type == FAILOVER_COMMAND_FORGET)
        json_read_address(&r, root, "member", JSON_READ_REQUIRED, &out->command.target);
    if (type == FAILOVER_COMMAND_PAUSE)
        http_body_read_pause(&r, root, wall_ms, &out->command);
    json_decref(root);
    return r.err;
}

/* ---- policy -------------------------------------------------------------------------------------------- */

enum policy_kind {
    POLICY_U32,
    POLICY_U64,
    POLICY_BOOL,
    POLICY_DURABILITY,
    POLICY_READS,
    POLICY_FENCE,
    POLICY_USER
};

#define POLICY(field, kind, min, max)                                                                        \
    {                                                                                                        \
#field, POLICY_##kind, min, max, offsetof(struct topology_policy, field)                             \
    }

static const struct policy_key {
    const char *key;
    enum policy_kind kind;
    int64_t min, max;
    size_t offset;
} policy_keys[] = {
    POLICY(durability, DURABILITY, 0, 0),
    POLICY(acks, U32, 1, TOPOLOGY_MEMBERS_MAX - 1),
    POLICY(unreachable_after_ms, U32, 100, 3600000),
    POLICY(hung_after_ms, U32, 100, 3600000),
    POLICY(cooldown_ms, U32, 0, TOPOLOGY_COOLDOWN_MAX_MS),
    POLICY(min_replicas_to_write, U32, 0, TOPOLOGY_MEMBERS_MAX - 1),
    POLICY(min_replicas_max_lag, U32, 0, 3600),
    POLICY(reads, READS, 0, 0),
    POLICY(max_lag_bytes, U64, 0, INT64_MAX),
    POLICY(hold_ms, U32, 0, 3600000),
    POLICY(auto_failover, BOOL, 0, 1),
    POLICY(fence, FENCE, 0, 0),
    POLICY(fence_user, USER, 0, 0),
};

static void http_body_read_policy_key(struct json_read *r, const json_t *policy, const struct policy_key *k,
                                      struct topology_policy *out)
{
    void *field = (char *)out + k->offset;
    int64_t number = 0;
    if (json_object_get(policy, k->key) == NULL)
        return;
    switch (k->kind) {
    case POLICY_DURABILITY:
        json_read_durability(r, policy, JSON_READ_REQUIRED, &out->durability);
        break;
    case POLICY_READS:
        json_read_reads(r, policy, JSON_READ_REQUIRED, &out->reads);
        break;
    case POLICY_FENCE:
        json_read_fence(r, policy, JSON_READ_REQUIRED, &out->fence);
        break;
    case POLICY_USER:
        json_read_text(r, policy, k->key, JSON_READ_REQUIRED, out->fence_user, sizeof out->fence_user);
        break;
    case POLICY_BOOL:
        json_read_bool(r, policy, k->key, field);
        break;
    case POLICY_U32:
        json_read_int(r, policy, k->key, JSON_READ_REQUIRED, k->min, k->max, &number);
        *(uint32_t *)field = (uint32_t)number;
        break;
    case POLICY_U64:
        json_read_int(r, policy, k->key, JSON_READ_REQUIRED, k->min, k->max, &number);
        *(uint64_t *)field = (uint64_t)number;
        break;
    }
}

static void http_body_read_policy(struct json_read *r, const json_t *root, struct topology_policy *out)
{
    json_t *policy = json_read_object(r, root, "policy"), *value;
    const char *key;
    char known[280] = "";
    if (policy == NULL)
        return;
    r->where = "policy";
    for (size_t k = 0; k < sizeof policy_keys / sizeof policy_keys[0]; k++)
        http_body_list(known, sizeof known, policy_keys[k].key);
    json_object_foreach(policy, key, value)
    {
        bool found = false;
        for (size_t k = 0; k < sizeof policy_keys / sizeof policy_keys[0]; k++)
            found = found || strcmp(policy_keys[k].key, key) == 0;
        if (!found)
            json_read_fail(r, ERR_INVALID, "", "\"%.60s\" is no policy key: there are %s", key, known);
    }
    for (size_t k = 0; k < sizeof policy_keys / sizeof policy_keys[0]; k++)
        http_body_read_policy_key(r, policy, &policy_keys[k], out);
    r->where = NULL;
}

/* ---- members' labels ----------------------------------------------------------------------------------- */

static void http_body_read_label(struct json_read *r, const struct topology_instance *record, json_t *item,
                                 struct failover_command *c)
{
    struct topology_address address = {0};
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    const char *key;
    json_t *value;
    if (!json_is_object(item)) {
        json_read_fail(r, ERR_INVALID, "", "must be an object");
        return;
    }
    json_object_foreach(item, key, value)
    {
        if (strcmp(key, "address") != 0 && strcmp(key, "priority") != 0 && strcmp(key, "zone") != 0)
            json_read_fail(r, ERR_INVALID, "",
                           "\"%.60s\" is no key of a member: address, priority and zone are", key);
    }
    json_read_address(r, item, "address", JSON_READ_REQUIRED, &address);
    if (r->err != 0)
        return;
    int member = topology_member_find(record, &address);
    if (member < 0) {
        json_read_fail(r, ERR_INVALID, "address", "%s is no member of %s",
                       topology_address_format(&address, text), record->name);
        return;
    }
    for (uint32_t k = 0; k < c->n_labels; k++)
        if (topology_address_equal(&c->labels[k].address, &address))
            json_read_fail(r, ERR_INVALID, "address", "%s is named twice",
                           topology_address_format(&address, text));
    if (r->err != 0)
        return;
    struct topology_member *label = &c->labels[c->n_labels++];
    *label = record->members[member];
    json_read_priority(r, item, JSON_READ_OPTIONAL, &label->priority);
    json_read_text(r, item, "zone", JSON_READ_OPTIONAL, label->zone, sizeof label->zone);
}

/* The record with all of it done must be one that can be read again. */
static void http_body_check_set(struct json_read *r, const struct topology_instance *record,
                                const struct failover_command *c)
{
    struct topology_instance next = *record;
    char why[200];
    if (r->err != 0)
        return;
    next.policy = c->policy;
    for (uint32_t k = 0; k < c->n_labels; k++)
        next.members[topology_member_find(&next, &c->labels[k].address)] = c->labels[k];
    if (topology_check(&next, why, sizeof why) != 0)
        json_read_fail(r, ERR_INVALID, "", "%s", why);
}

int http_body_set(const struct topology_instance *record, const char *text, size_t len, struct http_body *out,
                  char *why, size_t why_size)
{
    assert(record != NULL && out != NULL && why_size > 0);
    struct json_read r;
    const char *key;
    json_t *value;
    json_read_init(&r, why, why_size);
    memset(out, 0, sizeof *out);
    out->command.type = FAILOVER_COMMAND_SET;
    out->command.policy = record->policy;
    json_t *root = http_body_open(&r, text, len);
    if (root == NULL)
        return r.err != 0 ? r.err : ERR_NOMEM;
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "policy") != 0 && strcmp(key, "members") != 0 && strcmp(key, "by") != 0)
            json_read_fail(&r, ERR_INVALID, "", "\"%.60s\" can't be set: policy and members can", key);
    }
    http_body_words(&r, root, "by", out->command.by, sizeof out->command.by);
    http_body_read_policy(&r, root, &out->command.policy);
    const json_t *members = json_read_array(&r, root, "members", TOPOLOGY_MEMBERS_MAX);
    r.where = "members";
    for (size_t k = 0; r.err == 0 && k < json_array_size(members); k++) {
        r.index = (int)k;
        http_body_read_label(&r, record, json_array_get(members, k), &out->command);
    }
    r.where = NULL;
    r.index = -1;
    if (json_object_size(json_object_get(root, "policy")) == 0 &&
        json_array_size(json_object_get(root, "members")) == 0)
        json_read_fail(&r, ERR_INVALID, "", "nothing is to be set: give \"policy\" or \"members\"");
    http_body_check_set(&r, record, &out->command);
    json_decref(root);
    return r.err;
}
