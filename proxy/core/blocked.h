/* The time limit of a command that blocks (BLPOP, XREAD BLOCK …): what is left of it after a wait. Pure. */
#ifndef MR_PROXY_CORE_BLOCKED_H
#define MR_PROXY_CORE_BLOCKED_H

#include "common/core/buf.h"

/* bytes is a whole request of a command that blocks and has waited for waited_ms. Appends to `out` the same
 * request with what is left of its time, at least a millisecond, so that the server itself answers as it does
 * when time is up. Appends nothing when it is to be sent as it is: it waits for ever, or its limit is no
 * plain number. ERR_NOMEM. */
int blocked_shorten(const char *bytes, size_t len, uint32_t waited_ms, struct buf *out) MR_MUST_CHECK;

#endif
