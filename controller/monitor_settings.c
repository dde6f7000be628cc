/* Settings that members need so that their silence means something, and those of the instance's policy.
 *
 *   each new connection ─► repl-ping-replica-period 1 · lua-time-limit ≤ 2 s · min-replicas-* (when asked
 * for)
 *
 * A refusal (a renamed CONFIG, an ACL) is said once a connection and tolerated. */
#include "common/log.h"
#include "controller/monitor_member.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

/* While a script runs a server answers nobody until this is over (then -BUSY, and pings its replicas again):
 * with Redis' own 5 s a script of 4 s could not be told from a hung process (hung_after_ms is 3 s). */
enum { SCRIPT_SILENCE_MAX_MS = 2000 };

static void monitor_settings_on_period(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    if (err != 0 || !monitor_silence_on_reply(m))
        return;
    m->every_second = reply->type != REDIS_REPLY_ERROR;
    if (!m->every_second && !m->period_logged)
        log_info("event=member.config_refused member=\"%s\" setting=repl-ping-replica-period say=\"%s\"",
                 m->label, reply->str);
    m->period_logged |= !m->every_second;
    if (m->monitor->config.on_pings)
        m->monitor->config.on_pings(m->owner, m->every_second);
}

int monitor_settings_set_period(struct monitor_member *m)
{
    static const char *const period[] = {"CONFIG", "SET", "repl-ping-replica-period", "1"};
    return monitor_member_send(m, monitor_settings_on_period, m, 4, period);
}

static void monitor_settings_on_set(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    if (err != 0 || !monitor_silence_on_reply(m) || reply->type != REDIS_REPLY_ERROR)
        return;
    log_warn("event=member.config_refused member=\"%s\" say=\"%s\" next=\"allow the controllers' user CONFIG "
             "SET, or "
             "set it in that server's configuration\"",
             m->label, reply->str);
}

static void monitor_settings_on_script_limit(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    char text[16];
    const char *const set[] = {"CONFIG", "SET", "lua-time-limit", text};
    if (err != 0 || !monitor_silence_on_reply(m) || reply->type != REDIS_REPLY_ARRAY ||
        reply->elements != 2 || reply->element[1]->type != REDIS_REPLY_STRING)
        return;
    long limit_ms = strtol(reply->element[1]->str, NULL, 10);
    if (limit_ms > 0 && limit_ms <= SCRIPT_SILENCE_MAX_MS)
        return;
    snprintf(text, sizeof(text), "%d", SCRIPT_SILENCE_MAX_MS);
    log_info("event=member.config_set member=\"%s\" setting=lua-time-limit from_ms=%ld to_ms=%s", m->label,
             limit_ms, text);
    if (monitor_member_send(m, monitor_settings_on_set, m, 4, set) != 0)
        log_debug("event=member.config_unsent member=\"%s\"", m->label);
}

static int monitor_settings_send_min_replicas(struct monitor_member *m)
{
    char replicas[16], lag_s[16];
    const char *const set_replicas[] = {"CONFIG", "SET", "min-replicas-to-write", replicas};
    const char *const set_lag[] = {"CONFIG", "SET", "min-replicas-max-lag", lag_s};
    snprintf(replicas, sizeof(replicas), "%u", m->min_replicas);
    snprintf(lag_s, sizeof(lag_s), "%u", m->max_lag_s);
    int err = monitor_member_send(m, monitor_settings_on_set, m, 4, set_lag);
    return err == 0 ? monitor_member_send(m, monitor_settings_on_set, m, 4, set_replicas) : err;
}

void monitor_settings_on_up(struct monitor_member *m)
{
    static const char *const get[] = {"CONFIG", "GET", "lua-time-limit"};
    int err = monitor_member_send(m, monitor_settings_on_script_limit, m, 3, get);
    if (err == 0 && m->min_replicas > 0)
        err = monitor_settings_send_min_replicas(m);
    if (err != 0)
        log_debug("event=member.config_unsent member=\"%s\"", m->label);
}

void monitor_set_min_replicas(struct monitor_member *member, uint32_t min_replicas, uint32_t max_lag_s)
{
    if (member->min_replicas == min_replicas && (min_replicas == 0 || member->max_lag_s == max_lag_s))
        return;
    member->min_replicas = min_replicas;
    member->max_lag_s = max_lag_s;
    if (monitor_is_up(member) && monitor_settings_send_min_replicas(member) != 0)
        log_debug("event=member.config_unsent member=\"%s\"", member->label);
}
