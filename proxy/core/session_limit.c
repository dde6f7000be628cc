/* What a session is measured by (time, memory), and the limits of it whose owner is told: -MRLIMIT. */
#include "proxy/core/histogram.h"
#include "proxy/core/hold.h"
#include "proxy/core/session_internal.h"

#include <assert.h>
#include <stdlib.h>

/* ---- time -----------------------------------------------------------------------------------------------
 */

uint32_t session_arrival_us(const struct session_env *env)
{
    return env->clock ? env->clock->arrived_us : 0;
}

static void session_measure_as(_Atomic(struct histogram *) *to, uint32_t took_us)
{
    struct histogram *h = atomic_load_explicit(to, memory_order_relaxed);

    if (!h) {
        h = calloc(1, sizeof(*h));
        if (!h)
            return;
        atomic_store_explicit(to, h, memory_order_release);
    }
    histogram_add(h, took_us);
}

void session_measure(const struct session_env *env, uint32_t arrived_us)
{
    if (env->clock)
        session_measure_as(&env->counts->latency, env->clock->written_us - arrived_us);
}

void session_measure_held(const struct session_env *env, uint32_t held_us)
{
    if (env->clock)
        session_measure_as(&env->counts->held_time, env->clock->written_us - held_us);
}

/* ---- memory ---------------------------------------------------------------------------------------------
 */

static size_t session_pipeline_memory(const struct pipeline *p)
{
    return p->size * sizeof(struct pipeline_entry) + p->log.size;
}

size_t session_memory_bytes(const struct session *s)
{
    const struct session_work *w = s->work;

    if (!w)
        return 0;
    return sizeof(*w) + session_pipeline_memory(&w->pipe) + session_pipeline_memory(&w->returned) +
           w->prologue.size + w->stash.size + w->out.size;
}

size_t session_held_bytes(const struct session *s)
{
    if (!s->work || (s->link == SESSION_READY && !session_waits(s)))
        return 0;
    return (size_t)pipeline_unsent_bytes(&s->work->pipe) +
           (size_t)pipeline_unsent_count(&s->work->pipe) * SESSION_HELD_EACH;
}

size_t session_unread_bytes(const struct session *s)
{
    return s->work && buf_len(&s->work->out) > 0 ? session_memory_bytes(s) : 0;
}

/* ---- limits ---------------------------------------------------------------------------------------------
 */

/* Clients that don't take their replies hold as much memory as all of them together may. */
static bool session_is_tight(const struct session *s)
{
    const struct session_env *env = s->env;

    return env->limits && env->limits->unread_bytes > 0 &&
           atomic_load_explicit(env->unread_bytes, memory_order_relaxed) >= env->limits->unread_bytes;
}

uint64_t session_reply_max(const struct session *s)
{
    if (session_is_tight(s))
        return SESSION_OUT_TIGHT;
    return s->env->limits ? s->env->limits->reply_bytes : SESSION_OUT_LIMIT;
}

bool session_is_slow(const struct session *s)
{
    size_t max = session_is_tight(s) ? SESSION_OUT_TIGHT : SESSION_OUT_MAX;

    return s->work && buf_len(&s->work->out) >= max;
}

/* Not so when nobody knows how long the first one takes; nor of one that sends all before it reads: what it
 * doesn't take is left with the server, as long as its requests get there. */
bool session_is_deep_enough(const struct session *s)
{
    const struct pipeline *pipe = &s->work->pipe;

    return s->link == SESSION_READY && pipeline_count(pipe) >= SESSION_DEEP_MAX && !session_is_slow(s) &&
           !s->work->gated && !(pipeline_at(pipe, pipe->head)->flags & PIPELINE_BLOCKING);
}

size_t session_backend_room(const struct session *s)
{
    const struct session_work *w = s->work;
    bool tight = session_is_tight(s);
    size_t max = tight ? SESSION_OUT_TIGHT : SESSION_OUT_MAX;

    if (session_is_slow(s) || (s->held.held > 0 && session_kept_bytes(s) >= max))
        return 0;
    if (w && w->gated)
        return 0;
    /* Who takes all that it is given has the whole of it each time. */
    if (w && session_is_deep(s) && w->reply.bytes < SESSION_SMALL_REPLY)
        return SESSION_DEEP_READ;
    /* What it has not taken yet counts: sockets keep little (net_keep_little()), so it is here. */
    size_t left = w ? buf_len(&w->out) : 0;
    return tight || left >= SESSION_READ_MAX ? SESSION_OUT_TIGHT : SESSION_READ_MAX - left;
}

bool session_asks_anew(const struct session *s)
{
    const struct session_work *w = s->work;

    if (!w || s->link != SESSION_READY || s->env->durable || w->pipe.in_flight > 0 || buf_len(&w->out) > 0 ||
        w->lent.len > 0 || w->pipe.unsent == w->pipe.judged || pipeline_is_partly_written(&w->pipe))
        return false;
    const struct pipeline_entry *e = pipeline_at(&w->pipe, w->pipe.unsent);
    return (e->flags & PIPELINE_SHARE) && !(e->flags & (PIPELINE_SILENT | PIPELINE_STREAMED));
}

uint32_t session_expects(const struct session *s)
{
    const struct session_work *w = s->work;
    const struct pipeline_entry *e = pipeline_at(&w->pipe, w->pipe.unsent);
    const char *request = pipeline_bytes(&w->pipe, e);

    return request && (e->flags & PIPELINE_COMPLETE) ? large_expects(&s->env->large, request, e->len) : 0;
}

bool session_asks_nothing(const struct session *s)
{
    return !s->work || pipeline_is_quiet(&s->work->pipe);
}

bool session_has_too_much(const struct session *s)
{
    return s->work && buf_len(&s->work->out) >= session_reply_max(s);
}

void session_cut(struct session *s)
{
    struct session_work *w = s->work;
    char text[HOLD_TEXT_MAX];

    assert(w && s->link == SESSION_DETACHED);
    session_count(&s->env->counts->rejected, 1);
    int len = hold_format(s, session_is_tight(s) ? HOLD_UNREAD_ALL : HOLD_UNREAD, text);
    session_emit(s, text, (size_t)len);
    if (s->env->durable)
        durable_leave(s->env->durable, &s->held); /* of those that are thrown away */
    s->behind = false;
    s->closing = s->input_over = true;
    w->request_open = false;
    pipeline_free(&w->pipe);
    pipeline_free(&w->returned);
}

/* The proxy answers the newest entry, of which nothing was written: its bytes go, those to come aren't kept.
 */
static void session_refuse(struct session *s, struct pipeline_entry *e, enum hold_answer answer)
{
    struct pipeline *p = &s->work->pipe;

    session_count(&s->env->counts->rejected, 1);
    buf_cut(&p->log, e->start);
    e->len = 0;
    e->flags |= e->flags & PIPELINE_COMPLETE ? 0 : PIPELINE_DISCARD | PIPELINE_STREAMED;
    pipeline_answer_locally(p, e, (uint8_t)answer);
}

static bool session_is_begun(const struct pipeline *p, const struct pipeline_entry *e)
{
    return p->unsent < p->tail && pipeline_at(p, p->unsent) == e && pipeline_is_partly_written(p);
}

bool session_refuse_large(struct session *s, struct pipeline_entry *e)
{
    struct session_work *w = s->work;

    if (!s->env->limits || (e->flags & PIPELINE_DISCARD) ||
        w->request.bytes + (uint64_t)w->request.pending <= s->env->limits->request_bytes)
        return false;
    if (!s->in_multi && !s->silent && !s->skip && !session_is_begun(&w->pipe, e)) {
        session_refuse(s, e, HOLD_TOO_LARGE);
        return false; /* its end is still to be found */
    }
    /* What was sent of it can't be taken back, and a transaction must not be executed without it. */
    session_count(&s->env->counts->rejected, 1);
    e->flags |= PIPELINE_COMPLETE;
    pipeline_answer_locally(&w->pipe, e, HOLD_TOO_LARGE_END);
    w->request_open = false;
    s->input_over = true;
    return true;
}

bool session_refuse_held(struct session *s, struct pipeline_entry *e)
{
    const struct session_env *env = s->env;
    bool is_data = e->kind == REQUEST_PLAIN || e->kind == REQUEST_EVAL || e->kind == REQUEST_EVALSHA;

    /* What changes the connection is small, and a transaction is all or nothing: their clients are bounded by
     * SESSION_HELD_MAX each. */
    if (!env->limits || env->limits->held_bytes == 0 || !is_data || s->in_multi ||
        (s->link == SESSION_READY && !session_waits(s)) ||
        atomic_load_explicit(env->held_bytes, memory_order_relaxed) < env->limits->held_bytes)
        return false;
    session_refuse(s, e, HOLD_TOO_MUCH);
    return true;
}
