/* Durability strict, as one client's conversation sees it (durable.h holds and releases; this says what).
 *
 *   reply ─► session_must_hold() ─► session_hold_reply(): its entry is ANSWERED ──► durable
 *   client ◄── session_take_step(): released, or replaced ◄── pop ◄── entry ◄────── durable
 *                                   gone: its entry waits to be sent again, or is answered here
 *
 * What came over a shared connection has no entry here any more: its request is kept by durable, and comes
 * back in front of what else its connection returns.
 *
 * A reply that is too large to be kept waits in part, its beginning in `stash`, and nothing more is read: a
 * *gate* stands for it among what is held. */
#include "proxy/core/hold.h"
#include "proxy/core/session_internal.h"
#include "proxy/core/touch.h"

#include <assert.h>
#include <string.h>

/* ---- requests -------------------------------------------------------------------------------------------
 */

static void session_note_queued(struct session *s, const struct pipeline_entry *e)
{
    bool first = s->tx_touch == DURABLE_NOTHING, same = first || s->tx_slot == e->slot;

    if (e->touch == DURABLE_NOTHING)
        return;
    s->tx_slot = same && e->slot < DURABLE_ANY ? e->slot : (uint16_t)DURABLE_ANY;
    if (e->touch > s->tx_touch)
        s->tx_touch = e->touch;
}

void session_note_touch(struct session *s, struct pipeline_entry *e)
{
    const struct durable *d = s->env->durable;
    const struct session_work *w = s->work;

    if (!d || !d->on) {
        s->tx_touch = DURABLE_WRITES; /* of a transaction that is open, nobody has looked what it does */
        s->tx_slot = DURABLE_ANY;
        return;
    }
    if (e->kind == REQUEST_MULTI || e->kind == REQUEST_DISCARD) {
        s->tx_touch = DURABLE_NOTHING;
    } else if (e->kind == REQUEST_EXEC) {
        e->touch = s->tx_touch;
        e->slot = s->tx_slot;
        s->tx_touch = DURABLE_NOTHING;
    } else {
        e->touch = (uint8_t)touch_of(&w->request, buf_at(&w->pipe.log, e->start), e->len, &e->slot);
        if (s->in_multi)
            session_note_queued(s, e);
    }
}

void session_becomes_strict(struct session *s)
{
    struct pipeline *p = s->work ? &s->work->pipe : NULL;

    for (uint64_t seq = p ? p->unsent : 0; p && seq < p->tail; seq++) {
        struct pipeline_entry *e = pipeline_at(p, seq);
        if (e->touch != DURABLE_NOTHING)
            continue;
        e->touch = e->flags & PIPELINE_REPEAT ? DURABLE_READS : DURABLE_WRITES;
        e->slot = DURABLE_ANY; /* they are few: nobody looks */
    }
}

/* What has several replies, or changes how those before it would have to be repeated. */
static bool session_stands_alone(const struct pipeline_entry *e)
{
    return e->replies != 1 || request_is_session(e->kind) || request_is_reads(e->kind) ||
           e->kind == REQUEST_RESET || e->kind == REQUEST_MONITOR;
}

bool session_awaits_acks(const struct session *s, const struct pipeline_entry *e)
{
    const struct durable *d = s->env->durable;

    if (!d || !d->on)
        return false;
    if (e->touch != DURABLE_NOTHING && durable_blocks(d))
        return true;
    return session_stands_alone(e) && !s->tx_sent && (s->held.held > 0 || !pipeline_is_quiet(&s->work->pipe));
}

void session_note_sent(struct session *s, const struct pipeline_entry *e)
{
    struct durable *d = s->env->durable;

    /* What is queued is executed with its EXEC. */
    if (!d || e->touch != DURABLE_WRITES || (s->tx_sent && e->kind != REQUEST_EXEC))
        return;
    if (!s->marked) {
        s->mark = e->slot;
        s->marked = true;
        durable_mark(d, s->mark);
    } else if (s->mark != e->slot && s->mark != DURABLE_ANY) {
        durable_mark(d, DURABLE_ANY);
        durable_unmark(d, s->mark, true);
        s->mark = DURABLE_ANY;
    }
}

void session_end_mark(struct session *s, bool all)
{
    const struct pipeline *p = s->work ? &s->work->pipe : NULL;

    if (!s->marked || (!all && p && s->link != SESSION_DETACHED && !pipeline_is_quiet(p)))
        return;
    s->marked = false;
    durable_unmark(s->env->durable, s->mark, true);
}

/* ---- replies --------------------------------------------------------------------------------------------
 */

/* What the reply under way to e must wait for; 0: nothing. */
static uint64_t session_reply_needs(const struct session *s, const struct pipeline_entry *e)
{
    const struct durable *d = s->env->durable;
    const struct session_work *w = s->work;

    if (s->multi && e->kind != REQUEST_EXEC)
        return 0; /* it was queued, or not even that */
    switch (touch_answered(e->touch, e->slot, w->reply.type == '-')) {
    case DURABLE_NOTHING:
        return 0;
    case DURABLE_WRITES:
        return durable_write_needs(d);
    case DURABLE_READS:
        break;
    }
    return touch_read_needs(d, e->slot, pipeline_bytes(&w->pipe, e), (size_t)e->len);
}

bool session_must_hold(struct session *s, const struct pipeline_entry *e)
{
    struct session_work *w = s->work;

    w->needs = 0;
    if (!s->env->durable)
        return false;
    if (e)
        w->needs = session_reply_needs(s, e);
    return w->needs > 0 || s->held.held > 0;
}

/* How e is answered when its reply is lost. */
static enum hold_answer session_answer_if_lost(const struct session *s, const struct pipeline_entry *e,
                                               const char *reply, size_t len)
{
    if (len == 9 && memcmp(reply, "+QUEUED\r\n", 9) == 0)
        return HOLD_QUEUED;
    if (e->touch == DURABLE_WRITES)
        return s->work->reply.type == '-' ? HOLD_UNKNOWN : HOLD_UNACKED;
    if (len == 5 && memcmp(reply, "+OK\r\n", 5) == 0)
        return HOLD_OK;
    return e->flags & PIPELINE_REPEAT ? HOLD_SEND : HOLD_UNKNOWN;
}

void session_forbid_repeats(struct session *s)
{
    const struct pipeline *p = &s->work->pipe;

    for (uint64_t seq = p->head; seq < p->tail && pipeline_at(p, seq)->state == PIPELINE_ANSWERED; seq++)
        if (pipeline_at(p, seq)->answer == HOLD_SEND)
            pipeline_at(p, seq)->answer = HOLD_UNKNOWN;
}

static void session_hold(struct session *s, struct durable_note *note, const char *data, size_t len)
{
    note->own = true;
    if (s->env->clock)
        note->held_us = s->env->clock->written_us;
    if (durable_hold(s->env->durable, &s->held, s->work->needs, note, (struct buf_span){NULL, 0},
                     (struct buf_span){data, len}))
        session_fail(s, "out of memory");
}

bool session_hold_reply(struct session *s, struct pipeline_entry *e, const char *reply, size_t len)
{
    struct session_work *w = s->work;
    struct durable_note note = {.push = e == NULL};

    if (w->needs == 0 && s->held.held == 0)
        return false; /* what it stood behind has gone meanwhile */
    if (e) {
        note.touch = e->touch;
        note.arrived_us = e->arrived_us;
        note.kind = e->kind;
        note.flags = e->flags;
        pipeline_answered(&w->pipe, e, (uint8_t)session_answer_if_lost(s, e, reply, len));
    }
    session_hold(s, &note, reply, len);
    return true;
}

bool session_close_gate(struct session *s)
{
    struct session_work *w = s->work;
    const struct pipeline_entry *e = pipeline_next_reply(&w->pipe);
    struct durable_note note = {.gate = true, .push = w->is_push, .arrived_us = w->gates + 1};

    if (w->gated || buf_len(&w->stash) < SESSION_OUT_MAX)
        return false;
    if (w->needs == 0 && s->held.held == 0)
        return true;
    if (e && !w->is_push)
        note.touch = e->touch;
    w->gated = true;
    w->gates++;
    session_hold(s, &note, NULL, 0);
    return false;
}

size_t session_kept_bytes(const struct session *s)
{
    size_t stash = s->work && s->work->verdict == SESSION_HOLD ? buf_len(&s->work->stash) : 0;

    return s->held.held_bytes + stash;
}

/* ---- what becomes of them -------------------------------------------------------------------------------
 */

static struct buf_span session_short(struct session *s, uint8_t touch, char *text)
{
    int len = hold_format(s, touch == DURABLE_WRITES ? HOLD_SHORT_WRITE : HOLD_SHORT_READ, text);

    session_count(&s->env->counts->shorts, 1);
    return (struct buf_span){text, (size_t)len};
}

static void session_count_held(const struct session *s, const struct durable_note *note)
{
    if (!(note->flags & PIPELINE_BLOCKING) && !request_is_wait(note->kind) && !note->push)
        session_measure(s->env, note->arrived_us);
    if (s->env->clock && note->touch != DURABLE_NOTHING)
        session_measure_held(s->env, note->held_us);
}

/* What waits in `stash` may be passed on, and all that follows of it; or is replaced, and the rest dropped.
 */
static struct buf_span session_open_gate(struct session *s, const struct durable_step *step, char *text)
{
    struct session_work *w = s->work;

    /* Else what it stood for has come to its end, or its connection is gone, or goes next. */
    if (!w || !w->gated || w->gates != step->note.arrived_us || step->fate == DURABLE_GONE)
        return (struct buf_span){NULL, 0};
    w->gated = false;
    w->mark = buf_end(&w->out);
    w->verdict = step->fate == DURABLE_RELEASED ? SESSION_FORWARD : SESSION_SWALLOW;
    if (step->fate == DURABLE_RELEASED && buf_len(&w->stash) > 0)
        session_emit(s, buf_at(&w->stash, buf_start(&w->stash)), buf_len(&w->stash));
    buf_free(&w->stash);
    return step->fate == DURABLE_SHORT ? session_short(s, step->note.touch, text)
                                       : (struct buf_span){NULL, 0};
}

/* The reply to the oldest ANSWERED entry is lost with its master. */
static void session_unanswer(struct session *s, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;
    uint64_t seq = p->head;

    while (pipeline_at(p, seq)->state != PIPELINE_ANSWERED)
        seq++;
    hold_unanswer(s, pipeline_at(p, seq), now_ms);
    if (s->link != SESSION_DETACHED)
        return; /* its connection is given up next */
    pipeline_rewind(p, now_ms);
    session_advance(s, now_ms);
}

/* The same of one that came over a shared connection. */
static void session_return_held(struct session *s, uint32_t now_ms, const struct durable_step *step)
{
    struct pipeline_entry like = {.arrived_us = step->note.arrived_us,
                                  .since_ms = now_ms,
                                  .kind = step->note.kind,
                                  .touch = step->note.touch,
                                  .slot = step->note.slot,
                                  .flags = step->note.flags,
                                  .repeated = step->note.repeated,
                                  .answer = step->note.answer,
                                  .state = PIPELINE_LOCAL};

    if (like.answer == HOLD_SEND) {
        like.state = PIPELINE_SENT;
        like.answer = HOLD_UNKNOWN;
    } else {
        session_count(&s->env->counts->unknown, 1);
    }
    session_share_insert(s, &like, step->request.data, step->request.len);
}

static struct buf_span session_gone(struct session *s, uint32_t now_ms, const struct durable_step *step)
{
    if (!step->note.own)
        session_return_held(s, now_ms, step);
    else if (!step->note.push)
        session_unanswer(s, now_ms);
    return (struct buf_span){NULL, 0};
}

bool session_answers_before(const struct session *s, const struct durable_step *step)
{
    const struct pipeline *p = s->work ? &s->work->pipe : NULL;

    return step->note.own && step->fate != DURABLE_GONE && p && pipeline_count(p) > 0 &&
           pipeline_at(p, p->head)->state != PIPELINE_ANSWERED;
}

struct buf_span session_take_step(struct session *s, uint32_t now_ms, const struct durable_step *step,
                                  uint64_t epoch, char *text)
{
    assert(step->fate != DURABLE_WAITS);
    if (step->fate == DURABLE_GONE)
        s->lost_epoch = epoch;
    if (step->note.gate)
        return session_open_gate(s, step, text);
    if (step->fate == DURABLE_GONE)
        return session_gone(s, now_ms, step);
    if (session_answers_before(s, step))
        (void)session_answer(s);
    if (step->note.own && !step->note.push) {
        assert(pipeline_at(&s->work->pipe, s->work->pipe.head)->state == PIPELINE_ANSWERED);
        hold_pop(s);
    }
    session_count_held(s, &step->note);
    return step->fate == DURABLE_SHORT ? session_short(s, step->note.touch, text) : step->reply;
}

bool session_interjects(const struct session *s)
{
    const struct pipeline *p = s->work ? &s->work->pipe : NULL;

    if (!p || s->behind || s->held.held == 0 || pipeline_count(p) == 0)
        return false;
    return pipeline_at(p, p->head)->state != PIPELINE_ANSWERED;
}
