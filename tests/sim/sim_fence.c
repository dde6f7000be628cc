/* fence=acl: applications that log in to members directly, and what must be so of members' ACLs.
 *
 *   FENCE (sim_fencing.c) ─► users of a process: one bit an epoch ◄─ login, with the newest epoch that it has
 *                              └─► connection, cut when its user goes         heard of ── application
 *
 * ACLs are per process and gone with it. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <string.h>

enum { FENCE_FIRST_US = 300000, FENCE_LOOK_US = 150000 };

static bool fence_has(const struct sim_redis *r, uint64_t epoch)
{
    return epoch < SIM_EPOCHS && (r->acl.on[epoch / 64] >> epoch % 64 & 1);
}

static bool fence_has_others(const struct sim_redis *r, uint64_t epoch)
{
    for (uint64_t e = 0; e < SIM_EPOCHS; e++)
        if (e != epoch && fence_has(r, e))
            return true;
    return false;
}

void sim_fence_on_start(struct sim *s, int redis)
{
    memset(&s->redis[redis].acl, 0, sizeof(s->redis[redis].acl));
}

/* ---- what becomes of FENCEs -----------------------------------------------------------------------------
 */

/* Whose user is gone is cut. */
void sim_fence_cut(struct sim *s, int redis)
{
    const struct sim_redis *r = &s->redis[redis];
    for (int k = 0; k < SIM_APPS; k++) {
        struct sim_app *app = &s->apps[r->instance][k];
        if (app->connected && app->redis == redis && !fence_has(r, app->epoch))
            app->connected = false;
    }
}

void sim_fence_on_done(struct sim *s, int redis, uint64_t epoch, bool keep)
{
    struct sim_acl *acl = &s->redis[redis].acl;
    if (epoch > acl->fenced_epoch)
        acl->fenced_epoch = epoch;
    if (keep && epoch >= acl->unfenced_epoch)
        acl->unfenced_epoch = 0;
}

void sim_fence_on_refused(struct sim *s, int redis, uint64_t epoch)
{
    struct sim_acl *acl = &s->redis[redis].acl;
    if (epoch > acl->unfenced_epoch)
        acl->unfenced_epoch = epoch;
}

/* ---- applications -------------------------------------------------------------------------------------- */

/* A member that has been fenced for a newer epoch lets nobody of this one in, and has cut who was. */
static void fence_check_login(struct sim *s, int redis, uint64_t epoch, const char *what)
{
    const struct sim_redis *r = &s->redis[redis];
    if (epoch < r->acl.fenced_epoch)
        world_fail(&s->world, "fenced", "%d, fenced for epoch %llu, %s an application of epoch %llu%s", redis,
                   (unsigned long long)r->acl.fenced_epoch, what, (unsigned long long)epoch,
                   r->is_master ? ", and takes its writes" : "");
}

static void fence_on_look(struct sim *s, struct world_event *e)
{
    struct sim_app *app = &s->apps[e->who][e->target];
    const struct topology_instance *record = &s->zk.nodes[e->who].record;
    struct world_event *next = world_after(&s->world, FENCE_LOOK_US, fence_on_look);
    next->who = e->who;
    next->target = e->target;
    if (record->state != TOPOLOGY_SEALING && world_chance(&s->world, 600))
        app->known = record->epoch;
    const struct sim_redis *r = &s->redis[app->redis];
    if (app->connected && (!r->alive || r->process != app->process))
        app->connected = false;
    if (app->connected) {
        fence_check_login(s, app->redis, app->epoch, "still serves");
        if (world_chance(&s->world, 900))
            return;
    }
    app->redis = sim_redis_index(e->who, (int)world_between(&s->world, 0, s->n_members[e->who] - 1));
    r = &s->redis[app->redis];
    app->connected = r->alive && r->stopped_us == 0 && fence_has(r, app->known);
    if (!app->connected)
        return;
    app->process = r->process;
    app->epoch = app->known;
    s->stats->logins++;
    fence_check_login(s, app->redis, app->epoch, "lets in");
}

/* ---- what must be so when ------------------------------------------------------------------------------ */

/* Whoever is promoted, or told of as the master, lets its epoch's applications in, and no others. */
static void fence_check_master(struct sim *s, int redis, uint64_t epoch, const char *what)
{
    const struct sim_redis *r = &s->redis[redis];
    const struct topology_instance *record = &s->zk.nodes[r->instance].record;
    if (!topology_is_fenced(record) || record->epoch != epoch || r->acl.unfenced_epoch == epoch ||
        !r->is_master || !r->alive || !invariants_trusted(s, record, redis) || epoch >= SIM_EPOCHS)
        return;
    if (!fence_has(r, epoch) || fence_has_others(r, epoch))
        world_fail(&s->world, "fenced", "i%d: %d is %s in epoch %llu, and its ACL %s", r->instance, redis,
                   what, (unsigned long long)epoch,
                   fence_has(r, epoch) ? "lets others in, too" : "doesn't let its applications in");
}

void sim_fence_on_promote(struct sim *s, int redis, uint64_t epoch)
{
    fence_check_master(s, redis, epoch, "promoted");
}

/* Whoever was sealed has cut everybody before it is another's replica. */
void sim_fence_on_replicate(struct sim *s, int redis, uint64_t epoch)
{
    const struct sim_redis *r = &s->redis[redis];
    const struct topology_instance *record = &s->zk.nodes[r->instance].record;
    if (topology_is_fenced(record) && record->epoch == epoch && r->sealed_epoch == epoch &&
        r->acl.unfenced_epoch != epoch && fence_has_others(r, epoch))
        world_fail(&s->world, "fenced", "%d was sealed, and goes on with applications of before epoch %llu",
                   redis, (unsigned long long)epoch);
}

void sim_fence_on_publish(struct sim *s, const struct message *m)
{
    if (m->fence_user[0] != '\0')
        fence_check_master(s, sim_redis_at(&m->master), m->epoch, "published as master");
}

bool sim_fence_settled(const struct sim *s, int redis)
{
    const struct sim_redis *r = &s->redis[redis];
    const struct topology_instance *record = &s->zk.nodes[r->instance].record;
    return !topology_is_fenced(record) || r->refuses_acl ||
           (fence_has(r, record->epoch) && !fence_has_others(r, record->epoch));
}

/* ---- the beginning ------------------------------------------------------------------------------------- */

static void fence_on_begin(struct sim *s, struct world_event *e)
{
    sim_operator_fence(s, e->who, true);
}

/* A third of the seeds, by their number: the course of the others stays as it was. */
void sim_fence_create(struct sim *s)
{
    memset(s->apps, 0, sizeof(s->apps));
    for (int c = 0; c < SIM_CONTROLLERS; c++)
        for (int r = 0; r < SIM_REDISES; r++)
            s->fencings[c][r].number = 0;
    for (int i = 0; i < SIM_INSTANCES; i++)
        s->fence[i] = i < s->n_instances && s->seed / SIM_STORIES % 3 == 1;
    for (int r = 0; r < SIM_REDISES; r++) {
        sim_fence_on_start(s, r);
        s->redis[r].refuses_acl = s->redis[r].template_off = false;
    }
    for (int i = 0; i < s->n_instances; i++) {
        if (!s->fence[i])
            continue;
        for (int m = 0; m < s->n_members[i]; m++) {
            s->redis[sim_redis_index(i, m)].refuses_acl = world_chance(&s->world, 60);
            s->redis[sim_redis_index(i, m)].template_off = world_chance(&s->world, 500);
        }
        for (int64_t at_us = FENCE_FIRST_US; at_us < 1500000; at_us += 400000)
            world_after(&s->world, at_us, fence_on_begin)->who = i;
        for (int k = 0; k < SIM_APPS; k++) {
            struct world_event *e =
                world_after(&s->world, world_between(&s->world, 1, FENCE_LOOK_US), fence_on_look);
            e->who = i;
            e->target = k;
        }
    }
}
