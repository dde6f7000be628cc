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

static const int64_t retry_us = 1000 * 1000;     /* REPLICATE or seal of a stray: next try */
static const int64_t seal_retry_us = 250 * 1000; /* a member that answered its seal with an error (loading) */

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
    if (out->n_reports == FAILOVER_REPORTS_MAX)
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

void failover_publish(struct failover *f, struct failover_update *out, const struct topology_instance *route)
{
    f->route = *route;
    failover_add(out, FAILOVER_DO_PUBLISH, -1, route->epoch);
}

void failover_commit(struct failover *f, struct failover_update *out, bool has_history)
{
    failover_add(out, FAILOVER_DO_COMMIT, -1, f->proposed.epoch)->has_history = has_history;
}

/* ---- absorbing ------------------------------------------------------------------------------------------
 */

/* Health and progress belong to addresses; a new record may order its members differently. */
static void failover_install(struct failover *f, const struct topology_instance *record, int32_t version,
                             int64_t revision)
{
    struct health_member health[TOPOLOGY_MEMBERS_MAX];
    struct failover_member members[TOPOLOGY_MEMBERS_MAX];
    for (uint32_t k = 0; k < record->n_members; k++) {
        int old = f->has_record ? topology_member_find(&f->record, &record->members[k].address) : -1;
        if (old >= 0) {
            health[k] = f->health[old];
            members[k] = f->members[old];
        } else {
            memset(&health[k], 0, sizeof(health[k]));
            info_init(&health[k].info);
            memset(&members[k], 0, sizeof(members[k]));
        }
    }
    memcpy(f->health, health, record->n_members * sizeof(health[0]));
    memcpy(f->members, members, record->n_members * sizeof(members[0]));
    f->record = *record;
    f->version = version;
    f->revision = revision;
    f->has_record = true;
}

static bool failover_is_committing(const struct failover *f)
{
    return f->phase == FAILOVER_INTENT || f->phase == FAILOVER_CHOICE || f->phase == FAILOVER_FINISH ||
           f->phase == FAILOVER_REPAIR;
}

static bool failover_absorb_record(struct failover *f, const struct failover_event *event)
{
    assert(event->record);
    if (failover_is_committing(f))
        return false; /* the commit's own answer tells who won; a lost race reads again */
    if (f->has_record && f->phase != FAILOVER_RELOAD && event->revision <= f->revision)
        return false;
    failover_install(f, event->record, event->version, event->revision);
    return f->term != 0;
}

static bool failover_absorb_lead(struct failover *f, const struct failover_event *event)
{
    if (event->term == f->term && f->phase != FAILOVER_IDLE)
        return false;
    f->term = event->term;
    if (f->term == 0)
        return true;
    f->phase = FAILOVER_IDLE;
    return f->has_record;
}

static bool failover_absorb_commit(struct failover *f, const struct failover_event *event)
{
    if (!failover_is_committing(f))
        return false; /* leadership ended meanwhile; the record's watch tells what became of it */
    if (event->type == FAILOVER_ON_COMMITTED)
        failover_install(f, &f->proposed, event->version, event->revision);
    return true;
}

static enum health_link failover_link_of(int err)
{
    switch (err) {
    case ERR_CLOSED:
        return HEALTH_LINK_CLOSED;
    case ERR_REFUSED:
        return HEALTH_LINK_REFUSED;
    case ERR_AUTH:
    case ERR_PROTOCOL:
        return HEALTH_LINK_DENIED;
    default:
        return HEALTH_LINK_SILENT;
    }
}

static void failover_absorb_link(struct failover *f, const struct failover_event *event)
{
    struct health_member *h = &f->health[event->member];
    struct failover_member *m = &f->members[event->member];
    enum health_link link =
        event->type == FAILOVER_ON_LINK_UP ? HEALTH_LINK_UP : failover_link_of(event->err);
    if (h->link != link)
        h->link_at_us = event->now_us;
    h->link = link;
    h->tried_at_us = event->now_us;
    h->info_known = false;
    if (link == HEALTH_LINK_UP)
        h->info.run_id[0] = '\0';       /* who answers here now is not known yet */
    m->sealed = m->seal_failed = false; /* another connection may be another process */
}

static void failover_take_info(struct failover *f, int member, const struct info *info, int64_t now_us)
{
    struct health_member *h = &f->health[member];
    char run_id[TOPOLOGY_RUN_ID_LEN + 1];
    memcpy(run_id, h->info.run_id, sizeof(run_id));
    h->info = *info;
    if (h->info.run_id[0] == '\0') /* an answer without its Server section: same connection, same process */
        memcpy(h->info.run_id, run_id, sizeof(run_id));
    h->info_known = true;
    h->info_at_us = now_us;
}

static bool failover_absorb_sealed(struct failover *f, const struct failover_event *event)
{
    struct failover_member *m = &f->members[event->member];
    if (!m->seal_pending || event->epoch != m->seal_epoch)
        return false; /* the answer to a seal of an earlier epoch */
    m->seal_pending = false;
    bool counts = event->err == 0 && f->health[event->member].link == HEALTH_LINK_UP;
    if (counts) {
        assert(event->info);
        failover_take_info(f, event->member, event->info, event->now_us);
    } else {
        m->retry_at_us = event->now_us + seal_retry_us;
    }
    m->sealed = counts && event->epoch == f->record.epoch;
    m->seal_failed = !m->sealed;
    return true;
}

static bool failover_absorb_promoted(struct failover *f, const struct failover_event *event)
{
    if (f->phase != FAILOVER_PROMOTE || !f->promote_pending || event->epoch != f->record.epoch)
        return false;
    f->promote_pending = false;
    if (event->err == 0) {
        assert(event->info);
        failover_take_info(f, event->member, event->info, event->now_us);
    }
    return true;
}

static bool failover_absorb_replicating(struct failover *f, const struct failover_event *event)
{
    f->members[event->member].replicate_pending = false;
    f->members[event->member].retry_at_us = event->now_us + retry_us;
    return true;
}

static bool failover_absorb_hint(struct failover *f, const struct failover_event *event)
{
    if (f->term == 0 || event->epoch > f->record.epoch)
        return false;
    f->hinted = true;
    f->hinted_at_us = event->now_us;
    return true;
}

/* Takes the event in; false when nothing is to be decided about it. */
static bool failover_absorb(struct failover *f, const struct failover_event *event)
{
    switch (event->type) {
    case FAILOVER_ON_RECORD:
        return failover_absorb_record(f, event);
    case FAILOVER_ON_LEAD:
        return failover_absorb_lead(f, event);
    case FAILOVER_ON_COMMITTED:
    case FAILOVER_ON_COMMIT_FAILED:
        return failover_absorb_commit(f, event);
    default:
        break;
    }
    if (!f->has_record)
        return false;
    if (event->type == FAILOVER_ON_TICK)
        return true;
    if (event->type == FAILOVER_ON_HINT)
        return failover_absorb_hint(f, event);
    assert(event->member >= 0 && event->member < (int)f->record.n_members);
    switch (event->type) {
    case FAILOVER_ON_LINK_UP:
    case FAILOVER_ON_LINK_DOWN:
        failover_absorb_link(f, event);
        return true;
    case FAILOVER_ON_INFO:
        failover_take_info(f, event->member, event->info, event->now_us);
        return true;
    case FAILOVER_ON_SEALED:
        return failover_absorb_sealed(f, event);
    case FAILOVER_ON_PROMOTED:
        return failover_absorb_promoted(f, event);
    case FAILOVER_ON_REPLICATING:
        return failover_absorb_replicating(f, event);
    default:
        assert(!"an event type that absorb does not know");
        return false;
    }
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
    if (!failover_absorb(f, event))
        return;
    enum failover_trigger at = failover_trigger_of(f, event);
    for (int moves = 0;; moves++) {
        assert(moves < FAILOVER_MOVES_MAX);
        const struct failover_row *row = failover_match(f, event, at);
        if (!row)
            break;
        out->row = row->number;
        out->taken |= UINT64_C(1) << (row - failover_table);
        if (row->next != f->phase)
            f->deadline_us = 0;
        row->effect(f, event, out);
        if (row->next == f->phase)
            break;
        failover_move(f, row->next, event->now_us);
        at = FAILOVER_AT_ENTER;
    }
    failover_check(f);
}

/* ---- names ----------------------------------------------------------------------------------------------
 */

const char *failover_phase_name(enum failover_phase p)
{
    static const char *const names[FAILOVER_PHASES] = {
        "IDLE",   "WATCH",  "CONFIRM", "INTENT", "SEAL", "CHOICE", "PROMOTE",
        "FINISH", "REPAIR", "RELOAD",  "DONOR",  "HOLD", "DRAIN",  "POLICY",
    };
    return (int)p >= 0 && p < FAILOVER_PHASES ? names[p] : "?";
}

const char *failover_event_name(enum failover_event_type t)
{
    static const char *const names[FAILOVER_EVENTS] = {
        "RECORD", "LEAD",     "COMMITTED",   "COMMIT_FAILED", "LINK_UP", "LINK_DOWN", "INFO",
        "SEALED", "PROMOTED", "REPLICATING", "HINT",          "TICK",    "MUTE",      "HEARD",
        "KNOCK",  "PINGS",    "SURVEYED",    "HELD",          "PAUSED",  "DONATING",  "COMMAND",
    };
    return (int)t >= 0 && t < FAILOVER_EVENTS ? names[t] : "?";
}

const char *failover_action_name(enum failover_action_type t)
{
    static const char *const names[] = {
        "COMMIT", "HISTORY", "PROBE", "SEAL",  "PROMOTE", "REPLICATE", "PUBLISH", "RELOAD",
        "REPORT", "SURVEY",  "HOLD",  "PAUSE", "UNPAUSE", "DONATE",    "ANSWER",
    };
    return (int)t >= 0 && (size_t)t < sizeof(names) / sizeof(names[0]) ? names[t] : "?";
}
