#include "proxy/client.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/acks.h"
#include "proxy/backend.h"
#include "proxy/core/pipeline.h"
#include "proxy/instance.h"
#include "proxy/limits.h"
#include "proxy/mux.h"
#include "proxy/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLIENT_CONNECT_TIMEOUT_US ((int64_t)1000000)

static uint32_t client_now_ms(const struct client *c)
{
    return shard_now_ms(c->instance->shard);
}

void client_touch(struct client *c)
{
    list_remove(&c->dirty);
    list_push_back(&c->instance->shard->dirty, &c->dirty);
}

/* The counter of such connections as its own one. */
static atomic_uint_least64_t *client_connections(const struct client *c)
{
    struct instance_counts *counts = &c->instance->counts;

    return c->at_replica ? &counts->replicas : &counts->masters;
}

static void client_close_backend(struct client *c)
{
    if (!c->backend)
        return;
    if (!backend_is_connected(c->backend))
        c->instance->connecting--;
    backend_close(c->backend);
    session_count(client_connections(c), (uint64_t)-1);
    c->backend = NULL;
    c->blocked = c->at_replica = false;
    if (c->strides)
        list_remove(&c->queue);
    c->strides = false;
}

/* One that doesn't take its replies has the next requests wait in its socket, unless they go over a
 * connection of its own, which is left unread: some send all that they have before they read. */
static bool client_reads(const struct client *c)
{
    return session_reads_client(&c->session) && !c->strides &&
           (c->backend || !session_is_slow(&c->session) || !session_may_share(&c->session, client_now_ms(c)));
}

/* The mux that takes its requests now, or NULL. */
static struct mux *client_open_mux(struct client *c)
{
    if (c->backend || !session_may_share(&c->session, client_now_ms(c)))
        return NULL;
    if (!c->mux)
        c->mux = mux_of(c->instance, &c->session);
    return c->mux && mux_is_open(c->mux) ? c->mux : NULL;
}

/* The one to a replica, for what it reads, or NULL: the master serves that, too. */
static struct mux *client_open_replica(struct client *c)
{
    struct instance *i = c->instance;

    if (!session_reads_replica(&c->session) || c->backend ||
        !session_may_share(&c->session, client_now_ms(c)))
        return NULL;
    if (c->readers_seen != i->readers_changed) {
        c->reads = mux_replica_of(i, &c->session, c->id);
        c->readers_seen = i->readers_changed;
    }
    if (!c->reads || mux_is_open(c->reads))
        return c->reads;
    if (mux_want(c->reads))
        client_touch(c); /* it is connected at the end of the turn */
    return NULL;
}

/* It needed a connection of its own, but not any more, and not for what it says now. */
static void client_leave_backend(struct client *c, const char *data, size_t len)
{
    if (!c->backend || !session_may_share(&c->session, client_now_ms(c)) || !session_is_parked(&c->session) ||
        !shared_may_take(data, len))
        return;
    struct mux *mux = mux_of(c->instance, &c->session);
    if (mux)
        (void)mux_want(mux);
    if (!mux || !mux_is_open(mux) || !session_leave_own(&c->session))
        return;
    c->mux = mux;
    c->shuns_replicas = false;
    client_close_backend(c);
}

/* Requests that wait in its session go over the shared connections. What is under way on one of them keeps
 * the others from taking any, so a client changes from the master to a replica or back when nothing is. */
static void client_share(struct client *c)
{
    struct mux *replica = client_open_replica(c), *mux;

    if (replica && mux_share(replica, c))
        return;
    if ((mux = client_open_mux(c)) != NULL)
        (void)mux_share(mux, c);
}

/* The same with the bytes that came: how many were taken. */
static size_t client_pass_on(struct client *c, const char *data, size_t len)
{
    struct mux *replica = client_open_replica(c), *mux = client_open_mux(c);
    size_t n = 0;

    if (!replica && !mux)
        return 0;
    if (session_has_no_request(&c->session)) {
        n = replica ? mux_take(replica, c, data, len) : 0;
        return n == 0 && mux ? mux_take(mux, c, data, len) : n;
    }
    if ((n = session_rest_of_request(&c->session, data, len)) > 0) {
        session_take_request(&c->session, client_now_ms(c), data, n);
        client_share(c);
    }
    return n;
}

/* What it sent: as much as can be goes straight to shared connections, the rest to its session. */
static void client_take(struct client *c, const char *data, size_t len)
{
    size_t n = 1;

    client_leave_backend(c, data, len);
    while (len > 0 && n > 0) {
        n = client_pass_on(c, data, len);
        data += n;
        len -= n;
    }
    if (len > 0)
        session_take_request(&c->session, client_now_ms(c), data, len);
    tally_client(c); /* the next client must see what waits by now */
    if (len > 0 || c->session.work)
        client_touch(c);
}

/* A large body on its way to its own backend. False: its bytes are to be seen. */
static bool client_stream_request(struct client *c)
{
    struct shard *shard = c->instance->shard;
    uint64_t most = c->backend && !c->blocked ? session_request_unseen(&c->session) : 0;
    size_t rest;

    if (most == 0 || !shard->bulk.is_open)
        return false;
    ssize_t n = bulk_pass(&shard->bulk, c->io.fd, backend_fd(c->backend),
                          most < SHARD_BUFFER ? (size_t)most : SHARD_BUFFER, shard->buffer, &rest);
    if (n == ERR_BUSY)
        return true;
    if (n <= 0)
        return false; /* reading tells of it */
    session_count(&c->instance->counts.received_bytes, (uint64_t)n);
    session_request_passed(&c->session, (uint64_t)n - rest);
    if (rest > 0)
        session_take_request(&c->session, client_now_ms(c), shard->buffer, rest);
    if (rest > 0 || (session_ends_stride(&c->session) && mux_echo(c->instance, c)))
        client_touch(c);
    return true;
}

static void client_on_readable(struct client *c)
{
    struct shard *shard = c->instance->shard;

    if (client_stream_request(c))
        return;
    size_t max = session_is_deep(&c->session) ? SESSION_DEEP_READ : SHARD_BUFFER;
    ssize_t n = net_read(c->io.fd, shard->buffer, max);

    if (n == ERR_BUSY)
        return;
    if (n > 0) {
        session_count(&c->instance->counts.received_bytes, (uint64_t)n);
        tally_arrival(shard);
        client_take(c, shard->buffer, (size_t)n);
        return;
    }
    session_client_left(&c->session);
    client_touch(c);
}

static void client_on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    struct client *c = io->data;

    (void)ev;
    if (revents & EV_WRITE)
        client_touch(c);
    if ((revents & EV_READ) && client_reads(c))
        client_on_readable(c);
    else if (revents & EV_READ)
        client_touch(c); /* it did when that was last looked at */
}

void client_drain(struct client *c)
{
    if (client_reads(c))
        client_on_readable(c);
    session_drain(&c->session);
    client_touch(c);
}

int client_open(struct instance *instance, int fd)
{
    struct client *c = calloc(1, sizeof(*c));

    if (!c) {
        close(fd);
        return ERR_NOMEM;
    }
    net_tune(fd);
    c->instance = instance;
    c->id = ++instance->shard->last_client_id;
    c->user.session = &c->session;
    list_init(&c->dirty);
    list_init(&c->queue);
    list_init(&c->timed);
    list_init(&c->awaiting);
    list_init(&c->node);
    list_push_back(&instance->clients, &c->node);
    session_init(&c->session, &instance->env, client_now_ms(c));
    ev_io_init(&c->io, client_on_io, fd, EV_READ);
    c->io.data = c;
    ev_io_start(instance->shard->ev, &c->io);
    instance->shard->n_clients++;
    session_count(&instance->counts.accepted, 1);
    session_count(&instance->counts.clients, 1);
    return 0;
}

void client_close(struct client *c, const char *reason)
{
    struct instance *i = c->instance;

    if (reason)
        log_info("event=client.closed instance=%s client=%u reason=\"%s\"", i->route.name, c->id, reason);
    client_close_backend(c);
    mux_leave(c);
    tally_forget_client(c);
    session_free(&c->session);
    ev_io_stop(i->shard->ev, &c->io);
    close(c->io.fd);
    list_remove(&c->node);
    list_remove(&c->dirty);
    list_remove(&c->queue);
    list_remove(&c->timed);
    list_remove(&c->awaiting);
    switchover_forget(c);
    i->shard->n_clients--;
    if (i->share)
        limits_leave(i->share);
    session_count(&i->counts.clients, (uint64_t)-1);
    free(c);
}

/* ---- its backend ------------------------------------------------------------------------------------------
 */

void client_detach(struct client *c)
{
    client_close_backend(c);
    session_detached(&c->session, client_now_ms(c));
    c->session.actions &= (uint8_t)~SESSION_DOUBT; /* it was about the connection that is gone */
    client_touch(c);
}

void client_read_out(struct client *c)
{
    enum { READS_MAX = 64 };
    struct shard *shard = c->instance->shard;
    ssize_t n = 1;

    for (int i = 0; i < READS_MAX && n > 0 && c->backend && backend_is_connected(c->backend); i++) {
        n = backend_read(c->backend, shard->buffer, SHARD_BUFFER);
        tally_reply(shard);
        if (n > 0)
            session_take_reply(&c->session, client_now_ms(c), shard->buffer, (size_t)n);
    }
}

static void client_lose_backend(struct client *c, const char *what, int err)
{
    struct instance *i = c->instance;
    bool at_replica = c->at_replica;
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    log_debug("event=backend.%s instance=%s client=%u member=%s reason=\"%s\"", what, i->route.name, c->id,
              topology_address_format(backend_address(c->backend), text), err ? strerror(err) : "closed");
    client_detach(c);
    if (at_replica)
        c->shuns_replicas = true;
    else
        instance_doubt(i);
}

/* As net_write(). */
static ssize_t client_write(struct client *c, struct buf_span span)
{
    ssize_t wrote = net_write(c->io.fd, &span, 1);

    if (wrote > 0)
        session_count(&c->instance->counts.sent_bytes, (uint64_t)wrote);
    return wrote;
}

/* A large body on its way from its own backend. False: its bytes are to be seen. */
static bool client_stream_reply(struct client *c)
{
    struct shard *shard = c->instance->shard;
    uint64_t most = session_reply_unseen(&c->session);
    size_t room = session_backend_room(&c->session), rest;

    if (most == 0 || c->broken || (c->session.actions & SESSION_CLOSE) || !shard->bulk.is_open)
        return false;
    ssize_t n = bulk_pass(&shard->bulk, backend_fd(c->backend), c->io.fd, most < room ? (size_t)most : room,
                          shard->buffer, &rest);
    if (n == ERR_BUSY)
        return true;
    if (n <= 0)
        return false; /* reading tells of it */
    silence_heard(c);
    session_count(&c->instance->counts.sent_bytes, (uint64_t)n - rest);
    session_reply_passed(&c->session, (uint64_t)n - rest);
    if (rest > 0)
        session_take_reply(&c->session, client_now_ms(c), shard->buffer, rest);
    return true;
}

static void client_on_reply(struct client *c)
{
    struct shard *shard = c->instance->shard;

    if (client_stream_reply(c))
        return;
    ssize_t n = backend_read(c->backend, shard->buffer, session_backend_room(&c->session));

    if (n == ERR_BUSY)
        return;
    if (n <= 0) {
        client_lose_backend(c, "lost", 0);
        return;
    }
    silence_heard(c);
    tally_reply(shard);
    struct buf_span lent = session_take_reply_lent(&c->session, client_now_ms(c), shard->buffer, (size_t)n);
    if (lent.len > 0) {
        bool closes = c->broken || (c->session.actions & SESSION_CLOSE);
        ssize_t wrote = closes ? 0 : client_write(c, lent);
        c->broken = c->broken || (wrote < 0 && wrote != ERR_BUSY);
        session_lent_wrote(&c->session, wrote > 0 ? (size_t)wrote : 0);
    }
    acks_touch(c->instance);
    if (!(c->session.actions & (SESSION_DOUBT | SESSION_CLOSE)) && c->session.link == SESSION_READY &&
        !c->at_replica)
        instance_trust(c->instance);
}

static void client_on_backend(void *owner, enum backend_event event, int err)
{
    struct client *c = owner;

    client_touch(c);
    switch (event) {
    case BACKEND_CONNECTED:
        c->instance->connecting--;
        if (c->at_replica)
            session_attached_to_replica(&c->session, client_now_ms(c));
        else
            session_attached(&c->session, client_now_ms(c));
        break;
    case BACKEND_FAILED:
        client_lose_backend(c, "refused", err);
        break;
    case BACKEND_READABLE:
        if (session_backend_room(&c->session) > 0)
            client_on_reply(c);
        break;
    case BACKEND_WRITABLE:
        c->blocked = false;
        break;
    }
}

bool client_connect(struct client *c)
{
    struct instance *i = c->instance;
    const struct topology_address *to = &i->route.master;

    assert(!c->backend && !c->user.on);
    if (!c->shuns_replicas && session_may_attach_to_replica(&c->session)) {
        const struct mux *replica = mux_replica_of(i, &c->session, c->id);
        to = replica ? mux_target(replica) : to;
    }
    c->at_replica = to != &i->route.master;
    c->stays = false;
    c->mux = c->reads = NULL; /* what it says there may make it another one's */
    c->readers_seen = 0;
    c->backend = backend_open(i->shard->ev, to, loop_now_us(i->shard->loop), client_on_backend, c);
    if (c->backend) {
        i->connecting++;
        session_count(client_connections(c), 1);
        return true;
    }
    c->shuns_replicas = c->shuns_replicas || c->at_replica;
    c->at_replica = false;
    log_warn("event=backend.failed instance=%s client=%u reason=\"%s\"", i->route.name, c->id,
             strerror(errno));
    return false;
}

/* It needs its own connection no longer, and says nothing. */
static void client_park(struct client *c)
{
    if (!c->backend || !session_may_share(&c->session, client_now_ms(c)) || !session_is_parked(&c->session) ||
        !instance_may_connect(c->instance))
        return;
    const struct mux *mux = mux_of(c->instance, &c->session);
    c->stays = !mux || mux_is_refused(mux);
    if (c->stays || !session_leave_own(&c->session))
        return;
    c->shuns_replicas = false;
    client_close_backend(c);
}

void client_tick(struct client *c, int64_t now_us)
{
    if (c->backend && !backend_is_connected(c->backend) &&
        now_us - backend_opened_us(c->backend) >= CLIENT_CONNECT_TIMEOUT_US)
        client_lose_backend(c, "timeout", ETIMEDOUT);
    client_park(c);
    session_expire(&c->session, client_now_ms(c));
    client_touch(c);
}

/* ---- the end of a turn ------------------------------------------------------------------------------------
 */

static void client_write_requests(struct client *c)
{
    struct buf_span spans[PIPELINE_SPANS_MAX];
    int n;

    while (c->backend && backend_is_connected(c->backend) && !c->blocked &&
           (n = session_request_spans(&c->session, spans, PIPELINE_SPANS_MAX)) > 0) {
        size_t want = 0;
        for (int i = 0; i < n; i++)
            want += spans[i].len;
        ssize_t wrote = backend_write(c->backend, spans, n);
        if (wrote < 0) {
            /* What the server said before it closed is still to be read: reading tells of the end. */
            c->blocked = true;
            return;
        }
        if (wrote > 0)
            session_request_wrote(&c->session, client_now_ms(c), (size_t)wrote);
        c->blocked = (size_t)wrote < want;
    }
}

void client_pass(struct client *c, const char *data, size_t len)
{
    struct buf_span span = {data, len};

    if (c->broken)
        return;
    if (session_reply_span(&c->session).len == 0) {
        ssize_t wrote = client_write(c, span);
        if (wrote == (ssize_t)len)
            return;
        c->broken = wrote < 0 && wrote != ERR_BUSY;
        span.data += wrote > 0 ? wrote : 0;
        span.len -= wrote > 0 ? (size_t)wrote : 0;
    }
    if (!c->broken)
        session_emit(&c->session, span.data, span.len);
    client_touch(c);
}

static bool client_write_replies(struct client *c)
{
    if (c->broken)
        return false;
    for (;;) {
        struct buf_span span = session_reply_span(&c->session);
        if (span.len == 0)
            return true;
        ssize_t wrote = client_write(c, span);
        if (wrote == ERR_BUSY)
            return true;
        if (wrote < 0)
            return false;
        session_reply_wrote(&c->session, (size_t)wrote);
        if (!session_is_slow(&c->session))
            mux_drained(c);
        if ((size_t)wrote < span.len)
            return true;
    }
}

/* Where it waits for a master, if it does. */
static void client_queue(struct client *c)
{
    struct list *to = NULL;

    if (c->strides)
        return;
    if (!c->backend && session_wants_backend(&c->session)) {
        to = &c->instance->queue;
        if (session_wants_shared(&c->session, client_now_ms(c))) {
            if (!c->mux)
                c->mux = mux_of(c->instance, &c->session);
            if (c->mux && !mux_is_refused(c->mux))
                to = mux_waiting(c->mux);
        }
    }
    if (!list_empty(&c->queue) && c->queued == to)
        return;
    list_remove(&c->queue);
    c->queued = to;
    if (to)
        list_push_back(to, &c->queue);
}

/* What to wait for until the next event. */
static void client_wait(struct client *c)
{
    struct ev_loop *ev = c->instance->shard->ev;
    bool reply_left = session_reply_span(&c->session).len > 0;
    uint32_t at_ms;

    net_watch(ev, &c->io, (client_reads(c) ? EV_READ : 0) | (reply_left ? EV_WRITE : 0));
    if (c->backend)
        backend_want(c->backend, session_backend_room(&c->session) > 0, c->blocked);
    bool connecting = c->backend && !backend_is_connected(c->backend);
    bool timed =
        connecting || session_deadline(&c->session, &at_ms) || (session_is_parked(&c->session) && !c->stays);
    client_queue(c);
    if (timed && list_empty(&c->timed))
        list_push_back(&c->instance->timed, &c->timed);
    else if (!timed)
        list_remove(&c->timed);
}

void client_settle(struct client *c)
{
    struct instance *i = c->instance;

    do {
        unsigned actions = session_take_actions(&c->session);
        if ((actions & SESSION_DOUBT) && c->at_replica)
            c->shuns_replicas = true;
        else if (actions & SESSION_DOUBT)
            instance_doubt(i);
        if (actions & SESSION_DETACH)
            client_close_backend(c);
        if (actions & SESSION_CLOSE) {
            client_close(c, c->session.reason);
            return;
        }
        if (c->session.work)
            client_share(c);
        client_write_requests(c);
        if (!client_write_replies(c)) {
            client_close(c, NULL);
            return;
        }
    } while (c->session.actions != 0);
    if (session_is_over(&c->session)) {
        client_close(c, NULL);
        return;
    }
    tally_client(c);
    client_wait(c);
    silence_look(c);
    switchover_look(c);
}
