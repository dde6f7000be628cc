/* What of large bodies may go from socket to socket unseen. Their ends, and all small ones, are seen. */
#include "proxy/core/session_internal.h"

#include <assert.h>

/* n: bytes of a body to come. With fewer than twice its end it is soon over, too. */
static uint64_t session_unseen(uint64_t n)
{
    return n >= 2 * SESSION_SEEN_END ? n - SESSION_SEEN_END : 0;
}

uint64_t session_reply_unseen(const struct session *s)
{
    const struct session_work *w = s->work;

    if (!w || !w->reply_open || w->verdict != SESSION_FORWARD || buf_len(&w->out) > 0 || w->lent.len > 0)
        return 0;
    return session_unseen(resp_reply_unseen(&w->reply));
}

void session_reply_passed(struct session *s, uint64_t n)
{
    assert(n <= session_reply_unseen(s));
    resp_reply_skip(&s->work->reply, n);
    buf_skip(&s->work->out, n); /* so that what was passed on can't be taken back */
}

/* Its body goes in strides yet. */
static bool session_is_long(const struct session_work *w)
{
    return w->request_open && w->request.pending > SESSION_STRIDE_END;
}

uint64_t session_request_unseen(const struct session *s)
{
    const struct session_work *w = s->work;

    if (!w || !w->request_open || s->link != SESSION_READY || s->input_over ||
        pipeline_count(&w->pipe) != 1 || buf_len(&w->pipe.log) > 0 || buf_len(&w->prologue) > 0)
        return 0;
    const struct pipeline_entry *e = pipeline_at(&w->pipe, w->pipe.head);
    if (e->state != PIPELINE_READY || (e->flags & PIPELINE_DISCARD) || !(e->flags & PIPELINE_STREAMED) ||
        !pipeline_is_partly_written(&w->pipe))
        return 0;
    uint64_t most = session_unseen((uint64_t)w->request.pending);
    if (session_is_long(w) && w->stride < SESSION_STRIDE && most > SESSION_STRIDE - w->stride)
        most = SESSION_STRIDE - w->stride; /* then it ends */
    return most;
}

void session_request_passed(struct session *s, uint64_t n)
{
    assert(n <= session_request_unseen(s));
    resp_request_skip(&s->work->request, n);
    pipeline_pass(&s->work->pipe, n);
    s->work->stride += (uint32_t)n;
}

bool session_ends_stride(struct session *s)
{
    struct session_work *w = s->work;

    if (!w || w->stride < SESSION_STRIDE || !session_is_long(w))
        return false;
    w->stride = 0;
    return true;
}
