#include "controller/core/promise.h"

#include <assert.h>

static enum promise_news promise_kept(struct promise *p)
{
    bool news = !p->in_force || p->late;
    p->in_force = true;
    p->late = false;
    p->since_us = p->ask_at_us = p->ask_step_us = 0;
    return news ? PROMISE_IN_FORCE : PROMISE_SAME;
}

enum promise_news promise_step(struct promise *p, uint32_t n_held, uint32_t n_awaited, int64_t now_us,
                               bool *ask)
{
    assert(p && ask && now_us > 0);
    *ask = false;
    if (n_held >= n_awaited)
        return promise_kept(p);
    if (p->since_us == 0) {
        p->since_us = now_us;
        p->ask_step_us = PROMISE_ASK_US;
        p->ask_at_us = now_us + p->ask_step_us;
    }
    if (now_us >= p->ask_at_us) {
        *ask = true;
        p->ask_step_us = p->ask_step_us * 2 < PROMISE_ASK_MAX_US ? p->ask_step_us * 2 : PROMISE_ASK_MAX_US;
        p->ask_at_us = now_us + p->ask_step_us;
    }
    if (p->late || now_us - p->since_us < PROMISE_LATE_US)
        return PROMISE_SAME;
    p->late = true;
    return PROMISE_LATE;
}
