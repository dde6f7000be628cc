/*   backend bytes ─► framer ─► what is it? ──┬─ a push, a message, a MONITOR line ─────────► client
 *                              (decided as   ├─ an answer to the prologue ─► swallowed
 *                               early as can ├─ a refusal (-READONLY …) ─► held, sent again elsewhere
 *                               be: bodies   ├─ a repetition (SUBSCRIBE sent twice) ─► swallowed
 *                               stream)      └─ the next request's reply ─────────────────► client */
#include "proxy/core/hold.h"
#include "proxy/core/session_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    REPLY_PEEK = 64,              /* by then the first element of a push is known */
    REPLY_STASH_MAX = 128 * 1024, /* longer messages are not kept to be looked at */
};

/* ---- what a request changes when it succeeded -------------------------------------------------------------
 */

static void session_end_tx(struct session *s, bool executed, uint64_t errors)
{
    s->multi = s->watched = false;
    s->n_queued = 0;
    if (s->memory)
        remember_exec(s->memory, executed, errors);
}

static void session_forget_all(struct session *s)
{
    s->n_queued = 0;
    s->multi = s->watched = s->nested = false;
    s->resp = 2;
    if (s->memory)
        remember_free(s->memory);
}

void session_learn_script(struct session *s, uint8_t kind, const char *bytes, size_t len)
{
    char scratch[PIPELINE_LARGE + 1];
    struct resp_arg args[3];
    int at = kind == REQUEST_EVAL ? 1 : 2;

    if (!bytes || len > sizeof(scratch))
        return;
    if (resp_request_split(bytes, len, scratch, args, 3) > at)
        scripts_add(&s->env->scripts, args[at].data, args[at].len);
}

/* +QUEUED was the reply: it will be executed by EXEC. */
static void session_queued(struct session *s, const struct pipeline_entry *e)
{
    struct remember *m;
    uint32_t at = s->n_queued++;

    if (e->kind == REQUEST_SELECT && (m = session_memory(s)) != NULL)
        remember_queue_select(m, at, pipeline_bytes(&s->work->pipe, e), e->len);
    else if (request_is_session(e->kind) || e->kind == REQUEST_MONITOR || request_is_subscribe(e->kind) ||
             request_is_unsubscribe(e->kind)) {
        if ((m = session_memory(s)) != NULL)
            m->incomplete = true; /* too odd to be followed: the client is closed at the next switch */
        s->nested = true;
    }
}

static void session_executed(struct session *s, const struct pipeline_entry *e)
{
    struct remember *m;

    if (request_is_session(e->kind)) {
        if ((m = session_memory(s)) != NULL) {
            session_remember(s, m, e);
            m->incomplete |= (e->flags & PIPELINE_SILENT) != 0; /* whether it was taken nobody has said */
        }
        return;
    }
    switch ((enum request_kind)e->kind) {
    case REQUEST_WATCH:
        s->watched = true;
        break;
    case REQUEST_UNWATCH:
        s->watched = false;
        break;
    case REQUEST_RESET:
        session_forget_all(s);
        break;
    case REQUEST_MONITOR:
    case REQUEST_REPLY_OFF:
    case REQUEST_REPLY_ON:
        if ((m = session_memory(s)) != NULL) {
            m->monitor = m->monitor || e->kind == REQUEST_MONITOR;
            m->reply_off = e->kind == REQUEST_REPLY_OFF || (m->reply_off && e->kind == REQUEST_MONITOR);
        }
        break;
    case REQUEST_EVAL:
    case REQUEST_SCRIPT_LOAD:
        session_learn_script(s, e->kind, pipeline_bytes(&s->work->pipe, e), e->len);
        break;
    case REQUEST_SCRIPT_FLUSH:
        scripts_clear(&s->env->scripts);
        break;
    default:
        break;
    }
}

void session_succeeded(struct session *s, const struct pipeline_entry *e, const char *reply, size_t len)
{
    bool queued = s->multi && (!reply || (len == 9 && memcmp(reply, "+QUEUED\r\n", 9) == 0));

    if (e->kind == REQUEST_MULTI)
        s->multi = true;
    else if (e->kind == REQUEST_EXEC)
        session_end_tx(s, true, 0);
    else if (e->kind == REQUEST_DISCARD)
        session_end_tx(s, false, 0);
    else if (queued && e->kind != REQUEST_RESET)
        session_queued(s, e);
    else
        session_executed(s, e);
}

/* ---- what is it? ------------------------------------------------------------------------------------------
 */

static bool reply_word_is(const struct resp_reply *r, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(r->word, *words) == 0)
            return true;
    return false;
}

static bool reply_is_confirmation(const struct resp_reply *r)
{
    static const char *const words[] = {"subscribe",    "psubscribe",   "ssubscribe", "unsubscribe",
                                        "punsubscribe", "sunsubscribe", NULL};

    return (r->type == '*' || r->type == '>') && reply_word_is(r, words);
}

static bool reply_is_message(const struct resp_reply *r)
{
    static const char *const words[] = {"message", "pmessage", "smessage", NULL};

    return reply_word_is(r, words);
}

/* May an array be something that isn't a reply? In RESP2 only its first word tells. */
static bool session_tells_by_word(struct session *s)
{
    const struct pipeline_entry *e = pipeline_next_reply(&s->work->pipe);

    return s->nested || (s->memory && remember_subscriptions(s->memory) > 0) ||
           (e && (request_is_subscribe(e->kind) || request_is_unsubscribe(e->kind)));
}

static bool session_can_decide(struct session *s, bool complete, size_t len)
{
    const struct resp_reply *r = &s->work->reply;

    if (complete || len > REPLY_STASH_MAX)
        return true;
    switch (r->type) {
    case '\0': /* an attribute: what it belongs to comes next */
    case '-':
    case '+':
        return false;
    case '*':
        if (!session_tells_by_word(s))
            return true;
        /* fall through */
    case '>':
        return len >= REPLY_PEEK && !reply_is_confirmation(r);
    default:
        return true;
    }
}

static bool session_is_push(struct session *s, const char *bytes, size_t len)
{
    const struct session_work *w = s->work;
    const struct pipeline_entry *e = pipeline_next_reply(&s->work->pipe);
    bool asked =
        w->prologue_left > 0 || (e && (request_is_subscribe(e->kind) || request_is_unsubscribe(e->kind)));

    if (w->reply.type == '>')
        return !(asked && reply_is_confirmation(&w->reply));
    if (w->reply.type == '*')
        return session_tells_by_word(s) && reply_is_message(&w->reply);
    /* A line of MONITOR begins with the time; no status reply begins with a digit. */
    return w->reply.type == '+' && s->memory && s->memory->monitor && len > 1 && bytes[1] >= '0' &&
           bytes[1] <= '9';
}

static bool reply_error_begins(const struct resp_reply *r, const char *text)
{
    return r->type == '-' && strncmp(r->error, text, strlen(text)) == 0;
}

bool session_is_refusal(const struct resp_reply *r)
{
    return reply_error_begins(r, "READONLY You can't write against a read only replica") ||
           reply_error_begins(r, "LOADING ") || reply_error_begins(r, "MASTERDOWN ");
}

bool session_is_replica_refusal(const struct resp_reply *r)
{
    return reply_error_begins(r, "READONLY ") || reply_error_begins(r, "NOREPLICAS ") ||
           reply_error_begins(r, "BUSY ") || reply_error_begins(r, "MISCONF ");
}

bool session_is_full(const struct resp_reply *r)
{
    return reply_error_begins(r, "ERR max number of clients reached");
}

/* What is under way is a refusal of its request. */
static bool session_is_refused(const struct session *s)
{
    const struct resp_reply *r = &s->work->reply;

    return session_is_refusal(r) || (s->on_replica && session_is_replica_refusal(r));
}

static bool reply_is_abort_by_role(const struct resp_reply *r)
{
    return reply_error_begins(r, "EXECABORT ") &&
           (strstr(r->error, "READONLY") || strstr(r->error, "LOADING") || strstr(r->error, "MASTERDOWN"));
}

/* A demotion ends the command that was blocked: it has taken nothing. */
static bool session_is_unblocked(struct session *s, const struct pipeline_entry *e)
{
    static const char text[] = "UNBLOCKED force unblock from blocking operation, instance state changed";

    return e && (e->flags & PIPELINE_BLOCKING) && reply_error_begins(&s->work->reply, text) &&
           hold_may_reissue(s);
}

/* ---- refusals -------------------------------------------------------------------------------------------
 */

/* Sent, and certainly not executed: it waits for another master, if its bytes are still here. */
static void session_hold_again(struct session *s, struct pipeline_entry *e, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;

    if (!pipeline_bytes(p, e)) {
        session_count(&s->env->counts->unknown, 1);
        pipeline_answer_locally(p, e, HOLD_CUT);
        return;
    }
    session_count(&s->env->counts->held, 1);
    e->answered = 0;
    pipeline_hold_again(p, e, now_ms);
}

/* The connection was refused as a whole, so none of what was sent was executed. */
static void session_refused_all(struct session *s, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;

    for (uint64_t seq = p->head; seq < p->unsent; seq++)
        if (pipeline_at(p, seq)->state == PIPELINE_SENT)
            session_hold_again(s, pipeline_at(p, seq), now_ms);
}

/* A reply that comes behind a refused request: e must not be answered before that one. */
static void session_drained(struct session *s, struct pipeline_entry *e, uint32_t now_ms)
{
    const struct resp_reply *r = &s->work->reply;

    if (r->type == '-' || (e->flags & PIPELINE_REPEAT)) {
        session_hold_again(s, e, now_ms);
    } else {
        session_count(&s->env->counts->unknown, 1);
        pipeline_answer_locally(&s->work->pipe, e, HOLD_UNKNOWN);
    }
}

/* ---- one reply ---------------------------------------------------------------------------------------- */

/* Decides about the reply under way, of which `bytes` is what has come so far. */
static enum session_verdict session_decide(struct session *s, const char *bytes, size_t len)
{
    struct session_work *w = s->work;

    w->is_push = session_is_push(s, bytes, len);
    if (w->is_push)
        return session_must_hold(s, NULL) ? SESSION_HOLD : SESSION_FORWARD;
    if (w->prologue_left > 0)
        return SESSION_SWALLOW;
    const struct pipeline_entry *e = pipeline_next_reply(&w->pipe);
    if (!e || s->link != SESSION_READY || e->answered < e->swallow || session_is_refused(s) ||
        session_is_full(&w->reply) || session_is_unblocked(s, e))
        return SESSION_SWALLOW;
    return session_must_hold(s, e) ? SESSION_HOLD : SESSION_FORWARD;
}

/* e has had its reply, the client perhaps not: what stands behind a held one waits there, too. */
static void session_pass_reply(struct session *s, struct pipeline_entry *e, const char *bytes, size_t len)
{
    struct session_work *w = s->work;
    bool swallowed = w->verdict == SESSION_SWALLOW;

    if (swallowed && s->env->durable)
        (void)session_must_hold(s, NULL);
    if ((swallowed || w->verdict == SESSION_HOLD) && session_hold_reply(s, e, bytes, swallowed ? 0 : len))
        return;
    if (w->verdict == SESSION_HOLD)
        session_emit(s, bytes, len);
    if (!e)
        return;
    if (!(e->flags & PIPELINE_BLOCKING) && !request_is_wait(e->kind))
        session_measure(s->env, e->arrived_us);
    assert(e == pipeline_at(&w->pipe, w->pipe.head));
    hold_pop(s);
}

/* It listens (RESP2) since a transaction that nobody followed. */
static void session_pass_bare(struct session *s)
{
    struct pipeline_entry *e = pipeline_next_judged(&s->work->pipe);

    if (e)
        e->flags |= PIPELINE_BARE;
}

static void session_prologue_reply(struct session *s, uint32_t now_ms)
{
    struct session_work *w = s->work;
    const struct resp_reply *r = &w->reply;

    w->prologue_left--;
    if (w->loads_scripts) {
        if (w->prologue_left == 0 && w->scripts_generation == s->env->scripts.generation)
            s->env->scripts.loaded = true;
    } else if (w->marks && reply_error_begins(r, "ERR Can't execute ")) {
        session_pass_bare(s);
    } else if (w->marks) {
        s->unmarked = false;
        s->unmarkable = r->type == '-';
    } else if (r->type == '-' &&
               (s->on_replica || session_is_refusal(r) || session_is_full(r) || session_doubts_login(s))) {
        s->actions |= SESSION_DOUBT;
        session_give_up(s, now_ms);
        return;
    } else if (reply_error_begins(r, "BUSY ") && !remember_is_pushed_to(s->memory)) {
        s->busy = true; /* until it ends its script nothing but KILL is said here */
    } else if (r->type == '-') {
        snprintf(
            s->env->refused, sizeof(s->env->refused),
            "the new master refused what the client had told the old one (AUTH, SELECT, SUBSCRIBE …): %s",
            r->error);
        session_fail(s, s->env->refused);
    }
    if (w->prologue_left > 0)
        return;
    s->link = SESSION_READY;
    s->login_doubts = 0;
}

/* Was that its last reply? What is queued in a transaction has one, +QUEUED; whether there is one, only the
 * reply to MULTI could tell. */
static bool session_has_all(const struct session *s, const struct pipeline_entry *e)
{
    if (s->multi)
        return true;
    if (e->replies == 0)
        return !s->memory || remember_count_of(s->memory, e->kind) == 0;
    return e->answered >= e->replies;
}

/* The request whose reply this is, a MULTI, began nothing. What was sent behind it may have begun another
 * transaction; those before it are answered, but perhaps held. */
static void session_multi_refused(struct session *s)
{
    const struct pipeline *p = &s->work->pipe;

    s->in_multi = s->tx_sent = false;
    for (uint64_t seq = p->reply + 1; seq < p->tail; seq++) {
        const struct pipeline_entry *e = pipeline_at(p, seq);
        bool begins = e->kind == REQUEST_MULTI;
        if (!begins && e->kind != REQUEST_EXEC && e->kind != REQUEST_DISCARD && e->kind != REQUEST_RESET)
            continue;
        s->in_multi = begins;
        if (seq < p->judged && e->state != PIPELINE_LOCAL)
            s->tx_sent = begins;
    }
}

/* The next request's reply is complete. */
static void session_request_reply(struct session *s, uint32_t now_ms, struct pipeline_entry *e,
                                  const char *bytes, size_t len)
{
    struct session_work *w = s->work;
    bool error = w->reply.type == '-' || w->reply.type == '!';

    e->answered++;
    if (!error && reply_is_confirmation(&w->reply) && bytes) {
        struct remember *m = session_memory(s);
        if (m && !remember_confirmation(m, bytes, len))
            m->incomplete = true;
    }
    if (!error && !session_has_all(s, e)) {
        if (w->verdict == SESSION_HOLD)
            session_pass_reply(s, NULL, bytes, len); /* in its place; the request stays */
        return;
    }
    if (s->link == SESSION_DRAINING) {
        session_drained(s, e, now_ms);
        return;
    }
    if (e->kind == REQUEST_EXEC && s->memory && s->memory->queued_select)
        session_forbid_repeats(s);
    if (e->kind == REQUEST_EXEC)
        session_end_tx(s, !error && !w->reply.is_null, w->reply.errors);
    else if (!error)
        session_succeeded(s, e, bytes, len);
    else if (e->kind == REQUEST_MULTI && !s->multi)
        session_multi_refused(s);
    if (reply_is_abort_by_role(&w->reply))
        s->actions |= SESSION_DOUBT;
    session_count(&s->env->counts->requests, 1);
    session_note_size(s, now_ms, e, w->reply.bytes);
    if (s->on_replica)
        session_count(&s->env->counts->replica_reads, 1);
    session_pass_reply(s, e, bytes, len);
}

/* The server refused the next request. */
static void session_refused(struct session *s, uint32_t now_ms, struct pipeline_entry *e)
{
    s->actions |= SESSION_DOUBT;
    if (s->multi) { /* the server will abort the transaction by itself, at EXEC */
        (void)session_must_hold(s, NULL);
        s->work->verdict = SESSION_HOLD;
        session_pass_reply(s, e, "+QUEUED\r\n", 9);
        return;
    }
    if (s->on_replica)
        e->flags &= (uint16_t)~PIPELINE_REPLICA; /* the master's answer counts */
    else
        s->env->refusal = "it is no master, or still loading";
    s->link = SESSION_DRAINING;
    s->since_ms = now_ms;
    session_hold_again(s, e, now_ms);
}

/* The reply under way is complete; bytes is all of it, or NULL when it was too long to be kept. */
static void session_reply_done(struct session *s, uint32_t now_ms, const char *bytes, size_t len)
{
    struct session_work *w = s->work;
    struct pipeline_entry *e = pipeline_next_reply(&w->pipe);

    w->reply_open = false;
    if (w->is_push) {
        if (w->verdict == SESSION_HOLD)
            session_pass_reply(s, NULL, bytes, len);
        return;
    }
    if (session_is_full(&w->reply)) {
        s->env->refusal = s->on_replica ? s->env->refusal : "it has its maxclients";
        s->actions |= SESSION_DOUBT;
        session_refused_all(s, now_ms);
        session_give_up(s, now_ms);
    } else if (w->prologue_left > 0) {
        session_prologue_reply(s, now_ms);
    } else if (!e && w->reply.type == '-') {
        s->actions |= SESSION_DOUBT; /* it says why it hangs up */
        session_give_up(s, now_ms);
    } else if (!e) {
        session_fail(s, "the master sent a reply that nobody had asked for");
    } else if (s->link == SESSION_READY && session_is_refused(s)) {
        session_refused(s, now_ms, e);
    } else if (s->link == SESSION_READY && session_is_unblocked(s, e)) {
        s->actions |= SESSION_DOUBT;
        hold_reissue(s, now_ms);
        session_give_up(s, now_ms);
    } else {
        session_request_reply(s, now_ms, e, bytes, len);
    }
}

/* All that came of the reply under way is in `stash`, or complete; true: it may be passed on. */
static bool session_keeps_on(struct session *s, bool complete)
{
    struct session_work *w = s->work;

    if (complete) {
        w->gated = false; /* it is held as a whole then */
        return false;
    }
    if (!session_close_gate(s))
        return false;
    w->verdict = SESSION_FORWARD;
    w->mark = buf_end(&w->out) + w->lent.len;
    return true;
}

/* `len` bytes of the reply under way. */
static void session_reply_bytes(struct session *s, uint32_t now_ms, const char *data, size_t len,
                                bool complete)
{
    struct session_work *w = s->work;
    bool keeps = w->verdict == SESSION_UNDECIDED || w->verdict == SESSION_HOLD;
    bool stashed = keeps && (!complete || buf_len(&w->stash) > 0);
    const char *bytes = keeps ? data : NULL;
    size_t n = len;

    if (stashed) {
        if (buf_append(&w->stash, data, len)) {
            session_fail(s, "out of memory");
            return;
        }
        bytes = buf_at(&w->stash, buf_start(&w->stash));
        n = buf_len(&w->stash);
    }
    if (w->verdict == SESSION_UNDECIDED) {
        if (!session_can_decide(s, complete, n))
            return;
        w->verdict = (uint8_t)session_decide(s, bytes, n);
        data = bytes;
        len = n;
    }
    if (w->verdict == SESSION_HOLD && session_keeps_on(s, complete)) {
        data = bytes;
        len = n;
    } else if (w->verdict == SESSION_HOLD && !complete) {
        return;
    }
    if (w->verdict == SESSION_FORWARD)
        session_emit(s, data, len);
    if (complete)
        session_reply_done(s, now_ms, bytes, n);
    if (s->work)
        buf_free(&s->work->stash);
}

static void session_reply_begin(struct session *s)
{
    struct session_work *w = s->work;

    (void)session_answer(s);
    w->reply_open = true;
    w->is_push = false;
    w->verdict = SESSION_UNDECIDED;
    w->mark = buf_end(&w->out) + w->lent.len;
}

void session_take_reply(struct session *s, uint32_t now_ms, const char *data, size_t len)
{
    while (len > 0 && s->link != SESSION_DETACHED && !(s->actions & SESSION_CLOSE)) {
        struct session_work *w = session_work(s);
        size_t used = 0;
        if (!w)
            return;
        if (!w->reply_open)
            session_reply_begin(s);
        /* Behind a refused request a transaction can only be judged as a whole: as if the connection broke.
         */
        const struct pipeline_entry *e = pipeline_next_reply(&w->pipe);
        if (s->link == SESSION_DRAINING && e && e->kind == REQUEST_MULTI) {
            w->reply_open = false;
            session_give_up(s, now_ms);
            return;
        }
        enum resp_result result = resp_reply_feed(&w->reply, data, len, &used);
        if (result == RESP_BAD) {
            s->actions |= SESSION_DOUBT;
            session_give_up(s, now_ms);
            return;
        }
        session_reply_bytes(s, now_ms, data, used, result == RESP_END);
        data += used;
        len -= used;
    }
    session_advance(s, now_ms);
}
