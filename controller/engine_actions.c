/* Carries out what a core said, and brings each outcome back as one event.
 *
 *   COMMIT, HISTORY, RELOAD ─► zk_store      SEAL, PROMOTE, REPLICATE, PROBE ─► monitor
 *   PUBLISH ─► announcer                     REPORT ─► log
 */
#include "common/log.h"
#include "common/loop.h"
#include "controller/announcer.h"
#include "controller/engine_instance.h"
#include "controller/zk_store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- orders ---------------------------------------------------------------------------------------------
 */

static struct engine_order *engine_order_new(struct engine_instance *i, struct engine_member *member,
                                             enum failover_event_type answer, uint64_t epoch)
{
    struct engine_order *o = calloc(1, sizeof(*o));
    if (!o) { /* without it the core would wait for ever for its answer */
        log_error("event=engine.no_memory instance=%s next=\"this controller ends; another one takes over\"",
                  i->name);
        abort();
    }
    o->instance = i;
    o->member = member;
    o->answer = answer;
    o->epoch = epoch;
    list_push_back(&i->orders, &o->node);
    return o;
}

static void engine_order_free(struct engine_order *o)
{
    list_remove(&o->node);
    free(o);
}

/* The monitor says nothing any more about a member that it doesn't watch; the store and the loop still will.
 */
void engine_orders_forget(struct engine_instance *i, const struct engine_member *member)
{
    list_for_each(node, &i->orders)
    {
        struct engine_order *o = list_entry(node, struct engine_order, node);
        if (member && o->member == member) {
            engine_order_free(o);
        } else if (!member) {
            o->instance = NULL;
            list_remove(&o->node);
        }
    }
}

static void engine_order_answer(struct engine_order *o, struct failover_event *event)
{
    struct engine_instance *i = o->instance;
    event->type = o->answer;
    event->now_us = loop_now_us(i->engine->loop);
    event->wall_ms = loop_wall_ms();
    event->epoch = o->epoch;
    event->member = o->member ? topology_member_find(&i->failover.record, &o->member->address) : -1;
    engine_order_free(o);
    engine_step(i, event);
}

/* ---- members --------------------------------------------------------------------------------------------
 */

static void engine_on_order_done(void *ctx, int err, const struct info *info, const char *text)
{
    struct engine_order *o = ctx;
    struct failover_event event;
    memset(&event, 0, sizeof(event));
    event.err = err;
    event.info = info;
    if (err != 0) {
        char address[TOPOLOGY_ADDRESS_MAX + 1];
        log_warn("event=order.failed instance=%s member=%s order=%s reason=%s say=\"%s\"", o->instance->name,
                 topology_address_format(&o->member->address, address), failover_event_name(o->answer),
                 err_name(err), text);
    }
    engine_order_answer(o, &event);
}

static struct engine_member *engine_member_of(struct engine_instance *i, int member)
{
    assert(member >= 0 && member < (int)i->failover.record.n_members);
    for (uint32_t k = 0; k < i->n_members; k++)
        if (topology_address_equal(&i->members[k]->address, &i->failover.record.members[member].address))
            return i->members[k];
    return NULL;
}

static void engine_order_member(struct engine_instance *i, const struct failover_action *a)
{
    struct engine_member *m = engine_member_of(i, a->member);
    if (!m)
        return; /* it could not be watched (engine_add_member said so): the core's time limits go on without
                   it */
    switch (a->type) {
    case FAILOVER_DO_PROBE:
        monitor_probe(m->monitor);
        break;
    case FAILOVER_DO_SEAL:
        monitor_seal(m->monitor, engine_on_order_done, engine_order_new(i, m, FAILOVER_ON_SEALED, a->epoch));
        break;
    case FAILOVER_DO_PROMOTE:
        monitor_promote(m->monitor, engine_on_order_done,
                        engine_order_new(i, m, FAILOVER_ON_PROMOTED, a->epoch));
        break;
    case FAILOVER_DO_REPLICATE:
        monitor_replicate(m->monitor, &a->target, engine_on_order_done,
                          engine_order_new(i, m, FAILOVER_ON_REPLICATING, a->epoch));
        break;
    default:
        assert(!"not an order to a member");
    }
}

/* ---- store ----------------------------------------------------------------------------------------------
 */

static void engine_on_commit(void *ctx, int err, int32_t version, int64_t revision)
{
    struct engine_order *o = ctx;
    struct failover_event event;
    if (!o->instance) {
        free(o);
        return;
    }
    memset(&event, 0, sizeof(event));
    if (err != 0)
        o->answer = FAILOVER_ON_COMMIT_FAILED;
    event.err = err;
    event.version = version;
    event.revision = revision;
    engine_order_answer(o, &event);
}

static void engine_on_commit_unsent(void *ctx)
{
    struct engine_order *o = ctx;
    engine_on_commit(o, o->err, 0, 0);
}

static void engine_commit(struct engine_instance *i, const struct failover_action *a,
                          const struct failover_update *update)
{
    struct engine *e = i->engine;
    struct engine_order *o = engine_order_new(i, NULL, FAILOVER_ON_COMMITTED, a->epoch);
    int err = zk_store_commit(e->store, &i->failover.proposed, i->failover.version,
                              a->has_history ? &update->history : NULL, engine_on_commit, o);
    if (err == 0)
        return;
    o->err = err;
    if (loop_wake(e->loop, engine_on_commit_unsent, o) != 0)
        abort(); /* out of memory: see engine_order_new */
}

static void engine_append_history(struct engine_instance *i, const struct failover_update *update)
{
    int err = zk_store_append_history(i->engine->store, i->name, &update->history);
    if (err != 0)
        log_warn("event=history.lost instance=%s kind=%s evidence=\"%s\" reason=\"%s\"", i->name,
                 topology_history_kind_name(update->history.kind), update->history.evidence, err_text(err));
}

/* ---- the update -----------------------------------------------------------------------------------------
 */

static void engine_publish(struct engine_instance *i, const struct failover_event *event,
                           struct failover_update *update)
{
    struct failover *f = &i->failover;
    if (f->route.epoch > i->acks.epoch) { /* from here on "0 switched" means that nobody has yet */
        memset(&i->acks, 0, sizeof(i->acks));
        i->acks.epoch = f->route.epoch;
    }
    announcer_publish(i->engine->config.announcer, &f->route, f->revision);
    if (f->phase != FAILOVER_FINISH || update->history.kind != TOPOLOGY_HISTORY_FAILOVER)
        return;
    /* The core has no clock: how long it took from the promotion's answer until here is for us to fill in. */
    int64_t took_us = loop_clock_us() - event->now_us;
    f->timeline.publish_us = f->proposed.failover.timeline.publish_us = update->history.timeline.publish_us =
        took_us;
}

static void engine_report(const struct failover_report *r)
{
    static const enum log_level levels[] = {[FAILOVER_INFO] = LOG_LEVEL_INFO,
                                            [FAILOVER_WARN] = LOG_LEVEL_WARN,
                                            [FAILOVER_ERROR] = LOG_LEVEL_ERROR};
    log_line(levels[r->level], "%s row=%u", r->text, r->row);
}

void engine_run(struct engine_instance *i, const struct failover_event *event, struct failover_update *update)
{
    for (uint32_t k = 0; k < update->n; k++) {
        const struct failover_action *a = &update->actions[k];
        switch (a->type) {
        case FAILOVER_DO_COMMIT:
            engine_commit(i, a, update);
            break;
        case FAILOVER_DO_HISTORY:
            engine_append_history(i, update);
            break;
        case FAILOVER_DO_PUBLISH:
            engine_publish(i, event, update);
            break;
        case FAILOVER_DO_RELOAD:
            zk_store_reload(i->engine->store, i->name);
            break;
        case FAILOVER_DO_REPORT:
            engine_report(&update->reports[a->report]);
            break;
        case FAILOVER_DO_SURVEY:
        case FAILOVER_DO_HOLD:
        case FAILOVER_DO_PAUSE:
        case FAILOVER_DO_UNPAUSE:
        case FAILOVER_DO_DONATE:
        case FAILOVER_DO_ANSWER:
            break; /* wired with the evidence of step 2 */
        case FAILOVER_DO_PROBE:
        case FAILOVER_DO_SEAL:
        case FAILOVER_DO_PROMOTE:
        case FAILOVER_DO_REPLICATE:
            engine_order_member(i, a);
            break;
        }
    }
}
