/*   control thread                                    worker thread
 *   worker_apply() ── struct order, loop_wake() ────► worker_on_order() ─► instance_…()
 *   config callbacks ◄── struct mail, loop_wake() ─── worker_post()
 *
 * Orders and mail are copies; counters are the only memory that both threads see, relaxed atomics of which
 * the worker thread is the only writer. */
#include "proxy/worker.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/client.h"
#include "proxy/core/histogram.h"
#include "proxy/core/names.h"
#include "proxy/instance.h"
#include "proxy/schedule.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKER_BUCKETS = 4096 };

/* Outlives the worker as long as mail is on its way. */
struct worker_gate {
    atomic_uint refs;
    struct worker *worker; /* the control thread's only: NULL once stopped */
};

/* What the control thread knows of an instance in the worker. */
struct worker_entry {
    struct list node;
    char name[TOPOLOGY_NAME_MAX + 1];
    struct instance *instance; /* the worker thread's: only its counts are read here */
};

struct worker {
    struct worker_config config; /* the control thread's; bind is a copy */
    char *bind;
    struct worker_gate *gate;
    pthread_t thread;
    struct list entries[WORKER_BUCKETS];
    struct worker_stats retired; /* of dropped instances */
    void (*on_drained)(void *ctx);
    void *drained_ctx;
    /* From here on the worker thread's. */
    struct shard shard;
    struct list instances[WORKER_BUCKETS];
    struct schedule schedule;
    ev_prepare prepare;
    ev_timer drain_timer;
    bool drained;
};

enum order_type { ORDER_APPLY, ORDER_PAUSE, ORDER_DROP, ORDER_DRAIN, ORDER_STOP };

struct order {
    struct worker *worker;
    enum order_type type;
    struct route route;        /* DROP: only its name; PAUSE: and epoch */
    struct instance *instance; /* APPLY of a new one */
    int64_t posted_us;
    int limit_ms;
    uint64_t number; /* PAUSE */
};

enum mail_type {
    MAIL_BROKEN,
    MAIL_SWITCHED,
    MAIL_LISTEN_FAILED,
    MAIL_DRAINED,
    MAIL_HELD,
    MAIL_SILENT,
};

struct mail {
    struct worker_gate *gate;
    enum mail_type type;
    char name[TOPOLOGY_NAME_MAX + 1];
    uint64_t epoch;
    uint32_t acks;
    struct topology_address master;
    int64_t took_us;
    uint64_t number;
    uint16_t port;
    int err;
};

static uint32_t worker_bucket(const char *name)
{
    return names_hash(name, strlen(name)) % WORKER_BUCKETS;
}

/* ---- worker thread → control thread -------------------------------------------------------------------- */

static void worker_gate_release(struct worker_gate *gate)
{
    if (atomic_fetch_sub(&gate->refs, 1) == 1)
        free(gate);
}

static void worker_deliver(const struct worker *w, const struct mail *m)
{
    const struct worker_config *c = &w->config;

    switch (m->type) {
    case MAIL_BROKEN:
        c->on_broken(c->ctx, m->name, m->epoch, &m->master);
        break;
    case MAIL_SWITCHED:
        c->on_switched(c->ctx, m->name, m->epoch, m->acks, m->took_us);
        break;
    case MAIL_LISTEN_FAILED:
        c->on_listen_failed(c->ctx, m->name, m->port, m->err);
        break;
    case MAIL_DRAINED:
        w->on_drained(w->drained_ctx);
        break;
    case MAIL_HELD:
        c->on_held(c->ctx, m->name, m->epoch, m->number);
        break;
    case MAIL_SILENT:
        c->on_silent(c->ctx, m->name, m->epoch, &m->master);
        break;
    }
}

static void worker_on_mail(void *ctx)
{
    struct mail *m = ctx;

    if (m->gate->worker)
        worker_deliver(m->gate->worker, m);
    worker_gate_release(m->gate);
    free(m);
}

static void worker_post(struct worker *w, struct mail text)
{
    struct mail *m = malloc(sizeof(*m));

    if (m) {
        *m = text;
        m->gate = w->gate;
        atomic_fetch_add(&w->gate->refs, 1);
        if (loop_wake(w->config.control, worker_on_mail, m) == 0)
            return;
        worker_gate_release(w->gate);
        free(m);
    }
    log_error("event=worker.mail_lost instance=%s say=\"the control thread was not told\"", text.name);
}

static struct worker *worker_of(struct shard *shard)
{
    return list_entry(shard, struct worker, shard);
}

static struct mail worker_mail(enum mail_type type, const struct route *r)
{
    struct mail m = {.type = type, .epoch = r->epoch, .master = r->master, .port = r->port};

    memcpy(m.name, r->name, sizeof(m.name));
    return m;
}

static void worker_on_broken(struct shard *shard, const struct route *route)
{
    worker_post(worker_of(shard), worker_mail(MAIL_BROKEN, route));
}

static void worker_on_switched(struct shard *shard, const struct route *route, int64_t took_us)
{
    struct mail m = worker_mail(MAIL_SWITCHED, route);

    m.acks = route_acks(route);
    m.took_us = took_us;
    worker_post(worker_of(shard), m);
}

static void worker_on_listen_failed(struct shard *shard, const struct route *route, int err)
{
    struct mail m = worker_mail(MAIL_LISTEN_FAILED, route);

    m.err = err;
    worker_post(worker_of(shard), m);
}

static void worker_on_held(struct shard *shard, const struct route *route, uint64_t number)
{
    struct mail m = worker_mail(MAIL_HELD, route);

    m.number = number;
    worker_post(worker_of(shard), m);
}

static void worker_on_silent(struct shard *shard, const struct route *route)
{
    worker_post(worker_of(shard), worker_mail(MAIL_SILENT, route));
}

/* ---- the worker thread ------------------------------------------------------------------------------------
 */

static struct instance *worker_find(struct worker *w, const char *name)
{
    list_for_each(node, &w->instances[worker_bucket(name)])
    {
        struct instance *i = list_entry(node, struct instance, node);
        if (strcmp(i->route.name, name) == 0)
            return i;
    }
    return NULL;
}

static void worker_order_apply(struct worker *w, const struct order *o)
{
    struct instance *i = o->instance ? o->instance : worker_find(w, o->route.name);

    if (o->instance) {
        instance_open(i, &w->shard, &o->route);
        list_push_back(&w->instances[worker_bucket(o->route.name)], &i->node);
    }
    assert(i); /* orders come in the order in which they were given */
    instance_apply(i, &o->route, o->posted_us);
}

static void worker_for_each(struct worker *w, void (*fn)(struct instance *i))
{
    for (int b = 0; b < WORKER_BUCKETS; b++)
        list_for_each(node, &w->instances[b]) fn(list_entry(node, struct instance, node));
}

static void worker_on_drain_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct worker *w = timer->data;

    (void)ev;
    (void)revents;
    log_warn("event=worker.drain_limit clients=%u say=\"closed before they were done\"", w->shard.n_clients);
    worker_for_each(w, instance_hang_up);
}

static void worker_order_drain(struct worker *w, int limit_ms)
{
    w->shard.draining = true;
    ev_timer_set(&w->drain_timer, limit_ms > 0 ? limit_ms / 1e3 : 0., 0.);
    ev_timer_start(w->shard.ev, &w->drain_timer);
    worker_for_each(w, instance_drain);
}

static void worker_on_order(void *ctx)
{
    struct order *o = ctx;
    struct worker *w = o->worker;
    struct instance *i;

    switch (o->type) {
    case ORDER_APPLY:
        worker_order_apply(w, o);
        break;
    case ORDER_PAUSE:
        i = worker_find(w, o->route.name);
        if (i)
            switchover_begin(i, o->route.epoch, o->number, (uint32_t)o->limit_ms, o->posted_us);
        break;
    case ORDER_DROP:
        i = worker_find(w, o->route.name);
        if (i)
            instance_drop(i);
        break;
    case ORDER_DRAIN:
        worker_order_drain(w, o->limit_ms);
        break;
    case ORDER_STOP:
        loop_stop(w->shard.loop);
        break;
    }
    free(o);
}

static void worker_on_prepare(struct ev_loop *ev, ev_prepare *prepare, int revents)
{
    struct worker *w = prepare->data;

    (void)ev;
    (void)revents;
    client_read_unread(&w->shard);
    gather_read(&w->shard.gather);
    schedule_turn(&w->schedule);
    shard_settle(&w->shard);
    if (!w->shard.draining || w->drained || w->shard.n_clients > 0)
        return;
    w->drained = true;
    ev_timer_stop(w->shard.ev, &w->drain_timer);
    worker_post(w, (struct mail){.type = MAIL_DRAINED});
}

static void *worker_main(void *ctx)
{
    struct worker *w = ctx;

    loop_run(w->shard.loop);
    worker_for_each(w, instance_free);
    return NULL;
}

/* ---- the control thread -----------------------------------------------------------------------------------
 */

static void worker_free(struct worker *w)
{
    if (w->shard.loop) {
        if (ev_is_active(&w->prepare)) {
            ev_prepare_stop(w->shard.ev, &w->prepare);
            schedule_stop(&w->schedule);
        }
        ev_timer_stop(w->shard.ev, &w->drain_timer);
        loop_destroy(w->shard.loop);
    }
    for (int b = 0; b < WORKER_BUCKETS; b++)
        list_for_each(node, &w->entries[b]) free(list_entry(node, struct worker_entry, node));
    if (w->gate) {
        w->gate->worker = NULL;
        worker_gate_release(w->gate);
    }
    gather_close(&w->shard.gather);
    bulk_close(&w->shard.bulk);
    free(w->shard.buffer);
    free(w->bind);
    free(w);
}

static int worker_prepare(struct worker *w)
{
    w->gate = calloc(1, sizeof(*w->gate));
    w->bind = strdup(w->config.bind);
    w->shard.buffer = malloc(SHARD_BUFFER);
    w->shard.loop = loop_create(false);
    if (!w->gate || !w->bind || !w->shard.buffer || !w->shard.loop)
        return ERR_NOMEM;
    if (gather_open(&w->shard.gather, w->config.io_uring) != 0)
        return ERR_NOMEM;
    atomic_store(&w->gate->refs, 1);
    w->gate->worker = w;
    bulk_open(&w->shard.bulk);
    w->config.bind = w->shard.bind = w->bind;
    w->shard.hold_ms = w->config.hold_ms;
    w->shard.ack_ms = w->config.ack_ms;
    w->shard.zone = w->config.zone ? w->config.zone : "";
    w->shard.limits = w->config.limits;
    w->shard.ports = w->config.ports;
    w->shard.ev = loop_ev(w->shard.loop);
    schedule_init(&w->schedule, &w->shard, w->config.waits, w->config.may_move);
    list_init(&w->shard.unread);
    list_init(&w->shard.dirty);
    list_init(&w->shard.flush);
    list_init(&w->shard.acks);
    w->shard.on_broken = worker_on_broken;
    w->shard.on_switched = worker_on_switched;
    w->shard.on_listen_failed = worker_on_listen_failed;
    w->shard.on_held = worker_on_held;
    w->shard.on_silent = worker_on_silent;
    ev_timer_init(&w->drain_timer, worker_on_drain_timer, 0., 0.);
    w->drain_timer.data = w;
    ev_prepare_init(&w->prepare, worker_on_prepare);
    w->prepare.data = w;
    ev_prepare_start(w->shard.ev, &w->prepare);
    return 0;
}

int worker_start(struct worker **out, const struct worker_config *config)
{
    struct worker *w = calloc(1, sizeof(*w));
    int err = ERR_NOMEM;

    assert(config->control && config->on_broken && config->on_switched && config->on_listen_failed);
    assert(config->on_held && config->on_silent && config->limits);
    if (!w)
        return ERR_NOMEM;
    for (int b = 0; b < WORKER_BUCKETS; b++) {
        list_init(&w->entries[b]);
        list_init(&w->instances[b]);
    }
    w->config = *config;
    err = worker_prepare(w);
    if (!err && pthread_create(&w->thread, NULL, worker_main, w) != 0)
        err = ERR_NOMEM;
    if (err) {
        worker_free(w);
        return err;
    }
    *out = w;
    return 0;
}

/* False when out of memory: then nothing was ordered. */
static bool worker_order(struct worker *w, const struct order *text)
{
    struct order *o = malloc(sizeof(*o));

    if (o) {
        *o = *text;
        o->worker = w;
        if (loop_wake(w->shard.loop, worker_on_order, o) == 0)
            return true;
        free(o);
    }
    log_error("event=worker.order_lost instance=%s say=\"out of memory\"", text->route.name);
    return false;
}

static struct worker_entry *worker_entry(struct worker *w, const char *name)
{
    list_for_each(node, &w->entries[worker_bucket(name)])
    {
        struct worker_entry *e = list_entry(node, struct worker_entry, node);
        if (strcmp(e->name, name) == 0)
            return e;
    }
    return NULL;
}

void worker_apply(struct worker *w, const struct route *r)
{
    struct order o = {.type = ORDER_APPLY, .route = *r, .posted_us = loop_clock_us()};
    struct worker_entry *e = worker_entry(w, r->name);

    if (e) {
        (void)worker_order(w, &o);
        return;
    }
    e = calloc(1, sizeof(*e));
    o.instance = instance_new();
    if (!e || !o.instance) {
        log_error("event=worker.nomem instance=%s say=\"it is not served\"", r->name);
        goto fail;
    }
    memcpy(e->name, r->name, sizeof(e->name));
    e->instance = o.instance;
    if (!worker_order(w, &o))
        goto fail;
    list_push_back(&w->entries[worker_bucket(r->name)], &e->node);
    return;
fail:
    free(e);
    free(o.instance);
}

void worker_pause(struct worker *w, const char *instance, uint64_t epoch, uint64_t number, uint32_t limit_ms)
{
    struct order o = {
        .type = ORDER_PAUSE, .posted_us = loop_clock_us(), .limit_ms = (int)limit_ms, .number = number};

    assert(number > 0 && limit_ms > 0 && limit_ms <= INT_MAX);
    (void)snprintf(o.route.name, sizeof(o.route.name), "%s", instance);
    o.route.epoch = epoch;
    (void)worker_order(w, &o);
}

static void worker_add_stats(const struct instance_counts *c, struct worker_stats *out)
{
    out->clients += atomic_load_explicit(&c->clients, memory_order_relaxed);
    out->accepted += atomic_load_explicit(&c->accepted, memory_order_relaxed);
    out->requests += atomic_load_explicit(&c->session.requests, memory_order_relaxed);
    out->held += atomic_load_explicit(&c->session.held, memory_order_relaxed);
    out->replayed += atomic_load_explicit(&c->session.replayed, memory_order_relaxed);
    out->unknown += atomic_load_explicit(&c->session.unknown, memory_order_relaxed);
    out->batches += atomic_load_explicit(&c->session.batches, memory_order_relaxed);
    out->shorts += atomic_load_explicit(&c->session.shorts, memory_order_relaxed);
    out->rejected += atomic_load_explicit(&c->session.rejected, memory_order_relaxed);
    out->received_bytes += atomic_load_explicit(&c->received_bytes, memory_order_relaxed);
    out->sent_bytes += atomic_load_explicit(&c->sent_bytes, memory_order_relaxed);
    out->batched_reads += atomic_load_explicit(&c->batched_reads, memory_order_relaxed);
    out->batched_writes += atomic_load_explicit(&c->batched_writes, memory_order_relaxed);
    out->masters += atomic_load_explicit(&c->masters, memory_order_relaxed);
    out->replicas += atomic_load_explicit(&c->replicas, memory_order_relaxed);
    out->replica_reads += atomic_load_explicit(&c->session.replica_reads, memory_order_relaxed);
    out->memory_bytes += atomic_load_explicit(&c->memory_bytes, memory_order_relaxed);
    out->held_bytes += atomic_load_explicit(&c->held_bytes, memory_order_relaxed);
}

void worker_drop(struct worker *w, const char *instance)
{
    struct order o = {.type = ORDER_DROP};
    struct worker_entry *e = worker_entry(w, instance);

    if (!e)
        return;
    memcpy(o.route.name, e->name, sizeof(o.route.name));
    worker_add_stats(&e->instance->counts, &w->retired);
    w->retired.clients = w->retired.masters = w->retired.replicas = 0;
    w->retired.memory_bytes = w->retired.held_bytes = 0;
    if (!worker_order(w, &o))
        return;
    list_remove(&e->node);
    free(e);
}

void worker_drain(struct worker *w, int limit_ms, void (*on_done)(void *ctx), void *ctx)
{
    struct order o = {.type = ORDER_DRAIN, .limit_ms = limit_ms};

    assert(on_done);
    w->on_drained = on_done;
    w->drained_ctx = ctx;
    (void)worker_order(w, &o);
}

void worker_stop(struct worker *w)
{
    struct order o = {.type = ORDER_STOP};

    if (!w)
        return;
    /* Without memory for the order there is no way to end the thread in good order. */
    if (!worker_order(w, &o))
        abort();
    (void)pthread_join(w->thread, NULL);
    worker_free(w);
}

void worker_read_stats(struct worker *w, const char *instance, struct worker_stats *out)
{
    *out = (struct worker_stats){0};
    if (instance) {
        const struct worker_entry *e = worker_entry(w, instance);
        if (e)
            worker_add_stats(&e->instance->counts, out);
        return;
    }
    *out = w->retired;
    for (int b = 0; b < WORKER_BUCKETS; b++)
        list_for_each(node, &w->entries[b])
            worker_add_stats(&list_entry(node, struct worker_entry, node)->instance->counts, out);
}

void worker_read_latency(struct worker *w, const char *instance, struct histogram_sum *out)
{
    const struct worker_entry *e = worker_entry(w, instance);

    if (e)
        histogram_read(atomic_load_explicit(&e->instance->counts.session.latency, memory_order_acquire), out);
}

void worker_read_held_time(struct worker *w, const char *instance, struct histogram_sum *out)
{
    const struct worker_entry *e = worker_entry(w, instance);

    if (e)
        histogram_read(atomic_load_explicit(&e->instance->counts.session.held_time, memory_order_acquire),
                       out);
}
