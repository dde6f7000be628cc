/* Several clients over one shared connection and connections of their own, driven by dice: no reply may be
 * lost, doubled or out of order, nor reach another client; no write may be executed twice, or out of its
 * client's order, or without its reply saying so. Included by the unit test and the fuzz target.
 *
 *   client ─► sent ─► session ─┬─► own server ─┐     the servers are doors to one database; connections
 *                              ├─► shared ─────┼─► db  break, masters turn out to be replicas, and replicas
 *                              └─► replica ────┘       come, go and refuse, between any two bytes
 *   client ◄─ check ◄─ session ◄───────────────┘
 *
 * In every second run the instance is strict: no write is acknowledged before the replica has it.
 *
 * A read answers with the newest write of its client that was executed: it must know of all that were
 * acknowledged before, and of none that was sent after it. */
#ifndef MR_TESTS_FUZZ_SHARED_MODEL_H
#define MR_TESTS_FUZZ_SHARED_MODEL_H

#include "tests/fuzz/shared_model_acks.h"

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

static void model_check_write(const struct model *m, struct model_client *c, uint32_t id, const char *data,
                              size_t len)
{
    struct model_request *r = model_write_of(c, id);
    bool done = *data == '+' || *data == '*' || *data == '$', few = model_begins(data, len, "-MRDURABILITY "),
         unknown = few || model_begins(data, len, "-MRUNKNOWN ");

    if (!r)
        return; /* an empty transaction */
    MODEL_CHECK(!few || (m->strict && r->executed));
    if (done)
        MODEL_CHECK(r->executed && !r->early && (!m->strict || r->number <= m->replicated));
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
    if (m->strict && model_begins(data, len, "-MRDURABILITY "))
        return;
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
        model_check_write(m, c, r->id, data, len);
        break;
    case MODEL_MULTI:
        MODEL_CHECK(model_begins(data, len, "+OK"));
        break;
    case MODEL_QUEUED:
        MODEL_CHECK(model_begins(data, len, "+QUEUED"));
        break;
    case MODEL_EXEC:
        model_check_write(m, c, r->id, data, len);
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

static bool model_is_open(const struct model *m, int hub, const struct model_client *c)
{
    return m->hubs[hub].door.connected && !m->hubs[hub].draining && m->env.pause == SESSION_FLOWS &&
           !durable_blocks(&m->durable) && (hub == MODEL_MASTER || session_reads_replica(&c->session));
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
    if (c->over || c->own.connected || !session_may_share(&c->session, m->now_ms))
        return;
    if (model_is_open(m, MODEL_REPLICA, c) &&
        shared_take_waiting(&m->hubs[MODEL_REPLICA].shared, &c->user) > 0)
        return;
    if (model_is_open(m, MODEL_MASTER, c))
        (void)shared_take_waiting(&m->hubs[MODEL_MASTER].shared, &c->user);
}

/* As client.c has it: a replica first, if it can be had and the client has nothing under way elsewhere. */
static size_t model_pass_on(struct model *m, struct model_client *c, const char *data, size_t left)
{
    bool replica = model_is_open(m, MODEL_REPLICA, c), master = model_is_open(m, MODEL_MASTER, c);
    size_t n = 0;

    if ((!replica && !master) || c->own.connected || !session_may_share(&c->session, m->now_ms))
        return 0;
    if (session_has_no_request(&c->session)) {
        if (replica)
            n = shared_take(&m->hubs[MODEL_REPLICA].shared, &c->user, m->now_ms, data, left);
        if (n == 0 && master)
            n = shared_take(&m->hubs[MODEL_MASTER].shared, &c->user, m->now_ms, data, left);
    } else if ((n = session_rest_of_request(&c->session, data, left)) > 0) {
        session_take_request(&c->session, m->now_ms, data, n);
        model_share(m, c);
    }
    return n;
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
    for (left = len; left > 0 && n > 0; left -= n, data += n)
        n = model_pass_on(m, c, data, left);
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
    c->own.replica = session_may_attach_to_replica(&c->session) && model_dice(m, 2) == 0;
    c->own.readonly = m->next_readonly;
    /* A script is never asked for there. */
    bool refuses = c->own.replica && m->next_refusal && !model_begins(m->next_refusal, 9, "-NOSCRIPT");
    c->own.refusal = refuses ? m->next_refusal : NULL;
    if (c->own.replica)
        session_attached_to_replica(&c->session, m->now_ms);
    else
        session_attached(&c->session, m->now_ms);
}

static void model_connect_shared(struct model *m, struct model_hub *hub)
{
    bool is_replica = hub == &m->hubs[MODEL_REPLICA];

    if (hub->door.connected || (is_replica && m->route.n_readers == 0))
        return;
    m->route.epoch += is_replica ? 0 : 1;
    hub->door.connected = true;
    hub->door.replica = hub->shared.replica = is_replica;
    hub->door.readonly = m->next_readonly;
    hub->door.refusal = is_replica ? m->next_refusal : NULL;
    hub->door.may_not = model_dice(m, 8) == 7;
    hub->draining = false;
}

static void model_break_shared(struct model *m, struct model_hub *hub, bool unsent)
{
    struct shared_user *u;

    durable_lost_inline(&m->durable, hub->shared.batch);
    shared_break(&hub->shared, m->now_ms, unsent);
    while ((u = shared_take_back(&hub->shared, m->now_ms, m->route.epoch)) != NULL)
        MODEL_CHECK(!u->on && (!u->session->behind || u->session->held.held > 0));
    model_shut(&hub->door);
}

/* A route that lets clients read from the replica, or not any more. */
static void model_change_readers(struct model *m)
{
    m->route.n_readers = m->route.n_readers == 0;
    if (m->route.n_readers > 0)
        return;
    model_break_shared(m, &m->hubs[MODEL_REPLICA], false);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        struct model_client *c = &m->clients[i];
        if (c->over || !c->own.connected || !c->own.replica)
            continue;
        model_shut(&c->own);
        session_detached(&c->session, m->now_ms);
    }
}

static void model_write_shared(struct model *m, struct model_hub *hub, size_t max)
{
    model_ask_inline(m, hub);
    struct buf_span span = hub->door.connected ? shared_span(&hub->shared) : (struct buf_span){0};
    size_t n = span.len < max ? span.len : max;

    if (n == 0)
        return;
    model_put(&hub->door.to, span.data, n);
    shared_wrote(&hub->shared, n);
}

static void model_reply_shared(struct model *m, struct model_hub *hub, size_t max)
{
    size_t n = buf_len(&hub->door.from), left;
    struct shared_step step = {.what = SHARED_PASS};

    n = n < max ? n : max;
    n = left = n < MODEL_READ ? n : MODEL_READ;
    if (n == 0)
        return;
    const char *data = buf_at(&hub->door.from, buf_start(&hub->door.from));
    while (step.what != SHARED_NOTHING) {
        shared_take_reply(&hub->shared, m->now_ms, &data, &left, &step);
        MODEL_CHECK(step.what != SHARED_BROKEN);
        hub->draining = hub->draining || step.what == SHARED_REFUSED;
        if (step.batch > 0 && step.no_acks)
            durable_lost_inline(&m->durable, step.batch);
        else if (step.batch > 0)
            durable_acked_inline(&m->durable, step.batch, step.acks);
        if (!step.user)
            continue;
        if (step.len > 0)
            session_emit(step.user->session, step.data, step.len);
        shared_settle(step.user, m->now_ms);
        if (!step.part && session_reply_span(step.user->session).len > MODEL_UNREAD)
            shared_overflow(step.user, m->now_ms);
    }
    model_drop(&hub->door.from, n);
    if (hub->draining && shared_count(&hub->shared) == 0)
        model_break_shared(m, hub, false);
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

static void model_lose_master(struct model *m)
{
    if (!m->strict)
        return;
    model_lose_acks(m);
    for (int k = 0; k < MODEL_HUBS; k++)
        model_break_shared(m, &m->hubs[k], false);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++)
        model_break_own(m, &m->clients[i]);
    if (model_dice(m, 2) == 0) { /* the next one has everything */
        durable_renew(&m->durable);
        m->replicated = m->writes;
    }
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
    bool busy = m->env.pause == SESSION_FLOWS || shared_count(&m->hubs[MODEL_MASTER].shared) > 0 ||
                durable_count(&m->durable) > 0;

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

/* What the next connections find. */
static void model_next_server(struct model *m)
{
    static const char *const refusals[] = {
        NULL,
        NULL,
        NULL,
        NULL,
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-BUSY Redis is busy running a script.\r\n",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-NOSCRIPT No matching script. Please use EVAL.\r\n",
    };

    m->next_readonly = model_dice(m, 4) == 0;
    m->next_refusal = refusals[model_dice(m, 8)];
}

static void model_event(struct model *m)
{
    struct model_client *c = &m->clients[model_dice(m, MODEL_CLIENTS)];
    struct model_hub *hub = &m->hubs[model_dice(m, MODEL_HUBS)];
    uint32_t what = model_dice(m, 33);

    if (what == 0)
        model_break_shared(m, hub, false);
    else if (what == 1)
        model_break_own(m, c);
    else if (what == 2)
        model_time(m);
    else if (what == 3)
        model_next_server(m);
    else if (what == 4)
        model_connect_shared(m, hub);
    else if (what < 7)
        model_connect(m, c);
    else if (what < 9)
        model_share(m, c);
    else if (what < 12)
        model_write_shared(m, hub, model_size(m));
    else if (what < 15)
        model_server_turn(m, &hub->door, model_size(m));
    else if (what < 18)
        model_reply_shared(m, hub, model_size(m));
    else if (what < 21)
        model_own_turn(m, c, model_dice(m, 3), model_size(m));
    else if (what < 24)
        model_read(m, c, model_size(m));
    else if (what < 28)
        model_take(m, c, model_size(m));
    else if (what == 28 && model_dice(m, 8) == 0)
        model_pause(m, (enum session_pause)model_dice(m, 3));
    else if (what == 30 && model_dice(m, m->route.n_readers > 0 ? 32 : 4) == 0)
        model_change_readers(m);
    else if (what == 29 && model_dice(m, 64) == 0 && !c->over)
        model_end_client(m, c);
    else
        for (uint32_t n = model_dice(m, 6); n > 0; n--)
            model_ask(m, (uint32_t)(c - m->clients));
    if (m->strict && model_dice(m, 4) == 0)
        model_wait_turn(m, &m->waits[model_dice(m, DURABLE_CONNS)], model_dice(m, 8) > 0);
    if (m->strict && model_dice(m, 4) == 0)
        model_end_wait(m, &m->hubs[MODEL_MASTER].door, model_dice(m, 8) > 0);
    if (m->strict && model_dice(m, 64) == 0)
        model_lose_master(m);
    else if (model_dice(m, 16) == 0)
        model_open_acks(m);
    model_ask_acks(m);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++)
        model_actions(m, &m->clients[i]);
    model_look_if_still(m);
}

/* A healthy server, and everything is let through. */
static void model_finish(struct model *m)
{
    bool done = false;

    m->next_readonly = false;
    m->next_refusal = NULL;
    model_pause(m, SESSION_FLOWS);
    for (int k = 0; k < MODEL_HUBS; k++)
        model_break_shared(m, &m->hubs[k], false);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        model_break_own(m, &m->clients[i]);
        while (m->clients[i].in_multi && !m->clients[i].over && m->clients[i].n_asked < MODEL_ASKED - 4)
            model_ask(m, i);
    }
    for (int turn = 0; turn < 20000 && !done; turn++) {
        done = true;
        for (int k = 0; k < MODEL_HUBS; k++)
            model_connect_shared(m, &m->hubs[k]);
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
        for (int k = 0; k < MODEL_HUBS; k++) {
            model_write_shared(m, &m->hubs[k], SIZE_MAX);
            model_server_turn(m, &m->hubs[k].door, SIZE_MAX);
            model_reply_shared(m, &m->hubs[k], SIZE_MAX);
        }
        model_open_acks(m);
        model_ask_acks(m);
        for (int k = 0; k < 2 * DURABLE_CONNS; k++)
            model_wait_turn(m, &m->waits[k % DURABLE_CONNS], true);
        model_end_wait(m, &m->hubs[MODEL_MASTER].door, true);
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
    m->route.reads = TOPOLOGY_READS_REPLICA;
    m->route.n_readers = 1;
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        session_init(&m->clients[i].session, &m->env, m->now_ms);
        m->clients[i].user.session = &m->clients[i].session;
    }
    m->strict = model_dice(m, 2) == 0;
    m->env.durable = m->strict ? &m->durable : NULL;
    durable_set(&m->durable, m->strict, 1);
    model_open_acks(m);
    while (m->at < m->n_dice)
        model_event(m);
    model_finish(m);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        if (!m->clients[i].over)
            model_end_client(m, &m->clients[i]);
        buf_free(&m->clients[i].sent);
        buf_free(&m->clients[i].read);
    }
    for (int k = 0; k < MODEL_HUBS; k++)
        model_break_shared(m, &m->hubs[k], false);
    model_lose_acks(m);
    MODEL_CHECK(m->durable.marks_all == 0 && m->durable.marks_any == 0);
    durable_free(&m->durable);
    session_env_free(&m->env);
    free(m);
}

#endif
