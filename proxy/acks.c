#include "proxy/acks.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/acks_private.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/core/hold.h"
#include "proxy/mux.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { ACKS_WAIT_MS = 1000 /* when the proxy wasn't told */ };

int64_t acks_now_us(const struct acks *a)
{
    return loop_now_us(a->instance->shard->loop);
}

uint32_t acks_asked(const struct instance *i)
{
    return i->acks && i->acks->durable.on ? i->acks->durable.acks : 0;
}

uint64_t acks_held(const struct instance *i)
{
    return i->acks ? durable_count(&i->acks->durable) : 0;
}

void acks_touch(struct instance *i)
{
    if (i->acks && list_empty(&i->acks->dirty))
        list_push_back(&i->shard->acks, &i->acks->dirty);
}

/* ---- what becomes of replies ----------------------------------------------------------------------------
 */

/* Bytes for one client that stand side by side: written at once. */
struct acks_run {
    struct client *client;
    struct buf_span span;
};

static void acks_end_run(struct acks *a, struct acks_run *run)
{
    struct client *c = run->client;
    uint32_t now_ms = shard_now_ms(a->instance->shard);

    if (!c)
        return;
    if (run->span.len > 0)
        client_pass(c, run->span.data, run->span.len);
    shared_settle(&c->user, now_ms);
    if (c->session.work)
        session_route_changed(&c->session, now_ms);
    tally_client(c);
    client_touch(c);
    *run = (struct acks_run){0};
}

/* What lies in `text` is overwritten by the next one. */
static void acks_add_to_run(struct acks_run *run, struct buf_span span, const char *text)
{
    bool follows = span.data == run->span.data + run->span.len;

    if (span.len == 0)
        return;
    if (run->span.len > 0 && !follows) {
        client_pass(run->client, run->span.data, run->span.len);
        run->span.len = 0;
    }
    run->span = run->span.len > 0 ? (struct buf_span){run->span.data, run->span.len + span.len} : span;
    if (span.data != text)
        return;
    client_pass(run->client, run->span.data, run->span.len);
    run->span.len = 0;
}

static void acks_take_steps(struct acks *a)
{
    const uint32_t now_ms = shard_now_ms(a->instance->shard);
    char text[HOLD_TEXT_MAX];
    struct durable_step step;
    struct acks_run run = {0};

    for (durable_step(&a->durable, &step); step.fate != DURABLE_WAITS; durable_step(&a->durable, &step)) {
        if (!step.user)
            continue;
        struct session *s = list_entry(step.user, struct session, held);
        struct client *c = list_entry(s, struct client, session);
        if (run.client != c)
            acks_end_run(a, &run);
        run.client = c;
        if (run.span.len > 0 && session_answers_before(s, &step)) {
            client_pass(c, run.span.data, run.span.len);
            run.span.len = 0;
        }
        if (step.fate == DURABLE_GONE)
            shared_lost(&c->user, a->epoch);
        acks_add_to_run(&run, session_take_step(s, now_ms, &step, a->epoch, text), text);
        if (session_interjects(s))
            acks_end_run(a, &run);
    }
    acks_end_run(a, &run);
    durable_end_steps(&a->durable);
}

/* ---- the end of the connections -------------------------------------------------------------------------
 */

void acks_close_conns(struct acks *a)
{
    for (int k = 0; k < DURABLE_CONNS; k++) {
        struct ack_conn *conn = &a->conns[k];
        if (conn->backend)
            session_count(&a->instance->counts.masters, (uint64_t)-1);
        backend_close(conn->backend);
        *conn = (struct ack_conn){.acks = a};
    }
    a->open = a->refused = a->fresh = false;
}

/* What is held is lost with its master. */
static void acks_drop(struct acks *a)
{
    acks_close_conns(a);
    durable_lost(&a->durable);
    acks_take_steps(a);
}

void acks_give_up(struct acks *a)
{
    struct instance *i = a->instance;

    acks_drop(a);
    mux_close_all(i);
    list_for_each(node, &i->clients)
    {
        struct client *c = list_entry(node, struct client, node);
        if (c->backend && !c->at_replica)
            client_detach(c);
        if (c->session.work)
            client_touch(c);
    }
    switchover_check(i);
}

void acks_lose(struct acks *a, const char *reason, bool doubt)
{
    struct instance *i = a->instance;

    log_debug("event=acks.lost instance=%s epoch=%llu held=%llu reason=\"%s\"", i->route.name,
              (unsigned long long)a->epoch, (unsigned long long)durable_count(&a->durable), reason);
    doubt = doubt && topology_address_equal(&a->master, &i->route.master);
    if (a->fresh)
        acks_close_conns(a);
    else
        acks_give_up(a);
    if (doubt)
        instance_doubt(i);
}

/* ---- the end of a turn ----------------------------------------------------------------------------------
 */

/* Nobody may PUBLISH: nothing is acknowledged, unless somebody who hasn't been asked yet may. */
static void acks_refuse_all(struct acks *a)
{
    bool refused, other = acks_may_look(a) && acks_find_key(a, &refused);
    uint32_t acks;
    int k;

    while ((k = durable_send(&a->durable, &acks)) >= 0) {
        durable_acked(&a->durable, k, 0);
        acks_take_steps(a);
    }
    if (!other || !instance_may_connect(a->instance))
        return;
    acks_give_up(a);
    acks_connect(a);
}

/* A marker and WAIT: their length. */
static size_t acks_format(const struct acks *a, uint32_t acks, char *text)
{
    char number[2][16];
    int n = snprintf(number[0], sizeof(number[0]), "%u", acks);
    int ms = snprintf(number[1], sizeof(number[1]), "%u", a->instance->env.ack_ms);

    return (size_t)snprintf(text, ACKS_TEXT_MAX,
                            DURABLE_MARKER "*3\r\n$4\r\nWAIT\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", n, number[0], ms,
                            number[1]);
}

static void acks_send(struct acks *a)
{
    char text[ACKS_TEXT_MAX];
    uint32_t acks;
    int k;

    while ((k = durable_send(&a->durable, &acks)) >= 0)
        if (!acks_write(a, &a->conns[k], text, acks_format(a, acks, text), 1))
            return;
}

uint64_t acks_begin_inline(struct instance *i, const struct buf *key, char *text, size_t *len)
{
    struct acks *a = i->acks;
    uint32_t acks;

    /* Somebody else may not be allowed to PUBLISH. */
    if (!a || !a->open || a->refused || a->inline_refused || !acks_is_key(a, key))
        return 0;
    uint64_t clients = atomic_load_explicit(&i->counts.clients, memory_order_relaxed);
    uint64_t batch = durable_begin_inline(&a->durable, clients, &acks);
    if (batch > 0)
        *len = acks_format(a, acks, text);
    return batch;
}

void acks_answered_inline(struct instance *i, uint64_t batch, uint32_t n)
{
    assert(i->acks);
    session_count(&i->counts.session.batches, 1);
    durable_acked_inline(&i->acks->durable, batch, n);
    acks_touch(i);
}

void acks_lost_inline(struct instance *i, uint64_t batch, bool refused)
{
    assert(i->acks);
    i->acks->inline_refused |= refused;
    durable_lost_inline(&i->acks->durable, batch);
    acks_touch(i);
}

static void acks_settle_one(struct acks *a)
{
    struct instance *i = a->instance;

    acks_take_steps(a);
    if (a->refused)
        acks_refuse_all(a);
    else
        acks_send(a);
    tally_replies(i, &a->tally, durable_memory_bytes(&a->durable));
    if (durable_count(&a->durable) > 0)
        return;
    if (!a->durable.on && a->open) {
        acks_close_conns(a);
        durable_lost(&a->durable);
    }
    switchover_check(i);
}

void acks_settle(struct shard *shard)
{
    struct list *node;

    while ((node = list_first(&shard->acks)) != NULL) {
        list_remove(node);
        acks_settle_one(list_entry(node, struct acks, dirty));
    }
}

/* ---- policy, routes, ends -------------------------------------------------------------------------------
 */

void acks_set_policy(struct instance *i)
{
    uint32_t acks = route_acks(&i->route);
    struct acks *a = i->acks;

    if (!a && acks == 0)
        return;
    if (!a) {
        a = i->acks = calloc(1, sizeof(*a));
        if (!a) {
            log_error("event=acks.nomem instance=%s say=\"its durability is async\"", i->route.name);
            return;
        }
        a->instance = i;
        list_init(&a->dirty);
        i->env.durable = &a->durable;
        i->env.ack_ms = i->shard->ack_ms > 0 ? (uint32_t)i->shard->ack_ms : ACKS_WAIT_MS;
    }
    bool begins = acks > 0 && !a->durable.on;
    durable_set(&a->durable, acks > 0, acks > 0 ? acks : a->durable.acks);
    if (begins)
        list_for_each(node, &i->clients)
            session_becomes_strict(&list_entry(node, struct client, node)->session);
    acks_touch(i);
}

/* In a failover the old master's word counts no more from the moment on that it is heard of. */
static bool acks_must_leave(const struct acks *a)
{
    const struct route *r = &a->instance->route;

    return (a->open || a->refused) &&
           (r->epoch != a->epoch ||
            (r->state == ROUTE_SERVING && !topology_address_equal(&r->master, &a->master)));
}

void acks_follow(struct instance *i)
{
    struct acks *a = i->acks;

    if (!a || !acks_must_leave(a))
        return;
    if (!i->env.planned) {
        acks_give_up(a);
        return;
    }
    /* The next master has every byte: what is still read out of the old one's connections is as good as
     * acknowledged. */
    a->durable.on = false;
    durable_vouch(&a->durable);
    acks_take_steps(a);
}

void acks_followed(struct instance *i)
{
    struct acks *a = i->acks;

    if (!a)
        return;
    if (acks_must_leave(a))
        acks_drop(a);
    a->durable.on = route_acks(&i->route) > 0;
    if (i->route.state != ROUTE_SERVING || a->open || a->refused || a->epoch == i->route.epoch)
        return;
    a->epoch = i->route.epoch;
    a->n_refused = 0;
    durable_renew(&a->durable);
}

void acks_close(struct instance *i)
{
    if (i->acks)
        acks_drop(i->acks);
}

void acks_free(struct instance *i)
{
    struct acks *a = i->acks;

    if (!a)
        return;
    acks_drop(a);
    tally_replies(i, &a->tally, 0);
    list_remove(&a->dirty);
    durable_free(&a->durable);
    buf_free(&a->key);
    i->env.durable = NULL;
    i->acks = NULL;
    free(a);
}
