#include "proxy/schedule.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/instance.h"
#include "proxy/net.h"

#include <errno.h>
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

static void schedule_refused(const char *what, int err)
{
    log_info("event=worker.scheduling reason=\"%s\" say=\"%s is refused: scheduled as any other\"",
             strerror(err), what);
}

/* ---- when: core/turns.h, core/spin.h --------------------------------------------------------------------
 */

static void schedule_wait(struct schedule *s)
{
    struct sched_param param = {0};
    int err = pthread_setschedparam(pthread_self(), s->turns.waits ? SCHED_BATCH : SCHED_OTHER, &param);

    if (err) {
        schedule_refused("SCHED_BATCH", err);
        s->may_wait = false;
    }
}

static void schedule_sleep(struct schedule *s, bool sleeps)
{
    if (sleeps)
        ev_idle_stop(s->shard->ev, &s->idle);
    else if (!ev_is_active(&s->idle))
        ev_idle_start(s->shard->ev, &s->idle);
}

/* ---- where: core/beside.h -------------------------------------------------------------------------------
 */

/* Where somebody else lets the thread run: taskset, a cgroup may change that at any time. */
static void schedule_look(struct schedule *s)
{
    cpu_set_t now;

    if (sched_getaffinity(0, sizeof(now), &now) != 0)
        s->may_move = false; /* more processors than there is room for */
    else if (!CPU_EQUAL(&now, &s->set))
        s->own = s->set = now;
}

void schedule_answered(struct schedule *s, int fd)
{
    if (!s->may_move || !beside_asks(&s->beside))
        return;
    int processor = net_processor(fd);
    schedule_look(s);
    if (processor >= CPU_SETSIZE || (processor >= 0 && !CPU_ISSET(processor, &s->own)))
        processor = BESIDE_ANYWHERE;
    beside_answered(&s->beside, processor, (uint32_t)CPU_COUNT(&s->own));
}

static void schedule_move(struct schedule *s)
{
    int to = s->beside.processor;

    schedule_look(s);
    s->set = s->own;
    if (to != BESIDE_ANYWHERE) {
        CPU_ZERO(&s->set);
        CPU_SET(to, &s->set);
    }
    if (sched_setaffinity(0, sizeof(s->set), &s->set) != 0) {
        schedule_refused("sched_setaffinity", errno);
        s->may_move = false;
    }
    if (to != BESIDE_ANYWHERE && s->may_move)
        ev_timer_again(s->shard->ev, &s->rest);
    else
        ev_timer_stop(s->shard->ev, &s->rest);
}

static void schedule_on_rest(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct schedule *s = timer->data;

    (void)ev;
    (void)revents;
    if (beside_rest(&s->beside, loop_now_us(s->shard->loop)))
        schedule_move(s);
}

/* ---- the thread's turns ---------------------------------------------------------------------------------
 */

void schedule_init(struct schedule *s, struct shard *shard, bool is_on, bool may_move)
{
    *s = (struct schedule){.shard = shard, .is_on = is_on, .may_wait = true, .may_move = is_on && may_move};
    ev_idle_init(&s->idle, schedule_on_idle);
    ev_timer_init(&s->rest, schedule_on_rest, 0., BESIDE_LOOK_US / 1e6);
    s->rest.data = s;
    beside_init(&s->beside);
    shard->schedule = s;
}

void schedule_turn(struct schedule *s)
{
    struct shard *shard = s->shard;
    int64_t now_us = loop_now_us(shard->loop);

    if (s->is_on && s->may_wait && turns_end(&s->turns, shard->n_arrived - shard->n_arrived_own, now_us))
        schedule_wait(s);
    bool spins = s->is_on &&
                 spin_turn(&s->spin, shard->n_arrived, shard->last_arrived, shard->reply_bytes > 0, now_us);
    schedule_sleep(s, !spins);
    if (s->may_move &&
        beside_turn(&s->beside, spins ? 0 : shard->n_arrived, shard->turn_bytes + shard->reply_bytes, now_us))
        schedule_move(s);
    shard->n_arrived = shard->n_arrived_own = 0;
    shard->reply_bytes = shard->turn_bytes = 0;
}

void schedule_stop(struct schedule *s)
{
    schedule_sleep(s, true);
    ev_timer_stop(s->shard->ev, &s->rest);
}
