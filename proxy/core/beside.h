/* On whose processor should the thread run? Pure.
 *
 * Redis, its clients and the proxy are three that take turns, on two processors: one of them has a processor
 * for itself, and the kernel changes its mind about whom. Measured with 50 clients, each placed by hand,
 * against no proxy at all: with the clients alone 1.14 x, with Redis alone 0.92 x, with the proxy alone
 * 0.59 x. Woken on its own processor by each request, the proxy sends them on one by one; beside Redis it
 * finds all that came while that answered. And whom it wakes there is woken without a word to another
 * processor, which can take as long as Redis needs for an answer. So a busy thread goes where the Redis of
 * this host runs that answers it, and follows it; not when much is copied, where most of what was measured
 * was slower; not for a lone client, who gained nothing; and not where there are more processors: there the
 * three needn't share any. */
#ifndef MR_PROXY_CORE_BESIDE_H
#define MR_PROXY_CORE_BESIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BESIDE_PROCESSORS = 2, /* that the thread may run on: with one, or with more, it goes nowhere */
    BESIDE_LOOK_US = 5000, /* from one look to the next; two of them without any turn are a rest */
    BESIDE_IN_ROW = 3,     /* looks that found the same */
    BESIDE_BUSY = 25,      /* reads of clients between two looks (5,000 a second), … */
    BESIDE_BYTES = 4096,   /* … and bytes for each of them, requests and replies: more is copying */
    BESIDE_ANYWHERE = -1,
};

struct beside {
    int64_t looked_us;       /* 0: never */
    uint64_t clients, bytes; /* since then */
    bool asked;
    int answered;    /* where the server ran when it answered, since then; BESIDE_ANYWHERE: not known */
    int seen;        /* what the last look spoke for, … */
    uint32_t in_row; /* … and how many before it did, too */
    int processor;   /* that the thread is to run on, or BESIDE_ANYWHERE */
};

void beside_init(struct beside *b);
/* Where the server runs would be good to know now: beside_answered(). */
bool beside_asks(const struct beside *b);
/* It was asked: a server has answered, and ran there (BESIDE_ANYWHERE: on another host); this thread may run
 * on so many processors. */
void beside_answered(struct beside *b, int processor, uint32_t processors);
/* A turn ends, in which so many clients were read (0: only one that is alone), and so many bytes of requests
 * and of replies came. True: b->processor has changed. */
bool beside_turn(struct beside *b, uint32_t clients, size_t bytes, int64_t now_us);
/* Looked at now and then while it is somewhere: true, b->processor has changed, because nothing came. */
bool beside_rest(struct beside *b, int64_t now_us);

#endif
