/* Election recipe.
 *
 *   SESSION ─► LIST ─► none is ours ─► CREATE ─► LIST ─► ours is lowest ─► leader, WATCH our own ─┐
 *                                                   └──► another is lower ─► WATCH it ─► CHANGED ─► LIST
 *   SUSPENDED or EXPIRED at any time ─► out; the next SESSION starts over (and finds our node if it
 * survived).
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

static void election_on_list(struct election *e, const struct election_event *event,
                             struct election_update *out)
{
    if (e->session == 0)
        return; /* the answer of a connection that is gone */
    const struct election_entry *own = election_lowest(event, e->session);
    if (!own) {
        e->own[0] = '\0';
        election_leave(e);
        if (!e->resigning)
            out->action = ELECTION_DO_CREATE;
        return;
    }
    election_set(e->own, own->node);
    if (e->resigning) {
        out->action = ELECTION_DO_DELETE;
        election_set(out->node, e->own);
        return;
    }
    const struct election_entry *before = election_predecessor(event, own);
    if (!before) {
        e->role = ELECTION_LEADER;
        e->term = own->czxid;
        election_set(e->watched, own->node); /* somebody may delete it while our session lives */
        out->action = ELECTION_DO_WATCH;
        election_set(out->node, own->node);
        return;
    }
    e->role = ELECTION_STANDBY;
    e->term = 0;
    election_set(e->watched, before->node);
    out->action = ELECTION_DO_WATCH;
    election_set(out->node, before->node);
}

static void election_on_resign(struct election *e, struct election_update *out)
{
    election_leave(e);
    e->resigning = true;
    if (e->session != 0 && e->own[0] != '\0') {
        out->action = ELECTION_DO_DELETE;
        election_set(out->node, e->own);
    }
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
        election_leave(e);
        e->session = 0;
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
