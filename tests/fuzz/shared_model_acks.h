/* Durability strict in shared_model.h: replicas that follow, or don't, and the connections that ask them.
 * Included by that only. */
#ifndef MR_TESTS_FUZZ_SHARED_MODEL_ACKS_H
#define MR_TESTS_FUZZ_SHARED_MODEL_ACKS_H

#include "proxy/core/hold.h"
#include "tests/fuzz/shared_model_db.h"

static void model_steps(struct model *m)
{
    char text[HOLD_TEXT_MAX];
    struct durable_step step;

    for (durable_step(&m->durable, &step); step.fate != DURABLE_WAITS; durable_step(&m->durable, &step)) {
        if (!step.user)
            continue;
        struct session *s = list_entry(step.user, struct session, held);
        struct model_client *c = list_entry(s, struct model_client, session);
        MODEL_CHECK(!c->over);
        if (step.fate == DURABLE_GONE)
            shared_lost(&c->user, m->route.epoch);
        struct buf_span span = session_take_step(s, m->now_ms, &step, m->route.epoch, text);
        MODEL_CHECK(step.fate != DURABLE_GONE || span.len == 0);
        if (span.len > 0)
            session_emit(s, span.data, span.len);
        shared_settle(&c->user, m->now_ms);
        if (s->work)
            session_route_changed(s, m->now_ms);
    }
    durable_end_steps(&m->durable);
}

/* The end of a turn. */
static void model_ask_acks(struct model *m)
{
    uint32_t acks = 0;
    int conn;

    model_steps(m);
    while ((conn = durable_send(&m->durable, &acks)) >= 0) {
        MODEL_CHECK(!m->waits[conn].under_way && acks == 1);
        m->waits[conn] = (struct model_wait){.under_way = true};
    }
}

/* The marker is executed; then the answer comes: the replica has all that had been written when it was, or
 * not. */
static void model_wait_turn(struct model *m, struct model_wait *w, bool follows)
{
    if (w->under_way && !w->executed) {
        w->executed = true;
        w->at = m->writes;
    } else if (w->under_way) {
        w->under_way = false;
        if (follows && w->at > m->replicated)
            m->replicated = w->at;
        durable_acked(&m->durable, (int)(w - m->waits), follows ? 1 : 0);
        model_steps(m);
    }
}

/* Marker and WAIT follow what waits to be written: that it is one client's is for the others' comfort only.
 */
static void model_ask_inline(struct model *m, struct model_hub *hub)
{
    static const char text[] = DURABLE_MARKER "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n";
    uint32_t acks;

    if (hub != &m->hubs[MODEL_MASTER] || !m->strict || !hub->door.connected || hub->draining ||
        hub->shared.batch > 0 || shared_span(&hub->shared).len == 0 || model_dice(m, 2) > 0)
        return;
    MODEL_CHECK(durable_begin_inline(&m->durable, 2, &acks) == 0);
    uint64_t batch = durable_begin_inline(&m->durable, 1, &acks);
    if (batch == 0)
        return;
    m->inline_batches++;
    MODEL_CHECK(acks == 1 && shared_ask(&hub->shared, batch, text, sizeof(text) - 1) == 0);
}

static void model_open_acks(struct model *m)
{
    if (!m->strict || m->durable.ready)
        return;
    durable_opened(&m->durable);
    for (uint32_t i = 0; i < MODEL_CLIENTS; i++)
        if (!m->clients[i].over)
            session_route_changed(&m->clients[i].session, m->now_ms);
}

/* What is held is lost; the other connections go next. */
static void model_lose_acks(struct model *m)
{
    memset(m->waits, 0, sizeof(m->waits));
    durable_lost(&m->durable);
    model_steps(m);
    MODEL_CHECK(durable_count(&m->durable) == 0);
}

#endif
