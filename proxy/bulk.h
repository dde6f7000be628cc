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

enum {
    /* Over loopback a segment has at most 65,483 bytes: a piece of 64 KB would be one and a tiny second one.
     * With BBR that cost one client four in ten of its SETs of 1 MB. */
    BULK_PIECE = 48 * 1024,
    BULK_PIECES = 8 /* in a call: others have their turn after that */
};

/* Moves at most max bytes, in pieces of at most `piece`, 1 to BULK_PIECE. Returns how many were read, as
 * net_read() does; of them *n_rest, at most `piece`, are in `rest`, because they could not be written: not
 * now, or never. */
ssize_t bulk_pass(const struct bulk *b, int from, int to, size_t max, size_t piece, char *rest,
                  size_t *n_rest) MR_MUST_CHECK;

#endif
