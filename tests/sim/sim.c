/* One seed: the network and the clocks, the first records, the run, its end. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIM_EVENTS_MAX = 400000 };

const char *const sim_stories[SIM_STORIES] = {"one fault", "restraint", "chaos",      "redis chaos",
                                              "hang",      "partition", "switchover", "strict"};

/* ---- network ------------------------------------------------------------------------------------------- */

bool sim_network_is_cut(const struct sim *s, int a, int b)
{
    return s->cut_until[a][b] > s->world.now_us || s->cut_until[b][a] > s->world.now_us;
}

int64_t sim_network_at(struct sim *s, int from, int to, int64_t *last)
{
    struct world *w = &s->world;
    int64_t at = w->now_us + world_between(w, 80, 600);
    if (world_chance(w, s->slow_permille))
        at += world_between(w, 1000, 40000);
    if (s->cut_until[from][to] > w->now_us) /* sent again once the way is free */
        at = s->cut_until[from][to] + world_between(w, 100, 1000);
    if (last) {
        at = at <= *last ? *last + 1 : at;
        *last = at;
    }
    return at;
}

/* ---- clocks -------------------------------------------------------------------------------------------- */

static const int64_t sim_clock_apart_us = INT64_C(1000000000); /* no two show the same */

int64_t sim_clock_us(const struct sim *s, int controller)
{
    return (controller + 1) * sim_clock_apart_us +
           s->world.now_us * s->controllers[controller].rate_permille / 1000;
}

int64_t sim_clock_at_us(const struct sim *s, int controller, int64_t clock_us)
{
    int rate = s->controllers[controller].rate_permille;
    return ((clock_us - (controller + 1) * sim_clock_apart_us) * 1000 + rate - 1) / rate;
}

int64_t sim_wall_ms(const struct sim *s)
{
    return s->world.now_us / 1000 + INT64_C(1700000000000);
}

/* ---- one seed ------------------------------------------------------------------------------------------ */

/* Some become strict only later, by an order: whoever is not registered yet is by then. */
static void sim_draw_strict(struct sim *s, int instance, bool registered, struct topology_policy *policy)
{
    uint32_t replicas = (uint32_t)s->n_members[instance] - 1;
    s->strict[instance] = s->story == SIM_STRICT;
    if (!s->strict[instance] || !registered || world_chance(&s->world, 300))
        return;
    policy->durability = TOPOLOGY_STRICT;
    policy->acks = (uint32_t)world_between(&s->world, 1, replicas);
}

static void sim_draw_policy(struct sim *s, struct topology_policy *policy)
{
    struct world *w = &s->world;
    policy->hung_after_ms = (uint32_t)world_between(w, 1000, 3000);
    policy->unreachable_after_ms = (uint32_t)world_between(w, 700, 1500);
    if (world_chance(w, 700))
        policy->cooldown_ms = (uint32_t)world_between(w, 0, world_chance(w, 500) ? 100 : 4000);
}

/* The record as `mrctl adopt` leaves it, or as it is once the replicas were found and registered. */
static void sim_adopt(struct sim *s, int instance, bool registered)
{
    struct zk_node *node = &s->zk.nodes[instance];
    struct topology_instance *record = &node->record;
    memset(record, 0, sizeof(*record));
    snprintf(record->name, sizeof(record->name), "i%d", instance);
    record->port = (uint16_t)(6100 + instance);
    record->state = TOPOLOGY_STABLE;
    record->epoch = 1;
    topology_policy_default(&record->policy);
    sim_draw_policy(s, &record->policy);
    sim_draw_strict(s, instance, registered, &record->policy);
    record->n_members = registered                                          ? (uint32_t)s->n_members[instance]
                        : s->strict[instance] && s->n_members[instance] > 2 ? 2
                                                                            : 1;
    for (uint32_t m = 0; m < record->n_members; m++) {
        int redis = sim_redis_index(instance, (int)m);
        sim_redis_address(redis, &record->members[m].address);
        sim_redis_run_id(s, redis, record->members[m].run_id);
        if (m > 0 && world_chance(&s->world, s->story == SIM_REDIS_CHAOS ? 300 : 150))
            record->members[m].priority =
                (enum topology_priority)world_between(&s->world, TOPOLOGY_PREFER, TOPOLOGY_MUST_NOT);
    }
    record->master = record->members[0].address;
    struct info info;
    sim_redis_info(s, sim_redis_index(instance, 0), &info);
    struct topology_epoch row = {.epoch = 1, .start_offset = 0};
    memcpy(row.repl_id, info.repl_id, sizeof(row.repl_id));
    topology_epoch_append(record, &row);
    node->version = 0;
    node->revision = ++s->zk.zxid;
    char why[200];
    if (topology_check(record, why, sizeof(why)) != 0)
        world_fail(&s->world, "record", "the simulator's own first record: %s", why);
}

static void sim_create(struct sim *s, uint64_t seed)
{
    struct world *w = &s->world;
    world_reset(w, seed);
    s->seed = seed;
    s->story = (enum sim_story)(seed % SIM_STORIES);
    s->calm = s->gone_for_good = s->done = false;
    s->calm_us = s->settled_us = s->checked_us = 0;
    s->ids = 0;
    s->blind = -1;
    s->quiet = false;
    s->cuts = 0;
    s->order_ids = 0;
    s->actions = 0;
    memset(&s->maintenance, 0, sizeof(s->maintenance));
    memset(s->id_epoch, 0, sizeof(s->id_epoch));
    sim_monitor_create(s);
    s->n_instances = (int)world_between(w, 1, SIM_INSTANCES);
    s->loss_permille = world_chance(w, 500) ? 0 : 30;
    s->slow_permille = world_chance(w, 500) ? 0 : 20;
    s->info_period_us = world_between(w, 400000, 1200000);
    memset(s->cut_until, 0, sizeof(s->cut_until));
    memset(s->strict, 0, sizeof(s->strict));
    s->stale_until_us = 0;
    sim_zk_create(s);
    bool alone = s->story != SIM_ONE_FAULT && s->story != SIM_HANG && s->story != SIM_SWITCHOVER &&
                 s->story != SIM_STRICT;
    for (int r = 0; r < SIM_REDISES; r++)
        s->redis[r].exists = s->redis[r].alive = false;
    for (int i = 0; i < s->n_instances; i++) {
        s->n_members[i] = (int)world_between(w, alone ? 1 : 2, SIM_MEMBERS);
        for (int m = 0; m < s->n_members[i]; m++) {
            int redis = sim_redis_index(i, m), master = sim_redis_index(i, 0);
            sim_redis_create(s, redis, i, m == 0, master);
            s->redis[redis].boot = (enum redis_boot)world_between(w, REDIS_BOOT_MASTER, REDIS_BOOT_ORPHAN);
            if (m == 0 && s->redis[redis].boot == REDIS_BOOT_REPLICA)
                s->redis[redis].boot = REDIS_BOOT_MASTER;
            if (s->story ==
                SIM_STRICT) /* who comes back by itself acknowledges behind the controllers' backs */
                s->redis[redis].boot = REDIS_BOOT_ORPHAN;
            s->redis[redis].boot_follows = master;
        }
        sim_adopt(s, i, world_chance(w, 700));
    }
    invariants_create(s);
    memset(s->controllers, 0, sizeof(s->controllers));
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        s->controllers[c].rate_permille = (int)world_between(w, 900, 1100);
        sim_controller_start(s, c);
    }
    for (int p = 0; p < SIM_PROXIES; p++)
        sim_proxy_start(s, p);
    faults_plan(s);
    sim_fence_create(s);
    world_trace(w, "seed %llu: %s, %d instance(s)", (unsigned long long)seed, sim_stories[s->story],
                s->n_instances);
}

/* True when the seed passes. */
bool sim_run(struct sim *s, uint64_t seed)
{
    sim_create(s, seed);
    while (!s->done && !s->world.failed) {
        if (!world_turn(s, &s->world))
            world_fail(&s->world, "progress", "nothing will ever happen again");
        else if (s->world.fired > SIM_EVENTS_MAX)
            world_fail(&s->world, "progress", "more than %d events", SIM_EVENTS_MAX);
        invariants_watch_end(s);
    }
    for (int c = 0; c < SIM_CONTROLLERS; c++)
        sim_controller_end(s, c);
    for (int r = 0; r < SIM_REDISES; r++)
        sim_redis_end(s, r);
    for (int p = 0; p < SIM_PROXIES; p++)
        sim_proxy_end(s, p);
    s->stats->seeds++;
    s->stats->events += s->world.fired;
    s->stats->stories[s->story]++;
    s->stats->failures += s->world.failed;
    return !s->world.failed;
}

void sim_free(struct sim *s)
{
    world_free(&s->world);
    for (int r = 0; r < SIM_REDISES; r++) {
        free(s->redis[r].data.writes);
        free(s->redis[r].disk.writes);
    }
    free(s);
}

struct sim *sim_new(struct sim_stats *stats)
{
    struct sim *s = (struct sim *)calloc(1, sizeof(*s));
    if (!s)
        abort();
    s->stats = stats;
    return s;
}
