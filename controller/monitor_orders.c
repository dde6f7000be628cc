/* Orders to a member: each is one write of a few commands, answered by the reply to the last of them.
 *
 *   MULTI ─ [CLIENT PAUSE] ─ REPLICAOF … ─ INFO replication ─ EXEC ─► [ …, +OK, "role:…" ] ─► done(err, info,
 * text)
 */
#include "common/log.h"
#include "common/loop.h"
#include "controller/monitor_member.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct monitor_order {
    struct list node;              /* in member->orders */
    struct monitor_member *member; /* NULL: unwatched meanwhile */
    enum info_role wanted;         /* what EXEC's INFO must say; UNKNOWN: a plain command */
    size_t n_replies;              /* EXEC's; INFO's text is the last of them */
    monitor_done_fn done;
    void *ctx;
    int err;                     /* decided before the last reply */
    char text[MONITOR_TEXT_MAX]; /* the first refusal's words */
};

static struct monitor_order *monitor_order_new(struct monitor_member *m, enum info_role wanted,
                                               monitor_done_fn done, void *ctx)
{
    struct monitor_order *o = calloc(1, sizeof(*o));
    if (!o) { /* the caller counts on exactly one answer */
        log_error(
            "event=monitor.no_memory member=\"%s\" next=\"this controller ends; another one takes over\"",
            m->label);
        abort();
    }
    o->member = m;
    o->wanted = wanted;
    o->done = done;
    o->ctx = ctx;
    list_push_back(&m->orders, &o->node);
    return o;
}

static void monitor_order_end(struct monitor_order *o, int err, const struct info *info)
{
    list_remove(&o->node);
    o->done(o->ctx, err, info, err == 0 ? "" : o->text);
    free(o);
}

void monitor_orders_forget(struct monitor_member *m)
{
    list_for_each(node, &m->orders)
    {
        struct monitor_order *o = list_entry(node, struct monitor_order, node);
        list_remove(&o->node);
        o->member = NULL;
        if (o->err != ERR_CONNECTION)
            free(o); /* its replies can't come any more; an unsent one still waits for the loop */
    }
}

static void monitor_order_note(struct monitor_order *o, int err, const char *text)
{
    if (o->err == 0 || o->text[0] == '\0')
        snprintf(o->text, sizeof(o->text), "%s", text);
    if (o->err == 0)
        o->err = err;
}

static void monitor_on_unsent(void *ctx)
{
    struct monitor_order *o = ctx;
    if (o->member)
        monitor_order_end(o, ERR_CONNECTION, NULL);
    else
        free(o);
}

static void monitor_order_fail_later(struct monitor_order *o)
{
    o->err = ERR_CONNECTION;
    snprintf(o->text, sizeof(o->text), "not connected");
    if (loop_wake(monitor_member_loop(o->member), monitor_on_unsent, o) != 0)
        abort(); /* out of memory: see monitor_order_new */
}

/* Any reply is a sign of life; false when the owner, told so, unwatched the member: the order is gone then.
 */
static bool monitor_order_heard(const struct monitor_order *o, int err)
{
    return err != 0 || monitor_silence_on_reply(o->member);
}

/* The replies before the last one: a refusal makes EXEC fail, but its words are here. */
static void monitor_on_step(void *ctx, int err, const redisReply *reply)
{
    struct monitor_order *o = ctx;
    if (monitor_order_heard(o, err) && err == 0 && reply->type == REDIS_REPLY_ERROR)
        monitor_order_note(o, ERR_REPLY, reply->str);
}

/* Reads the INFO text that an order ends with; notes what is wrong with it. */
static void monitor_order_take_info(struct monitor_order *o, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR)
        monitor_order_note(o, ERR_REPLY, reply->str);
    else if (reply->type != REDIS_REPLY_STRING || info_parse(reply->str, reply->len, &o->member->info) != 0)
        monitor_order_note(o, ERR_PROTOCOL, "INFO did not answer with its text");
    else if (o->wanted != INFO_ROLE_UNKNOWN && o->member->info.role != o->wanted)
        monitor_order_note(o, ERR_REPLY, "accepted, but its role did not change");
}

static void monitor_on_exec(void *ctx, int err, const redisReply *reply)
{
    struct monitor_order *o = ctx;
    const struct monitor_member *m = o->member;
    if (!monitor_order_heard(o, err))
        return;
    if (err != 0) {
        o->err = err;
        monitor_order_note(o, err, err_text(err));
    } else if (reply->type == REDIS_REPLY_ERROR) {
        monitor_order_note(o, ERR_REPLY, reply->str);
    } else if (reply->type != REDIS_REPLY_ARRAY || reply->elements != o->n_replies) {
        monitor_order_note(o, ERR_PROTOCOL, "EXEC did not answer each of its commands");
    } else {
        for (size_t k = 0; k + 1 < reply->elements; k++)
            if (reply->element[k]->type == REDIS_REPLY_ERROR)
                monitor_order_note(o, ERR_REPLY, reply->element[k]->str);
        monitor_order_take_info(o, reply->element[reply->elements - 1]);
    }
    monitor_order_end(o, o->err, o->err == 0 ? &m->info : NULL);
}

/* pause_ms 0: without a pause. */
static void monitor_transact(struct monitor_member *m, int64_t pause_ms, const char *host, const char *port,
                             enum info_role wanted, monitor_done_fn done, void *ctx)
{
    static const char *const multi[] = {"MULTI"}, *const info[] = {"INFO", "replication"},
                             *const exec[] = {"EXEC"};
    char limit[24];
    const char *const replicaof[] = {"REPLICAOF", host, port};
    const char *const pause[] = {"CLIENT", "PAUSE", limit, "WRITE"};
    struct monitor_order *o = monitor_order_new(m, wanted, done, ctx);
    o->n_replies = pause_ms > 0 ? 3 : 2;
    snprintf(limit, sizeof(limit), "%" PRIi64, pause_ms);
    /* All or nothing: the link is either up for all of them or for none. */
    if (monitor_member_send(m, monitor_on_step, o, 1, multi) != 0) {
        monitor_order_fail_later(o);
        return;
    }
    int err = pause_ms > 0 ? monitor_member_send(m, monitor_on_step, o, 4, pause) : 0;
    if (err == 0)
        err = monitor_member_send(m, monitor_on_step, o, 3, replicaof);
    if (err == 0)
        err = monitor_member_send(m, monitor_on_step, o, 2, info);
    if (err == 0)
        err = monitor_member_send(m, monitor_on_exec, o, 1, exec);
    assert(err == 0);
    (void)err;
}

void monitor_seal(struct monitor_member *member, monitor_done_fn done, void *ctx)
{
    monitor_transact(member, 0, "127.0.0.1", "1", INFO_ROLE_REPLICA, done, ctx);
}

void monitor_promote(struct monitor_member *member, monitor_done_fn done, void *ctx)
{
    monitor_transact(member, 0, "NO", "ONE", INFO_ROLE_MASTER, done, ctx);
}

void monitor_donate(struct monitor_member *member, int64_t limit_ms, monitor_done_fn done, void *ctx)
{
    assert(limit_ms > 0);
    monitor_transact(member, limit_ms, "NO", "ONE", INFO_ROLE_MASTER, done, ctx);
}

/* ---- pauses ---------------------------------------------------------------------------------------------
 */

static void monitor_on_paused_info(void *ctx, int err, const redisReply *reply)
{
    struct monitor_order *o = ctx;
    if (!monitor_order_heard(o, err))
        return;
    if (err != 0) {
        o->err = err;
        monitor_order_note(o, err, err_text(err));
    } else {
        monitor_order_take_info(o, reply);
    }
    monitor_order_end(o, o->err, o->err == 0 ? &o->member->info : NULL);
}

void monitor_pause(struct monitor_member *member, int64_t limit_ms, monitor_done_fn done, void *ctx)
{
    static const char *const info[] = {"INFO", "replication"};
    char limit[24];
    const char *const pause[] = {"CLIENT", "PAUSE", limit, "WRITE"};
    struct monitor_order *o = monitor_order_new(member, INFO_ROLE_UNKNOWN, done, ctx);
    assert(limit_ms > 0);
    snprintf(limit, sizeof(limit), "%" PRIi64, limit_ms);
    if (monitor_member_send(member, monitor_on_step, o, 4, pause) != 0) {
        monitor_order_fail_later(o);
        return;
    }
    int err = monitor_member_send(member, monitor_on_paused_info, o, 2, info);
    assert(err == 0);
    (void)err;
}

static void monitor_on_unpaused(void *ctx, int err, const redisReply *reply)
{
    struct monitor_member *m = ctx;
    if (err != 0 || !monitor_silence_on_reply(m))
        return;
    if (reply->type == REDIS_REPLY_ERROR)
        log_warn("event=member.unpause_refused member=\"%s\" say=\"%s\" next=\"its pause ends by itself\"",
                 m->label, reply->str);
}

void monitor_unpause(struct monitor_member *member)
{
    static const char *const unpause[] = {"CLIENT", "UNPAUSE"};
    if (monitor_member_send(member, monitor_on_unpaused, member, 2, unpause) != 0)
        log_info("event=member.unpause_unsent member=\"%s\" next=\"its pause ends by itself\"",
                 member->label);
}

/* ---- replicating ----------------------------------------------------------------------------------------
 */

static void monitor_on_auth_set(void *ctx, int err, const redisReply *reply)
{
    const struct monitor_order *o = ctx;
    if (monitor_order_heard(o, err) && err == 0 && reply->type == REDIS_REPLY_ERROR)
        log_warn("event=member.config_refused member=\"%s\" setting=masterauth say=\"%s\" next=\"set "
                 "masteruser and "
                 "masterauth in its configuration, or it can't replicate\"",
                 o->member->label, reply->str);
}

static void monitor_on_replicaof(void *ctx, int err, const redisReply *reply)
{
    struct monitor_order *o = ctx;
    if (!monitor_order_heard(o, err))
        return;
    if (err != 0)
        monitor_order_note(o, err, err_text(err));
    else if (reply->type == REDIS_REPLY_ERROR)
        monitor_order_note(o, ERR_REPLY, reply->str);
    monitor_order_end(o, o->err, NULL);
}

void monitor_replicate(struct monitor_member *member, const struct topology_address *target,
                       monitor_done_fn done, void *ctx)
{
    char port[8];
    const char *const user[] = {"CONFIG", "SET", "masteruser", member->auth.user};
    const char *const password[] = {"CONFIG", "SET", "masterauth", member->auth.password};
    const char *const replicaof[] = {"REPLICAOF", target->host, port};
    struct monitor_order *o = monitor_order_new(member, INFO_ROLE_UNKNOWN, done, ctx);
    snprintf(port, sizeof(port), "%u", target->port);
    int err = 0;
    if (member->auth.password[0] != '\0') {
        err = monitor_member_send(member, monitor_on_auth_set, o, 4, user);
        if (err == 0)
            err = monitor_member_send(member, monitor_on_auth_set, o, 4, password);
    }
    if (err == 0)
        err = monitor_member_send(member, monitor_on_replicaof, o, 3, replicaof);
    if (err != 0)
        monitor_order_fail_later(o);
}
