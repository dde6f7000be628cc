/* Shared connections as time passes, routes change, and turns end. Contracts in mux.h. */
#include "common/loop.h"
#include "proxy/acks.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/mux_private.h"

#include <assert.h>
#include <stdlib.h>

enum { MUX_READS_MAX = 64 };

void mux_tick(struct instance *i, int64_t now_us)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        if (m->busy_us > 0 && now_us - m->busy_us >= MUX_RETIRED_US) {
            m->busy_us = 0;
            m->refused = false;
        }
        list_for_each(each, &m->conns)
        {
            struct mux_conn *conn = list_entry(each, struct mux_conn, node);
            shared_rest(&conn->shared);
            tally_memory(i, &conn->tally, shared_memory_bytes(&conn->shared));
            if (conn->slow && now_us - conn->slow_us >= MUX_RETIRED_US) {
                session_fail(&conn->slow->session, "it doesn't read a large reply that others wait behind");
                client_touch(conn->slow);
            } else if (!conn->ready && conn->retired_us == 0 &&
                       now_us - conn->heard_us >= MUX_CONNECT_TIMEOUT_US) {
                mux_lose(conn, "timeout", true);
            } else if (conn->retired_us > 0 && !conn->slow &&
                       (shared_count(&conn->shared) == 0 ||
                        now_us - conn->retired_us >= 2 * MUX_RETIRED_US)) {
                mux_close(conn, false);
            }
        }
    }
}

/* ---- routes and ends --------------------------------------------------------------------------------------
 */

/* What the old master has sent already counts. False: the connection is gone. */
static bool mux_read_out(struct mux_conn *conn)
{
    struct shard *shard = conn->mux->instance->shard;
    ssize_t n = 1;

    for (int k = 0; k < MUX_READS_MAX && n > 0 && shared_count(&conn->shared) > 0; k++) {
        n = conn->ready && !conn->slow ? backend_read(conn->backend, shard->buffer, SHARD_BUFFER) : 0;
        tally_reply(shard, n);
        if (n > 0 && !mux_feed(conn, shard->buffer, (size_t)n))
            return false;
    }
    return true;
}

void mux_switch(struct instance *i, bool read_out)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        if (mux_is_replica(m))
            continue; /* mux_forget_replicas() */
        list_for_each(each, &m->conns)
        {
            struct mux_conn *conn = list_entry(each, struct mux_conn, node);
            if (topology_address_equal(backend_address(conn->backend), &i->route.master))
                continue;
            if (!read_out || mux_read_out(conn))
                mux_close(conn, false);
        }
    }
}

void mux_forgive(struct instance *i)
{
    list_for_each(node, &i->muxes) list_entry(node, struct mux, node)->refused = false;
}

void mux_close_all(struct instance *i)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        list_for_each(each, &m->conns) mux_close(list_entry(each, struct mux_conn, node), false);
    }
}

void mux_free(struct mux *m)
{
    assert(list_empty(&m->conns) && list_empty(&m->waiting));
    --*(mux_is_replica(m) ? &m->instance->n_replica_muxes : &m->instance->n_muxes);
    list_remove(&m->node);
    buf_free(&m->key);
    free(m);
}

void mux_free_all(struct instance *i)
{
    mux_close_all(i);
    list_for_each(node, &i->muxes) mux_free(list_entry(node, struct mux, node));
}

uint64_t mux_in_flight(const struct instance *i)
{
    uint64_t n = 0;

    list_for_each(node, &i->muxes)
    {
        const struct mux *m = list_entry(node, const struct mux, node);
        if (mux_is_replica(m))
            continue; /* a read there is none of a switchover's business */
        list_for_each(each, &m->conns) n +=
            shared_count(&list_entry(each, const struct mux_conn, node)->shared);
    }
    return n;
}

int64_t mux_silent_since_us(const struct instance *i)
{
    int64_t since_us = 0;

    list_for_each(node, &i->muxes)
    {
        const struct mux *m = list_entry(node, const struct mux, node);
        const struct mux_conn *conn = m->current;
        if (!conn || mux_is_replica(m) || !conn->ready || shared_count(&conn->shared) == 0)
            continue;
        int64_t due_us = conn->heard_us + (conn->shared.batch > 0 ? (int64_t)i->env.ack_ms * 1000 : 0);
        if (since_us == 0 || due_us < since_us)
            since_us = due_us;
    }
    return since_us;
}

/* ---- the end of a turn ------------------------------------------------------------------------------------
 */

/* A client that is alone has its acknowledgement asked for on the same connection (durable.h). */
static void mux_ask(struct mux_conn *conn)
{
    struct mux *m = conn->mux;
    char text[ACKS_TEXT_MAX];
    size_t len = 0;

    if (mux_is_replica(m) || !conn->ready || m->current != conn || conn->blocked || conn->shared.batch > 0 ||
        shared_span(&conn->shared).len == 0)
        return;
    uint64_t batch = acks_begin_inline(m->instance, &m->key, text, &len);
    if (batch > 0 && shared_ask(&conn->shared, batch, text, len))
        acks_lost_inline(m->instance, batch, false);
}

void mux_write(struct mux_conn *conn)
{
    bool full = !shared_has_room(&conn->shared);
    struct buf_span span;

    while (backend_is_connected(conn->backend) && !conn->blocked &&
           (span = shared_span(&conn->shared)).len > 0) {
        ssize_t wrote = backend_write(conn->backend, &span, 1);
        /* When it is broken: what the server said before is still to be read, reading tells of the end. */
        if (wrote > 0)
            shared_wrote(&conn->shared, (size_t)wrote);
        conn->blocked = wrote < 0 || (size_t)wrote < span.len;
    }
    tally_memory(conn->mux->instance, &conn->tally, shared_memory_bytes(&conn->shared));
    backend_want(conn->backend, !conn->slow, conn->blocked);
    if (full && shared_has_room(&conn->shared))
        mux_touch_waiting(conn->mux);
}

void mux_settle(struct shard *shard)
{
    struct list *node;

    while ((node = list_first(&shard->flush)) != NULL) {
        struct mux_conn *conn = list_entry(node, struct mux_conn, dirty);
        list_remove(node);
        mux_ask(conn);
        mux_write(conn);
    }
}
