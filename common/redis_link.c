/*
 *   redis_link_command ─► out ─(end of turn)─► send ─► redis-server
 *            └─► pending FIFO ◄── one reply each ◄── redisReader ◄── recv
 *
 *   WAITING ─timer─► CONNECTING ─writable─► LOGIN (AUTH, CLIENT SETNAME) ─answers─► UP
 *      ▲  at once after UP, else back-off       │ any failure                       │
 *      └────────────────────────────────────────┴───────────────────────────────────┘
 *
 * hiredis formats and parses, the socket is ours: hiredis' own asynchronous half (0.14) asserts on a reply
 * that nobody asked for, so that any peer could end this process; it also has no deadlines, and each of its
 * callbacks has rules of its own about when a context may be freed. */
#include "common/redis_link.h"

#include "common/loop.h"
#include "common/redis_queue.h"
#include "common/redis_reader.h"
#include "common/tcp.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 16 * 1024,
    READS_PER_TURN = 16,               /* fairness: one chatty peer must not starve the loop */
    REPLY_BYTES_MAX = 4 * 1024 * 1024, /* no reply that we ask for comes near it */
};

enum redis_link_state { WAITING, CONNECTING, LOGIN, UP, CLOSED };

struct redis_link {
    struct loop *loop;
    struct redis_link_config config; /* its client_name is our copy */
    enum redis_link_state state;
    int fd; /* -1: none */
    ev_io readable, writable;
    ev_timer attempt;      /* WAITING: next attempt; CONNECTING, LOGIN: their deadline */
    ev_timer overdue;      /* looks at the oldest unanswered command */
    int64_t attempt_at_us; /* the current deadline's start */
    int64_t tried_us;      /* when the newest attempt began */
    const char *renew;     /* give up at the next turn, for this reason; NULL: no */
    int backoff_ms;        /* before the next attempt; 0: at once */
    unsigned jitter;
    redisReader *reader;
    struct redis_queue queue;
    bool flush_queued;
    bool doomed;    /* out of memory in the middle of a pipeline */
    int login_left; /* login replies still to come */
};

static void redis_link_on_readable(struct ev_loop *ev, ev_io *w, int revents);
static void redis_link_on_writable(struct ev_loop *ev, ev_io *w, int revents);
static void redis_link_on_attempt(struct ev_loop *ev, ev_timer *w, int revents);
static void redis_link_on_overdue(struct ev_loop *ev, ev_timer *w, int revents);

/* ---- going down and coming back ------------------------------------------------------------------------ */

static void timer_set(struct redis_link *link, ev_timer *timer, int64_t delay_us)
{
    struct ev_loop *ev = loop_ev(link->loop);

    ev_timer_stop(ev, timer);
    ev_timer_set(timer, (double)(delay_us > 0 ? delay_us : 0) / 1e6, 0.);
    ev_timer_start(ev, timer);
}

static void drop_connection(struct redis_link *link)
{
    struct ev_loop *ev = loop_ev(link->loop);

    ev_timer_stop(ev, &link->attempt);
    ev_timer_stop(ev, &link->overdue);
    link->renew = NULL;
    if (link->fd >= 0) {
        ev_io_stop(ev, &link->readable);
        ev_io_stop(ev, &link->writable);
        close(link->fd);
        link->fd = -1;
    }
    redis_queue_drop_bytes(&link->queue);
    link->doomed = false;
}

/* Ends every unanswered command; the callbacks may close the link, which empties the list itself. */
static void fail_pending(struct redis_link *link, int err)
{
    struct redis_queue_entry p;

    while (redis_queue_take(&link->queue, &p))
        if (p.done)
            p.done(p.ctx, err, NULL);
}

/* Many links lose their peers in the same moment; a quarter of jitter keeps their attempts apart. */
static int64_t backoff_us(struct redis_link *link)
{
    int64_t base_us = (int64_t)link->backoff_ms * 1000;

    link->jitter = link->jitter * 1103515245U + 12345U;
    return base_us - base_us / 4 * (int64_t)(link->jitter >> 16 & 0xff) / 256;
}

static void backoff_grow(struct redis_link *link)
{
    int next = link->backoff_ms == 0 ? link->config.reconnect_min_ms : link->backoff_ms * 2;

    link->backoff_ms = next < link->config.reconnect_max_ms ? next : link->config.reconnect_max_ms;
}

/* The only way out of CONNECTING, LOGIN and UP. The link may be CLOSED when this returns. */
static void go_down(struct redis_link *link, int reason, const char *text)
{
    bool was_up = link->state == UP;
    char said[256];

    assert(reason < 0);
    assert(link->state != CLOSED && link->state != WAITING);
    (void)snprintf(said, sizeof said, "%s", text); /* it may live in the reader or in a reply */
    drop_connection(link);
    link->state = WAITING;
    fail_pending(link, reason);
    if (link->state == CLOSED)
        return;
    if (was_up)
        link->backoff_ms = 0;
    timer_set(link, &link->attempt, backoff_us(link));
    backoff_grow(link);
    link->config.on_down(link->config.ctx, reason, said);
}

static void go_down_errno(struct redis_link *link, int e)
{
    go_down(link, tcp_reason(e), strerror(e));
}

/* ---- sending ------------------------------------------------------------------------------------------- */

/* A deadline runs from here, not from redis_link_command(): a long turn of ours is not the server's fault. */
static void flush(struct redis_link *link)
{
    struct ev_loop *ev = loop_ev(link->loop);
    int e;

    if (link->doomed) {
        go_down_errno(link, ENOMEM);
        return;
    }
    e = redis_queue_send(&link->queue, link->fd, loop_clock_us());
    if (link->config.reply_timeout_ms > 0 && link->queue.first && !ev_is_active(&link->overdue))
        timer_set(link, &link->overdue, (int64_t)link->config.reply_timeout_ms * 1000);
    if (e == EAGAIN) {
        ev_io_start(ev, &link->writable);
        return;
    }
    ev_io_stop(ev, &link->writable);
    /* The peer may have said why before it hung up, so reading is what reports the end: it sees the last
     * words, then the FIN or RST that this error came from. */
    if (e)
        ev_feed_event(ev, &link->readable, EV_READ);
}

static void redis_link_on_flush(void *p)
{
    struct redis_link *link = p;

    link->flush_queued = false;
    if (link->state == LOGIN || link->state == UP)
        flush(link);
}

static int enqueue(struct redis_link *link, redis_reply_fn done, void *ctx, int argc, const char *const *argv)
{
    int err = redis_queue_push(&link->queue, done, ctx, argc, argv);

    /* Half a pipeline must never be sent (a MULTI whose EXEC is missing). */
    if (err)
        link->doomed = true;
    if (!link->flush_queued) {
        link->flush_queued = true;
        loop_defer(link->loop, redis_link_on_flush, link);
    }
    return err;
}

/* ---- login --------------------------------------------------------------------------------------------- */

static bool says(const redisReply *reply, const char *prefix)
{
    return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, prefix, strlen(prefix)) == 0;
}

/* The server lives and knows who we are, it only has something else to do. */
static bool is_busy_answer(const redisReply *reply)
{
    return says(reply, "LOADING") || says(reply, "BUSY") || says(reply, "MASTERDOWN") ||
           says(reply, "MISCONF");
}

static void login_done(struct redis_link *link)
{
    assert(link->state == LOGIN);
    if (--link->login_left > 0)
        return;
    ev_timer_stop(loop_ev(link->loop), &link->attempt);
    link->state = UP;
    link->renew = NULL;
    link->backoff_ms = 0;
    link->config.on_up(link->config.ctx);
}

static void redis_link_on_auth(void *ctx, int err, const redisReply *reply)
{
    struct redis_link *link = ctx;

    if (err)
        return; /* go_down() is reporting it */
    if (reply->type == REDIS_REPLY_ERROR && !is_busy_answer(reply))
        go_down(link, ERR_AUTH, reply->str);
    else
        login_done(link);
}

/* The last command of a login; any answer but a refusal to talk to us at all will do. */
static void redis_link_on_hello(void *ctx, int err, const redisReply *reply)
{
    struct redis_link *link = ctx;

    if (err)
        return;
    if (says(reply, "NOAUTH") || says(reply, "DENIED") || says(reply, "ERR max number of clients"))
        go_down(link, ERR_AUTH, reply->str);
    else
        login_done(link);
}

static int login_send(struct redis_link *link)
{
    const struct topology_auth *auth = &link->config.auth;
    const char *name = link->config.client_name;
    bool has_auth = auth->user[0] || auth->password[0];
    int err = 0;

    link->login_left = has_auth ? 2 : 1;
    if (auth->user[0])
        err =
            enqueue(link, redis_link_on_auth, link, 3, (const char *[]){"AUTH", auth->user, auth->password});
    else if (has_auth)
        err = enqueue(link, redis_link_on_auth, link, 2, (const char *[]){"AUTH", auth->password});
    if (err)
        return err;
    if (name)
        return enqueue(link, redis_link_on_hello, link, 3, (const char *[]){"CLIENT", "SETNAME", name});
    return enqueue(link, redis_link_on_hello, link, 1, (const char *[]){"PING"});
}

/* ---- connecting ---------------------------------------------------------------------------------------- */

static void deadline_start(struct redis_link *link)
{
    link->attempt_at_us = loop_clock_us();
    timer_set(link, &link->attempt, (int64_t)link->config.connect_timeout_ms * 1000);
}

static void connected(struct redis_link *link)
{
    struct ev_loop *ev = loop_ev(link->loop);

    if (tcp_met_itself(link->fd)) {
        go_down_errno(link, ECONNREFUSED);
        return;
    }
    link->state = LOGIN;
    link->renew = NULL;
    redisReaderFree(link->reader); /* nothing of the last connection may be left in it */
    link->reader = redis_reader_create();
    if (!link->reader || login_send(link) != 0) {
        go_down_errno(link, ENOMEM);
        return;
    }
    ev_io_stop(ev, &link->writable);
    ev_io_start(ev, &link->readable);
    deadline_start(link);
}

static void attempt_start(struct redis_link *link)
{
    struct sockaddr_storage address;
    socklen_t len = 0;

    if (tcp_address(&link->config.address, &address, &len) != 0)
        assert(!"redis_link_open() checked it");
    link->state = CONNECTING;
    link->tried_us = loop_clock_us();
    link->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0) {
        go_down_errno(link, errno);
        return;
    }
    tcp_tune(link->fd);
    /* A command that waits in the send queue while the network is cut would otherwise be delivered when it
     * heals, minutes after its sender has given it up, or died. */
    tcp_close_resets(link->fd);
    ev_io_set(&link->readable, link->fd, EV_READ);
    ev_io_set(&link->writable, link->fd, EV_WRITE);
    if (connect(link->fd, (struct sockaddr *)&address, len) == 0) {
        connected(link);
    } else if (errno == EINPROGRESS) {
        ev_io_start(loop_ev(link->loop), &link->writable);
        deadline_start(link);
    } else {
        go_down_errno(link, errno);
    }
}

static void redis_link_on_writable(struct ev_loop *ev, ev_io *w, int revents)
{
    struct redis_link *link = w->data;
    int e = 0;
    socklen_t len = sizeof e;

    (void)ev;
    (void)revents;
    if (link->state != CONNECTING) {
        flush(link);
        return;
    }
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0)
        e = errno;
    if (e)
        go_down_errno(link, e);
    else
        connected(link);
}

static void renew(struct redis_link *link)
{
    link->backoff_ms = 0;
    go_down(link, ERR_TIMEOUT, link->renew);
}

/* Timers run after the turn's I/O (their priority is lower), and look at the clock again: after a stall of
 * our own, what the peer had answered in time has been read by now. */
static void redis_link_on_attempt(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct redis_link *link = w->data;
    int64_t left_us =
        link->attempt_at_us + (int64_t)link->config.connect_timeout_ms * 1000 - loop_now_us(link->loop);
    char text[80];

    (void)ev;
    (void)revents;
    if (link->state == WAITING) {
        attempt_start(link);
        return;
    }
    assert(link->state == CONNECTING || link->state == LOGIN);
    if (link->renew) {
        renew(link);
        return;
    }
    if (left_us > 0) {
        timer_set(link, &link->attempt, left_us);
        return;
    }
    (void)snprintf(text, sizeof text,
                   link->state == CONNECTING
                       ? "no answer to the connect in %d ms"
                       : "it accepted the connection, but did not answer the login in %d ms",
                   link->config.connect_timeout_ms);
    go_down(link, ERR_TIMEOUT, text);
}

static void redis_link_on_overdue(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct redis_link *link = w->data;
    int64_t limit_us = (int64_t)link->config.reply_timeout_ms * 1000;
    int64_t left_us;
    char text[80];

    (void)ev;
    (void)revents;
    if (link->renew) {
        renew(link);
        return;
    }
    if (!link->queue.first)
        return; /* started again by the next command */
    left_us = limit_us;
    if (link->queue.first->sent_us)
        left_us += link->queue.first->sent_us - loop_now_us(link->loop);
    if (left_us > 0) {
        timer_set(link, &link->overdue, left_us);
        return;
    }
    (void)snprintf(text, sizeof text, "no reply in %d ms", link->config.reply_timeout_ms);
    go_down(link, ERR_TIMEOUT, text);
}

/* ---- receiving ----------------------------------------------------------------------------------------- */

static void not_redis(struct redis_link *link, const char *why)
{
    char text[256];

    (void)snprintf(text, sizeof text, "it does not speak Redis' protocol: %s", why);
    go_down(link, ERR_PROTOCOL, text);
}

/* Gives each complete reply to its command. False when the connection is gone, or the link closed. */
static bool deliver(struct redis_link *link)
{
    void *object = NULL;

    for (;;) {
        struct redis_queue_entry p;

        if (redisReaderGetReply(link->reader, &object) != REDIS_OK) {
            not_redis(link, link->reader->errstr);
            return false;
        }
        if (!object)
            return true;
        link->renew = NULL; /* it works after all */
        if (!redis_queue_take(&link->queue, &p))
            not_redis(link, "a reply that nobody asked for");
        else if (p.done)
            p.done(p.ctx, 0, object);
        freeReplyObject(object);
        if (link->fd < 0)
            return false;
    }
}

static void redis_link_on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
    struct redis_link *link = w->data;
    char bytes[READ_BYTES];

    (void)ev;
    (void)revents;
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = recv(link->fd, bytes, sizeof bytes, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0) {
            go_down_errno(link, errno);
            return;
        }
        if (n == 0) {
            go_down(link, ERR_CLOSED, err_text(ERR_CLOSED));
            return;
        }
        if (redisReaderFeed(link->reader, bytes, (size_t)n) != REDIS_OK) {
            go_down_errno(link, ENOMEM);
            return;
        }
        if (!deliver(link))
            return;
        if (link->reader->len - link->reader->pos > REPLY_BYTES_MAX) {
            not_redis(link, "a reply of more than 4 MiB");
            return;
        }
        if (n < (ssize_t)sizeof bytes)
            return;
    }
}

/* ---- the public part ----------------------------------------------------------------------------------- */

int redis_link_open(struct redis_link **out, struct loop *loop, const struct redis_link_config *config)
{
    struct sockaddr_storage unused;
    socklen_t unused_len;
    struct redis_link *link;

    assert(out && loop && config && config->on_up && config->on_down);
    if (config->address.port == 0 || tcp_address(&config->address, &unused, &unused_len) != 0 ||
        config->connect_timeout_ms <= 0 || config->reply_timeout_ms < 0 || config->reconnect_min_ms <= 0 ||
        config->reconnect_max_ms < config->reconnect_min_ms || config->reconnect_max_ms > 3600 * 1000)
        return ERR_INVALID;
    link = calloc(1, sizeof *link);
    if (!link)
        return ERR_NOMEM;
    link->loop = loop;
    link->config = *config;
    link->fd = -1;
    link->backoff_ms = config->reconnect_min_ms;
    link->jitter = (unsigned)((uintptr_t)link >> 4);
    if (config->client_name && !(link->config.client_name = strdup(config->client_name))) {
        free(link);
        return ERR_NOMEM;
    }
    ev_init(&link->readable, redis_link_on_readable);
    ev_init(&link->writable, redis_link_on_writable);
    ev_init(&link->attempt, redis_link_on_attempt);
    ev_init(&link->overdue, redis_link_on_overdue);
    link->readable.data = link->writable.data = link->attempt.data = link->overdue.data = link;
    ev_set_priority(&link->attempt, EV_MINPRI);
    ev_set_priority(&link->overdue, EV_MINPRI);
    timer_set(link, &link->attempt, 0);
    *out = link;
    return 0;
}

static void redis_link_on_free(void *p)
{
    struct redis_link *link = p;

    redisReaderFree(link->reader);
    explicit_bzero(&link->config.auth, sizeof link->config.auth);
    free((char *)link->config.client_name);
    free(link);
}

void redis_link_close(struct redis_link *link)
{
    if (!link)
        return;
    assert(link->state != CLOSED);
    drop_connection(link);
    link->state = CLOSED;
    redis_queue_clear(&link->queue);
    /* One of its callbacks, or its flush, may be running. */
    loop_defer(link->loop, redis_link_on_free, link);
}

bool redis_link_is_up(const struct redis_link *link)
{
    return link->state == UP;
}

void redis_link_nudge(struct redis_link *link)
{
    assert(link->state != CLOSED);
    if (link->state == WAITING)
        timer_set(link, &link->attempt, 0);
}

void redis_link_renew(struct redis_link *link, const char *why)
{
    assert(why);
    redis_link_nudge(link);
    if (link->state == WAITING)
        return;
    link->renew = why;
    timer_set(link, link->state == UP ? &link->overdue : &link->attempt, 0);
}

int64_t redis_link_waiting_us(const struct redis_link *link)
{
    const struct redis_queue_entry *oldest = link->queue.first;

    if (link->state != UP || !oldest)
        return 0;
    return oldest->sent_us ? oldest->sent_us : loop_now_us(link->loop);
}

int64_t redis_link_tried_us(const struct redis_link *link)
{
    return link->tried_us;
}

int redis_link_command(struct redis_link *link, redis_reply_fn done, void *ctx, int argc,
                       const char *const *argv)
{
    assert(argc > 0 && argv);
    assert(link->state != CLOSED);
    if (link->state != UP)
        return ERR_CONNECTION;
    return enqueue(link, done, ctx, argc, argv);
}
