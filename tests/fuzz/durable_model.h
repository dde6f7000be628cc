/* Held replies, driven by dice, with a master, its replicas and the ack connections played: no reply may be
 * passed on before enough replicas have what it tells of; none may be lost, doubled or out of its client's
 * order; and when all is answered nothing is held. Included by the unit test and the fuzz target.
 *
 *   clients ─► requests ─► master (a counter of writes, the newest of each key) ─► replies ─► durable ─►
 * check │ replicas follow, each as far as the dice say             ▲ durable_send() ─► marker ─┘ WAIT:
 * answered when enough follow, or too few by now ────┘
 *
 * A request is executed some time after it was sent, its reply is read some time after that. */
#ifndef MR_TESTS_FUZZ_DURABLE_MODEL_H
#define MR_TESTS_FUZZ_DURABLE_MODEL_H

#include "proxy/core/durable.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DM_USERS = 4,
    DM_KEYS = 6,
    DM_REPLICAS = 2,
    DM_FLIGHT = 64,
    DM_REPLIES = 4096,
    DM_STEPS = 3000,
};

#define DM_CHECK(what)                                                                                       \
    do {                                                                                                     \
        if (!(what)) {                                                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                                 \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

enum dm_state { DM_SENT, DM_EXECUTED };

struct dm_request {
    uint32_t user, id;
    uint32_t key; /* DM_KEYS: all of them */
    uint8_t touch, state;
    bool failed;    /* a write that changed nothing: its reply is an error, and tells of the key */
    uint64_t shows; /* the newest write that its reply tells of */
};

struct dm_user {
    struct durable_user user;
    uint32_t asked, answered; /* ids: each client's replies come in this order */
};

struct dm_wait {
    bool under_way, executed;
    uint32_t acks;
    uint64_t at; /* writes that the master had executed when the marker was */
};

/* Marker and WAIT behind a client's requests on its own connection. */
struct dm_inline {
    uint64_t batch; /* 0: none is under way */
    uint32_t user, after;
    struct dm_wait wait;
};

struct dm {
    const uint8_t *dice;
    size_t n, at;
    struct durable d;
    struct dm_user users[DM_USERS];
    struct dm_request flight[DM_FLIGHT]; /* each client's over a connection of its own, in order */
    uint32_t n_flight;
    uint64_t writes, newest[DM_KEYS]; /* of the master */
    uint64_t has[DM_REPLICAS];
    uint64_t shows[DM_USERS][DM_REPLIES]; /* what each reply that was asked for shows, by its id */
    struct dm_wait waits[DURABLE_CONNS];
    struct dm_inline inline_;
    uint64_t inlines;
    uint64_t released, shorts, gone;
};

static uint32_t dm_dice(struct dm *m, uint32_t sides)
{
    return m->at < m->n ? m->dice[m->at++] % sides : 0;
}

static bool dm_is_over(const struct dm *m)
{
    return m->at >= m->n;
}

static uint16_t dm_slot(uint32_t key)
{
    char text[8];
    int len = snprintf(text, sizeof(text), "key:%u", key);

    return key == DM_KEYS ? (uint16_t)DURABLE_ANY : durable_slot(text, (size_t)len);
}

static uint32_t dm_have(const struct dm *m, uint64_t at)
{
    uint32_t n = 0;

    for (int i = 0; i < DM_REPLICAS; i++)
        n += m->has[i] >= at;
    return n;
}

static void dm_ask(struct dm *m)
{
    uint32_t by = dm_dice(m, DM_USERS), what = dm_dice(m, 16);
    struct dm_user *u = &m->users[by];

    if (m->n_flight == DM_FLIGHT || u->asked + 1 >= DM_REPLIES || durable_blocks(&m->d))
        return;
    struct dm_request *r = &m->flight[m->n_flight++];
    *r = (struct dm_request){.user = by, .id = ++u->asked, .key = dm_dice(m, DM_KEYS)};
    if (what == 0 || what == 1)
        r->key = DM_KEYS;
    r->touch = what == 15 ? DURABLE_NOTHING : what < 8 ? DURABLE_WRITES : DURABLE_READS;
    r->failed = what == 7;
    if (!m->d.on)
        r->touch = DURABLE_NOTHING;
    if (r->touch == DURABLE_WRITES)
        durable_mark(&m->d, dm_slot(r->key));
}

/* The next of a client, if any. */
static void dm_execute(struct dm *m, uint32_t by)
{
    for (uint32_t i = 0; i < m->n_flight; i++) {
        struct dm_request *r = &m->flight[i];
        if (r->state != DM_SENT || r->user != by)
            continue;
        if (m->inline_.batch > 0 && m->inline_.user == by && r->id > m->inline_.after)
            return; /* behind the WAIT */
        r->state = DM_EXECUTED;
        if (r->touch == DURABLE_WRITES && !r->failed) {
            r->shows = ++m->writes;
            for (uint32_t key = 0; key < DM_KEYS; key++)
                m->newest[key] = key == r->key || r->key == DM_KEYS ? m->writes : m->newest[key];
        } else if (r->touch != DURABLE_NOTHING) {
            for (uint32_t key = 0; key < DM_KEYS; key++)
                if ((key == r->key || r->key == DM_KEYS) && m->newest[key] > r->shows)
                    r->shows = m->newest[key];
        }
        return;
    }
}

/* The client is given the reply with that number. */
static void dm_give(struct dm *m, uint32_t by, uint32_t id, bool as_it_is)
{
    struct dm_user *u = &m->users[by];

    DM_CHECK(id == u->answered + 1);
    u->answered = id;
    if (as_it_is)
        DM_CHECK(dm_have(m, m->shows[by][id]) >= m->d.acks);
}

static void dm_step_all(struct dm *m)
{
    struct durable_step step;

    for (;;) {
        durable_step(&m->d, &step);
        if (step.fate == DURABLE_WAITS)
            return;
        if (!step.user)
            continue;
        uint32_t by = (uint32_t)((struct dm_user *)step.user - m->users), id = 0;
        DM_CHECK(step.reply.len == sizeof(id));
        memcpy(&id, step.reply.data, sizeof(id));
        DM_CHECK(step.note.arrived_us == id);
        DM_CHECK(step.request.len == (id % 2 ? 3 : 0));
        dm_give(m, by, id, step.fate == DURABLE_RELEASED);
        m->released += step.fate == DURABLE_RELEASED;
        m->shorts += step.fate == DURABLE_SHORT;
        m->gone += step.fate == DURABLE_GONE;
        DM_CHECK(step.fate != DURABLE_SHORT || step.note.touch != DURABLE_NOTHING);
    }
}

static void dm_reply(struct dm *m, uint32_t by)
{
    struct dm_user *u = &m->users[by];
    uint32_t i = 0;

    while (i < m->n_flight && m->flight[i].user != by)
        i++;
    if (i == m->n_flight || m->flight[i].state == DM_SENT)
        return;
    struct dm_request r = m->flight[i];
    m->n_flight--;
    memmove(&m->flight[i], &m->flight[i + 1], (m->n_flight - i) * sizeof(r));
    uint64_t batch = m->inline_.user == r.user && r.id <= m->inline_.after ? m->inline_.batch : 0;
    if (r.touch == DURABLE_WRITES && !r.failed)
        durable_unmark_inline(&m->d, dm_slot(r.key), batch);
    else if (r.touch == DURABLE_WRITES)
        durable_unmark(&m->d, dm_slot(r.key), false);
    uint64_t needs = r.touch == DURABLE_NOTHING               ? 0
                     : r.touch == DURABLE_WRITES && !r.failed ? durable_write_needs_inline(&m->d, batch)
                                                              : durable_read_needs(&m->d, dm_slot(r.key));
    bool untold = !m->d.on && needs == 0;
    m->shows[r.user][r.id] = r.touch == DURABLE_NOTHING || untold ? 0 : r.shows;
    if (needs == 0 && u->user.held == 0) {
        dm_give(m, r.user, r.id, true);
        return;
    }
    struct durable_note note = {.arrived_us = r.id, .touch = needs > 0 ? r.touch : DURABLE_NOTHING};
    DM_CHECK(durable_hold(&m->d, &u->user, needs, &note, (struct buf_span){"get", r.id % 2 ? 3 : 0},
                          (struct buf_span){(const char *)&r.id, sizeof(r.id)}) == 0);
}

static void dm_send(struct dm *m)
{
    uint32_t acks = 0;
    int conn = durable_send(&m->d, &acks);

    if (conn < 0)
        return;
    DM_CHECK(!m->waits[conn].under_way);
    m->waits[conn] = (struct dm_wait){.under_way = true, .acks = acks};
}

static void dm_wait_moves(struct dm *m, bool late)
{
    int conn = (int)dm_dice(m, DURABLE_CONNS);
    struct dm_wait *w = &m->waits[conn];

    if (!w->under_way)
        return;
    if (!w->executed) {
        w->executed = true;
        w->at = m->writes;
        return;
    }
    uint32_t n = dm_have(m, w->at);
    if (n < w->acks && !late)
        return;
    w->under_way = false;
    durable_acked(&m->d, conn, n);
    dm_step_all(m);
}

static void dm_begin_inline(struct dm *m)
{
    uint32_t by = dm_dice(m, DM_USERS), acks = 0;
    uint64_t batch = m->inline_.batch == 0 ? durable_begin_inline(&m->d, 1, &acks) : 0;

    if (batch == 0)
        return;
    m->inline_ =
        (struct dm_inline){.batch = batch, .user = by, .after = m->users[by].asked, .wait = {.acks = acks}};
    m->inlines++;
}

/* The marker is executed behind what was sent before it; WAIT's answer comes behind all of their replies; or
 * the connection breaks, once these have been read. */
static void dm_inline_moves(struct dm *m, uint32_t what)
{
    struct dm_inline *in = &m->inline_;
    bool sent = false, unread = false;

    if (in->batch == 0)
        return;
    for (uint32_t i = 0; i < m->n_flight; i++) {
        const struct dm_request *r = &m->flight[i];
        bool before = r->user == in->user && r->id <= in->after;
        unread = unread || before;
        sent = sent || (before && r->state == DM_SENT);
    }
    if (!in->wait.executed) {
        in->wait.executed = !sent;
        in->wait.at = m->writes;
        return;
    }
    uint32_t n = dm_have(m, in->wait.at);
    if (unread || (n < in->wait.acks && what > 0))
        return;
    if (what == 1)
        durable_lost_inline(&m->d, in->batch);
    else
        durable_acked_inline(&m->d, in->batch, n);
    in->batch = 0;
    dm_step_all(m);
}

static void dm_lose(struct dm *m)
{
    uint64_t before = durable_count(&m->d);

    durable_lost(&m->d);
    m->gone = 0;
    dm_step_all(m);
    DM_CHECK(m->gone <= before && durable_count(&m->d) == 0);
    for (uint32_t i = 0; i < m->n_flight; i++) {
        const struct dm_request *r = &m->flight[i];
        if (r->touch == DURABLE_WRITES)
            durable_unmark(&m->d, dm_slot(r->key), true);
        dm_give(m, r->user, r->id, false);
    }
    m->n_flight = 0;
    memset(m->waits, 0, sizeof(m->waits));
    m->inline_.batch = 0;
    if (dm_dice(m, 2) == 0) { /* another master, with whatever it has */
        durable_renew(&m->d);
        for (int i = 0; i < DM_REPLICAS; i++)
            m->has[i] = m->writes;
    }
}

static void dm_leave(struct dm *m)
{
    struct dm_user *u = &m->users[dm_dice(m, DM_USERS)];

    for (uint32_t i = 0; i < m->n_flight; i++)
        if (m->flight[i].user == (uint32_t)(u - m->users))
            return; /* its connection would go first */
    durable_leave(&m->d, &u->user);
    DM_CHECK(u->user.held == 0 && u->user.held_bytes == 0);
    u->answered = u->asked;
}

static void dm_move(struct dm *m)
{
    uint32_t what = dm_dice(m, 64);

    if (what < 18) {
        dm_ask(m);
    } else if (what < 30) {
        dm_execute(m, dm_dice(m, DM_USERS));
    } else if (what < 42) {
        dm_reply(m, dm_dice(m, DM_USERS));
    } else if (what < 48) {
        uint64_t *has = &m->has[dm_dice(m, DM_REPLICAS)];
        *has += *has < m->writes ? 1 + dm_dice(m, (uint32_t)(m->writes - *has > 200 ? 200 : m->writes - *has))
                                 : 0;
    } else if (what < 60) {
        dm_wait_moves(m, what == 59);
    } else if (what == 60) {
        dm_leave(m);
    } else if (what == 61 && dm_dice(m, 8) == 0) {
        dm_lose(m);
    } else if (what == 62 && dm_dice(m, 4) == 0) {
        durable_set(&m->d, !m->d.on, m->d.acks);
    } else if (what == 63 && !m->d.ready) {
        durable_opened(&m->d);
    }
    if (dm_dice(m, 4) == 0)
        dm_begin_inline(m);
    if (dm_dice(m, 4) == 0)
        dm_inline_moves(m, dm_dice(m, 16));
    dm_send(m);
}

/* Everything comes to its end: then nothing is held, and everybody has had all replies. */
static void dm_finish(struct dm *m)
{
    if (!m->d.ready)
        durable_opened(&m->d);
    while (m->n_flight > 0) {
        uint32_t by = m->flight[0].user;
        dm_execute(m, by);
        dm_reply(m, by);
        dm_inline_moves(m, 0);
        dm_send(m);
    }
    for (int i = 0; i < DM_REPLICAS; i++)
        m->has[i] = m->writes;
    dm_inline_moves(m, 0); /* it is executed, … */
    dm_inline_moves(m, 0); /* … and answered */
    for (int round = 0; round < 64 && durable_count(&m->d) > 0; round++) {
        dm_send(m);
        for (int conn = 0; conn < DURABLE_CONNS; conn++) {
            if (!m->waits[conn].under_way)
                continue;
            m->waits[conn].under_way = false;
            durable_acked(&m->d, conn, DM_REPLICAS);
            dm_step_all(m);
        }
    }
    DM_CHECK(durable_count(&m->d) == 0);
    DM_CHECK(m->d.marks_all == 0 && m->d.marks_any == 0);
    for (int i = 0; i < DM_USERS; i++)
        DM_CHECK(m->users[i].answered == m->users[i].asked);
}

/* What happened is added to *totals (NULL: nobody wants to know). */
static void durable_model_run(const uint8_t *dice, size_t n, struct dm *totals)
{
    struct dm *m = calloc(1, sizeof(*m));

    DM_CHECK(m != NULL);
    m->dice = dice;
    m->n = n;
    durable_set(&m->d, true, 1 + dm_dice(m, DM_REPLICAS));
    durable_opened(&m->d);
    for (int i = 0; i < DM_STEPS && !dm_is_over(m); i++)
        dm_move(m);
    if (totals) {
        totals->released += m->released;
        totals->shorts += m->shorts;
        totals->gone += m->gone;
        totals->inlines += m->inlines;
    }
    dm_finish(m);
    durable_free(&m->d);
    free(m);
}

#endif
