/* A large body that one client sends to the master, and those who share a connection to it.
 *
 *   client ─► 128 KB ─► its own connection ──────────────► master        the master reads all that it finds
 *             PING ───► the shared connection ───────────► master        in a socket before it turns to the
 *   client ─► 128 KB ─► its own connection, after +PONG ─► master        next: it must not find very much
 */
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/mux_private.h"

/* Any that leads to the master: whose turn it is there concerns all. */
static struct mux_conn *mux_echoing(const struct instance *i)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        if (!mux_is_replica(m) && mux_is_open(m))
            return m->current;
    }
    return NULL;
}

bool mux_echo(struct instance *i, struct client *c)
{
    struct mux_conn *conn = mux_echoing(i);
    uint64_t before = conn ? shared_count(&conn->shared) : 0;
    uint64_t echo = conn ? shared_echo(&conn->shared) : 0;

    if (echo == 0)
        return false;
    conn->echo = echo;
    mux_taken(conn, before);
    list_remove(&c->queue);
    list_push_back(&conn->echoes, &c->queue);
    c->queued = &conn->echoes;
    c->strides = true;
    return true;
}

void mux_echo_end(struct mux_conn *conn)
{
    struct list *node;

    conn->echo = 0;
    while ((node = list_first(&conn->echoes)) != NULL) {
        struct client *c = list_entry(node, struct client, queue);
        list_remove(node);
        c->queued = NULL;
        c->strides = false;
        client_touch(c);
    }
}
