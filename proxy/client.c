#include "proxy/client.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/backend.h"
#include "proxy/core/pipeline.h"
#include "proxy/instance.h"
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

static void client_on_readable(struct client *c)
{
    struct shard *shard = c->instance->shard;
    ssize_t n = net_read(c->io.fd, shard->buffer, SHARD_BUFFER);

    if (n == ERR_BUSY)
        return;
    if (n > 0)
        session_take_request(&c->session, client_now_ms(c), shard->buffer, (size_t)n);
    else
        session_client_left(&c->session);
    client_touch(c);
}

static void client_on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    struct client *c = io->data;

    (void)ev;
    if ((revents & EV_READ) && session_reads_client(&c->session))
        client_on_readable(c);
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

static void client_close_backend(struct client *c)
{
    if (!c->backend)
        return;
    if (!backend_is_connected(c->backend))
        c->instance->connecting--;
    backend_close(c->backend);
    c->backend = NULL;
    c->blocked = false;
}

void client_close(struct client *c, const char *reason)
{
    struct instance *i = c->instance;

    if (reason)
        log_info("event=client.closed instance=%s client=%u reason=\"%s\"", i->route.name, c->id, reason);
    client_close_backend(c);
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
        if (n > 0)
            session_take_reply(&c->session, client_now_ms(c), shard->buffer, (size_t)n);
    }
}

static void client_lose_backend(struct client *c, const char *what, int err)
{
    struct instance *i = c->instance;
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    log_debug("event=backend.%s instance=%s client=%u master=%s reason=\"%s\"", what, i->route.name, c->id,
              topology_address_format(backend_address(c->backend), text), err ? strerror(err) : "closed");
    client_detach(c);
    instance_doubt(i);
}

static void client_on_reply(struct client *c)
{
    struct shard *shard = c->instance->shard;
    ssize_t n = backend_read(c->backend, shard->buffer, SHARD_BUFFER);

    if (n == ERR_BUSY)
        return;
    if (n <= 0) {
        client_lose_backend(c, "lost", 0);
        return;
    }
    silence_heard(c);
    session_take_reply(&c->session, client_now_ms(c), shard->buffer, (size_t)n);
    if (!(c->session.actions & (SESSION_DOUBT | SESSION_CLOSE)) && c->session.link == SESSION_READY)
        instance_trust(c->instance);
}

static void client_on_backend(void *owner, enum backend_event event, int err)
{
    struct client *c = owner;

    client_touch(c);
    switch (event) {
    case BACKEND_CONNECTED:
        c->instance->connecting--;
        session_attached(&c->session, client_now_ms(c));
        break;
    case BACKEND_FAILED:
        client_lose_backend(c, "refused", err);
        break;
    case BACKEND_READABLE:
        if (session_reads_backend(&c->session))
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

    assert(!c->backend);
    c->backend =
        backend_open(i->shard->ev, &i->route.master, loop_now_us(i->shard->loop), client_on_backend, c);
    if (c->backend) {
        i->connecting++;
        return true;
    }
    log_warn("event=backend.failed instance=%s client=%u reason=\"%s\"", i->route.name, c->id,
             strerror(errno));
    return false;
}

void client_tick(struct client *c, int64_t now_us)
{
    if (c->backend && !backend_is_connected(c->backend) &&
        now_us - backend_opened_us(c->backend) >= CLIENT_CONNECT_TIMEOUT_US)
        client_lose_backend(c, "timeout", ETIMEDOUT);
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

static bool client_write_replies(struct client *c)
{
    for (;;) {
        struct buf_span span = session_reply_span(&c->session);
        if (span.len == 0)
            return true;
        ssize_t wrote = net_write(c->io.fd, &span, 1);
        if (wrote == ERR_BUSY)
            return true;
        if (wrote < 0)
            return false;
        session_reply_wrote(&c->session, (size_t)wrote);
        if ((size_t)wrote < span.len)
            return true;
    }
}

/* What to wait for until the next event. */
static void client_wait(struct client *c)
{
    struct ev_loop *ev = c->instance->shard->ev;
    bool reply_left = session_reply_span(&c->session).len > 0;
    uint32_t at_ms;

    net_watch(ev, &c->io, (session_reads_client(&c->session) ? EV_READ : 0) | (reply_left ? EV_WRITE : 0));
    if (c->backend)
        backend_want(c->backend, session_reads_backend(&c->session), c->blocked);
    bool connecting = c->backend && !backend_is_connected(c->backend);
    bool queued = !c->backend && session_wants_backend(&c->session);
    bool timed = connecting || session_deadline(&c->session, &at_ms);
    if (queued && list_empty(&c->queue))
        list_push_back(&c->instance->queue, &c->queue);
    else if (!queued)
        list_remove(&c->queue);
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
        if (actions & SESSION_DOUBT)
            instance_doubt(i);
        if (actions & SESSION_DETACH)
            client_close_backend(c);
        if (actions & SESSION_CLOSE) {
            client_close(c, c->session.reason);
            return;
        }
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
    client_wait(c);
    silence_look(c);
    switchover_look(c);
}
