/* Which clients with connections of their own ask for large replies now, and which a moment later. Pure.
 *
 *   request ──(room? else it waits, oldest first)──► goes out, takes a seat ──first byte of the reply──► seat
 *   is given back
 *
 * Redis makes the replies to all requests that it finds before it writes the first of them. To 500 GETs of
 * 64 KB that is 32 MB, which no cache holds, in memory that it has to ask the kernel for: measured 150 us of
 * its CPU each instead of 35, and half the throughput. A few megabytes keep it as busy, and it runs one
 * command at a time anyway: who waits here would wait there. How large a reply will be nobody knows: as large
 * as that client's last one, or as the last one to such a request. */
#ifndef MR_PROXY_CORE_WINDOW_H
#define MR_PROXY_CORE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

enum {
    WINDOW_BYTES = 4 * 1024 * 1024, /* of replies that are awaited at once */
    WINDOW_LARGE = 16 * 1024,       /* smaller ones need no seat */
    WINDOW_SEAT_MAX = WINDOW_BYTES / 4,
};

/* All zeroes: empty. One for each server that is asked. */
struct window {
    uint32_t bytes; /* of the seats that are taken */
};

/* A client's. All zeroes: nothing is known of it. */
struct window_seat {
    uint32_t came;  /* bytes of replies since it last asked anew: no more than WINDOW_SEAT_MAX are counted */
    uint32_t takes; /* bytes of the window; 0: it has no seat */
};

/* Its first request is to go out while none is under way. known: the size of the reply to such a request of
 * late (large.h), or 0. False: there is no room for what it will get. */
bool window_enter(struct window *w, struct window_seat *s, uint32_t known);
/* n bytes of replies came. True: its seat was given back, there is room for others. */
bool window_reply(struct window *w, struct window_seat *s, uint64_t n);
/* Its connection is closed, or what it was to ask was answered otherwise. True: as above. */
bool window_leave(struct window *w, struct window_seat *s);

#endif
