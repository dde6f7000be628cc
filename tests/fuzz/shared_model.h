/* Several clients over one shared connection and connections of their own, driven by dice: no reply may be
 * lost, doubled or out of order, nor reach another client; no write may be executed twice, or out of its
 * client's order, or without its reply saying so. Included by the unit test and the fuzz target.
 *
 *   client ─► sent ─► session ─┬─► own server ─┐     the servers are doors to one database; connections
 *                              └─► shared ─────┴─► db  break, and masters turn out to be replicas, between
 *   client ◄─ check ◄─ session ◄───────────────┘       any two bytes
 *
 * A read answers with the newest write of its client that was executed: it must know of all that were
 * acknowledged before, and of none that was sent after it. */
#ifndef MR_TESTS_FUZZ_SHARED_MODEL_H
#define MR_TESTS_FUZZ_SHARED_MODEL_H

#include "tests/fuzz/shared_model_db.h"

/* ---- the clients ----------------------------------------------------------------------------------------
 */

static void model_ask(struct model *m, uint32_t by)
{
    static const char pad[20000];
    struct model_client *c = &m->clients[by];
    char text[96];
    uint32_t id = c->n_asked + 1, what = model_dice(m, 16);
    enum model_kind kind = what < 7 ? MODEL_GET : MODEL_SET;

    if (id >= MODEL_ASKED - 2 || c->over)
        return;
    if (c->in_multi)
        kind = what < 8 ? MODEL_EXEC : c->in_multi == UINT32_MAX ? MODEL_QUEUED : MODEL_EXEC;
    else if (what == 15)
        kind = MODEL_MULTI;
    if (kind == MODEL_GET) {
        snprintf(text, sizeof(text),
                 what == 0 ? "\r\n*0\r\nget \"%u:%u\"\r\n" : "*2\r\n$3\r\nGET\r\n$5\r\n%u:%03u\r\n", by, id);
        model_puts(&c->sent, text);
    } else if (kind == MODEL_SET || kind == MODEL_QUEUED) {
        size_t size = what == 14 ? sizeof(pad) : what * 10;
        snprintf(text, sizeof(text), "*3\r\n$3\r\nSET\r\n$5\r\n%u:%03u\r\n$%zu\r\n", by, id, size);
        model_puts(&c->sent, text);
        model_put(&c->sent, pad, size);
        model_puts(&c->sent, "\r\n");
        c->in_multi = kind == MODEL_QUEUED ? id : 0;
    } else {
        model_puts(&c->sent, kind == MODEL_MULTI ? "*1\r\n$5\r\nMULTI\r\n" : "*1\r\n$4\r\nEXEC\r\n");
    }
    c->asked[c->n_asked++] =
        (struct model_request){.kind = kind, .id = kind == MODEL_EXEC ? c->in_multi : id};
    if (kind == MODEL_MULTI)
        c->in_multi = UINT32_MAX;
    else if (kind == MODEL_EXEC)
        c->in_multi = 0;
}

static bool model_begins(const char *data, size_t len, const char *text)
{
    return len >= strlen(text) && memcmp(data, text, strlen(text)) == 0;
}

static struct model_request *model_write_of(struct model_client *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->n_asked; i++)
        if (c->asked[i].id == id && (c->asked[i].kind == MODEL_SET || c->asked[i].kind == MODEL_QUEUED))
            return &c->asked[i];
    return NULL;
}

static void model_check_write(struct model_client *c, uint32_t id, const char *data, size_t len)
{
    struct model_request *r = model_write_of(c, id);
    bool done = *data == '+' || *data == '*' || *data == '$',
         unknown = model_begins(data, len, "-MRUNKNOWN ");

    if (!r)
        return; /* an empty transaction */
    if (done)
        MODEL_CHECK(r->executed && !r->early);
    else
        MODEL_CHECK(unknown || model_begins(data, len, "-MRHOLD ") || model_begins(data, len, "-EXECABORT "));
    if (done)
        c->acknowledged = id;
    else if (!unknown || memmem(data, len, "was not executed", 16)) {
        MODEL_CHECK(!r->executed);
        r->impossible = true;
    }
}

static void model_check_get(struct model *m, struct model_client *c, uint32_t id, const char *data,
                            size_t len)
{
    char text[64], head[96];
    unsigned newest = 0, by = (unsigned)(c - m->clients);

    if (model_begins(data, len, "-MRHOLD ") || model_begins(data, len, "-MRUNKNOWN "))
        return; /* the latter: it was lost twice */
    const char *nl = memchr(data, '\n', len);
    MODEL_CHECK(nl && *data == '$');
    snprintf(text, sizeof(text), "r%u:%u:", by, id);
    MODEL_CHECK(model_begins(nl + 1, len - (size_t)(nl + 1 - data), text));
    for (const char *digit = nl + 1 + strlen(text); digit < data + len && *digit != ':'; digit++)
        newest = newest * 10 + (unsigned)(*digit - '0');
    int n = snprintf(head, sizeof(head), "%s%u:", text, newest);
    MODEL_CHECK(len == (size_t)(nl + 1 - data) + (size_t)n + model_reply_size(id) + 2);
    MODEL_CHECK(newest >= c->acknowledged);
    /* A read that was repeated may know of a write behind it whose outcome is unknown, of no other. */
    for (uint32_t i = 0; newest > id && i < c->n_asked; i++)
        c->asked[i].early = c->asked[i].early || (c->asked[i].id > id && c->asked[i].id <= newest);
}

static void model_check_reply(struct model *m, struct model_client *c, const char *data, size_t len)
{
    MODEL_CHECK(!c->cut && c->n_answered < c->n_asked);
    c->cut = model_begins(data, len, "-MRLIMIT ");
    if (c->cut)
        return;
    struct model_request *r = &c->asked[c->n_answered++];

    switch (r->kind) {
    case MODEL_GET:
        model_check_get(m, c, r->id, data, len);
        break;
    case MODEL_SET:
        if (*data == '$')
            model_check_get(m, c, r->id, data, len);
        model_check_write(c, r->id, data, len);
        break;
    case MODEL_MULTI:
        MODEL_CHECK(model_begins(data, len, "+OK"));
        break;
    case MODEL_QUEUED:
        MODEL_CHECK(model_begins(data, len, "+QUEUED"));
        break;
    case MODEL_EXEC:
        model_check_write(c, r->id, data, len);
        break;
    }
}

static void model_hears(struct model *m, struct model_client *c, const char *data, size_t len)
{
    while (len > 0) {
        size_t used = 0;
        enum resp_result result = resp_reply_feed(&c->framer, data, len, &used);
        MODEL_CHECK(result != RESP_BAD);
        model_put(&c->read, data, used);
        data += used;
        len -= used;
        if (result == RESP_END) {
            model_check_reply(m, c, buf_at(&c->read, buf_start(&c->read)), buf_len(&c->read));
            buf_free(&c->read);
        }
    }
}

/* ---- the shell --------------------------------------------------------------------------------------------
 */

static bool model_is_open(const struct model *m)
{
    return m->door.connected && !m->draining && m->env.pause == SESSION_FLOWS;
}

static void model_end_client(struct model *m, struct model_client *c)
{
    (void)m;
    shared_leave(&c->user);
    c->over = true;
    model_shut(&c->own);
    session_free(&c->session);
}

static void model_actions(struct model *m, struct model_client *c)
{
    if (c->over)
        return;
    unsigned actions = session_take_actions(&c->session);
    if (actions & SESSION_DETACH)
        model_shut(&c->own);
    if (actions & SESSION_CLOSE)
        model_end_client(m, c); /* half of a reply was passed on, when its master went */
}

static void model_share(struct model *m, struct model_client *c)
{
    if (!c->over && !c->own.connected && model_is_open(m) && session_may_share(&c->session, m->now_ms))
        (void)shared_take_waiting(&m->shared, &c->user);
}

static void model_take(struct model *m, struct model_client *c, size_t max)
{
    size_t len = buf_len(&c->sent) < max ? buf_len(&c->sent) : max, n = 1, left;

    if (c->over || len == 0 || !session_reads_client(&c->session))
        return;
    len = len < MODEL_READ ? len : MODEL_READ;
    const char *data = buf_at(&c->sent, buf_start(&c->sent));
    if (c->own.connected && session_may_share(&c->session, m->now_ms) && shared_may_take(data, len) &&
        session_leave_own(&c->session))
        model_shut(&c->own);
    for (left = len; left > 0 && n > 0; left -= n, data += n) {
        if (c->own.connected || !model_is_open(m) || !session_may_share(&c->session, m->now_ms))
            break;
        if (session_has_no_request(&c->session)) {
            n = shared_take(&m->shared, &c->user, m->now_ms, data, left);
        } else if ((n = session_rest_of_request(&c->session, data, left)) > 0) {
            session_take_request(&c->session, m->now_ms, data, n);
            model_share(m, c);
        }
    }
    if (left > 0)
        session_take_request(&c->session, m->now_ms, data, left);
    model_drop(&c->sent, len);
}

static void model_connect(struct model *m, struct model_client *c)
{
    if (c->over || c->own.connected || c->user.on || !session_wants_backend(&c->session) ||
        session_wants_shared(&c->session, m->now_ms))
        return;
    m->route.epoch++;
    c->own.connected = true;
    c->own.readonly = m->next_readonly;
    session_attached(&c->session, m->now_ms);
}

static void model_connect_shared(struct model *m)
{
    if (m->door.connected)
        return;
    m->route.epoch++;
    m->door.connected = true;
    m->door.readonly = m->next_readonly;
    m->draining = false;
}

static void model_break_shared(struct model *m, bool unsent)
{
    struct shared_user *u;

    shared_break(&m->shared, m->now_ms, unsent);
    while ((u = shared_take_back(&m->shared, m->now_ms, m->route.epoch)) != NULL)
        MODEL_CHECK(!u->on && !u->session->behind);
    model_shut(&m->door);
}

static void model_write_shared(struct model *m, size_t max)
{
    struct buf_span span = m->door.connected ? shared_span(&m->shared) : (struct buf_span){0};
    size_t n = span.len < max ? span.len : max;

    if (n == 0)
        return;
    model_put(&m->door.to, span.data, n);
    shared_wrote(&m->shared, n);
}

static void model_reply_shared(struct model *m, size_t max)
{
    size_t n = buf_len(&m->door.from), left;
    struct shared_step step = {.what = SHARED_PASS};

    n = n < max ? n : max;
    n = left = n < MODEL_READ ? n : MODEL_READ;
    if (n == 0)
        return;
    const char *data = buf_at(&m->door.from, buf_start(&m->door.from));
    while (step.what != SHARED_NOTHING) {
        shared_take_reply(&m->shared, m->now_ms, &data, &left, &step);
        MODEL_CHECK(step.what != SHARED_BROKEN);
        m->draining = m->draining || step.what == SHARED_REFUSED;
        if (!step.user)
            continue;
        if (step.len > 0)
            session_emit(step.user->session, step.data, step.len);
        shared_settle(step.user, m->now_ms);
        if (!step.part && session_reply_span(step.user->session).len > MODEL_UNREAD)
            shared_overflow(step.user, m->now_ms);
    }
    model_drop(&m->door.from, n);
    if (m->draining && shared_count(&m->shared) == 0)
        model_break_shared(m, false);
}

static void model_own_turn(struct model *m, struct model_client *c, uint32_t what, size_t max)
{
    struct buf_span spans[4];
    size_t n = 0;

    if (c->over || !c->own.connected)
        return;
    if (what == 0) {
        int k = session_request_spans(&c->session, spans, 1);
        n = k > 0 && spans[0].len < max ? spans[0].len : k > 0 ? max : 0;
        if (n == 0)
            return;
        model_put(&c->own.to, spans[0].data, n);
        session_request_wrote(&c->session, m->now_ms, n);
    } else if (what == 1) {
        model_server_turn(m, &c->own, max);
    } else if (!session_is_slow(&c->session)) {
        n = buf_len(&c->own.from) < max ? buf_len(&c->own.from) : max;
        n = n < MODEL_READ ? n : MODEL_READ;
        if (n == 0)
            return;
        session_take_reply(&c->session, m->now_ms, buf_at(&c->own.from, buf_start(&c->own.from)), n);
        if (c->own.connected)
            model_drop(&c->own.from, n);
    }
}

static void model_read(struct model *m, struct model_client *c, size_t max)
{
    struct buf_span span = c->over ? (struct buf_span){0} : session_reply_span(&c->session);
    size_t n = span.len < max ? span.len : max;

    if (n == 0)
        return;
    model_hears(m, c, span.data, n);
    session_reply_wrote(&c->session, n);
    if (!session_is_over(&c->session))
        return;
    MODEL_CHECK(c->cut);
    model_end_client(m, c);
}

static void model_break_own(struct model *m, struct model_client *c)
{
    if (c->over || !c->own.connected)
        return;
    model_shut(&c->own);
    session_detached(&c->session, m->now_ms);
}

static void model_pause(struct model *m, enum session_pause pause)
{
    m->env.pause = (uint8_t)pause;
    m->still = false;
    for (uint32_t i = 0; pause == SESSION_FLOWS && i < MODEL_CLIENTS; i++)
        if (!m->clients[i].over)
            session_route_changed(&m->clients[i].session, m->now_ms);
}

/* As switchover.c has it: nothing may be executed any more. Large requests may be on their way. */
static void model_look_if_still(struct model *m)
{
    bool busy = m->env.pause == SESSION_FLOWS || shared_count(&m->shared) > 0;

    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        struct session *s = &m->clients[i].session;
        if (m->clients[i].over)
            continue;
        const struct pipeline *p = s->work ? &s->work->pipe : NULL;
        bool streams = p && p->unsent < p->judged && (pipeline_at(p, p->unsent)->flags & PIPELINE_STREAMED);
        busy = busy || streams || session_is_in_flight(s);
    }
    m->still = m->still || !busy;
}

static void model_time(struct model *m)
{
    m->now_ms += model_dice(m, 4) == 0 ? 600 : 10;
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++)
        if (!m->clients[i].over)
            session_expire(&m->clients[i].session, m->now_ms);
}

static void model_event(struct model *m)
{
    struct model_client *c = &m->clients[model_dice(m, MODEL_CLIENTS)];
    uint32_t what = model_dice(m, 32);

    if (what == 0)
        model_break_shared(m, false);
    else if (what == 1)
        model_break_own(m, c);
    else if (what == 2)
        model_time(m);
    else if (what == 3)
        m->next_readonly = model_dice(m, 4) == 0;
    else if (what == 4)
        model_connect_shared(m);
    else if (what < 7)
        model_connect(m, c);
    else if (what < 9)
        model_share(m, c);
    else if (what < 12)
        model_write_shared(m, model_size(m));
    else if (what < 15)
        model_server_turn(m, &m->door, model_size(m));
    else if (what < 18)
        model_reply_shared(m, model_size(m));
    else if (what < 21)
        model_own_turn(m, c, model_dice(m, 3), model_size(m));
    else if (what < 24)
        model_read(m, c, model_size(m));
    else if (what < 28)
        model_take(m, c, model_size(m));
    else if (what == 28 && model_dice(m, 8) == 0)
        model_pause(m, (enum session_pause)model_dice(m, 3));
    else if (what == 29 && model_dice(m, 64) == 0 && !c->over)
        model_end_client(m, c);
    else
        for (uint32_t n = model_dice(m, 6); n > 0; n--)
            model_ask(m, (uint32_t)(c - m->clients));
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++)
        model_actions(m, &m->clients[i]);
    model_look_if_still(m);
}

/* A healthy server, and everything is let through. */
static void model_finish(struct model *m)
{
    bool done = false;

    m->next_readonly = false;
    model_pause(m, SESSION_FLOWS);
    model_break_shared(m, false);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        model_break_own(m, &m->clients[i]);
        while (m->clients[i].in_multi && !m->clients[i].over && m->clients[i].n_asked < MODEL_ASKED - 4)
            model_ask(m, i);
    }
    for (int turn = 0; turn < 20000 && !done; turn++) {
        done = true;
        model_connect_shared(m);
        for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
            struct model_client *c = &m->clients[i];
            model_actions(m, c);
            model_take(m, c, SIZE_MAX);
            model_share(m, c);
            model_connect(m, c);
            for (uint32_t what = 0; what < 3; what++)
                model_own_turn(m, c, what, SIZE_MAX);
            model_read(m, c, SIZE_MAX);
            done = done && (c->over || (c->n_answered == c->n_asked && buf_len(&c->sent) == 0));
        }
        model_write_shared(m, SIZE_MAX);
        model_server_turn(m, &m->door, SIZE_MAX);
        model_reply_shared(m, SIZE_MAX);
    }
    MODEL_CHECK(done);
}

static void model_run(const uint8_t *dice, size_t n_dice)
{
    struct model *m = calloc(1, sizeof(*m));

    MODEL_CHECK(m);
    m->dice = dice;
    m->n_dice = n_dice;
    m->now_ms = UINT32_MAX - 5000; /* the clock's wrap-around comes soon */
    snprintf(m->route.name, sizeof(m->route.name), "model");
    m->limits = (struct session_limits){.request_bytes = 1000000, .reply_bytes = MODEL_TOO_MUCH};
    m->env =
        (struct session_env){.route = &m->route, .hold_ms = 1000, .counts = &m->counts, .limits = &m->limits};
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        session_init(&m->clients[i].session, &m->env, m->now_ms);
        m->clients[i].user.session = &m->clients[i].session;
    }
    while (m->at < m->n_dice)
        model_event(m);
    model_finish(m);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        if (!m->clients[i].over)
            model_end_client(m, &m->clients[i]);
        buf_free(&m->clients[i].sent);
        buf_free(&m->clients[i].read);
    }
    model_break_shared(m, false);
    scripts_clear(&m->env.scripts);
    free(m);
}

#endif
