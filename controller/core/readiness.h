/* Would a failover find enough members if the master were lost now, and when is a change of that news? Pure.
 *
 *   INFO, links, silence (health.h) ─► readiness_judge() ─► shown; readiness_watch_step() ─► readiness.lost,
 * .back
 *
 * A strict instance needs all but `acks` of its registered members (select.h), any other one. What is said of
 * the members that are missing is for people. */
#ifndef MR_CONTROLLER_CORE_READINESS_H
#define MR_CONTROLLER_CORE_READINESS_H

#include "controller/core/health.h"

enum { READINESS_MISSING_MAX = 320 };

struct readiness {
    bool ready;
    uint32_t needed;                         /* members whose data must count, the master not among them */
    uint32_t have;                           /* … that do */
    uint32_t candidates;                     /* of those, who may be master */
    char missing[READINESS_MISSING_MAX + 1]; /* "10.0.0.3:6379 down, 10.0.0.4:6379 silent"; "": nobody */
};

/* members[k] belongs to i->members[k]. i must have a master, which counts as lost. */
void readiness_judge(const struct topology_instance *i, const struct health_member *members,
                     struct readiness *out);

enum readiness_news { READINESS_SAME, READINESS_LOST, READINESS_BACK };

/* What was said last; {0}: nothing, as if it were ready. */
struct readiness_watch {
    bool lost;
    int64_t since_us; /* it is otherwise since then; 0: it isn't */
};

/* Only what lasts is news: READINESS_LOST_US without, READINESS_BACK_US with enough of them. now_us:
 * monotonic. */
#define READINESS_LOST_US ((int64_t)1000000)
#define READINESS_BACK_US ((int64_t)3000000)
enum readiness_news readiness_watch_step(struct readiness_watch *w, bool ready, int64_t now_us);

#endif
