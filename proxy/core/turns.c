#include "proxy/core/turns.h"

#include <assert.h>

static bool turns_speak_for_change(const struct turns *t)
{
    uint64_t tenths = (uint64_t)t->clients * 10;

    if (t->waits)
        return t->clients < TURNS_QUIET || tenths < (uint64_t)t->n * TURNS_FEW;
    return t->clients >= TURNS_BUSY && tenths >= (uint64_t)t->n * TURNS_MANY;
}

bool turns_end(struct turns *t, uint32_t clients, int64_t now_us)
{
    assert(now_us > 0 && now_us >= t->since_us);
    int64_t span_us = now_us - t->since_us;
    bool changes = false;

    if (t->since_us > 0 && span_us >= TURNS_WINDOW_US) {
        bool rested = span_us >= 2 * TURNS_WINDOW_US; /* nothing came for a window or more */
        t->in_row = turns_speak_for_change(t) && !(rested && !t->waits) ? t->in_row + 1 : 0;
        changes = t->in_row >= TURNS_IN_ROW || (rested && t->waits);
    }
    if (changes) {
        t->waits = !t->waits;
        t->in_row = 0;
    }
    if (t->since_us == 0 || span_us >= TURNS_WINDOW_US) {
        t->since_us = now_us;
        t->clients = t->n = 0;
    }
    t->clients += clients;
    t->n += clients > 0;
    return changes;
}
