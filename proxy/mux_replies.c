/* Replies that one read of a shared connection brought, for many clients: written in one system call,
 * straight from where they were read to (batch.h).
 *
 *   mux_feed() ──► mux_replies_add() … mux_replies_add() ──► mux_replies_write() ──► clients' sockets
 *                                                                └─ what they don't take ──► session
 *
 * Between the two nothing else may be given to such a client: c->gathered says so. */
#include "proxy/client.h"
#include "proxy/mux_private.h"

#include <assert.h>

/* Its socket is the only place where replies of it wait. */
static bool mux_replies_may_gather(const struct mux_replies *r, const struct client *c,
                                   const struct shared_step *step)
{
    bool stays = step->data >= r->from && step->data + step->len <= r->from + r->len;

    return stays && step->len > 0 && step->len <= SHARED_REPLY_MAX && !step->part && !c->broken &&
           !c->session.closing && session_reply_span(&c->session).len == 0;
}

bool mux_replies_add(struct mux_replies *r, struct client *c, const struct shared_step *step)
{
    struct batch_item *last = r->n > 0 ? &r->items[r->n - 1] : NULL;

    if (!r->conn->mux->instance->shard->gather.batch)
        return false;
    if (c->gathered && last && r->clients[r->n - 1] == c && last->data + last->len == step->data &&
        mux_replies_may_gather(r, c, step)) {
        last->len += step->len;
        return true;
    }
    if (c->gathered || r->n == BATCH_MAX)
        mux_replies_write(r);
    if (!mux_replies_may_gather(r, c, step))
        return false;
    r->clients[r->n] = c;
    r->items[r->n++] = (struct batch_item){.fd = c->io.fd, .data = (char *)step->data, .len = step->len};
    c->gathered = true;
    return true;
}

void mux_replies_write(struct mux_replies *r)
{
    int n = r->n;
    struct instance *i = r->conn->mux->instance;

    bool together = batch_write(i->shard->gather.batch, r->items, n);
    session_count(&i->counts.batched_writes, together ? (uint64_t)n : 0);
    r->n = 0;
    for (int k = 0; k < n; k++) {
        struct client *c = r->clients[k];
        const struct batch_item *item = &r->items[k];
        assert(c->gathered);
        c->gathered = false;
        client_passed(c, item->data, item->len, item->result);
        mux_passed(r->conn, c, false);
    }
}
