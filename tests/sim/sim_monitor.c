/* Silence: what controller/monitor.h tells the engine of pings, knocks and words.
 *
 *   a process stops, a host goes, a path is cut ─► refresh ─► path is quiet ─► 150 ms ─► MUTE, knocks
 *                                                          └► path answers again ──────► HEARD
 *
 * Nobody pings here: when a path falls quiet, the first ping that it would have lost is drawn. So a minute of
 * quiet costs no events. Times are the world's; what the cores are told is in their controllers' clocks. */
#include "tests/sim/sim.h"

#include <assert.h>

enum {
    MONITOR_MUTE_US = 150000,
    MONITOR_KNOCK_US = 250000,
    MONITOR_KNOCK_PAUSE_US = 100000,
    MONITOR_EAGER_US = 50000,
};

static struct sim_link *monitor_link(struct sim *s, int controller, int redis)
{
    return &s->controllers[controller].links[redis];
}

static void monitor_expect(struct sim *s, int controller, int redis, int64_t since_us);

/* ---- what the engine does with it ---------------------------------------------------------------------- */

static void monitor_outlook(struct sim *s, int controller, int redis, bool silent)
{
    struct sim_link *l = monitor_link(s, controller, redis);
    if (!l->open || l->silent == silent)
        return;
    l->silent = silent;
    outlook_on_silence(&s->controllers[controller].outlook, silent, sim_clock_us(s, controller));
    sim_votes_check(s, controller);
}

static void monitor_on_knock(struct sim *s, struct world_event *e);

static void monitor_knock(struct sim *s, int controller, int redis, int64_t pause_us)
{
    const struct sim_redis *r = &s->redis[redis];
    int place = SIM_PLACE_REDIS + redis;
    enum health_knock how = HEALTH_KNOCK_ACCEPTED;
    if (r->off || sim_network_is_cut(s, controller, place))
        how = HEALTH_KNOCK_NO_ANSWER;
    else if (!r->alive)
        how = HEALTH_KNOCK_REFUSED;
    int64_t took_us = how == HEALTH_KNOCK_NO_ANSWER ? MONITOR_KNOCK_US : world_between(&s->world, 160, 1200);
    struct world_event *e = world_after(&s->world, pause_us + took_us, monitor_on_knock);
    e->who = controller;
    e->target = redis;
    e->kind = how;
    e->gen = monitor_link(s, controller, redis)->silences;
}

static void monitor_on_knock(struct sim *s, struct world_event *e)
{
    const struct sim_link *l = monitor_link(s, e->who, e->target);
    if (l->silences != e->gen || sim_controller_defers(s, e->who, e) || !l->mute)
        return;
    struct failover_event event = {.type = FAILOVER_ON_KNOCK, .knock = (enum health_knock)e->kind};
    (void)sim_link_tell(s, e->who, e->target, &event);
    if (s->controllers[e->who].alive && l->mute && l->silences == e->gen)
        monitor_knock(s, e->who, e->target, e->kind == HEALTH_KNOCK_NO_ANSWER ? 0 : MONITOR_KNOCK_PAUSE_US);
}

static void monitor_mute(struct sim *s, int controller, int redis, int64_t since_us)
{
    struct sim_link *l = monitor_link(s, controller, redis);
    struct failover_event event = {.type = FAILOVER_ON_MUTE};
    event.at_us = sim_clock_us(s, controller) -
                  (s->world.now_us - since_us) * s->controllers[controller].rate_permille / 1000;
    if (s->ablation == ABLATE_PATIENCE)
        event.at_us -= 10000000;
    l->mute = true;
    l->silences++;
    monitor_outlook(s, controller, redis, true);
    (void)sim_link_tell(s, controller, redis, &event);
    if (l->mute)
        monitor_knock(s, controller, redis, 0);
}

static void monitor_heard(struct sim *s, int controller, int redis)
{
    struct sim_link *l = monitor_link(s, controller, redis);
    struct failover_event event = {.type = FAILOVER_ON_HEARD, .said = s->redis[redis].said};
    l->mute = false;
    l->silences++;
    l->said = event.said;
    monitor_outlook(s, controller, redis, false);
    (void)sim_link_tell(s, controller, redis, &event);
    if (s->paths[controller][redis].quiet_us != 0) /* it was an old answer */
        monitor_expect(s, controller, redis, s->world.now_us);
}

/* ---- the paths ----------------------------------------------------------------------------------------- */

static bool monitor_path_answers(const struct sim *s, int controller, int redis)
{
    const struct sim_redis *r = &s->redis[redis];
    return r->alive && r->stopped_us == 0 && !sim_network_is_cut(s, controller, SIM_PLACE_REDIS + redis);
}

static void monitor_on_timer(struct sim *s, struct world_event *e)
{
    const struct sim_path *path = &s->paths[e->who][e->target];
    if (path->changes != e->gen || sim_controller_defers(s, e->who, e))
        return;
    const struct sim_link *l = monitor_link(s, e->who, e->target);
    if (l->up && !l->mute && path->changes == e->gen)
        monitor_mute(s, e->who, e->target, e->x);
}

/* Something asked at since_us will not be answered while the path stays as it is. */
static void monitor_expect(struct sim *s, int controller, int redis, int64_t since_us)
{
    struct world_event *e = world_at(&s->world, since_us + MONITOR_MUTE_US, monitor_on_timer);
    e->who = controller;
    e->target = redis;
    e->gen = s->paths[controller][redis].changes;
    e->x = since_us;
}

static int64_t monitor_period_us(const struct sim *s, int controller, int redis)
{
    const struct failover *f = &s->controllers[controller].failover[s->redis[redis].instance];
    const struct topology_address *route = f->has_record ? topology_route(&f->record) : NULL;
    return route && sim_redis_at(route) == redis ? MONITOR_EAGER_US : s->info_period_us;
}

static void monitor_on_answer(struct sim *s, struct world_event *e)
{
    const struct sim_link *l = monitor_link(s, e->who, e->target);
    if (sim_controller_defers(s, e->who, e))
        return;
    if (e->kind && s->paths[e->who][e->target].quiet_us != 0)
        return;
    if (l->up && l->connection == e->gen && l->process == s->redis[e->target].process &&
        (l->mute || l->said != s->redis[e->target].said))
        monitor_heard(s, e->who, e->target);
}

/* asked: the question is still to come; otherwise the answer is already under way. */
static void monitor_answer_after(struct sim *s, int controller, int redis, bool asked, int64_t delay_us)
{
    struct world_event *e = world_after(&s->world, delay_us, monitor_on_answer);
    e->who = controller;
    e->target = redis;
    e->kind = asked;
    e->gen = monitor_link(s, controller, redis)->connection;
}

static void monitor_refresh_path(struct sim *s, int controller, int redis)
{
    struct sim_path *path = &s->paths[controller][redis];
    bool answers = monitor_path_answers(s, controller, redis);
    if (answers == (path->quiet_us == 0))
        return;
    path->changes++;
    if (answers) {
        path->from_us = path->quiet_us;
        path->to_us = s->world.now_us;
        path->quiet_us = 0;
        monitor_answer_after(s, controller, redis, false, world_between(&s->world, 160, 3000));
        return;
    }
    path->quiet_us = s->world.now_us;
    int64_t period_us = monitor_period_us(s, controller, redis);
    monitor_expect(s, controller, redis, s->world.now_us + world_between(&s->world, 0, period_us));
}

void sim_monitor_refresh(struct sim *s)
{
    for (int r = 0; r < SIM_REDISES; r++) {
        for (int c = 0; s->redis[r].exists && c < SIM_CONTROLLERS; c++)
            monitor_refresh_path(s, c, r);
    }
}

void sim_monitor_create(struct sim *s)
{
    for (int r = 0; r < SIM_REDISES; r++) {
        for (int c = 0; c < SIM_CONTROLLERS; c++)
            s->paths[c][r] = (struct sim_path){.changes = s->paths[c][r].changes + 1};
    }
}

/* ---- what the link tells ------------------------------------------------------------------------------- */

void sim_monitor_on_up(struct sim *s, int controller, int redis)
{
    struct failover_event event = {.type = FAILOVER_ON_PINGS, .err = s->redis[redis].pings ? 0 : ERR_REPLY};
    if (s->paths[controller][redis].quiet_us != 0) {
        monitor_expect(s, controller, redis, s->world.now_us);
        return;
    }
    (void)sim_link_tell(s, controller, redis, &event);
    if (monitor_link(s, controller, redis)->said != s->redis[redis].said)
        monitor_answer_after(s, controller, redis, true, world_between(&s->world, 160, 3000));
}

void sim_monitor_on_down(struct sim *s, int controller, int redis, int reason)
{
    struct sim_link *l = monitor_link(s, controller, redis);
    if (reason == ERR_TIMEOUT) {
        if (!l->mute)
            monitor_mute(s, controller, redis, l->tried_us);
        return;
    }
    l->mute = false;
    l->silences++;
    monitor_outlook(s, controller, redis, false);
}

/* Any answer on the connection ends a silence. */
void sim_monitor_on_reply(struct sim *s, int controller, int redis)
{
    const struct sim_link *l = monitor_link(s, controller, redis);
    if (l->mute)
        monitor_heard(s, controller, redis);
}

void sim_monitor_on_said(struct sim *s, int redis)
{
    for (int c = 0; c < SIM_CONTROLLERS; c++)
        monitor_answer_after(s, c, redis, true,
                             world_between(&s->world, 160, monitor_period_us(s, c, redis)));
}
