/* Guards and effects up to the committed intent: leadership, watching, evidence; failover_promote.c goes on.
 */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Pace of the probes while the master is suspect, microseconds. */
static const int64_t probe_first_us = 1000, probe_last_us = 100 * 1000;
enum { FAILOVER_PROBES_BEFORE_REPORT = 8 };

static int failover_master(const struct failover *f)
{
    return topology_member_find(&f->record, &f->record.master);
}

static void failover_judge(const struct failover *f, const struct failover_event *event,
                           struct health_judgement *out)
{
    static const struct health_trust trusted = {.n_controllers = 1};
    health_judge(&f->record, f->health, &f->votes, event->trust ? event->trust : &trusted,
                 f->suspect_at_us ? f->suspect_at_us : event->now_us, event->now_us, out);
}

/* ---- guards ---------------------------------------------------------------------------------------------
 */

FAILOVER_GUARD(failover_is_stable)
{
    (void)event;
    return f->record.state == TOPOLOGY_STABLE;
}

FAILOVER_GUARD(failover_is_sealing)
{
    (void)event;
    return f->record.state == TOPOLOGY_SEALING;
}

FAILOVER_GUARD(failover_is_promoting)
{
    (void)event;
    return f->record.state == TOPOLOGY_PROMOTING;
}

FAILOVER_GUARD(failover_is_suspect)
{
    struct health_judgement j;
    failover_judge(f, event, &j);
    return j.suspect;
}

FAILOVER_GUARD(failover_is_healthy)
{
    return !failover_is_suspect(f, event);
}

FAILOVER_GUARD(failover_has_verdict)
{
    struct health_judgement j;
    failover_judge(f, event, &j);
    return j.verdict != TOPOLOGY_VERDICT_NONE && f->record.policy.auto_failover;
}

FAILOVER_GUARD(failover_has_verdict_but_off)
{
    struct health_judgement j;
    failover_judge(f, event, &j);
    return j.verdict != TOPOLOGY_VERDICT_NONE && !f->record.policy.auto_failover;
}

FAILOVER_GUARD(failover_has_membership_fact)
{
    return failover_find_fact(f, event, NULL, NULL);
}

/* ---- leadership and records -----------------------------------------------------------------------------
 */

FAILOVER_EFFECT(failover_do_nothing)
{
    (void)f;
    (void)event;
    (void)out;
}

FAILOVER_EFFECT(failover_do_stop)
{
    (void)event;
    (void)out;
    f->deadline_us = 0;
    f->suspect_at_us = 0;
    f->promote_pending = f->hinted = false;
    f->waiting[0] = '\0';
    for (int k = 0; k < TOPOLOGY_MEMBERS_MAX; k++) {
        f->members[k].sealed = f->members[k].seal_pending = f->members[k].replicate_pending = false;
        f->members[k].retry_at_us = 0;
    }
}

FAILOVER_EFFECT(failover_do_watch)
{
    (void)event;
    (void)out;
    f->suspect_at_us = 0;
}

/* ---- watching -------------------------------------------------------------------------------------------
 */

FAILOVER_EFFECT(failover_do_suspect)
{
    (void)out;
    f->suspect_at_us = event->now_us;
    f->probes = 0;
}

FAILOVER_EFFECT(failover_do_tend)
{
    int master = failover_master(f);
    if (f->hinted && event->type == FAILOVER_ON_HINT && event->epoch < f->record.epoch) {
        failover_publish(f, out, &f->record); /* it follows an older epoch: that alone explains its trouble */
        f->hinted = false;
    } else if (f->hinted && event->type == FAILOVER_ON_HINT) {
        failover_add(out, FAILOVER_DO_PROBE, master, f->record.epoch);
    } else if (f->hinted && f->health[master].info_at_us > f->hinted_at_us) {
        failover_publish(f, out, &f->record);
        f->hinted = false;
    }
    f->deadline_us = failover_tend_members(f, event, out);
}

FAILOVER_EFFECT(failover_do_commit_fact)
{
    bool found = failover_find_fact(f, event, &f->proposed, &out->history);
    assert(found);
    (void)found;
    out->history.row = out->row;
    failover_report(f, out, FAILOVER_INFO, "event=members.changed instance=%s what=\"%s\"", f->record.name,
                    out->history.evidence);
    failover_commit(f, out, true);
}

FAILOVER_EFFECT(failover_do_fact_committed)
{
    (void)event;
    failover_publish(f, out, &f->record); /* proxies keep the list of replicas */
}

FAILOVER_EFFECT(failover_do_rejoin)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct failover_member *m = &f->members[event->member];
    const struct topology_member *member = &f->record.members[event->member];
    if (!m->sealed) {
        failover_report(f, out, FAILOVER_WARN, "event=member.seal_failed instance=%s member=%s reason=\"%s\"",
                        f->record.name, topology_address_format(&member->address, text),
                        err_text(event->err));
        f->deadline_us = m->retry_at_us;
        return;
    }
    const struct info *info = &f->health[event->member].info;
    bool restarted = strcmp(info->run_id, member->run_id) != 0;
    struct topology_history *h = &out->history;
    memset(h, 0, sizeof(*h));
    h->kind = TOPOLOGY_HISTORY_REJOINED;
    h->at_ms = event->wall_ms;
    h->epoch = f->record.epoch;
    h->term = f->term;
    h->row = out->row;
    h->from = member->address;
    h->to = f->record.master;
    h->lost_bytes = failover_divergent_bytes(&f->record, info);
    snprintf(h->evidence, sizeof(h->evidence),
             "it answered as master at offset %lld%s; its own history ends here", (long long)info->offset,
             restarted ? " after a restart" : "");
    failover_report(f, out, h->lost_bytes > 0 ? FAILOVER_WARN : FAILOVER_INFO,
                    "event=member.rejoined instance=%s member=%s lost_bytes=%lld restarted=%s",
                    f->record.name, topology_address_format(&member->address, text), (long long)h->lost_bytes,
                    restarted ? "yes" : "no");
    failover_add(out, FAILOVER_DO_HISTORY, event->member, f->record.epoch)->has_history = true;
    m->replicate_pending = true;
    failover_add(out, FAILOVER_DO_REPLICATE, event->member, f->record.epoch)->target = f->record.master;
}

FAILOVER_EFFECT(failover_do_replicated)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    if (event->err != 0)
        failover_report(
            f, out, FAILOVER_WARN,
            "event=member.replicate_failed instance=%s member=%s reason=\"%s\" next=\"tried again\"",
            f->record.name, topology_address_format(&f->record.members[event->member].address, text),
            err_text(event->err));
    failover_add(out, FAILOVER_DO_PROBE, event->member, f->record.epoch);
    f->deadline_us = f->members[event->member].retry_at_us;
}

/* ---- gathering evidence ---------------------------------------------------------------------------------
 */

FAILOVER_EFFECT(failover_do_probe)
{
    if (f->probes > 0 && event->now_us < f->deadline_us)
        return;
    int64_t pace_us = f->probes < 7 ? probe_first_us << f->probes : probe_last_us;
    f->deadline_us = event->now_us + (pace_us < probe_last_us ? pace_us : probe_last_us);
    f->probes++;
    for (int k = 0; k < (int)f->record.n_members; k++)
        failover_add(out, FAILOVER_DO_PROBE, k, f->record.epoch);
    if (f->probes == FAILOVER_PROBES_BEFORE_REPORT) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        struct health_judgement j;
        failover_judge(f, event, &j);
        snprintf(f->waiting, sizeof(f->waiting), "master suspect, no verdict: %s", j.evidence);
        failover_report(
            f, out, FAILOVER_WARN,
            "event=master.suspect instance=%s member=%s evidence=\"%s\" next=\"probing; not enough for a "
            "failover\"",
            f->record.name, topology_address_format(&f->record.master, text), j.evidence);
    }
}

FAILOVER_EFFECT(failover_do_report_off)
{
    struct health_judgement j;
    failover_judge(f, event, &j);
    f->deadline_us = event->now_us + probe_last_us;
    for (int k = 0; k < (int)f->record.n_members; k++)
        if (f->health[k].link != HEALTH_LINK_UP)
            failover_add(out, FAILOVER_DO_PROBE, k, f->record.epoch);
    if (f->waiting[0] != '\0')
        return;
    snprintf(f->waiting, sizeof(f->waiting), "%s, but auto_failover is off",
             topology_verdict_name(j.verdict));
    failover_report(
        f, out, FAILOVER_ERROR,
        "event=failover.off instance=%s verdict=%s evidence=\"%s\" next=\"switch auto_failover on\"",
        f->record.name, topology_verdict_name(j.verdict), j.evidence);
}

FAILOVER_EFFECT(failover_do_clear)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    failover_report(f, out, FAILOVER_INFO, "event=master.cleared instance=%s member=%s after_ms=%lld",
                    f->record.name, topology_address_format(&f->record.master, text),
                    (long long)(event->now_us - f->suspect_at_us) / 1000);
    f->suspect_at_us = 0;
    f->hinted = false;
    failover_publish(f, out, &f->record);
}

/* ---- intent ---------------------------------------------------------------------------------------------
 */

FAILOVER_EFFECT(failover_do_commit_intent)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct health_judgement j;
    failover_judge(f, event, &j);
    assert(j.verdict != TOPOLOGY_VERDICT_NONE && f->record.state == TOPOLOGY_STABLE);
    f->timeline = failover_timeline_unknown;
    f->timeline.detect_us = event->now_us - f->suspect_at_us;
    f->commit_at_us = event->now_us;
    struct topology_instance *p = &f->proposed;
    *p = f->record;
    p->state = TOPOLOGY_SEALING;
    p->epoch++;
    memset(&p->master, 0, sizeof(p->master));
    memset(&p->failover, 0, sizeof(p->failover));
    p->failover.at_ms = event->wall_ms;
    p->failover.verdict = j.verdict;
    p->failover.epoch = p->epoch;
    p->failover.old_master = f->record.master;
    p->failover.timeline = f->timeline;
    snprintf(p->failover.evidence, sizeof(p->failover.evidence), "%s", j.evidence);
    failover_report(f, out, FAILOVER_WARN,
                    "event=failover.begun instance=%s verdict=%s epoch=%llu master=%s evidence=\"%s\"",
                    p->name, topology_verdict_name(j.verdict), (unsigned long long)p->epoch,
                    topology_address_format(&f->record.master, text), j.evidence);
    failover_commit(f, out, false);
}

FAILOVER_EFFECT(failover_do_reload)
{
    failover_report(
        f, out, FAILOVER_WARN,
        "event=commit.failed instance=%s epoch=%llu reason=\"%s\" next=\"reading the record again\"",
        f->record.name, (unsigned long long)f->proposed.epoch, err_text(event->err));
    failover_add(out, FAILOVER_DO_RELOAD, -1, f->record.epoch);
}
