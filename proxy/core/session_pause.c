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
    return s->work->prologue_left > 0 || (e && !(e->flags & PIPELINE_BLOCKING) && e->kind != REQUEST_WAIT);
}

bool session_is_in_flight(struct session *s)
{
    bool finishing = s->env->pause != SESSION_STILL;

    if (s->link == SESSION_DETACHED)
        return false;
    if (s->tx_sent && finishing)
        return true;
    if (!s->work)
        return false;
    struct pipeline *p = &s->work->pipe;
    const struct pipeline_entry *due = pipeline_next_reply(p);
    /* What was sent behind a blocked one waits in Redis. */
    if (due)
        return !(due->flags & PIPELINE_BLOCKING) && (finishing || due->kind != REQUEST_WAIT);
    for (uint64_t seq = p->unsent; seq < p->judged; seq++) {
        const struct pipeline_entry *e = pipeline_at(p, seq);
        if (e->state == PIPELINE_READY && (finishing || (e->flags & PIPELINE_COMPLETE)))
            return true;
    }
    return false;
}
