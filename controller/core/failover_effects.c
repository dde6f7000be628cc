/* Guards and effects up to the committed intent: leadership, watching, evidence; failover_promote.c goes on.
 */
#include "controller/core/failover_table.h"
#include "controller/core/restraint.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Pace of the probes while the master is suspect, microseconds. */
static const int64_t probe_first_us = 1000, probe_last_us = 100 * 1000;
static const int64_t busy_limit_us = 5000 * 1000; /* a master that runs a script for longer is degraded */
enum { FAILOVER_PROBES_BEFORE_REPORT = 8 };

static int failover_master(const struct failover *f)
{
    return topology_member_find(&f->record, &f->record.master);
}

const struct health_trust *failover_trust(const struct failover_event *event)
{
    static const struct health_trust trusted = {.n_controllers = 1};
    return event->trust ? event->trust : &trusted;
}

static void failover_judge(const struct failover *f, const struct failover_event *event,
                           struct health_judgement *out)
{
    health_judge(&f->record, f->health, &f->votes, failover_trust(event),
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

FAILOVER_GUARD(failover_has_verdict_but_restrained)
{
    struct health_judgement j;
    struct restraint r;
    failover_judge(f, event, &j);
    if (j.verdict == TOPOLOGY_VERDICT_NONE)
        return false;
    restraint_judge(&f->record, j.verdict, event->maintenance, event->wall_ms, &r);
    return r.refused;
}

/* It answers, but not as a master should: safety.md §2, DEGRADED. A script may be long, but not that long. */
static enum health_said failover_degradation(const struct failover *f, int64_t now_us)
{
    const struct health_member *m = &f->health[failover_master(f)];
    switch (m->said) {
    case HEALTH_SAID_BUSY:
        return now_us - m->said_us >= busy_limit_us ? HEALTH_SAID_BUSY : f->degraded;
    case HEALTH_SAID_MISCONF:
    case HEALTH_SAID_OOM:
    case HEALTH_SAID_MAXCLIENTS:
    case HEALTH_SAID_NOAUTH:
        return m->said;
    default:
        return HEALTH_SAID_OK;
    }
}

FAILOVER_GUARD(failover_is_degraded_anew)
{
    return failover_degradation(f, event->now_us) != f->degraded;
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
    f->promote_pending = f->hinted = f->surveying = f->untold = false;
    memset(&f->readiness, 0, sizeof(f->readiness));
    f->degraded = HEALTH_SAID_OK;
    f->waiting[0] = '\0';
    memset(&f->order, 0, sizeof(f->order)); /* the engine answers what is owed when leadership ends */
    for (int k = 0; k < TOPOLOGY_MEMBERS_MAX; k++) {
        f->members[k].sealed = f->members[k].seal_pending = f->members[k].replicate_pending = false;
        f->members[k].retry_at_us = 0;
    }
    failover_forget_fences(f);
}

FAILOVER_EFFECT(failover_do_watch)
{
    (void)event;
    failover_drop_setting(f, out);
    f->suspect_at_us = 0;
    if (f->untold)
        failover_publish(f, out, &f->record);
    f->untold = false;
}

/* ---- watching -------------------------------------------------------------------------------------------
 */

FAILOVER_EFFECT(failover_do_suspect)
{
    (void)out;
    f->suspect_at_us = event->now_us;
    f->probes = 0;
    f->probe_at_us = 0;
    f->surveying = false;
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
    snprintf(h->evidence, sizeof(h->evidence), "it was sealed at offset %lld%s; its own history ends here",
             (long long)info->offset, restarted ? " after a restart" : "");
    failover_report(f, out, h->lost_bytes > 0 ? FAILOVER_WARN : FAILOVER_INFO,
                    "event=member.rejoined instance=%s member=%s lost_bytes=%lld restarted=%s",
                    f->record.name, topology_address_format(&member->address, text), (long long)h->lost_bytes,
                    restarted ? "yes" : "no");
    failover_add(out, FAILOVER_DO_HISTORY, event->member, f->record.epoch)->has_history = true;
    if (failover_awaits_fence(f, event->member)) {
        m->retry_at_us = 0; /* row 24, once it is */
        return;
    }
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

/* Asks the others at most once a probe_last_us, and as soon as their answer can complete a verdict. */
static void failover_survey(struct failover *f, const struct failover_event *event,
                            struct failover_update *out, const struct health_judgement *j)
{
    if (!j->wants_votes || f->surveying || event->now_us < f->votes.asked_us + probe_last_us)
        return;
    f->surveying = true;
    failover_add(out, FAILOVER_DO_SURVEY, failover_master(f), f->record.epoch);
}

FAILOVER_EFFECT(failover_do_probe)
{
    struct health_judgement j;
    failover_judge(f, event, &j);
    failover_survey(f, event, out, &j);
    if (f->probes > 0 && event->now_us < f->probe_at_us) {
        f->deadline_us = j.again_us != 0 && j.again_us < f->probe_at_us ? j.again_us : f->probe_at_us;
        return;
    }
    int64_t pace_us = f->probes < 7 ? probe_first_us << f->probes : probe_last_us;
    f->probe_at_us = event->now_us + (pace_us < probe_last_us ? pace_us : probe_last_us);
    f->deadline_us = j.again_us != 0 && j.again_us < f->probe_at_us ? j.again_us : f->probe_at_us;
    f->probes++;
    for (int k = 0; k < (int)f->record.n_members; k++)
        failover_add(out, FAILOVER_DO_PROBE, k, f->record.epoch);
    if (f->probes == FAILOVER_PROBES_BEFORE_REPORT) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        snprintf(f->waiting, sizeof(f->waiting), "master suspect, no verdict: %s", j.evidence);
        failover_report(
            f, out, FAILOVER_WARN,
            "event=master.suspect instance=%s member=%s evidence=\"%s\" next=\"probing; not enough for a "
            "failover\"",
            f->record.name, topology_address_format(&f->record.master, text), j.evidence);
    }
}

/* A verdict that may not be acted on: looks on, so that it is known when it is over. */
static void failover_look_on(struct failover *f, const struct failover_event *event,
                             struct failover_update *out, struct health_judgement *j)
{
    failover_judge(f, event, j);
    failover_survey(f, event, out, j);
    if (event->now_us >= f->probe_at_us) {
        f->probe_at_us = event->now_us + probe_last_us;
        for (int k = 0; k < (int)f->record.n_members; k++)
            failover_add(out, FAILOVER_DO_PROBE, k, f->record.epoch);
    }
    f->deadline_us = f->probe_at_us;
}

FAILOVER_EFFECT(failover_do_report_restrained)
{
    struct health_judgement j;
    struct restraint r;
    char text[FAILOVER_TEXT_MAX + 1];
    failover_look_on(f, event, out, &j);
    restraint_judge(&f->record, j.verdict, event->maintenance, event->wall_ms, &r);
    bool said = strncmp(f->waiting, "restrained: ", 12) == 0;
    snprintf(text, sizeof(text), "restrained: %s, but %s", topology_verdict_name(j.verdict), r.why);
    memcpy(f->waiting, text, sizeof(text));
    if (said)
        return; /* the seconds that are left count down: once is enough */
    failover_report(f, out, FAILOVER_ERROR,
                    "event=failover.restrained instance=%s verdict=%s evidence=\"%s\" why=\"%s\"",
                    f->record.name, topology_verdict_name(j.verdict), j.evidence, r.why);
}

FAILOVER_EFFECT(failover_do_report_degraded)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    enum health_said now = failover_degradation(f, event->now_us);
    struct topology_history *h = &out->history;
    memset(h, 0, sizeof(*h));
    h->kind = TOPOLOGY_HISTORY_DEGRADED;
    h->at_ms = event->wall_ms;
    h->epoch = f->record.epoch;
    h->term = f->term;
    h->row = out->row;
    h->from = f->record.master;
    snprintf(h->evidence, sizeof(h->evidence),
             now == HEALTH_SAID_OK ? "the master is well again (it said %s)" : "the master lives but says %s",
             health_said_name(now == HEALTH_SAID_OK ? f->degraded : now));
    failover_report(f, out, now == HEALTH_SAID_OK ? FAILOVER_INFO : FAILOVER_ERROR,
                    "event=master.%s instance=%s member=%s said=%s next=\"%s\"",
                    now == HEALTH_SAID_OK ? "recovered" : "degraded", f->record.name,
                    topology_address_format(&f->record.master, text), health_said_name(now),
                    now == HEALTH_SAID_OK       ? "nothing"
                    : now == HEALTH_SAID_NOAUTH ? "mend the instance's user and password"
                                                : "look at that server; it is no reason for a failover");
    f->degraded = now;
    failover_add(out, FAILOVER_DO_HISTORY, -1, f->record.epoch)->has_history = true;
}

FAILOVER_EFFECT(failover_do_report_off)
{
    struct health_judgement j;
    failover_look_on(f, event, out, &j);
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

void failover_propose_intent(struct failover *f, const struct failover_event *event,
                             enum topology_verdict verdict, const char *evidence)
{
    assert(f->record.state == TOPOLOGY_STABLE);
    f->commit_at_us = event->now_us;
    struct topology_instance *p = &f->proposed;
    *p = f->record;
    p->state = TOPOLOGY_SEALING;
    p->epoch++;
    topology_readers_clear(p);
    memset(&p->master, 0, sizeof(p->master));
    memset(&p->failover, 0, sizeof(p->failover));
    p->failover.at_ms = event->wall_ms;
    p->failover.verdict = verdict;
    p->failover.epoch = p->epoch;
    p->failover.old_master = f->record.master;
    p->failover.timeline = f->timeline;
    snprintf(p->failover.evidence, sizeof(p->failover.evidence), "%s", evidence);
}

FAILOVER_EFFECT(failover_do_commit_intent)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct health_judgement j;
    failover_judge(f, event, &j);
    assert(j.verdict != TOPOLOGY_VERDICT_NONE);
    f->timeline = failover_timeline_unknown;
    f->timeline.detect_us = event->now_us - f->suspect_at_us;
    failover_propose_intent(f, event, j.verdict, j.evidence);
    restraint_count(&f->record, j.verdict, event->wall_ms, &f->proposed);
    failover_report(f, out, FAILOVER_WARN,
                    "event=failover.begun instance=%s verdict=%s epoch=%llu master=%s evidence=\"%s\"",
                    f->record.name, topology_verdict_name(j.verdict), (unsigned long long)f->proposed.epoch,
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
    failover_answer(f, out, ERR_BUSY,
                    "not done, or not known whether: the commit failed (%s); look at mrctl topology %s",
                    err_text(event->err), f->record.name);
}
