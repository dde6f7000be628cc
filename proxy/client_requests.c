/* What a client sends, on its way to a shared connection or into its session. Contracts in client.h. */
#include "proxy/client_private.h"
#include "proxy/core/pipeline.h"
#include "proxy/instance.h"
#include "proxy/mux.h"
#include "proxy/net.h"

/* One that doesn't take its replies has the next requests wait in its socket, unless they go over a
 * connection of its own, which is left unread: some send all that they have before they read. */
bool client_reads(const struct client *c)
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
void client_share(struct client *c)
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
    ssize_t n = bulk_pass(&shard->bulk, c->io.fd, backend_fd(c->backend), (size_t)most, BULK_PIECE,
                          shard->buffer, &rest);
    if (n == ERR_BUSY)
        return true;
    if (n <= 0)
        return false; /* reading tells of it */
    session_count(&c->instance->counts.received_bytes, (uint64_t)n);
    shard->turn_bytes += (size_t)n;
    session_request_passed(&c->session, (uint64_t)n - rest);
    if (rest > 0)
        session_take_request(&c->session, client_now_ms(c), shard->buffer, rest);
    if (rest > 0 || (session_ends_stride(&c->session) && mux_echo(c->instance, c)))
        client_touch(c);
    return true;
}

void client_arrived(struct client *c, const char *data, ssize_t n)
{
    struct shard *shard = c->instance->shard;

    if (n == ERR_BUSY)
        return;
    if (n > 0) {
        session_count(&c->instance->counts.received_bytes, (uint64_t)n);
        shard->turn_bytes += (size_t)n;
        shard->n_arrived++;
        shard->n_arrived_own += c->backend != NULL;
        tally_arrival(shard);
        client_take(c, data, (size_t)n);
        shard->last_arrived = session_is_deep(&c->session) ? 0 : c->id;
        /* Alone on its connection it has nothing to gain by waiting for the turn's end, and of hundreds that
         * ask for much the first are served while the last are read. */
        if (c->backend && c->session.actions == 0)
            client_write_requests(c);
        return;
    }
    session_client_left(&c->session);
    client_touch(c);
}

void client_read(struct client *c)
{
    struct shard *shard = c->instance->shard;

    if (client_stream_request(c))
        return;
    size_t max = session_is_deep(&c->session) ? SESSION_DEEP_READ : SHARD_BUFFER;
    ssize_t n = net_read(c->io.fd, shard->buffer, max);

    c->sends_much = n >= GATHER_BYTES;
    client_arrived(c, shard->buffer, n);
}

static void client_read_now(struct client *c)
{
    if (!client_reads(c))
        client_touch(c); /* it did when that was last looked at */
    else if (c->backend || c->sends_much || !gather_add(&c->instance->shard->gather, c))
        client_read(c);
}

void client_on_readable(struct client *c)
{
    struct shard *shard = c->instance->shard;

    if (!list_empty(&c->unread))
        return;
    if (shard->turn_bytes >= SHARD_TURN_BYTES || !list_empty(&shard->unread))
        list_push_back(&shard->unread, &c->unread);
    else
        client_read_now(c);
}

/* Those that are left make the next turn begin at once: they are still readable. */
void client_read_unread(struct shard *shard)
{
    struct list *node;

    while (shard->turn_bytes < SHARD_TURN_BYTES && (node = list_first(&shard->unread)) != NULL) {
        list_remove(node);
        client_read_now(list_entry(node, struct client, unread));
    }
}
