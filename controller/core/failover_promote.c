/* Guards and effects from a committed intent to a serving master: seal, choose, promote, finish (safety.md
 * §4). */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Limits of the procedure, microseconds. They bound waiting for a silent member, never a normal run. */
static const int64_t seal_wait_us = 1000 * 1000;    /* for answers of members that were reachable */
static const int64_t promote_wait_us = 2000 * 1000; /* for the candidate */
static const int64_t promote_look_us = 20 * 1000;   /* after that: whether it can still be reached */
static const int64_t donor_retry_us = 5000 * 1000;  /* until a donor that is needed is asked again */

/* Another leader, or we before an interruption, timed its part: a resumed failover's spans are not known. */
const struct topology_timeline failover_timeline_unknown = {-1, -1, -1, -1, -1, -1};

static int failover_candidate(const struct failover *f)
{
    return topology_member_find(&f->record, &f->record.candidate);
}

static bool failover_same_process(const struct failover *f, int member)
{
    const struct health_member *h = &f->health[member];
    return h->link == HEALTH_LINK_UP && h->info.run_id[0] != '\0' &&
           strcmp(h->info.run_id, f->record.members[member].run_id) == 0;
}

struct select_member failover_as_candidate(const struct failover *f, int member)
{
    return (struct select_member){.sealed = f->members[member].sealed,
                                  .may_return = !health_is_reachable(&f->health[member]),
                                  .info = f->health[member].info};
}

/* A switchover's target was in step, and the old master's pause outlives the order's limit
 * (failover_switch.c): until then whatever else is in its stream is pings. Another leader can't know that. */
void failover_choose(const struct failover *f, int64_t now_us, struct select_result *choice)
{
    struct select_member members[TOPOLOGY_MEMBERS_MAX];
    struct select_donation donation = f->donation;
    const struct failover_order *o = &f->order;
    donation.in_step =
        o->id != 0 && o->type == FAILOVER_COMMAND_SWITCHOVER && o->paused && now_us < o->limit_us;
    /* What a strict instance promised can't be passed over: the donor is asked again. */
    if (topology_is_strict(&f->record) && now_us - f->donor_at_us >= donor_retry_us)
        donation.failed = false;
    for (int k = 0; k < (int)f->record.n_members; k++)
        members[k] = failover_as_candidate(f, k);
    select_choose(&f->record, members, &donation, choice);
}

/* Until when the member's answer is waited for. One that was cut off has its time when it is back. */
static int64_t failover_seal_until_us(const struct failover *f, int member)
{
    int64_t own_us = f->members[member].seal_at_us;
    return (own_us > f->seal_at_us ? own_us : f->seal_at_us) + seal_wait_us;
}

/* Members that may still answer: sealing is under way, or their connection attempt has not ended. One that
 * was silent before is not waited for. */
static uint32_t failover_unanswered(const struct failover *f, int64_t now_us)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < f->record.n_members; k++) {
        const struct failover_member *m = &f->members[k];
        enum health_link link = f->health[k].link;
        bool is_mute = f->health[k].mute_us != 0 && now_us - f->health[k].mute_us >= seal_wait_us;
        if (link == HEALTH_LINK_UNKNOWN || link == HEALTH_LINK_CLOSED)
            n += now_us < f->seal_at_us + seal_wait_us;
        else if (link == HEALTH_LINK_UP && !m->sealed && !m->seal_failed && !is_mute)
            n += now_us < failover_seal_until_us(f, (int)k);
    }
    return n;
}

/* Everybody who can be expected to has answered, or has had the time to. */
static bool failover_may_choose(const struct failover *f, int64_t now_us, struct select_result *choice)
{
    if (failover_unanswered(f, now_us) > 0)
        return false;
    failover_choose(f, now_us, choice);
    return choice->chosen >= 0;
}

FAILOVER_GUARD(failover_has_choice)
{
    struct select_result choice;
    return failover_may_choose(f, event->now_us, &choice);
}

FAILOVER_GUARD(failover_has_donor)
{
    struct select_result choice;
    return failover_may_choose(f, event->now_us, &choice) && choice.donor >= 0;
}

/* It gave before, in a failover that was interrupted, and its history has had a name of its own since. */
FAILOVER_GUARD(failover_has_nameless_donor)
{
    struct select_result choice;
    return failover_may_choose(f, event->now_us, &choice) && choice.donor >= 0 &&
           !failover_has_row(&f->record, f->health[choice.donor].info.repl_id);
}

FAILOVER_GUARD(failover_is_promoted)
{
    int candidate = failover_candidate(f);
    return event->err == 0 && event->member == candidate && event->info->role == INFO_ROLE_MASTER &&
           failover_same_process(f, candidate);
}

FAILOVER_GUARD(failover_is_candidate_lost)
{
    int candidate = failover_candidate(f);
    if (f->promote_pending && (candidate < 0 || health_is_reachable(&f->health[candidate]) ||
                               event->now_us < f->phase_at_us + promote_wait_us))
        return false; /* its answer, or its failure, decides */
    if (candidate < 0 || event->now_us >= f->phase_at_us + promote_wait_us)
        return true;
    const struct health_member *h = &f->health[candidate];
    if (h->link == HEALTH_LINK_UP)
        return h->info_known && !failover_same_process(f, candidate);
    return h->link != HEALTH_LINK_UNKNOWN && h->link != HEALTH_LINK_CLOSED;
}

/* ---- seal and choose ------------------------------------------------------------------------------------
 */

void failover_seal_member(struct failover *f, int64_t now_us, struct failover_update *out, int member)
{
    struct failover_member *m = &f->members[member];
    m->seal_pending = true;
    m->sealed = m->seal_failed = false;
    m->seal_epoch = f->record.epoch;
    m->seal_at_us = now_us;
    failover_add(out, FAILOVER_DO_SEAL, member, f->record.epoch);
}

void failover_seal_all(struct failover *f, const struct failover_event *event, struct failover_update *out)
{
    f->seal_at_us = event->now_us;
    f->deadline_us = event->now_us + seal_wait_us;
    for (int k = 0; k < (int)f->record.n_members; k++) {
        struct failover_member *m = &f->members[k];
        m->sealed = m->seal_pending = m->seal_failed = false;
        m->replicate_pending = false;
        m->retry_at_us = 0;
        if (f->health[k].link == HEALTH_LINK_UP)
            failover_seal_member(f, event->now_us, out, k);
        else
            failover_add(out, FAILOVER_DO_PROBE, k, f->record.epoch);
    }
    failover_publish(f, out, &f->record);
}

static void failover_add_commit_time(struct failover *f, int64_t now_us)
{
    int64_t took_us = now_us - f->commit_at_us;
    f->timeline.commit_us = f->timeline.commit_us < 0 ? took_us : f->timeline.commit_us + took_us;
}

FAILOVER_EFFECT(failover_do_begin_seal)
{
    failover_add_commit_time(f, event->now_us);
    memset(&f->donation, 0, sizeof(f->donation));
    failover_seal_all(f, event, out);
}

FAILOVER_EFFECT(failover_do_resume_seal)
{
    f->timeline =
        failover_timeline_unknown; /* another leader, or we before an interruption, timed its part */
    failover_report(f, out, FAILOVER_WARN,
                    "event=failover.resumed instance=%s epoch=%llu state=sealing verdict=%s", f->record.name,
                    (unsigned long long)f->record.epoch, topology_verdict_name(f->record.failover.verdict));
    memset(&f->donation, 0, sizeof(f->donation));
    failover_drop_setting(f, out);
    failover_seal_all(f, event, out);
}

/* Says who is missing, once for each set of reasons. */
static void failover_explain_wait(struct failover *f, int64_t now_us, struct failover_update *out)
{
    struct select_result choice;
    char text[FAILOVER_TEXT_MAX + 1];
    bool strict = topology_is_strict(&f->record);
    failover_choose(f, now_us, &choice);
    if (choice.chosen >= 0)
        return;
    failover_answer(f, out, ERR_REJECTED, "it is under way, but nobody may be promoted: %s", choice.reason);
    snprintf(text, sizeof(text), "nobody may be promoted: %s", choice.reason);
    if (strcmp(text, f->waiting) == 0)
        return;
    memcpy(f->waiting, text, sizeof(text));
    failover_report(
        f, out, FAILOVER_ERROR,
        "event=failover.waiting instance=%s epoch=%llu needed=%u have=%u why=\"%s\" next=\"bring one of them "
        "back%s%s\"",
        f->record.name, (unsigned long long)f->record.epoch, choice.needed, choice.have, choice.reason,
        strict ? ", or take the loss: mrctl failover --allow-data-loss " : "", strict ? f->record.name : "");
}

FAILOVER_EFFECT(failover_do_seal)
{
    int64_t next_us = f->seal_at_us + seal_wait_us;
    for (int k = 0; k < (int)f->record.n_members; k++) {
        struct failover_member *m = &f->members[k];
        if (f->health[k].link != HEALTH_LINK_UP || m->sealed)
            continue;
        if (!m->seal_pending && event->now_us >= m->retry_at_us)
            failover_seal_member(f, event->now_us, out, k);
        int64_t at_us = m->seal_pending ? failover_seal_until_us(f, k) : m->retry_at_us;
        if (at_us > event->now_us && (next_us <= event->now_us || at_us < next_us))
            next_us = at_us;
    }
    f->deadline_us = next_us > event->now_us ? next_us : event->now_us + seal_wait_us;
    if (failover_unanswered(f, event->now_us) == 0)
        failover_explain_wait(f, event->now_us, out);
}

void failover_make_room(struct topology_instance *p)
{
    if (p->n_epochs < TOPOLOGY_EPOCHS_MAX)
        return;
    for (uint32_t k = 0; k + 1 < p->n_epochs; k++) {
        if (p->epochs[k].repl_id[0] != '\0')
            continue;
        memmove(&p->epochs[k], &p->epochs[k + 1], (p->n_epochs - k - 1) * sizeof(p->epochs[0]));
        p->n_epochs--;
        return;
    }
}

/* What was planned has failed: from here on this is an emergency, and its history says so. */
static void failover_plan_failed(struct topology_instance *p, const char *why)
{
    size_t at = strlen(p->failover.evidence);
    p->failover.verdict = TOPOLOGY_VERDICT_UNREACHABLE;
    snprintf(p->failover.evidence + at, sizeof(p->failover.evidence) - at, "; then %s", why);
}

static bool failover_sealed_old_master(const struct failover *f)
{
    int old = topology_member_find(&f->record, &f->record.failover.old_master);
    return old >= 0 && f->members[old].sealed && failover_same_process(f, old);
}

FAILOVER_EFFECT(failover_do_commit_choice)
{
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    struct select_result choice;
    failover_choose(f, event->now_us, &choice);
    assert(choice.chosen >= 0);
    const struct info *info = &f->health[choice.chosen].info;
    struct topology_instance *p = &f->proposed;
    f->timeline.seal_us = event->now_us - f->seal_at_us;
    f->commit_at_us = event->now_us;
    *p = f->record;
    p->state = TOPOLOGY_PROMOTING;
    p->candidate = p->members[choice.chosen].address;
    p->start_offset = info->offset;
    /* Its pause ends at some time, and whoever is cut off together with it may write again: that is lost. */
    if (p->failover.verdict == TOPOLOGY_VERDICT_PLANNED && !failover_sealed_old_master(f))
        failover_plan_failed(p, "the old master was lost before it could be sealed");
    failover_note_loss(f, &choice, p);
    /* From here on this process is the candidate: a resuming leader must not promote another one at its
     * address. */
    memcpy(p->members[choice.chosen].run_id, info->run_id, sizeof(p->members[choice.chosen].run_id));
    struct topology_epoch row = {.epoch = p->epoch, .start_offset = info->offset};
    failover_make_room(p);
    topology_epoch_append(p, &row);
    failover_report(f, out, choice.last_resort ? FAILOVER_ERROR : FAILOVER_INFO,
                    "event=failover.chosen instance=%s epoch=%llu candidate=%s offset=%lld reason=\"%s\"",
                    p->name, (unsigned long long)p->epoch, topology_address_format(&p->candidate, address),
                    (long long)info->offset, choice.reason);
    failover_commit(f, out, false);
}

/* ---- promote --------------------------------------------------------------------------------------------
 */

static void failover_promote_candidate(struct failover *f, const struct failover_event *event,
                                       struct failover_update *out)
{
    int candidate = failover_candidate(f);
    /* Of a resumed one the time before is another's, and a part of this one the way to the candidate. */
    if (topology_is_fenced(&f->record) && f->timeline.commit_us >= 0)
        f->timeline.fence_us = f->phase == FAILOVER_PROMOTE ? event->now_us - f->phase_at_us : 0;
    f->promote_at_us = event->now_us;
    f->promote_pending = true;
    failover_add(out, FAILOVER_DO_PROMOTE, candidate, f->record.epoch);
}

FAILOVER_EFFECT(failover_do_promote)
{
    failover_add_commit_time(f, event->now_us);
    f->deadline_us = event->now_us + promote_wait_us;
    int candidate = failover_candidate(f);
    /* Sealed and no disconnect since: the very process that was chosen. Otherwise the ENTER rows look at it
     * first. */
    if (candidate >= 0 && f->members[candidate].sealed && !failover_awaits_fence(f, candidate))
        failover_promote_candidate(f, event, out);
}

FAILOVER_EFFECT(failover_do_await_candidate)
{
    int candidate = failover_candidate(f);
    assert(candidate >= 0);
    int64_t until_us = f->phase_at_us + promote_wait_us;
    f->deadline_us = until_us > event->now_us ? until_us : event->now_us + promote_look_us;
    if (f->promote_pending) /* its answer is waited for as long as it can be reached */
        return;
    if (f->health[candidate].info_known && failover_same_process(f, candidate)) {
        if (!failover_awaits_fence(f, candidate))
            failover_promote_candidate(f, event, out);
    } else if (event->type != FAILOVER_ON_TICK) {
        failover_add(out, FAILOVER_DO_PROBE, candidate, f->record.epoch);
    }
}

FAILOVER_EFFECT(failover_do_resume_promote)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    f->timeline = failover_timeline_unknown;
    f->promote_pending = false;
    failover_drop_setting(f, out);
    failover_report(f, out, FAILOVER_WARN,
                    "event=failover.resumed instance=%s epoch=%llu state=promoting candidate=%s",
                    f->record.name, (unsigned long long)f->record.epoch,
                    topology_address_format(&f->record.candidate, text));
    f->promote_at_us = event->now_us;
}

FAILOVER_EFFECT(failover_do_restart_intent)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct topology_instance *p = &f->proposed;
    *p = f->record;
    p->state = TOPOLOGY_SEALING;
    p->epoch++;
    p->failover.epoch = p->epoch;
    p->start_offset = 0;
    memset(&p->candidate, 0, sizeof(p->candidate));
    if (p->failover.verdict == TOPOLOGY_VERDICT_PLANNED)
        failover_plan_failed(p, "the candidate was lost");
    if (p->failover.verdict != TOPOLOGY_VERDICT_MANUAL) {
        memset(&p->failover.target, 0, sizeof(p->failover.target));
        p->failover.target_offset = 0;
    }
    f->promote_pending = false;
    f->commit_at_us = event->now_us;
    failover_report(f, out, FAILOVER_WARN,
                    "event=failover.candidate_lost instance=%s candidate=%s epoch=%llu next=\"sealing and "
                    "choosing again\"",
                    p->name, topology_address_format(&f->record.candidate, text),
                    (unsigned long long)p->epoch);
    failover_commit(f, out, false);
}

static void failover_fill_history(const struct failover *f, const struct failover_event *event,
                                  struct failover_update *out)
{
    struct topology_history *h = &out->history;
    memset(h, 0, sizeof(*h));
    h->kind = TOPOLOGY_HISTORY_FAILOVER;
    h->at_ms = event->wall_ms;
    h->epoch = f->proposed.epoch;
    h->term = f->term;
    h->row = out->row;
    h->from = f->record.failover.old_master;
    h->to = f->proposed.master;
    h->verdict = f->record.failover.verdict;
    h->lost_bytes = f->record.failover.lost_bytes;
    h->timeline = f->timeline;
    memcpy(h->evidence, f->record.failover.evidence, sizeof(h->evidence));
}

FAILOVER_EFFECT(failover_do_finish)
{
    int candidate = failover_candidate(f);
    assert(candidate >= 0 && event->info);
    f->timeline.promote_us = event->now_us - f->promote_at_us;
    f->timeline.publish_us = 0;
    struct topology_instance *p = &f->proposed;
    *p = f->record;
    p->state = TOPOLOGY_STABLE;
    p->master = p->candidate;
    memset(&p->candidate, 0, sizeof(p->candidate));
    p->start_offset = 0;
    p->failover.timeline = f->timeline;
    assert(p->n_epochs > 0);
    memcpy(p->epochs[p->n_epochs - 1].repl_id, event->info->repl_id, sizeof(p->epochs[0].repl_id));
    failover_publish(f, out, p);
    for (int k = 0; k < (int)p->n_members; k++) {
        /* Its clients are cut before it is another's replica: whoever isn't known to be fenced is looked at
         * once the record is STABLE. */
        bool fences = topology_is_fenced(p) && (!f->members[k].sealed || failover_awaits_fence(f, k));
        if (k == candidate || f->health[k].link != HEALTH_LINK_UP || failover_is_stray(f, k) || fences)
            continue; /* a stray one is sealed first: what its history has more must be known before it goes
                       */
        f->members[k].replicate_pending = true;
        f->members[k].retry_at_us = event->now_us + 1000 * 1000;
        failover_add(out, FAILOVER_DO_REPLICATE, k, p->epoch)->target = p->master;
    }
    /* The candidate's writes may be paused: it donated for a leader that is gone, or was to be switched away
     * from. */
    bool planned = topology_address_is_set(&f->record.failover.target);
    for (int k = 0; k < (int)p->n_members; k++)
        if (k == candidate || (planned && f->health[k].link == HEALTH_LINK_UP))
            failover_add(out, FAILOVER_DO_UNPAUSE, k, p->epoch);
    failover_fill_history(f, event, out);
    f->commit_at_us = event->now_us;
    failover_commit(f, out, true);
}

/* ---- finish ---------------------------------------------------------------------------------------------
 */

FAILOVER_EFFECT(failover_do_end)
{
    char from[TOPOLOGY_ADDRESS_MAX + 1], to[TOPOLOGY_ADDRESS_MAX + 1];
    const struct topology_failover *last = &f->record.failover;
    f->suspect_at_us = 0;
    failover_report(
        f, out, FAILOVER_WARN,
        "event=failover.done instance=%s verdict=%s epoch=%llu from=%s to=%s detect_us=%lld commit_us=%lld "
        "seal_us=%lld fence_us=%lld promote_us=%lld publish_us=%lld record_us=%lld",
        f->record.name, topology_verdict_name(last->verdict), (unsigned long long)f->record.epoch,
        topology_address_format(&last->old_master, from), topology_address_format(&f->record.master, to),
        (long long)last->timeline.detect_us, (long long)last->timeline.commit_us,
        (long long)last->timeline.seal_us, (long long)last->timeline.fence_us,
        (long long)last->timeline.promote_us, (long long)last->timeline.publish_us,
        (long long)(event->now_us - f->commit_at_us));
    bool wanted =
        !topology_address_is_set(&last->target) || topology_address_equal(&last->target, &f->record.master);
    bool as_planned =
        f->order.type != FAILOVER_COMMAND_SWITCHOVER || last->verdict == TOPOLOGY_VERDICT_PLANNED;
    failover_answer(f, out, wanted ? 0 : ERR_REJECTED, "%s%s is the master of epoch %llu, after %lld ms%s",
                    wanted ? "" : "the target did not have all the data: ", to,
                    (unsigned long long)f->record.epoch,
                    (long long)(event->now_us - f->order.began_us) / 1000,
                    as_planned ? "" : "; it ended as a failover, see mrctl history");
}
