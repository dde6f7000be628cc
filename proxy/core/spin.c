#include "proxy/core/spin.h"

bool spin_turn(struct spin *s, uint32_t n, uint64_t client, bool replied, int64_t now_us)
{
    bool alone = n == 1 && client > 0;
    bool tight = alone && client == s->client && now_us - s->asked_us <= SPIN_TIGHT_US;

    if (n > 0) {
        s->client = alone ? client : 0;
        s->asked_us = now_us;
        s->in_row = tight ? s->in_row + 1 : 0;
        s->spins = s->in_row >= SPIN_IN_ROW;
    }
    if (n > 0 || replied)
        s->until_us = now_us + SPIN_US;
    if (s->spins && now_us >= s->until_us) {
        s->spins = false;
        s->in_row = 0;
    }
    return s->spins;
}
