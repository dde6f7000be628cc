/* Runs a loop until a condition holds: how tests wait for asynchronous things without sleeping. */
#ifndef MR_TESTS_LIB_WAIT_H
#define MR_TESTS_LIB_WAIT_H

#include <stdbool.h>

struct loop;

enum { WAIT_MS = 20000 }; /* generous: a loaded machine must not fail a test */

/* True as soon as condition(ctx) holds, looked at after every turn and at least every 10 ms; false after
 * timeout_ms. */
bool wait_until(struct loop *loop, bool (*condition)(void *ctx), void *ctx, int timeout_ms);
/* Runs the loop for that long: only for showing that something does not happen. */
void wait_for(struct loop *loop, int ms);
/* Whether there is no process of that id any more (a zombie that is not ours counts as gone). */
bool wait_process_is_gone(int pid);

#endif
