/* Registry of instances, and the way of every event into its core. engine_actions.c is the way out. */
#include "controller/engine.h"

#include "common/log.h"
#include "common/loop.h"
#include "controller/announcer.h"
#include "controller/engine_instance.h"

#include <assert.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int engine_compare(const void *a, const void *b)
{
    const struct engine_instance *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static struct engine_instance *engine_lookup(const struct engine *e, const char *name)
{
    struct engine_instance key;
    if (strlen(name) > TOPOLOGY_NAME_MAX)
        return NULL;
    memcpy(key.name, name, strlen(name) + 1);
    struct engine_instance **found = tfind(&key, &e->by_name, engine_compare);
    return found ? *found : NULL;
}

/* ---- events in ------------------------------------------------------------------------------------------
 */

static struct failover_event engine_event(const struct engine_instance *i, enum failover_event_type type)
{
    struct failover_event event;
    memset(&event, 0, sizeof(event));
    event.type = type;
    event.now_us = loop_now_us(i->engine->loop);
    event.wall_ms = loop_wall_ms();
    event.member = -1;
    return event;
}

static void engine_on_link_up(void *owner)
{
    struct engine_member *m = owner;
    struct failover_event event = engine_event(m->instance, FAILOVER_ON_LINK_UP);
    event.member = topology_member_find(&m->instance->failover.record, &m->address);
    engine_step(m->instance, &event);
}

static void engine_on_link_down(void *owner, int err, const char *text)
{
    struct engine_member *m = owner;
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    struct failover_event event = engine_event(m->instance, FAILOVER_ON_LINK_DOWN);
    event.member = topology_member_find(&m->instance->failover.record, &m->address);
    event.err = err;
    enum health_link before = m->instance->failover.health[event.member].link;
    engine_step(m->instance, &event);
    if (before == m->instance->failover.health[event.member].link)
        return; /* every attempt reports; say it once */
    bool denied = err == ERR_AUTH || err == ERR_PROTOCOL;
    log_line(denied ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN,
             "event=member.link_down instance=%s member=%s reason=%s say=\"%s\"%s", m->instance->name,
             topology_address_format(&m->address, address), err_name(err), text ? text : "",
             err == ERR_AUTH       ? " next=\"check the instance's user and password\""
             : err == ERR_PROTOCOL ? " next=\"is that port a redis-server?\""
                                   : "");
}

static void engine_on_info(void *owner, const struct info *info)
{
    struct engine_member *m = owner;
    struct failover_event event = engine_event(m->instance, FAILOVER_ON_INFO);
    event.member = topology_member_find(&m->instance->failover.record, &m->address);
    event.info = info;
    engine_step(m->instance, &event);
}

static void engine_on_deadline(struct ev_loop *ev, ev_timer *timer, int revents)
{
    (void)ev;
    (void)revents;
    struct engine_instance *i = timer->data;
    struct failover_event event = engine_event(i, FAILOVER_ON_TICK);
    engine_step(i, &event);
}

/* ---- members follow the record --------------------------------------------------------------------------
 */

static void engine_drop_member(struct engine_instance *i, uint32_t k)
{
    struct engine_member *m = i->members[k];
    engine_orders_forget(i, m);
    monitor_unwatch(m->monitor);
    free(m);
    i->members[k] = i->members[--i->n_members];
}

static void engine_add_member(struct engine_instance *i, const struct topology_address *address)
{
    char label[TOPOLOGY_NAME_MAX + TOPOLOGY_ADDRESS_MAX + 2], text[TOPOLOGY_ADDRESS_MAX + 1];
    struct engine_member *m = calloc(1, sizeof(*m));
    snprintf(label, sizeof(label), "%s %s", i->name, topology_address_format(address, text));
    int err = ERR_NOMEM;
    if (m) {
        m->instance = i;
        m->address = *address;
        err = monitor_watch(i->engine->monitor, label, address, &i->failover.record.auth, m, &m->monitor);
    }
    if (err != 0) {
        log_error("event=member.unwatched instance=%s member=%s reason=\"%s\" next=\"free memory or "
                  "descriptors and "
                  "restart this controller\"",
                  i->name, text, err_text(err));
        free(m);
        return;
    }
    i->members[i->n_members++] = m;
}

static void engine_sync_members(struct engine_instance *i)
{
    const struct topology_instance *record = &i->failover.record;
    for (uint32_t k = i->n_members; k-- > 0;)
        if (topology_member_find(record, &i->members[k]->address) < 0)
            engine_drop_member(i, k);
    for (uint32_t k = 0; k < record->n_members; k++) {
        bool known = false;
        for (uint32_t j = 0; j < i->n_members && !known; j++)
            known = topology_address_equal(&i->members[j]->address, &record->members[k].address);
        if (!known)
            engine_add_member(i, &record->members[k].address);
    }
}

static void engine_note_change(struct engine_instance *i)
{
    struct engine *e = i->engine;
    if (i->failover.revision > e->revision)
        e->revision = i->failover.revision;
    if (e->config.on_change)
        e->config.on_change(e->config.ctx, i->name, i->failover.revision);
}

void engine_step(struct engine_instance *i, struct failover_event *event)
{
    struct failover_update update;
    struct engine *e = i->engine;
    int64_t revision = i->failover.revision;
    enum failover_phase phase = i->failover.phase;
    failover_step(&i->failover, event, &update);
    if (i->failover.revision != revision)
        engine_sync_members(i);
    engine_run(i, event, &update);
    ev_timer_stop(loop_ev(e->loop), &i->deadline);
    int64_t deadline_us = failover_deadline_us(&i->failover);
    if (deadline_us != 0) {
        int64_t left_us = deadline_us - loop_now_us(e->loop);
        ev_timer_set(&i->deadline, left_us > 500 ? (double)left_us / 1e6 : 0.0005, 0.);
        ev_timer_start(loop_ev(e->loop), &i->deadline);
    }
    bool shown = event->type == FAILOVER_ON_LINK_UP || event->type == FAILOVER_ON_LINK_DOWN;
    if (shown || i->failover.revision != revision || i->failover.phase != phase)
        engine_note_change(i);
}

/* ---- from the store -------------------------------------------------------------------------------------
 */

static struct engine_instance *engine_add(struct engine *e, const char *name)
{
    struct engine_instance *i = calloc(1, sizeof(*i));
    if (!i || strlen(name) > TOPOLOGY_NAME_MAX)
        goto fail;
    i->engine = e;
    memcpy(i->name, name, strlen(name) + 1);
    list_init(&i->orders);
    failover_init(&i->failover);
    ev_init(&i->deadline, engine_on_deadline);
    i->deadline.data = i;
    if (!tsearch(i, &e->by_name, engine_compare))
        goto fail;
    e->count++;
    return i;
fail:
    log_error("event=instance.dropped instance=%s reason=\"out of memory\" next=\"restart this controller\"",
              name);
    free(i);
    return NULL;
}

static void engine_free(struct engine_instance *i)
{
    ev_timer_stop(loop_ev(i->engine->loop), &i->deadline);
    while (i->n_members > 0)
        engine_drop_member(i, i->n_members - 1);
    engine_orders_forget(i, NULL);
    free(i);
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
        event.type = FAILOVER_ON_LEAD;
        event.term = e->term;
        engine_step(i, &event);
        event.type = FAILOVER_ON_RECORD;
    }
    event.record = record;
    event.version = version;
    event.revision = revision;
    engine_step(i, &event);
    if (is_new && e->term != 0)
        announcer_publish(e->config.announcer, record, revision);
}

void engine_on_removed(struct engine *e, const char *name)
{
    struct engine_instance *i = engine_lookup(e, name);
    if (!i)
        return;
    log_info("event=instance.removed instance=%s", name);
    announcer_drop(e->config.announcer, name, i->failover.record.port, i->failover.revision);
    tdelete(i, &e->by_name, engine_compare);
    e->count--;
    engine_note_change(i);
    engine_free(i);
}

void engine_on_corrupt(struct engine *e, const char *name, const char *why)
{
    struct engine_instance *i = engine_lookup(e, name);
    log_error("event=instance.corrupt instance=%s znode=/instances/%s reason=\"%s\" next=\"set aside, the "
              "others go on; "
              "repair or delete that znode\"",
              name, name, why);
    if (!i)
        i = engine_add(e, name);
    if (!i)
        return;
    snprintf(i->corrupt, sizeof(i->corrupt), "%s", why);
    struct failover_event event = engine_event(i, FAILOVER_ON_LEAD); /* nobody acts on what can't be read */
    engine_step(i, &event);
    engine_note_change(i);
}

static void engine_lead_one(const void *node, VISIT visit, void *closure)
{
    struct engine_instance *i = *(struct engine_instance *const *)node;
    const uint64_t *term = closure;
    if (visit != postorder && visit != leaf)
        return;
    struct failover_event event = engine_event(i, FAILOVER_ON_LEAD);
    event.term = i->corrupt[0] == '\0' ? *term : 0;
    engine_step(i, &event);
}

void engine_on_lead(struct engine *e, uint64_t term)
{
    if (term == e->term)
        return;
    log_info("event=engine.%s term=%" PRIu64 " instances=%u", term ? "leading" : "following",
             term ? term : e->term, e->count);
    e->term = term;
    announcer_lead(e->config.announcer, term);
    twalk_r(e->by_name, engine_lead_one, &term);
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

void engine_on_ack(struct engine *e, const char *proxy, const char *instance, uint64_t epoch, int64_t took_us)
{
    struct engine_instance *i = engine_lookup(e, instance);
    if (!i || epoch < i->acks.epoch)
        return;
    if (epoch > i->acks.epoch) {
        memset(&i->acks, 0, sizeof(i->acks));
        i->acks.epoch = epoch;
    }
    i->acks.n++;
    if (took_us >= i->acks.slowest_us) {
        i->acks.slowest_us = took_us;
        snprintf(i->acks.slowest_id, sizeof(i->acks.slowest_id), "%s", proxy);
    }
    log_debug("event=proxy.switched instance=%s proxy=%s epoch=%" PRIu64 " took_us=%" PRId64, instance, proxy,
              epoch, took_us);
}

/* ---- views ----------------------------------------------------------------------------------------------
 */

static void engine_fill_view(const struct engine_instance *i, struct engine_view *out)
{
    out->failover = &i->failover;
    out->acks = &i->acks;
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
    const struct engine_instance *i = engine_lookup(e, name);
    if (i)
        engine_fill_view(i, out);
    return i != NULL;
}

struct engine_walk {
    void (*fn)(void *ctx, const struct engine_view *view);
    void *ctx;
};

static void engine_walk_one(const void *node, VISIT visit, void *closure)
{
    const struct engine_walk *walk = closure;
    struct engine_view view;
    if (visit != postorder && visit != leaf)
        return;
    engine_fill_view(*(struct engine_instance *const *)node, &view);
    walk->fn(walk->ctx, &view);
}

void engine_each(const struct engine *e, void (*fn)(void *ctx, const struct engine_view *view), void *ctx)
{
    struct engine_walk walk = {.fn = fn, .ctx = ctx};
    twalk_r(e->by_name, engine_walk_one, &walk);
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
    struct monitor_config monitor = {
        .client_name = config->client_name,
        .on_link_up = engine_on_link_up,
        .on_link_down = engine_on_link_down,
        .on_info = engine_on_info,
    };
    int err = monitor_open(&e->monitor, loop, &monitor);
    if (err != 0) {
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

static void engine_free_node(void *node)
{
    engine_free(node);
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    tdestroy(e->by_name, engine_free_node);
    monitor_close(e->monitor);
    free(e);
}
