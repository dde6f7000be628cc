/* A client that exists twice, connected directly and through the proxy: says the same to both, and compares.
 *
 *                 ┌─► socket ─► server A ───────────► replies ─┐
 *   speaker ─ bytes                                            ├─ equal?
 *                 └─► socket ─► proxy ─► server B ──► replies ─┘ */
#ifndef MR_TESTS_DIFFERENTIAL_PAIR_H
#define MR_TESTS_DIFFERENTIAL_PAIR_H

#include "common/core/buf.h"
#include "common/core/resp.h"
#include "tests/differential/speaker.h"

enum { PAIR_DIRECT, PAIR_PROXIED, PAIR_SIDES };

struct pair_side {
    int fd; /* -1: not connected */
    struct buf in;
    struct resp_reply framer;
    unsigned replies; /* complete ones in `in` */
    size_t sent;      /* of `request` */
    bool eof;
};

struct pair {
    struct speaker speaker;
    struct buf request;
    struct pair_side sides[PAIR_SIDES];
    unsigned expected; /* replies, and pushes of others */
    unsigned piece;    /* the most that is written at once; 0: all */
    bool lazy;         /* the proxy's replies are read late */
    struct dice *dice;
};

/* Zeroed before. Exits with a message when it can't connect. */
void pair_connect(struct pair *p, const uint16_t ports[PAIR_SIDES]);
void pair_close(struct pair *p);
/* The speaker may say something; then `expected` is the sum of speaker.replies and what comes from others. */
void pair_begin(struct pair *p);
/* Sends and receives until all have what they expect, and compares. Returns the pair that is at fault, with
 * `why` (static storage), or NULL. */
const struct pair *pair_run(struct pair *pairs, unsigned n, int limit_ms, const char **why);
/* Prints what was asked and answered last, as far as it matters. */
void pair_print(const struct pair *p);

#endif
