/* Who is promoted: the one total comparator. Pure.
 *
 * Rules: design safety.md §4.3, and §5 for a strict instance: of all N members that are registered, whoever
 * can be reached or not, N - acks must be sealed, countable, and no further than the chosen one. */
#ifndef MR_CONTROLLER_CORE_SELECT_H
#define MR_CONTROLLER_CORE_SELECT_H

#include "controller/core/info.h"

struct select_member {
    bool sealed;     /* answered its seal: `info` is final */
    bool may_return; /* not reachable now: it may hold data that nobody else has */
    struct info info;
};

/* A member that must not be master has let the others catch up from it in this failover. */
struct select_donation {
    char repl_id[TOPOLOGY_RUN_ID_LEN + 1];  /* of the history it gave; "": there was no donation */
    int64_t offset;                         /* up to here */
    char known_id[TOPOLOGY_RUN_ID_LEN + 1]; /* the id in the epoch table that this history goes on from, … */
    int64_t known_below;                    /* … valid below this offset; "": none */
    bool failed;                            /* it was tried and came to nothing: choose without */
    bool in_step; /* PLANNED: the old master takes no write since the target was in step: what others hold
                     beyond target_offset is pings */
};

struct select_result {
    int chosen;       /* index of the member, -1: nobody may be promoted */
    int donor;        /* a countable member that must not be master but holds more: the chosen one catches up
                         from it first; -1: none */
    bool last_resort; /* every member is sealed and none is a trusted incarnation: the best of them was taken
                       */
    uint64_t lineage; /* epoch whose history the chosen one carries; 0: none known */
    uint32_t needed;  /* members whose data the chosen one must be known to have, itself included, … */
    uint32_t have;    /* … and those of which it is known (nobody chosen: that count) */
    char reason[400]; /* chosen: why it; -1: what is missing and what to do. One sentence */
};

/* The newest epoch whose replication id the member carries and whose start offset ≤ the member's offset; 0:
 * none. */
uint64_t select_lineage(const struct topology_instance *i, const struct info *info);
/* NULL when the member may be chosen, otherwise why not: its data does not count ("not sealed", "restarted:
 * its data is not trusted", …), or it is complete but must not be master ("labelled must_not", …). */
const char *select_refusal(const struct topology_instance *i, int member, const struct select_member *m);
/* Its data counts, whether it may be master or not. */
bool select_counts(const struct topology_instance *i, int member, const struct select_member *m);
/* N - acks of a strict instance's N registered members; 1 of any other's. */
uint32_t select_needed(const struct topology_instance *i);
/* < 0 when a is the better candidate, > 0 when b is; 0 only for equal run ids. */
int select_compare(const struct topology_instance *i, int a, const struct select_member *ma, int b,
                   const struct select_member *mb);
/* Remembers in *donation where the donor's history stands, before it gets a name of its own by giving. */
void select_note_donor(const struct topology_instance *i, const struct info *donor,
                       struct select_donation *donation);
/* Follows i->failover: PLANNED takes the target if it has all that was promised; MANUAL takes the target, or
 * anybody but the old master, if there is one; data_loss_allowed also takes data that is not trusted, and too
 * few members.
 * donation: NULL: none. */
void select_choose(const struct topology_instance *i, const struct select_member *members,
                   const struct select_donation *donation, struct select_result *out);

#endif
