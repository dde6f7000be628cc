/* Does a client that has just come begin with a connection of its own? Pure.
 *
 * On a shared connection a large reply keeps all others waiting; it is dropped, and asked for again on a
 * connection of the client's own: twice the work for the server. Where replies to those who are here have
 * been large, they will likely be to newcomers, too. A wrong guess costs a connection, until the first small
 * reply (session_guess_own()). */
#ifndef MR_PROXY_CORE_NEWCOMERS_H
#define MR_PROXY_CORE_NEWCOMERS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    NEWCOMERS_REQUESTS = 64,   /* since it was last thought about; fewer tell nothing */
    NEWCOMERS_LARGE_PART = 4,  /* one reply in so many was large: they begin with their own … */
    NEWCOMERS_FRESH_MS = 1000, /* … as long after the last of them */
};

/* All zeroes: they share. */
struct newcomers {
    uint64_t requests, large; /* of the instance, when it was last thought about */
    bool guess;
};

/* One comes. requests, large: of the instance until now, and how many replies to them were large, the last of
 * them since_ms ago. True: it begins with a connection of its own. */
bool newcomers_come(struct newcomers *n, uint64_t requests, uint64_t large, uint32_t since_ms);

#endif
