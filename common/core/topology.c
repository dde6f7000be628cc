#include "common/core/topology.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- words for enums -------------------------------------------------------------------------------- */

static const char *const state_names[] = {
    [TOPOLOGY_STABLE] = "stable",
    [TOPOLOGY_SEALING] = "sealing",
    [TOPOLOGY_PROMOTING] = "promoting",
};
static const char *const verdict_names[] = {
    [TOPOLOGY_VERDICT_NONE] = "NONE",
    [TOPOLOGY_VERDICT_DEAD] = "DEAD",
    [TOPOLOGY_VERDICT_RESTARTED] = "RESTARTED",
    [TOPOLOGY_VERDICT_DEMOTED] = "DEMOTED",
    [TOPOLOGY_VERDICT_UNREACHABLE] = "UNREACHABLE",
    [TOPOLOGY_VERDICT_HUNG] = "HUNG",
    [TOPOLOGY_VERDICT_MANUAL] = "MANUAL",
    [TOPOLOGY_VERDICT_PLANNED] = "PLANNED",
};
static const char *const durability_names[] = {
    [TOPOLOGY_ASYNC] = "async",
    [TOPOLOGY_STRICT] = "strict",
};
static const char *const priority_names[] = {
    [TOPOLOGY_NEUTRAL] = "neutral",
    [TOPOLOGY_PREFER] = "prefer",
    [TOPOLOGY_PREFER_NOT] = "prefer_not",
    [TOPOLOGY_MUST_NOT] = "must_not",
};
static const char *const reads_names[] = {
    [TOPOLOGY_READS_MASTER] = "master",
    [TOPOLOGY_READS_REPLICA] = "replica",
    [TOPOLOGY_READS_NEAREST] = "nearest",
};
static const char *const fence_names[] = {
    [TOPOLOGY_FENCE_NONE] = "none",
    [TOPOLOGY_FENCE_ACL] = "acl",
};
static const char *const history_kind_names[] = {
    [TOPOLOGY_HISTORY_ADOPTED] = "adopted",   [TOPOLOGY_HISTORY_FAILOVER] = "failover",
    [TOPOLOGY_HISTORY_REJOINED] = "rejoined", [TOPOLOGY_HISTORY_MEMBER] = "member",
    [TOPOLOGY_HISTORY_ROLLBACK] = "rollback", [TOPOLOGY_HISTORY_POLICY] = "policy",
    [TOPOLOGY_HISTORY_DEGRADED] = "degraded",
};

static const char *topology_word(const char *const *words, size_t n, unsigned value)
{
    assert(value < n);
    assert(words[value] != NULL);
    return words[value];
}

/* Index of the word, or -1. */
static int topology_word_find(const char *const *words, size_t n, const char *text)
{
    assert(text != NULL);
    for (size_t k = 0; k < n; k++)
        if (strcmp(words[k], text) == 0)
            return (int)k;
    return -1;
}

#define TOPOLOGY_WORDS(kind)                                                                                 \
    const char *topology_##kind##_name(enum topology_##kind value)                                           \
    {                                                                                                        \
        return topology_word(kind##_names, COUNT(kind##_names), (unsigned)value);                            \
    }                                                                                                        \
    int topology_##kind##_parse(const char *text, enum topology_##kind *out)                                 \
    {                                                                                                        \
        int k = topology_word_find(kind##_names, COUNT(kind##_names), text);                                 \
        if (k < 0)                                                                                           \
            return ERR_INVALID;                                                                              \
        *out = (enum topology_##kind)k;                                                                      \
        return 0;                                                                                            \
    }
TOPOLOGY_WORDS(state)
TOPOLOGY_WORDS(verdict)
TOPOLOGY_WORDS(durability)
TOPOLOGY_WORDS(priority)
TOPOLOGY_WORDS(reads)
TOPOLOGY_WORDS(fence)
TOPOLOGY_WORDS(history_kind)

/* ---- names and addresses ------------------------------------------------------------------------------ */

void topology_policy_default(struct topology_policy *policy)
{
    assert(policy != NULL);
    *policy = (struct topology_policy){
        .durability = TOPOLOGY_ASYNC,
        .acks = 1,
        .unreachable_after_ms = 1500,
        .hung_after_ms = 3000,
        .cooldown_ms = 60000,
        .min_replicas_to_write = 0,
        .min_replicas_max_lag = 10,
        .hold_ms = 0,
        .max_lag_bytes = 0,
        .reads = TOPOLOGY_READS_MASTER,
        .auto_failover = true,
        .fence = TOPOLOGY_FENCE_NONE,
    };
}

/* ASCII only: isalnum() would follow the locale. */
static bool topology_is_label(const char *text)
{
    static const char legal[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return text[strspn(text, legal)] == '\0';
}

int topology_name_check(const char *text)
{
    assert(text != NULL);
    size_t len = strnlen(text, TOPOLOGY_NAME_MAX + 1);
    if (len == 0 || len > TOPOLOGY_NAME_MAX || !topology_is_label(text))
        return ERR_INVALID;
    return strcmp(text, ".") == 0 || strcmp(text, "..") == 0 ? ERR_INVALID : 0;
}

static int topology_port_parse(const char *text, uint16_t *out)
{
    size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len || text[0] == '0')
        return ERR_INVALID;
    uint32_t port = 0;
    for (size_t k = 0; k < len; k++)
        port = port * 10 + (uint32_t)(text[k] - '0');
    if (port > UINT16_MAX)
        return ERR_INVALID;
    *out = (uint16_t)port;
    return 0;
}

int topology_address_parse(const char *text, struct topology_address *out)
{
    assert(text != NULL && out != NULL);
    size_t len = strnlen(text, TOPOLOGY_ADDRESS_MAX + 1);
    const char *colon = strrchr(text, ':');
    if (len > TOPOLOGY_ADDRESS_MAX || colon == NULL)
        return ERR_INVALID;
    bool is_v6 = text[0] == '[';
    const char *host_start = is_v6 ? text + 1 : text;
    const char *host_end = is_v6 ? colon - 1 : colon;
    if (is_v6 && (host_end <= host_start || *host_end != ']'))
        return ERR_INVALID;
    char host[TOPOLOGY_ADDRESS_MAX + 1];
    size_t host_len = (size_t)(host_end - host_start);
    assert(host_len <= TOPOLOGY_ADDRESS_MAX);
    memcpy(host, host_start, host_len);
    host[host_len] = '\0';
    /* Through binary and back: one member has one spelling, so that addresses compare as text. */
    int family = is_v6 ? AF_INET6 : AF_INET;
    struct in6_addr binary;
    struct topology_address parsed = {.port = 0};
    if (inet_pton(family, host, &binary) != 1 || topology_port_parse(colon + 1, &parsed.port) != 0 ||
        inet_ntop(family, &binary, parsed.host, sizeof parsed.host) == NULL)
        return ERR_INVALID;
    *out = parsed;
    return 0;
}

const char *topology_address_format(const struct topology_address *a, char text[TOPOLOGY_ADDRESS_MAX + 1])
{
    assert(a != NULL && text != NULL);
    if (!topology_address_is_set(a))
        (void)snprintf(text, TOPOLOGY_ADDRESS_MAX + 1, "-");
    else if (strchr(a->host, ':') != NULL)
        (void)snprintf(text, TOPOLOGY_ADDRESS_MAX + 1, "[%s]:%u", a->host, (unsigned)a->port);
    else
        (void)snprintf(text, TOPOLOGY_ADDRESS_MAX + 1, "%s:%u", a->host, (unsigned)a->port);
    return text;
}

bool topology_address_equal(const struct topology_address *a, const struct topology_address *b)
{
    assert(a != NULL && b != NULL);
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* ---- instances ---------------------------------------------------------------------------------------- */

int topology_member_find(const struct topology_instance *i, const struct topology_address *a)
{
    assert(i != NULL && a != NULL);
    assert(i->n_members <= TOPOLOGY_MEMBERS_MAX);
    for (uint32_t k = 0; k < i->n_members; k++)
        if (topology_address_equal(&i->members[k].address, a))
            return (int)k;
    return -1;
}

const struct topology_address *topology_route(const struct topology_instance *i)
{
    assert(i != NULL);
    switch (i->state) {
    case TOPOLOGY_STABLE:
        return topology_address_is_set(&i->master) ? &i->master : NULL;
    case TOPOLOGY_PROMOTING:
        return topology_address_is_set(&i->candidate) ? &i->candidate : NULL;
    case TOPOLOGY_SEALING:
        return NULL;
    }
    assert(!"a state outside its enum");
    return NULL;
}

const char *topology_fence_login(const struct topology_instance *i, char text[TOPOLOGY_USER_MAX + 1])
{
    assert(i != NULL && text != NULL);
    text[0] = '\0';
    if (topology_is_fenced(i) && i->state != TOPOLOGY_SEALING)
        (void)snprintf(text, TOPOLOGY_USER_MAX + 1, "%s-e%" PRIu64, i->policy.fence_user, i->epoch);
    return text;
}

uint32_t topology_readers(const struct topology_instance *i, struct topology_reader out[TOPOLOGY_MEMBERS_MAX])
{
    assert(i != NULL && out != NULL);
    assert(i->n_members <= TOPOLOGY_MEMBERS_MAX);
    uint32_t n = 0;
    for (uint32_t k = 0; i->state == TOPOLOGY_STABLE && k < i->n_members; k++) {
        const struct topology_member *m = &i->members[k];
        if (!m->serves_reads || topology_address_equal(&m->address, &i->master))
            continue;
        out[n].address = m->address;
        memcpy(out[n].zone, m->zone, sizeof out[n].zone);
        n++;
    }
    return n;
}

void topology_readers_clear(struct topology_instance *i)
{
    assert(i != NULL && i->n_members <= TOPOLOGY_MEMBERS_MAX);
    for (uint32_t k = 0; k < i->n_members; k++)
        i->members[k].serves_reads = false;
}

void topology_epoch_append(struct topology_instance *i, const struct topology_epoch *row)
{
    assert(i != NULL && row != NULL);
    assert(i->n_epochs <= TOPOLOGY_EPOCHS_MAX);
    assert(i->n_epochs == 0 || i->epochs[i->n_epochs - 1].epoch <= row->epoch);
    if (i->n_epochs == TOPOLOGY_EPOCHS_MAX) {
        memmove(&i->epochs[0], &i->epochs[1], (TOPOLOGY_EPOCHS_MAX - 1) * sizeof i->epochs[0]);
        i->n_epochs--;
    }
    i->epochs[i->n_epochs++] = *row;
}
