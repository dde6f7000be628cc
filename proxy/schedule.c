#include "proxy/schedule.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/instance.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

/* Its being there is enough: the loop doesn't wait then. */
static void schedule_on_idle(struct ev_loop *ev, ev_idle *idle, int revents)
{
    (void)ev;
    (void)idle;
    (void)revents;
}

void schedule_init(struct schedule *s, struct shard *shard, bool is_on)
{
    *s = (struct schedule){.shard = shard, .is_on = is_on, .may_wait = true};
    ev_idle_init(&s->idle, schedule_on_idle);
}

static void schedule_wait(struct schedule *s)
{
    struct sched_param param = {0};
    int err = pthread_setschedparam(pthread_self(), s->turns.waits ? SCHED_BATCH : SCHED_OTHER, &param);

    if (err) {
        log_info(
            "event=worker.scheduling reason=\"%s\" say=\"SCHED_BATCH is refused: scheduled as any other\"",
            strerror(err));
        s->may_wait = false;
    }
}

void schedule_turn(struct schedule *s)
{
    struct shard *shard = s->shard;
    int64_t now_us = loop_now_us(shard->loop);

    if (s->is_on && s->may_wait && turns_end(&s->turns, shard->n_arrived - shard->n_arrived_own, now_us))
        schedule_wait(s);
    bool spins =
        s->is_on && spin_turn(&s->spin, shard->n_arrived, shard->last_arrived, shard->reply_bytes, now_us);
    if (spins && !ev_is_active(&s->idle))
        ev_idle_start(shard->ev, &s->idle);
    else if (!spins)
        schedule_stop(s);
    shard->n_arrived = shard->n_arrived_own = 0;
    shard->reply_bytes = 0;
}

void schedule_stop(struct schedule *s)
{
    ev_idle_stop(s->shard->ev, &s->idle);
}
