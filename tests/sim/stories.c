/* When things go wrong: each story draws its own faults from the seed, and calm ends them all. */
#include "tests/sim/faults.h"

#include <assert.h>
#include <string.h>

enum { STORIES_FIRST_US = 1500000, STORIES_LAST_US = 9000000, STORIES_FAULTS_MAX = 14 };

#define STORIES_DRAW(s, list)                                                                                \
    (list)[world_between(&(s)->world, 0, (int64_t)(sizeof(list) / sizeof((list)[0])) - 1)]

static void stories_on_fault(struct sim *s, struct world_event *e)
{
    faults_do(s, (enum fault)e->kind);
}

static void stories_on_calm(struct sim *s, struct world_event *e)
{
    int64_t mended_us = 0;
    (void)e;
    for (int a = 0; a < SIM_PLACES; a++) {
        for (int b = 0; b < SIM_PLACES; b++)
            mended_us = s->cut_until[a][b] > mended_us ? s->cut_until[a][b] : mended_us;
    }
    if (mended_us > s->world.now_us) /* what waits in a cut connection comes no sooner than its end */
        (void)world_at(&s->world, mended_us, stories_on_calm);
    else
        faults_mend(s);
}

/* Faults that come together are the ones that find something. */
static int64_t stories_scatter(struct sim *s, int64_t most, enum fault (*draw)(struct sim *s))
{
    int64_t last_us = STORIES_FIRST_US, n = world_between(&s->world, 1, most);
    for (int64_t k = 0; k < n; k++) {
        int64_t at_us = world_between(&s->world, STORIES_FIRST_US, STORIES_LAST_US);
        if (k > 0 && world_chance(&s->world, 500))
            at_us = last_us + world_between(&s->world, 0, 20000);
        if (at_us > last_us)
            last_us = at_us;
        world_after(&s->world, at_us, stories_on_fault)->kind = (int)draw(s);
    }
    return last_us;
}

/* ---- one fault ----------------------------------------------------------------------------------------- */

/* One master dies, once, while all else is well. */
static void stories_on_only_one(struct sim *s, struct world_event *e)
{
    int instance = (int)world_between(&s->world, 0, s->n_instances - 1);
    (void)e;
    if (world_chance(&s->world, 300))
        sim_redis_save(s, faults_master(s, instance));
    invariants_on_fault(s, instance);
    faults_kill(s, faults_master(s, instance));
}

static int64_t stories_plan_one(struct sim *s)
{
    int64_t at_us = world_between(&s->world, STORIES_FIRST_US, STORIES_FIRST_US + 1000000);
    (void)world_after(&s->world, at_us, stories_on_only_one);
    return at_us;
}

/* ---- chaos --------------------------------------------------------------------------------------------- */

static enum fault stories_draw_redis(struct sim *s)
{
    static const enum fault faults[] = {
        FAULT_KILL_MASTER, FAULT_KILL_MASTER, FAULT_KILL_REPLICA, FAULT_KILL_ALL,   FAULT_SAVE,
        FAULT_STOP_MASTER, FAULT_STOP_ANY,    FAULT_BUSY,         FAULT_OFF_MASTER, FAULT_KILL_AHEAD};
    return STORIES_DRAW(s, faults);
}

static enum fault stories_draw_chaos(struct sim *s)
{
    static const enum fault faults[] = {
        FAULT_KILL_REPLICA, FAULT_SAVE,   FAULT_ZK_AWAY,       FAULT_ZK_EXPIRE, FAULT_ZK_BREAK,
        FAULT_CRASH,        FAULT_PAUSE,  FAULT_CRASH_LEADER,  FAULT_CUT,       FAULT_PAUSE_LEADER,
        FAULT_CUT,          FAULT_SET,    FAULT_DELETE_LEADER, FAULT_RESIGN,    FAULT_SPLIT,
        FAULT_BLIND,        FAULT_FLAP,   FAULT_ORDER,         FAULT_ORDER,     FAULT_SWITCHOVER,
        FAULT_MAINTENANCE,  FAULT_OFF_ANY};
    return world_chance(&s->world, 400) ? stories_draw_redis(s) : STORIES_DRAW(s, faults);
}

/* ---- restraint: nothing of this may ever cause a failover ---------------------------------------------- */

/* One controller's view is disturbed, the others see well; stalls, words, lost replicas. */
static enum fault stories_draw_views(struct sim *s)
{
    static const enum fault faults[] = {FAULT_STALL, FAULT_STALL,        FAULT_BUSY, FAULT_MISCONF,
                                        FAULT_SAVE,  FAULT_KILL_REPLICA, FAULT_SET};
    return STORIES_DRAW(s, faults);
}

/* The control plane is disturbed, the views are clear. */
static enum fault stories_draw_control(struct sim *s)
{
    static const enum fault faults[] = {
        FAULT_KILL_REPLICA,  FAULT_SAVE,         FAULT_ZK_AWAY, FAULT_ZK_EXPIRE,    FAULT_ZK_BREAK,
        FAULT_CRASH,         FAULT_CRASH_LEADER, FAULT_PAUSE,   FAULT_PAUSE_LEADER, FAULT_STALL,
        FAULT_DELETE_LEADER, FAULT_SET,          FAULT_BUSY,    FAULT_RESIGN,       FAULT_MISCONF};
    return STORIES_DRAW(s, faults);
}

static void stories_on_continue(struct sim *s, struct world_event *e)
{
    sim_controller_pause(s, e->who, false);
}

/* The blind controller: cut off from anybody or most, or standing still for a moment. */
static void stories_on_blindness(struct sim *s, struct world_event *e)
{
    int64_t for_us = world_between(&s->world, 1000, 5000000);
    (void)e;
    switch (world_between(&s->world, 0, 3)) {
    case 0:
        faults_blind(s, s->blind, for_us);
        break;
    case 1:
        faults_cut_pair(s, s->blind, (int)world_between(&s->world, 0, SIM_PLACES - 1), for_us);
        break;
    case 2: { /* anybody stalls, but too short for a session to expire */
        int controller = (int)world_between(&s->world, 0, SIM_CONTROLLERS - 1);
        sim_controller_pause(s, controller, true);
        world_after(&s->world, world_between(&s->world, 1000, 1000000), stories_on_continue)->who =
            controller;
        break;
    }
    default:
        faults_cut_pair(s, (int)world_between(&s->world, SIM_PLACE_PROXY, SIM_PLACES - 1),
                        (int)world_between(&s->world, SIM_PLACE_PROXY, SIM_PLACES - 1), for_us);
        break;
    }
}

static int64_t stories_plan_restraint(struct sim *s)
{
    for (int i = 0; i < s->n_instances; i++)
        s->witness[i].never = true;
    if (world_chance(&s->world, 500))
        return stories_scatter(s, STORIES_FAULTS_MAX, stories_draw_control);
    int64_t n = world_between(&s->world, 1, 5);
    s->blind = (int)world_between(&s->world, 0, SIM_CONTROLLERS - 1);
    for (int64_t k = 0; k < n; k++)
        (void)world_after(&s->world, world_between(&s->world, STORIES_FIRST_US, STORIES_LAST_US),
                          stories_on_blindness);
    (void)stories_scatter(s, 6, stories_draw_views);
    return STORIES_LAST_US;
}

/* ---- a master that hangs ------------------------------------------------------------------------------- */

static bool stories_can_fail_over(const struct sim *s, int instance, int master)
{
    for (int m = 0; m < s->n_members[instance]; m++) {
        int redis = sim_redis_index(instance, m);
        const struct sim_redis *r = &s->redis[redis];
        const struct topology_instance *record = &s->zk.nodes[instance].record;
        if (m < (int)record->n_members && record->members[m].priority == TOPOLOGY_MUST_NOT)
            continue;
        if (redis != master && r->alive && r->link_up && r->follows == master &&
            invariants_trusted(s, &s->zk.nodes[instance].record, redis))
            return true;
    }
    return false;
}

static void stories_on_patience_over(struct sim *s, struct world_event *e)
{
    const struct sim_witness *w = &s->witness[e->who];
    if (w->committed_epoch <= (uint64_t)e->x)
        world_fail(&s->world, "in time", "i%d: its master has hung for %lld ms and nobody acts", e->who,
                   (long long)e->y);
}

static void stories_on_hang(struct sim *s, struct world_event *e)
{
    const struct topology_policy *p = NULL;
    int instance = (int)world_between(&s->world, 0, s->n_instances - 1);
    int master = faults_master(s, instance);
    p = &s->zk.nodes[instance].record.policy;
    if (master < 0 || !s->redis[master].alive)
        return;
    int64_t limit_us = (int64_t)p->hung_after_ms * 1000;
    int64_t for_us = world_between(&s->world, 50000, 3 * limit_us);
    if (e->kind == 0) { /* nothing else goes wrong */
        invariants_on_fault(s, instance);
        if (for_us < faults_stall_max_us(s, instance))
            s->witness[instance].never = true;
        int64_t patience_us = limit_us * 11 / 10 + 2500000;
        if (for_us > patience_us && s->redis[master].pings && stories_can_fail_over(s, instance, master)) {
            struct world_event *over = world_after(&s->world, patience_us, stories_on_patience_over);
            over->who = instance;
            over->x = (int64_t)s->witness[instance].committed_epoch;
            over->y = patience_us / 1000;
        }
    }
    faults_stop(s, master, for_us);
}

static enum fault stories_draw_noise(struct sim *s)
{
    static const enum fault faults[] = {FAULT_CRASH, FAULT_PAUSE, FAULT_CRASH_LEADER, FAULT_PAUSE_LEADER,
                                        FAULT_CUT,   FAULT_FLAP,  FAULT_KILL_REPLICA, FAULT_ZK_BREAK,
                                        FAULT_BLIND, FAULT_ORDER, FAULT_STOP_ANY};
    return STORIES_DRAW(s, faults);
}

static int64_t stories_plan_hang(struct sim *s)
{
    int noise = world_chance(&s->world, 400);
    int64_t at_us = world_between(&s->world, STORIES_FIRST_US, STORIES_FIRST_US + 2000000);
    world_after(&s->world, at_us, stories_on_hang)->kind = noise;
    if (noise)
        (void)stories_scatter(s, 4, stories_draw_noise);
    return at_us + 9000000;
}

/* ---- silence ------------------------------------------------------------------------------------------- */

static enum fault stories_draw_partition(struct sim *s)
{
    static const enum fault faults[] = {FAULT_SPLIT, FAULT_SPLIT, FAULT_SPLIT,      FAULT_BLIND,
                                        FAULT_CUT,   FAULT_FLAP,  FAULT_OFF_MASTER, FAULT_OFF_ANY,
                                        FAULT_ORDER, FAULT_STALL, FAULT_PAUSE,      FAULT_CRASH};
    return STORIES_DRAW(s, faults);
}

/* ---- planned ------------------------------------------------------------------------------------------- */

static void stories_on_switchover(struct sim *s, struct world_event *e)
{
    sim_operator_order(s, (int)world_between(&s->world, 0, s->n_instances - 1), FAILOVER_COMMAND_SWITCHOVER);
    if (e->kind) /* while it is under way, often */
        world_after(&s->world, world_between(&s->world, 0, world_chance(&s->world, 500) ? 5000 : 300000),
                    stories_on_fault)
            ->kind = (int)(world_chance(&s->world, 150) ? FAULT_SET : stories_draw_chaos(s));
}

static int64_t stories_plan_switchover(struct sim *s)
{
    int64_t n = world_between(&s->world, 1, 4), last_us = 0;
    s->quiet = world_chance(&s->world, 500);
    if (s->quiet)
        s->loss_permille = 0;
    for (int i = 0; s->quiet && i < s->n_instances; i++)
        s->witness[i].never = true;
    for (int64_t k = 0; k < n; k++) {
        int64_t at_us = world_between(&s->world, STORIES_FIRST_US, STORIES_LAST_US);
        last_us = at_us > last_us ? at_us : last_us;
        world_after(&s->world, at_us, stories_on_switchover)->kind = !s->quiet;
    }
    return last_us + 500000;
}

/* ---- strict -------------------------------------------------------------------------------------------- */

static void stories_on_set_strict(struct sim *s, struct world_event *e)
{
    (void)e;
    for (int i = 0; i < s->n_instances; i++) {
        if (s->zk.nodes[i].record.policy.durability == TOPOLOGY_ASYNC)
            sim_operator_order(s, i, FAILOVER_COMMAND_SET);
    }
}

static enum fault stories_draw_strict(struct sim *s)
{
    static const enum fault faults[] = {
        FAULT_KILL_MASTER, FAULT_KILL_REPLICA, FAULT_STOP_ANY,    FAULT_SPLIT,      FAULT_OFF_MASTER,
        FAULT_OFF_ANY,     FAULT_CUT,          FAULT_STOP_MASTER, FAULT_KILL_TWICE, FAULT_KILL_BEHIND};
    if (world_chance(&s->world, 500))
        return STORIES_DRAW(s, faults);
    if (world_chance(&s->world, 100))
        return FAULT_FORGET;
    return world_chance(&s->world, 200) ? stories_draw_partition(s) : stories_draw_chaos(s);
}

static int64_t stories_plan_strict(struct sim *s)
{
    (void)world_after(&s->world, STORIES_FIRST_US + world_between(&s->world, 0, 1000000),
                      stories_on_set_strict);
    return stories_scatter(s, STORIES_FAULTS_MAX, stories_draw_strict);
}

static void stories_on_donor_trouble(struct sim *s, struct world_event *e)
{
    if (s->calm)
        return;
    if (e->kind == 0)
        faults_kill(s, e->who);
    else
        faults_stop(s, e->who, world_between(&s->world, 100000, 4000000));
}

void faults_on_donation(struct sim *s, int instance, int donor)
{
    if (s->calm || (s->story != SIM_CHAOS && s->story != SIM_REDIS_CHAOS && s->story != SIM_STRICT))
        return;
    int any = sim_redis_index(instance, (int)world_between(&s->world, 0, s->n_members[instance] - 1));
    if (world_chance(&s->world, 150)) {
        faults_say(s, donor, HEALTH_SAID_BUSY, world_between(&s->world, 1000, 500000));
    } else if (world_chance(&s->world, 400)) {
        struct world_event *e =
            world_after(&s->world, world_between(&s->world, 0, 500000), stories_on_donor_trouble);
        e->who = world_chance(&s->world, 500) ? donor : any;
        e->kind = world_chance(&s->world, 500);
    }
}

enum { TROUBLE_PAUSE, TROUBLE_CRASH, TROUBLE_STOP, TROUBLE_CUT, TROUBLE_KILL, TROUBLES };

static void stories_on_fence_trouble(struct sim *s, struct world_event *e)
{
    int64_t for_us = world_between(&s->world, 1000, 5000000);
    if (s->calm)
        return;
    switch (e->kind) {
    case TROUBLE_PAUSE:
        faults_do(s, FAULT_PAUSE_LEADER);
        break;
    case TROUBLE_CRASH:
        faults_do(s, FAULT_CRASH_LEADER);
        break;
    case TROUBLE_STOP:
        faults_stop(s, e->target, for_us);
        break;
    case TROUBLE_CUT:
        faults_cut_pair(s, e->who, SIM_PLACE_REDIS + e->target, for_us);
        break;
    default:
        faults_kill(s, e->target);
    }
}

void faults_on_fencing(struct sim *s, int controller, int redis)
{
    bool redis_only = s->story == SIM_REDIS_CHAOS;
    if (s->calm || (s->story != SIM_CHAOS && s->story != SIM_STRICT && !redis_only) ||
        !world_chance(&s->world, 40))
        return;
    struct world_event *e =
        world_after(&s->world, world_between(&s->world, 0, 2000), stories_on_fence_trouble);
    e->who = controller;
    e->target = redis;
    e->kind = (int)world_between(&s->world, 0, TROUBLES - 1);
    if (redis_only)
        e->kind = e->kind == TROUBLE_KILL ? TROUBLE_KILL : TROUBLE_STOP;
}

void faults_plan(struct sim *s)
{
    int64_t last_us = 0;
    switch (s->story) {
    case SIM_ONE_FAULT:
        last_us = stories_plan_one(s);
        break;
    case SIM_RESTRAINT:
        last_us = stories_plan_restraint(s);
        break;
    case SIM_REDIS_CHAOS:
        last_us = stories_scatter(s, STORIES_FAULTS_MAX, stories_draw_redis);
        break;
    case SIM_HANG:
        last_us = stories_plan_hang(s);
        break;
    case SIM_PARTITION:
        last_us = stories_scatter(s, 5, stories_draw_partition);
        break;
    case SIM_STRICT:
        last_us = stories_plan_strict(s);
        break;
    case SIM_SWITCHOVER:
        last_us = stories_plan_switchover(s);
        break;
    case SIM_CHAOS:
    case SIM_STORIES:
        last_us = stories_scatter(s, STORIES_FAULTS_MAX, stories_draw_chaos);
        break;
    }
    (void)world_after(&s->world, last_us + world_between(&s->world, 100000, 3000000), stories_on_calm);
}
