#include "proxy/mux.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/core/remember.h"
#include "proxy/instance.h"
#include "proxy/net.h"
#include "proxy/standby.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MUX_CONNECT_TIMEOUT_US ((int64_t)1000000)
/* For the replies behind a refused request, or for a client to read its own. */
#define MUX_RETIRED_US ((int64_t)SESSION_DRAIN_MS * 1000)
enum { MUX_READS_MAX = 64 };

struct mux {
    struct list node; /* of instance->muxes */
    struct instance *instance;
    struct mux_conn *current; /* that takes requests, or will; NULL: none */
    struct mux_conn *crowded; /* takes none: it has much to swallow; NULL: none */
    struct list conns;        /* all of them */
    struct list waiting;      /* clients, by `queue` */
    struct buf key;           /* what its connections are told first */
    uint32_t key_replies;
    bool refused;
    bool wanted; /* it had a connection: so the next master is connected without being asked */
};

struct mux_conn {
    struct list node, dirty;
    struct mux *mux;
    struct backend *backend;
    struct shared shared;
    struct tally tally;
    struct client *slow; /* doesn't read its large reply: the connection isn't read either */
    uint64_t epoch;
    int64_t heard_us;   /* or since when a reply is due */
    int64_t retired_us; /* 0: it isn't */
    int64_t slow_us;
    bool ready;   /* has been told its key */
    bool blocked; /* the socket is full */
};

static int64_t mux_now_us(const struct mux *m)
{
    return loop_now_us(m->instance->shard->loop);
}

static uint32_t mux_now_ms(const struct mux *m)
{
    return shard_now_ms(m->instance->shard);
}

/* ---- keys -------------------------------------------------------------------------------------------------
 */

struct mux *mux_of(struct instance *i, const struct session *s)
{
    struct buf key = {0};
    int n = s->memory ? remember_write_share(s->memory, &key) : 0;
    struct mux *m = NULL;

    if (n < 0)
        goto out;
    list_for_each(node, &i->muxes)
    {
        struct mux *other = list_entry(node, struct mux, node);
        size_t len = buf_len(&key);
        if (buf_len(&other->key) == len &&
            (len == 0 || memcmp(buf_at(&other->key, buf_start(&other->key)), buf_at(&key, 0), len) == 0))
            m = other;
    }
    if (m || i->n_muxes >= MUX_KEYS_MAX || !(m = calloc(1, sizeof(*m))))
        goto out;
    m->instance = i;
    m->key = key;
    m->key_replies = (uint32_t)n;
    key = (struct buf){0};
    list_init(&m->conns);
    list_init(&m->waiting);
    list_init(&m->node);
    list_push_back(&i->muxes, &m->node);
    i->n_muxes++;
out:
    buf_free(&key);
    return m;
}

bool mux_is_refused(const struct mux *m)
{
    return m->refused;
}

struct list *mux_waiting(struct mux *m)
{
    return &m->waiting;
}

static void mux_touch_waiting(struct mux *m)
{
    list_for_each(node, &m->waiting) client_touch(list_entry(node, struct client, queue));
}

/* ---- requests ---------------------------------------------------------------------------------------------
 */

bool mux_is_open(const struct mux *m)
{
    const struct instance *i = m->instance;

    return m->current && m->current->ready && i->env.pause == SESSION_FLOWS &&
           i->route.state == ROUTE_SERVING;
}

void mux_want(struct mux *m)
{
    m->wanted = m->wanted || (!m->current && !m->refused);
}

static void mux_dirty(struct mux_conn *conn)
{
    if (list_empty(&conn->dirty))
        list_push_back(&conn->mux->instance->shard->flush, &conn->dirty);
}

/* Requests were taken: before that, `n` were in flight. */
static void mux_taken(struct mux_conn *conn, uint64_t n)
{
    if (shared_count(&conn->shared) == n)
        return;
    if (n == 0) {
        conn->heard_us = mux_now_us(conn->mux);
        silence_begin(conn->mux->instance);
    }
    mux_dirty(conn);
}

size_t mux_take(struct mux *m, struct client *c, const char *data, size_t len)
{
    struct mux_conn *conn = m->current;
    uint64_t n = shared_count(&conn->shared);
    size_t used = shared_take(&conn->shared, &c->user, mux_now_ms(m), data, len);

    mux_taken(conn, n);
    return used;
}

bool mux_share(struct mux *m, struct client *c)
{
    struct mux_conn *conn = m->current;
    uint64_t n = shared_count(&conn->shared);
    unsigned taken = shared_take_waiting(&conn->shared, &c->user);

    mux_taken(conn, n);
    return taken > 0;
}

/* ---- the end of a connection ------------------------------------------------------------------------------
 */

static void mux_retire(struct mux_conn *conn)
{
    if (conn->retired_us == 0)
        conn->retired_us = mux_now_us(conn->mux);
    if (conn->mux->current == conn) {
        conn->mux->current = NULL;
        conn->mux->wanted = true;
    }
}

/* unsent: nothing that is pending was executed. */
static void mux_close(struct mux_conn *conn, bool unsent)
{
    struct mux *m = conn->mux;
    uint32_t now_ms = mux_now_ms(m);
    struct shared_user *u;

    mux_retire(conn);
    m->crowded = m->crowded == conn ? NULL : m->crowded;
    backend_close(conn->backend);
    session_count(&m->instance->counts.masters, (uint64_t)-1);
    tally_memory(m->instance, &conn->tally, 0);
    list_remove(&conn->node);
    list_remove(&conn->dirty);
    shared_break(&conn->shared, now_ms, unsent);
    while ((u = shared_take_back(&conn->shared, now_ms, conn->epoch)) != NULL)
        client_touch(list_entry(u, struct client, user));
    free(conn);
}

/* It leads to the present master, so what is wrong with it is wrong with that. */
static bool mux_is_evidence(const struct mux_conn *conn)
{
    return topology_address_equal(backend_address(conn->backend), &conn->mux->instance->route.master);
}

static void mux_lose(struct mux_conn *conn, const char *what, bool unsent)
{
    struct instance *i = conn->mux->instance;
    bool doubt = conn->mux->current == conn && mux_is_evidence(conn);
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    log_debug("event=mux.%s instance=%s master=%s in_flight=%llu", what, i->route.name,
              topology_address_format(backend_address(conn->backend), text),
              (unsigned long long)shared_count(&conn->shared));
    mux_close(conn, unsent);
    if (doubt)
        instance_doubt(i);
    switchover_check(i);
}

void mux_leave(struct client *c)
{
    if (!c->mux)
        return;
    shared_leave(&c->user);
    mux_drained(c);
    c->mux = NULL;
}

void mux_drained(struct client *c)
{
    if (!c->mux)
        return;
    list_for_each(node, &c->mux->conns)
    {
        struct mux_conn *conn = list_entry(node, struct mux_conn, node);
        if (conn->slow != c)
            continue;
        conn->slow = NULL;
        conn->retired_us = mux_now_us(conn->mux);
        backend_want(conn->backend, true, conn->blocked);
    }
}

/* ---- replies ----------------------------------------------------------------------------------------------
 */

static void mux_ready(struct mux_conn *conn)
{
    conn->ready = true;
    mux_touch_waiting(conn->mux);
    standby_look(conn->mux->instance);
}

static void mux_pass(struct mux_conn *conn, const struct shared_step *step)
{
    struct client *c = list_entry(step->user, struct client, user);

    if (step->len > 0)
        client_pass(c, step->data, step->len);
    shared_settle(step->user, mux_now_ms(conn->mux));
    tally_client(c);
    if (c->session.work || c->session.closing)
        client_touch(c);
    if (!session_is_slow(&c->session))
        return;
    if (!step->part) {
        shared_overflow(step->user, mux_now_ms(conn->mux));
        return;
    }
    conn->slow = c;
    conn->slow_us = mux_now_us(conn->mux);
    mux_retire(conn);
}

static void mux_broken(struct mux_conn *conn, bool unsent)
{
    struct mux *m = conn->mux;
    const char *full = "ERR max number of clients reached"; /* it may be our turn later */
    bool is_full = unsent && strncmp(conn->shared.reply.error, full, strlen(full)) == 0;

    if (is_full)
        m->instance->env.refusal = "it has its maxclients";
    if (conn->ready || !unsent || is_full || session_is_refusal(&conn->shared.reply)) {
        mux_lose(conn, "broken", unsent);
        return;
    }
    m->refused = true;
    mux_close(conn, true);
    m->wanted = false;
    mux_touch_waiting(m);
}

/* False: the connection is gone. */
static bool mux_feed(struct mux_conn *conn, const char *data, size_t len)
{
    struct mux *m = conn->mux;
    uint64_t before = conn->shared.n_answered;
    uint32_t now_ms = mux_now_ms(m);
    struct shared_step step;

    for (;;) {
        shared_take_reply(&conn->shared, now_ms, &data, &len, &step);
        if (step.what == SHARED_NOTHING)
            break;
        if (step.what == SHARED_BROKEN) {
            mux_broken(conn, step.unsent);
            return false;
        }
        if (step.what == SHARED_REFUSED) {
            mux_retire(conn);
            if (mux_is_evidence(conn))
                instance_doubt(m->instance);
        }
        if (step.user)
            mux_pass(conn, &step);
    }
    session_count(&m->instance->counts.session.requests, conn->shared.n_answered - before);
    if (m->current == conn && !m->crowded && shared_is_crowded(&conn->shared)) {
        m->crowded = conn;
        m->current = NULL;
        m->wanted = true;
    }
    return true;
}

static void mux_on_reply(struct mux_conn *conn)
{
    struct instance *i = conn->mux->instance;
    ssize_t n = backend_read(conn->backend, i->shard->buffer, SHARD_BUFFER);

    if (n == ERR_BUSY)
        return;
    conn->heard_us = mux_now_us(conn->mux);
    if (n <= 0) {
        mux_lose(conn, "lost", false);
        return;
    }
    bool full = !shared_has_room(&conn->shared);
    tally_reply(i->shard);
    if (!mux_feed(conn, i->shard->buffer, (size_t)n))
        return;
    tally_memory(i, &conn->tally, shared_memory_bytes(&conn->shared));
    if (!conn->ready && shared_count(&conn->shared) == 0)
        mux_ready(conn);
    else if (full)
        mux_touch_waiting(conn->mux);
    if (conn->slow)
        backend_want(conn->backend, false, conn->blocked);
    if (conn->retired_us == 0 && conn->mux->crowded != conn)
        instance_trust(i);
    else if (shared_count(&conn->shared) == 0)
        mux_close(conn, false);
    switchover_check(i);
}

static void mux_on_connected(struct mux_conn *conn)
{
    struct mux *m = conn->mux;

    backend_want(conn->backend, true, false);
    if (m->key_replies == 0) {
        mux_ready(conn);
        return;
    }
    if (shared_begin(&conn->shared, buf_at(&m->key, buf_start(&m->key)), buf_len(&m->key), m->key_replies)) {
        mux_lose(conn, "nomem", true);
        return;
    }
    mux_dirty(conn);
}

static void mux_on_backend(void *owner, enum backend_event event, int err)
{
    struct mux_conn *conn = owner;

    switch (event) {
    case BACKEND_CONNECTED:
        mux_on_connected(conn);
        break;
    case BACKEND_FAILED:
        log_debug("event=mux.refused instance=%s reason=\"%s\"", conn->mux->instance->route.name,
                  strerror(err));
        mux_lose(conn, "refused", true);
        break;
    case BACKEND_READABLE:
        if (!conn->slow)
            mux_on_reply(conn);
        break;
    case BACKEND_WRITABLE:
        conn->blocked = false;
        mux_dirty(conn);
        break;
    }
}

/* ---- connecting -------------------------------------------------------------------------------------------
 */

static bool mux_connect(struct mux *m)
{
    struct instance *i = m->instance;
    struct mux_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return false;
    conn->mux = m;
    conn->epoch = i->route.epoch;
    conn->heard_us = mux_now_us(m);
    list_init(&conn->node);
    list_init(&conn->dirty);
    conn->backend = standby_take(i, mux_on_backend, conn);
    bool connected = conn->backend != NULL;
    if (!connected)
        conn->backend = backend_open(i->shard->ev, &i->route.master, mux_now_us(m), mux_on_backend, conn);
    if (!conn->backend) {
        log_warn("event=mux.failed instance=%s reason=\"%s\"", i->route.name, strerror(errno));
        free(conn);
        return false;
    }
    session_count(&i->counts.masters, 1);
    list_push_back(&m->conns, &conn->node);
    m->current = conn;
    m->wanted = false;
    if (connected)
        mux_on_connected(conn);
    return true;
}

void mux_pump(struct instance *i)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        if (m->current || (list_empty(&m->waiting) && !m->wanted) || !instance_may_connect(i))
            continue;
        if (!mux_connect(m))
            instance_doubt(i);
    }
}

bool mux_needs_time(const struct instance *i)
{
    bool soon = !i->doubt && i->route.state == ROUTE_SERVING;

    list_for_each(node, &i->muxes)
    {
        const struct mux *m = list_entry(node, const struct mux, node);
        if ((m->current && !m->current->ready) ||
            (soon && !m->current && (m->wanted || !list_empty(&m->waiting))))
            return true;
        list_for_each(each, &m->conns)
        {
            if (list_entry(each, const struct mux_conn, node)->retired_us > 0)
                return true;
        }
    }
    return false;
}

void mux_tick(struct instance *i, int64_t now_us)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        list_for_each(each, &m->conns)
        {
            struct mux_conn *conn = list_entry(each, struct mux_conn, node);
            if (conn->slow && now_us - conn->slow_us >= MUX_RETIRED_US) {
                session_fail(&conn->slow->session, "it doesn't read a large reply that others wait behind");
                client_touch(conn->slow);
            } else if (!conn->ready && conn->retired_us == 0 &&
                       now_us - conn->heard_us >= MUX_CONNECT_TIMEOUT_US) {
                mux_lose(conn, "timeout", true);
            } else if (conn->retired_us > 0 && !conn->slow &&
                       (shared_count(&conn->shared) == 0 ||
                        now_us - conn->retired_us >= 2 * MUX_RETIRED_US)) {
                mux_close(conn, false);
            }
        }
    }
}

/* ---- routes and ends --------------------------------------------------------------------------------------
 */

/* What the old master has sent already counts. False: the connection is gone. */
static bool mux_read_out(struct mux_conn *conn)
{
    struct shard *shard = conn->mux->instance->shard;
    ssize_t n = 1;

    for (int k = 0; k < MUX_READS_MAX && n > 0 && shared_count(&conn->shared) > 0; k++) {
        n = conn->ready && !conn->slow ? backend_read(conn->backend, shard->buffer, SHARD_BUFFER) : 0;
        tally_reply(shard);
        if (n > 0 && !mux_feed(conn, shard->buffer, (size_t)n))
            return false;
    }
    return true;
}

void mux_switch(struct instance *i, bool read_out)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        list_for_each(each, &m->conns)
        {
            struct mux_conn *conn = list_entry(each, struct mux_conn, node);
            if (topology_address_equal(backend_address(conn->backend), &i->route.master))
                continue;
            if (!read_out || mux_read_out(conn))
                mux_close(conn, false);
        }
    }
}

void mux_forgive(struct instance *i)
{
    list_for_each(node, &i->muxes) list_entry(node, struct mux, node)->refused = false;
}

void mux_close_all(struct instance *i)
{
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        list_for_each(each, &m->conns) mux_close(list_entry(each, struct mux_conn, node), false);
    }
}

void mux_free_all(struct instance *i)
{
    mux_close_all(i);
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        list_remove(&m->node);
        buf_free(&m->key);
        free(m);
    }
    i->n_muxes = 0;
}

uint64_t mux_in_flight(const struct instance *i)
{
    uint64_t n = 0;

    list_for_each(node, &i->muxes)
    {
        const struct mux *m = list_entry(node, const struct mux, node);
        list_for_each(each, &m->conns) n +=
            shared_count(&list_entry(each, const struct mux_conn, node)->shared);
    }
    return n;
}

int64_t mux_silent_since_us(const struct instance *i)
{
    int64_t since_us = 0;

    list_for_each(node, &i->muxes)
    {
        const struct mux *m = list_entry(node, const struct mux, node);
        const struct mux_conn *conn = m->current;
        if (conn && conn->ready && shared_count(&conn->shared) > 0 &&
            (since_us == 0 || conn->heard_us < since_us))
            since_us = conn->heard_us;
    }
    return since_us;
}

/* ---- the end of a turn ------------------------------------------------------------------------------------
 */

static void mux_write(struct mux_conn *conn)
{
    bool full = !shared_has_room(&conn->shared);
    struct buf_span span;

    while (backend_is_connected(conn->backend) && !conn->blocked &&
           (span = shared_span(&conn->shared)).len > 0) {
        ssize_t wrote = backend_write(conn->backend, &span, 1);
        /* When it is broken: what the server said before is still to be read, reading tells of the end. */
        if (wrote > 0)
            shared_wrote(&conn->shared, (size_t)wrote);
        conn->blocked = wrote < 0 || (size_t)wrote < span.len;
    }
    tally_memory(conn->mux->instance, &conn->tally, shared_memory_bytes(&conn->shared));
    backend_want(conn->backend, !conn->slow, conn->blocked);
    if (full && shared_has_room(&conn->shared))
        mux_touch_waiting(conn->mux);
}

void mux_settle(struct shard *shard)
{
    struct list *node;

    while ((node = list_first(&shard->flush)) != NULL) {
        list_remove(node);
        mux_write(list_entry(node, struct mux_conn, dirty));
    }
}
