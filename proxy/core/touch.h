/* What a request does to data, and to which key: for durability strict (durable.h). Pure. */
#ifndef MR_PROXY_CORE_TOUCH_H
#define MR_PROXY_CORE_TOUCH_H

#include "proxy/core/durable.h"

struct resp_request;

enum {
    TOUCH_KEYS = DURABLE_ANY + 1, /* instead of a slot: several keys, found again in the request's bytes */
};

/* Of a framed request, of which `bytes` is the beginning, or all. *slot: of its only key; TOUCH_KEYS: it
 * reads several; DURABLE_ANY: it writes several, or nobody knows which. What isn't known may write anything.
 * EXEC touches nothing here: that depends on what was queued. */
enum durable_touch touch_of(const struct resp_request *r, const char *bytes, size_t len, uint16_t *slot);
/* What a request that touches that has done, now that it is answered. One with a key does nothing when it
 * fails (is told an error), but the error tells of the key; one of which nobody knows the keys, as a script,
 * may have done something before. */
enum durable_touch touch_answered(enum durable_touch touch, uint16_t slot, bool failed);
/* durable_read_needs() of a read with that slot; bytes: the whole request, or NULL when it isn't kept. */
uint64_t touch_read_needs(const struct durable *d, uint16_t slot, const char *bytes, size_t len);

#endif
