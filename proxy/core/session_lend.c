/* Replies that are passed on without being copied: lent from the buffer they were read into, as long as the
 * client takes them at once. */
#include "proxy/core/session_internal.h"

#include <assert.h>

bool session_lend(struct session_work *w, const char *data, size_t len)
{
    if (buf_len(&w->out) > 0 || w->in.len == 0 || data < w->in.data || data + len > w->in.data + w->in.len)
        return false;
    if (w->lent.len == 0)
        w->lent = (struct buf_span){data, 0};
    if (w->lent.data + w->lent.len != data)
        return false;
    w->lent.len += len;
    return true;
}

bool session_end_loan(struct session *s)
{
    struct session_work *w = s->work;

    if (w->lent.len == 0)
        return true;
    if (buf_append(&w->out, w->lent.data, w->lent.len)) {
        session_fail(s, "out of memory");
        return false;
    }
    w->lent.len = 0;
    return true;
}

struct buf_span session_take_reply_lent(struct session *s, uint32_t now_ms, const char *data, size_t len)
{
    struct session_work *w = session_work(s);

    if (!w)
        return (struct buf_span){NULL, 0};
    w->in = (struct buf_span){data, len};
    session_take_reply(s, now_ms, data, len);
    if (!s->work)
        return (struct buf_span){NULL, 0};
    s->work->in.len = 0;
    return s->work->lent;
}

void session_lent_wrote(struct session *s, size_t n)
{
    struct session_work *w = s->work;

    if (!w || w->lent.len == 0)
        return;
    assert(n <= w->lent.len && buf_len(&w->out) == 0);
    buf_skip(&w->out, n);
    w->lent.data += n;
    w->lent.len -= n;
    (void)session_end_loan(s); /* when it fails, the session closes */
    if (session_is_idle(s) && !s->behind)
        session_free_work(s);
}
