#include "proxy/client.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/acks.h"
#include "proxy/backend.h"
#include "proxy/client_private.h"
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

void client_close_backend(struct client *c)
{
    if (!c->backend)
        return;
    if (!backend_is_connected(c->backend))
        c->instance->connecting--;
    backend_close(c->backend);
    session_count(client_connections(c), (uint64_t)-1);
    client_window_leave(c);
    c->backend = NULL;
    c->blocked = c->at_replica = false;
    if (c->strides)
        list_remove(&c->queue);
    c->strides = false;
}

static void client_on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    struct client *c = io->data;

    (void)ev;
    if (revents & EV_WRITE)
        client_touch(c);
    if (revents & EV_READ)
        client_on_readable(c);
}

void client_drain(struct client *c)
{
    if (client_reads(c))
        client_read(c);
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
    net_keep_little(fd);
    c->instance = instance;
    c->id = ++instance->shard->last_client_id;
    c->user.session = &c->session;
    list_init(&c->dirty);
    list_init(&c->queue);
    list_init(&c->timed);
    list_init(&c->awaiting);
    list_init(&c->in_queue);
    list_init(&c->unread);
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
    gather_forget(&i->shard->gather, c);
    tally_forget_client(c);
    session_free(&c->session);
    ev_io_stop(i->shard->ev, &c->io);
    close(c->io.fd);
    list_remove(&c->node);
    list_remove(&c->dirty);
    list_remove(&c->queue);
    list_remove(&c->timed);
    list_remove(&c->awaiting);
    list_remove(&c->unread);
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
        tally_reply(shard, n);
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
    ssize_t n = bulk_pass(&shard->bulk, backend_fd(c->backend), c->io.fd, (size_t)most,
                          room < BULK_PIECE ? room : BULK_PIECE, shard->buffer, &rest);
    if (n == ERR_BUSY)
        return true;
    if (n <= 0)
        return false; /* reading tells of it */
    silence_heard(c);
    client_window_reply(c, (uint64_t)n);
    session_count(&c->instance->counts.sent_bytes, (uint64_t)n - rest);
    session_reply_passed(&c->session, (uint64_t)n - rest);
    if (rest > 0)
        session_take_reply(&c->session, client_now_ms(c), shard->buffer, rest);
    return true;
}

_Static_assert((int)SHARD_BUFFER >= (int)SESSION_READ_MAX && (int)SHARD_BUFFER >= (int)BULK_PIECE, "room");

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
    client_window_reply(c, (uint64_t)n);
    tally_reply(shard, n);
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
        backend_keep_little(c->backend);
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

void client_write_requests(struct client *c)
{
    struct buf_span spans[PIPELINE_SPANS_MAX];
    int n;

    while (c->backend && backend_is_connected(c->backend) && !c->blocked && client_may_ask(c) &&
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

void client_passed(struct client *c, const char *data, size_t len, ssize_t wrote)
{
    size_t taken = wrote > 0 ? (size_t)wrote : 0;

    session_count(&c->instance->counts.sent_bytes, taken);
    if (taken == len)
        return;
    c->broken = c->broken || (wrote < 0 && wrote != ERR_BUSY);
    if (!c->broken)
        session_emit(&c->session, data + taken, len - taken);
    client_touch(c);
}

void client_pass(struct client *c, const char *data, size_t len)
{
    struct buf_span span = {data, len};

    if (c->broken)
        return;
    bool waits = session_reply_span(&c->session).len > 0;
    client_passed(c, data, len, waits ? ERR_BUSY : net_write(c->io.fd, &span, 1));
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
    if (session_asks_nothing(&c->session))
        client_window_leave(c);
    tally_client(c);
    client_wait(c);
    silence_look(c);
    switchover_look(c);
}
