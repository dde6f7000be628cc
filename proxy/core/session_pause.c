#include "proxy/core/hold.h"
#include "proxy/core/session_internal.h"

/* An open transaction may end while a switchover is prepared: its EXEC would be refused after it, and nobody
 * is to see an error. A client that only watches keys waits: null as the answer of its EXEC is no error. */
static bool session_is_paused(const struct session *s)
{
    return s->env->pause == SESSION_STILL || (s->env->pause == SESSION_FINISHING && !s->tx_sent);
}

bool session_waits(const struct session *s)
{
    return s->link != SESSION_READY || s->env->route->state == ROUTE_HELD || session_is_paused(s);
}

bool session_awaits_reply(struct session *s)
{
    if (!s->work || s->link == SESSION_DETACHED)
        return false;
    const struct pipeline_entry *e = pipeline_next_reply(&s->work->pipe);
    return s->work->prologue_left > 0 || (e && !(e->flags & PIPELINE_BLOCKING) && !request_is_wait(e->kind));
}

bool session_is_in_flight(struct session *s)
{
    bool finishing = s->env->pause != SESSION_STILL;

    if (s->link == SESSION_DETACHED || s->on_replica) /* a read there is none of a switchover's business */
        return false;
    if (s->tx_sent && finishing)
        return true;
    if (!s->work)
        return false;
    struct pipeline *p = &s->work->pipe;
    const struct pipeline_entry *due = pipeline_next_reply(p);
    /* What was sent behind a blocked one waits in Redis. */
    if (due)
        return !(due->flags & PIPELINE_BLOCKING) && (finishing || !request_is_wait(due->kind));
    for (uint64_t seq = p->unsent; seq < p->judged; seq++) {
        const struct pipeline_entry *e = pipeline_at(p, seq);
        if (e->state == PIPELINE_READY && (finishing || (e->flags & PIPELINE_COMPLETE)))
            return true;
    }
    return false;
}

void session_expire(struct session *s, uint32_t now_ms)
{
    uint32_t at_ms;

    if (!session_deadline(s, &at_ms) || (int32_t)(now_ms - at_ms) < 0)
        return;
    /* A transaction without one of its commands must not be executed. */
    bool draining = s->link == SESSION_DRAINING;
    if (draining || s->tx_sent)
        session_give_up(s, now_ms);
    if (!draining)
        hold_expire(s, now_ms);
    session_advance(s, now_ms);
}

bool session_deadline(struct session *s, uint32_t *at_ms)
{
    bool blocked = s->env->durable && durable_blocks(s->env->durable);

    if (!s->work || s->behind || !(session_waits(s) || blocked))
        return false;
    if (s->link == SESSION_DRAINING) {
        *at_ms = s->since_ms + SESSION_DRAIN_MS;
        return true;
    }
    const struct pipeline_entry *e = pipeline_next_judged(&s->work->pipe);
    if (!e || !(e->flags & (PIPELINE_COMPLETE | PIPELINE_STREAMED)))
        return false;
    *at_ms = e->since_ms + s->env->hold_ms;
    return true;
}

bool session_is_done(const struct session *s)
{
    struct pipeline *p = &s->work->pipe;

    if (s->link == SESSION_DRAINING)
        return !pipeline_next_reply(p);
    return s->link == SESSION_READY && s->busy && pipeline_is_quiet(p);
}
