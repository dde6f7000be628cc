/* Carries out what a core said, and brings each outcome back as one event.
 *
 *   COMMIT, HISTORY, RELOAD ─► zk_store      SEAL, PROMOTE, REPLICATE, PROBE, PAUSE, DONATE, FENCE ─► monitor
 *   PUBLISH, HOLD ─► announcer               REPORT ─► log, on_event
 *   SURVEY ─► voters (engine_trust.c)        ANSWER ─► the operator (engine_commands.c)
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

struct engine_order *engine_order_new(struct engine_instance *i, enum engine_bearer bearer,
                                      enum failover_event_type answer, const struct failover_action *a)
{
    struct engine_order *o = calloc(1, sizeof(*o));
    if (!o) { /* without it the core would wait for ever for its answer */
        log_error("event=engine.no_memory instance=%s next=\"this controller ends; another one takes over\"",
                  i->name);
        abort();
    }
    o->instance = i;
    o->bearer = bearer;
    o->answer = answer;
    o->epoch = a->epoch;
    o->asked_us = loop_now_us(i->engine->loop);
    if (a->type != FAILOVER_DO_COMMIT && a->type != FAILOVER_DO_HOLD) {
        assert(a->member >= 0 && a->member < (int)i->failover.record.n_members);
        o->about = i->failover.record.members[a->member].address;
    }
    list_push_back(&i->orders, &o->node);
    return o;
}

void engine_order_free(struct engine_order *o)
{
    list_remove(&o->node);
    free(o);
}

/* The monitor says nothing any more about a member that it doesn't watch, and the votes find no order; the
 * store and the loop still come for theirs. */
void engine_orders_forget(struct engine_instance *i, const struct engine_member *member)
{
    list_for_each(node, &i->orders)
    {
        struct engine_order *o = list_entry(node, struct engine_order, node);
        if (member && o->member != member)
            continue;
        if (o->bearer == ENGINE_BY_STORE || o->bearer == ENGINE_BY_LOOP) {
            o->instance = NULL;
            list_remove(&o->node);
            if (o->bearer == ENGINE_BY_STORE)
                list_push_back(&i->engine->orphans, &o->node);
        } else {
            engine_order_free(o);
        }
    }
}

void engine_order_answer(struct engine_order *o, const struct failover_event *outcome)
{
    struct engine_instance *i = o->instance;
    struct failover_event event = engine_event(i, o->answer);
    event.err = outcome->err;
    event.version = outcome->version;
    event.revision = outcome->revision;
    event.info = outcome->info;
    event.votes = outcome->votes;
    event.text = outcome->text;
    event.open = outcome->open;
    event.epoch = o->epoch;
    bool about_member = topology_address_is_set(&o->about);
    event.member = about_member ? topology_member_find(&i->failover.record, &o->about) : -1;
    engine_order_free(o);
    if (!about_member || event.member >= 0)
        engine_step(i, &event);
}

/* ---- members --------------------------------------------------------------------------------------------
 */

static void engine_order_end(struct engine_order *o, const struct failover_event *outcome)
{
    int err = outcome->err;
    int64_t took_us = loop_now_us(o->instance->engine->loop) - o->asked_us;
    orders_note(o->instance->counts, o->answer, err, took_us);
    if (err != 0) {
        char address[TOPOLOGY_ADDRESS_MAX + 1];
        engine_say(o->instance->engine, o->instance->name, FAILOVER_WARN,
                   "event=order.failed instance=%s member=%s order=%s reason=%s say=\"%s\"",
                   o->instance->name, topology_address_format(&o->about, address),
                   failover_event_name(o->answer), err_name(err), outcome->text);
    }
    engine_order_answer(o, outcome);
}

static void engine_on_order_done(void *ctx, int err, const struct info *info, const char *text)
{
    struct failover_event outcome = {.err = err, .info = info, .text = text};
    engine_order_end(ctx, &outcome);
}

static void engine_on_fenced(void *ctx, int err, bool open, const char *text)
{
    struct engine_instance *i = ((struct engine_order *)ctx)->instance;
    struct failover_event outcome = {.err = err, .open = open, .text = text};
    engine_order_end(ctx, &outcome);
    engine_note_change(i); /* who may log in where is shown */
}

static void engine_on_order_unsent(void *ctx)
{
    struct engine_order *o = ctx;
    if (o->instance)
        engine_on_order_done(o, o->err, NULL, "this member is not watched");
    else
        engine_order_free(o);
}

static struct engine_member *engine_member_of(const struct engine_instance *i, int member)
{
    assert(member >= 0 && member < (int)i->failover.record.n_members);
    for (uint32_t k = 0; k < i->n_members; k++)
        if (topology_address_equal(&i->members[k]->address, &i->failover.record.members[member].address))
            return i->members[k];
    return NULL;
}

/* An order that is answered. A member that could not be watched (engine_member_add said so) answers, too. */
static void engine_order_member(struct engine_instance *i, const struct failover_action *a,
                                enum failover_event_type answer)
{
    struct engine_member *m = engine_member_of(i, a->member);
    struct engine_order *o = engine_order_new(i, m ? ENGINE_BY_MONITOR : ENGINE_BY_LOOP, answer, a);
    o->member = m;
    if (!m) {
        o->err = ERR_CONNECTION;
        engine_later(i->engine, engine_on_order_unsent, o);
    } else if (a->type == FAILOVER_DO_SEAL) {
        monitor_seal(m->monitor, engine_on_order_done, o);
    } else if (a->type == FAILOVER_DO_PROMOTE) {
        monitor_promote(m->monitor, engine_on_order_done, o);
    } else if (a->type == FAILOVER_DO_REPLICATE) {
        monitor_replicate(m->monitor, &a->target, engine_on_order_done, o);
    } else if (a->type == FAILOVER_DO_PAUSE) {
        monitor_pause(m->monitor, a->limit_ms, engine_on_order_done, o);
    } else if (a->type == FAILOVER_DO_FENCE) {
        monitor_fence(m->monitor, &a->fence, engine_on_fenced, o);
    } else {
        assert(a->type == FAILOVER_DO_DONATE);
        monitor_donate(m->monitor, a->limit_ms, engine_on_order_done, o);
    }
}

/* ---- store ----------------------------------------------------------------------------------------------
 */

static void engine_on_commit(void *ctx, int err, int32_t version, int64_t revision)
{
    struct engine_order *o = ctx;
    struct failover_event outcome = {.err = err, .version = version, .revision = revision};
    if (!o->instance) {
        engine_order_free(o);
        return;
    }
    if (err != 0)
        o->answer = FAILOVER_ON_COMMIT_FAILED;
    engine_order_answer(o, &outcome);
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
    struct engine_order *o = engine_order_new(i, ENGINE_BY_STORE, FAILOVER_ON_COMMITTED, a);
    int err = zk_store_commit(e->store, &i->failover.proposed, i->failover.version,
                              a->has_history ? &update->history : NULL, engine_on_commit, o);
    if (err == 0)
        return;
    o->bearer = ENGINE_BY_LOOP;
    o->err = err;
    engine_later(e, engine_on_commit_unsent, o);
}

static void engine_append_history(struct engine_instance *i, const struct failover_update *update)
{
    int err = zk_store_append_history(i->engine->store, i->name, &update->history);
    if (err != 0)
        engine_say(i->engine, i->name, FAILOVER_WARN,
                   "event=history.lost instance=%s kind=%s evidence=\"%s\" reason=\"%s\"", i->name,
                   topology_history_kind_name(update->history.kind), update->history.evidence, err_text(err));
}

/* ---- the update -----------------------------------------------------------------------------------------
 */

static void engine_publish(struct engine_instance *i, const struct failover_event *event,
                           struct failover_update *update)
{
    struct failover *f = &i->failover;
    if (f->phase == FAILOVER_SEAL || f->phase == FAILOVER_FINISH) /* else somebody may have switched before */
        engine_acks_begin(i, f->route.epoch);
    announcer_publish(i->engine->config.announcer, &f->route, f->revision);
    if (f->phase != FAILOVER_FINISH || update->history.kind != TOPOLOGY_HISTORY_FAILOVER)
        return;
    /* The core has no clock: how long it took from the promotion's answer until here is for us to fill in. */
    int64_t took_us = loop_clock_us() - event->now_us;
    f->timeline.publish_us = f->proposed.failover.timeline.publish_us = update->history.timeline.publish_us =
        took_us;
}

static void engine_report(const struct engine_instance *i, const struct failover_report *r)
{
    engine_say(i->engine, i->name, r->level, "%s row=%u", r->text, r->row);
}

static void engine_run_order(struct engine_instance *i, const struct failover_action *a)
{
    static const enum failover_event_type answers[] = {
        [FAILOVER_DO_SEAL] = FAILOVER_ON_SEALED,           [FAILOVER_DO_PROMOTE] = FAILOVER_ON_PROMOTED,
        [FAILOVER_DO_REPLICATE] = FAILOVER_ON_REPLICATING, [FAILOVER_DO_PAUSE] = FAILOVER_ON_PAUSED,
        [FAILOVER_DO_DONATE] = FAILOVER_ON_DONATING,       [FAILOVER_DO_FENCE] = FAILOVER_ON_FENCED,
    };
    if (a->type != FAILOVER_DO_PROBE && a->type != FAILOVER_DO_UNPAUSE) {
        engine_order_member(i, a, answers[a->type]);
        return;
    }
    struct engine_member *m = engine_member_of(i, a->member);
    if (m && a->type == FAILOVER_DO_PROBE)
        monitor_probe(m->monitor);
    else if (m)
        monitor_unpause(m->monitor);
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
            engine_report(i, &update->reports[a->report]);
            break;
        case FAILOVER_DO_SURVEY:
            engine_survey(i, a);
            break;
        case FAILOVER_DO_HOLD:
            engine_hold_begin(i, a);
            break;
        case FAILOVER_DO_ANSWER:
            engine_command_answer(i, a->command, a->err, update->reports[a->report].text);
            break;
        case FAILOVER_DO_PROBE:
        case FAILOVER_DO_SEAL:
        case FAILOVER_DO_PROMOTE:
        case FAILOVER_DO_REPLICATE:
        case FAILOVER_DO_PAUSE:
        case FAILOVER_DO_UNPAUSE:
        case FAILOVER_DO_DONATE:
        case FAILOVER_DO_FENCE:
            engine_run_order(i, a);
            break;
        }
    }
}
