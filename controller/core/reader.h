/* Which replicas may serve what clients read, and for how long that has been so. Pure.
 *
 *   INFO, links, silence (health.h) ─► reader_judge() ─► reader_watch_step() ─► members[].serves_reads of the
 * record
 *
 * A replica leaves at once when its data may be older than the policy's max_lag_bytes, or nobody knows how
 * old it is. It comes (back) only after it has been fit for a while, a longer one each time: a member that
 * wavers costs a commit and a route, so it must not do so with every INFO. What isn't known yet changes
 * nothing: a controller that has just begun to look must not take from the proxies what the one before it had
 * found. */
#ifndef MR_CONTROLLER_CORE_READER_H
#define MR_CONTROLLER_CORE_READER_H

#include "controller/core/health.h"

enum reader_fitness {
    READER_UNKNOWN, /* no answer of its present connection yet */
    READER_FIT,
    READER_UNFIT,
};

/* What is remembered of one member; {0} is a new one. Times are monotonic microseconds. */
struct reader_watch {
    int64_t fit_us;   /* fit without a break since then; 0: it isn't */
    int64_t since_us; /* serves since then; 0: it doesn't */
    int64_t wait_us;  /* how long it has to be fit before it may serve; 0: as a new one */
    bool is_leaving;  /* found unfit, which the record doesn't say yet: still the same fall, whoever looks */
};

/* Is the member's data fit to be read now? It follows the master with its link up, isn't loading or mid-sync,
 * is the registered incarnation, answers, and lags no more than the policy allows; one that doesn't serve yet
 * no more than half of that. serves: it does now. distrusted: this controller doubts its own eyes
 * (outlook.h), so another one should have taken over before a silence that it sees counts. */
enum reader_fitness reader_judge(const struct topology_instance *i, const struct health_member *members,
                                 int member, bool serves, bool distrusted, int64_t now_us);
/* Notes what it is now; returns whether it may serve. serves: whether it does, as far as the record says. */
bool reader_watch_step(struct reader_watch *w, enum reader_fitness now, bool serves, int64_t now_us);

#endif
