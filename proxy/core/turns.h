/* Should the thread wait for its turn on a processor (SCHED_BATCH), or take it as it is woken? Pure.
 *
 * Woken by each reply and each request it takes the processor from whoever is about to send the next one, and
 * Redis, its clients and the proxy do one small thing at a time. While many clients keep it busy it had
 * better wait: each of the three then finds more to do. Measured with 50 clients on one core: 1.9 times
 * HAProxy's throughput instead of 1.5, and half of Redis' CPU a request. But beside processes that never rest
 * a quiet thread that waits is late by tens of milliseconds: so it does only while it is busy. */
#ifndef MR_PROXY_CORE_TURNS_H
#define MR_PROXY_CORE_TURNS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TURNS_WINDOW_US = 20 * 1000,
    TURNS_IN_ROW =
        3, /* windows that agree: a change costs two system calls' time, and a burst is soon over */
    TURNS_BUSY = 100, /* reads of clients in a window (5,000 a second), … */
    TURNS_QUIET = 50,
    /* … and clients that were read in one turn, in tenths: one that is alone gains nothing, however busy. */
    TURNS_MANY = 20,
    TURNS_FEW = 13,
};

/* All zeroes: it takes its turn. Times are monotonic microseconds. */
struct turns {
    int64_t since_us; /* the window's begin; 0: none has begun */
    uint32_t clients; /* that were read in this window: one is counted each time */
    uint32_t n;       /* turns in which any were */
    uint32_t in_row;  /* windows that spoke for the other way */
    bool waits;
};

/* A turn ends in which so many clients were read. True: `waits` has changed. */
bool turns_end(struct turns *t, uint32_t clients, int64_t now_us);

#endif
