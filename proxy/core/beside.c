#include "proxy/core/beside.h"

#include <assert.h>

void beside_init(struct beside *b)
{
    *b = (struct beside){.answered = BESIDE_ANYWHERE, .seen = BESIDE_ANYWHERE, .processor = BESIDE_ANYWHERE};
}

bool beside_asks(const struct beside *b)
{
    return !b->asked && b->clients >= BESIDE_BUSY;
}

void beside_answered(struct beside *b, int processor, uint32_t processors)
{
    b->asked = true;
    b->answered = processors == BESIDE_PROCESSORS ? processor : BESIDE_ANYWHERE;
}

/* What this look speaks for. */
static int beside_look(const struct beside *b)
{
    if (b->clients < BESIDE_BUSY || b->bytes > b->clients * BESIDE_BYTES)
        return BESIDE_ANYWHERE;
    return b->answered;
}

static bool beside_go(struct beside *b, int processor)
{
    bool changes = b->processor != processor;

    b->processor = processor;
    return changes;
}

static void beside_begin(struct beside *b, int64_t now_us)
{
    b->looked_us = now_us;
    b->clients = b->bytes = 0;
    b->asked = false;
    b->answered = BESIDE_ANYWHERE;
}

bool beside_turn(struct beside *b, uint32_t clients, size_t bytes, int64_t now_us)
{
    assert(now_us > 0 && now_us >= b->looked_us);
    bool changes = false;

    if (b->looked_us == 0 || now_us - b->looked_us >= 2 * BESIDE_LOOK_US) {
        b->in_row = 0;
        beside_begin(b, now_us);
    } else if (now_us - b->looked_us >= BESIDE_LOOK_US) {
        int seen = beside_look(b);
        b->in_row = seen == b->seen ? b->in_row + 1 : 1;
        b->seen = seen;
        changes = b->in_row >= BESIDE_IN_ROW && beside_go(b, seen);
        beside_begin(b, now_us);
    }
    b->clients += clients;
    b->bytes += bytes;
    return changes;
}

bool beside_rest(struct beside *b, int64_t now_us)
{
    return now_us - b->looked_us >= 2 * BESIDE_LOOK_US && beside_go(b, BESIDE_ANYWHERE);
}
