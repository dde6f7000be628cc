/* Planned switchover: nothing lost, nobody notices (safety.md §6).
 *
 *   WATCH ─ order ─► HOLD (proxies send nothing more) ─ all hold, or their time is up ─► DRAIN (writes
 * paused) │ trouble, or the limit                 │ trouble       │ the target has every byte └──────────►
 * roll back: unpause, publish the route ◄────┘  ▼ INTENT (PLANNED), as any failover
 *
 * Until the intent is committed nothing durable has changed: whoever takes over finds a STABLE record; the
 * pause and the holds end by themselves at the limit. */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const int64_t switch_limit_us = 5 * 1000 * 1000; /* unless the operator said otherwise */
static const int64_t hold_limit_us = 500 * 1000; /* a host that doesn't answer is waited for no longer */
static const int64_t look_us = 1000;             /* between two looks at the target */
enum { SWITCH_SLACK_MS = 1000 };                 /* the pause outlives the limit by that */

static int failover_target(const struct failover *f)
{
    return topology_member_find(&f->record, &f->order.target);
}

static int failover_switch_master(const struct failover *f)
{
    return topology_member_find(&f->record, &f->record.master);
}

void failover_take_order(struct failover *f, const struct failover_event *event)
{
    const struct failover_command *c = event->command;
    assert(f->order.id == 0 && c->id != 0);
    f->order.id = c->id;
    f->order.type = c->type;
    f->order.began_us = event->now_us;
}

FAILOVER_GUARD(failover_may_switch)
{
    struct failover_plan plan;
    if (event->command->type != FAILOVER_COMMAND_SWITCHOVER)
        return false;
    failover_explain(f, event->command, event->now_us, event->wall_ms, event->trust, event->maintenance,
                     &plan);
    return plan.ready;
}

FAILOVER_EFFECT(failover_do_hold)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct failover_plan plan;
    failover_explain(f, event->command, event->now_us, event->wall_ms, event->trust, event->maintenance,
                     &plan);
    assert(plan.ready && plan.target >= 0);
    failover_take_order(f, event);
    struct failover_order *o = &f->order;
    int64_t limit_us = event->command->limit_ms > 0 ? event->command->limit_ms * 1000 : switch_limit_us;
    o->target = f->record.members[plan.target].address;
    o->limit_us = event->now_us + limit_us;
    o->hold_limit_us = event->now_us + (limit_us / 2 < hold_limit_us ? limit_us / 2 : hold_limit_us);
    snprintf(o->what, sizeof(o->what), "switchover to %s ordered by %s",
             topology_address_format(&o->target, text),
             event->command->by[0] ? event->command->by : "somebody");
    f->deadline_us = o->hold_limit_us;
    failover_report(f, out, FAILOVER_INFO, "event=switchover.begun instance=%s to=%s by=%s limit_ms=%lld",
                    f->record.name, text, event->command->by[0] ? event->command->by : "-",
                    (long long)limit_us / 1000);
    failover_add(out, FAILOVER_DO_HOLD, -1, f->record.epoch)->limit_ms = limit_us / 1000 + SWITCH_SLACK_MS;
}

/* Why it can't go on; NULL: it can. */
static const char *failover_obstacle(const struct failover *f, const struct failover_event *event)
{
    int master = failover_switch_master(f), target = failover_target(f);
    if (f->phase != FAILOVER_HOLD && f->phase != FAILOVER_DRAIN)
        return NULL;
    if (event->type == FAILOVER_ON_RECORD)
        return "the record was changed by somebody else";
    if (event->type == FAILOVER_ON_PAUSED && event->err != 0)
        return "the master did not take CLIENT PAUSE";
    if (master < 0 || target < 0)
        return "the master or the target is no member any more";
    const struct health_member *m = &f->health[master], *t = &f->health[target];
    if (!health_is_reachable(m) || !m->info_known || m->info.role != INFO_ROLE_MASTER ||
        strcmp(m->info.run_id, f->record.members[master].run_id) != 0)
        return "the master does not answer as it should";
    if (!health_is_reachable(t))
        return "the target can't be reached any more";
    if (t->info_known && (!t->info.master_link_up || t->info.syncing))
        return "the target is not in step with the master any more";
    if (event->now_us >= f->order.limit_us)
        return "its time limit is over";
    return NULL;
}

FAILOVER_GUARD(failover_cannot_switch)
{
    return failover_obstacle(f, event) != NULL;
}

FAILOVER_GUARD(failover_all_hold)
{
    const struct failover_order *o = &f->order;
    return (o->counted && o->n_held >= o->n_awaited) || event->now_us >= o->hold_limit_us;
}

FAILOVER_EFFECT(failover_do_await_holders)
{
    (void)event;
    (void)out;
    f->deadline_us = f->order.hold_limit_us;
}

FAILOVER_EFFECT(failover_do_pause_master)
{
    int master = failover_switch_master(f);
    assert(master >= 0);
    if (f->order.n_held < f->order.n_awaited)
        failover_report(
            f, out, FAILOVER_WARN,
            "event=switchover.not_held instance=%s held=%u of=%u missing=\"%s\" next=\"going on: the "
            "master's writes are paused anyway; look at those hosts\"",
            f->record.name, f->order.n_held, f->order.n_awaited, f->order.missing);
    f->deadline_us = f->order.limit_us;
    int64_t left_ms = (f->order.limit_us - event->now_us) / 1000;
    failover_add(out, FAILOVER_DO_PAUSE, master, f->record.epoch)->limit_ms = left_ms + SWITCH_SLACK_MS;
}

FAILOVER_GUARD(failover_is_paused)
{
    (void)f;
    return event->err == 0;
}

FAILOVER_EFFECT(failover_do_probe_target)
{
    f->deadline_us = event->now_us + look_us;
    failover_add(out, FAILOVER_DO_PROBE, failover_target(f), f->record.epoch);
}

FAILOVER_GUARD(failover_has_caught_up)
{
    (void)event;
    const struct health_member *t = &f->health[failover_target(f)];
    return f->order.paused && t->info_known && t->info_at_us >= f->order.paused_us &&
           t->info.offset >= f->order.offset;
}

FAILOVER_EFFECT(failover_do_await_target)
{
    if (event->now_us < f->deadline_us)
        return;
    f->deadline_us = event->now_us + look_us;
    if (f->order.paused)
        failover_add(out, FAILOVER_DO_PROBE, failover_target(f), f->record.epoch);
}

FAILOVER_EFFECT(failover_do_commit_switch)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1], evidence[TOPOLOGY_EVIDENCE_MAX + 1];
    const struct failover_order *o = &f->order;
    f->timeline = failover_timeline_unknown;
    f->timeline.detect_us = event->now_us - o->began_us; /* hold and drain */
    if (o->n_held < o->n_awaited)
        snprintf(evidence, sizeof(evidence), "%.120s; %u of %u hosts held, not %.80s", o->what, o->n_held,
                 o->n_awaited, o->missing);
    else
        snprintf(evidence, sizeof(evidence), "%.120s; %u of %u hosts held", o->what, o->n_held, o->n_awaited);
    failover_propose_intent(f, event, TOPOLOGY_VERDICT_PLANNED, evidence);
    f->proposed.failover.target = o->target;
    f->proposed.failover.target_offset = o->offset;
    failover_report(f, out, FAILOVER_INFO,
                    "event=switchover.in_step instance=%s to=%s epoch=%llu offset=%lld held=%u of=%u",
                    f->record.name, topology_address_format(&o->target, text),
                    (unsigned long long)f->proposed.epoch, (long long)o->offset, o->n_held, o->n_awaited);
    failover_commit(f, out, false);
}

FAILOVER_EFFECT(failover_do_roll_back)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    const char *why = failover_obstacle(f, event);
    int master = failover_switch_master(f);
    assert(why);
    struct topology_history *h = &out->history;
    memset(h, 0, sizeof(*h));
    h->kind = TOPOLOGY_HISTORY_ROLLBACK;
    h->at_ms = event->wall_ms;
    h->epoch = f->record.epoch;
    h->term = f->term;
    h->row = out->row;
    h->from = f->record.master;
    h->to = f->order.target;
    snprintf(h->evidence, sizeof(h->evidence), "%.120s rolled back: %s", f->order.what, why);
    failover_report(f, out, FAILOVER_WARN, "event=switchover.rolled_back instance=%s to=%s why=\"%s\"",
                    f->record.name, topology_address_format(&f->order.target, text), why);
    if (f->phase == FAILOVER_DRAIN && master >= 0 && f->health[master].link == HEALTH_LINK_UP)
        failover_add(out, FAILOVER_DO_UNPAUSE, master, f->record.epoch);
    failover_publish(f, out, &f->record);
    failover_add(out, FAILOVER_DO_HISTORY, -1, f->record.epoch)->has_history = true;
    failover_answer(f, out, ERR_TIMEOUT, "rolled back, nothing was changed: %s", why);
    f->suspect_at_us = 0;
}
