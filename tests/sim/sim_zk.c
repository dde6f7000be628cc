/* A model of ZooKeeper: znodes with versions, atomic multis, ephemeral candidates, one-shot watches,
 * sessions.
 *
 * Requests and answers of a connection keep their order. A broken connection ends the requests under way for
 * the client at once; those already sent may still be done, until the session has moved to a new connection.
 */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    ZK_TICK_US = 100000,
    ZK_PING_US = SIM_SESSION_TIMEOUT_US / 6,
    ZK_SILENCE_US = SIM_SESSION_TIMEOUT_US * 2 / 3
};

static int zk_place(int client)
{
    return client; /* controllers and proxies are the first places of the network */
}

static struct zk_session_state *zk_find_session(struct sim_zk *zk, int64_t id)
{
    for (size_t i = 0; id != 0 && i < sizeof(zk->sessions) / sizeof(zk->sessions[0]); i++) {
        if (zk->sessions[i].id == id)
            return &zk->sessions[i];
    }
    return NULL;
}

static struct zk_candidate *zk_find_candidate(struct sim_zk *zk, uint64_t czxid)
{
    for (uint32_t i = 0; i < zk->n_candidates; i++) {
        if (zk->candidates[i].czxid == czxid)
            return &zk->candidates[i];
    }
    return NULL;
}

uint32_t sim_zk_controllers(const struct sim *s)
{
    uint32_t seen = 0, n = 0;
    for (size_t i = 0; i < sizeof(s->zk.sessions) / sizeof(s->zk.sessions[0]); i++) {
        const struct zk_session_state *session = &s->zk.sessions[i];
        if (session->id && session->client < SIM_CONTROLLERS && !(seen >> session->client & 1)) {
            seen |= 1u << session->client;
            n++;
        }
    }
    return n;
}

uint32_t sim_zk_proxies(const struct sim *s)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < sizeof(s->zk.sessions) / sizeof(s->zk.sessions[0]); i++) {
        const struct zk_session_state *session = &s->zk.sessions[i];
        if (session->id && session->client >= SIM_CONTROLLERS)
            bits |= 1u << (session->client - SIM_CONTROLLERS);
    }
    return bits;
}

bool sim_zk_candidate_leads(const struct sim *s, uint64_t czxid)
{
    return s->zk.n_candidates > 0 && s->zk.candidates[0].czxid == czxid;
}

/* ---- from the server to a client ----------------------------------------------------------------------- */

static void zk_tell_client(struct sim *s, int client, bool up, bool expired)
{
    if (client < SIM_CONTROLLERS)
        sim_controller_on_session(s, client, up, expired);
    else
        sim_proxy_on_session(s, client - SIM_CONTROLLERS, up);
}

static void zk_on_watch(struct sim *s, struct world_event *e)
{
    const struct zk_client *c = &s->zk.clients[e->who];
    if (e->who < SIM_CONTROLLERS && sim_controller_defers(s, e->who, e))
        return;
    if (!c->up || c->connection != e->gen)
        return;
    if (e->who < SIM_CONTROLLERS)
        sim_controller_on_watch(s, e->who, e->target);
    else
        sim_proxy_on_watch(s, e->who - SIM_CONTROLLERS, e->target);
}

/* instance -1: the election node. */
static void zk_fire_watch(struct sim *s, const struct zk_session_state *session, int instance)
{
    struct zk_client *c = &s->zk.clients[session->client];
    int64_t at = sim_network_at(s, SIM_PLACE_ZK, zk_place(session->client), &c->to_client_at);
    struct world_event *e = world_at(&s->world, at, zk_on_watch);
    e->who = session->client;
    e->target = instance;
    e->gen = session->connection;
}

static void zk_on_changed(struct sim *s, int instance)
{
    for (size_t i = 0; i < sizeof(s->zk.sessions) / sizeof(s->zk.sessions[0]); i++) {
        struct zk_session_state *session = &s->zk.sessions[i];
        if (session->id && session->watches[instance]) {
            session->watches[instance] = false;
            zk_fire_watch(s, session, instance);
        }
    }
}

static void zk_remove_candidate(struct sim *s, uint32_t k)
{
    struct sim_zk *zk = &s->zk;
    uint64_t czxid = zk->candidates[k].czxid;
    memmove(&zk->candidates[k], &zk->candidates[k + 1],
            (zk->n_candidates - k - 1) * sizeof(zk->candidates[0]));
    zk->n_candidates--;
    zk->zxid++;
    for (size_t i = 0; i < sizeof(zk->sessions) / sizeof(zk->sessions[0]); i++) {
        struct zk_session_state *session = &zk->sessions[i];
        if (session->id && session->watched == czxid) {
            session->watched = 0;
            zk_fire_watch(s, session, -1);
        }
    }
}

static void zk_end_session(struct sim *s, struct zk_session_state *session)
{
    int64_t id = session->id;
    world_trace(&s->world, "zk: session %lld of client %d ends", (long long)id, session->client);
    session->id = 0;
    if (session->client < SIM_CONTROLLERS)
        sim_votes_on_controllers(s);
    for (uint32_t k = s->zk.n_candidates; k-- > 0;) {
        if (s->zk.candidates[k].owner == id)
            zk_remove_candidate(s, k);
    }
}

/* ---- requests at the server ---------------------------------------------------------------------------- */

/* multi{check own election node, set at version}: all of it or nothing. */
static void zk_commit(struct sim *s, const struct zk_request *q, struct zk_reply *reply)
{
    struct zk_node *node = &s->zk.nodes[q->instance];
    if (!zk_find_candidate(&s->zk, q->czxid) && s->ablation != ABLATE_FENCE) {
        reply->err = ERR_DEPOSED;
        s->stats->refused_commits++;
    } else if (node->version != q->version && s->ablation != ABLATE_VERSION) {
        reply->err = ERR_BAD_VERSION;
        s->stats->refused_commits++;
    } else {
        struct zk_node before = *node;
        node->record = q->record;
        node->version++;
        node->revision = ++s->zk.zxid;
        invariants_on_commit(s, q, &before, sim_zk_candidate_leads(s, q->czxid));
        zk_on_changed(s, q->instance);
    }
    reply->version = node->version;
    reply->revision = node->revision;
}

static void zk_enlist(struct sim *s, const struct zk_session_state *session)
{
    struct sim_zk *zk = &s->zk;
    if (zk->n_candidates == sizeof(zk->candidates) / sizeof(zk->candidates[0])) {
        world_fail(&s->world, "election", "more candidates than controllers can explain");
        return;
    }
    zk->candidates[zk->n_candidates++] =
        (struct zk_candidate){.czxid = (uint64_t)++zk->zxid, .owner = session->id, .client = session->client};
}

static void zk_node_name(char out[ELECTION_NODE_MAX], uint64_t czxid)
{
    memset(out, 0, ELECTION_NODE_MAX);
    memcpy(out, "c_0000000000", 12);
    for (int i = 11; czxid; i--, czxid /= 10)
        out[i] = (char)('0' + czxid % 10);
}

static void zk_list(struct sim *s, struct zk_reply *reply)
{
    reply->n = s->zk.n_candidates;
    for (size_t i = 0; i < reply->n; i++) {
        size_t k = reply->n - 1 - i; /* any order is possible: not the order of creation */
        zk_node_name(reply->entries[i].node, s->zk.candidates[k].czxid);
        reply->entries[i].owner = s->zk.candidates[k].owner;
        reply->entries[i].czxid = s->zk.candidates[k].czxid;
    }
}

static void zk_serve(struct sim *s, struct zk_session_state *session, const struct zk_request *q,
                     struct zk_reply *reply)
{
    struct zk_node *node = q->instance >= 0 ? &s->zk.nodes[q->instance] : NULL;
    switch (q->op) {
    case ZK_OP_GET:
        session->watches[q->instance] |= q->watch;
        reply->record = node->record;
        reply->version = node->version;
        reply->revision = node->revision;
        break;
    case ZK_OP_COMMIT:
        zk_commit(s, q, reply);
        break;
    case ZK_OP_NOTE:
        reply->err = zk_find_candidate(&s->zk, q->czxid) ? 0 : ERR_DEPOSED;
        break;
    case ZK_OP_LIST:
        zk_list(s, reply);
        break;
    case ZK_OP_ENLIST:
        zk_enlist(s, session);
        break;
    case ZK_OP_EXISTS:
        if (zk_find_candidate(&s->zk, q->czxid))
            session->watched = q->czxid;
        else
            reply->err = ERR_NOT_FOUND;
        break;
    case ZK_OP_REMOVE:
        for (uint32_t k = 0; k < s->zk.n_candidates; k++) {
            if (s->zk.candidates[k].czxid == q->czxid) {
                zk_remove_candidate(s, k);
                break;
            }
        }
        break;
    case ZK_OP_PING:
    case ZK_OP_CONNECT:
        break;
    }
}

static void zk_on_answer(struct sim *s, struct world_event *e)
{
    struct zk_client *c = &s->zk.clients[e->who];
    if (e->who < SIM_CONTROLLERS && sim_controller_defers(s, e->who, e))
        return;
    if (!c->up || c->connection != e->gen)
        return;
    c->heard_us = s->world.now_us;
    for (int i = 0; i < SIM_PENDING; i++) {
        struct zk_pending p = c->pending[i];
        if (p.number != e->number)
            continue;
        c->pending[i].number = 0;
        if (p.op == ZK_OP_PING)
            return;
        if (e->who < SIM_CONTROLLERS)
            sim_controller_on_reply(s, e->who, &p, (const struct zk_reply *)e->data);
        else
            sim_proxy_on_reply(s, e->who - SIM_CONTROLLERS, &p, (const struct zk_reply *)e->data);
        return;
    }
}

static void zk_on_request(struct sim *s, struct world_event *e)
{
    const struct zk_request *q = (const struct zk_request *)e->data;
    struct zk_session_state *session = zk_find_session(&s->zk, e->x);
    if (!s->zk.up || !session || session->connection != e->gen)
        return; /* nobody there to do it; the client sees its connection break */
    session->heard_us = s->world.now_us;
    struct zk_reply *reply = (struct zk_reply *)malloc(sizeof(*reply));
    if (!reply)
        abort();
    reply->op = q->op;
    reply->err = 0;
    reply->n = 0;
    zk_serve(s, session, q, reply);
    struct zk_client *c = &s->zk.clients[q->client];
    int64_t at = sim_network_at(s, SIM_PLACE_ZK, zk_place(q->client), &c->to_client_at);
    struct world_event *answer = world_at(&s->world, at, zk_on_answer);
    answer->who = q->client;
    answer->gen = e->gen;
    answer->number = e->number;
    answer->data = reply;
}

bool sim_zk_send(struct sim *s, const struct zk_request *request)
{
    struct zk_client *c = &s->zk.clients[request->client];
    int slot = 0;
    while (slot < SIM_PENDING && c->pending[slot].number != 0)
        slot++;
    if (!c->up || slot == SIM_PENDING)
        return false;
    struct zk_request *copy = (struct zk_request *)malloc(sizeof(*copy));
    if (!copy)
        abort();
    if (request->op == ZK_OP_COMMIT)
        *copy = *request;
    else
        memcpy(copy, request, offsetof(struct zk_request, record));
    c->pending[slot] = (struct zk_pending){
        .number = ++c->numbers, .op = request->op, .instance = request->instance, .czxid = request->czxid};
    int64_t at = sim_network_at(s, zk_place(request->client), SIM_PLACE_ZK, &c->to_server_at);
    struct world_event *e = world_at(&s->world, at, zk_on_request);
    e->who = request->client;
    e->gen = c->connection;
    e->number = c->numbers;
    e->x = c->session;
    e->data = copy;
    return true;
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

void sim_zk_client_break(struct sim *s, int client)
{
    struct zk_client *c = &s->zk.clients[client];
    if (!c->up)
        return;
    world_trace(&s->world, "zk: client %d loses its connection", client);
    c->up = false;
    struct zk_pending pending[SIM_PENDING];
    memcpy(pending, c->pending, sizeof(pending));
    memset(c->pending, 0, sizeof(c->pending));
    struct zk_reply *lost = (struct zk_reply *)calloc(1, sizeof(*lost));
    if (!lost)
        abort();
    lost->err = ERR_CONNECTION;
    bool before = world_chance(&s->world, 500);
    if (before)
        zk_tell_client(s, client, false, false);
    for (int i = 0; i < SIM_PENDING; i++) {
        if (pending[i].number == 0 || pending[i].op == ZK_OP_PING)
            continue;
        lost->op = pending[i].op;
        if (client < SIM_CONTROLLERS)
            sim_controller_on_reply(s, client, &pending[i], lost);
        else
            sim_proxy_on_reply(s, client - SIM_CONTROLLERS, &pending[i], lost);
    }
    free(lost);
    if (!before)
        zk_tell_client(s, client, false, false);
}

/* Watches that fired, or would have, while the client was away. */
static void zk_move_session(struct sim *s, struct zk_session_state *session, uint32_t connection)
{
    session->connection = connection;
    session->heard_us = s->world.now_us;
}

static struct zk_session_state *zk_new_session(struct sim *s, int client, uint32_t connection)
{
    struct sim_zk *zk = &s->zk;
    for (size_t i = 0; i < sizeof(zk->sessions) / sizeof(zk->sessions[0]); i++) {
        if (zk->sessions[i].id != 0)
            continue;
        zk->sessions[i] = (struct zk_session_state){.id = ++zk->sessions_made,
                                                    .client = client,
                                                    .connection = connection,
                                                    .heard_us = s->world.now_us};
        return &zk->sessions[i];
    }
    return NULL; /* too many are waiting to expire: the client tries again */
}

static void zk_on_connected(struct sim *s, struct world_event *e)
{
    struct zk_client *c = &s->zk.clients[e->who];
    if (e->who < SIM_CONTROLLERS && sim_controller_defers(s, e->who, e))
        return;
    if (!c->connecting || c->connection != e->gen)
        return;
    c->connecting = false;
    if (!s->zk.up || e->x == 0)
        return;
    if (c->session != 0 && !zk_find_session(&s->zk, c->session)) {
        world_trace(&s->world, "zk: client %d learns that its session expired", e->who);
        c->session = 0;
        zk_tell_client(s, e->who, false, true);
        return;
    }
    c->session = e->x;
    c->up = true;
    c->heard_us = s->world.now_us;
    if (e->who < SIM_CONTROLLERS)
        sim_votes_on_controllers(s);
    zk_tell_client(s, e->who, true, false);
}

/* The connect request has reached the server. */
static void zk_on_connect(struct sim *s, struct world_event *e)
{
    struct zk_client *c = &s->zk.clients[e->who];
    if (!s->zk.up || c->connection != e->gen || !c->connecting)
        return;
    struct zk_session_state *session = zk_find_session(&s->zk, e->x);
    if (session)
        zk_move_session(s, session, e->gen);
    else if (e->x == 0)
        session = zk_new_session(s, e->who, e->gen);
    struct world_event *answer = world_at(
        &s->world, sim_network_at(s, SIM_PLACE_ZK, zk_place(e->who), &c->to_client_at), zk_on_connected);
    answer->who = e->who;
    answer->gen = e->gen;
    answer->x = session ? session->id : e->x;
}

static void zk_connect(struct sim *s, int client)
{
    struct zk_client *c = &s->zk.clients[client];
    c->connecting = true;
    c->connection++;
    c->heard_us = s->world.now_us;
    c->to_server_at = c->to_client_at = 0;
    int64_t at = sim_network_at(s, zk_place(client), SIM_PLACE_ZK, &c->to_server_at);
    struct world_event *e = world_at(&s->world, at, zk_on_connect);
    e->who = client;
    e->gen = c->connection;
    e->x = c->session;
}

/* The client library's own clock: pings, silence, reconnects. */
static void zk_on_client_tick(struct sim *s, struct world_event *e)
{
    struct zk_client *c = &s->zk.clients[e->who];
    const struct sim_controller *owner = e->who < SIM_CONTROLLERS ? &s->controllers[e->who] : NULL;
    if (owner && (!owner->alive || owner->life != e->gen))
        return;
    struct world_event *next = world_after(&s->world, ZK_PING_US, zk_on_client_tick);
    next->who = e->who;
    next->gen = e->gen;
    if (owner && owner->paused)
        return;
    int rate = owner ? owner->rate_permille : 1000; /* by its own clock */
    bool silent = (s->world.now_us - c->heard_us) * rate / 1000 > ZK_SILENCE_US;
    if (c->up && silent) {
        sim_zk_client_break(s, e->who);
    } else if (c->up) {
        struct zk_request ping;
        ping.op = ZK_OP_PING;
        ping.client = e->who;
        ping.instance = -1;
        ping.czxid = 0;
        (void)sim_zk_send(s, &ping); /* a full window counts as silence, soon */
    } else if ((!c->connecting || silent) && s->zk.up) {
        zk_connect(s, e->who);
    }
}

void sim_zk_client_start(struct sim *s, int client)
{
    struct zk_client *c = &s->zk.clients[client];
    uint32_t connection = c->connection + 1;
    memset(c, 0, sizeof(*c));
    c->connection = connection;
    struct world_event *e = world_after(&s->world, world_between(&s->world, 0, 20000), zk_on_client_tick);
    e->who = client;
    e->gen = client < SIM_CONTROLLERS ? s->controllers[client].life : 0;
}

void sim_zk_client_stop(struct sim *s, int client, bool cleanly)
{
    struct zk_client *c = &s->zk.clients[client];
    struct zk_session_state *session = zk_find_session(&s->zk, c->session);
    if (cleanly && session && s->zk.up)
        zk_end_session(s, session);
    c->up = c->connecting = false;
    c->connection++;
    c->session = 0;
    memset(c->pending, 0, sizeof(c->pending));
}

void sim_zk_touch(struct sim *s, int instance, bool auto_failover)
{
    struct zk_node *node = &s->zk.nodes[instance];
    if (!s->zk.up)
        return;
    world_trace(&s->world, "zk: an operator switches i%d's auto_failover %s", instance,
                auto_failover ? "on" : "off");
    node->record.policy.auto_failover = auto_failover;
    for (uint32_t k = 0; s->calm && k < node->record.n_members; k++)
        node->record.members[k].priority = TOPOLOGY_NEUTRAL;
    node->version++;
    node->revision = ++s->zk.zxid;
    zk_on_changed(s, instance);
}

void sim_zk_delete_leader(struct sim *s)
{
    if (!s->zk.up || s->zk.n_candidates == 0)
        return;
    world_trace(&s->world, "zk: an operator deletes the election node of c%d", s->zk.candidates[0].client);
    zk_remove_candidate(s, 0);
}

void sim_zk_expire(struct sim *s, int client)
{
    struct zk_session_state *session = zk_find_session(&s->zk, s->zk.clients[client].session);
    if (!session || !s->zk.up)
        return;
    zk_end_session(s, session);
    bool stopped =
        client < SIM_CONTROLLERS && (!s->controllers[client].alive || s->controllers[client].paused);
    if (!stopped)
        sim_zk_client_break(s, client);
}

static void zk_on_tick(struct sim *s, struct world_event *e)
{
    (void)e;
    (void)world_after(&s->world, ZK_TICK_US, zk_on_tick);
    for (size_t i = 0; s->zk.up && i < sizeof(s->zk.sessions) / sizeof(s->zk.sessions[0]); i++) {
        struct zk_session_state *session = &s->zk.sessions[i];
        if (session->id && s->world.now_us - session->heard_us > SIM_SESSION_TIMEOUT_US)
            zk_end_session(s, session);
    }
}

void sim_zk_set_up(struct sim *s, bool up)
{
    if (s->zk.up == up)
        return;
    world_trace(&s->world, "zk: %s", up ? "is back" : "goes away");
    s->zk.up = up;
    for (size_t i = 0; up && i < sizeof(s->zk.sessions) / sizeof(s->zk.sessions[0]); i++)
        s->zk.sessions[i].heard_us = s->world.now_us; /* a restarted server grants each a fresh time-out */
    for (int k = 0; !up && k < SIM_ZK_CLIENTS; k++) {
        if (k >= SIM_CONTROLLERS || (s->controllers[k].alive && !s->controllers[k].paused))
            sim_zk_client_break(s, k);
        else if (s->controllers[k].alive && s->zk.clients[k].up)
            s->zk.clients[k].connection++; /* it learns that when it goes on: nothing comes any more */
    }
}

void sim_zk_create(struct sim *s)
{
    memset(&s->zk, 0, sizeof(s->zk));
    s->zk.up = true;
    s->zk.zxid = 1;
    (void)world_after(&s->world, ZK_TICK_US, zk_on_tick);
}
