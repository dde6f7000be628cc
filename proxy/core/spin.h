/* Should the thread go on looking for what comes next, instead of sleeping until it is woken? Pure.
 *
 * To wake a process can take as long as Redis needs for its answer: a lone client that asks again as soon as
 * it was answered waits for four of them, two of which are the proxy's. Measured: half of what the proxy
 * adds. While only such a client is here the thread looks on for as long as a round takes, and takes a
 * processor that nobody else has much use for; any other client ends it, and so does one that takes its time:
 * then the last look was in vain, and SPIN_IN_ROW rounds pass before the next. Large values are no exception:
 * SET of 64 KB was 5 to 15 % faster with it, of 256 KB 20 to 40 %, GET as fast as without. But who sends very
 * many requests at once doesn't wait for answers: looking for it only takes the processor from others. */
#ifndef MR_PROXY_CORE_SPIN_H
#define MR_PROXY_CORE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SPIN_US = 80,        /* since anything came, and then it sleeps */
    SPIN_TIGHT_US = 250, /* from one request to the next: a longer round is not worth it */
    SPIN_IN_ROW = 16,    /* rounds as quick as that, of the same client */
};

/* All zeroes: it sleeps. Times are monotonic microseconds. */
struct spin {
    uint64_t client; /* that asked last; 0: several did, or none, or one that doesn't wait for answers */
    int64_t asked_us, until_us;
    uint32_t in_row;
    bool spins;
};

/* A turn ends, in which n clients were read, the last of which was `client` (0: it doesn't wait for answers);
 * replied: a server was, too. Returns spins: the next turn begins at once. */
bool spin_turn(struct spin *s, uint32_t n, uint64_t client, bool replied, int64_t now_us);

#endif
