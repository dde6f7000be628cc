/* The ack connections of a strict instance: opened together, as somebody who may PUBLISH, asked, listened to.
 * Contracts in acks.h and acks_private.h. */
#include "common/log.h"
#include "common/loop.h"
#include "proxy/acks_private.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/core/login.h"
#include "proxy/core/names.h"
#include "proxy/core/remember.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* May it do what will be asked of it? And is it a master, as the route says? Answered at once. */
#define ACKS_GREETING           DURABLE_MARKER "*3\r\n$4\r\nWAIT\r\n$1\r\n0\r\n$1\r\n1\r\n"
#define ACKS_CONNECT_TIMEOUT_US ((int64_t)1000000)
#define ACKS_LOOK_US            ((int64_t)10000) /* between two looks for somebody who may PUBLISH */
#define ACKS_FORGIVE_US         ((int64_t)10000000)

static uint32_t acks_hash(const struct buf *key)
{
    return names_hash(buf_len(key) > 0 ? buf_at(key, buf_start(key)) : "", buf_len(key));
}

bool acks_is_key(const struct acks *a, const struct buf *key)
{
    size_t len = buf_len(&a->key);

    return buf_len(key) == len &&
           (len == 0 || memcmp(buf_at(&a->key, buf_start(&a->key)), buf_at(key, buf_start(key)), len) == 0);
}

static bool acks_was_refused(const struct acks *a, const struct buf *key)
{
    uint32_t hash = acks_hash(key), known = a->n_refused < ACKS_REFUSED_MAX ? a->n_refused : ACKS_REFUSED_MAX;

    for (uint32_t k = 0; k < known; k++)
        if (a->refused_keys[k] == hash)
            return true;
    return false;
}

/* ---- answers --------------------------------------------------------------------------------------------
 */

static void acks_ready(struct acks *a)
{
    for (int k = 0; k < DURABLE_CONNS; k++)
        if (!a->conns[k].ready)
            return;
    a->fresh = false;
    durable_opened(&a->durable);
    instance_resume(a->instance);
}

static void acks_refuse(struct acks *a, const char *error)
{
    struct instance *i = a->instance;

    log_warn("event=acks.refused instance=%s reason=\"%s\" say=\"durability strict needs a user who may "
             "PUBLISH to "
             "__mr-redis_ack, and WAIT\"",
             i->route.name, error);
    a->refused_keys[a->n_refused++ % ACKS_REFUSED_MAX] = acks_hash(&a->key);
    a->refused_us = acks_now_us(a);
    acks_close_conns(a);
    acks_pump(i);
}

/* A replica publishes and reads as a master does, but never waits. */
static bool acks_is_no_master(const struct resp_reply *r)
{
    static const char says[] = "ERR WAIT cannot be used with replica";

    return session_is_refusal(r) || strncmp(r->error, says, sizeof(says) - 1) == 0;
}

/* An error, instead of what was asked for. False: the connections are gone. */
static bool acks_on_error(struct acks *a, const struct ack_conn *conn)
{
    const struct resp_reply *r = &conn->reply;
    bool full_now = session_is_full(r), other_now = acks_is_no_master(r);
    char error[RESP_ERROR_MAX + 1];

    memcpy(error, r->error, sizeof(error));
    if (full_now || other_now)
        a->instance->env.refusal = full_now ? "it has its maxclients" : "it is no master, or still loading";
    if (conn->ready || full_now || other_now)
        acks_lose(a, error, strncmp(error, "NO", 2) != 0); /* NOPERM, NOAUTH: it is asked who else may */
    else
        acks_refuse(a, error);
    return false;
}

/* A whole reply. False: the connections are gone. */
static bool acks_on_answer(struct acks *a, struct ack_conn *conn)
{
    if (conn->reply.type == '-')
        return acks_on_error(a, conn);
    if (conn->sent_us == 0) {
        acks_lose(a, "it says what nobody asked", true);
        return false;
    }
    if (conn->before > 0) {
        conn->before--;
        return true;
    }
    conn->sent_us = 0;
    if (!conn->ready) {
        conn->ready = true;
        acks_ready(a);
        return a->open;
    }
    uint32_t n = conn->reply.type == ':' ? (uint32_t)strtoul(conn->number, NULL, 10) : 0;
    session_count(&a->instance->counts.session.batches, 1);
    durable_acked(&a->durable, (int)(conn - a->conns), n);
    acks_touch(a->instance);
    return true;
}

static void acks_keep_number(struct ack_conn *conn, const char *data, size_t len)
{
    for (size_t k = 0; k < len && conn->reply.type == ':'; k++)
        if (data[k] >= '0' && data[k] <= '9' && conn->number_len + 1 < sizeof(conn->number))
            conn->number[conn->number_len++] = data[k];
    conn->number[conn->number_len] = '\0';
}

static void acks_on_readable(struct ack_conn *conn)
{
    struct acks *a = conn->acks;
    char bytes[4096];
    ssize_t n = backend_read(conn->backend, bytes, sizeof(bytes));
    const char *data = bytes;

    if (n == ERR_BUSY)
        return;
    if (n <= 0) {
        acks_lose(a, "closed", true);
        return;
    }
    tally_reply(a->instance->shard, n);
    for (size_t left = (size_t)n, used = 0; left > 0; data += used, left -= used) {
        enum resp_result result = resp_reply_feed(&conn->reply, data, left, &used);
        acks_keep_number(conn, data, used);
        if (result == RESP_BAD) {
            acks_lose(a, "it doesn't speak the protocol", true);
            return;
        }
        if (result == RESP_END && !acks_on_answer(a, conn))
            return;
        if (result == RESP_END)
            conn->number_len = 0;
    }
}

/* ---- questions ------------------------------------------------------------------------------------------
 */

bool acks_write(struct acks *a, struct ack_conn *conn, const char *data, size_t len, uint32_t before)
{
    struct buf_span span = {data, len};
    ssize_t wrote = backend_write(conn->backend, &span, 1);

    conn->before = before;
    conn->sent_us = acks_now_us(a);
    silence_begin(a->instance);
    if (wrote == (ssize_t)len)
        return true;
    acks_lose(a, "it can't be written to", true);
    return false;
}

static void acks_on_connected(struct ack_conn *conn)
{
    struct acks *a = conn->acks;
    struct buf text = {0};

    backend_want(conn->backend, true, false);
    int err = 0;
    if (buf_len(&a->key) > 0)
        err = login_write(&a->instance->route, buf_at(&a->key, buf_start(&a->key)), buf_len(&a->key), &text);
    if (!err)
        err = buf_append(&text, ACKS_GREETING, sizeof(ACKS_GREETING) - 1);
    if (err)
        acks_lose(a, "out of memory", true);
    else
        (void)acks_write(a, conn, buf_at(&text, buf_start(&text)), buf_len(&text), a->key_replies + 1);
    buf_free(&text);
}

static void acks_on_backend(void *owner, enum backend_event event, int err)
{
    struct ack_conn *conn = owner;

    switch (event) {
    case BACKEND_CONNECTED:
        acks_on_connected(conn);
        break;
    case BACKEND_FAILED:
        acks_lose(conn->acks, strerror(err), true);
        break;
    case BACKEND_READABLE:
        acks_on_readable(conn);
        break;
    case BACKEND_WRITABLE:
        break;
    }
}

/* ---- connecting -----------------------------------------------------------------------------------------
 */

bool acks_let(struct instance *i, const struct buf *key)
{
    struct acks *a = i->acks;

    if (!a || !a->durable.on)
        return true;
    if (a->refused && !acks_was_refused(a, key)) {
        a->wanted = true; /* perhaps it may: it is asked before anything else is sent */
        durable_block(&a->durable);
        return false;
    }
    return a->durable.ready;
}

/* True: its key is taken. *seen: but it was refused before. */
static bool acks_take_key(struct acks *a, const struct session *s, bool *seen)
{
    struct buf key = {0};
    int n = s->memory ? remember_write_share(s->memory, &key) : 0;

    if (n < 0)
        return false;
    if (acks_was_refused(a, &key)) {
        *seen = true;
        buf_free(&key);
        return false;
    }
    buf_free(&a->key);
    a->key = key;
    a->key_replies = (uint32_t)n;
    return true;
}

bool acks_find_key(struct acks *a, bool *refused)
{
    *refused = false;
    list_for_each(node, &a->instance->clients)
    {
        const struct client *c = list_entry(node, const struct client, node);
        bool asks = c->session.work || c->user.pending > 0 || c->session.held.held > 0;
        if (asks && acks_take_key(a, &c->session, refused))
            return true;
    }
    return false;
}

/* The same among those who wait. */
static bool acks_find_waiting(struct acks *a, bool *refused)
{
    *refused = false;
    list_for_each(node, &a->instance->timed)
    {
        const struct client *c = list_entry(node, const struct client, timed);
        if (c->session.work && acks_take_key(a, &c->session, refused))
            return true;
    }
    return false;
}

bool acks_may_look(struct acks *a)
{
    int64_t now_us = acks_now_us(a);

    if (now_us - a->looked_us < ACKS_LOOK_US)
        return false;
    a->looked_us = now_us;
    if (now_us - a->refused_us >= ACKS_FORGIVE_US)
        a->n_refused = 0;
    return true;
}

void acks_connect(struct acks *a)
{
    struct instance *i = a->instance;

    a->open = a->fresh = true;
    a->inline_refused = false;
    a->epoch = i->route.epoch;
    a->master = i->route.master;
    a->opened_us = acks_now_us(a);
    for (int k = 0; k < DURABLE_CONNS; k++) {
        struct ack_conn *conn = &a->conns[k];
        conn->acks = a;
        resp_reply_init(&conn->reply);
        conn->backend = backend_open(i->shard->ev, &a->master, a->opened_us, acks_on_backend, conn);
        if (!conn->backend) {
            acks_lose(a, strerror(errno), true);
            return;
        }
        session_count(&i->counts.masters, 1);
    }
}

void acks_pump(struct instance *i)
{
    struct acks *a = i->acks;
    bool refused;

    if (!a || a->open || !a->durable.on || !instance_may_connect(i))
        return;
    if (a->refused && !a->wanted)
        return;
    a->wanted = false;
    if (acks_find_waiting(a, &refused)) {
        if (a->refused)
            acks_give_up(a);
        acks_connect(a);
    } else if (refused && !a->refused) {
        a->refused = true;
        durable_opened(&a->durable);
        instance_resume(i);
    }
}

bool acks_need_time(const struct instance *i)
{
    return i->acks && i->acks->open && !i->acks->durable.ready;
}

void acks_tick(struct instance *i, int64_t now_us)
{
    if (acks_need_time(i) && now_us - i->acks->opened_us >= ACKS_CONNECT_TIMEOUT_US)
        acks_lose(i->acks, "timeout", true);
}

int64_t acks_silent_since_us(const struct instance *i)
{
    int64_t since_us = 0;

    for (int k = 0; i->acks && k < DURABLE_CONNS; k++) {
        const struct ack_conn *conn = &i->acks->conns[k];
        int64_t due_us = conn->sent_us + (conn->ready ? (int64_t)i->env.ack_ms * 1000 : 0);
        if (conn->sent_us > 0 && (since_us == 0 || due_us < since_us))
            since_us = due_us;
    }
    return since_us;
}
