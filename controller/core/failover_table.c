/* The table itself. Its dump is a golden file and part of ARCHITECTURE.md; log lines and history entries
 * carry the numbers. Order matters: the first row that matches wins. */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define IN(phase) (1u << FAILOVER_##phase)
#define ANY       ((1u << FAILOVER_PHASES) - 1)
/* Phases in which no commit of ours is under way. */
#define SETTLED                                                                                              \
    (IN(IDLE) | IN(WATCH) | IN(CONFIRM) | IN(SEAL) | IN(DONOR) | IN(PROMOTE) | IN(RELOAD) | IN(FENCE))
#define SWITCHING (IN(HOLD) | IN(DRAIN))

/* clang-format off */
const struct failover_row failover_table[] = {
    /* -- leadership and records: whatever was under way goes on from the durable state (safety.md §3) -- */
    {10, ANY, FAILOVER_AT_LOST, NULL, failover_do_stop, FAILOVER_IDLE,
     "leadership ended", "stop acting; keep observing"},
    {11, SETTLED, FAILOVER_AT_RECORD, failover_is_stable, failover_do_watch, FAILOVER_WATCH,
     "the record is STABLE", "watch the master"},
    {12, SETTLED | SWITCHING, FAILOVER_AT_RECORD, failover_is_sealing, failover_do_resume_seal, FAILOVER_SEAL,
     "the record is SEALING", "resume: hold the proxies, seal every reachable member"},
    {13, SETTLED | SWITCHING, FAILOVER_AT_RECORD, failover_is_promoting, failover_do_resume_promote, FAILOVER_PROMOTE,
     "the record is PROMOTING", "resume: promote the candidate again (idempotent)"},
    {14, SWITCHING, FAILOVER_AT_RECORD, failover_is_stable, failover_do_roll_back, FAILOVER_WATCH,
     "somebody else changed the record during a switchover", "roll back"},

    /* -- watching (§2) -- */
    {20, IN(WATCH), FAILOVER_AT_ENTER, failover_is_suspect, failover_do_suspect, FAILOVER_CONFIRM,
     "something is wrong with the master", "note the time; probe master and replicas"},
    {21, IN(WATCH), FAILOVER_AT_ENTER, failover_has_membership_fact, failover_do_commit_fact, FAILOVER_REPAIR,
     "a replica synced with a new incarnation, or an unregistered one is attached", "commit the membership"},
    {22, IN(WATCH), FAILOVER_AT_ENTER, failover_is_degraded_anew, failover_do_report_degraded, FAILOVER_WATCH,
     "the master answers BUSY for long, MISCONF, OOM, NOAUTH or takes no clients; or not any more", "say so; into history"},
    {23, IN(WATCH), FAILOVER_AT_ENTER, failover_has_other_readers, failover_do_commit_readers, FAILOVER_REPAIR,
     "a replica has become fit to serve reads, or isn't any more", "commit who may serve them"},
    {24, IN(WATCH), FAILOVER_AT_ENTER, NULL, failover_do_tend, FAILOVER_WATCH,
     "the master is well", "seal strays, re-point lost replicas, confirm the route to a proxy that asked"},
    {25, IN(WATCH), FAILOVER_AT_SEALED, NULL, failover_do_rejoin, FAILOVER_WATCH,
     "a stray answered its seal", "record its divergent bytes; make it a replica"},
    {26, IN(WATCH), FAILOVER_AT_REPLICATING, NULL, failover_do_replicated, FAILOVER_WATCH,
     "a member took its master", "look at it again"},

    /* -- gathering evidence (§2): only all of it is a verdict -- */
    {30, IN(CONFIRM), FAILOVER_AT_ENTER, failover_has_verdict_but_restrained, failover_do_report_restrained, FAILOVER_CONFIRM,
     "verdict, but maintenance or cooldown", "say so; look on"},
    {31, IN(CONFIRM), FAILOVER_AT_ENTER, failover_has_verdict_but_off, failover_do_report_off, FAILOVER_CONFIRM,
     "verdict, but auto_failover is off", "say so, once"},
    {32, IN(CONFIRM), FAILOVER_AT_ENTER, failover_has_verdict, failover_do_commit_intent, FAILOVER_INTENT,
     "DEAD, RESTARTED, DEMOTED, UNREACHABLE or HUNG with all of its evidence", "commit SEALING, epoch + 1"},
    {33, IN(CONFIRM), FAILOVER_AT_ENTER, failover_is_healthy, failover_do_clear, FAILOVER_WATCH,
     "the same incarnation answers again", "confirm the route to the proxies"},
    {34, IN(CONFIRM), FAILOVER_AT_ENTER, NULL, failover_do_probe, FAILOVER_CONFIRM,
     "evidence is incomplete", "probe again, 1 ms to 100 ms later; ask the other controllers when their word would complete it"},

    /* -- the intent is committed before Redis is touched (§3, §4.1) -- */
    {40, IN(INTENT), FAILOVER_AT_COMMITTED, NULL, failover_do_begin_seal, FAILOVER_SEAL,
     "SEALING is committed", "hold the proxies; seal every reachable member"},
    {41, IN(INTENT), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},

    /* -- seal and choose (§4.2, §4.3) -- */
    {49, IN(SEAL), FAILOVER_AT_ENTER, failover_has_nameless_donor, failover_do_name_donor, FAILOVER_INTENT,
     "the most complete member gave before, in an interrupted failover, and its history has a name of its own", "commit SEALING again, epoch + 1, with that name"},
    {50, IN(SEAL), FAILOVER_AT_ENTER, failover_has_donor, failover_do_donate, FAILOVER_DONOR,
     "the most complete member must not be master", "let it give: pause its writes, REPLICAOF NO ONE"},
    {51, IN(SEAL), FAILOVER_AT_ENTER, failover_has_choice, failover_do_commit_choice, FAILOVER_CHOICE,
     "every reachable member answered (or its time is up) and one may be promoted", "commit PROMOTING, the candidate, its offset"},
    {52, IN(SEAL), FAILOVER_AT_ENTER, NULL, failover_do_seal, FAILOVER_SEAL,
     "answers are missing, or nobody may be promoted", "seal whoever became reachable; say who is missing"},

    /* -- a donor (§4.3): still SEALING, no route leads to it -- */
    {53, IN(DONOR), FAILOVER_AT_DONATING, failover_is_donor_lost, failover_do_abandon_donation, FAILOVER_SEAL,
     "the donor refused or is gone", "choose without it; say that its data is lost"},
    {54, IN(DONOR), FAILOVER_AT_DONATING, NULL, failover_do_feed, FAILOVER_DONOR,
     "the donor gives", "REPLICAOF donor on the one that may be master, once that is fenced or can't be"},
    {55, IN(DONOR), FAILOVER_AT_ENTER, failover_has_donated, failover_do_end_donation, FAILOVER_SEAL,
     "the recipient has all of it", "seal everybody again, and choose"},
    {56, IN(DONOR), FAILOVER_AT_ENTER, failover_is_donor_lost, failover_do_abandon_donation, FAILOVER_SEAL,
     "donor or recipient can't be reached, or it takes too long", "choose without it; say that its data is lost"},
    {57, IN(DONOR), FAILOVER_AT_ENTER, NULL, failover_do_await_recipient, FAILOVER_DONOR,
     "not yet", "look again"},
    {58, IN(DONOR), FAILOVER_AT_REPLICATING, NULL, failover_do_nothing, FAILOVER_DONOR,
     "the recipient took the donor", "its own INFO will tell"},

    /* -- promote (§4.4) -- */
    {60, IN(CHOICE), FAILOVER_AT_COMMITTED, NULL, failover_do_promote, FAILOVER_PROMOTE,
     "PROMOTING is committed", "the epoch's user, if it is fenced; then REPLICAOF NO ONE on the candidate"},
    {61, IN(CHOICE), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},
    {70, IN(PROMOTE), FAILOVER_AT_PROMOTED, failover_is_promoted, failover_do_finish, FAILOVER_FINISH,
     "the candidate answered role:master", "publish the route; re-parent the others; commit STABLE with epoch row and history"},
    {71, IN(PROMOTE), FAILOVER_AT_PROMOTED, NULL, failover_do_restart_intent, FAILOVER_INTENT,
     "the candidate refused or is gone", "commit SEALING again, epoch + 1"},
    {72, IN(PROMOTE), FAILOVER_AT_ENTER, failover_is_candidate_lost, failover_do_restart_intent, FAILOVER_INTENT,
     "the candidate can't be reached, or another process answers at its address", "commit SEALING again, epoch + 1"},
    {73, IN(PROMOTE), FAILOVER_AT_ENTER, NULL, failover_do_await_candidate, FAILOVER_PROMOTE,
     "no answer yet", "promote it once its link is up, and it is fenced or can't be; wait no longer than the limit"},

    /* -- finish (§4.5) -- */
    {80, IN(FINISH), FAILOVER_AT_COMMITTED, NULL, failover_do_end, FAILOVER_WATCH,
     "STABLE is committed", "say what it took"},
    {81, IN(FINISH), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},
    {82, IN(FINISH), FAILOVER_AT_REPLICATING, NULL, failover_do_nothing, FAILOVER_FINISH,
     "a member took its new master", "its own INFO will tell"},

    /* -- membership (§5: registered before it counts) -- */
    {90, IN(REPAIR), FAILOVER_AT_COMMITTED, NULL, failover_do_fact_committed, FAILOVER_WATCH,
     "the membership, or who serves reads, is committed", "publish the route; go on watching"},
    {91, IN(REPAIR), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},

    /* -- planned switchover (§6): nothing durable changes before both ends are in step -- */
    {100, IN(WATCH), FAILOVER_AT_COMMAND, failover_may_switch, failover_do_hold, FAILOVER_HOLD,
     "a switchover is ordered and possible", "hold the proxies"},
    {101, SWITCHING, FAILOVER_AT_ENTER, failover_cannot_switch, failover_do_roll_back, FAILOVER_WATCH,
     "master or target is in trouble, or the time limit is over", "unpause, publish the route, say why"},
    {102, IN(HOLD), FAILOVER_AT_ENTER, failover_all_hold, failover_do_pause_master, FAILOVER_DRAIN,
     "every proxy holds, or its time is up", "CLIENT PAUSE WRITE on the master; ask its offset"},
    {103, IN(HOLD), FAILOVER_AT_ENTER, NULL, failover_do_await_holders, FAILOVER_HOLD,
     "some proxies have not answered", "wait, no longer than their limit"},
    {104, IN(DRAIN), FAILOVER_AT_PAUSED, failover_is_paused, failover_do_probe_target, FAILOVER_DRAIN,
     "the master takes no writes", "ask the target"},
    {105, IN(DRAIN), FAILOVER_AT_PAUSED, NULL, failover_do_roll_back, FAILOVER_WATCH,
     "the master could not be paused", "unpause, publish the route, say why"},
    {106, IN(DRAIN), FAILOVER_AT_ENTER, failover_has_caught_up, failover_do_commit_switch, FAILOVER_INTENT,
     "the target has every byte", "commit SEALING, PLANNED, epoch + 1"},
    {107, IN(DRAIN), FAILOVER_AT_ENTER, NULL, failover_do_await_target, FAILOVER_DRAIN,
     "the target lacks bytes", "ask it again"},

    /* -- operators (§7) -- */
    {110, IN(WATCH) | IN(CONFIRM), FAILOVER_AT_COMMAND, failover_may_force, failover_do_force, FAILOVER_INTENT,
     "a failover is ordered and possible", "commit SEALING, MANUAL, epoch + 1"},
    {111, IN(SEAL), FAILOVER_AT_COMMAND, failover_may_force_on, failover_do_force_on, FAILOVER_INTENT,
     "nobody may be promoted, and loss of data is allowed now", "commit SEALING again, epoch + 1"},
    {112, IN(WATCH) | IN(CONFIRM), FAILOVER_AT_COMMAND, failover_may_set, failover_do_commit_policy, FAILOVER_POLICY,
     "set, pause, resume, ack or forget, and it may be", "commit it; that a promise ends is told first"},
    {113, IN(POLICY), FAILOVER_AT_COMMITTED, NULL, failover_do_policy_committed, FAILOVER_WATCH,
     "it is committed", "publish the route; answer"},
    {114, IN(POLICY), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},
    {115, IN(WATCH), FAILOVER_AT_COMMAND, failover_may_fence, failover_do_try_fence, FAILOVER_FENCE,
     "set turns the fence on or off, and it may be", "make the epoch's user on the master"},
    {116, IN(FENCE), FAILOVER_AT_FENCED, failover_is_fence_tried, failover_do_commit_fence, FAILOVER_POLICY,
     "the master has it; off: the template may log in there, or the master refused", "commit what was to be set"},
    {117, IN(FENCE), FAILOVER_AT_FENCED, failover_is_fence_refused, failover_do_refuse_fence, FAILOVER_WATCH,
     "the master refused, or is gone; off: nobody could log in", "refuse the order, and say why"},
    {118, IN(FENCE), FAILOVER_AT_ENTER, failover_is_fence_hopeless, failover_do_refuse_fence, FAILOVER_WATCH,
     "the master is in trouble, or doesn't answer", "refuse the order"},
    {119, ANY, FAILOVER_AT_COMMAND, NULL, failover_do_refuse, FAILOVER_STAY,
     "any other order", "refuse it, with the arithmetic"},
};
/* clang-format on */

const uint32_t failover_table_rows = sizeof(failover_table) / sizeof(failover_table[0]);

const char *failover_trigger_name(enum failover_trigger t)
{
    static const char *const names[] = {
        [FAILOVER_AT_ENTER] = "evidence",       [FAILOVER_AT_COMMITTED] = "committed",
        [FAILOVER_AT_FAILED] = "commit failed", [FAILOVER_AT_SEALED] = "sealed",
        [FAILOVER_AT_PROMOTED] = "promoted",    [FAILOVER_AT_REPLICATING] = "replicating",
        [FAILOVER_AT_RECORD] = "record read",   [FAILOVER_AT_LOST] = "leadership lost",
        [FAILOVER_AT_COMMAND] = "order",        [FAILOVER_AT_PAUSED] = "paused",
        [FAILOVER_AT_DONATING] = "donating",    [FAILOVER_AT_FENCED] = "fenced",
    };
    assert((size_t)t < sizeof(names) / sizeof(names[0]));
    return names[t];
}

void failover_row_format(const struct failover_row *row, char *text, size_t size)
{
    char phases[128] = "";
    size_t at = 0;
    assert(row && text);
    if (row->phases == ANY) {
        snprintf(phases, sizeof(phases), "any");
    } else if ((row->phases & SETTLED) == SETTLED) {
        snprintf(phases, sizeof(phases), "any without a commit under way%s",
                 row->phases & IN(HOLD) ? "" : " or switchover");
    } else {
        for (int p = 0; p < FAILOVER_PHASES; p++)
            if (row->phases & (1u << p))
                at += (size_t)snprintf(phases + at, sizeof(phases) - at, "%s%s", at ? " " : "",
                                       failover_phase_name((enum failover_phase)p));
    }
    snprintf(text, size, "| %u | %s | %s | %s | %s | %s |", row->number, phases,
             failover_trigger_name(row->at), row->condition, row->does,
             row->next == FAILOVER_STAY ? "the same" : failover_phase_name(row->next));
}
