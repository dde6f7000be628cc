/* Who answers, how, and since when not.
 *
 *   tick ─► eager members in turn: PING ──► reply ─► word ─► on_heard, when it is a new one
 *     └───► wheel: who owed an answer MONITOR_MUTE_MS ago, and still does ─► on_mute ─► knocks
 *
 * A question's place in the wheel is the slot in which it becomes too old, so that a tick looks at those
 * alone; an answer in time takes the member out again.
 */
#include "common/log.h"
#include "common/loop.h"
#include "common/redis_link.h"
#include "controller/monitor_member.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdio.h>

enum { PERIOD_MIN_MS = 50, PERIOD_MAX_MS = 500 };

static const int64_t mute_limit_us = MONITOR_MUTE_MS * 1000;

void monitor_silence_init(struct monitor *m)
{
    list_init(&m->eager);
    for (uint32_t k = 0; k < MONITOR_WHEEL; k++)
        list_init(&m->wheel[k]);
}

void monitor_silence_init_member(struct monitor_member *m)
{
    list_init(&m->eager);
    list_init(&m->due);
    monitor_knock_init(m);
}

void monitor_silence_forget(struct monitor_member *m)
{
    monitor_set_eager(m, false);
    list_remove(&m->due);
    monitor_knock_stop(m);
}

/* ---- questions ------------------------------------------------------------------------------------------
 */

void monitor_silence_on_asked(struct monitor_member *m)
{
    struct monitor *monitor = m->monitor;
    int64_t since_us = redis_link_waiting_us(m->link);
    if (since_us == 0 || m->mute_us != 0 || !list_empty(&m->due))
        return;
    int64_t left_us = since_us + mute_limit_us - loop_now_us(monitor->loop);
    int64_t slots = left_us > 0 ? left_us / (MONITOR_SLOT_MS * 1000) + 1 : 1;
    assert(slots < MONITOR_WHEEL);
    list_push_back(&monitor->wheel[(monitor->wheel_at + (uint32_t)slots) % MONITOR_WHEEL], &m->due);
}

/* on_mute() may unwatch it. */
static void monitor_silence_begin(struct monitor_member *m, int64_t since_us)
{
    int64_t now_us = loop_now_us(m->monitor->loop);
    assert(m->mute_us == 0 && !m->gone && since_us > 0);
    m->mute_us = since_us < now_us ? since_us : now_us; /* an attempt that failed in this very turn */
    list_remove(&m->due);
    log_debug("event=member.mute member=\"%s\" for_ms=%d", m->label, (int)((now_us - m->mute_us) / 1000));
    monitor_knock_start(m);
    if (m->monitor->config.on_mute)
        m->monitor->config.on_mute(m->owner, m->mute_us);
}

static void monitor_silence_look(struct monitor *m)
{
    m->wheel_at = (m->wheel_at + 1) % MONITOR_WHEEL;
    struct list *slot = &m->wheel[m->wheel_at], *node;
    while ((node = list_first(slot)) != NULL) { /* not list_for_each: on_mute may unwatch any of them */
        struct monitor_member *member = list_entry(node, struct monitor_member, due);
        int64_t since_us = redis_link_waiting_us(member->link);
        list_remove(node);
        if (since_us == 0)
            continue;
        if (loop_now_us(m->loop) - since_us >= mute_limit_us)
            monitor_silence_begin(member, since_us);
        else
            monitor_silence_on_asked(member); /* that one was answered, a later one was not yet */
    }
}

static void monitor_silence_on_pong(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    m->pinging = false;
    if (err != 0)
        return;
    bool well = reply->type != REDIS_REPLY_ERROR;
    if (!monitor_silence_on_word(m, MONITOR_BY_PING, well ? HEALTH_SAID_OK : health_said_of(reply->str),
                                 well ? "" : reply->str))
        log_debug("event=member.unwatched member=\"%s\"", m->label);
}

void monitor_silence_ping(struct monitor_member *m)
{
    static const char *const ping[] = {"PING"};
    if (!m->pinging && redis_link_is_up(m->link))
        m->pinging = monitor_member_send(m, monitor_silence_on_pong, m, 1, ping) == 0;
}

/* In turn, a few a tick, never all at once: a burst fakes time-outs. */
static void monitor_silence_ping_next(struct monitor *m)
{
    uint32_t period_ms = m->n_eager * 1000 / MONITOR_PINGS_A_SECOND;
    period_ms = period_ms < PERIOD_MIN_MS ? PERIOD_MIN_MS : period_ms;
    period_ms = period_ms > PERIOD_MAX_MS ? PERIOD_MAX_MS : period_ms;
    m->credit += m->n_eager * MONITOR_SLOT_MS;
    for (; m->credit >= period_ms; m->credit -= period_ms) {
        struct list *node = list_first(&m->eager);
        if (!node) {
            m->credit = 0;
            return;
        }
        list_remove(node);
        list_push_back(&m->eager, node);
        monitor_silence_ping(list_entry(node, struct monitor_member, eager));
    }
}

void monitor_silence_on_tick(struct monitor *m)
{
    monitor_silence_look(m);
    monitor_silence_ping_next(m);
}

void monitor_set_eager(struct monitor_member *member, bool eager)
{
    struct monitor *m = member->monitor;
    if (eager == !list_empty(&member->eager))
        return;
    if (eager) {
        m->n_eager++;
        list_push_back(&m->eager, &member->eager);
    } else {
        m->n_eager--;
        list_remove(&member->eager);
    }
}

/* ---- answers --------------------------------------------------------------------------------------------
 */

/* A sign of life; true when it ends a silence. */
static bool monitor_silence_end(struct monitor_member *m)
{
    bool was_mute = m->mute_us != 0;
    m->mute_us = 0;
    if (was_mute)
        monitor_knock_stop(m);
    if (redis_link_waiting_us(m->link) == 0)
        list_remove(&m->due);
    else
        monitor_silence_on_asked(m);
    return was_mute;
}

static bool monitor_silence_tell(struct monitor_member *m, bool was_mute)
{
    static const struct monitor_word well = {.said = HEALTH_SAID_OK};
    const struct monitor_word *word = &well;
    for (int k = MONITOR_SOURCES; k-- > 0;)
        if (m->words[k].said != HEALTH_SAID_OK)
            word = &m->words[k];
    if (!was_mute && m->told == word->said)
        return true;
    m->told = word->said;
    if (m->monitor->config.on_heard)
        m->monitor->config.on_heard(m->owner, word->said, word->text);
    return !m->gone;
}

bool monitor_silence_on_reply(struct monitor_member *m)
{
    return !monitor_silence_end(m) || monitor_silence_tell(m, true);
}

bool monitor_silence_on_word(struct monitor_member *m, enum monitor_source by, enum health_said said,
                             const char *text)
{
    bool was_mute = monitor_silence_end(m);
    struct monitor_word *word = &m->words[by];
    if (word->said == said && !was_mute)
        return true;
    if (word->said != said)
        snprintf(word->text, sizeof(word->text), "%s", said == HEALTH_SAID_OK ? "" : text);
    word->said = said;
    return monitor_silence_tell(m, was_mute);
}

/* ---- the link -------------------------------------------------------------------------------------------
 */

bool monitor_silence_on_up(struct monitor_member *m)
{
    m->pinging = false;
    m->connected = true;
    return monitor_silence_on_word(m, MONITOR_BY_LOGIN, HEALTH_SAID_OK, "");
}

/* Nothing comes back, as opposed to an answer that we don't like. */
static bool monitor_silence_is_reason(int reason)
{
    return reason == ERR_TIMEOUT || reason == ERR_UNREACHABLE;
}

void monitor_silence_before_down(struct monitor_member *m, int reason)
{
    m->pinging = false;
    list_remove(&m->due);
    if (monitor_silence_is_reason(reason) || reason == ERR_IO || m->mute_us == 0)
        return; /* ERR_IO: a lack of our own, which tells nothing about the member */
    m->mute_us = 0;
    monitor_knock_stop(m);
}

void monitor_silence_after_down(struct monitor_member *m, int reason, const char *text)
{
    bool was_connected = m->connected;
    m->connected = false;
    if (monitor_silence_is_reason(reason) && m->mute_us == 0)
        monitor_silence_begin(m,
                              was_connected ? loop_now_us(m->monitor->loop) : redis_link_tried_us(m->link));
    else if (reason == ERR_AUTH && health_said_of(text) == HEALTH_SAID_MAXCLIENTS &&
             !monitor_silence_on_word(m, MONITOR_BY_LOGIN, HEALTH_SAID_MAXCLIENTS, text))
        log_debug("event=member.unwatched member=\"%s\"", m->label);
}
