/* A client, a session and a Redis in memory, driven by dice: no reply may be lost, doubled or out of order,
 * no write may be executed twice or without its reply saying so. Included by the unit test and the fuzz
 * target.
 *
 *   client ─► sent ─► session ─► to_server ─► server (executes)      every arrow moves a diced number of
 * bytes; client ◄─ check ◄─ session ◄─ from_server ◄─┘                    connections break between any two
 * bytes
 *
 * In every second run the instance is strict: no write is acknowledged before the replica has it.
 *
 * The server remembers which writes it executed; the client knows what it asked for, in order. */
#ifndef MR_TESTS_FUZZ_SESSION_MODEL_H
#define MR_TESTS_FUZZ_SESSION_MODEL_H

#include "tests/fuzz/session_model_acks.h"

/* ---- the client -------------------------------------------------------------------------------------------
 */

static void model_ask(struct model *m, enum model_kind kind, uint32_t id, uint32_t n)
{
    MODEL_CHECK(m->n_asked < MODEL_IDS * 2);
    m->asked[m->n_asked++] = (struct model_request){.kind = kind, .id = id, .n = n, .epoch = m->route.epoch};
}

static void model_ask_set(struct model *m)
{
    static const char pad[40000];
    char text[96];
    uint32_t id = ++m->last_id;
    size_t size = model_dice(m, 12) == 0 ? 40000 : model_dice(m, 4) * 100;

    snprintf(text, sizeof(text), "*3\r\n$3\r\nSET\r\n$5\r\nk%04u\r\n$%zu\r\n", id, size);
    model_puts(&m->sent, text);
    model_put(&m->sent, pad, size);
    model_puts(&m->sent, "\r\n");
    model_ask(m, m->in_multi ? MODEL_QUEUED : MODEL_SET, id, 0);
    if (m->in_multi) {
        m->tx_id = m->tx_n == 0 ? id : m->tx_id;
        m->tx_n++;
    }
}

static void model_ask_get(struct model *m)
{
    char text[64];
    uint32_t id = ++m->last_id;

    if (model_dice(m, 4) == 0)
        snprintf(text, sizeof(text), "\r\n*0\r\nget \"k%u\"\r\n", id);
    else
        snprintf(text, sizeof(text), "*2\r\n$3\r\nGET\r\n$5\r\nk%04u\r\n", id);
    model_puts(&m->sent, text);
    model_ask(m, MODEL_GET, id, 0);
}

static void model_ask_subscribe(struct model *m)
{
    char text[64];
    uint32_t n = 1 + model_dice(m, 3);

    snprintf(text, sizeof(text), "*%u\r\n$9\r\nSUBSCRIBE\r\n", n + 1);
    model_puts(&m->sent, text);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text, sizeof(text), "$5\r\nc%04u\r\n", m->last_id + i);
        model_puts(&m->sent, text);
    }
    model_ask(m, MODEL_SUBSCRIBE, m->last_id, n);
}

static void model_client_asks(struct model *m)
{
    char text[64];

    if (m->last_id + 2 >= MODEL_IDS || m->n_asked + 2 >= MODEL_IDS * 2)
        return;
    uint32_t what = model_dice(m, 18);
    if (!m->in_multi && what >= 16) {
        model_puts(&m->sent, what == 16 ? "*1\r\n$8\r\nREADONLY\r\n" : "readwrite\r\n");
        model_ask(m, MODEL_READS, 0, 0);
    } else if (m->in_multi && what < 4) {
        model_puts(&m->sent, "*1\r\n$4\r\nEXEC\r\n");
        model_ask(m, MODEL_EXEC, m->tx_id, m->tx_n);
        m->in_multi = false;
    } else if (m->in_multi || what < 7) {
        model_ask_set(m);
    } else if (what < 13) {
        model_ask_get(m);
    } else if (what == 13) {
        uint32_t db = model_dice(m, 8);
        snprintf(text, sizeof(text), "*2\r\n$6\r\nSELECT\r\n$1\r\n%u\r\n", db);
        model_puts(&m->sent, text);
        model_ask(m, MODEL_SELECT, db, 0);
    } else if (what == 14) {
        model_puts(&m->sent, "*1\r\n$5\r\nMULTI\r\n");
        model_ask(m, MODEL_MULTI, 0, 0);
        m->in_multi = true;
        m->tx_n = 0;
    } else {
        model_ask_subscribe(m);
    }
}

static bool model_begins(const char *data, size_t len, const char *text)
{
    return len >= strlen(text) && memcmp(data, text, strlen(text)) == 0;
}

/* The outcome of the write: executed says what the reply says of it; -1: unknown. */
static void model_check_write(struct model *m, uint32_t id, int executed)
{
    MODEL_CHECK(m->executed[id] <= 1);
    if (executed == 1)
        MODEL_CHECK(m->executed[id] == 1 && (!m->strict || m->number[id] <= m->acked_writes));
    if (executed == 0) {
        MODEL_CHECK(m->executed[id] == 0);
        m->forbidden[id] = 1;
    }
}

static void model_check_get(struct model *m, const struct model_request *r, const char *data, size_t len)
{
    char text[64];

    if (model_begins(data, len, "-MRHOLD "))
        return;
    if (m->strict && model_begins(data, len, "-MRDURABILITY "))
        return;
    if (model_begins(data, len, "-MRUNKNOWN ")) { /* sent again once: two connections were lost over it */
        MODEL_CHECK(m->route.epoch > r->epoch);
        return;
    }
    int n = snprintf(text, sizeof(text), "r%u:%u:", r->id, m->db);
    char head[96];
    snprintf(head, sizeof(head), "$%zu\r\n%s", (size_t)n + model_reply_size(r->id), text);
    MODEL_CHECK(model_begins(data, len, head));
}

static void model_check_exec(struct model *m, const struct model_request *r, const char *data, size_t len)
{
    bool few = m->strict && model_begins(data, len, "-MRDURABILITY ");
    int executed = model_begins(data, len, "*") ? 1 : few || model_begins(data, len, "-MRUNKNOWN ") ? -1 : 0;

    if (executed == 0)
        MODEL_CHECK(model_begins(data, len, "-EXECABORT ") || model_begins(data, len, "-MRHOLD "));
    for (uint32_t i = 0; i < r->n; i++)
        model_check_write(m, r->id + i, executed);
}

/* One whole reply has reached the client. */
static void model_check_reply(struct model *m, const char *data, size_t len)
{
    if (model_begins(data, len, "*3\r\n$7\r\nmessage\r\n"))
        return;
    MODEL_CHECK(m->n_answered < m->n_asked);
    struct model_request *r = &m->asked[m->n_answered];
    char text[64];

    switch (r->kind) {
    case MODEL_GET:
        model_check_get(m, r, data, len);
        break;
    case MODEL_SET:
        MODEL_CHECK(model_begins(data, len, "+OK") || model_begins(data, len, "-MRUNKNOWN ") ||
                    model_begins(data, len, "-MRHOLD ") ||
                    (m->strict && model_begins(data, len, "-MRDURABILITY ") && m->executed[r->id] == 1));
        model_check_write(m, r->id, *data == '+' ? 1 : model_begins(data, len, "-MRHOLD ") ? 0 : -1);
        break;
    case MODEL_SELECT:
        if (*data == '+')
            m->db = r->id;
        else
            MODEL_CHECK(model_begins(data, len, "-MRHOLD "));
        break;
    case MODEL_MULTI:
    case MODEL_READS: /* the proxy itself answers, whether there is a server or not */
        MODEL_CHECK(model_begins(data, len, "+OK"));
        break;
    case MODEL_QUEUED:
        MODEL_CHECK(model_begins(data, len, "+QUEUED"));
        break;
    case MODEL_EXEC:
        model_check_exec(m, r, data, len);
        break;
    case MODEL_SUBSCRIBE:
        if (model_begins(data, len, "-MRHOLD "))
            break;
        snprintf(text, sizeof(text), "*3\r\n$9\r\nsubscribe\r\n$5\r\nc%04u\r\n", r->id);
        MODEL_CHECK(model_begins(data, len, text));
        r->id++;
        if (--r->n > 0)
            return;
        break;
    }
    m->n_answered++;
}

static void model_client_reads(struct model *m, const char *data, size_t len)
{
    while (len > 0) {
        size_t used = 0;
        enum resp_result result = resp_reply_feed(&m->framer, data, len, &used);
        MODEL_CHECK(result != RESP_BAD);
        model_put(&m->read, data, used);
        data += used;
        len -= used;
        if (result == RESP_END) {
            model_check_reply(m, buf_at(&m->read, buf_start(&m->read)), buf_len(&m->read));
            buf_free(&m->read);
        }
    }
}

/* ---- what happens
 * ------------------------------------------------------------------------------------------- */

static void model_take_request(struct model *m, size_t max)
{
    size_t n = buf_len(&m->sent) < max ? buf_len(&m->sent) : max;

    if (n == 0 || !session_reads_client(&m->session))
        return;
    n = n < MODEL_REPLY_MAX ? n : MODEL_REPLY_MAX;
    session_take_request(&m->session, m->now_ms, buf_at(&m->sent, buf_start(&m->sent)), n);
    buf_consume(&m->sent, n);
}

static void model_write_requests(struct model *m, size_t max)
{
    struct buf_span spans[4];
    int n = m->server.connected ? session_request_spans(&m->session, spans, 4) : 0;
    size_t wrote = 0;

    for (int i = 0; i < n && max > 0; i++) {
        size_t len = spans[i].len < max ? spans[i].len : max;
        model_put(&m->to_server, spans[i].data, len);
        wrote += len;
        max -= len;
    }
    if (wrote > 0)
        session_request_wrote(&m->session, m->now_ms, wrote);
}

static void model_take_reply(struct model *m, size_t max)
{
    size_t n = buf_len(&m->from_server) < max ? buf_len(&m->from_server) : max;

    n = n < MODEL_REPLY_MAX ? n : MODEL_REPLY_MAX;
    if (n == 0 || session_is_slow(&m->session))
        return;
    const char *data = buf_at(&m->from_server, buf_start(&m->from_server));
    if (n % 2 == 0) {
        session_take_reply(&m->session, m->now_ms, data, n);
    } else {
        struct buf_span lent = session_take_reply_lent(&m->session, m->now_ms, data, n);
        size_t wrote = lent.len < max ? lent.len : lent.len / 2;
        if (lent.len > 0) {
            model_client_reads(m, lent.data, wrote);
            session_lent_wrote(&m->session, wrote);
        }
    }
    buf_consume(&m->from_server, n);
}

static void model_read(struct model *m, size_t max)
{
    struct buf_span span = session_reply_span(&m->session);

    if (span.len == 0)
        return;
    span.len = span.len < max ? span.len : max;
    model_client_reads(m, span.data, span.len);
    session_reply_wrote(&m->session, span.len);
}

static void model_break(struct model *m)
{
    if (!m->server.connected)
        return;
    model_disconnect(m);
    scripts_doubt(&m->env.scripts);
    session_detached(&m->session, m->now_ms);
}

static void model_connect(struct model *m)
{
    if (m->server.connected || !session_wants_backend(&m->session))
        return;
    m->route.epoch++;
    m->server.connected = true;
    m->server.replica = session_may_attach_to_replica(&m->session) && model_dice(m, 3) > 0;
    if (m->server.replica) {
        m->server.loading = model_dice(m, 4) == 0;
        session_attached_to_replica(&m->session, m->now_ms);
        return;
    }
    m->server.readonly = m->next_readonly;
    session_attached(&m->session, m->now_ms);
}

/* A route that lets clients read from a replica, or not any more. */
static void model_change_readers(struct model *m)
{
    m->route.n_readers = m->route.n_readers == 0;
    if (m->route.n_readers == 0 && m->server.replica)
        model_break(m);
}

static void model_lose_master(struct model *m)
{
    model_lose_acks(m);
    model_break(m);
    if (model_dice(m, 2) == 0) { /* the next one has everything */
        durable_renew(&m->durable);
        m->acked_writes = m->writes;
    }
}

static void model_publish(struct model *m)
{
    /* Only in between two whole replies, as the server does; and only to a subscriber. */
    if (m->server.connected && m->server.subscribed)
        model_puts(&m->from_server, "*3\r\n$7\r\nmessage\r\n$5\r\nc0001\r\n$2\r\nhi\r\n");
}

static void model_pause(struct model *m, enum session_pause pause)
{
    if (m->env.pause == SESSION_STILL && pause == SESSION_FINISHING)
        return; /* a switchover only goes on, or ends */
    m->env.pause = (uint8_t)pause;
    if (pause == SESSION_FLOWS) {
        m->held = false;
        session_route_changed(&m->session, m->now_ms);
    }
}

/* Large requests are sent on while the client sends them, and not waited for in the end. */
static void model_look_if_held(struct model *m)
{
    const struct pipeline *p = m->session.work ? &m->session.work->pipe : NULL;
    bool streams = p && p->unsent < p->judged && (pipeline_at(p, p->unsent)->flags & PIPELINE_STREAMED);

    if (m->env.pause != SESSION_FLOWS && !streams && !session_is_in_flight(&m->session) &&
        durable_count(&m->durable) == 0)
        m->held = true;
}

static void model_actions(struct model *m)
{
    unsigned actions = session_take_actions(&m->session);

    if (actions & SESSION_DETACH)
        model_disconnect(m);
    if (actions & SESSION_CLOSE)
        m->over = true; /* half of a reply was passed on, when its master went */
    if (!m->server.connected)
        MODEL_CHECK(m->session.link == SESSION_DETACHED || m->over);
}

static void model_event(struct model *m)
{
    switch (model_dice(m, 27)) {
    case 0:
        model_break(m);
        break;
    case 1:
        m->now_ms += model_dice(m, 4) == 0 ? 400 : 10;
        session_expire(&m->session, m->now_ms);
        break;
    case 2:
        m->next_readonly = model_dice(m, 3) == 0;
        break;
    case 3:
        model_publish(m);
        break;
    case 4:
    case 5:
        model_connect(m);
        break;
    case 6:
    case 7:
    case 8:
        model_write_requests(m, model_size(m, SIZE_MAX));
        break;
    case 9:
    case 10:
    case 11:
        model_server_turn(m, model_size(m, SIZE_MAX));
        break;
    case 12:
    case 13:
    case 14:
        model_take_reply(m, model_size(m, SIZE_MAX));
        break;
    case 15:
    case 16:
        model_read(m, model_size(m, SIZE_MAX));
        break;
    case 17:
    case 18:
    case 19:
        model_take_request(m, model_size(m, SIZE_MAX));
        break;
    case 21:
        if (model_dice(m, 4) == 0)
            model_change_readers(m);
        break;
    case 20:
        model_pause(m, (enum session_pause)model_dice(m, 3));
        break;
    default:
        for (uint32_t n = model_dice(m, 6); n > 0; n--)
            model_client_asks(m);
        break;
    }
    if (m->strict && model_dice(m, 4) == 0)
        model_answer_acks(m, model_dice(m, DURABLE_CONNS), model_dice(m, 8) > 0);
    if (m->strict && model_dice(m, 48) == 0)
        model_lose_master(m);
    else if (m->strict && model_dice(m, 8) == 0)
        model_open_acks(m);
    model_ask_acks(m);
    model_actions(m);
    model_look_if_held(m);
}

/* A healthy server, and everything is let through. */
static void model_finish(struct model *m)
{
    m->next_readonly = false;
    model_pause(m, SESSION_FLOWS);
    if (m->in_multi) {
        model_puts(&m->sent, "*1\r\n$4\r\nEXEC\r\n");
        model_ask(m, MODEL_EXEC, m->tx_id, m->tx_n);
        m->in_multi = false;
    }
    model_break(m);
    model_actions(m);
    for (int turn = 0; turn < 100000 && !m->over; turn++) {
        if (m->n_answered == m->n_asked && buf_len(&m->sent) == 0)
            break;
        model_take_request(m, SIZE_MAX);
        model_connect(m);
        model_write_requests(m, SIZE_MAX);
        model_server_turn(m, SIZE_MAX);
        model_take_reply(m, SIZE_MAX);
        model_read(m, SIZE_MAX);
        model_actions(m);
        model_open_acks(m);
        model_ask_acks(m);
        for (uint32_t conn = 0; conn < DURABLE_CONNS; conn++)
            model_answer_acks(m, conn, true);
    }
    MODEL_CHECK(m->over || m->n_answered == m->n_asked);
}

static void model_run(const uint8_t *dice, size_t n_dice)
{
    struct model *m = calloc(1, sizeof(*m));

    MODEL_CHECK(m);
    m->dice = dice;
    m->n_dice = n_dice;
    m->now_ms = UINT32_MAX - 500; /* the clock's wrap-around comes soon */
    snprintf(m->route.name, sizeof(m->route.name), "model");
    m->route.reads = n_dice % 2 ? TOPOLOGY_READS_REPLICA : TOPOLOGY_READS_MASTER;
    m->route.n_readers = 1;
    m->env = (struct session_env){.route = &m->route, .hold_ms = 1000, .counts = &m->counts};
    resp_request_init(&m->server.framer);
    session_init(&m->session, &m->env, m->now_ms);
    m->strict = model_dice(m, 2) == 0;
    m->env.durable = m->strict ? &m->durable : NULL;
    durable_set(&m->durable, m->strict, 1);
    model_open_acks(m);
    while (m->at < m->n_dice && !m->over)
        model_event(m);
    if (!m->over)
        model_finish(m);
    model_disconnect(m);
    buf_free(&m->sent);
    buf_free(&m->read);
    session_free(&m->session);
    MODEL_CHECK(m->durable.marks_all == 0 && m->durable.marks_any == 0);
    durable_lost(&m->durable);
    for (struct durable_step step = {.fate = DURABLE_GONE}; step.fate != DURABLE_WAITS;)
        durable_step(&m->durable, &step);
    durable_free(&m->durable);
    session_env_free(&m->env);
    free(m);
}

#endif
