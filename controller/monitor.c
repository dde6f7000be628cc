/* Links and polling; orders are monitor_orders.c, silence monitor_silence.c.
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
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_MAX = 6000, POLLS_PER_MEMORY = 10 };

struct loop *monitor_member_loop(const struct monitor_member *m)
{
    return m->monitor->loop;
}

int monitor_member_send(struct monitor_member *m,
                        void (*fn)(void *ctx, int err, const struct redisReply *reply), void *ctx, int argc,
                        const char *const *argv)
{
    int err = redis_link_command(m->link, fn, ctx, argc, argv);
    if (err == 0)
        monitor_silence_on_asked(m);
    return err;
}

/* ---- INFO -----------------------------------------------------------------------------------------------
 */

/* A refusal that does not pass by itself; PING tells of the others. */
static enum health_said monitor_said_of_info(const redisReply *reply)
{
    enum health_said said = reply->type == REDIS_REPLY_ERROR ? health_said_of(reply->str) : HEALTH_SAID_OTHER;
    return said == HEALTH_SAID_NOAUTH || said == HEALTH_SAID_OTHER ? said : HEALTH_SAID_OK;
}

/* Parses into the member's info; false when the member refused or spoke nonsense (it lives, but tells
 * nothing), or the owner unwatched it. */
static bool monitor_take_info(struct monitor_member *m, int err, const redisReply *reply)
{
    if (err != 0)
        return false; /* the link's own on_down says it */
    if (reply->type == REDIS_REPLY_STRING && info_parse(reply->str, reply->len, &m->info) == 0)
        return monitor_silence_on_word(m, MONITOR_BY_INFO, HEALTH_SAID_OK, "");
    const char *text = reply->type == REDIS_REPLY_ERROR ? reply->str : "no INFO text";
    enum health_said said = monitor_said_of_info(reply);
    if (!monitor_silence_on_word(m, MONITOR_BY_INFO, said, text))
        return false;
    if (!m->refusal_logged && said != HEALTH_SAID_OK)
        log_warn(
            "event=member.info_refused member=\"%s\" say=\"%s\" next=\"give the controllers' user +info\"",
            m->label, text);
    m->refusal_logged |= said != HEALTH_SAID_OK;
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

/* After the replication section of the same poll: only of a master it means something. */
static void monitor_on_memory(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    char text[MONITOR_SAID_MAX + 1];
    if (err != 0)
        return;
    bool known = reply->type == REDIS_REPLY_STRING && info_parse(reply->str, reply->len, &m->info) == 0;
    bool full = known && info_is_out_of_memory(&m->info);
    snprintf(text, sizeof(text), "%" PRIi64 " of %" PRIi64 " bytes are used and nothing may be evicted",
             m->info.used_memory, m->info.max_memory);
    if (!monitor_silence_on_word(m, MONITOR_BY_MEMORY, full ? HEALTH_SAID_OOM : HEALTH_SAID_OK, text))
        log_debug("event=member.unwatched member=\"%s\"", m->label);
}

static void monitor_poll(struct monitor_member *m)
{
    static const char *const server[] = {"INFO", "server"}, *const persistence[] = {"INFO", "persistence"},
                             *const replication[] = {"INFO", "replication"},
                             *const memory[] = {"INFO", "memory"};
    if (m->polling || !redis_link_is_up(m->link))
        return;
    int err = 0;
    if (list_empty(&m->eager))
        monitor_silence_ping(m); /* an eager member has its own turns */
    if (!m->greeted)             /* who it is, once a connection: a new process needs a new connection */
        err = monitor_member_send(m, monitor_on_section, m, 2, server);
    if (err == 0 && (!m->greeted || m->info.loading))
        err = monitor_member_send(m, monitor_on_section, m, 2, persistence);
    if (err == 0)
        err = monitor_member_send(m, monitor_on_replication, m, 2, replication);
    m->polling = err == 0;
    if (err == 0 && m->polls++ % POLLS_PER_MEMORY == 0) {
        err = monitor_member_send(m, monitor_on_memory, m, 2, memory);
        if (err == 0 && !m->every_second)
            err = monitor_settings_set_period(m);
    }
    if (err != 0)
        log_debug("event=member.poll_unsent member=\"%s\" say=\"%s\"", m->label, err_text(err));
}

/* ---- link -----------------------------------------------------------------------------------------------
 */

static void monitor_on_up(void *ctx)
{
    struct monitor_member *m = ctx;
    info_init(&m->info);
    m->greeted = m->polling = m->refusal_logged = m->every_second = m->period_logged = false;
    m->polls = 0;
    /* Before the owner hears of it: whatever it orders is then answered after we know whom we talk to, and it
     * may even unwatch the member. */
    monitor_poll(m);
    monitor_settings_on_up(m);
    if (monitor_silence_on_up(m))
        m->monitor->config.on_link_up(m->owner);
}

static void monitor_on_down(void *ctx, int reason, const char *text)
{
    struct monitor_member *m = ctx;
    m->greeted = m->polling = false;
    monitor_silence_before_down(m, reason);
    m->monitor->config.on_link_down(m->owner, reason, text);
    if (!m->gone)
        monitor_silence_after_down(m, reason, text);
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
    monitor_silence_on_tick(m);
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
    monitor_default(&m->config.reply_timeout_ms, 5000);
    monitor_default(&m->config.reconnect_min_ms, 10);
    monitor_default(&m->config.reconnect_max_ms, 1000);
    snprintf(m->client_name, sizeof(m->client_name), "%s",
             config->client_name ? config->client_name : "mr-controller");
    m->n_slots = (uint32_t)(m->config.interval_ms + MONITOR_SLOT_MS - 1) / MONITOR_SLOT_MS;
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
    ev_timer_init(&m->tick, monitor_on_tick, MONITOR_SLOT_MS / 1000.0, MONITOR_SLOT_MS / 1000.0);
    m->tick.data = m;
    ev_set_priority(&m->tick, EV_MINPRI); /* answers that are here already are read before it judges */
    monitor_silence_init(m);
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
    member->address = *address;
    snprintf(member->label, sizeof(member->label), "%s", label);
    list_init(&member->orders);
    list_init(&member->fences);
    info_init(&member->info);
    monitor_silence_init_member(member);
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
    assert(!member->gone);
    member->gone = true;
    monitor_silence_forget(member);
    redis_link_close(member->link);
    monitor_orders_forget(member);
    monitor_fences_forget(member);
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
