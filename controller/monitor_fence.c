/* The fence's order to a member: sends what core/fence.h says, a round after the other.
 *
 *   round ─► commands, together ─► replies, the last one ─► next round, or done(err, open, text)
 *
 * Not in a transaction with REPLICAOF: a server that doesn't let us change its ACL would refuse both. */
#include "common/log.h"
#include "common/loop.h"
#include "controller/monitor_member.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct monitor_fence {
    struct list node;              /* in member->fences */
    struct monitor_member *member; /* NULL: unwatched meanwhile */
    struct fence fence;
    monitor_fenced_fn done;
    void *ctx;
    uint32_t n_left; /* replies that are still to come */
    bool unsent;
    int err;
    char text[MONITOR_TEXT_MAX];
};

static void fence_finish(struct monitor_fence *o)
{
    list_remove(&o->node);
    o->done(o->ctx, o->err, o->fence.open, o->err == 0 ? "" : o->text);
    free(o);
}

static void fence_note(struct monitor_fence *o, int err, const char *text)
{
    if (o->err != 0)
        return;
    o->err = err;
    (void)snprintf(o->text, sizeof(o->text), "%s", text);
}

void monitor_fences_forget(struct monitor_member *m)
{
    list_for_each(node, &m->fences)
    {
        struct monitor_fence *o = list_entry(node, struct monitor_fence, node);
        list_remove(&o->node);
        o->member = NULL;
        if (!o->unsent)
            free(o); /* its replies can't come any more; an unsent one still waits for the loop */
    }
}

static void fence_on_unsent(void *ctx)
{
    struct monitor_fence *o = ctx;
    if (o->member)
        fence_finish(o);
    else
        free(o);
}

static void fence_finish_later(struct monitor_fence *o)
{
    o->unsent = true;
    fence_note(o, ERR_CONNECTION, "not connected");
    if (loop_wake(monitor_member_loop(o->member), fence_on_unsent, o) != 0)
        abort(); /* out of memory: see monitor_fence() */
}

/* False when the owner, told of the sign of life, unwatched the member: the order is gone then. */
static bool fence_heard(struct monitor_fence *o, int err, const redisReply *reply)
{
    if (err == 0 && !monitor_silence_on_reply(o->member))
        return false;
    if (err != 0)
        fence_note(o, err, err_text(err));
    else if (reply->type == REDIS_REPLY_ERROR)
        fence_note(o, ERR_REPLY, reply->str);
    return true;
}

static bool fence_send(struct monitor_fence *o);

/* A reply was heard, and taken: the last one of its round ends it. */
static void fence_on_taken(struct monitor_fence *o)
{
    if (--o->n_left > 0)
        return;
    if (o->err == 0 && fence_next(&o->fence) && fence_send(o))
        return;
    if (o->err == 0 && o->fence.err != 0)
        fence_note(o, o->fence.err, o->fence.why);
    fence_finish(o);
}

static void fence_on_changed(void *ctx, int err, const redisReply *reply)
{
    if (fence_heard(ctx, err, reply))
        fence_on_taken(ctx);
}

static void fence_on_list(void *ctx, int err, const redisReply *reply)
{
    struct monitor_fence *o = ctx;
    if (!fence_heard(o, err, reply))
        return;
    if (o->err == 0 && reply->type != REDIS_REPLY_ARRAY)
        fence_note(o, ERR_PROTOCOL, "ACL LIST did not answer with a list");
    for (size_t k = 0; o->err == 0 && k < reply->elements; k++)
        if (reply->element[k]->type == REDIS_REPLY_STRING)
            fence_take(&o->fence, reply->element[k]->str, reply->element[k]->len);
    fence_on_taken(o);
}

static void fence_on_id(void *ctx, int err, const redisReply *reply)
{
    struct monitor_fence *o = ctx;
    if (!fence_heard(o, err, reply))
        return;
    if (o->err == 0 && reply->type != REDIS_REPLY_INTEGER)
        fence_note(o, ERR_PROTOCOL, "CLIENT ID did not answer with a number");
    else if (o->err == 0)
        fence_take_id(&o->fence, (uint64_t)reply->integer);
    fence_on_taken(o);
}

/* The round's commands. False: none could be sent; a connection that ends in the midst of them tells so with
 * each reply that is awaited. */
static bool fence_send(struct monitor_fence *o)
{
    static void (*const takers[])(void *ctx, int err, const redisReply *reply) = {
        [FENCE_ANSWER_DONE] = fence_on_changed,
        [FENCE_ANSWER_ID] = fence_on_id,
        [FENCE_ANSWER_LIST] = fence_on_list,
    };
    struct fence_command c;
    if (o->fence.round == FENCE_CHANGE)
        log_info("event=member.fencing member=\"%s\" login=%s keep=%s made=%s removed=%u", o->member->label,
                 o->fence.login, o->fence.order.keep ? "yes" : "no", o->fence.makes ? "yes" : "no",
                 o->fence.n_stale);
    while (fence_command(&o->fence, &c)) {
        int err = monitor_member_send(o->member, takers[c.answer], o, c.argc, c.argv);
        if (err == 0)
            o->n_left++;
        else
            fence_note(o, err, err_text(err));
    }
    return o->n_left > 0;
}

void monitor_fence(struct monitor_member *member, const struct fence_order *order, monitor_fenced_fn done,
                   void *ctx)
{
    struct monitor_fence *o = calloc(1, sizeof(*o));
    assert(order && done);
    if (!o) { /* the caller counts on exactly one answer */
        log_error(
            "event=monitor.no_memory member=\"%s\" next=\"this controller ends; another one takes over\"",
            member->label);
        abort();
    }
    o->member = member;
    o->done = done;
    o->ctx = ctx;
    fence_begin(&o->fence, order);
    list_push_back(&member->fences, &o->node);
    if (!fence_send(o))
        fence_finish_later(o);
}
