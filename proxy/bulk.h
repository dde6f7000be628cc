/* Bytes that nobody has to look at, from one socket to another: through a pipe, without coming up here.
 *
 *   from ──splice──► pipe ──splice──► to
 *                      └── what `to` doesn't take now ──read──► rest
 *
 * The pipe is empty between two calls. */
#ifndef MR_PROXY_BULK_H
#define MR_PROXY_BULK_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* One a thread. */
struct bulk {
    int in, out;
    bool is_open; /* else there is none, and all bytes are copied */
};

/* Without descriptors to spare it isn't open afterwards. */
void bulk_open(struct bulk *b);
void bulk_close(struct bulk *b);

/* Moves at most max bytes. Returns how many were read, as net_read() does; of them *n_rest are in `rest`
 * (which has room for max), because they could not be written: not now, or never. */
ssize_t bulk_pass(const struct bulk *b, int from, int to, size_t max, char *rest,
                  size_t *n_rest) MR_MUST_CHECK;

#endif
