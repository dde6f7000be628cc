/* Durability strict in session_model.h: a replica that follows, or doesn't, and who asks it. Included by that
 * only.
 */
#ifndef MR_TESTS_FUZZ_SESSION_MODEL_ACKS_H
#define MR_TESTS_FUZZ_SESSION_MODEL_ACKS_H

#include "tests/fuzz/session_model_server.h"

static void model_steps(struct model *m)
{
    char text[HOLD_TEXT_MAX];
    struct durable_step step;

    for (durable_step(&m->durable, &step); step.fate != DURABLE_WAITS; durable_step(&m->durable, &step)) {
        struct buf_span span = session_take_step(&m->session, m->now_ms, &step, m->route.epoch, text);
        MODEL_CHECK(step.fate != DURABLE_GONE || span.len == 0);
        if (span.len > 0)
            session_emit(&m->session, span.data, span.len);
        if (m->session.work)
            session_route_changed(&m->session, m->now_ms);
    }
    durable_end_steps(&m->durable);
}

/* The end of a turn. The markers are executed at once: the latest that is possible is covered by
 * shared_model.h. */
static void model_ask_acks(struct model *m)
{
    uint32_t acks = 0;
    int conn;

    model_steps(m);
    while ((conn = durable_send(&m->durable, &acks)) >= 0) {
        m->asked_acks[conn] = true;
        m->sent_at[conn] = m->writes;
    }
}

static void model_answer_acks(struct model *m, uint32_t conn, bool follows)
{
    if (!m->asked_acks[conn])
        return;
    m->asked_acks[conn] = false;
    if (follows && m->sent_at[conn] > m->acked_writes)
        m->acked_writes = m->sent_at[conn];
    durable_acked(&m->durable, (int)conn, follows ? 1 : 0);
    model_steps(m);
}

static void model_open_acks(struct model *m)
{
    if (!m->strict || m->durable.ready)
        return;
    durable_opened(&m->durable);
    session_route_changed(&m->session, m->now_ms);
}

/* What is held is lost; the connection goes next. */
static void model_lose_acks(struct model *m)
{
    memset(m->asked_acks, 0, sizeof(m->asked_acks));
    durable_lost(&m->durable);
    model_steps(m);
    MODEL_CHECK(durable_count(&m->durable) == 0);
}

#endif
