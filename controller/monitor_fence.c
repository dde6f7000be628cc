/* The fence's order to a member: look at its ACL, then change what is to be changed. core/fence.h decides.
 *
 *   INFO, ACL LIST ─► [ACL DELUSER app-e6 …] [ACL SETUSER app-e7 …] [CLIENT KILL USER app] ─► done(err, open,
 * text)
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

static void fence_look(struct monitor_fence *o);

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

static void fence_on_changed(void *ctx, int err, const redisReply *reply)
{
    struct monitor_fence *o = ctx;
    if (!fence_heard(o, err, reply) || --o->n_left > 0)
        return;
    if (o->err == 0 && o->fence.more)
        fence_look(o);
    else
        fence_finish(o);
}

/* What can't be sent was preceded by the connection's end, of which each reply that is awaited will tell. */
static void fence_send(struct monitor_fence *o, int argc, const char *const *argv)
{
    int err = monitor_member_send(o->member, fence_on_changed, o, argc, argv);
    if (err == 0)
        o->n_left++;
    else
        fence_note(o, err, err_text(err));
}

static void fence_change(struct monitor_fence *o)
{
    const char *words[FENCE_WORDS_MAX] = {"ACL", "DELUSER"};
    struct fence *f = &o->fence;
    bool makes = fence_must_make(f);
    for (uint32_t k = 0; k < f->n_stale; k++)
        words[2 + k] = f->stale[k];
    if (f->n_stale > 0)
        fence_send(o, (int)(2 + f->n_stale), words);
    if (makes) {
        const char *make[FENCE_WORDS_MAX];
        int n = fence_make(f, make);
        if (n < 0)
            fence_note(o, n, "its rules have too many words");
        else
            fence_send(o, n, make);
    }
    if (fence_must_cut_template(f)) {
        const char *const cut[] = {"CLIENT", "KILL", "USER", f->order.user};
        fence_send(o, 4, cut);
    }
    if (o->n_left > 0)
        log_info("event=member.fencing member=\"%s\" login=%s keep=%s made=%s removed=%u", o->member->label,
                 f->login, f->order.keep ? "yes" : "no", makes ? "yes" : "no", f->n_stale);
    else
        fence_finish(o);
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
    const char *why = "";
    int refused = o->err == 0 ? fence_end(&o->fence, &why) : 0;
    if (refused != 0)
        fence_note(o, refused, why);
    if (o->err == 0)
        fence_change(o);
    else
        fence_finish(o);
}

static void fence_on_role(void *ctx, int err, const redisReply *reply)
{
    struct monitor_fence *o = ctx;
    if (fence_heard(o, err, reply) && err == 0 && reply->type == REDIS_REPLY_STRING)
        fence_take_role(&o->fence, reply->str, reply->len);
}

static void fence_look(struct monitor_fence *o)
{
    static const char *const role[] = {"INFO", "replication"}, *const look[] = {"ACL", "LIST"};
    struct fence_order order = o->fence.order;
    fence_begin(&o->fence, &order);
    if (monitor_member_send(o->member, fence_on_role, o, 2, role) != 0) {
        fence_finish_later(o);
        return;
    }
    int err = monitor_member_send(o->member, fence_on_list, o, 2, look);
    assert(err == 0); /* the link is either up for both or for none */
    (void)err;
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
    o->fence.order = *order;
    o->done = done;
    o->ctx = ctx;
    list_push_back(&member->fences, &o->node);
    fence_look(o);
}
