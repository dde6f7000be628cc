/* Links and polling; the orders are monitor_orders.c.
 *
 *   tick every 10 ms ─► next slot ─► its members: INFO replication      on_up ─► greeting ─► on_info
 */
#include "controller/monitor.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/redis_link.h"
#include "controller/monitor_member.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_MS = 10, SLOTS_MAX = 6000 };

struct monitor {
    struct loop *loop;
    struct monitor_config config;
    char client_name[TOPOLOGY_NAME_MAX + 16];
    ev_timer tick;
    struct list *slots; /* n_slots of them: interval_ms in steps of SLOT_MS */
    uint32_t n_slots, next_slot, next_home;
    uint32_t n_members;
};

struct loop *monitor_member_loop(const struct monitor_member *m)
{
    return m->monitor->loop;
}

int monitor_member_send(struct monitor_member *m,
                        void (*fn)(void *ctx, int err, const struct redisReply *reply), void *ctx, int argc,
                        const char *const *argv)
{
    return redis_link_command(m->link, fn, ctx, argc, argv);
}

/* ---- INFO -----------------------------------------------------------------------------------------------
 */

/* Parses into the member's info; false when the member refused or spoke nonsense (it lives, but tells
 * nothing). */
static bool monitor_take_info(struct monitor_member *m, int err, const redisReply *reply)
{
    if (err != 0)
        return false; /* the link's own on_down says it */
    if (reply->type == REDIS_REPLY_STRING && info_parse(reply->str, reply->len, &m->info) == 0)
        return true;
    if (!m->refusal_logged)
        log_warn(
            "event=member.info_refused member=\"%s\" say=\"%s\" next=\"give the controllers' user +info\"",
            m->label, reply->type == REDIS_REPLY_ERROR ? reply->str : "no INFO text");
    m->refusal_logged = true;
    return false;
}

static void monitor_on_section(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    if (monitor_take_info(m, err, reply) && m->info.run_id[0] != '\0')
        m->greeted = true;
}

static void monitor_on_replication(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    m->polling = false;
    if (monitor_take_info(m, err, reply) && m->greeted)
        m->monitor->config.on_info(m->owner, &m->info);
}

static void monitor_poll(struct monitor_member *m)
{
    static const char *const server[] = {"INFO", "server"}, *const persistence[] = {"INFO", "persistence"},
                             *const replication[] = {"INFO", "replication"};
    if (m->polling || !redis_link_is_up(m->link))
        return;
    int err = 0;
    if (!m->greeted) /* who it is, once a connection: a new process needs a new connection */
        err = redis_link_command(m->link, monitor_on_section, m, 2, server);
    if (err == 0 && (!m->greeted || m->info.loading))
        err = redis_link_command(m->link, monitor_on_section, m, 2, persistence);
    if (err == 0)
        err = redis_link_command(m->link, monitor_on_replication, m, 2, replication);
    m->polling = err == 0;
}

static void monitor_on_period_set(void *ctx, int err, const redisReply *reply)
{
    const struct monitor_member *m = ctx;
    if (err == 0 && reply->type == REDIS_REPLY_ERROR)
        log_info("event=member.config_refused member=\"%s\" setting=repl-ping-replica-period say=\"%s\"",
                 m->label, reply->str);
}

/* ---- link -----------------------------------------------------------------------------------------------
 */

static void monitor_on_up(void *ctx)
{
    /* The replicas' last_io means something only when the master speaks every second (safety.md §2). */
    static const char *const period[] = {"CONFIG", "SET", "repl-ping-replica-period", "1"};
    struct monitor_member *m = ctx;
    info_init(&m->info);
    m->greeted = m->polling = m->refusal_logged = false;
    /* Before the owner hears of it: whatever it orders is then answered after we know whom we talk to, and it
     * may even unwatch the member. */
    monitor_poll(m);
    if (redis_link_command(m->link, monitor_on_period_set, m, 4, period) != 0)
        log_debug("event=member.config_unsent member=\"%s\"", m->label);
    m->monitor->config.on_link_up(m->owner);
}

static void monitor_on_down(void *ctx, int reason, const char *text)
{
    struct monitor_member *m = ctx;
    m->greeted = m->polling = false;
    m->monitor->config.on_link_down(m->owner, reason, text);
}

void monitor_probe(struct monitor_member *member)
{
    if (redis_link_is_up(member->link))
        monitor_poll(member);
    else
        redis_link_nudge(member->link);
}

bool monitor_is_up(const struct monitor_member *member)
{
    return redis_link_is_up(member->link);
}

/* ---- polling --------------------------------------------------------------------------------------------
 */

static void monitor_on_tick(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct monitor *m = timer->data;
    (void)ev;
    (void)revents;
    list_for_each(node, &m->slots[m->next_slot]) monitor_poll(list_entry(node, struct monitor_member, node));
    m->next_slot = (m->next_slot + 1) % m->n_slots;
}

static void monitor_default(int *value, int otherwise)
{
    if (*value <= 0)
        *value = otherwise;
}

int monitor_open(struct monitor **out, struct loop *loop, const struct monitor_config *config)
{
    assert(out && loop && config && config->on_link_up && config->on_link_down && config->on_info);
    struct monitor *m = calloc(1, sizeof(*m));
    if (!m)
        return ERR_NOMEM;
    m->loop = loop;
    m->config = *config;
    monitor_default(&m->config.interval_ms, 1000);
    monitor_default(&m->config.connect_timeout_ms, 1000);
    monitor_default(&m->config.reply_timeout_ms, 1000);
    monitor_default(&m->config.reconnect_min_ms, 10);
    monitor_default(&m->config.reconnect_max_ms, 1000);
    snprintf(m->client_name, sizeof(m->client_name), "%s",
             config->client_name ? config->client_name : "mr-controller");
    m->n_slots = (uint32_t)(m->config.interval_ms + SLOT_MS - 1) / SLOT_MS;
    if (m->n_slots > SLOTS_MAX) {
        free(m);
        return ERR_INVALID;
    }
    m->slots = calloc(m->n_slots, sizeof(*m->slots));
    if (!m->slots) {
        free(m);
        return ERR_NOMEM;
    }
    for (uint32_t k = 0; k < m->n_slots; k++)
        list_init(&m->slots[k]);
    ev_timer_init(&m->tick, monitor_on_tick, SLOT_MS / 1000.0, SLOT_MS / 1000.0);
    m->tick.data = m;
    *out = m;
    return 0;
}

int monitor_watch(struct monitor *m, const char *label, const struct topology_address *address,
                  const struct topology_auth *auth, void *owner, struct monitor_member **out)
{
    assert(m && label && address && auth && out);
    struct monitor_member *member = calloc(1, sizeof(*member));
    if (!member)
        return ERR_NOMEM;
    member->monitor = m;
    member->owner = owner;
    member->auth = *auth;
    snprintf(member->label, sizeof(member->label), "%s", label);
    list_init(&member->orders);
    info_init(&member->info);
    struct redis_link_config link = {
        .address = *address,
        .auth = *auth,
        .client_name = m->client_name,
        .connect_timeout_ms = m->config.connect_timeout_ms,
        .reply_timeout_ms = m->config.reply_timeout_ms,
        .reconnect_min_ms = m->config.reconnect_min_ms,
        .reconnect_max_ms = m->config.reconnect_max_ms,
        .on_up = monitor_on_up,
        .on_down = monitor_on_down,
        .ctx = member,
    };
    int err = redis_link_open(&member->link, m->loop, &link);
    if (err != 0) {
        free(member);
        return err;
    }
    list_push_back(&m->slots[m->next_home], &member->node);
    /* 37 is prime to every interval of whole 10 ms but its own multiples: neighbours land far apart. */
    m->next_home = (m->next_home + 37) % m->n_slots;
    if (m->n_members++ == 0)
        ev_timer_again(loop_ev(m->loop), &m->tick);
    *out = member;
    return 0;
}

void monitor_unwatch(struct monitor_member *member)
{
    struct monitor *m = member->monitor;
    redis_link_close(member->link);
    monitor_orders_forget(member);
    list_remove(&member->node);
    if (--m->n_members == 0)
        ev_timer_stop(loop_ev(m->loop), &m->tick);
    loop_defer(m->loop, free, member); /* the tick may be looking at it */
}

void monitor_close(struct monitor *m)
{
    if (!m)
        return;
    for (uint32_t k = 0; k < m->n_slots; k++)
        while (!list_empty(&m->slots[k]))
            monitor_unwatch(list_entry(list_first(&m->slots[k]), struct monitor_member, node));
    ev_timer_stop(loop_ev(m->loop), &m->tick);
    free(m->slots);
    free(m);
}
