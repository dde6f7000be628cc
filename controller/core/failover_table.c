/* The table itself. Its dump is a golden file and part of ARCHITECTURE.md; log lines and history entries
 * carry the numbers. Order matters: the first row that matches wins. */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define IN(phase) (1u << FAILOVER_##phase)
#define ANY       ((1u << FAILOVER_PHASES) - 1)
/* Phases in which no commit of ours is under way. */
#define SETTLED (IN(IDLE) | IN(WATCH) | IN(CONFIRM) | IN(SEAL) | IN(PROMOTE) | IN(RELOAD))

/* clang-format off */
const struct failover_row failover_table[] = {
    /* -- leadership and records: whatever was under way goes on from the durable state (safety.md §3) -- */
    {10, ANY, FAILOVER_AT_LOST, NULL, failover_do_stop, FAILOVER_IDLE,
     "leadership ended", "stop acting; keep observing"},
    {11, SETTLED, FAILOVER_AT_RECORD, failover_is_stable, failover_do_watch, FAILOVER_WATCH,
     "the record is STABLE", "watch the master"},
    {12, SETTLED, FAILOVER_AT_RECORD, failover_is_sealing, failover_do_resume_seal, FAILOVER_SEAL,
     "the record is SEALING", "resume: hold the proxies, seal every reachable member"},
    {13, SETTLED, FAILOVER_AT_RECORD, failover_is_promoting, failover_do_resume_promote, FAILOVER_PROMOTE,
     "the record is PROMOTING", "resume: promote the candidate again (idempotent)"},

    /* -- watching (§2) -- */
    {20, IN(WATCH), FAILOVER_AT_ENTER, failover_is_suspect, failover_do_suspect, FAILOVER_CONFIRM,
     "something is wrong with the master", "note the time; probe master and replicas"},
    {21, IN(WATCH), FAILOVER_AT_ENTER, failover_has_membership_fact, failover_do_commit_fact, FAILOVER_REPAIR,
     "a replica synced with a new incarnation, or an unregistered one is attached", "commit the membership"},
    {22, IN(WATCH), FAILOVER_AT_ENTER, NULL, failover_do_tend, FAILOVER_WATCH,
     "the master is well", "seal strays, re-point lost replicas, confirm the route to a proxy that asked"},
    {23, IN(WATCH), FAILOVER_AT_SEALED, NULL, failover_do_rejoin, FAILOVER_WATCH,
     "a stray answered its seal", "record its divergent bytes; make it a replica"},
    {24, IN(WATCH), FAILOVER_AT_REPLICATING, NULL, failover_do_replicated, FAILOVER_WATCH,
     "a member took its master", "look at it again"},

    /* -- gathering evidence (§2): only all of it is a verdict -- */
    {30, IN(CONFIRM), FAILOVER_AT_ENTER, failover_has_verdict_but_off, failover_do_report_off, FAILOVER_CONFIRM,
     "verdict, but auto_failover is off", "say so, once"},
    {31, IN(CONFIRM), FAILOVER_AT_ENTER, failover_has_verdict, failover_do_commit_intent, FAILOVER_INTENT,
     "DEAD, RESTARTED or DEMOTED with all of its evidence", "commit SEALING, epoch + 1"},
    {32, IN(CONFIRM), FAILOVER_AT_ENTER, failover_is_healthy, failover_do_clear, FAILOVER_WATCH,
     "the same incarnation answers again", "confirm the route to the proxies"},
    {33, IN(CONFIRM), FAILOVER_AT_ENTER, NULL, failover_do_probe, FAILOVER_CONFIRM,
     "evidence is incomplete", "probe again, 1 ms to 100 ms later"},

    /* -- the intent is committed before Redis is touched (§3, §4.1) -- */
    {40, IN(INTENT), FAILOVER_AT_COMMITTED, NULL, failover_do_begin_seal, FAILOVER_SEAL,
     "SEALING is committed", "hold the proxies; seal every reachable member"},
    {41, IN(INTENT), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},

    /* -- seal and choose (§4.2, §4.3) -- */
    {50, IN(SEAL), FAILOVER_AT_ENTER, failover_has_choice, failover_do_commit_choice, FAILOVER_CHOICE,
     "every reachable member answered (or its time is up) and one may be promoted", "commit PROMOTING, the candidate, its offset"},
    {51, IN(SEAL), FAILOVER_AT_ENTER, NULL, failover_do_seal, FAILOVER_SEAL,
     "answers are missing, or nobody may be promoted", "seal whoever became reachable; say who is missing"},

    /* -- promote (§4.4) -- */
    {60, IN(CHOICE), FAILOVER_AT_COMMITTED, NULL, failover_do_promote, FAILOVER_PROMOTE,
     "PROMOTING is committed", "REPLICAOF NO ONE on the candidate"},
    {61, IN(CHOICE), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},
    {70, IN(PROMOTE), FAILOVER_AT_PROMOTED, failover_is_promoted, failover_do_finish, FAILOVER_FINISH,
     "the candidate answered role:master", "publish the route; re-parent the others; commit STABLE with epoch row and history"},
    {71, IN(PROMOTE), FAILOVER_AT_PROMOTED, NULL, failover_do_restart_intent, FAILOVER_INTENT,
     "the candidate refused or is gone", "commit SEALING again, epoch + 1"},
    {72, IN(PROMOTE), FAILOVER_AT_ENTER, failover_is_candidate_lost, failover_do_restart_intent, FAILOVER_INTENT,
     "the candidate can't be reached, or another process answers at its address", "commit SEALING again, epoch + 1"},
    {73, IN(PROMOTE), FAILOVER_AT_ENTER, NULL, failover_do_await_candidate, FAILOVER_PROMOTE,
     "no answer yet", "promote it once its link is up; wait no longer than the limit"},

    /* -- finish (§4.5) -- */
    {80, IN(FINISH), FAILOVER_AT_COMMITTED, NULL, failover_do_end, FAILOVER_WATCH,
     "STABLE is committed", "say what it took"},
    {81, IN(FINISH), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},
    {82, IN(FINISH), FAILOVER_AT_REPLICATING, NULL, failover_do_nothing, FAILOVER_FINISH,
     "a member took its new master", "its own INFO will tell"},

    /* -- membership (§5: registered before it counts) -- */
    {90, IN(REPAIR), FAILOVER_AT_COMMITTED, NULL, failover_do_fact_committed, FAILOVER_WATCH,
     "the membership is committed", "go on watching"},
    {91, IN(REPAIR), FAILOVER_AT_FAILED, NULL, failover_do_reload, FAILOVER_RELOAD,
     "the commit lost a race, or its outcome is unknown", "read the record again"},
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
    } else if (row->phases == SETTLED) {
        snprintf(phases, sizeof(phases), "any without a commit under way");
    } else {
        for (int p = 0; p < FAILOVER_PHASES; p++)
            if (row->phases & (1u << p))
                at += (size_t)snprintf(phases + at, sizeof(phases) - at, "%s%s", at ? " " : "",
                                       failover_phase_name((enum failover_phase)p));
    }
    snprintf(text, size, "| %u | %s | %s | %s | %s | %s |", row->number, phases,
             failover_trigger_name(row->at), row->condition, row->does, failover_phase_name(row->next));
}
