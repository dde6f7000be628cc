/* Leader election: ZooKeeper's ephemeral-sequential recipe as a state machine. Pure.
 *
 * A candidate owns one znode /election/c_NNNNNNNNNN; the lowest number leads; each other one watches only its
 * predecessor (no herd), the leader its own node: who deletes it by hand deposes a leader that lives. The
 * znode's czxid is the leader's term. Which znode is ours is told by its ephemeral owner, so that a create
 * whose answer was lost is found again. Source: ZooKeeper recipes, design safety.md §3.
 *
 * A candidate that is not fit to lead (outlook.h) stands aside as long as somebody else stands: a leader
 * whose eyes are bad is better than none, since it doubts what it sees by itself. A leader that is known to
 * be gone may be removed by any standby without waiting for its session: every write is fenced by its znode.
 */
#ifndef MR_CONTROLLER_CORE_ELECTION_H
#define MR_CONTROLLER_CORE_ELECTION_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ELECTION_NODE_MAX = 40, ELECTION_ENTRIES_MAX = 64 };

struct election_entry {
    char node[ELECTION_NODE_MAX]; /* "c_0000000007" */
    int64_t owner;                /* session that owns it */
    uint64_t czxid;
};

enum election_event_type {
    ELECTION_ON_SESSION,   /* connected: session */
    ELECTION_ON_SUSPENDED, /* connection lost */
    ELECTION_ON_EXPIRED,
    ELECTION_ON_LIST,    /* entries, n (any order) */
    ELECTION_ON_CREATED, /* err */
    ELECTION_ON_CHANGED, /* the watched predecessor is gone, or the watch could not be set */
    ELECTION_ON_FAILED,  /* a LIST could not be done: err */
    ELECTION_ON_RESIGN,  /* hand over: we are stopping */
    ELECTION_ON_YIELD,   /* not fit to lead: give up leadership, queue again at the tail after FIT */
    ELECTION_ON_FIT,     /* fit again */
    /* The leader of term `czxid` has died: its host refuses connections after one had stood in that term. */
    ELECTION_ON_LEADER_GONE,
};

struct election_event {
    enum election_event_type type;
    int64_t session;
    int err;
    const struct election_entry *entries; /* borrowed */
    size_t n;
    uint64_t czxid; /* LEADER_GONE */
};

enum election_action_type {
    ELECTION_DO_NOTHING,
    ELECTION_DO_LIST,   /* children of /election with owner and czxid of each → LIST or FAILED */
    ELECTION_DO_CREATE, /* ephemeral sequential c_ → CREATED */
    ELECTION_DO_WATCH,  /* exists(node) with a watch → CHANGED once it is gone (or is gone already) */
    ELECTION_DO_DELETE, /* our own node → no event */
    ELECTION_DO_REMOVE, /* the dead leader's node, if its czxid still is that → no event: the watch tells */
};

struct election_update {
    enum election_action_type action;
    char node[ELECTION_NODE_MAX]; /* WATCH, DELETE, REMOVE */
    uint64_t czxid;               /* REMOVE */
};

enum election_role { ELECTION_OUT, ELECTION_STANDBY, ELECTION_LEADER };

enum election_will {
    ELECTION_WILLING,
    ELECTION_RELUCTANT, /* not fit, but nobody else stands: goes aside once somebody does */
    ELECTION_ASIDE,     /* not fit: has no znode, a STANDBY that watches the leader's */
};

struct election {
    enum election_role role;
    bool resigning;
    enum election_will will;
    struct election_entry
        first;       /* of the last list: the leader; node "" when there is none, or out of touch */
    size_t n_others; /* candidates of the last list that are not ours */
    int64_t session; /* 0: none */
    char own[ELECTION_NODE_MAX]; /* "" until known */
    uint64_t term;               /* czxid of `own`; the term while LEADER */
    char watched[ELECTION_NODE_MAX];
};

void election_init(struct election *e);
/* After each step compare e->role and e->term with before to see a change of leadership. */
void election_step(struct election *e, const struct election_event *event, struct election_update *out);
const char *election_role_name(enum election_role r);

#endif
