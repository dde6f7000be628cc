#include "proxy/core/pipeline.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { PIPELINE_SIZE_MIN = 4 };

void pipeline_free(struct pipeline *p)
{
    buf_free(&p->log);
    free(p->ring);
    p->ring = NULL;
    p->size = 0;
    p->in_flight = 0;
    p->head = p->reply = p->unsent = p->judged = p->tail;
    p->cursor = buf_end(&p->log);
}

struct pipeline_entry *pipeline_at(const struct pipeline *p, uint64_t seq)
{
    assert(seq >= p->head && seq < p->tail);
    return &p->ring[seq & (p->size - 1)];
}

static bool pipeline_grow(struct pipeline *p)
{
    uint32_t size = p->size ? p->size * 2 : PIPELINE_SIZE_MIN;
    struct pipeline_entry *ring = malloc(size * sizeof(*ring));

    if (!ring)
        return false;
    for (uint64_t seq = p->head; seq < p->tail; seq++)
        ring[seq & (size - 1)] = *pipeline_at(p, seq);
    free(p->ring);
    p->ring = ring;
    p->size = size;
    return true;
}

/* Drops the bytes nobody needs: before the head's start; a STREAMED head's as they are written; and all that
 * were written when they are too many. */
static void pipeline_trim(struct pipeline *p)
{
    uint64_t keep = p->cursor, start = buf_start(&p->log);

    if (pipeline_count(p) == 0)
        keep = buf_end(&p->log);
    else if (p->cursor - start <= PIPELINE_COPY_MAX) {
        const struct pipeline_entry *e = pipeline_at(p, p->head);
        bool streams = (e->flags & PIPELINE_STREAMED) && e->state != PIPELINE_HELD;
        uint64_t from = streams ? e->start + e->len : e->start;
        keep = from < keep ? from : keep;
    }
    if (keep > start)
        buf_consume(&p->log, (size_t)(keep - start));
}

struct pipeline_entry *pipeline_push(struct pipeline *p, uint32_t now_ms)
{
    if (pipeline_count(p) == p->size && !pipeline_grow(p))
        return NULL;
    uint64_t start = buf_end(&p->log);
    if (p->unsent == p->tail)
        p->cursor = start;
    p->tail++;
    struct pipeline_entry *e = pipeline_at(p, p->tail - 1);
    *e = (struct pipeline_entry){.start = start, .since_ms = now_ms, .replies = 1, .state = PIPELINE_HELD};
    return e;
}

int pipeline_feed(struct pipeline *p, const char *data, size_t len)
{
    assert(pipeline_count(p) > 0);
    struct pipeline_entry *e = pipeline_at(p, p->tail - 1);
    assert(!(e->flags & PIPELINE_COMPLETE));
    int err = buf_append(&p->log, data, len);
    if (!err)
        e->len += len;
    return err;
}

void pipeline_pass(struct pipeline *p, uint64_t n)
{
    struct pipeline_entry *e = pipeline_at(p, p->tail - 1);

    assert(p->unsent == p->tail - 1 && p->cursor == buf_end(&p->log) && e->state == PIPELINE_READY);
    buf_skip(&p->log, n);
    e->len += n;
    p->cursor += n;
}

int pipeline_put(struct pipeline *p, const struct pipeline_entry *like, const char *data, size_t len)
{
    assert(p->unsent == p->tail && (like->flags & PIPELINE_COMPLETE));
    struct pipeline_entry *e = pipeline_push(p, like->since_ms);
    if (!e)
        return ERR_NOMEM;
    e->kind = like->kind;
    e->arrived_us = like->arrived_us;
    e->flags = like->flags;
    e->touch = like->touch;
    e->slot = like->slot;
    e->state = like->state;
    e->answer = like->answer;
    e->again = like->again;
    e->repeated = like->repeated;
    p->in_flight += e->state == PIPELINE_SENT;
    if (buf_append(&p->log, data, len))
        return ERR_NOMEM;
    e->len = len;
    p->unsent = p->judged = p->tail;
    p->cursor = buf_end(&p->log);
    return 0;
}

int pipeline_join(struct pipeline *p, struct pipeline *from)
{
    int err = 0;

    assert(from->unsent == from->head && from->in_flight == 0);
    for (uint64_t seq = from->head; seq < from->tail && !err; seq++) {
        const struct pipeline_entry *old = pipeline_at(from, seq);
        struct pipeline_entry *e = pipeline_push(p, old->since_ms);
        if (!e)
            return ERR_NOMEM;
        uint64_t start = e->start;
        *e = *old;
        e->start = start;
        if (old->len > 0)
            err = buf_append(&p->log, buf_at(&from->log, old->start), (size_t)old->len);
    }
    pipeline_free(from);
    return err;
}

void pipeline_drop_newest(struct pipeline *p)
{
    const struct pipeline_entry *e = pipeline_at(p, p->tail - 1);

    assert(e->state == PIPELINE_HELD || e->state == PIPELINE_LOCAL);
    buf_cut(&p->log, e->start);
    p->tail--;
    if (p->judged > p->tail)
        p->judged = p->tail;
    if (p->unsent >= p->tail) {
        p->unsent = p->tail;
        p->cursor = buf_end(&p->log);
    }
    pipeline_trim(p);
}

struct pipeline_entry *pipeline_next_judged(struct pipeline *p)
{
    assert(p->judged >= p->unsent && p->judged <= p->tail);
    while (p->judged < p->tail) {
        struct pipeline_entry *e = pipeline_at(p, p->judged);
        if (e->state == PIPELINE_HELD)
            return e;
        p->judged++; /* answered while it was held */
    }
    return NULL;
}

void pipeline_release(struct pipeline *p)
{
    struct pipeline_entry *e = pipeline_at(p, p->judged);

    assert(e->state == PIPELINE_HELD);
    e->state = PIPELINE_READY;
    p->judged++;
}

void pipeline_settle(struct pipeline *p, uint8_t answer)
{
    struct pipeline_entry *e = pipeline_at(p, p->judged);

    assert(e->state == PIPELINE_HELD);
    e->state = PIPELINE_LOCAL;
    e->answer = answer;
    p->judged++;
}

/* Entry `unsent` needs no more writing: to the next one that may. */
static void pipeline_unsent_next(struct pipeline *p)
{
    assert(p->unsent < p->tail);
    p->unsent++;
    p->cursor = p->unsent < p->tail ? pipeline_at(p, p->unsent)->start : buf_end(&p->log);
}

static void pipeline_skip_local(struct pipeline *p)
{
    while (p->unsent < p->judged && pipeline_at(p, p->unsent)->state != PIPELINE_READY)
        pipeline_unsent_next(p);
}

int pipeline_spans(struct pipeline *p, struct buf_span *spans, int max)
{
    uint64_t sum = 0;
    int n = 0;

    pipeline_skip_local(p);
    uint64_t at = p->cursor;
    for (uint64_t seq = p->unsent; seq < p->judged && sum < PIPELINE_WRITE_MAX; seq++) {
        const struct pipeline_entry *e = pipeline_at(p, seq);
        if (e->state != PIPELINE_READY)
            continue;
        uint64_t from = seq == p->unsent ? at : e->start, end = e->start + e->len;
        if (from == end)
            continue;
        const char *data = buf_at(&p->log, from);
        sum += end - from;
        if (n > 0 && spans[n - 1].data + spans[n - 1].len == data) {
            spans[n - 1].len += end - from;
            continue;
        }
        if (n == max)
            break;
        spans[n++] = (struct buf_span){.data = data, .len = end - from};
    }
    return n;
}

void pipeline_wrote(struct pipeline *p, size_t n)
{
    while (n > 0 || p->unsent < p->judged) {
        pipeline_skip_local(p);
        if (p->unsent == p->judged)
            break;
        struct pipeline_entry *e = pipeline_at(p, p->unsent);
        uint64_t left = e->start + e->len - p->cursor, step = n < left ? n : left;
        p->cursor += step;
        n -= step;
        if (step < left || !(e->flags & PIPELINE_COMPLETE))
            break;
        e->state = PIPELINE_SENT;
        p->in_flight++;
        pipeline_unsent_next(p);
    }
    assert(n == 0);
    pipeline_trim(p);
}

uint64_t pipeline_unsent_bytes(const struct pipeline *p)
{
    uint64_t end = buf_end(&p->log);

    return p->cursor < end ? end - p->cursor : 0;
}

struct pipeline_entry *pipeline_next_reply(struct pipeline *p)
{
    if (p->reply < p->head)
        p->reply = p->head;
    for (; p->reply < p->unsent; p->reply++) {
        struct pipeline_entry *e = pipeline_at(p, p->reply);
        if (e->state == PIPELINE_SENT && !(e->flags & PIPELINE_SILENT))
            return e;
    }
    return NULL;
}

void pipeline_wait_again(struct pipeline_entry *e, uint32_t now_ms)
{
    e->state = PIPELINE_HELD;
    if (!e->again)
        e->since_ms = now_ms;
    e->again = true;
}

static void pipeline_unsend(struct pipeline *p, const struct pipeline_entry *e)
{
    assert(e->state == PIPELINE_SENT);
    assert(p->in_flight > 0);
    (void)e;
    p->in_flight--;
}

void pipeline_hold_again(struct pipeline *p, struct pipeline_entry *e, uint32_t now_ms)
{
    pipeline_unsend(p, e);
    pipeline_wait_again(e, now_ms);
}

void pipeline_answer_locally(struct pipeline *p, struct pipeline_entry *e, uint8_t answer)
{
    if (e->state == PIPELINE_SENT)
        pipeline_unsend(p, e);
    e->state = PIPELINE_LOCAL;
    e->answer = answer;
}

void pipeline_answered(struct pipeline *p, struct pipeline_entry *e, uint8_t answer)
{
    pipeline_unsend(p, e);
    e->state = PIPELINE_ANSWERED;
    e->answer = answer;
}

int pipeline_replace(struct pipeline *p, uint64_t seq, const char *data, size_t len)
{
    struct pipeline_entry *e = pipeline_at(p, seq);
    uint64_t end = e->start + e->len, grown = len - e->len; /* may be "negative": both only wrap */
    struct buf behind = {0};
    int err = 0;

    assert(e->state == PIPELINE_HELD && pipeline_bytes(p, e));
    if (end < buf_end(&p->log))
        err = buf_append(&behind, buf_at(&p->log, end), (size_t)(buf_end(&p->log) - end));
    buf_cut(&p->log, e->start);
    if (!err)
        err = buf_append(&p->log, data, len);
    if (!err && buf_len(&behind) > 0)
        err = buf_append(&p->log, buf_at(&behind, buf_start(&behind)), buf_len(&behind));
    buf_free(&behind);
    e->len = len;
    if (p->cursor >= end)
        p->cursor += grown;
    for (uint64_t i = seq + 1; i < p->tail; i++)
        pipeline_at(p, i)->start += grown;
    return err;
}

void pipeline_rewind(struct pipeline *p, uint32_t now_ms)
{
    assert(p->in_flight == 0);
    p->unsent = p->tail;
    for (uint64_t seq = p->tail; seq > p->head; seq--) {
        struct pipeline_entry *e = pipeline_at(p, seq - 1);
        if (e->state == PIPELINE_READY)
            pipeline_wait_again(e, now_ms);
        if (e->state == PIPELINE_HELD)
            p->unsent = seq - 1;
    }
    p->judged = p->unsent;
    p->reply = p->head;
    p->cursor = p->unsent < p->tail ? pipeline_at(p, p->unsent)->start : buf_end(&p->log);
    if (p->cursor < buf_start(&p->log))
        p->cursor = buf_start(&p->log); /* a LOST one: it isn't going to be sent */
}

void pipeline_pop(struct pipeline *p)
{
    struct pipeline_entry *e = pipeline_at(p, p->head);

    if (e->state == PIPELINE_SENT)
        pipeline_unsend(p, e);
    p->head++;
    if (p->reply < p->head)
        p->reply = p->head;
    if (p->judged < p->head)
        p->judged = p->head;
    if (p->unsent < p->head) {
        p->unsent = p->head;
        p->cursor = p->head < p->tail ? pipeline_at(p, p->head)->start : buf_end(&p->log);
    }
    pipeline_trim(p);
    if (p->head == p->tail && p->size > PIPELINE_SIZE_MIN) {
        free(p->ring);
        p->ring = NULL;
        p->size = 0;
    }
}

const char *pipeline_bytes(const struct pipeline *p, const struct pipeline_entry *e)
{
    if (e->start < buf_start(&p->log) || !(e->flags & PIPELINE_COMPLETE) || (e->flags & PIPELINE_STREAMED))
        return NULL;
    return e->len > 0 ? buf_at(&p->log, e->start) : NULL;
}

bool pipeline_is_partly_written(const struct pipeline *p)
{
    if (p->unsent >= p->tail)
        return false;
    const struct pipeline_entry *e = pipeline_at(p, p->unsent);
    return e->state == PIPELINE_READY && p->cursor > e->start;
}
