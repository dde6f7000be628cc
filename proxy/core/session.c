#include "proxy/core/hold.h"
#include "proxy/core/login.h"
#include "proxy/core/session_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void session_env_free(struct session_env *env)
{
    scripts_clear(&env->scripts);
    large_free(&env->large);
}

void session_init(struct session *s, struct session_env *env, uint32_t now_ms)
{
    assert(s && env && env->route);
    *s = (struct session){.env = env, .resp = 2, .since_ms = now_ms};
}

void session_free_work(struct session *s)
{
    if (!s->work)
        return;
    pipeline_free(&s->work->pipe);
    pipeline_free(&s->work->returned);
    buf_free(&s->work->prologue);
    buf_free(&s->work->stash);
    buf_free(&s->work->out);
    free(s->work);
    s->work = NULL;
}

void session_free(struct session *s)
{
    session_end_mark(s, true);
    if (s->env->durable)
        durable_leave(s->env->durable, &s->held);
    session_free_work(s);
    if (s->memory)
        remember_free(s->memory);
    free(s->memory);
    s->memory = NULL;
}

void session_count(atomic_uint_least64_t *counter, uint64_t n)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, now + n, memory_order_relaxed);
}

void session_fail(struct session *s, const char *reason)
{
    if (!s->reason)
        s->reason = reason;
    s->actions |= SESSION_CLOSE;
    s->closing = s->input_over = true;
}

struct session_work *session_work(struct session *s)
{
    if (!s->work) {
        s->work = calloc(1, sizeof(*s->work));
        if (!s->work)
            session_fail(s, "out of memory");
    }
    return s->work;
}

struct remember *session_memory(struct session *s)
{
    if (!s->memory) {
        s->memory = calloc(1, sizeof(*s->memory));
        if (!s->memory)
            session_fail(s, "out of memory");
    }
    return s->memory;
}

void session_emit(struct session *s, const char *data, size_t len)
{
    struct session_work *w = session_work(s);

    if (w && !session_lend(w, data, len) && session_end_loan(s) && buf_append(&w->out, data, len))
        session_fail(s, "out of memory");
}

/* ---- requests come in ------------------------------------------------------------------------------------
 */

/* The effects of a request on those behind it, which don't wait for its reply. */
static void session_note_request(struct session *s, struct pipeline_entry *e)
{
    bool skipped = s->skip;

    s->skip = false;
    switch ((enum request_kind)e->kind) {
    case REQUEST_MULTI:
        s->in_multi = true;
        break;
    case REQUEST_EXEC:
    case REQUEST_DISCARD:
        s->in_multi = false;
        break;
    case REQUEST_RESET:
        s->in_multi = s->silent = false;
        break;
    case REQUEST_REPLY_ON:
        s->silent = skipped = false;
        break;
    case REQUEST_REPLY_OFF:
        s->silent = true;
        break;
    case REQUEST_REPLY_SKIP:
        s->skip = !s->silent;
        e->flags |= PIPELINE_SILENT;
        break;
    case REQUEST_QUIT:
    case REQUEST_HTTP:
        s->input_over = true;
        break;
    default:
        break;
    }
    if (request_is_subscribe(e->kind) || request_is_unsubscribe(e->kind))
        return; /* confirmations are pushed, whatever CLIENT REPLY says */
    if (s->silent)
        e->flags |= PIPELINE_SILENT;
    else if (skipped)
        e->flags |= PIPELINE_SILENT | PIPELINE_SKIPPED;
}

/* What only tells who is speaking is soon over; all else that can't be shared will probably come again. */
static void session_note_share(struct session *s, struct pipeline_entry *e, bool shareable)
{
    bool passes = request_is_session(e->kind) || request_is_reads(e->kind) || e->kind == REQUEST_QUIT ||
                  e->kind == REQUEST_SCRIPT_LOAD || e->kind == REQUEST_SCRIPT_FLUSH;

    if (shareable && !(e->flags & PIPELINE_STREAMED))
        e->flags |= PIPELINE_SHARE;
    else if (!passes)
        session_need_own(s, e->since_ms);
}

static void session_classify(struct session *s, struct pipeline_entry *e, const char *bytes)
{
    struct request_class class;

    request_classify(&s->work->request, bytes, e->len, &class);
    e->kind = class.kind;
    /* Inside of a transaction nothing blocks. */
    bool blocking = class.blocking && !s->in_multi;
    e->flags |= request_flags(&class) | (blocking ? PIPELINE_BLOCKING : 0);
    session_note_share(s, e, class.shareable);
    e->replies = class.replies;
    if (s->in_multi && ((e->kind >= REQUEST_REPLY_ON && e->kind <= REQUEST_REPLY_SKIP) ||
                        request_is_wait(e->kind) || request_is_reads(e->kind)))
        e->kind = REQUEST_PLAIN;
    session_note_reads(s, e);
    session_note_touch(s, e);
    session_note_request(s, e);
    e->arrived_us = session_arrival_us(s->env);
    if (!session_refuse_held(s, e) && s->env->held && s->link != SESSION_READY)
        hold_count(s, e);
}

static void session_bad_request(struct session *s, struct pipeline_entry *e)
{
    e->flags |= PIPELINE_COMPLETE;
    pipeline_answer_locally(&s->work->pipe, e, HOLD_PROTOCOL);
    s->input_over = true;
}

/* `len` bytes of the request under way; `result` is what the framer said of them. */
static void session_add_bytes(struct session *s, uint32_t now_ms, const char *data, size_t len,
                              enum resp_result result)
{
    struct session_work *w = s->work;
    struct pipeline_entry *e =
        w->request_open ? pipeline_at(&w->pipe, w->pipe.tail - 1) : pipeline_push(&w->pipe, now_ms);

    if (!e) {
        session_fail(s, "out of memory");
        return;
    }
    w->request_open = result == RESP_MORE;
    if (result == RESP_BAD) {
        session_bad_request(s, e);
        return;
    }
    if (session_refuse_large(s, e))
        return;
    if (!(e->flags & PIPELINE_DISCARD) && pipeline_feed(&w->pipe, data, len)) {
        session_fail(s, "out of memory");
        return;
    }
    if (result == RESP_END && w->request.n_args == 0) {
        pipeline_drop_newest(&w->pipe); /* a blank line: Redis says nothing either */
        return;
    }
    if (!(e->flags & PIPELINE_STREAMED) && e->len > PIPELINE_LARGE && w->request.n_args > 0) {
        e->flags |= PIPELINE_STREAMED;
        session_classify(s, e, NULL);
    }
    if (result == RESP_END) {
        e->flags |= PIPELINE_COMPLETE;
        if (!(e->flags & PIPELINE_STREAMED))
            session_classify(s, e, pipeline_bytes(&w->pipe, e));
    }
}

void session_take_request(struct session *s, uint32_t now_ms, const char *data, size_t len)
{
    struct session_work *w = session_work(s);

    while (w && len > 0 && !s->input_over) {
        size_t used = 0;
        enum resp_result result = resp_request_feed(&w->request, data, len, &used);
        session_add_bytes(s, now_ms, data, used, result);
        data += used;
        len -= used;
    }
    session_advance(s, now_ms);
}

/* No more requests come: what hasn't arrived as a whole never will. */
static void session_end_input(struct session *s)
{
    struct session_work *w = s->work;

    s->input_over = s->closing = true;
    if (!w || !w->request_open)
        return;
    struct pipeline_entry *e = pipeline_at(&w->pipe, w->pipe.tail - 1);
    if (e->flags & PIPELINE_STREAMED) {
        session_fail(s, "the client left in the middle of a large request");
        return;
    }
    pipeline_drop_newest(&w->pipe);
    w->request_open = false;
}

void session_client_left(struct session *s)
{
    s->eof = true;
    session_end_input(s);
    /* Half-closed (printf … | nc) is how some clients say that they have asked everything: while a master can
     * be reached they get their answers. */
    bool waits = (s->link != SESSION_READY && !s->behind && s->env->held) ||
                 (s->memory && remember_is_pushed_to(s->memory));
    for (uint64_t seq = s->work ? s->work->pipe.head : 0; s->work && seq < s->work->pipe.tail; seq++)
        waits = waits || (pipeline_at(&s->work->pipe, seq)->flags & PIPELINE_BLOCKING);
    /* A client that is gone must not go on waiting: its BLPOP would take somebody else's element. */
    if (waits)
        session_fail(s, "the client left");
}

void session_drain(struct session *s)
{
    session_end_input(s);
}

void session_drop(struct session *s)
{
    struct session_work *w = s->work;

    s->input_over = s->closing = true;
    if (!w || pipeline_count(&w->pipe) == 0)
        return;
    if (w->reply_open && w->verdict == SESSION_FORWARD && !session_undo_reply(s)) {
        session_fail(s, "the instance is gone, half of a reply was passed on");
        return;
    }
    s->link = SESSION_DETACHED;
    s->actions |= SESSION_DETACH;
    w->reply_open = false;
    w->prologue_left = 0;
    buf_free(&w->prologue);
    hold_reject_all(s);
    session_advance(s, s->since_ms);
}

/* ---- forward ---------------------------------------------------------------------------------------------
 */

static void session_answer_head(struct session *s, enum hold_answer answer)
{
    char text[HOLD_TEXT_MAX];
    int len = hold_format(s, answer, text);

    session_emit(s, text, (size_t)len);
    if (!hold_closes(answer))
        return;
    s->closing = s->input_over = true;
    s->actions |= SESSION_DETACH;
    s->link = SESSION_DETACHED;
    s->work->reply_open = false;
    s->work->prologue_left = 0;
    buf_free(&s->work->prologue);
    pipeline_free(&s->work->pipe);
}

bool session_answer(struct session *s)
{
    struct session_work *w = s->work;
    bool any = false;

    while (pipeline_count(&w->pipe) > 0 && !(w->reply_open && w->verdict == SESSION_FORWARD)) {
        struct pipeline_entry *e = pipeline_at(&w->pipe, w->pipe.head);
        bool silent = e->flags & (PIPELINE_SILENT | PIPELINE_SKIPPED);
        if (!(e->flags & PIPELINE_COMPLETE))
            break;
        if (e->state == PIPELINE_SENT && (e->flags & PIPELINE_SILENT)) {
            session_succeeded(s, e, NULL, 0);
        } else if (e->state == PIPELINE_LOCAL && (!silent || hold_closes(e->answer))) {
            session_answer_head(s, e->answer);
            if (pipeline_count(&w->pipe) == 0)
                break;
        } else if (e->state != PIPELINE_LOCAL) {
            break;
        }
        hold_pop(s);
        any = true;
    }
    return any;
}

/* The new master may lack the Lua bodies that e may refer to: true when it has to wait for them. */
static bool session_awaits_scripts(struct session *s, const struct pipeline_entry *e)
{
    struct session_work *w = s->work;
    struct scripts *scripts = &s->env->scripts;

    if ((e->kind != REQUEST_EVALSHA && e->kind != REQUEST_MULTI) || !scripts_are_due(scripts))
        return false;
    if (!pipeline_is_quiet(&w->pipe))
        return true; /* they are loaded between two requests, not inside of a transaction */
    if (s->multi || e->flags & PIPELINE_SILENT)
        return false;
    int n = scripts_write(scripts, &w->prologue);
    if (n < 0) {
        session_fail(s, "out of memory");
        return true;
    }
    w->prologue_left = (uint32_t)n;
    w->scripts_generation = scripts->generation;
    w->loads_scripts = true;
    w->marks = false;
    s->link = SESSION_PROLOGUE;
    return true;
}

static void session_release(struct session *s, struct pipeline_entry *e, uint32_t now_ms)
{
    if (e->kind == REQUEST_MULTI)
        s->tx_sent = true;
    else if (e->kind == REQUEST_EXEC || e->kind == REQUEST_DISCARD || e->kind == REQUEST_RESET)
        s->tx_sent = false;
    if (e->flags & PIPELINE_BLOCKING)
        e->since_ms = now_ms; /* its time runs from here */
    session_note_sent(s, e);
    pipeline_release(&s->work->pipe);
}

static void session_judge(struct session *s, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;
    struct pipeline_entry *e;

    while ((e = pipeline_next_judged(p)) != NULL) {
        if (!(e->flags & (PIPELINE_COMPLETE | PIPELINE_STREAMED)))
            return;
        enum hold_answer answer = hold_judge(s, e);
        if (answer == HOLD_SEND && s->busy && !session_waits(s))
            answer = hold_judge_busy(e);
        if (answer != HOLD_SEND) {
            e->flags |= e->flags & PIPELINE_COMPLETE ? 0 : PIPELINE_DISCARD;
            pipeline_settle(p, (uint8_t)answer);
            continue;
        }
        if (session_waits(s) || session_is_for_master(s, e) || session_awaits_acks(s, e) ||
            session_awaits_scripts(s, e) || session_awaits_marker(s, e) || !session_map_login(s, e))
            return;
        session_release(s, e, now_ms);
    }
}

bool session_is_idle(const struct session *s)
{
    const struct session_work *w = s->work;

    if (s->held.held > 0)
        return false;
    return !w || (pipeline_count(&w->pipe) == 0 && pipeline_count(&w->returned) == 0 && !w->request_open &&
                  !w->reply_open && buf_len(&w->out) == 0 && w->lent.len == 0 && buf_len(&w->prologue) == 0 &&
                  w->prologue_left == 0);
}

void session_advance(struct session *s, uint32_t now_ms)
{
    session_end_mark(s, false);
    if (!s->work || s->behind)
        return;
    do
        session_judge(s, now_ms);
    while (session_answer(s)); /* something may have waited for just that */
    if (session_is_done(s) || session_has_done_reading(s))
        session_give_up(s, now_ms);
    if (session_is_idle(s))
        session_free_work(s);
}

/* ---- backends come and go ---------------------------------------------------------------------------------
 */

void session_attached(struct session *s, uint32_t now_ms)
{
    struct session_work *w = session_work(s);
    int n = 0;

    assert(s->link == SESSION_DETACHED);
    if (!w)
        return;
    s->epoch = s->env->route->epoch;
    s->link = SESSION_PROLOGUE;
    s->busy = false;
    resp_reply_init(&w->reply);
    if (s->memory && s->memory->incomplete) {
        session_fail(s, "the state of the connection can't be made again on the new master");
        return;
    }
    if (s->memory)
        n = remember_write(s->memory, &w->prologue);
    if (n < 0 || login_map(s->env->route, &w->prologue))
        session_fail(s, "out of memory");
    w->prologue_left = n > 0 ? (uint32_t)n : 0;
    w->loads_scripts = w->marks = false;
    if (w->prologue_left == 0)
        s->link = SESSION_READY;
    session_advance(s, now_ms);
}

bool session_undo_reply(struct session *s)
{
    struct session_work *w = s->work;

    assert(w->reply_open && w->verdict == SESSION_FORWARD);
    if (!session_end_loan(s) || buf_start(&w->out) > w->mark)
        return false;
    buf_cut(&w->out, w->mark);
    w->reply_open = false;
    return true;
}

void session_detached(struct session *s, uint32_t now_ms)
{
    struct session_work *w = s->work;

    if (s->link == SESSION_DETACHED) {
        if (s->eof)
            session_fail(s, "the client left");
        return;
    }
    if (s->link == SESSION_DRAINING)
        hold_forget_drained(s);
    s->link = SESSION_DETACHED;
    s->since_ms = now_ms;
    s->lost_epoch = s->epoch;
    if (w && w->reply_open && w->verdict == SESSION_FORWARD && !session_undo_reply(s))
        session_fail(s, "the master was lost in the middle of a reply that was being passed on");
    if (w) {
        buf_free(&w->stash);
        buf_free(&w->prologue);
        w->prologue_left = 0;
        w->reply_open = w->gated = false;
        hold_resolve(s, now_ms);
    } else if (s->watched || s->multi) {
        s->watch_lost = s->watched;
        s->tx = s->multi ? HOLD_TX_LOST : s->tx;
    }
    s->multi = s->watched = s->tx_sent = s->on_replica = false;
    s->unmarked = true;
    if (s->memory && remember_is_tracking(s->memory) && s->resp == 3)
        session_emit(s, ">2\r\n$10\r\ninvalidate\r\n_\r\n", 24); /* whatever was cached may be stale */
    if (s->eof)
        session_fail(s, "the client left");
    session_advance(s, now_ms);
}

void session_give_up(struct session *s, uint32_t now_ms)
{
    if (s->link == SESSION_DETACHED)
        return;
    s->actions |= SESSION_DETACH;
    session_detached(s, now_ms);
}

void session_route_changed(struct session *s, uint32_t now_ms)
{
    session_advance(s, now_ms);
}

/* ---- out, and wishes --------------------------------------------------------------------------------------
 */

int session_request_spans(struct session *s, struct buf_span *spans, int max)
{
    struct session_work *w = s->work;

    assert(max > 0);
    if (!w || s->link == SESSION_DETACHED || s->link == SESSION_DRAINING)
        return 0;
    if (buf_len(&w->prologue) > 0) {
        spans[0] = (struct buf_span){buf_at(&w->prologue, buf_start(&w->prologue)), buf_len(&w->prologue)};
        return 1;
    }
    return s->link == SESSION_READY ? pipeline_spans(&w->pipe, spans, max) : 0;
}

void session_request_wrote(struct session *s, uint32_t now_ms, size_t n)
{
    assert(s->work);
    if (buf_len(&s->work->prologue) > 0)
        buf_consume(&s->work->prologue, n);
    else
        pipeline_wrote(&s->work->pipe, n);
    session_advance(s, now_ms);
}

struct buf_span session_reply_span(const struct session *s)
{
    if (!s->work || buf_len(&s->work->out) == 0)
        return (struct buf_span){NULL, 0};
    return (struct buf_span){buf_at(&s->work->out, buf_start(&s->work->out)), buf_len(&s->work->out)};
}

void session_reply_wrote(struct session *s, size_t n)
{
    assert(s->work);
    buf_consume(&s->work->out, n);
    if (session_is_idle(s))
        session_free_work(s);
}

unsigned session_take_actions(struct session *s)
{
    unsigned actions = s->actions;

    s->actions = 0;
    return actions;
}

bool session_wants_backend(struct session *s)
{
    if (s->link != SESSION_DETACHED || s->behind || (s->closing && session_is_idle(s)))
        return false;
    if (s->memory && remember_is_pushed_to(s->memory) && !s->closing)
        return true;
    if (!s->work)
        return false;
    const struct pipeline_entry *e = pipeline_next_judged(&s->work->pipe);
    return e && (e->flags & (PIPELINE_COMPLETE | PIPELINE_STREAMED));
}

bool session_reads_client(const struct session *s)
{
    const struct session_work *w = s->work;

    if (s->input_over)
        return false;
    if (!w)
        return true;
    if (session_is_deep_enough(s))
        return false;
    /* Very small ones take more memory than their bytes. */
    uint64_t held = session_held_bytes(s);
    return pipeline_unsent_bytes(&w->pipe) <
               (s->link == SESSION_READY || !s->env->held ? SESSION_UNSENT_MAX : SESSION_HELD_MAX) &&
           held < SESSION_HELD_MAX && s->held.held_bytes < SESSION_OUT_LIMIT &&
           pipeline_count(&w->pipe) < PIPELINE_DEPTH_MAX && buf_len(&w->out) < session_reply_max(s);
}

bool session_is_over(const struct session *s)
{
    return s->closing && !s->behind && session_is_idle(s);
}
