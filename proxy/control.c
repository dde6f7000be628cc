#include "proxy/control.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/tcp.h"
#include "common/zk_session.h"
#include "proxy/cache_file.h"
#include "proxy/core/histogram.h"
#include "proxy/directory.h"
#include "proxy/ports.h"
#include "proxy/registration.h"
#include "proxy/snapshot.h"
#include "proxy/subscriber.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct control {
    struct control_config config;
    struct loop *loop;
    struct route_book book;
    bool stepping;
    struct limits *limits;
    struct ports *ports; /* NULL: only one thread listens */
    struct topology_proxy self;
    ev_timer deadline, unreachable;
    struct zk_session *zk;
    struct snapshot *snapshot;
    struct directory *directory;
    struct registration *registration;
    struct subscriber *subscriber;
    struct cache_file *cache;
    struct worker *workers[CONTROL_THREADS_MAX];
    int n_workers, n_draining;
    bool ever_connected;
    void (*on_drained)(void *ctx);
    void *drained_ctx;
};

/* ---- actions ------------------------------------------------------------------------------------------- */

static void control_log_route(const struct route_action *a, bool is_started)
{
    const struct route *r = &a->entry->route;
    char master[TOPOLOGY_ADDRESS_MAX + 1];
    /* What is read at the start, and what changes nothing, is no news. */
    enum log_level level = a->changed && is_started ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;

    if (log_enabled(level))
        log_line(level,
                 "event=route.apply instance=%s port=%u epoch=%" PRIu64 " revision=%" PRIu64
                 " master=%s state=%s row=%d say=\"%s\"",
                 r->name, (unsigned)r->port, r->epoch, r->revision,
                 topology_address_format(&r->master, master), r->state == ROUTE_HELD ? "held" : "serving",
                 (int)a->row, route_row_text(a->row));
}

static void control_apply(struct control *c, const struct route_action *a)
{
    for (int i = 0; i < c->n_workers; i++)
        worker_apply(c->workers[i], &a->entry->route);
    if (a->changed && c->cache && a->row != ROUTE_ROW_CACHED)
        cache_file_touch(c->cache);
    control_log_route(a, c->book.reads_done > 0);
}

static void control_drop(struct control *c, const struct route_action *a)
{
    for (int i = 0; i < c->n_workers; i++)
        worker_drop(c->workers[i], a->name);
    if (c->cache)
        cache_file_touch(c->cache);
    log_info("event=route.drop instance=%s row=%d say=\"%s\"", a->name, (int)a->row, route_row_text(a->row));
}

static void control_pause(struct control *c, const struct route_action *a)
{
    const char *name = a->entry->route.name;

    for (int i = 0; i < c->n_workers; i++)
        worker_pause(c->workers[i], name, a->epoch, a->number, a->limit_ms);
    log_info("event=switchover.pause instance=%s epoch=%" PRIu64 " limit_ms=%u row=%d say=\"%s\"", name,
             a->epoch, a->limit_ms, (int)a->row, route_row_text(a->row));
}

static enum message_type control_message_of(enum route_action_type type)
{
    if (type == ROUTE_ACTION_HELD)
        return MESSAGE_HELD;
    return type == ROUTE_ACTION_ACK ? MESSAGE_ACK : MESSAGE_HINT;
}

static void control_tell(struct control *c, const struct route_action *a)
{
    const struct route *r = &a->entry->route;
    struct message m = {.type = control_message_of(a->type),
                        .term = c->book.term,
                        .epoch = r->epoch,
                        .master = r->master,
                        .acks = a->acks,
                        .took_us = a->took_us};

    snprintf(m.id, sizeof(m.id), "%s", c->config.id);
    memcpy(m.instance, r->name, sizeof(m.instance));
    subscriber_send(c->subscriber, &m);
    if (a->type == ROUTE_ACTION_HELD)
        log_info("event=switchover.held instance=%s epoch=%" PRIu64 " row=%d say=\"%s\"", r->name, r->epoch,
                 (int)a->row, route_row_text(a->row));
    if (a->type == ROUTE_ACTION_HINT) {
        char master[TOPOLOGY_ADDRESS_MAX + 1];
        /* One line for a doubt; the reminders of one that lasts would only repeat it. */
        log_line(a->row == ROUTE_ROW_DOUBT ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG,
                 "event=route.doubt instance=%s epoch=%" PRIu64 " master=%s leader=%s row=%d say=\"%s\"",
                 r->name, r->epoch, topology_address_format(&r->master, master),
                 c->book.leader[0] ? c->book.leader : "-", (int)a->row, route_row_text(a->row));
    }
}

static void control_log_silence(const struct control *c, enum route_row row)
{
    if (row == ROUTE_ROW_SILENCE)
        log_warn(
            "event=control.silent leader=%s controllers=%zu store=%s row=%d say=\"no controller was heard "
            "for %d ms: the last routes are kept; are the controllers running, their ports open, and "
            "--key-file the same everywhere?\"",
            c->book.leader[0] ? c->book.leader : "-", control_controllers(c),
            c->book.store_up ? "connected" : "away", (int)row, (int)(ROUTE_SILENCE_US / 1000));
}

/* Returns false when a re-read that was asked for could not begin. */
static bool control_act(struct control *c, const struct route_action *a)
{
    switch (a->type) {
    case ROUTE_ACTION_APPLY:
        control_apply(c, a);
        break;
    case ROUTE_ACTION_PAUSE:
        control_pause(c, a);
        break;
    case ROUTE_ACTION_DROP:
        control_drop(c, a);
        break;
    case ROUTE_ACTION_READ:
        log_debug("event=snapshot.read watch=%d row=%d say=\"%s\"", a->watch, (int)a->row,
                  route_row_text(a->row));
        return snapshot_read(c->snapshot, a->watch) == 0;
    case ROUTE_ACTION_RECONNECT:
        control_log_silence(c, a->row);
        subscriber_reconnect(c->subscriber);
        break;
    case ROUTE_ACTION_FOLLOW:
        log_info("event=control.follow leader=%s term=%" PRIu64 " row=%d", a->name, c->book.term,
                 (int)a->row);
        subscriber_follow(c->subscriber, a->name);
        break;
    case ROUTE_ACTION_HINT:
    case ROUTE_ACTION_ACK:
    case ROUTE_ACTION_HELD:
        control_tell(c, a);
        break;
    }
    return true;
}

/* ---- events -------------------------------------------------------------------------------------------- */

static void control_arm_deadline(struct control *c)
{
    int64_t wait_us = route_book_deadline_us(&c->book) - loop_clock_us();

    ev_timer_stop(loop_ev(c->loop), &c->deadline);
    ev_timer_set(&c->deadline, wait_us > 0 ? (double)wait_us / 1e6 : 0, 0);
    ev_timer_start(loop_ev(c->loop), &c->deadline);
}

/* One event through the book, and what follows from it. */
static void control_step(struct control *c, struct route_event e)
{
    bool failed;

    assert(!c->stepping); /* no action calls back inside of itself */
    do {
        bool was_silent = c->book.silent;
        c->stepping = true;
        failed = false;
        e.now_us = loop_now_us(c->loop);
        if (route_book_step(&c->book, &e) != 0)
            log_error(
                "event=control.out_of_memory routes=%zu say=\"some routes may be missing; they are read "
                "again\"",
                c->book.table.n);
        for (size_t i = 0; i < c->book.n_actions; i++)
            failed |= !control_act(c, &c->book.actions[i]);
        if (was_silent && !c->book.silent)
            log_info("event=control.heard term=%" PRIu64 " row=%d", c->book.term, (int)ROUTE_ROW_VOICE);
        c->stepping = false;
        e = (struct route_event){.type = ROUTE_EVENT_READ_FAILED};
    } while (failed);
    control_arm_deadline(c);
}

static void control_on_deadline(struct ev_loop *ev, ev_timer *w, int revents)
{
    (void)ev;
    (void)revents;
    control_step(w->data, (struct route_event){.type = ROUTE_EVENT_TICK});
}

static void control_on_message(void *ctx, const struct message *m)
{
    control_step(ctx, (struct route_event){.type = ROUTE_EVENT_MESSAGE, .message = m});
}

static void control_on_bad(void *ctx, const char *name, const char *why)
{
    struct control *c = ctx;

    log_warn("event=snapshot.set_aside instance=%s say=\"its record in ZooKeeper can't be used: %s; what was "
             "known before still serves\"",
             name, why);
    control_step(c, (struct route_event){.type = ROUTE_EVENT_BAD_RECORD, .name = name});
}

static void control_on_record(void *ctx, const struct topology_instance *instance, uint64_t revision,
                              bool of_read)
{
    struct route r;

    if (!route_from_instance(instance, revision, &r))
        control_on_bad(ctx, instance->name, "its values contradict each other");
    else
        control_step(ctx, (struct route_event){.type = ROUTE_EVENT_RECORD, .route = &r, .of_read = of_read});
}

static void control_on_read(void *ctx, int err)
{
    struct control *c = ctx;
    bool first = c->book.reads_done == 0;

    if (err != 0)
        log_warn(
            "event=snapshot.failed reason=%s say=\"reading the instances from ZooKeeper failed: %s; it is "
            "tried again\"",
            err_name(err), err_text(err));
    control_step(c, (struct route_event){.type = err == 0 ? ROUTE_EVENT_READ_DONE : ROUTE_EVENT_READ_FAILED});
    if (err == 0 && first)
        log_info("event=snapshot.first instances=%zu", c->book.table.n);
}

static void control_on_moved(void *ctx)
{
    control_step(ctx, (struct route_event){.type = ROUTE_EVENT_STORE_MOVED});
}

static void control_on_controllers(void *ctx, const struct topology_controller *controllers, size_t n)
{
    struct control *c = ctx;

    subscriber_set_controllers(c->subscriber, controllers, n);
}

static void control_on_zk(void *ctx, enum zk_session_state state, bool fresh)
{
    struct control *c = ctx;

    if (state == ZK_CONNECTED) {
        c->ever_connected = true;
        if (fresh)
            snapshot_forget_watches(c->snapshot);
        directory_read(c->directory, fresh);
        registration_renew(c->registration, fresh);
        control_step(c, (struct route_event){.type = ROUTE_EVENT_STORE_UP});
    } else if (c->book.store_up) {
        log_info("event=control.store_lost routes=%zu say=\"ZooKeeper is away: the last routes are kept\"",
                 c->book.table.n);
        snapshot_cancel(c->snapshot);
        control_step(c, (struct route_event){.type = ROUTE_EVENT_STORE_LOST});
    }
}

/* zk_session says in the log that, and where, it gets no answer. */
static void control_on_unreachable(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct control *c = w->data;

    (void)ev;
    (void)revents;
    if (!c->ever_connected && c->book.table.n == 0 && c->config.on_unreachable)
        c->config.on_unreachable(c->config.ctx);
}

static void control_on_broken(void *ctx, const char *instance, uint64_t epoch,
                              const struct topology_address *master)
{
    control_step(ctx, (struct route_event){
                          .type = ROUTE_EVENT_BROKEN, .name = instance, .epoch = epoch, .master = master});
}

static void control_on_switched(void *ctx, const char *instance, uint64_t epoch, uint32_t acks,
                                int64_t took_us)
{
    control_step(ctx, (struct route_event){.type = ROUTE_EVENT_SWITCHED,
                                           .name = instance,
                                           .epoch = epoch,
                                           .acks = acks,
                                           .took_us = took_us});
}

static void control_on_held(void *ctx, const char *instance, uint64_t epoch, uint64_t number)
{
    control_step(ctx, (struct route_event){
                          .type = ROUTE_EVENT_HELD, .name = instance, .epoch = epoch, .number = number});
}

static void control_on_silent(void *ctx, const char *instance, uint64_t epoch,
                              const struct topology_address *master)
{
    control_step(ctx, (struct route_event){
                          .type = ROUTE_EVENT_SILENT, .name = instance, .epoch = epoch, .master = master});
}

static void control_on_listen_failed(void *ctx, const char *instance, uint16_t port, int err)
{
    struct control *c = ctx;

    log_error("event=listener.failed instance=%s address=%s port=%u reason=\"%s\" say=\"clients of this host "
              "can't reach it; who else listens there? It is tried again\"",
              instance, c->config.bind, (unsigned)port, strerror(err));
}

/* ---- start and end ------------------------------------------------------------------------------------- */

static int control_start_workers(struct control *c)
{
    struct worker_config config = {.control = c->loop,
                                   .bind = c->config.bind,
                                   .zone = c->config.zone,
                                   .ports = c->ports,
                                   .limits = c->limits,
                                   .hold_ms = c->config.hold_ms,
                                   .ack_ms = c->config.ack_ms,
                                   .waits = c->config.waits,
                                   .may_move = c->config.threads == 1 && tcp_is_loopback(c->config.bind),
                                   .io_uring = c->config.io_uring,
                                   .on_broken = control_on_broken,
                                   .on_switched = control_on_switched,
                                   .on_listen_failed = control_on_listen_failed,
                                   .on_held = control_on_held,
                                   .on_silent = control_on_silent,
                                   .ctx = c};
    assert(c->config.threads >= 1 && c->config.threads <= CONTROL_THREADS_MAX);
    for (; c->n_workers < c->config.threads; c->n_workers++) {
        int err = worker_start(&c->workers[c->n_workers], &config);
        if (err != 0)
            return err;
    }
    return 0;
}

static void control_read_cache(struct control *c)
{
    struct route *routes = NULL;
    size_t n = 0;
    char why[200];
    int err = cache_file_read(c->config.cache_path, &routes, &n, why, sizeof(why));

    if (err == ERR_NOT_FOUND)
        log_info("event=cache_file.absent file=\"%s\"", c->config.cache_path);
    else if (err != 0)
        log_warn(
            "event=cache_file.ignored file=\"%s\" reason=%s say=\"%s; the routes are read from ZooKeeper "
            "and it is written anew\"",
            c->config.cache_path, err_name(err), why);
    else
        log_info("event=cache_file.read file=\"%s\" routes=%zu", c->config.cache_path, n);
    for (size_t i = 0; i < n; i++)
        control_step(c, (struct route_event){.type = ROUTE_EVENT_CACHED, .route = &routes[i]});
    free(routes);
}

static int control_open_store(struct control *c)
{
    struct zk_session_config zk = {
        .hosts = c->config.zk, .timeout_ms = CONTROL_SESSION_MS, .on_state = control_on_zk, .ctx = c};
    struct topology_proxy *self = &c->self;
    int err = zk_session_open(&c->zk, c->loop, &zk);

    self->threads = (uint32_t)c->config.threads;
    self->started_ms = loop_wall_ms();
    snprintf(self->id, sizeof(self->id), "%s", c->config.id);
    snprintf(self->bind, sizeof(self->bind), "%s", c->config.bind);
    snprintf(self->version, sizeof(self->version), "%s", MR_VERSION);
    if (err == 0) {
        struct snapshot_config snapshot = {.zk = c->zk,
                                           .on_record = control_on_record,
                                           .on_bad = control_on_bad,
                                           .on_done = control_on_read,
                                           .on_moved = control_on_moved,
                                           .ctx = c};
        err = snapshot_open(&c->snapshot, &snapshot);
    }
    if (err == 0)
        err = directory_open(&c->directory, c->zk, control_on_controllers, c);
    if (err == 0)
        err = registration_open(&c->registration, c->zk, self);
    return err;
}

void control_set_http(struct control *c, const char *address)
{
    snprintf(c->self.http, sizeof(c->self.http), "%s", address);
    registration_describe(c->registration, &c->self);
}

static void control_start_timers(struct control *c)
{
    ev_timer_init(&c->deadline, control_on_deadline, 0, 0);
    c->deadline.data = c;
    ev_timer_init(&c->unreachable, control_on_unreachable, c->config.unreachable_ms / 1e3, 0);
    c->unreachable.data = c;
    ev_timer_start(loop_ev(c->loop), &c->unreachable);
}

int control_open(struct control **out, struct loop *loop, const struct control_config *config)
{
    struct control *c = calloc(1, sizeof(*c));

    assert(config->zk && config->id && config->bind && config->unreachable_ms > 0);
    if (!c)
        return ERR_NOMEM;
    c->config = *config;
    c->loop = loop;
    route_book_init(&c->book, (uint32_t)config->threads, loop_now_us(loop));
    control_start_timers(c);
    c->limits = limits_open(&config->limits);
    c->ports = config->threads > 1 ? ports_create() : NULL;
    bool enough = c->limits && (c->ports || config->threads == 1);
    int err = enough ? control_start_workers(c) : ERR_NOMEM;
    if (err == 0)
        err = subscriber_open(&c->subscriber, loop, &c->config.key, control_on_message, c);
    if (err == 0 && config->cache_path)
        err = cache_file_open(&c->cache, loop, config->cache_path, &c->book.table);
    if (err == 0)
        err = control_open_store(c);
    if (err != 0) {
        control_close(c);
        return err;
    }
    if (config->cache_path)
        control_read_cache(c);
    control_step(c, (struct route_event){.type = ROUTE_EVENT_TICK});
    *out = c;
    return 0;
}

static void control_on_worker_drained(void *ctx)
{
    struct control *c = ctx;

    assert(c->n_draining > 0);
    if (--c->n_draining == 0)
        c->on_drained(c->drained_ctx);
}

void control_drain(struct control *c, int limit_ms, void (*on_done)(void *ctx), void *ctx)
{
    assert(on_done && !c->on_drained);
    c->on_drained = on_done;
    c->drained_ctx = ctx;
    c->n_draining = c->n_workers;
    for (int i = 0; i < c->n_workers; i++)
        worker_drain(c->workers[i], limit_ms, control_on_worker_drained, c);
}

void control_close(struct control *c)
{
    enum { CLOSE_WAIT_MS = 1000 };

    if (!c)
        return;
    ev_timer_stop(loop_ev(c->loop), &c->deadline);
    ev_timer_stop(loop_ev(c->loop), &c->unreachable);
    if (c->zk)
        zk_session_close(c->zk, CLOSE_WAIT_MS);
    registration_close(c->registration);
    directory_close(c->directory);
    snapshot_close(c->snapshot);
    subscriber_close(c->subscriber);
    for (int i = 0; i < c->n_workers; i++)
        worker_stop(c->workers[i]);
    limits_close(c->limits);
    ports_free(c->ports);
    cache_file_close(c->cache);
    route_book_free(&c->book);
    free(c);
}

/* ---- for the status pages ------------------------------------------------------------------------------ */

const struct route_book *control_book(const struct control *c)
{
    return &c->book;
}

const struct control_config *control_configured(const struct control *c)
{
    return &c->config;
}

void control_read_stats(struct control *c, const char *instance, struct worker_stats *out)
{
    memset(out, 0, sizeof(*out));
    for (int i = 0; i < c->n_workers; i++) {
        struct worker_stats one;
        worker_read_stats(c->workers[i], instance, &one);
        out->clients += one.clients;
        out->accepted += one.accepted;
        out->requests += one.requests;
        out->held += one.held;
        out->replayed += one.replayed;
        out->unknown += one.unknown;
        out->rejected += one.rejected;
        out->received_bytes += one.received_bytes;
        out->sent_bytes += one.sent_bytes;
        out->masters += one.masters;
        out->replicas += one.replicas;
        out->replica_reads += one.replica_reads;
        out->batched_reads += one.batched_reads;
        out->batched_writes += one.batched_writes;
        out->batches += one.batches;
        out->shorts += one.shorts;
        out->memory_bytes += one.memory_bytes;
        out->held_bytes += one.held_bytes;
    }
}

void control_read_latency(struct control *c, const char *instance, struct histogram_sum *out)
{
    memset(out, 0, sizeof(*out));
    for (int i = 0; i < c->n_workers; i++)
        worker_read_latency(c->workers[i], instance, out);
}

void control_read_held_time(struct control *c, const char *instance, struct histogram_sum *out)
{
    memset(out, 0, sizeof(*out));
    for (int i = 0; i < c->n_workers; i++)
        worker_read_held_time(c->workers[i], instance, out);
}

bool control_is_registered(const struct control *c)
{
    return registration_is_done(c->registration);
}

size_t control_controllers(const struct control *c)
{
    return subscriber_controllers(c->subscriber);
}

uint64_t control_garbled(const struct control *c)
{
    return subscriber_garbled(c->subscriber);
}
