/* Fencing by ACL: who may log in where, as which epoch's user (safety.md §3; fence.h for the ACL itself).
 *
 *   sealed, or a replica of somebody else ─────► FENCE, nobody: its epochs' users go, who is logged in is cut
 *   candidate, master, who follows the master ─► FENCE, the epoch's: app-e7 is there, no other epoch's
 *   anybody else (not seen, a stray master) ────► nothing: it is sealed first
 *
 * What is wanted follows from record, phase and what members say, so whoever leads next goes on by wanting
 * the same. A promotion waits for it, and so does REPLICATE; both go on when it is refused: applications that
 * can't log in are the lesser harm, and an event says so. */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const int64_t look_us = 10 * 1000 * 1000;    /* between two looks at an ACL, */
static const int64_t refused_us = 30 * 1000 * 1000; /* and tries to change one that was refused */
static const int64_t retry_us = 250 * 1000;         /* after an answer that was lost with its connection */
static const int64_t order_wait_us = 3000 * 1000;   /* for the master, when the fence is turned on or off */

enum fence_wish { FENCE_LEAVE, FENCE_NOBODY, FENCE_EPOCH };

static bool fence_is_trusted(const struct failover *f, int member)
{
    const struct health_member *h = &f->health[member];
    return h->info.run_id[0] != '\0' && strcmp(h->info.run_id, f->record.members[member].run_id) == 0 &&
           (h->info_known || f->members[member].sealed);
}

/* What its ACL should be now. */
static enum fence_wish fence_wish(const struct failover *f, int member)
{
    const struct topology_instance *r = &f->record;
    const struct health_member *h = &f->health[member];
    bool sealed = f->members[member].sealed && f->members[member].seal_epoch == r->epoch;
    if (!topology_is_fenced(r) || h->link != HEALTH_LINK_UP)
        return FENCE_LEAVE;
    if (f->phase == FAILOVER_DONOR && topology_address_equal(&r->members[member].address, &f->donor))
        return FENCE_LEAVE; /* a master for a while, whose writes are paused; it is sealed again */
    if (r->state == TOPOLOGY_STABLE) {
        int master = topology_member_find(r, &r->master);
        if (member == master) /* what a new leader knows of it may be from before its promotion */
            return failover_master_is_well(f, master) ? FENCE_EPOCH : FENCE_LEAVE;
        if (h->info_known && failover_follows(f, h))
            return FENCE_EPOCH;
        if (h->info_known && h->info.role == INFO_ROLE_REPLICA)
            return FENCE_NOBODY; /* before it is made a replica of the master's */
    } else if (r->state == TOPOLOGY_PROMOTING && member == topology_member_find(r, &r->candidate)) {
        return fence_is_trusted(f, member) ? FENCE_EPOCH : FENCE_LEAVE;
    }
    return sealed ? FENCE_NOBODY : FENCE_LEAVE;
}

/* The newest answer is to what is wanted now. */
static bool fence_is_answered(const struct failover *f, int member, enum fence_wish wish)
{
    const struct failover_fence *m = &f->members[member].fence;
    return !m->pending && (m->done || m->failed) && m->epoch == f->record.epoch &&
           m->keep == (wish == FENCE_EPOCH);
}

bool failover_awaits_fence(const struct failover *f, int member)
{
    enum fence_wish wish = fence_wish(f, member);
    return wish != FENCE_LEAVE && !fence_is_answered(f, member, wish);
}

static void fence_send(struct failover *f, struct failover_update *out, int member, const char *user,
                       bool keep)
{
    struct failover_fence *m = &f->members[member].fence;
    m->pending = true;
    m->keep = keep;
    m->epoch = f->record.epoch;
    struct fence_order *order = &failover_add(out, FAILOVER_DO_FENCE, member, f->record.epoch)->fence;
    (void)snprintf(order->user, sizeof(order->user), "%s", user);
    order->epoch = f->record.epoch;
    order->term = f->term;
    order->keep = keep;
}

void failover_absorb_fenced(struct failover *f, const struct failover_event *event)
{
    struct failover_fence *m = &f->members[event->member].fence;
    bool up = f->health[event->member].link == HEALTH_LINK_UP;
    bool refused = event->err == ERR_REPLY || event->err == ERR_NOT_FOUND || event->err == ERR_TOO_LARGE ||
                   event->err == ERR_PROTOCOL ||
                   event->err == ERR_DEPOSED; /* else the connection is lost: tried again with the next */
    m->pending = false;
    m->at_us = event->now_us;
    m->done = event->err == 0 && up;
    m->failed = refused && up;
    m->open = event->err == 0 && event->open;
    (void)snprintf(m->why, sizeof(m->why), "%s",
                   event->err == 0                         ? ""
                   : event->text && event->text[0] != '\0' ? event->text
                                                           : err_text(event->err));
}

/* Says it once when it begins to fail, and when that is over. */
static void fence_report(struct failover *f, const struct failover_event *event, struct failover_update *out)
{
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    struct failover_fence *m = &f->members[event->member].fence;
    bool mended = m->done && m->keep; /* to let nobody in takes no template */
    if (m->failed == m->said || (!m->failed && !mended) || !topology_is_fenced(&f->record))
        return;
    m->said = m->failed;
    topology_address_format(&f->record.members[event->member].address, address);
    if (m->failed)
        failover_report(
            f, out, FAILOVER_ERROR,
            "event=fence.failed instance=%s member=%s epoch=%llu why=\"%s\" next=\"%s can't log in "
            "there until that is mended: it is tried again every 30 s\"",
            f->record.name, address, (unsigned long long)m->epoch, m->why, f->record.policy.fence_user);
    else
        failover_report(f, out, FAILOVER_INFO, "event=fence.back instance=%s member=%s epoch=%llu",
                        f->record.name, address, (unsigned long long)m->epoch);
}

void failover_forget_fences(struct failover *f)
{
    for (int k = 0; k < TOPOLOGY_MEMBERS_MAX; k++) {
        struct failover_fence *m = &f->members[k].fence;
        m->done = m->failed = m->said = false;
        m->at_us = 0;
    }
}

void failover_tend_fences(struct failover *f, const struct failover_event *event, struct failover_update *out)
{
    if (f->term == 0 || f->phase == FAILOVER_IDLE || f->phase == FAILOVER_RELOAD ||
        f->phase == FAILOVER_INTENT || f->phase == FAILOVER_FENCE)
        return;
    if (!topology_is_fenced(&f->record)) {
        if (f->phase == FAILOVER_WATCH)
            failover_forget_fences(f); /* it may be turned on with another template */
        return;
    }
    if (event->type == FAILOVER_ON_FENCED)
        fence_report(f, event, out);
    for (int k = 0; k < (int)f->record.n_members; k++) {
        enum fence_wish wish = fence_wish(f, k);
        struct failover_fence *m = &f->members[k].fence;
        if (wish == FENCE_LEAVE || m->pending)
            continue;
        bool unknown = !m->done && !m->failed && m->at_us != 0;
        int64_t again_us = m->at_us + (unknown ? retry_us : m->failed ? refused_us : look_us);
        if (event->now_us >= again_us || (!unknown && !fence_is_answered(f, k, wish)))
            fence_send(f, out, k, f->record.policy.fence_user, wish == FENCE_EPOCH);
        else if (f->phase == FAILOVER_WATCH && (f->deadline_us == 0 || again_us < f->deadline_us))
            f->deadline_us = again_us;
    }
}

/* ---- turned on and off ----------------------------------------------------------------------------------
 */

int failover_check_fence(const struct failover *f, const struct topology_instance *to, char *why,
                         size_t why_size)
{
    if (!topology_is_fenced(&f->record) || !topology_is_fenced(to) ||
        strcmp(f->record.policy.fence_user, to->policy.fence_user) == 0)
        return 0;
    snprintf(why, why_size, "fence_user can't be changed while the fence is on: set fence=none first");
    return ERR_REJECTED;
}

const char *failover_fence_note(const struct failover *f, const struct topology_instance *to, char *text,
                                size_t size)
{
    int master = topology_member_find(to, &to->master);
    text[0] = '\0';
    if (!topology_is_fenced(&f->record) && topology_is_fenced(to) && master >= 0 &&
        f->members[master].fence.open)
        snprintf(
            text, size,
            "%s itself may still log in, past the fence: once all use its epochs' users switch it off on "
            "each member (ACL SETUSER %s off)",
            to->policy.fence_user, to->policy.fence_user);
    return text;
}

FAILOVER_GUARD(failover_may_fence)
{
    struct topology_instance p;
    char why[FAILOVER_TEXT_MAX];
    int master = topology_member_find(&f->record, &f->record.master);
    return event->command->type == FAILOVER_COMMAND_SET && failover_master_is_well(f, master) &&
           !f->members[master].fence.pending &&
           failover_propose_policy(f, event, &p, why, sizeof(why)) == 0 &&
           topology_is_fenced(&f->record) != topology_is_fenced(&p);
}

FAILOVER_EFFECT(failover_do_try_fence)
{
    failover_take_order(f, event);
    f->setting = *event->command;
    f->deadline_us = event->now_us + order_wait_us;
    const char *user =
        topology_is_fenced(&f->record) ? f->record.policy.fence_user : f->setting.policy.fence_user;
    fence_send(f, out, topology_member_find(&f->record, &f->record.master), user, true);
}

static bool fence_is_masters_answer(const struct failover *f, const struct failover_event *event)
{
    return event->type == FAILOVER_ON_FENCED &&
           event->member == topology_member_find(&f->record, &f->record.master);
}

/* It can always be turned off, but not so that nobody could log in any more. */
FAILOVER_GUARD(failover_is_fence_tried)
{
    bool on = f->setting.policy.fence == TOPOLOGY_FENCE_ACL;
    return fence_is_masters_answer(f, event) && (on ? event->err == 0 : event->err != 0 || event->open);
}

FAILOVER_GUARD(failover_is_fence_refused)
{
    return fence_is_masters_answer(f, event);
}

FAILOVER_GUARD(failover_is_fence_hopeless)
{
    return event->now_us >= f->phase_at_us + order_wait_us || failover_is_suspect(f, event);
}

FAILOVER_EFFECT(failover_do_commit_fence)
{
    struct failover_event order = *event;
    order.command = &f->setting;
    failover_do_commit_policy(f, &order, out);
}

FAILOVER_EFFECT(failover_do_refuse_fence)
{
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    const char *user = f->setting.policy.fence_user;
    int master = topology_member_find(&f->record, &f->record.master);
    topology_address_format(&f->record.master, address);
    if (!fence_is_masters_answer(f, event))
        failover_answer(f, out, ERR_TIMEOUT, "nothing was changed: the master, %s, does not answer", address);
    else if (event->err != 0)
        failover_answer(f, out, ERR_REJECTED,
                        "nothing was changed: %s can't be fenced with fence_user=%s: %s", address, user,
                        f->members[master].fence.why);
    else
        failover_answer(f, out, ERR_REJECTED,
                        "nothing was changed: %s itself may not log in at %s, so nobody could: first switch "
                        "it on, on each member (ACL SETUSER %s on)",
                        f->record.policy.fence_user, address, f->record.policy.fence_user);
}

void failover_drop_setting(struct failover *f, struct failover_update *out)
{
    if (f->phase == FAILOVER_FENCE)
        failover_answer(f, out, ERR_BUSY,
                        "nothing was changed: somebody else changed %s meanwhile: try again", f->record.name);
}
