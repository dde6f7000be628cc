/* Registry of instances, records, leadership, life. engine_instance.h says what is in which file. */
#include "controller/engine.h"

#include "common/log.h"
#include "common/loop.h"
#include "controller/announcer.h"
#include "controller/engine_instance.h"

#include <assert.h>
#include <inttypes.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENGINE_LINE_MAX = 1024 }; /* bytes of a line for on_event; what is longer is cut off */

static int engine_compare(const void *a, const void *b)
{
    const struct engine_instance *x = a, *y = b;
    return strcmp(x->name, y->name);
}

struct engine_instance *engine_lookup(const struct engine *e, const char *name)
{
    struct engine_instance key;
    if (strlen(name) > TOPOLOGY_NAME_MAX)
        return NULL;
    memcpy(key.name, name, strlen(name) + 1);
    struct engine_instance *const *found = tfind(&key, &e->by_name, engine_compare);
    return found ? *found : NULL;
}

void engine_say(const struct engine *e, const char *instance, enum failover_level level, const char *fmt, ...)
{
    static const enum log_level levels[] = {[FAILOVER_INFO] = LOG_LEVEL_INFO,
                                            [FAILOVER_WARN] = LOG_LEVEL_WARN,
                                            [FAILOVER_ERROR] = LOG_LEVEL_ERROR};
    char line[ENGINE_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    log_line(levels[level], "%s", line);
    if (e->config.on_event)
        e->config.on_event(e->config.ctx, instance, level, line);
}

void engine_later(struct engine *e, void (*fn)(void *ctx), void *ctx)
{
    if (loop_wake(e->loop, fn, ctx) == 0)
        return;
    log_error("event=engine.no_memory next=\"this controller ends; another one takes over\"");
    abort();
}

/* ---- one step -------------------------------------------------------------------------------------------
 */

struct failover_event engine_event(const struct engine_instance *i, enum failover_event_type type)
{
    const struct engine *e = i->engine;
    struct failover_event event;
    memset(&event, 0, sizeof(event));
    event.type = type;
    event.now_us = loop_now_us(e->loop);
    event.wall_ms = loop_wall_ms();
    event.member = -1;
    event.trust = &e->outlook.trust;
    event.maintenance = e->maintenance.owner[0] != '\0' ? &e->maintenance : NULL;
    return event;
}

static void engine_on_deadline(struct ev_loop *ev, ev_timer *timer, int revents)
{
    (void)ev;
    (void)revents;
    struct engine_instance *i = timer->data;
    struct failover_event event = engine_event(i, FAILOVER_ON_TICK);
    engine_step(i, &event);
}

void engine_note_change(struct engine_instance *i)
{
    struct engine *e = i->engine;
    if (i->failover.revision > e->revision)
        e->revision = i->failover.revision;
    if (e->config.on_change)
        e->config.on_change(e->config.ctx, i->name, i->failover.revision);
}

static void engine_arm(struct engine_instance *i)
{
    struct ev_loop *ev = loop_ev(i->engine->loop);
    int64_t deadline_us = failover_deadline_us(&i->failover);
    ev_timer_stop(ev, &i->deadline);
    if (deadline_us == 0)
        return;
    int64_t left_us = deadline_us - loop_now_us(i->engine->loop);
    ev_timer_set(&i->deadline, left_us > 500 ? (double)left_us / 1e6 : 0.0005, 0.);
    ev_timer_start(ev, &i->deadline);
}

void engine_step(struct engine_instance *i, struct failover_event *event)
{
    struct failover_update update;
    int64_t revision = i->failover.revision;
    enum failover_phase phase = i->failover.phase;
    failover_step(&i->failover, event, &update);
    if (i->failover.revision != revision)
        engine_members_sync(i);
    engine_run(i, event, &update);
    if (i->failover.phase != FAILOVER_HOLD && i->failover.phase != FAILOVER_DRAIN)
        engine_hold_end(i);
    engine_strict_sync(i);
    engine_arm(i);
    if (i->failover.revision != revision || i->failover.phase != phase)
        engine_note_change(i);
}

/* ---- from the store -------------------------------------------------------------------------------------
 */

static const char engine_deposed[] = "leadership has changed; ask the new leader what became of it";

static struct engine_instance *engine_add(struct engine *e, const char *name)
{
    struct engine_instance *i = calloc(1, sizeof(*i));
    if (!i || strlen(name) > TOPOLOGY_NAME_MAX)
        goto fail;
    i->engine = e;
    memcpy(i->name, name, strlen(name) + 1);
    list_init(&i->orders);
    list_init(&i->commands);
    list_init(&i->hold.node);
    list_init(&i->strict.node);
    failover_init(&i->failover);
    ev_init(&i->deadline, engine_on_deadline);
    i->deadline.data = i;
    if (!tsearch(i, &e->by_name, engine_compare))
        goto fail;
    e->count++;
    return i;
fail:
    engine_say(e, name, FAILOVER_ERROR,
               "event=instance.dropped instance=%s reason=\"out of memory\" next=\"restart this controller\"",
               name);
    free(i);
    return NULL;
}

static void engine_free(struct engine_instance *i)
{
    ev_timer_stop(loop_ev(i->engine->loop), &i->deadline);
    engine_hold_end(i);
    engine_strict_end(i);
    engine_members_drop(i);
    engine_orders_forget(i, NULL);
    engine_set_clear(&i->acked);
    assert(list_empty(&i->commands));
    free(i);
}

/* A command belongs to the term in which it was given. */
static void engine_lead_instance(struct engine_instance *i, uint64_t term, int err, const char *text)
{
    struct failover_event event = engine_event(i, FAILOVER_ON_LEAD);
    event.term = term;
    engine_step(i, &event);
    engine_commands_end(i, err, text);
}

void engine_on_record(struct engine *e, const struct topology_instance *record, int32_t version,
                      int64_t revision)
{
    struct engine_instance *i = engine_lookup(e, record->name);
    bool is_new = i == NULL;
    if (!i)
        i = engine_add(e, record->name);
    if (!i)
        return;
    i->corrupt[0] = '\0';
    struct failover_event event = engine_event(i, FAILOVER_ON_RECORD);
    if (i->failover.term != e->term) { /* new here, or readable again */
        engine_lead_instance(i, e->term, ERR_DEPOSED, engine_deposed);
    }
    event.record = record;
    event.version = version;
    event.revision = revision;
    engine_step(i, &event);
    if (!is_new || e->term == 0)
        return;
    if (topology_route(record))
        engine_acks_begin(i, record->epoch);
    announcer_publish(e->config.announcer, record, revision);
}

void engine_on_removed(struct engine *e, const char *name)
{
    struct engine_instance *i = engine_lookup(e, name);
    if (!i)
        return;
    engine_say(e, name, FAILOVER_INFO, "event=instance.removed instance=%s", name);
    engine_commands_end(i, ERR_NOT_FOUND, "the instance was deleted meanwhile");
    announcer_drop(e->config.announcer, name, i->failover.record.port, i->failover.revision);
    tdelete(i, &e->by_name, engine_compare);
    e->count--;
    engine_note_change(i);
    engine_free(i);
}

void engine_on_corrupt(struct engine *e, const char *name, const char *why)
{
    struct engine_instance *i = engine_lookup(e, name);
    engine_say(e, name, FAILOVER_ERROR,
               "event=instance.corrupt instance=%s znode=/instances/%s reason=\"%s\" next=\"set aside, the "
               "others go on; repair or delete that znode\"",
               name, name, why);
    if (!i)
        i = engine_add(e, name);
    if (!i)
        return;
    (void)snprintf(i->corrupt, sizeof(i->corrupt), "%s", why);
    engine_lead_instance(i, 0, ERR_INVALID, "its record in ZooKeeper can't be read any more");
    engine_note_change(i); /* nobody acts on what can't be read */
}

static void engine_lead_one(void *ctx, struct engine_instance *i)
{
    const uint64_t *term = ctx;
    engine_lead_instance(i, i->corrupt[0] == '\0' ? *term : 0, ERR_DEPOSED, engine_deposed);
}

void engine_on_lead(struct engine *e, uint64_t term)
{
    if (term == e->term)
        return;
    engine_say(e, "", FAILOVER_INFO, "event=engine.%s term=%" PRIu64 " instances=%u",
               term ? "leading" : "following", term ? term : e->term, e->count);
    e->term = term;
    announcer_lead(e->config.announcer, term);
    engine_each_instance(e, engine_lead_one, &term);
    engine_trust_weigh(e);
}

/* ---- from the proxies -----------------------------------------------------------------------------------
 */

void engine_on_hint(struct engine *e, const char *instance, uint64_t epoch)
{
    struct engine_instance *i = engine_lookup(e, instance);
    if (!i || e->term == 0)
        return;
    struct failover_event event = engine_event(i, FAILOVER_ON_HINT);
    event.epoch = epoch;
    engine_step(i, &event);
}

/* ---- views ----------------------------------------------------------------------------------------------
 */

static void engine_fill_view(struct engine_instance *i, struct engine_view *out)
{
    engine_acks_count(i);
    out->failover = &i->failover;
    out->acks = &i->acks;
    out->orders = i->counts;
    if (i->strict.on)
        engine_strict_count(i);
    out->strict = i->strict.on ? &i->strict.shown : NULL;
    out->corrupt = i->corrupt[0] != '\0' ? i->corrupt : NULL;
    out->name = i->name;
}

uint64_t engine_term(const struct engine *e)
{
    return e->term;
}

uint32_t engine_count(const struct engine *e)
{
    return e->count;
}

int64_t engine_revision(const struct engine *e)
{
    return e->revision;
}

bool engine_find(const struct engine *e, const char *name, struct engine_view *out)
{
    struct engine_instance *i = engine_lookup(e, name);
    if (i)
        engine_fill_view(i, out);
    return i != NULL;
}

struct engine_walk {
    void (*fn)(void *ctx, struct engine_instance *i);
    void *ctx;
};

static void engine_walk_one(const void *node, VISIT visit, void *closure)
{
    const struct engine_walk *walk = closure;
    if (visit == postorder || visit == leaf)
        walk->fn(walk->ctx, *(struct engine_instance *const *)node);
}

void engine_each_instance(const struct engine *e, void (*fn)(void *ctx, struct engine_instance *i), void *ctx)
{
    struct engine_walk walk = {.fn = fn, .ctx = ctx};
    twalk_r(e->by_name, engine_walk_one, &walk);
}

struct engine_viewer {
    void (*fn)(void *ctx, const struct engine_view *view);
    void *ctx;
};

static void engine_view_one(void *ctx, struct engine_instance *i)
{
    const struct engine_viewer *viewer = ctx;
    struct engine_view view;
    engine_fill_view(i, &view);
    viewer->fn(viewer->ctx, &view);
}

void engine_each(const struct engine *e, void (*fn)(void *ctx, const struct engine_view *view), void *ctx)
{
    struct engine_viewer viewer = {.fn = fn, .ctx = ctx};
    engine_each_instance(e, engine_view_one, &viewer);
}

/* ---- life -----------------------------------------------------------------------------------------------
 */

int engine_open(struct engine **out, struct loop *loop, const struct engine_config *config)
{
    assert(out && loop && config && config->announcer);
    struct engine *e = calloc(1, sizeof(*e));
    if (!e)
        return ERR_NOMEM;
    e->loop = loop;
    e->config = *config;
    list_init(&e->holding);
    list_init(&e->answered);
    list_init(&e->orphans);
    engine_trust_open(e);
    engine_strict_open(e);
    int err = engine_members_open(e);
    if (err != 0) {
        engine_strict_close(e);
        engine_trust_close(e);
        free(e);
        return err;
    }
    *out = e;
    return 0;
}

void engine_set_store(struct engine *e, struct zk_store *store)
{
    e->store = store;
}

static void engine_end_commands(void *ctx, struct engine_instance *i)
{
    (void)ctx;
    engine_commands_end(i, ERR_DEPOSED, "this controller is stopping; ask the next leader what became of it");
}

static void engine_free_node(void *node)
{
    engine_free(node);
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    engine_each_instance(e, engine_end_commands, NULL);
    engine_commands_flush(e);
    memset(&e->config, 0, sizeof(e->config)); /* nobody is told of what follows */
    tdestroy(e->by_name, engine_free_node);
    e->by_name = NULL;
    while (!list_empty(&e->orphans))
        engine_order_free(list_entry(list_first(&e->orphans), struct engine_order, node));
    engine_proxies_close(e);
    engine_strict_close(e);
    engine_trust_close(e);
    monitor_close(e->monitor);
    free(e);
}
