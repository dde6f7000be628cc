/* A strict instance's promise is in force once every proxy holds replies: who is asked again when, and what
 * is said of it. Pure.
 *
 * A proxy acknowledges a strict route; acknowledgements get lost, and a new leader has heard none. So the
 * leader repeats the route while some are missing, less and less often. */
#ifndef MR_CONTROLLER_CORE_PROMISE_H
#define MR_CONTROLLER_CORE_PROMISE_H

#include <stdbool.h>
#include <stdint.h>

#define PROMISE_ASK_US     ((int64_t)1000000)  /* the first repetition, … */
#define PROMISE_ASK_MAX_US ((int64_t)30000000) /* … doubling up to this */
#define PROMISE_LATE_US    ((int64_t)10000000) /* missing for so long is said */

enum promise_news {
    PROMISE_SAME,
    PROMISE_IN_FORCE, /* all hold, for the first time or again after it was said that some don't */
    PROMISE_LATE,     /* some have not held for long */
};

/* {0}: of an instance that has just become strict, or a leader that has just begun. Times are monotonic. */
struct promise {
    bool in_force, late; /* as it was said */
    int64_t since_us;    /* some are missing since then; 0: none is */
    int64_t ask_at_us, ask_step_us;
};

/* n_held of n_awaited proxies hold replies. *ask: tell the route again now. */
enum promise_news promise_step(struct promise *p, uint32_t n_held, uint32_t n_awaited, int64_t now_us,
                               bool *ask);

#endif
