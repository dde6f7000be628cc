#include "proxy/mux.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/acks.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/core/login.h"
#include "proxy/core/remember.h"
#include "proxy/mux_private.h"
#include "proxy/schedule.h"
#include "proxy/standby.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int64_t mux_now_us(const struct mux *m)
{
    return loop_now_us(m->instance->shard->loop);
}

uint32_t mux_now_ms(const struct mux *m)
{
    return shard_now_ms(m->instance->shard);
}

/* ---- keys -------------------------------------------------------------------------------------------------
 */

static bool mux_has_key(const struct mux *m, const struct buf *key, const struct topology_address *target)
{
    size_t len = buf_len(key);

    return topology_address_equal(&m->target, target) && buf_len(&m->key) == len &&
           (len == 0 || memcmp(buf_at(&m->key, buf_start(&m->key)), buf_at(key, 0), len) == 0);
}

struct mux *mux_find(struct instance *i, const struct session *s, const struct topology_address *target)
{
    struct buf key = {0};
    bool is_replica = topology_address_is_set(target);
    uint32_t *count = is_replica ? &i->n_replica_muxes : &i->n_muxes;
    int n = s->memory ? remember_write_share(s->memory, &key) : 0;
    struct mux *m = NULL;

    if (n < 0)
        goto out;
    list_for_each(node, &i->muxes)
    {
        struct mux *other = list_entry(node, struct mux, node);
        if (mux_has_key(other, &key, target))
            m = other;
    }
    if (m || *count >= (is_replica ? MUX_REPLICAS_MAX : MUX_KEYS_MAX) || !(m = calloc(1, sizeof(*m))))
        goto out;
    m->instance = i;
    m->target = *target;
    m->key = key;
    m->key_replies = (uint32_t)n;
    key = (struct buf){0};
    list_init(&m->conns);
    list_init(&m->waiting);
    list_init(&m->node);
    list_push_back(&i->muxes, &m->node);
    ++*count;
out:
    buf_free(&key);
    return m;
}

struct mux *mux_of(struct instance *i, const struct session *s)
{
    static const struct topology_address master;

    return mux_find(i, s, &master);
}

bool mux_is_refused(const struct mux *m)
{
    return m->refused;
}

struct list *mux_waiting(struct mux *m)
{
    return &m->waiting;
}

void mux_touch_waiting(struct mux *m)
{
    list_for_each(node, &m->waiting) client_touch(list_entry(node, struct client, queue));
}

/* ---- requests ---------------------------------------------------------------------------------------------
 */

bool mux_is_open(const struct mux *m)
{
    struct instance *i = m->instance;

    return acks_let(i, &m->key) && m->current && m->current->ready && i->env.pause == SESSION_FLOWS &&
           i->route.state == ROUTE_SERVING;
}

bool mux_want(struct mux *m)
{
    bool wants = !m->wanted && !m->current && !m->refused;

    m->wanted = m->wanted || wants;
    return wants;
}

static void mux_dirty(struct mux_conn *conn)
{
    if (list_empty(&conn->dirty))
        list_push_back(&conn->mux->instance->shard->flush, &conn->dirty);
}

void mux_taken(struct mux_conn *conn, uint64_t n)
{
    if (shared_count(&conn->shared) == n)
        return;
    if (n == 0) {
        conn->heard_us = mux_now_us(conn->mux);
        if (!mux_is_replica(conn->mux))
            silence_begin(conn->mux->instance);
    }
    if (shared_is_due(&conn->shared, schedule_is_beside(conn->mux->instance->shard->schedule)))
        mux_write(conn);
    else
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

void mux_retire(struct mux_conn *conn)
{
    if (conn->retired_us == 0)
        conn->retired_us = mux_now_us(conn->mux);
    mux_echo_end(conn); /* it may not be read for a while */
    if (conn->mux->current == conn) {
        conn->mux->current = NULL;
        conn->mux->wanted = true;
    }
}

void mux_close(struct mux_conn *conn, bool unsent)
{
    struct mux *m = conn->mux;
    uint32_t now_ms = mux_now_ms(m);
    struct shared_user *u;

    mux_retire(conn);
    m->crowded = m->crowded == conn ? NULL : m->crowded;
    if (conn->shared.batch > 0)
        acks_lost_inline(m->instance, conn->shared.batch, false);
    backend_close(conn->backend);
    session_count(mux_is_replica(m) ? &m->instance->counts.replicas : &m->instance->counts.masters,
                  (uint64_t)-1);
    if (conn->slow)
        conn->slow->slow_on = NULL;
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
    return !mux_is_replica(conn->mux) &&
           topology_address_equal(backend_address(conn->backend), &conn->mux->instance->route.master);
}

void mux_lose(struct mux_conn *conn, const char *what, bool unsent)
{
    struct mux *m = conn->mux;
    struct instance *i = m->instance;
    bool current = m->current == conn, doubt = current && mux_is_evidence(conn);
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    log_debug("event=mux.%s instance=%s member=%s in_flight=%llu", what, i->route.name,
              topology_address_format(backend_address(conn->backend), text),
              (unsigned long long)shared_count(&conn->shared));
    mux_close(conn, unsent);
    if (current && mux_is_replica(m))
        mux_replica_failed(m);
    if (doubt)
        instance_doubt(i);
    switchover_check(i);
}

void mux_leave(struct client *c)
{
    shared_leave(&c->user);
    mux_drained(c);
    c->mux = c->reads = NULL;
}

void mux_drained(struct client *c)
{
    struct mux_conn *conn = c->slow_on;

    if (!conn)
        return;
    c->slow_on = NULL;
    conn->slow = NULL;
    conn->retired_us = mux_now_us(conn->mux);
    backend_want(conn->backend, true, conn->blocked);
}

/* ---- replies ----------------------------------------------------------------------------------------------
 */

static void mux_ready(struct mux_conn *conn)
{
    conn->ready = true;
    if (mux_is_replica(conn->mux)) {
        mux_replica_ready(conn->mux);
        return;
    }
    mux_touch_waiting(conn->mux);
    standby_look(conn->mux->instance);
}

void mux_passed(struct mux_conn *conn, struct client *c, bool part)
{
    shared_settle(&c->user, mux_now_ms(conn->mux));
    tally_client(c);
    if (c->session.work || c->session.closing)
        client_touch(c);
    if (!session_is_slow(&c->session))
        return;
    if (!part) {
        shared_overflow(&c->user, mux_now_ms(conn->mux));
        return;
    }
    conn->slow = c;
    c->slow_on = conn;
    conn->slow_us = mux_now_us(conn->mux);
    mux_retire(conn);
}

static void mux_pass(struct mux_replies *r, const struct shared_step *step)
{
    struct client *c = list_entry(step->user, struct client, user);

    if (mux_replies_add(r, c, step))
        return;
    if (step->len > 0)
        client_pass(c, step->data, step->len);
    mux_passed(r->conn, c, step->part);
}

static void mux_broken(struct mux_conn *conn, bool unsent)
{
    struct mux *m = conn->mux;
    bool is_full = unsent && session_is_full(&conn->shared.reply);

    if (is_full && !mux_is_replica(m))
        m->instance->env.refusal = "it has its maxclients";
    if (conn->ready || !unsent || is_full || session_is_refusal(&conn->shared.reply)) {
        mux_lose(conn, "broken", unsent);
        return;
    }
    m->refused = true;
    m->busy_us = strncmp(conn->shared.reply.error, "BUSY ", 5) == 0 ? mux_now_us(m) : 0;
    mux_close(conn, true);
    m->wanted = false;
    if (mux_is_replica(m))
        mux_replica_failed(m);
    mux_touch_waiting(m);
}

/* Others go on over a new connection, and this one is closed once it is empty. */
static void mux_crowd(struct mux_conn *conn)
{
    struct mux *m = conn->mux;

    if (m->crowded)
        return;
    m->crowded = conn;
    m->current = NULL;
    m->wanted = true;
}

void mux_make_way(struct instance *i)
{
    list_for_each(node, &i->muxes)
    {
        struct mux_conn *conn = list_entry(node, struct mux, node)->current;
        if (conn && conn->shared.batch > 0)
            mux_crowd(conn);
    }
}

/* It answers no longer as it should, or for more than its clients. */
static void mux_note(struct mux_conn *conn, const struct shared_step *step)
{
    struct mux *m = conn->mux;

    if (step->what == SHARED_REFUSED) {
        bool current = m->current == conn;
        mux_retire(conn);
        if (mux_is_evidence(conn))
            instance_doubt(m->instance);
        else if (current && mux_is_replica(m))
            mux_replica_failed(m);
    }
    if (step->batch > 0 && step->no_acks)
        acks_lost_inline(m->instance, step->batch, true);
    else if (step->batch > 0)
        acks_answered_inline(m->instance, step->batch, step->acks);
}

bool mux_feed(struct mux_conn *conn, const char *data, size_t len)
{
    struct mux *m = conn->mux;
    uint64_t before = conn->shared.n_answered;
    uint32_t now_ms = mux_now_ms(m);
    struct mux_replies replies = {.conn = conn, .from = data, .len = len};
    struct shared_step step;

    for (;;) {
        shared_take_reply(&conn->shared, now_ms, &data, &len, &step);
        if (step.what != SHARED_PASS || step.batch > 0)
            mux_replies_write(&replies);
        if (step.what == SHARED_NOTHING)
            break;
        if (step.what == SHARED_BROKEN) {
            mux_broken(conn, step.unsent);
            return false;
        }
        mux_note(conn, &step);
        if (step.user)
            mux_pass(&replies, &step);
    }
    uint64_t answered = conn->shared.n_answered - before;
    session_count(&m->instance->counts.session.requests, answered);
    if (answered > 0 && mux_is_replica(m)) {
        session_count(&m->instance->counts.session.replica_reads, answered);
        if (m->current == conn)
            m->failures = 0;
    }
    if (m->current == conn && shared_is_crowded(&conn->shared))
        mux_crowd(conn);
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
    tally_reply(i->shard, n);
    schedule_answered(i->shard->schedule, backend_fd(conn->backend));
    if (!mux_feed(conn, i->shard->buffer, (size_t)n))
        return;
    tally_memory(i, &conn->tally, shared_memory_bytes(&conn->shared));
    if (conn->echo > 0 && shared_has_answered(&conn->shared, conn->echo))
        mux_echo_end(conn);
    if (!conn->ready && shared_count(&conn->shared) == 0)
        mux_ready(conn);
    else if (full)
        mux_touch_waiting(conn->mux);
    if (conn->slow)
        backend_want(conn->backend, false, conn->blocked);
    bool ends = conn->retired_us != 0 || conn->mux->crowded == conn;
    if (!ends && !mux_is_replica(conn->mux))
        instance_trust(i);
    else if (ends && shared_count(&conn->shared) == 0)
        mux_close(conn, false);
    acks_touch(i);
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
    struct buf text = {0};
    int err = login_write(&m->instance->route, buf_at(&m->key, buf_start(&m->key)), buf_len(&m->key), &text);
    if (!err)
        err = shared_begin(&conn->shared, buf_at(&text, buf_start(&text)), buf_len(&text), m->key_replies);
    buf_free(&text);
    if (err)
        mux_lose(conn, "nomem", true);
    else
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
    bool is_replica = mux_is_replica(m);

    if (!conn)
        return false;
    conn->mux = m;
    conn->shared.replica = is_replica;
    conn->epoch = i->route.epoch;
    conn->heard_us = mux_now_us(m);
    list_init(&conn->node);
    list_init(&conn->dirty);
    list_init(&conn->echoes);
    conn->backend = is_replica ? NULL : standby_take(i, mux_on_backend, conn);
    bool connected = conn->backend != NULL;
    if (!connected)
        conn->backend = backend_open(i->shard->ev, is_replica ? &m->target : &i->route.master, mux_now_us(m),
                                     mux_on_backend, conn);
    if (!conn->backend) {
        log_warn("event=mux.failed instance=%s reason=\"%s\"", i->route.name, strerror(errno));
        free(conn);
        return false;
    }
    session_count(is_replica ? &i->counts.replicas : &i->counts.masters, 1);
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
        bool may_connect = mux_is_replica(m) ? mux_replica_may_connect(m) : instance_may_connect(i);
        if (m->current || (list_empty(&m->waiting) && !m->wanted) || !may_connect || mux_connect(m))
            continue;
        if (mux_is_replica(m))
            mux_replica_failed(m);
        else
            instance_doubt(i);
    }
}

bool mux_needs_time(const struct instance *i)
{
    bool serving = i->route.state == ROUTE_SERVING;

    list_for_each(node, &i->muxes)
    {
        const struct mux *m = list_entry(node, const struct mux, node);
        bool soon = serving && !m->refused && (mux_is_replica(m) || !i->doubt);
        if (m->busy_us > 0 || (m->current && !m->current->ready) ||
            (soon && !m->current && (m->wanted || !list_empty(&m->waiting))))
            return true;
        list_for_each(each, &m->conns)
        {
            const struct mux_conn *conn = list_entry(each, const struct mux_conn, node);
            if (conn->retired_us > 0 || shared_may_rest(&conn->shared))
                return true;
        }
    }
    return false;
}
