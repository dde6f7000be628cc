/* Which requests have had large replies of late, and how large. Pure.
 *
 * On a shared connection a large reply keeps all others waiting: it is dropped, and asked for again on a
 * connection of the client's own, twice the work for the server. So what is known to get one goes there at
 * once: 50 clients that come together for the same value of 1 MB had Redis make, and the proxy take, 100 MB
 * instead of 50, of which none was waited for in a window (window.h).
 *
 * A request is known by a hash of its bytes. Of two with the same place the newer one is known, and one that
 * is taken for another costs a connection of its own until its (small) reply. */
#ifndef MR_PROXY_CORE_LARGE_H
#define MR_PROXY_CORE_LARGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LARGE_PLACES = 256,      /* 2 KB an instance and thread, when there is any */
    LARGE_REQUEST_MAX = 256, /* of longer requests nothing is known: they would have to be read twice */
};

struct large_place;

/* All zeroes: nothing is known. */
struct large {
    struct large_place *places; /* LARGE_PLACES, or NULL */
};

/* This request has been answered with so many bytes, which are (`is_large`) worth remembering, or not. */
void large_note(struct large *l, const char *request, size_t len, uint64_t bytes, bool is_large);
/* The size of the reply that the request had last; 0: it was small, or nothing is known. */
uint32_t large_expects(const struct large *l, const char *request, size_t len);
void large_free(struct large *l);

#endif
