/* A model of redis-server 7.0's replication: roles, replication ids, offsets, PSYNC, loss of data at a
 * restart.
 *
 *   follows ─► attach ─► refused, loading or master without its own master ─► again in a second
 *                    ├─► id and offset known there ─► partial: the missing writes are copied
 *                    └─► full: after full_sync_us the own data is replaced by the master's
 *
 * Source: the behaviour of replication.c and rdb.c of Redis 7.0 as documented and as observed. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REDIS_PORT = 7000,
    REDIS_PING_BYTES = 14,
    REDIS_WRITE_BYTES = 37,
    REDIS_CRON_US = 1000000,
    REDIS_GAP_US = 1100000,
    REDIS_EXIT_US = 500
};

static void redis_on_attach(struct sim *s, struct world_event *e);
static void redis_on_synced(struct sim *s, struct world_event *e);

int sim_redis_at(const struct topology_address *a)
{
    int redis = (int)a->port - REDIS_PORT;
    return strcmp(a->host, "10.0.0.1") == 0 && redis >= 0 && redis < SIM_REDISES ? redis : -1;
}

void sim_redis_address(int redis, struct topology_address *out)
{
    assert(redis >= 0 && redis < SIM_REDISES);
    *out = (struct topology_address){.host = "10.0.0.1", .port = (uint16_t)(REDIS_PORT + redis)};
}

int sim_redis_index(int instance, int member)
{
    return instance * SIM_MEMBERS + member;
}

static uint64_t redis_id_epoch(const struct sim *s, uint64_t id)
{
    return id < sizeof(s->id_epoch) / sizeof(s->id_epoch[0]) ? s->id_epoch[id] : 0;
}

/* A new replication id; epoch: whose promotion began the history it goes on with. */
static uint64_t redis_new_id(struct sim *s, uint64_t epoch)
{
    uint64_t id = ++s->ids;
    if (id < sizeof(s->id_epoch) / sizeof(s->id_epoch[0]))
        s->id_epoch[id] = epoch;
    return id;
}

/* ---- data ---------------------------------------------------------------------------------------------- */

static void redis_append(struct redis_data *d, struct redis_write write)
{
    if (d->n == d->room) {
        d->room = d->room ? 2 * d->room : 64;
        d->writes = (struct redis_write *)realloc(d->writes, d->room * sizeof(*d->writes));
        if (!d->writes)
            abort();
    }
    d->writes[d->n++] = write;
}

static void redis_copy(struct redis_data *to, const struct redis_data *from)
{
    struct redis_write *writes = to->writes;
    uint32_t room = to->room;
    if (room < from->n) {
        room = from->room;
        writes = (struct redis_write *)realloc(writes, room * sizeof(*writes));
        if (!writes)
            abort();
    }
    *to = *from;
    to->writes = writes;
    to->room = room;
    if (from->n)
        memcpy(writes, from->writes, from->n * sizeof(*writes));
}

/* For a process that is stopped everything waits: what arrives, and its own timers. */
bool sim_redis_defers(struct sim *s, int redis, struct world_event *e)
{
    struct sim_redis *r = &s->redis[redis];
    if (r->stopped_us == 0)
        return false;
    world_inbox_put(&s->world, &r->inbox, e);
    return true;
}

bool sim_redis_has(const struct redis_data *d, uint32_t id)
{
    for (uint32_t i = d->n; i-- > 0;) {
        if (d->writes[i].id == id)
            return true;
    }
    return false;
}

/* ---- the stream from a master to its replicas ---------------------------------------------------------- */

bool sim_redis_is_attached(const struct sim *s, int replica, int master)
{
    const struct sim_redis *r = &s->redis[replica];
    return r->alive && r->link_up && r->follows == master && r->attached_to == s->redis[master].process;
}

static void redis_heard(struct sim *s, struct sim_redis *r)
{
    if (s->world.now_us - r->heard_us > REDIS_GAP_US)
        r->gap_to_us = s->world.now_us;
    r->heard_us = s->world.now_us;
}

static void redis_on_feed(struct sim *s, struct world_event *e)
{
    struct sim_redis *r = &s->redis[e->who];
    if (!r->alive || e->gen != r->link || !r->link_up || sim_redis_defers(s, e->who, e))
        return;
    redis_heard(s, r);
    if (e->x <= r->data.offset)
        return; /* it came with the synchronization */
    r->tainted |= e->z != 0;
    r->data.offset = e->x;
    if (e->y)
        redis_append(&r->data, (struct redis_write){.end = e->x, .id = (uint32_t)e->y});
    sim_strict_on_applied(s, e->who);
    for (int k = 0; k < SIM_REDISES; k++) {
        if (sim_redis_is_attached(s, k, e->who)) {
            int64_t at = sim_network_at(s, SIM_PLACE_REDIS + e->who, SIM_PLACE_REDIS + k, &r->feed_at[k]);
            struct world_event *next = world_at(&s->world, at, redis_on_feed);
            next->who = k;
            next->gen = s->redis[k].link;
            next->x = e->x;
            next->y = e->y;
            next->z = e->z;
        }
    }
}

/* The master's history grows by `bytes`; id 0 is a ping. */
static void redis_propagate(struct sim *s, int redis, uint32_t id, int64_t bytes)
{
    struct sim_redis *r = &s->redis[redis];
    r->data.offset += r->backlog ? bytes : 1;
    if (id)
        redis_append(&r->data, (struct redis_write){.end = r->data.offset, .id = id});
    for (int k = 0; k < SIM_REDISES; k++) {
        if (!sim_redis_is_attached(s, k, redis))
            continue;
        int64_t at = sim_network_at(s, SIM_PLACE_REDIS + redis, SIM_PLACE_REDIS + k, &r->feed_at[k]);
        struct world_event *e = world_at(&s->world, at, redis_on_feed);
        e->who = k;
        e->gen = s->redis[k].link;
        e->x = r->data.offset;
        e->y = id;
        e->z = id && r->tainted;
    }
}

bool sim_redis_write(struct sim *s, int redis, uint32_t id)
{
    struct sim_redis *r = &s->redis[redis];
    if (!r->alive || r->loading || !r->is_master || r->said != HEALTH_SAID_OK)
        return false;
    redis_propagate(s, redis, id, REDIS_WRITE_BYTES);
    return true;
}

int64_t sim_redis_mark(struct sim *s, int redis)
{
    redis_propagate(s, redis, 0, REDIS_PING_BYTES);
    return s->redis[redis].data.offset;
}

static void redis_on_cron(struct sim *s, struct world_event *e)
{
    struct sim_redis *r = &s->redis[e->who];
    if (!r->alive || r->process != e->gen || sim_redis_defers(s, e->who, e))
        return;
    bool has_replicas = false;
    for (int k = 0; k < SIM_REDISES; k++)
        has_replicas |= sim_redis_is_attached(s, k, e->who);
    bool pings = r->pings || ++r->crons % 10 == 0;
    if (r->is_master && !r->loading && has_replicas && pings)
        redis_propagate(s, e->who, 0, REDIS_PING_BYTES);
    struct world_event *next = world_after(&s->world, REDIS_CRON_US, redis_on_cron);
    next->who = e->who;
    next->gen = e->gen;
}

/* ---- attaching to a master ----------------------------------------------------------------------------- */

static void redis_attach_after(struct sim *s, int redis, int64_t delay_us)
{
    struct sim_redis *r = &s->redis[redis];
    r->link_up = false;
    r->syncing = false;
    struct world_event *e = world_after(&s->world, delay_us, redis_on_attach);
    e->who = redis;
    e->gen = ++r->link;
}

static void redis_on_lost(struct sim *s, struct world_event *e)
{
    struct sim_redis *r = &s->redis[e->who];
    if (!r->alive || e->gen != r->link || sim_redis_defers(s, e->who, e))
        return;
    redis_attach_after(s, e->who, world_between(&s->world, 50, 500)); /* tries again at once, as Redis does */
}

/* Everybody attached to `redis` (or synchronizing with it) sees the connection end. */
static void redis_drop_replicas(struct sim *s, int redis)
{
    for (int k = 0; k < SIM_REDISES; k++) {
        struct sim_redis *r = &s->redis[k];
        if (!r->alive || r->is_master || r->follows != redis || (!r->link_up && !r->syncing))
            continue;
        int64_t at =
            sim_network_at(s, SIM_PLACE_REDIS + redis, SIM_PLACE_REDIS + k, &s->redis[redis].feed_at[k]);
        struct world_event *e = world_at(&s->world, at, redis_on_lost);
        e->who = k;
        e->gen = r->link;
    }
}

static bool redis_may_continue(const struct sim_redis *r, const struct sim_redis *master)
{
    if (!r->cached || !master->backlog)
        return false;
    int64_t from = r->data.offset + 1;
    bool known =
        r->data.id == master->data.id || (r->data.id == master->data.id2 && from <= master->data.second);
    return known && from >= master->backlog_from && r->data.offset <= master->data.offset;
}

/* At once, in this model. */
static void redis_catch_up(struct sim_redis *r, const struct sim_redis *master)
{
    for (uint32_t i = 0; i < master->data.n; i++) {
        if (master->data.writes[i].end <= r->data.offset)
            continue;
        redis_append(&r->data, master->data.writes[i]);
        r->tainted |= master->tainted;
    }
    r->data.offset = master->data.offset;
}

/* Bit by bit: its link is up meanwhile. */
static void redis_catch_up_slowly(struct sim *s, int redis, struct sim_redis *master)
{
    const struct sim_redis *r = &s->redis[redis];
    int64_t *last = &master->feed_at[redis];
    *last = s->world.now_us + world_between(&s->world, 0, world_chance(&s->world, 600) ? 400000 : 2000);
    for (uint32_t i = 0; i <= master->data.n; i++) {
        const struct redis_write *w = i < master->data.n ? &master->data.writes[i] : NULL;
        if (w ? w->end <= r->data.offset : master->data.offset <= r->data.offset)
            continue;
        int64_t at = sim_network_at(s, SIM_PLACE_REDIS + r->follows, SIM_PLACE_REDIS + redis, last);
        struct world_event *e = world_at(&s->world, at, redis_on_feed);
        e->who = redis;
        e->gen = r->link;
        e->x = w ? w->end : master->data.offset;
        e->y = w ? w->id : 0;
        e->z = w && master->tainted;
    }
}

static void redis_continue(struct sim *s, int redis, const struct sim_redis *master)
{
    struct sim_redis *r = &s->redis[redis];
    if (r->data.id != master->data.id) {
        r->data.id2 = r->data.id;
        r->data.second = r->data.offset + 1;
        r->data.id = master->data.id;
        redis_drop_replicas(s, redis);
    }
    if (!r->backlog) {
        r->backlog = true;
        r->backlog_from = r->data.offset + 1;
    }
    if (!s->strict[r->instance])
        redis_catch_up(r, master);
    r->attached_to = master->process;
    r->tainted &= master->tainted; /* what it has is the beginning of its master's history */
    r->link_up = true;
    r->cached = true;
    redis_heard(s, r);
    sim_strict_on_attached(s, redis);
    if (s->strict[r->instance])
        redis_catch_up_slowly(s, redis, &s->redis[r->follows]);
    world_trace(&s->world, "redis %d continues with %d at %lld", redis, r->follows,
                (long long)r->data.offset);
}

static void redis_on_attach(struct sim *s, struct world_event *e)
{
    struct sim_redis *r = &s->redis[e->who];
    if (!r->alive || e->gen != r->link || r->is_master || sim_redis_defers(s, e->who, e))
        return;
    struct sim_redis *master = r->follows >= 0 ? &s->redis[r->follows] : NULL;
    if (r->loading || !master || !master->alive || master->loading || master->stopped_us != 0 ||
        (!master->is_master && !master->link_up) ||
        sim_network_is_cut(s, SIM_PLACE_REDIS + e->who, SIM_PLACE_REDIS + r->follows)) {
        redis_attach_after(s, e->who, REDIS_CRON_US);
        return;
    }
    if (redis_may_continue(r, master)) {
        redis_continue(s, e->who, master);
        return;
    }
    if (!master->backlog) { /* a history that nobody could continue: Redis begins a new one */
        master->backlog = true;
        master->data.id = redis_new_id(s, redis_id_epoch(s, master->data.id));
        master->data.id2 = 0;
        master->data.second = -1;
        master->backlog_from = master->data.offset + 1;
    }
    world_trace(&s->world, "redis %d needs a full synchronization with %d", e->who, r->follows);
    r->syncing = true; /* the own data and position stay until the master's has arrived */
    struct world_event *next = world_after(&s->world, r->full_sync_us, redis_on_synced);
    next->who = e->who;
    next->gen = r->link;
    next->number = master->process;
}

static void redis_on_synced(struct sim *s, struct world_event *e)
{
    struct sim_redis *r = &s->redis[e->who];
    if (!r->alive || e->gen != r->link || !r->syncing || sim_redis_defers(s, e->who, e))
        return;
    const struct sim_redis *master = &s->redis[r->follows];
    bool stuck = master->off || master->stopped_us != 0 ||
                 sim_network_is_cut(s, SIM_PLACE_REDIS + e->who, SIM_PLACE_REDIS + r->follows);
    if (stuck && master->process == e->number) {
        struct world_event *again = world_after(&s->world, REDIS_CRON_US, redis_on_synced);
        again->who = e->who;
        again->gen = e->gen;
        again->number = e->number;
        return;
    }
    if (!master->alive || master->process != e->number) {
        redis_attach_after(s, e->who, REDIS_CRON_US);
        return;
    }
    world_trace(&s->world, "redis %d replaced its %u writes by the %u of %d", e->who, r->data.n,
                master->data.n, r->follows);
    s->stats->full_syncs++;
    redis_drop_replicas(s, e->who);
    redis_copy(&r->data, &master->data);
    r->data.id2 = 0;
    r->data.second = -1;
    r->backlog = true;
    r->backlog_from = r->data.offset + 1;
    r->syncing = false;
    r->tainted = master->tainted;
    r->attached_to = master->process;
    r->link_up = true;
    r->cached = true;
    redis_heard(s, r);
    sim_strict_on_attached(s, e->who);
}

int sim_redis_replicaof(struct sim *s, int redis, int target)
{
    struct sim_redis *r = &s->redis[redis];
    assert(r->alive);
    if (r->loading)
        return ERR_REPLY;
    r->sealed_epoch = 0;
    if (target == -2) {
        if (r->is_master)
            return 0;
        r->data.id2 = r->data.id;
        r->data.second = r->data.offset + 1;
        r->data.id = redis_new_id(s, redis_id_epoch(s, r->data.id2));
        r->is_master = true;
        r->master_since_us = s->world.now_us;
        r->link++;
        r->link_up = r->syncing = r->cached = false;
        redis_drop_replicas(s, redis);
        return 0;
    }
    if (!r->is_master && r->follows == target && target >= 0)
        return 0; /* "Already connected to specified master" */
    if (r->is_master)
        r->cached = true; /* Redis remembers its own position, to continue with a new master */
    r->is_master = false;
    r->master_since_us = 0;
    r->follows = target;
    redis_attach_after(s, redis, world_between(&s->world, 50, 500));
    return 0;
}

/* ---- processes ----------------------------------------------------------------------------------------- */

void sim_redis_create(struct sim *s, int redis, int instance, bool is_master, int follows)
{
    struct sim_redis *r = &s->redis[redis];
    struct redis_data data = r->data, disk = r->disk; /* their storage is used again */
    memset(r, 0, sizeof(*r));
    r->said = HEALTH_SAID_OK;
    r->pings = world_chance(&s->world, 900);
    r->data = data;
    r->disk = disk;
    r->exists = r->alive = true;
    r->instance = instance;
    r->process = 1;
    r->is_master = is_master;
    r->master_since_us = is_master ? s->world.now_us : 0;
    r->follows = is_master ? -1 : follows;
    r->link = 1;
    r->link_up = r->cached = !is_master;
    r->attached_to = 1;
    r->backlog = true;
    r->full_sync_us = world_between(&s->world, 600000, 3000000);
    r->heard_us = s->world.now_us;
    r->data.n = 0;
    r->data.offset = 1000;
    r->data.id = is_master ? redis_new_id(s, 1) : s->redis[follows].data.id;
    r->data.id2 = 0;
    r->data.second = -1;
    r->backlog_from = 1;
    struct world_event *e = world_after(&s->world, world_between(&s->world, 1, REDIS_CRON_US), redis_on_cron);
    e->who = redis;
    e->gen = r->process;
    sim_redis_save(s, redis);
}

void sim_redis_save(struct sim *s, int redis)
{
    redis_copy(&s->redis[redis].disk, &s->redis[redis].data);
}

/* The process is no more; whether anybody is told is the caller's business. */
static void redis_end(struct sim *s, int redis)
{
    struct sim_redis *r = &s->redis[redis];
    r->alive = false;
    if (r->stopped_us) {
        r->stop_from_us = r->stopped_us;
        r->stop_to_us = s->world.now_us;
    }
    r->stopped_us = 0;
    r->paused_until_us = 0;
    world_inbox_clear(&s->world, &r->inbox);
    r->master_since_us = 0;
    r->link_up = r->syncing = false;
    r->link++;
}

void sim_redis_kill(struct sim *s, int redis)
{
    struct sim_redis *r = &s->redis[redis];
    assert(r->alive);
    world_trace(&s->world, "redis %d dies", redis);
    redis_end(s, redis);
    redis_drop_replicas(s, redis);
    sim_link_on_death(s, redis, REDIS_EXIT_US);
    sim_proxy_on_death(s, redis, REDIS_EXIT_US);
    sim_monitor_refresh(s);
}

void sim_redis_switch_off(struct sim *s, int redis)
{
    struct sim_redis *r = &s->redis[redis];
    assert(r->alive);
    world_trace(&s->world, "redis %d: its host is gone", redis);
    redis_end(s, redis);
    r->off = true;
    sim_monitor_refresh(s);
}

void sim_redis_stop(struct sim *s, int redis, bool stopped)
{
    struct sim_redis *r = &s->redis[redis];
    if (!r->alive || (r->stopped_us != 0) == stopped)
        return;
    world_trace(&s->world, "redis %d %s", redis, stopped ? "is stopped" : "goes on");
    if (stopped) {
        r->stopped_us = s->world.now_us;
        r->stops++;
    } else {
        r->stop_from_us = r->stopped_us;
        r->stop_to_us = s->world.now_us;
        r->stopped_us = 0;
        world_inbox_run(s, &s->world, &r->inbox);
    }
    sim_monitor_refresh(s);
}

void sim_redis_say(struct sim *s, int redis, enum health_said said)
{
    struct sim_redis *r = &s->redis[redis];
    if (!r->alive || r->said == said)
        return;
    world_trace(&s->world, "redis %d says %s", redis, health_said_name(said));
    r->said = said;
    sim_monitor_on_said(s, redis);
}

void sim_redis_end(struct sim *s, int redis)
{
    world_inbox_clear(&s->world, &s->redis[redis].inbox);
}

static void redis_on_loaded(struct sim *s, struct world_event *e)
{
    struct sim_redis *r = &s->redis[e->who];
    if (!r->alive || r->process != e->gen || sim_redis_defers(s, e->who, e))
        return;
    r->loading = false;
    sim_redis_say(s, e->who, HEALTH_SAID_OK);
    r->master_since_us = r->is_master ? s->world.now_us : 0;
    if (!r->is_master)
        redis_attach_after(s, e->who, 100);
}

/* What a new process finds on its disk. */
static void redis_restore(struct sim *s, struct sim_redis *r, enum redis_restart how)
{
    r->backlog = false;
    r->cached = false;
    if (how == REDIS_OLD)
        redis_copy(&r->data, &r->disk);
    if (how == REDIS_EMPTY)
        r->data.n = 0;
    if (how == REDIS_EMPTY || how == REDIS_NO_OFFSET) {
        r->data.id = redis_new_id(s, 0);
        r->data.id2 = 0;
        r->data.second = -1;
        r->data.offset = 0;
        for (uint32_t i = 0; i < r->data.n; i++)
            r->data.writes[i].end = 0;
    } else if (r->is_master) {
        r->data.id2 = r->data.id;
        r->data.second = r->data.offset + 1;
        r->data.id = redis_new_id(s, 0);
        r->backlog = true;
        r->backlog_from = r->data.offset + 1;
    } else {
        r->data.id2 = 0;
        r->data.second = -1;
        r->cached = true;
    }
}

void sim_redis_start(struct sim *s, int redis, enum redis_restart how)
{
    struct sim_redis *r = &s->redis[redis];
    assert(r->exists && !r->alive);
    world_trace(&s->world, "redis %d starts: boot=%d data=%d", redis, (int)r->boot, (int)how);
    if (r->off) { /* whoever still waits for the old process learns now that it is gone */
        r->off = false;
        redis_drop_replicas(s, redis);
        sim_link_on_death(s, redis, world_between(&s->world, 1000, 400000));
        sim_proxy_on_death(s, redis, world_between(&s->world, 1000, 400000));
    }
    r->process++;
    r->alive = r->tainted = true;
    r->is_master = r->boot == REDIS_BOOT_MASTER;
    r->follows = r->boot == REDIS_BOOT_REPLICA ? r->boot_follows : -1;
    r->sealed_epoch = 0;
    memset(r->feed_at, 0, sizeof(r->feed_at));
    sim_fence_on_start(s, redis);
    redis_restore(s, r, how);
    r->link_up = r->syncing = false;
    r->loading = true;
    r->said = HEALTH_SAID_LOADING;
    bool slow = world_chance(&s->world, 300);
    struct world_event *e =
        world_after(&s->world, slow ? world_between(&s->world, 1000, 800000) : 200, redis_on_loaded);
    e->who = redis;
    e->gen = r->process;
    e = world_after(&s->world, REDIS_CRON_US, redis_on_cron);
    e->who = redis;
    e->gen = r->process;
    sim_redis_save(s, redis);
    sim_monitor_refresh(s);
    sim_monitor_on_said(s, redis);
}
