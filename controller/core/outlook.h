/* Does this controller trust its own eyes? One per controller, over all members. Pure.
 *
 *   member falls silent / is heard, loop lag, number of controllers ─► outlook ─► struct health_trust, resign
 *
 * Rules: design safety.md §2, "never a trigger": our own stalled loop, more than half of all members failing
 * at the same moment from one controller's view. O(1) an event. Times are monotonic microseconds. */
#ifndef MR_CONTROLLER_CORE_OUTLOOK_H
#define MR_CONTROLLER_CORE_OUTLOOK_H

#include "controller/core/health.h"

#define OUTLOOK_LAG_US    ((int64_t)100000)   /* a turn that began later than this was late: we were deaf */
#define OUTLOOK_RESIGN_US ((int64_t)2000000)  /* distrusted for so long while others see more: they lead */
#define OUTLOOK_RETURN_US ((int64_t)10000000) /* who resigned seeks leadership again after so long */

struct outlook {
    uint32_t n_members, n_silent;
    struct health_trust trust;
    int64_t distrusted_us; /* since when; 0: trusted */
    bool outvoted;         /* the newest survey: another controller sees what we don't, or none answers us */
    bool resigned;         /* until trust is back */
    int64_t resigned_us;
};

void outlook_init(struct outlook *o);
/* A member is watched, or not any more (delta ±1); was it silent then? */
void outlook_on_member(struct outlook *o, int delta, bool silent, int64_t now_us);
/* A member fell silent (mute, or its connection attempts pass their deadline), or was heard again. */
void outlook_on_silence(struct outlook *o, bool silent, int64_t now_us);
/* A turn of the loop began lag_us later than it should have. */
void outlook_on_lag(struct outlook *o, int64_t lag_us, int64_t now_us);
void outlook_on_controllers(struct outlook *o, uint32_t n_controllers);
/* What the others answered about a member that is silent to us. */
void outlook_on_votes(struct outlook *o, const struct health_votes *votes);
/* True once when leadership should be given up (and not be sought until outlook_may_lead()). */
bool outlook_resigns(struct outlook *o, bool leading, int64_t now_us);
bool outlook_may_lead(const struct outlook *o, int64_t now_us);
/* When one of them may change by time alone; 0: never. */
int64_t outlook_deadline_us(const struct outlook *o);

#endif
