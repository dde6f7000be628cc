/* Election recipe.
 *
 *   SESSION ─► LIST ─► none is ours ─► CREATE ─► LIST ─► ours is lowest ─► leader, WATCH our own ─┐
 *                                                   └──► another is lower ─► WATCH it ─► CHANGED ─► LIST
 *   SUSPENDED or EXPIRED at any time ─► out; the next SESSION starts over (and finds our node if it
 * survived).
 *
 *   YIELD ─► others stand? ─► DELETE, aside: WATCH the first ─► nobody is left, or FIT ─► CREATE at the tail
 *                 └─► no: reluctant, goes aside at the first LIST that has somebody else
 */
#include "controller/core/election.h"

#include <assert.h>
#include <string.h>

void election_init(struct election *e)
{
    assert(e);
    memset(e, 0, sizeof(*e));
}

static void election_leave(struct election *e)
{
    e->role = ELECTION_OUT;
    e->term = 0;
    e->watched[0] = '\0';
}

static void election_lose_touch(struct election *e)
{
    election_leave(e);
    e->session = 0;
    e->n_others = 0;
    memset(&e->first, 0, sizeof(e->first));
}

/* Sequence numbers are zero-padded to ten digits and may become negative after 2^31: compare the creation
 * order itself, which czxid gives without wrapping. A znode that no session owns is nobody's candidacy:
 * waiting for it would be waiting for ever. */
static const struct election_entry *election_lowest(const struct election_event *event, int64_t owner)
{
    const struct election_entry *best = NULL;
    for (size_t i = 0; i < event->n; i++) {
        const struct election_entry *c = &event->entries[i];
        if (c->owner == 0 || (owner != 0 && c->owner != owner))
            continue;
        if (!best || c->czxid < best->czxid)
            best = c;
    }
    return best;
}

static const struct election_entry *election_predecessor(const struct election_event *event,
                                                         const struct election_entry *own)
{
    const struct election_entry *best = NULL;
    for (size_t i = 0; i < event->n; i++) {
        const struct election_entry *c = &event->entries[i];
        if (c->owner != 0 && c->czxid < own->czxid && (!best || c->czxid > best->czxid))
            best = c;
    }
    return best;
}

static void election_set(char to[ELECTION_NODE_MAX], const char *from)
{
    size_t len = strnlen(from, ELECTION_NODE_MAX - 1);
    memcpy(to, from, len);
    to[len] = '\0';
}

static void election_watch(struct election *e, const char *node, struct election_update *out)
{
    election_set(e->watched, node);
    out->action = ELECTION_DO_WATCH;
    election_set(out->node, node);
}

static void election_delete_own(struct election *e, struct election_update *out)
{
    out->action = ELECTION_DO_DELETE;
    election_set(out->node, e->own);
}

static void election_note(struct election *e, const struct election_event *event)
{
    const struct election_entry *first = election_lowest(event, 0);
    e->n_others = 0;
    for (size_t i = 0; i < event->n; i++)
        e->n_others += event->entries[i].owner != e->session;
    memset(&e->first, 0, sizeof(e->first));
    if (first)
        e->first = *first;
}

/* Without a znode while somebody else has one; back in the queue when nobody has. */
static void election_stand_aside(struct election *e, const struct election_entry *own,
                                 struct election_update *out)
{
    assert(e->n_others > 0);
    e->will = ELECTION_ASIDE;
    election_leave(e);
    e->role = ELECTION_STANDBY;
    if (own) {
        election_delete_own(e, out); /* the list after it, without our node, gives us somebody to watch */
        return;
    }
    election_watch(e, e->first.node, out);
}

static void election_on_list(struct election *e, const struct election_event *event,
                             struct election_update *out)
{
    if (e->session == 0)
        return; /* the answer of a connection that is gone */
    const struct election_entry *own = election_lowest(event, e->session);
    e->own[0] = '\0';
    if (own)
        election_set(e->own, own->node);
    election_note(e, event);
    /* Until the next YIELD: two such must not go on making way for each other. */
    if (e->will == ELECTION_ASIDE && e->n_others == 0)
        e->will = ELECTION_WILLING;
    if (e->resigning) {
        election_leave(e);
        if (own)
            election_delete_own(e, out);
        return;
    }
    if (e->will != ELECTION_WILLING && e->n_others > 0) {
        election_stand_aside(e, own, out);
        return;
    }
    if (!own) {
        election_leave(e);
        out->action = ELECTION_DO_CREATE;
        return;
    }
    const struct election_entry *before = election_predecessor(event, own);
    e->role = before ? ELECTION_STANDBY : ELECTION_LEADER;
    e->term = before ? 0 : own->czxid;
    /* The leader its own: somebody may delete it while our session lives. */
    election_watch(e, before ? before->node : own->node, out);
}

static void election_on_resign(struct election *e, struct election_update *out)
{
    election_leave(e);
    e->resigning = true;
    if (e->session != 0 && e->own[0] != '\0')
        election_delete_own(e, out);
}

static void election_on_yield(struct election *e, struct election_update *out)
{
    if (e->will == ELECTION_ASIDE)
        return;
    e->will = ELECTION_RELUCTANT;
    if (e->resigning || e->session == 0 || e->own[0] == '\0' || e->n_others == 0)
        return; /* the next list goes on */
    e->will = ELECTION_ASIDE;
    election_leave(e);
    e->role = ELECTION_STANDBY;
    election_delete_own(e, out);
}

static void election_on_fit(struct election *e, struct election_update *out)
{
    bool was_aside = e->will == ELECTION_ASIDE;
    e->will = ELECTION_WILLING;
    if (was_aside && e->session != 0)
        out->action = ELECTION_DO_LIST;
}

static void election_on_leader_gone(const struct election *e, uint64_t czxid, struct election_update *out)
{
    if (e->role != ELECTION_STANDBY || e->first.node[0] == '\0' || e->first.czxid != czxid ||
        strcmp(e->first.node, e->own) == 0)
        return;
    out->action = ELECTION_DO_REMOVE;
    out->czxid = czxid;
    election_set(out->node, e->first.node);
}

void election_step(struct election *e, const struct election_event *event, struct election_update *out)
{
    assert(e && event && out);
    memset(out, 0, sizeof(*out));
    switch (event->type) {
    case ELECTION_ON_SESSION:
        assert(event->session != 0);
        if (e->session != event->session)
            e->own[0] = '\0';
        e->session = event->session;
        out->action = ELECTION_DO_LIST;
        break;
    case ELECTION_ON_SUSPENDED:
    case ELECTION_ON_EXPIRED:
        election_lose_touch(e);
        break;
    case ELECTION_ON_LIST:
        election_on_list(e, event, out);
        break;
    case ELECTION_ON_CREATED: /* whatever came back, the list tells the truth */
    case ELECTION_ON_CHANGED:
    case ELECTION_ON_FAILED:
        if (e->session != 0)
            out->action = ELECTION_DO_LIST;
        break;
    case ELECTION_ON_RESIGN:
        election_on_resign(e, out);
        break;
    case ELECTION_ON_YIELD:
        election_on_yield(e, out);
        break;
    case ELECTION_ON_FIT:
        election_on_fit(e, out);
        break;
    case ELECTION_ON_LEADER_GONE:
        election_on_leader_gone(e, event->czxid, out);
        break;
    }
    assert((e->role == ELECTION_LEADER) == (e->term != 0));
}

const char *election_role_name(enum election_role r)
{
    switch (r) {
    case ELECTION_OUT:
        return "out";
    case ELECTION_STANDBY:
        return "standby";
    case ELECTION_LEADER:
        return "leader";
    }
    return "?";
}
