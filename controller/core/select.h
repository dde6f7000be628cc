/* Who is promoted: the one total comparator. Pure.
 *
 * Rules: design safety.md §4.3. */
#ifndef MR_CONTROLLER_CORE_SELECT_H
#define MR_CONTROLLER_CORE_SELECT_H

#include "controller/core/info.h"

struct select_member {
    bool sealed;     /* answered its seal: `info` is final */
    bool may_return; /* not reachable now: it may hold data that nobody else has */
    struct info info;
};

struct select_result {
    int chosen;       /* index of the member, -1: nobody may be promoted */
    bool last_resort; /* every member is sealed and none is a trusted incarnation: the best of them was taken
                       */
    uint64_t lineage; /* epoch whose history the chosen one carries; 0: none known */
    char reason[256]; /* chosen: why it; -1: what is missing and what to do. One sentence */
};

/* The newest epoch whose replication id the member carries and whose start offset ≤ the member's offset; 0:
 * none. */
uint64_t select_lineage(const struct topology_instance *i, const struct info *info);
/* NULL when the member may be chosen, otherwise why not ("not sealed", "restarted: its data is not trusted",
 * …). */
const char *select_refusal(const struct topology_instance *i, int member, const struct select_member *m);
/* < 0 when a is the better candidate, > 0 when b is; 0 only for equal run ids. */
int select_compare(const struct topology_instance *i, int a, const struct select_member *ma, int b,
                   const struct select_member *mb);
void select_choose(const struct topology_instance *i, const struct select_member *members,
                   struct select_result *out);

#endif
