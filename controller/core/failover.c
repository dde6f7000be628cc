/* Running the table: absorb the event into what is known, then let the first matching row act.
 *
 *   event ─► absorb (record, health, answers; stale ones end here) ─► trigger ─► row ─► effect ─► move ─►
 * enter rows
 */
#include "controller/core/failover.h"
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FAILOVER_MOVES_MAX = 8 }; /* more in one step would be a cycle of the table: our bug */

void failover_init(struct failover *f)
{
    assert(f);
    memset(f, 0, sizeof(*f));
    f->phase = FAILOVER_IDLE;
    for (int k = 0; k < TOPOLOGY_MEMBERS_MAX; k++)
        info_init(&f->health[k].info);
}

int64_t failover_deadline_us(const struct failover *f)
{
    return f->deadline_us;
}

struct failover_action *failover_add(struct failover_update *out, enum failover_action_type type, int member,
                                     uint64_t epoch)
{
    assert(out->n < FAILOVER_ACTIONS_MAX);
    struct failover_action *a = &out->actions[out->n++];
    memset(a, 0, sizeof(*a));
    a->type = type;
    a->member = member;
    a->epoch = epoch;
    return a;
}

void failover_report(struct failover *f, struct failover_update *out, enum failover_level level,
                     const char *fmt, ...)
{
    if (out->n_reports == FAILOVER_REPORTS_MAX - 1) /* the last one is kept for failover_answer() */
        return;
    struct failover_report *r = &out->reports[out->n_reports];
    r->level = level;
    r->row = out->row;
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->text, sizeof(r->text), fmt, args);
    va_end(args);
    failover_add(out, FAILOVER_DO_REPORT, -1, f->record.epoch)->report = out->n_reports++;
}

void failover_answer(struct failover *f, struct failover_update *out, int err, const char *fmt, ...)
{
    if (f->order.id == 0)
        return;
    /* Reports of the same step may be left out; the operator's answer may not. */
    uint32_t k = out->n_reports < FAILOVER_REPORTS_MAX ? out->n_reports++ : FAILOVER_REPORTS_MAX - 1;
    struct failover_report *r = &out->reports[k];
    r->level = FAILOVER_INFO;
    r->row = out->row;
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->text, sizeof(r->text), fmt, args);
    va_end(args);
    struct failover_action *a = failover_add(out, FAILOVER_DO_ANSWER, -1, f->record.epoch);
    a->report = k;
    a->command = f->order.id;
    a->err = err;
    memset(&f->order, 0, sizeof(f->order));
}

void failover_publish(struct failover *f, struct failover_update *out, const struct topology_instance *route)
{
    f->route = *route;
    failover_add(out, FAILOVER_DO_PUBLISH, -1, route->epoch);
}

void failover_commit(struct failover *f, struct failover_update *out, bool has_history)
{
    failover_add(out, FAILOVER_DO_COMMIT, -1, f->proposed.epoch)->has_history = has_history;
}

/* ---- deciding -------------------------------------------------------------------------------------------
 */

static enum failover_trigger failover_trigger_of(const struct failover *f, const struct failover_event *event)
{
    switch (event->type) {
    case FAILOVER_ON_RECORD:
        return FAILOVER_AT_RECORD;
    case FAILOVER_ON_LEAD:
        return f->term == 0 ? FAILOVER_AT_LOST : FAILOVER_AT_RECORD;
    case FAILOVER_ON_COMMITTED:
        return FAILOVER_AT_COMMITTED;
    case FAILOVER_ON_COMMIT_FAILED:
        return FAILOVER_AT_FAILED;
    case FAILOVER_ON_SEALED:
        return f->phase == FAILOVER_WATCH ? FAILOVER_AT_SEALED : FAILOVER_AT_ENTER;
    case FAILOVER_ON_PROMOTED:
        return FAILOVER_AT_PROMOTED;
    case FAILOVER_ON_REPLICATING:
        return FAILOVER_AT_REPLICATING;
    case FAILOVER_ON_COMMAND:
        return FAILOVER_AT_COMMAND;
    case FAILOVER_ON_PAUSED:
        return FAILOVER_AT_PAUSED;
    case FAILOVER_ON_DONATING:
        return FAILOVER_AT_DONATING;
    case FAILOVER_ON_FENCED:
        return f->phase == FAILOVER_FENCE ? FAILOVER_AT_FENCED : FAILOVER_AT_ENTER;
    default:
        return FAILOVER_AT_ENTER;
    }
}

static const struct failover_row *failover_match(const struct failover *f, const struct failover_event *event,
                                                 enum failover_trigger at)
{
    for (uint32_t k = 0; k < failover_table_rows; k++) {
        const struct failover_row *row = &failover_table[k];
        if (row->at == at && (row->phases & (1u << f->phase)) && (!row->guard || row->guard(f, event)))
            return row;
    }
    return NULL;
}

/* The one place where the phase changes. */
static void failover_move(struct failover *f, enum failover_phase next, int64_t now_us)
{
    f->phase = next;
    f->phase_at_us = now_us;
    if (next != FAILOVER_SEAL && next != FAILOVER_CONFIRM)
        f->waiting[0] = '\0';
}

/* Durable state and phase must agree, or the table has a hole. */
static void failover_check(const struct failover *f)
{
    switch (f->phase) {
    case FAILOVER_WATCH:
    case FAILOVER_CONFIRM:
    case FAILOVER_REPAIR:
        assert(f->record.state == TOPOLOGY_STABLE);
        break;
    case FAILOVER_SEAL:
    case FAILOVER_CHOICE:
        assert(f->record.state == TOPOLOGY_SEALING);
        break;
    case FAILOVER_PROMOTE:
    case FAILOVER_FINISH:
        assert(f->record.state == TOPOLOGY_PROMOTING);
        break;
    case FAILOVER_HOLD:
    case FAILOVER_DRAIN:
    case FAILOVER_POLICY:
        assert(f->record.state == TOPOLOGY_STABLE);
        break;
    case FAILOVER_DONOR:
        assert(f->record.state == TOPOLOGY_SEALING);
        break;
    case FAILOVER_FENCE:
        assert(f->record.state == TOPOLOGY_STABLE && f->order.id != 0);
        break;
    case FAILOVER_IDLE:
    case FAILOVER_INTENT:
    case FAILOVER_RELOAD:
    case FAILOVER_PHASES:
        break;
    }
    assert(f->phase == FAILOVER_IDLE || f->term != 0);
}

void failover_step(struct failover *f, const struct failover_event *event, struct failover_update *out)
{
    assert(f && event && out);
    assert((int)event->type >= 0 && event->type < FAILOVER_EVENTS);
    out->n = 0;
    out->n_reports = 0;
    out->row = 0;
    out->taken = 0;
    assert(failover_table_rows <= 64);
    bool counts = failover_absorb(f, event);
    failover_observe_readers(f, event);
    if (!counts)
        return;
    enum failover_trigger at = failover_trigger_of(f, event);
    for (int moves = 0;; moves++) {
        assert(moves < FAILOVER_MOVES_MAX);
        const struct failover_row *row = failover_match(f, event, at);
        if (!row)
            break;
        out->row = row->number;
        out->taken |= UINT64_C(1) << (row - failover_table);
        if (row->next != f->phase && row->next != FAILOVER_STAY)
            f->deadline_us = 0;
        row->effect(f, event, out);
        if (row->next == f->phase || row->next == FAILOVER_STAY)
            break;
        failover_move(f, row->next, event->now_us);
        at = FAILOVER_AT_ENTER;
    }
    failover_tend_fences(f, event, out);
    failover_observe_readiness(f, event, out);
    failover_check(f);
}

/* ---- names ----------------------------------------------------------------------------------------------
 */

const char *failover_phase_name(enum failover_phase p)
{
    static const char *const names[FAILOVER_PHASES] = {
        "IDLE",   "WATCH",  "CONFIRM", "INTENT", "SEAL",  "CHOICE", "PROMOTE", "FINISH",
        "REPAIR", "RELOAD", "DONOR",   "HOLD",   "DRAIN", "POLICY", "FENCE",
    };
    return (int)p >= 0 && p < FAILOVER_PHASES ? names[p] : "?";
}

const char *failover_event_name(enum failover_event_type t)
{
    static const char *const names[FAILOVER_EVENTS] = {
        "RECORD",   "LEAD",        "COMMITTED", "COMMIT_FAILED", "LINK_UP", "LINK_DOWN", "INFO",  "SEALED",
        "PROMOTED", "REPLICATING", "HINT",      "TICK",          "MUTE",    "HEARD",     "KNOCK", "PINGS",
        "SURVEYED", "HELD",        "PAUSED",    "DONATING",      "FENCED",  "COMMAND",
    };
    return (int)t >= 0 && t < FAILOVER_EVENTS ? names[t] : "?";
}

const char *failover_action_name(enum failover_action_type t)
{
    static const char *const names[] = {
        "COMMIT", "HISTORY", "PROBE", "SEAL",  "PROMOTE", "REPLICATE", "PUBLISH", "RELOAD",
        "REPORT", "SURVEY",  "HOLD",  "PAUSE", "UNPAUSE", "DONATE",    "FENCE",   "ANSWER",
    };
    return (int)t >= 0 && (size_t)t < sizeof(names) / sizeof(names[0]) ? names[t] : "?";
}
