#include "proxy/core/durable.h"

#include "proxy/core/names.h"

#include <assert.h>
#include <stdlib.h>

enum { DURABLE_SIZE_MIN = 64 };

struct durable_entry {
    struct durable_user *user; /* NULL: it is gone */
    uint64_t needs;
    uint32_t reply_len, request_len;
    struct durable_note note;
};

void durable_free(struct durable *d)
{
    assert(durable_count(d) == 0);
    free(d->ring);
    free(d->last);
    free(d->marks);
    buf_free(&d->replies);
    buf_free(&d->requests);
    *d = (struct durable){0};
}

size_t durable_memory_bytes(const struct durable *d)
{
    size_t slots = d->last ? DURABLE_SLOTS * (sizeof(*d->last) + sizeof(*d->marks)) : 0;

    return d->size * sizeof(struct durable_entry) + d->replies.size + d->requests.size + slots;
}

void durable_set(struct durable *d, bool strict, uint32_t acks)
{
    d->on = strict;
    d->acks = acks;
    if (d->next == 0)
        d->next = 1;
    if (!strict || d->last)
        return;
    d->last = calloc(DURABLE_SLOTS, sizeof(*d->last));
    d->marks = calloc(DURABLE_SLOTS, sizeof(*d->marks));
    if (d->last && d->marks)
        return;
    free(d->last);
    free(d->marks);
    d->last = NULL; /* then every write may have been to any key */
    d->marks = NULL;
}

/* ---- requests -------------------------------------------------------------------------------------------
 */

uint16_t durable_slot(const char *key, size_t len)
{
    uint32_t hash = names_hash(key, len);

    return (uint16_t)((hash ^ (hash >> 16)) & (DURABLE_SLOTS - 1));
}

void durable_mark(struct durable *d, uint16_t slot)
{
    assert(slot <= DURABLE_ANY);
    d->marks_all++;
    if (slot == DURABLE_ANY || !d->marks)
        d->marks_any++;
    else
        d->marks[slot]++;
}

/* Which batch covers a reply that comes now, over a connection with that inline batch under way. Once a later
 * one was sent, which doesn't cover it, that one's answer would pass for its own: then it is the next. */
static uint64_t durable_covering(const struct durable *d, uint64_t batch)
{
    bool counts = batch > 0 && d->batches[DURABLE_INLINE].number == batch && d->next == batch + 1;

    return counts ? batch : d->next;
}

/* batch: that covers it; 0: it wasn't executed. */
static void durable_end_mark(struct durable *d, uint16_t slot, uint64_t batch)
{
    assert(slot <= DURABLE_ANY && d->marks_all > 0);
    bool any = slot == DURABLE_ANY || !d->marks || d->marks[slot] == 0;

    /* One from before there were slots counts among the others. */
    assert(!any || d->marks_any > 0);
    d->marks_all--;
    if (any)
        d->marks_any--;
    else
        d->marks[slot]--;
    if (batch == 0)
        return;
    uint64_t *last = any ? &d->last_any : &d->last[slot];
    *last = batch > *last ? batch : *last;
    d->last_all = batch > d->last_all ? batch : d->last_all;
}

void durable_unmark(struct durable *d, uint16_t slot, bool done)
{
    durable_end_mark(d, slot, done ? d->next : 0);
}

void durable_unmark_inline(struct durable *d, uint16_t slot, uint64_t batch)
{
    durable_end_mark(d, slot, durable_covering(d, batch));
}

/* ---- replies --------------------------------------------------------------------------------------------
 */

uint64_t durable_write_needs(const struct durable *d)
{
    return d->on ? d->next : 0;
}

uint64_t durable_write_needs_inline(const struct durable *d, uint64_t batch)
{
    return d->on ? durable_covering(d, batch) : 0;
}

uint64_t durable_read_needs(const struct durable *d, uint16_t slot)
{
    assert(slot <= DURABLE_ANY);
    bool any = slot == DURABLE_ANY || !d->last;
    uint64_t last = any ? d->last_all : d->last[slot] > d->last_any ? d->last[slot] : d->last_any;
    uint32_t marks = any ? d->marks_all : d->marks_any + d->marks[slot];

    if (!d->on || (marks == 0 && last <= d->acked))
        return 0;
    /* One under way may have been seen; so may one whose batch was answered, by too few. */
    return marks > 0 || last <= d->settled ? d->next : last;
}

static struct durable_entry *durable_at(const struct durable *d, uint64_t at)
{
    assert(at >= d->head && at < d->tail);
    return &d->ring[at & (d->size - 1)];
}

static bool durable_grow(struct durable *d)
{
    uint32_t size = d->size ? d->size * 2 : DURABLE_SIZE_MIN;
    struct durable_entry *ring = malloc(size * sizeof(*ring));

    if (!ring)
        return false;
    for (uint64_t at = d->head; at < d->tail; at++)
        ring[at & (size - 1)] = *durable_at(d, at);
    free(d->ring);
    d->ring = ring;
    d->size = size;
    return true;
}

int durable_hold(struct durable *d, struct durable_user *u, uint64_t needs, const struct durable_note *note,
                 struct buf_span request, struct buf_span reply)
{
    assert(u && needs <= d->next && d->gone <= d->head);
    assert(needs > 0 || u->held > 0);
    durable_end_steps(d);
    if (durable_count(d) == d->size && !durable_grow(d))
        return ERR_NOMEM;
    if (request.len > 0 && buf_append(&d->requests, request.data, request.len))
        return ERR_NOMEM;
    if (reply.len > 0 && buf_append(&d->replies, reply.data, reply.len)) {
        buf_cut(&d->requests, buf_end(&d->requests) - request.len);
        return ERR_NOMEM;
    }
    d->tail++;
    *durable_at(d, d->tail - 1) = (struct durable_entry){.user = u,
                                                         .needs = needs,
                                                         .reply_len = (uint32_t)reply.len,
                                                         .request_len = (uint32_t)request.len,
                                                         .note = *note};
    u->held++;
    u->held_bytes += (uint32_t)reply.len;
    if (needs == d->next) {
        d->due = true;
        d->uncovered++;
    }
    return 0;
}

void durable_leave(struct durable *d, struct durable_user *u)
{
    for (uint64_t at = d->head; u->held > 0; at++) {
        struct durable_entry *e = durable_at(d, at);
        if (e->user != u)
            continue;
        e->user = NULL;
        u->held--;
    }
    u->held_bytes = 0;
}

/* ---- acknowledgements -----------------------------------------------------------------------------------
 */

void durable_opened(struct durable *d)
{
    assert(!d->ready);
    d->ready = true;
}

void durable_block(struct durable *d)
{
    d->ready = false;
}

int durable_send(struct durable *d, uint32_t *acks)
{
    int conn = -1;
    bool under_way = d->batches[DURABLE_INLINE].number > 0;

    if (!d->due || !d->ready)
        return -1;
    for (int i = DURABLE_CONNS - 1; i >= 0; i--) {
        if (d->batches[i].number == 0)
            conn = i;
        else
            under_way = true;
    }
    /* Each costs the master and its replicas the same, however many replies it is for. */
    if (under_way && (uint64_t)d->uncovered * DURABLE_CONNS < durable_count(d) - d->uncovered)
        return -1;
    if (conn < 0)
        return -1;
    d->batches[conn] = (struct durable_batch){.number = d->next, .acks = d->acks};
    d->next++;
    d->due = false;
    d->uncovered = 0;
    *acks = d->acks;
    return conn;
}

void durable_acked(struct durable *d, int conn, uint32_t n)
{
    assert(conn >= 0 && conn <= DURABLE_INLINE && d->batches[conn].number > 0);
    struct durable_batch b = d->batches[conn];

    d->batches[conn].number = 0;
    if (b.number > d->settled)
        d->settled = b.number;
    if (n >= b.acks && b.number > d->acked)
        d->acked = b.number;
    if (n < b.acks) {
        d->got = n;
        d->wanted = b.acks;
    }
    assert(d->acked <= d->settled && d->settled < d->next);
}

uint64_t durable_begin_inline(struct durable *d, uint64_t clients, uint32_t *acks)
{
    /* Another client's requests would wait behind it. What is held already is for the ack connections: they
     * are quicker, as its replies are here. */
    if (clients != 1 || !d->on || !d->ready || d->marks_all == 0 || durable_count(d) > 0)
        return 0;
    for (int i = 0; i <= DURABLE_INLINE; i++)
        if (d->batches[i].number > 0)
            return 0;
    d->batches[DURABLE_INLINE] = (struct durable_batch){.number = d->next, .acks = d->acks};
    *acks = d->acks;
    return d->next++;
}

void durable_acked_inline(struct durable *d, uint64_t batch, uint32_t n)
{
    if (batch > 0 && d->batches[DURABLE_INLINE].number == batch)
        durable_acked(d, DURABLE_INLINE, n);
}

void durable_lost_inline(struct durable *d, uint64_t batch)
{
    if (batch == 0 || d->batches[DURABLE_INLINE].number != batch)
        return;
    d->batches[DURABLE_INLINE].number = 0;
    d->due = true; /* a later one covers it, and what reads may yet wait for */
}

void durable_lost(struct durable *d)
{
    for (int i = 0; i <= DURABLE_INLINE; i++)
        d->batches[i].number = 0;
    if (d->next > 0)
        d->settled = d->next - 1; /* those under way are never answered */
    d->ready = d->due = false;
    d->uncovered = 0;
    d->gone = d->tail;
}

void durable_vouch(struct durable *d)
{
    d->acked = d->settled = d->next;
    d->next++;
    for (int i = 0; i <= DURABLE_INLINE; i++)
        d->batches[i].number = 0;
    d->due = false;
    d->uncovered = 0;
}

void durable_renew(struct durable *d)
{
    assert(durable_count(d) == 0);
    d->acked = d->settled = d->next;
    d->next++;
}

static enum durable_fate durable_fate(const struct durable *d, const struct durable_entry *e)
{
    if (d->head < d->gone)
        return DURABLE_GONE;
    if (e->needs > d->settled)
        return DURABLE_WAITS;
    return e->needs <= d->acked ? DURABLE_RELEASED : DURABLE_SHORT;
}

void durable_step(struct durable *d, struct durable_step *out)
{
    *out = (struct durable_step){.fate = DURABLE_WAITS};
    if (durable_count(d) == 0)
        return;
    const struct durable_entry *e = durable_at(d, d->head);
    out->fate = durable_fate(d, e);
    if (out->fate == DURABLE_WAITS)
        return;
    out->user = e->user;
    out->note = e->note;
    if (e->reply_len > 0)
        out->reply =
            (struct buf_span){buf_at(&d->replies, buf_start(&d->replies) + d->used_reply), e->reply_len};
    if (e->request_len > 0)
        out->request = (struct buf_span){buf_at(&d->requests, buf_start(&d->requests) + d->used_request),
                                         e->request_len};
    d->used_reply += e->reply_len;
    d->used_request += e->request_len;
    if (e->user) {
        e->user->held--;
        e->user->held_bytes -= e->reply_len;
    }
    d->head++;
    if (d->head == d->tail && d->size > DURABLE_SIZE_MIN) {
        free(d->ring);
        d->ring = NULL;
        d->size = 0;
    }
}

void durable_end_steps(struct durable *d)
{
    if (d->used_reply > 0)
        buf_consume(&d->replies, d->used_reply);
    if (d->used_request > 0)
        buf_consume(&d->requests, d->used_request);
    d->used_reply = d->used_request = 0;
}
