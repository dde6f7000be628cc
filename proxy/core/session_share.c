/*   requests ─► session ─┬─ session_next_shared() ─► shared connection ─┬─ replies ─► client
 *                        │                                           └─ session_share_return(): refused, or
 *                        └─◄── session_share_end(): merged, resolved ◄──  the connection is lost
 *
 * While `behind`, everything that is here waits for what is there. */
#include "proxy/core/hold.h"
#include "proxy/core/session_internal.h"
#include "proxy/core/shared.h"

#include <assert.h>

static bool session_is_plain(const struct session *s)
{
    bool state = s->multi || s->watched || s->watch_lost || s->in_multi || s->silent || s->skip ||
                 s->tx_sent || s->nested || hold_playing(s) != HOLD_TX_NONE;

    return !state && (!s->memory || remember_may_share(s->memory));
}

bool session_may_share(const struct session *s, uint32_t now_ms)
{
    return session_is_plain(s) && !(s->own && now_ms - s->own_ms < SESSION_OWN_MS);
}

void session_need_own(struct session *s, uint32_t now_ms)
{
    s->own = true;
    s->guessed = false;
    s->own_ms = now_ms;
}

void session_had_large(struct session *s, uint32_t now_ms, const char *request, size_t len, uint64_t bytes)
{
    large_note(&s->env->large, request, len, bytes, true);
    session_need_own(s, now_ms);
}

bool session_expects_large(struct session *s, uint32_t now_ms, const char *request, size_t len)
{
    if (large_expects(&s->env->large, request, len) == 0)
        return false;
    session_need_own(s, now_ms);
    s->guessed = true;
    return true;
}

void session_note_size(struct session *s, uint32_t now_ms, const struct pipeline_entry *e, uint64_t bytes)
{
    const char *request = e->flags & PIPELINE_SHARE ? pipeline_bytes(&s->work->pipe, e) : NULL;

    if (bytes > PIPELINE_LARGE) {
        if (request)
            session_had_large(s, now_ms, request, e->len, bytes);
        else
            session_need_own(s, now_ms);
        return;
    }
    if (request)
        large_note(&s->env->large, request, e->len, bytes, false);
    if (s->guessed && (e->flags & PIPELINE_SHARE))
        s->own = s->guessed = false;
}

bool session_is_deep(const struct session *s)
{
    return s->work && pipeline_count(&s->work->pipe) >= SHARED_USER_MAX;
}

bool session_has_no_request(const struct session *s)
{
    const struct session_work *w = s->work;

    return !w || (pipeline_count(&w->pipe) == 0 && pipeline_count(&w->returned) == 0 && !w->request_open);
}

size_t session_rest_of_request(const struct session *s, const char *data, size_t len)
{
    const struct session_work *w = s->work;
    size_t used = 0;

    if (!w || !w->request_open || pipeline_count(&w->pipe) != 1 || s->input_over)
        return 0;
    struct resp_request framer = w->request;
    return resp_request_feed(&framer, data, len, &used) == RESP_END ? used : 0;
}

const struct pipeline_entry *session_next_shared(struct session *s, const char **bytes)
{
    struct session_work *w = s->work;

    if (s->link != SESSION_DETACHED || !w || pipeline_count(&w->pipe) == 0 ||
        pipeline_count(&w->returned) > 0)
        return NULL;
    const struct pipeline_entry *e = pipeline_at(&w->pipe, w->pipe.head);
    if (e->state != PIPELINE_HELD || !(e->flags & PIPELINE_SHARE) || !(e->flags & PIPELINE_COMPLETE))
        return NULL;
    if (e->kind == REQUEST_EVALSHA && scripts_are_due(&s->env->scripts))
        return NULL; /* a connection of its own loads them first */
    *bytes = pipeline_bytes(&w->pipe, e);
    return *bytes ? e : NULL;
}

void session_passed(struct session *s)
{
    hold_pop(s);
}

bool session_wants_shared(struct session *s, uint32_t now_ms)
{
    const char *bytes;

    return session_may_share(s, now_ms) && session_next_shared(s, &bytes) != NULL;
}

/* It takes effect with the requests that come behind it: where they are asked is decided later. */
void session_note_reads(struct session *s, struct pipeline_entry *e)
{
    if (e->kind == REQUEST_READONLY)
        s->reads = SESSION_READS_REPLICA;
    else if (e->kind == REQUEST_READWRITE)
        s->reads = SESSION_READS_MASTER;
    else if (e->kind == REQUEST_RESET)
        s->reads = SESSION_READS_POLICY;
}

bool session_reads_replica(const struct session *s)
{
    const struct route *r = s->env->route;

    if (r->n_readers == 0 || s->reads == SESSION_READS_MASTER)
        return false;
    return s->reads == SESSION_READS_REPLICA || r->reads != TOPOLOGY_READS_MASTER;
}

/* Scripts are loaded where the master is, so they stay there; what is streamed, or not answered, does, too.
 */
static bool session_suits_replica(const struct session *s, const struct pipeline_entry *e)
{
    const uint16_t never = PIPELINE_STREAMED | PIPELINE_BLOCKING | PIPELINE_SILENT;

    return e->kind == REQUEST_PLAIN && (e->flags & PIPELINE_REPLICA) && (e->flags & PIPELINE_COMPLETE) &&
           !(e->flags & never) && session_reads_replica(s);
}

bool session_may_attach_to_replica(struct session *s)
{
    const struct pipeline_entry *e = s->work ? pipeline_next_judged(&s->work->pipe) : NULL;

    return e && session_is_plain(s) && session_suits_replica(s, e);
}

void session_attached_to_replica(struct session *s, uint32_t now_ms)
{
    s->on_replica = true;
    session_attached(s, now_ms);
}

bool session_is_for_master(const struct session *s, const struct pipeline_entry *e)
{
    return s->on_replica && !session_suits_replica(s, e);
}

bool session_has_done_reading(struct session *s)
{
    struct session_work *w = s->work;

    if (!s->on_replica || s->link != SESSION_READY || w->reply_open || !pipeline_is_quiet(&w->pipe))
        return false;
    const struct pipeline_entry *e = pipeline_next_judged(&w->pipe);
    return e && (e->flags & (PIPELINE_COMPLETE | PIPELINE_STREAMED)) && session_is_for_master(s, e);
}

bool session_is_parked(const struct session *s)
{
    return s->link == SESSION_READY && session_is_idle(s) && session_is_plain(s);
}

bool session_leave_own(struct session *s)
{
    if (!session_is_parked(s))
        return false;
    s->link = SESSION_DETACHED;
    s->unmarked = true;
    s->on_replica = false;
    return true;
}

/* The server takes neither PUBLISH nor WAIT from it. */
static bool session_is_listening(const struct session *s)
{
    return s->resp == 2 && s->memory && remember_subscriptions(s->memory) > 0;
}

bool session_awaits_marker(struct session *s, const struct pipeline_entry *e)
{
    struct session_work *w = s->work;

    if (!request_is_wait(e->kind) || !s->unmarked || (e->flags & PIPELINE_BARE))
        return false;
    if (!pipeline_is_quiet(&w->pipe))
        return true; /* between two requests */
    if ((e->flags & PIPELINE_SILENT) || session_is_listening(s))
        return false;
    if (buf_append(&w->prologue, DURABLE_MARKER, sizeof(DURABLE_MARKER) - 1)) {
        session_fail(s, "out of memory");
        return true;
    }
    w->prologue_left = 1;
    w->marks = true;
    w->loads_scripts = false;
    s->link = SESSION_PROLOGUE;
    return true;
}

void session_wrote_shared(struct session *s)
{
    s->unmarked = true;
}

void session_share_begin(struct session *s)
{
    assert(s->link == SESSION_DETACHED);
    s->behind = true;
}

void session_share_return(struct session *s, const struct pipeline_entry *like, const char *bytes, size_t len)
{
    struct session_work *w = session_work(s);

    assert(s->behind);
    if (like->state == PIPELINE_LOCAL)
        s->lost_epoch = s->env->route->epoch;
    if (w && pipeline_put(&w->returned, like, bytes, len))
        session_fail(s, "out of memory");
}

void session_share_insert(struct session *s, const struct pipeline_entry *like, const char *bytes, size_t len)
{
    struct session_work *w = session_work(s);
    struct pipeline all = {0}, *p = w ? &w->returned : NULL;
    int err = 0;

    assert(s->behind);
    if (!w)
        return;
    if (w->n_first == pipeline_count(p)) {
        err = pipeline_put(p, like, bytes, len);
    } else {
        for (uint64_t seq = p->head; seq <= p->tail && !err; seq++) {
            if (seq == p->head + w->n_first)
                err = pipeline_put(&all, like, bytes, len);
            const struct pipeline_entry *e = seq < p->tail ? pipeline_at(p, seq) : NULL;
            if (e && !err)
                err = pipeline_put(&all, e, pipeline_bytes(p, e), (size_t)e->len);
        }
        pipeline_free(p);
        *p = all;
    }
    w->n_first++;
    if (err)
        session_fail(s, "out of memory");
}

static void session_share_merge(struct session *s, uint32_t now_ms)
{
    struct session_work *w = s->work;
    struct pipeline later = w->pipe;

    w->pipe = w->returned;
    w->returned = (struct pipeline){0};
    w->n_first = 0;
    if (pipeline_join(&w->pipe, &later)) {
        pipeline_free(&later);
        session_fail(s, "out of memory");
    }
    hold_resolve(s, now_ms);
}

void session_share_end(struct session *s, uint32_t now_ms, uint64_t epoch)
{
    struct session_work *w = s->work;

    assert(s->behind);
    s->behind = false;
    if (epoch > 0) {
        s->lost_epoch = epoch;
        s->since_ms = now_ms;
    }
    if (w && pipeline_count(&w->returned) > 0) {
        session_share_merge(s, now_ms);
        if (s->eof && epoch > 0)
            session_fail(s, "the client left");
    }
    session_advance(s, now_ms);
}

void session_share_learn(struct session *s, uint8_t kind, const char *bytes, size_t len)
{
    if (kind == REQUEST_EVAL)
        session_learn_script(s, kind, bytes, len);
}
