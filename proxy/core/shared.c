#include "proxy/core/hold.h"
#include "proxy/core/pipeline.h"
#include "proxy/core/request.h"
#include "proxy/core/session.h"
#include "proxy/core/shared_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SHARED_SIZE_MIN = 64 };

bool shared_has_room(const struct shared *sh)
{
    return shared_count(sh) < SHARED_DEPTH_MAX && buf_len(&sh->log) < SHARED_LOG_MAX &&
           buf_end(&sh->log) - sh->written < SHARED_UNSENT_MAX;
}

bool shared_is_crowded(const struct shared *sh)
{
    return sh->swallowing && resp_reply_unseen(&sh->reply) >= SHARED_CROWD_MIN;
}

/* ---- requests ---- */

static bool shared_grow(struct shared *sh)
{
    uint32_t size = sh->size ? sh->size * 2 : SHARED_SIZE_MIN;
    struct shared_entry *ring = malloc(size * sizeof(*ring));

    if (!ring)
        return false;
    for (uint64_t seq = sh->head; seq < sh->tail; seq++)
        ring[seq & (size - 1)] = *shared_at(sh, seq);
    free(sh->ring);
    sh->ring = ring;
    sh->size = size;
    return true;
}

bool shared_push(struct shared *sh, const struct shared_entry *e)
{
    if (shared_count(sh) == sh->size && !shared_grow(sh))
        return false;
    sh->tail++;
    sh->n_unsent++;
    *shared_at(sh, sh->tail - 1) = *e;
    if (!e->user)
        return true;
    assert(!e->user->on || e->user->on == sh);
    sh->durable = e->user->session->env->durable;
    if (e->touch == DURABLE_WRITES)
        durable_mark(sh->durable, e->slot);
    if (!(e->flags & PIPELINE_REPEAT))
        session_wrote_shared(e->user->session);
    e->user->bytes += e->len;
    if (e->user->pending++ == 0) {
        e->user->on = sh;
        if (!e->user->session->behind)
            session_share_begin(e->user->session);
    }
    return true;
}

int shared_begin(struct shared *sh, const char *data, size_t len, uint32_t n)
{
    assert(shared_count(sh) == 0 && n > 0);
    if (buf_append(&sh->log, data, len))
        return ERR_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        /* Only the sum of the lengths matters: these are never sent again. */
        struct shared_entry e = {.len = i == 0 ? (uint32_t)len : 0, .prologue = true};
        if (!shared_push(sh, &e))
            return ERR_NOMEM;
    }
    return 0;
}

static bool shared_add(struct shared *sh, const struct shared_entry *e, const char *bytes)
{
    if (buf_append(&sh->log, bytes, e->len))
        return false;
    if (shared_push(sh, e))
        return true;
    buf_cut(&sh->log, buf_end(&sh->log) - e->len);
    return false;
}

uint64_t shared_echo(struct shared *sh)
{
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    const struct shared_entry e = {.len = sizeof(ping) - 1};

    return shared_has_room(sh) && shared_add(sh, &e, ping) ? sh->tail : 0;
}

/* Frames one request at `data`: its length, or 0 when it isn't one that may be shared. Length without
 * e->len: a blank line, which nobody answers. */
static size_t shared_frame(struct resp_request *framer, const char *data, size_t len, struct shared_entry *e)
{
    size_t used = 0;
    struct request_class class;

    if (len == 0 || resp_request_feed(framer, data, len, &used) != RESP_END || used > SHARED_REQUEST_MAX)
        return 0;
    e->len = 0;
    if (framer->n_args == 0)
        return used;
    if (!request_share(framer, &class))
        return 0;
    e->kind = class.kind;
    e->len = (uint32_t)used;
    e->flags = PIPELINE_COMPLETE | PIPELINE_SHARE | request_flags(&class);
    return used;
}

bool shared_may_take(const char *data, size_t len)
{
    struct resp_request framer;
    struct shared_entry e = {0};

    resp_request_init(&framer);
    return shared_frame(&framer, data, len, &e) > 0;
}

/* It has as much here as the others should have to wait for. */
static bool shared_is_full_of(const struct shared_user *u)
{
    return u->pending + u->session->held.held >= SHARED_USER_MAX || u->bytes >= SHARED_USER_BYTES;
}

static bool shared_accepts(const struct shared *sh, const struct shared_user *u)
{
    return !u->diverted && (!u->on || u->on == sh) && !shared_is_full_of(u) && shared_has_room(sh);
}

/* What a replica must not answer, or did not when it was asked. */
static bool shared_is_for_master(const struct shared *sh, uint16_t flags)
{
    return sh->replica && !(flags & PIPELINE_REPLICA);
}

size_t shared_take(struct shared *sh, struct shared_user *u, uint32_t now_ms, const char *data, size_t len)
{
    struct resp_request framer;
    struct shared_entry e = {.user = u, .arrived_us = session_arrival_us(u->session->env)};
    size_t at = 0, n = 0;

    assert(session_has_no_request(u->session));
    resp_request_init(&framer);
    while (at < len && shared_accepts(sh, u) && (n = shared_frame(&framer, data + at, len - at, &e)) > 0) {
        bool due = e.kind == REQUEST_EVALSHA && scripts_are_due(&u->session->env->scripts);
        shared_note_touch(u, &framer, data + at, &e);
        if (due || session_expects_large(u->session, now_ms, data + at, e.len) ||
            (e.len > 0 && shared_is_for_master(sh, e.flags)) || (e.len > 0 && !shared_add(sh, &e, data + at)))
            break; /* the session makes the best of it */
        at += n;
    }
    if (shared_is_full_of(u))
        session_need_own(u->session, now_ms);
    return at;
}

unsigned shared_take_waiting(struct shared *sh, struct shared_user *u)
{
    const struct pipeline_entry *waiting;
    const char *bytes;
    unsigned n = 0;

    for (; shared_accepts(sh, u) && (waiting = session_next_shared(u->session, &bytes)) != NULL; n++) {
        struct shared_entry e = {.user = u,
                                 .len = (uint32_t)waiting->len,
                                 .since_ms = waiting->since_ms,
                                 .arrived_us = waiting->arrived_us,
                                 .flags = waiting->flags,
                                 .kind = waiting->kind,
                                 .touch = waiting->touch,
                                 .slot = waiting->slot,
                                 .again = waiting->again,
                                 .repeated = waiting->repeated};
        if (shared_is_for_master(sh, e.flags) || !shared_add(sh, &e, bytes))
            break;
        session_passed(u->session);
    }
    return n;
}

struct buf_span shared_span(const struct shared *sh)
{
    uint64_t end = buf_end(&sh->log);

    if (sh->written == end)
        return (struct buf_span){NULL, 0};
    return (struct buf_span){buf_at(&sh->log, sh->written), (size_t)(end - sh->written)};
}

void shared_wrote(struct shared *sh, size_t n)
{
    sh->written += n;
    assert(sh->written <= buf_end(&sh->log));
    if (sh->written == buf_end(&sh->log))
        sh->n_unsent = 0;
}

bool shared_is_due(const struct shared *sh, bool beside)
{
    size_t bytes = (size_t)(buf_end(&sh->log) - sh->written);
    bool waits = !beside && shared_count(sh) <= sh->n_unsent;

    return bytes >= SHARED_BATCH_BYTES || (waits && sh->n_unsent >= SHARED_START_REQUESTS);
}

/* ---- replies ---- */

static bool shared_is_sent(const struct shared *sh, const struct shared_entry *e)
{
    return sh->at + e->len <= sh->written;
}

/* The user doesn't wait for it any more. */
static void shared_forget(const struct shared_entry *e)
{
    if (!e->user)
        return;
    e->user->pending--;
    e->user->bytes -= e->len;
}

/* The head has been dealt with. */
static void shared_pop(struct shared *sh)
{
    struct shared_entry *e = shared_at(sh, sh->head);
    struct shared_user *u = e->user;

    shared_unmark(sh, e);
    shared_forget(e);
    if (u && u->pending == 0)
        u->on = NULL;
    buf_consume_keep(&sh->log, e->len);
    sh->at += e->len;
    sh->head++;
}

/* "+…", ":…": the length of the line; 0: it isn't all here, or is odd. */
static size_t shared_line(const char *data, size_t len)
{
    const char *cr = memchr(data, '\r', len < 256 ? len : 256);

    return cr && cr + 1 < data + len && cr[1] == '\n' ? (size_t)(cr + 2 - data) : 0;
}

/* "$<at most five digits>\r\n<body>\r\n", "$-1\r\n". */
static size_t shared_bulk(const char *data, size_t len)
{
    size_t body = 0, at = 1;

    if (len >= 5 && memcmp(data, "$-1\r\n", 5) == 0)
        return 5;
    for (; at < len && at < 6 && data[at] >= '0' && data[at] <= '9'; at++)
        body = body * 10 + (size_t)(data[at] - '0');
    if (at == 1 || (data[1] == '0' && at > 2) || body > SHARED_REPLY_MAX || len < at + body + 4)
        return 0;
    const char *end = data + at + 2 + body;
    return data[at] == '\r' && data[at + 1] == '\n' && end[0] == '\r' && end[1] == '\n' ? at + body + 4 : 0;
}

/* The short cut that nearly every reply takes: whole and simple replies to plain requests of one client,
 * those that must be held apart. False when there is none to pass on. */
static bool shared_run(struct shared *sh, const char **data, size_t *len, struct shared_step *step)
{
    const char *p = *data, *from = p, *end = p + *len;
    struct shared_user *u = NULL;
    bool any = false;

    while (p < end && shared_count(sh) > 0) {
        const struct shared_entry *e = shared_at(sh, sh->head);
        if (e->kind != REQUEST_PLAIN || e->prologue || (e->user && e->user->diverted) ||
            !shared_is_sent(sh, e) || (any && e->user != u))
            break;
        size_t left = (size_t)(end - p);
        size_t n = *p == '$' ? shared_bulk(p, left) : *p == '+' || *p == ':' ? shared_line(p, left) : 0;
        if (n == 0 || (any && shared_must_hold(sh)))
            break;
        sh->n_answered += e->user != NULL;
        if (!any && shared_hold(sh, false, p, n)) {
            from = p + n;
        } else {
            u = e->user;
            any = true;
            if (u)
                session_measure(u->session->env, e->arrived_us);
        }
        shared_pop(sh);
        p += n;
    }
    *step = (struct shared_step){.what = SHARED_PASS, .user = u, .data = from, .len = (size_t)(p - from)};
    *data = p;
    *len = (size_t)(end - p);
    return u != NULL;
}

/* A request of this user goes back to its session: it was not executed, or may be executed again, or nobody
 * knows. */
static void shared_return(struct shared *sh, const struct shared_entry *e, uint64_t at, uint32_t now_ms,
                          enum pipeline_state state)
{
    struct pipeline_entry like = {.arrived_us = e->arrived_us,
                                  .since_ms = e->again ? e->since_ms : now_ms,
                                  .again = state == PIPELINE_HELD || e->again,
                                  .repeated = e->repeated,
                                  .kind = e->kind,
                                  .touch = e->touch,
                                  .slot = e->slot,
                                  .flags = e->flags,
                                  .state = (uint8_t)state,
                                  .answer = HOLD_UNKNOWN};

    session_share_return(e->user->session, &like, buf_at(&sh->log, at), e->len);
}

/* Can the head's reply be asked for again, elsewhere, without changing the order of what this user does? */
static bool shared_may_move(const struct shared *sh, const struct shared_user *u)
{
    uint32_t left = u->pending;

    for (uint64_t seq = sh->head; left > 0; seq++) {
        const struct shared_entry *e = shared_at(sh, seq);
        if (e->user != u)
            continue;
        if (!(e->flags & PIPELINE_REPEAT))
            return false;
        left--;
    }
    return true;
}

static void shared_stash(struct shared *sh, struct shared_user *u, const char *data, size_t len)
{
    if (buf_append(&sh->stash, data, len) == 0)
        return;
    session_fail(u->session, "out of memory");
    buf_free(&sh->stash);
    sh->swallowing = true;
}

/* Some bytes of a reply that isn't complete; true when they are to be passed on. */
static bool shared_part(struct shared *sh, uint32_t now_ms, const char *data, size_t len,
                        struct shared_step *step)
{
    const struct shared_entry *e = shared_count(sh) > 0 ? shared_at(sh, sh->head) : NULL;
    struct shared_user *u = e ? e->user : NULL;

    if (!u || sh->swallowing || sh->reply.type == '>')
        return false;
    *step = (struct shared_step){.what = SHARED_PASS, .user = u, .data = data, .len = len, .part = true};
    if (sh->streaming)
        return true;
    if (sh->reply.bytes + (uint64_t)sh->reply.body <= SHARED_REPLY_MAX) {
        shared_stash(sh, u, data, len);
        return false;
    }
    session_had_large(u->session, now_ms, buf_at(&sh->log, sh->at), e->len,
                      sh->reply.bytes + (uint64_t)sh->reply.body);
    if (u->diverted || shared_may_move(sh, u)) {
        u->diverted = sh->swallowing = true;
        buf_free(&sh->stash);
        return false;
    }
    if (shared_must_hold(sh)) { /* it has to wait as a whole */
        shared_stash(sh, u, data, len);
        if (buf_len(&sh->stash) <= SESSION_OUT_LIMIT)
            return false;
        session_fail(u->session, "its reply is too large to be held until replicas acknowledge it");
        buf_free(&sh->stash);
        step->len = 0;
        return sh->swallowing = true;
    }
    sh->streaming = true;
    if (buf_len(&sh->stash) == 0)
        return true;
    shared_stash(sh, u, data, len);
    if (sh->swallowing)
        return false;
    sh->stash_is_done = true;
    step->data = buf_at(&sh->stash, buf_start(&sh->stash));
    step->len = buf_len(&sh->stash);
    return true;
}

static bool shared_error_is(const struct shared *sh, const char *text)
{
    return sh->reply.type == '-' && strncmp(sh->reply.error, text, strlen(text)) == 0;
}

/* The head of a user whose earlier request waits elsewhere was answered: it waits there, too. */
static void shared_divert(struct shared *sh, uint32_t now_ms, const struct shared_entry *e)
{
    struct session_counts *counts = e->user->session->env->counts;
    bool again = sh->reply.type == '-' || (e->flags & PIPELINE_REPEAT);
    struct shared_entry like = *e;

    if (sh->replica && !sh->swallowing)
        like.flags &= (uint16_t)~PIPELINE_REPLICA; /* the master's answer counts */
    session_count(sh->swallowing || sh->replica ? &counts->replayed
                  : again                       ? &counts->held
                                                : &counts->unknown,
                  1);
    shared_return(sh, &like, sh->at, now_ms, again ? PIPELINE_HELD : PIPELINE_LOCAL);
}

/* The reply under way is complete: step->data is all of it, or its last part. False: nothing is to be done.
 */
static bool shared_complete(struct shared *sh, uint32_t now_ms, struct shared_step *step)
{
    const struct shared_entry *e = shared_count(sh) > 0 ? shared_at(sh, sh->head) : NULL;
    bool refused = session_is_refusal(&sh->reply) || (sh->replica && session_is_replica_refusal(&sh->reply));
    /* Scripts that the master has cached are not replicated. */
    bool asks_master = refused || (sh->replica && shared_error_is(sh, "NOSCRIPT "));

    if (sh->reply.type == '>')
        return false;
    step->unsent = session_is_full(&sh->reply) || (e && e->prologue && sh->reply.type == '-');
    if (!e || !shared_is_sent(sh, e) || step->unsent) {
        step->what = SHARED_BROKEN;
        return true;
    }
    step->user = e->user;
    step->what = refused ? SHARED_REFUSED : SHARED_PASS;
    shared_note_answer(sh, step);
    if (refused && e->user && !sh->replica)
        e->user->session->env->refusal = "it is no master, or still loading";
    if (e->user && (asks_master || sh->swallowing || e->user->diverted)) {
        e->user->diverted = true;
        shared_divert(sh, now_ms, e);
        step->len = 0;
    } else if (e->user) {
        sh->n_answered++;
        if (step->len > SHARED_REPLY_MAX)
            session_had_large(e->user->session, now_ms, buf_at(&sh->log, sh->at), e->len, step->len);
        if (sh->reply.type != '-')
            session_share_learn(e->user->session, e->kind, buf_at(&sh->log, sh->at), e->len);
        if (!sh->streaming && shared_hold(sh, sh->reply.type == '-', step->data, step->len))
            step->len = 0;
        else
            session_measure(e->user->session->env, e->arrived_us);
    }
    shared_pop(sh);
    return step->user || refused || step->batch > 0;
}

/* One reply, or what is here of it; true when there is something to do. */
static bool shared_one(struct shared *sh, uint32_t now_ms, const char **data, size_t *len,
                       struct shared_step *step)
{
    size_t used = 0;
    enum resp_result result = resp_reply_feed(&sh->reply, *data, *len, &used);
    const char *bytes = *data;
    shared_note_bytes(sh, bytes, used);
    *data += used;
    *len -= used;
    if (result == RESP_MORE)
        return shared_part(sh, now_ms, bytes, used, step);
    if (result == RESP_BAD) {
        *step = (struct shared_step){.what = SHARED_BROKEN};
        return true;
    }
    *step = (struct shared_step){.what = SHARED_PASS, .data = bytes, .len = used};
    if (buf_len(&sh->stash) > 0 && shared_count(sh) > 0 && shared_at(sh, sh->head)->user) {
        shared_stash(sh, shared_at(sh, sh->head)->user, bytes, used);
        if (buf_len(&sh->stash) > 0) {
            step->data = buf_at(&sh->stash, buf_start(&sh->stash));
            step->len = buf_len(&sh->stash);
        }
    }
    sh->stash_is_done = true;
    bool act = shared_complete(sh, now_ms, step);
    sh->streaming = sh->swallowing = false;
    return act;
}

void shared_take_reply(struct shared *sh, uint32_t now_ms, const char **data, size_t *len,
                       struct shared_step *step)
{
    while (*len > 0) {
        if (sh->stash_is_done) {
            buf_free(&sh->stash);
            sh->stash_is_done = false;
        }
        if (!sh->reply.under_way && shared_run(sh, data, len, step))
            return;
        if (*len > 0 && shared_one(sh, now_ms, data, len, step))
            return;
    }
    *step = (struct shared_step){.what = SHARED_NOTHING};
}

void shared_settle(struct shared_user *u, uint32_t now_ms)
{
    uint64_t epoch = u->lost_epoch;

    if (u->pending > 0 || u->session->held.held > 0 || !u->session->behind)
        return;
    u->diverted = false;
    u->lost_epoch = 0;
    session_share_end(u->session, now_ms, epoch);
}

void shared_lost(struct shared_user *u, uint64_t epoch)
{
    if (!u->session->behind)
        return;
    u->lost_epoch = epoch;
    u->diverted = true;
}

void shared_overflow(struct shared_user *u, uint32_t now_ms)
{
    session_need_own(u->session, now_ms);
    if (!u->on || u->diverted)
        return;
    if (!u->on->streaming && shared_may_move(u->on, u)) {
        u->diverted = true;
    } else if (session_has_too_much(u->session)) {
        shared_leave(u);
        session_cut(u->session);
    }
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

void shared_break(struct shared *sh, uint32_t now_ms, bool unsent)
{
    uint64_t at = sh->at;

    for (uint64_t seq = sh->head; seq < sh->tail; seq++) {
        struct shared_entry *e = shared_at(sh, seq);
        bool sent = !unsent && at + e->len <= sh->written;
        if (e->user && seq == sh->head && sh->streaming)
            session_fail(e->user->session,
                         "the master was lost in the middle of a reply that was being passed on");
        if (e->user && !sent && !(e->flags & PIPELINE_COUNTED)) {
            session_count(&e->user->session->env->counts->held, 1);
            e->flags |= PIPELINE_COUNTED;
        }
        if (e->user)
            shared_return(sh, e, at, now_ms, sent ? PIPELINE_SENT : PIPELINE_HELD);
        at += e->len;
    }
}

struct shared_user *shared_take_back(struct shared *sh, uint32_t now_ms, uint64_t epoch)
{
    while (sh->head < sh->tail) {
        struct shared_entry *e = shared_at(sh, sh->head);
        struct shared_user *u = e->user;
        shared_unmark(sh, e);
        shared_forget(e);
        sh->head++;
        if (!u || u->pending > 0)
            continue;
        u->on = NULL;
        shared_lost(u, epoch);
        shared_settle(u, now_ms);
        return u;
    }
    shared_free(sh);
    return NULL;
}

void shared_leave(struct shared_user *u)
{
    struct shared *sh = u->on;

    for (uint64_t seq = sh ? sh->head : 0; sh && u->pending > 0; seq++) {
        struct shared_entry *e = shared_at(sh, seq);
        if (e->user != u)
            continue;
        shared_forget(e);
        e->user = NULL;
    }
    u->on = NULL;
}
