/* The rules that an instance obeys whoever wrote it: topology_check(). */
#include "common/core/topology.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct check {
    int err;
    char *why;
    size_t why_size;
};

/* Notes the first rule that is broken. */
static void MR_PRINTF(3, 4) topology_rule(struct check *c, bool holds, const char *fmt, ...)
{
    if (holds || c->err != 0)
        return;
    c->err = ERR_INVALID;
    va_list args;
    va_start(args, fmt);
    if (c->why_size > 0)
        (void)vsnprintf(c->why, c->why_size, fmt, args);
    va_end(args);
}

static bool topology_is_id(const char *text)
{
    return strlen(text) == TOPOLOGY_RUN_ID_LEN && text[strspn(text, "0123456789abcdef")] == '\0';
}

/* Labels end up in tables and metrics: no blanks, no control characters. */
static bool topology_is_plain(const char *text)
{
    return text[0] == '\0' || topology_name_check(text) == 0;
}

static bool topology_is_address(const struct topology_address *a)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct topology_address again;
    return topology_address_parse(topology_address_format(a, text), &again) == 0 &&
           topology_address_equal(a, &again);
}

static void topology_check_members(struct check *c, const struct topology_instance *i)
{
    topology_rule(c, i->n_members >= 1, "it has no members");
    topology_rule(c, i->n_members <= TOPOLOGY_MEMBERS_MAX, "it has %u members, at most %d are allowed",
                  (unsigned)i->n_members, TOPOLOGY_MEMBERS_MAX);
    for (uint32_t k = 0; c->err == 0 && k < i->n_members; k++) {
        const struct topology_member *m = &i->members[k];
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        topology_address_format(&m->address, text);
        topology_rule(c, topology_is_address(&m->address), "member %u has no legal address", (unsigned)k + 1);
        topology_rule(c, topology_member_find(i, &m->address) == (int)k, "member %s is listed twice", text);
        topology_rule(c, m->run_id[0] == '\0' || topology_is_id(m->run_id),
                      "member %s: run_id must be %d lowercase hex digits", text, TOPOLOGY_RUN_ID_LEN);
        topology_rule(c, topology_is_plain(m->zone), "member %s: zone must be letters, digits, . _ -", text);
    }
}

static void topology_check_epochs(struct check *c, const struct topology_instance *i)
{
    topology_rule(c, i->epoch <= INT64_MAX, "epoch %" PRIu64 " is out of range", i->epoch);
    topology_rule(c, i->n_epochs <= TOPOLOGY_EPOCHS_MAX, "it has %u epoch rows, at most %d are allowed",
                  (unsigned)i->n_epochs, TOPOLOGY_EPOCHS_MAX);
    uint64_t before = 0;
    for (uint32_t k = 0; c->err == 0 && k < i->n_epochs; k++) {
        const struct topology_epoch *row = &i->epochs[k];
        topology_rule(c, row->epoch >= before && row->epoch > 0,
                      "epoch rows must not go back: %" PRIu64 " follows %" PRIu64, row->epoch, before);
        topology_rule(c, row->epoch <= i->epoch,
                      "epoch row %" PRIu64 " is beyond the instance's epoch %" PRIu64, row->epoch, i->epoch);
        topology_rule(c, row->repl_id[0] == '\0' || topology_is_id(row->repl_id),
                      "epoch row %" PRIu64 ": repl_id must be %d lowercase hex digits", row->epoch,
                      TOPOLOGY_RUN_ID_LEN);
        topology_rule(c, row->start_offset >= 0, "epoch row %" PRIu64 ": start_offset is negative",
                      row->epoch);
        before = row->epoch;
    }
    topology_rule(c, i->failover.epoch <= i->epoch,
                  "its failover's epoch %" PRIu64 " is beyond the instance's epoch %" PRIu64,
                  i->failover.epoch, i->epoch);
}

/* Who serves in which state. */
static void topology_check_state(struct check *c, const struct topology_instance *i)
{
    bool has_master = topology_address_is_set(&i->master);
    bool has_candidate = topology_address_is_set(&i->candidate);
    const char *state = topology_state_name(i->state);
    topology_rule(c, !has_master || topology_member_find(i, &i->master) >= 0, "its master is not a member");
    topology_rule(c, !has_candidate || topology_member_find(i, &i->candidate) >= 0,
                  "its candidate is not a member");
    topology_rule(c, i->state != TOPOLOGY_STABLE || has_master, "it is %s but has no master", state);
    topology_rule(c, i->state != TOPOLOGY_SEALING || !has_master, "it is %s but has a master", state);
    topology_rule(c, (i->state == TOPOLOGY_PROMOTING) == has_candidate, "it is %s but has %s candidate",
                  state, has_candidate ? "a" : "no");
    topology_rule(c, i->start_offset >= 0, "start_offset is negative");
    topology_rule(c, i->state == TOPOLOGY_PROMOTING || i->start_offset == 0,
                  "it is %s but has a start_offset", state);
}

int topology_check(const struct topology_instance *i, char *why, size_t why_size)
{
    assert(i != NULL);
    assert(why != NULL || why_size == 0);
    struct check c = {.why = why, .why_size = why_size};
    if (why_size > 0)
        why[0] = '\0';
    topology_rule(&c, topology_name_check(i->name) == 0,
                  "the name must be 1 to %d letters, digits, dots, underscores or hyphens",
                  TOPOLOGY_NAME_MAX);
    topology_rule(&c, i->port != 0, "it has no port");
    topology_check_members(&c, i);
    if (c.err == 0) { /* the members are countable from here on */
        topology_check_state(&c, i);
        topology_check_epochs(&c, i);
    }
    const struct topology_policy *p = &i->policy;
    topology_rule(&c, p->durability != TOPOLOGY_STRICT || p->acks >= 1,
                  "durability strict needs acks of 1 or more");
    topology_rule(&c, p->acks < TOPOLOGY_MEMBERS_MAX, "acks %u is beyond the limit of %d replicas",
                  (unsigned)p->acks, TOPOLOGY_MEMBERS_MAX - 1);
    topology_rule(&c, topology_is_plain(p->fence_user), "fence_user must be letters, digits, . _ -");
    topology_rule(&c, p->fence != TOPOLOGY_FENCE_ACL || p->fence_user[0] != '\0',
                  "fence acl needs fence_user, the ACL user whose rules the epochs' users get");
    topology_rule(&c, strcmp(p->fence_user, "default") != 0,
                  "fence_user can't be the default user: who doesn't log in is that one");
    topology_rule(&c, p->fence_user[0] == '\0' || strcmp(p->fence_user, i->auth.user) != 0,
                  "fence_user can't be %s: the controllers log in as it", p->fence_user);
    topology_rule(&c, p->max_lag_bytes <= INT64_MAX, "max_lag_bytes is out of range");
    return c.err;
}
