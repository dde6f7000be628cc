/* The controllers' connections to the members: connect, refuse, time out, break, reconnect; commands in
 * order.
 *
 * A connection leads to one process. What was sent on it arrives as long as that process lives, even when the
 * controller has closed the connection or died meanwhile: that is how late seals and promotions happen. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINK_CONNECT_US = 1000000,
    LINK_REPLY_US = 5000000,
    LINK_BACKOFF_MIN_US = 10000,
    LINK_BACKOFF_MAX_US = 500000,
};

static struct sim_link *link_of(struct sim *s, int controller, int redis)
{
    return &s->controllers[controller].links[redis];
}

bool sim_link_tell(struct sim *s, int controller, int redis, struct failover_event *event)
{
    int instance = s->redis[redis].instance;
    struct topology_address address;
    sim_redis_address(redis, &address);
    const struct failover *f = &s->controllers[controller].failover[instance];
    event->member = f->has_record ? topology_member_find(&f->record, &address) : -1;
    if (event->member < 0)
        return false;
    sim_controller_tell(s, controller, instance, event);
    return true;
}

static void link_tell(struct sim *s, int controller, int redis, enum failover_event_type type, int err,
                      uint64_t epoch, const struct info *info)
{
    struct failover_event event = {.type = type, .err = err, .epoch = epoch, .info = info};
    (void)sim_link_tell(s, controller, redis, &event);
}

static enum failover_event_type link_answer(enum sim_command command)
{
    switch (command) {
    case SIM_SEAL:
        return FAILOVER_ON_SEALED;
    case SIM_PROMOTE:
        return FAILOVER_ON_PROMOTED;
    case SIM_REPLICATE:
        return FAILOVER_ON_REPLICATING;
    case SIM_PAUSE:
        return FAILOVER_ON_PAUSED;
    case SIM_DONATE:
        return FAILOVER_ON_DONATING;
    case SIM_FENCE:
        return FAILOVER_ON_FENCED;
    case SIM_INFO:
    case SIM_UNPAUSE:
        break;
    }
    return FAILOVER_ON_INFO;
}

/* Orders are answered by exactly one event. */
static bool link_is_order(enum sim_command command)
{
    return command != SIM_INFO && command != SIM_UNPAUSE;
}

/* ---- connecting ---------------------------------------------------------------------------------------- */

static void link_connect(struct sim *s, int controller, int redis);

static void link_on_retry(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    const struct sim_link *l = link_of(s, e->who, e->target);
    if (l->open && l->connection == e->gen && !l->up && !l->connecting)
        link_connect(s, e->who, e->target);
}

static void link_down(struct sim *s, int controller, int redis, int reason)
{
    struct sim_link *l = link_of(s, controller, redis);
    struct sim_pending pending[SIM_PENDING];
    memcpy(pending, l->pending, sizeof(pending));
    memset(l->pending, 0, sizeof(l->pending));
    bool was_up = l->up;
    l->up = l->connecting = false;
    l->connection++;
    int64_t wait_us = 0;
    if (!was_up || reason != ERR_CLOSED) {
        wait_us = l->backoff_us;
        l->backoff_us = 2 * l->backoff_us < LINK_BACKOFF_MAX_US ? 2 * l->backoff_us : LINK_BACKOFF_MAX_US;
    }
    struct world_event *e = world_after(&s->world, wait_us, link_on_retry);
    e->who = controller;
    e->target = redis;
    e->gen = l->connection;
    for (int i = 0; i < SIM_PENDING; i++) {
        if (pending[i].number && link_is_order(pending[i].command))
            link_tell(s, controller, redis, link_answer(pending[i].command), reason, pending[i].epoch, NULL);
    }
    link_tell(s, controller, redis, FAILOVER_ON_LINK_DOWN, reason, 0, NULL);
    sim_monitor_on_down(s, controller, redis, reason);
}

static void link_on_timeout(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    const struct sim_link *l = link_of(s, e->who, e->target);
    if (l->connection == e->gen && l->connecting)
        link_down(s, e->who, e->target, ERR_TIMEOUT);
}

static void link_on_connected(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    struct sim_link *l = link_of(s, e->who, e->target);
    if (l->connection != e->gen || !l->connecting)
        return;
    const struct sim_redis *r = &s->redis[e->target];
    if (e->x == 0) {
        link_down(s, e->who, e->target, ERR_REFUSED);
    } else if (!r->alive || r->process != (uint32_t)e->x) {
        link_down(s, e->who, e->target, ERR_CLOSED);
    } else {
        l->connecting = false;
        l->up = true;
        l->process = r->process;
        l->client = ++s->redis[e->target].acl.clients;
        l->backoff_us = LINK_BACKOFF_MIN_US;
        link_tell(s, e->who, e->target, FAILOVER_ON_LINK_UP, 0, 0, NULL);
        sim_monitor_on_up(s, e->who, e->target);
        sim_link_command(s, e->who, e->target, SIM_INFO, 0, 0);
    }
}

static void link_on_syn(struct sim *s, struct world_event *e)
{
    struct sim_link *l = link_of(s, e->who, e->target);
    const struct sim_redis *r = &s->redis[e->target];
    if (r->off)
        return;
    int64_t at = sim_network_at(s, SIM_PLACE_REDIS + e->target, e->who,
                                l->connection == e->gen ? &l->to_controller_at : NULL);
    struct world_event *answer = world_at(&s->world, at, link_on_connected);
    answer->who = e->who;
    answer->target = e->target;
    answer->gen = e->gen;
    answer->x = r->alive ? r->process : 0;
}

static void link_connect(struct sim *s, int controller, int redis)
{
    struct sim_link *l = link_of(s, controller, redis);
    l->connecting = true;
    l->tried_us = s->world.now_us;
    l->connection++;
    l->to_redis_at = l->to_controller_at = 0;
    int64_t at = sim_network_at(s, controller, SIM_PLACE_REDIS + redis, &l->to_redis_at);
    struct world_event *e = world_at(&s->world, at, link_on_syn);
    e->who = controller;
    e->target = redis;
    e->gen = l->connection;
    e = world_after(&s->world, LINK_CONNECT_US, link_on_timeout);
    e->who = controller;
    e->target = redis;
    e->gen = l->connection;
}

static void link_on_fin(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    const struct sim_link *l = link_of(s, e->who, e->target);
    if (l->up && l->connection == e->gen)
        link_down(s, e->who, e->target, ERR_CLOSED);
}

void sim_link_on_death(struct sim *s, int redis, int64_t after_us)
{
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        struct sim_link *l = link_of(s, c, redis);
        if (!l->up || l->process != s->redis[redis].process)
            continue;
        int64_t at = sim_network_at(s, SIM_PLACE_REDIS + redis, c, &l->to_controller_at);
        struct world_event *e = world_at(&s->world, at + after_us, link_on_fin);
        e->who = c;
        e->target = redis;
        e->gen = l->connection;
    }
}

int64_t sim_link_from(const struct sim *s, int controller, int redis)
{
    const struct sim_link *l = &s->controllers[controller].links[redis];
    return (int64_t)(l->client << 32 | l->process);
}

bool sim_link_is_killed(const struct sim *s, const struct world_event *command)
{
    uint64_t client = (uint64_t)command->z >> 32;
    return s->redis[command->target].acl.killed[client / 64 % (SIM_CONNECTIONS / 64)] >> client % 64 & 1;
}

void sim_link_kill(struct sim *s, int redis, uint64_t client)
{
    struct sim_redis *r = &s->redis[redis];
    assert(client < SIM_CONNECTIONS);
    r->acl.killed[client / 64] |= UINT64_C(1) << client % 64;
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        struct sim_link *l = link_of(s, c, redis);
        if (!l->up || l->process != r->process || l->client != client)
            continue;
        int64_t at = sim_network_at(s, SIM_PLACE_REDIS + redis, c, &l->to_controller_at);
        struct world_event *e = world_at(&s->world, at, link_on_fin);
        e->who = c;
        e->target = redis;
        e->gen = l->connection;
    }
}

/* ---- commands ------------------------------------------------------------------------------------------ */

static void link_on_reply(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    struct sim_link *l = link_of(s, e->who, e->target);
    if (!l->up || l->connection != e->gen)
        return;
    for (int i = 0; i < SIM_PENDING; i++) {
        struct sim_pending p = l->pending[i];
        if (p.number != e->number)
            continue;
        l->pending[i].number = 0;
        sim_monitor_on_reply(s, e->who, e->target);
        if (link_is_order(p.command) || (p.command == SIM_INFO && e->x == 0))
            link_tell(s, e->who, e->target, link_answer(p.command), (int)e->x, p.epoch,
                      e->x == 0 ? (const struct info *)e->data : NULL);
        return;
    }
}

static int link_execute(struct sim *s, const struct world_event *e)
{
    static const char *const names[] = {"INFO", "SEAL", "PROMOTE", "REPLICATE", "PAUSE", "UNPAUSE", "DONATE"};
    enum sim_command command = (enum sim_command)e->kind;
    struct sim_redis *r = &s->redis[e->target];
    if (r->said == HEALTH_SAID_BUSY)
        return ERR_REPLY; /* a script runs: it answers -BUSY to everything */
    if (command == SIM_INFO)
        return 0;
    world_trace(&s->world, "redis %d gets %s of epoch %lld from c%d (%lld)", e->target, names[command],
                (long long)e->x, e->who, (long long)e->y);
    if (command == SIM_UNPAUSE) {
        r->paused_until_us = 0;
        return 0;
    }
    if ((command == SIM_PAUSE || command == SIM_DONATE) && s->ablation != ABLATE_PAUSE)
        r->paused_until_us = s->world.now_us + e->y * 1000;
    if (command == SIM_PAUSE)
        return 0;
    if (command == SIM_REPLICATE)
        sim_fence_on_replicate(s, e->target, (uint64_t)e->x);
    int err = command == SIM_SEAL && s->ablation == ABLATE_SEAL
                  ? 0
                  : sim_redis_replicaof(s, e->target, command == SIM_DONATE ? -2 : (int)e->y);
    if (err == 0)
        invariants_on_order(s, e->target, command, (uint64_t)e->x);
    if (err == 0 && command == SIM_SEAL)
        r->sealed_epoch = (uint64_t)e->x;
    return err;
}

struct world_event *sim_link_answer(struct sim *s, const struct world_event *command,
                                    void (*on_answer)(struct sim *s, struct world_event *e))
{
    int64_t *last = &link_of(s, command->who, command->target)->to_controller_at;
    struct world_event *answer = world_at(
        &s->world, sim_network_at(s, SIM_PLACE_REDIS + command->target, command->who, last), on_answer);
    answer->who = command->who;
    answer->target = command->target;
    answer->gen = command->gen;
    answer->number = command->number;
    return answer;
}

static void link_on_command(struct sim *s, struct world_event *e)
{
    const struct sim_redis *r = &s->redis[e->target];
    if (!r->alive || r->process != (uint32_t)e->z || sim_redis_defers(s, e->target, e) ||
        sim_link_is_killed(s, e))
        return;
    int err = link_execute(s, e);
    struct sim_link *l = link_of(s, e->who, e->target);
    if (l->connection != e->gen || !l->up)
        return; /* nobody reads the answer */
    struct info *info = NULL;
    if (err == 0 && e->kind != SIM_REPLICATE) {
        info = (struct info *)malloc(sizeof(*info));
        if (!info)
            abort();
        sim_redis_info(s, e->target, info);
        ablations_change_info(s, e->target, e->kind == SIM_SEAL, info);
    }
    struct world_event *answer = sim_link_answer(s, e, link_on_reply);
    answer->x = err;
    answer->data = info;
}

static void link_on_not_sent(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen)
        return;
    link_tell(s, e->who, e->target, link_answer((enum sim_command)e->kind), ERR_CONNECTION, (uint64_t)e->x,
              NULL);
}

uint32_t sim_link_take(struct sim *s, int controller, int redis, enum sim_command command, uint64_t epoch)
{
    struct sim_link *l = link_of(s, controller, redis);
    int slot = 0;
    while (slot < SIM_PENDING && l->pending[slot].number != 0) {
        if (command == SIM_INFO && l->pending[slot].command == SIM_INFO)
            return 0; /* one is under way */
        slot++;
    }
    if (l->up && slot < SIM_PENDING) {
        l->pending[slot] = (struct sim_pending){
            .number = ++l->numbers, .command = command, .epoch = epoch, .sent_us = s->world.now_us};
        return l->numbers;
    }
    if (!link_is_order(command))
        return 0;
    struct world_event *e = world_after(&s->world, 0, link_on_not_sent);
    e->who = controller;
    e->target = redis;
    e->kind = (int)command;
    e->gen = s->controllers[controller].life;
    e->x = (int64_t)epoch;
    return 0;
}

void sim_link_settle(struct sim *s, int controller, int redis, uint32_t number)
{
    struct sim_link *l = link_of(s, controller, redis);
    for (int i = 0; i < SIM_PENDING; i++) {
        if (l->pending[i].number == number)
            l->pending[i].number = 0;
    }
}

void sim_link_command(struct sim *s, int controller, int redis, enum sim_command command, uint64_t epoch,
                      int target)
{
    struct sim_link *l = link_of(s, controller, redis);
    uint32_t number = sim_link_take(s, controller, redis, command, epoch);
    if (number == 0)
        return;
    struct world_event *e = world_at(
        &s->world, sim_network_at(s, controller, SIM_PLACE_REDIS + redis, &l->to_redis_at), link_on_command);
    e->who = controller;
    e->target = redis;
    e->gen = l->connection;
    e->number = number;
    e->kind = (int)command;
    e->x = (int64_t)epoch;
    e->y = target;
    e->z = sim_link_from(s, controller, redis);
}

/* Once a period: INFO, unless one is unanswered for too long. */
static void link_on_cron(struct sim *s, struct world_event *e)
{
    const struct sim_link *l = link_of(s, e->who, e->target);
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen ||
        l->watches != e->number)
        return;
    struct world_event *next = world_after(&s->world, s->info_period_us, link_on_cron);
    next->who = e->who;
    next->target = e->target;
    next->gen = e->gen;
    next->number = e->number;
    if (!l->up)
        return;
    bool asked = false, late = false;
    for (int i = 0; i < SIM_PENDING; i++) {
        if (l->pending[i].number == 0)
            continue;
        asked |= l->pending[i].command == SIM_INFO;
        late |= s->world.now_us - l->pending[i].sent_us > LINK_REPLY_US;
    }
    if (late)
        link_down(s, e->who, e->target, ERR_TIMEOUT);
    else if (!asked)
        sim_link_command(s, e->who, e->target, SIM_INFO, 0, 0);
}

void sim_link_open(struct sim *s, int controller, int redis)
{
    struct sim_link *l = link_of(s, controller, redis);
    if (l->open)
        return;
    l->open = true;
    outlook_on_member(&s->controllers[controller].outlook, 1, false, sim_clock_us(s, controller));
    l->backoff_us = LINK_BACKOFF_MIN_US;
    link_connect(s, controller, redis);
    struct world_event *e =
        world_after(&s->world, world_between(&s->world, 1000, s->info_period_us), link_on_cron);
    e->who = controller;
    e->target = redis;
    e->gen = s->controllers[controller].life;
    e->number = ++l->watches;
}

static void link_reset(struct sim_link *l)
{
    uint32_t connection = l->connection + 1, numbers = l->numbers, silences = l->silences + 1;
    uint32_t watches = l->watches + 1;
    memset(l, 0, sizeof(*l));
    l->connection = connection;
    l->numbers = numbers;
    l->silences = silences;
    l->watches = watches;
}

void sim_link_close(struct sim *s, int controller, int redis)
{
    struct sim_link *l = link_of(s, controller, redis);
    if (!l->open)
        return;
    outlook_on_member(&s->controllers[controller].outlook, -1, l->silent, sim_clock_us(s, controller));
    link_reset(l);
}

void sim_link_nudge(struct sim *s, int controller, int redis)
{
    const struct sim_link *l = link_of(s, controller, redis);
    if (l->open && !l->up && !l->connecting)
        link_connect(s, controller, redis);
}

void sim_link_close_all(struct sim *s, int controller)
{
    for (int r = 0; r < SIM_REDISES; r++)
        link_reset(link_of(s, controller, r));
}
