#include "proxy/replies.h"

#include "proxy/client.h"
#include "proxy/instance.h"

#include <assert.h>

/* Its socket is the only place where replies of it wait. */
static bool replies_may_gather(const struct client *c, size_t len)
{
    return len > 0 && len <= REPLIES_BYTES_MAX && !c->broken && !c->session.closing &&
           session_reply_span(&c->session).len == 0;
}

bool replies_add(struct replies *r, struct client *c, const char *data, size_t len)
{
    struct batch_item *last = r->n > 0 ? &r->items[r->n - 1] : NULL;

    if (!r->instance->shard->gather.batch)
        return false;
    bool may = replies_may_gather(c, len);
    if (may && c->gathered && last && r->clients[r->n - 1] == c && last->data + last->len == data) {
        last->len += len;
        return true;
    }
    if (c->gathered || r->n == BATCH_MAX)
        replies_write(r);
    if (!may)
        return false;
    r->clients[r->n] = c;
    r->items[r->n++] = (struct batch_item){.fd = c->io.fd, .data = (char *)data, .len = len};
    c->gathered = true;
    return true;
}

void replies_make_way(struct replies *r, const struct client *c)
{
    if (c->gathered)
        replies_write(r);
}

void replies_write(struct replies *r)
{
    int n = r->n;

    bool together = batch_write(r->instance->shard->gather.batch, r->items, n);
    session_count(&r->instance->counts.batched_writes, together ? (uint64_t)n : 0);
    r->n = 0;
    for (int k = 0; k < n; k++) {
        struct client *c = r->clients[k];
        const struct batch_item *item = &r->items[k];
        assert(c->gathered);
        c->gathered = false;
        client_passed(c, item->data, item->len, item->result);
        r->on_passed(r->owner, c);
    }
}
