/* What an event changes in what is known: record, links, INFO, silence, answers. Stale ones end here. */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const int64_t retry_us = 1000 * 1000;     /* REPLICATE or seal of a stray: next try */
static const int64_t seal_retry_us = 250 * 1000; /* a member that answered its seal with an error (loading) */

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
            if (!topology_address_equal(&record->master, &f->record.master))
                members[k].reached_us = members[k].apart_us = 0;
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

bool failover_is_committing(const struct failover *f)
{
    return f->phase == FAILOVER_INTENT || f->phase == FAILOVER_CHOICE || f->phase == FAILOVER_FINISH ||
           f->phase == FAILOVER_REPAIR || f->phase == FAILOVER_POLICY;
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

static void failover_end_silence(struct health_member *h)
{
    h->mute_us = h->unanswered_us = h->accepted_us = 0;
    h->knock = HEALTH_KNOCK_UNKNOWN;
    h->knocks = 0;
}

/* An answer has come. */
static void failover_hear(struct health_member *h, int64_t now_us)
{
    if (h->mute_us != 0)
        h->heard_us = now_us;
    failover_end_silence(h);
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
    if (link == HEALTH_LINK_UP) {
        h->info.run_id[0] = '\0'; /* who answers here now is not known yet */
        h->fed_us = 0;
        h->said = HEALTH_SAID_OK;
        h->said_us = event->now_us;
    }
    if (link != HEALTH_LINK_SILENT)
        failover_end_silence(h);
    else if (h->mute_us == 0)
        h->mute_us = event->now_us;
    m->fence.done = m->fence.failed = false;
    m->fence.at_us = 0;
    m->sealed = m->seal_failed = false; /* another connection may be another process */
}

static void failover_take_info(struct failover *f, int member, const struct info *info, int64_t now_us)
{
    struct health_member *h = &f->health[member];
    char run_id[TOPOLOGY_RUN_ID_LEN + 1];
    memcpy(run_id, h->info.run_id, sizeof(run_id));
    bool same_feed = h->info_known && h->fed_us != 0 && info->master_link_up == h->info.master_link_up &&
                     topology_address_equal(&info->master, &h->info.master);
    if (!same_feed || info->offset != h->info.offset)
        h->fed_us = now_us;
    failover_hear(h, now_us);
    h->info = *info;
    if (h->info.run_id[0] == '\0') /* an answer without its Server section: same connection, same process */
        memcpy(h->info.run_id, run_id, sizeof(run_id));
    h->info_known = true;
    h->info_at_us = now_us;
    int master = topology_member_find(&f->record, &f->record.master);
    bool known = master >= 0 && f->health[master].info_known;
    int64_t behind_bytes = known ? f->health[master].info.offset - info->offset : -1;
    h->behind_bytes = known && behind_bytes < 0 ? 0 : behind_bytes;
    failover_note_reach(f, member, now_us);
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
        m->fence.done = m->fence.failed = false; /* what it was before, it may have let somebody in */
        m->fence.at_us = 0;
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

/* ---- silence --------------------------------------------------------------------------------------------
 */

static bool failover_absorb_silence(struct failover *f, const struct failover_event *event)
{
    struct health_member *h = &f->health[event->member];
    switch (event->type) {
    case FAILOVER_ON_MUTE:
        assert(event->at_us > 0 && event->at_us <= event->now_us);
        if (h->link == HEALTH_LINK_REFUSED || h->link == HEALTH_LINK_DENIED)
            return false; /* it has answered meanwhile, in its way */
        if (h->mute_us == 0 || event->at_us < h->mute_us)
            h->mute_us = event->at_us;
        return true;
    case FAILOVER_ON_HEARD:
        if (h->mute_us != 0 && f->members[event->member].seal_pending)
            f->members[event->member].seal_at_us = event->now_us; /* its answer is on the way now */
        failover_hear(h, event->now_us);
        if (h->said != event->said)
            h->said_us = event->now_us;
        h->said = event->said;
        return true;
    case FAILOVER_ON_KNOCK:
        if (h->mute_us == 0)
            return false; /* it was heard while the knock was under way */
        h->knock = event->knock;
        h->knocks++;
        if (event->knock != HEALTH_KNOCK_NO_ANSWER)
            h->unanswered_us = 0;
        else if (h->unanswered_us == 0)
            h->unanswered_us = event->now_us;
        if (event->knock != HEALTH_KNOCK_ACCEPTED)
            h->accepted_us = 0;
        else if (h->accepted_us == 0)
            h->accepted_us = event->now_us;
        return true;
    default:
        assert(event->type == FAILOVER_ON_PINGS);
        h->pings = event->err == 0;
        return false;
    }
}

static bool failover_absorb_votes(struct failover *f, const struct failover_event *event)
{
    assert(event->votes && event->votes->n <= TOPOLOGY_MEMBERS_MAX);
    f->surveying = false;
    f->votes = *event->votes;
    return true;
}

/* ---- switchover and donation ----------------------------------------------------------------------------
 */

static bool failover_absorb_held(struct failover *f, const struct failover_event *event)
{
    if (f->phase != FAILOVER_HOLD || event->epoch != f->record.epoch)
        return false;
    f->order.counted = true;
    f->order.n_held = event->n_held;
    f->order.n_awaited = event->n_awaited;
    snprintf(f->order.missing, sizeof(f->order.missing), "%s", event->text ? event->text : "");
    return true;
}

static bool failover_absorb_paused(struct failover *f, const struct failover_event *event)
{
    if (f->phase != FAILOVER_DRAIN || f->order.paused || event->epoch != f->record.epoch)
        return false;
    if (event->err == 0) {
        assert(event->info);
        failover_take_info(f, event->member, event->info, event->now_us);
        f->order.paused = true;
        f->order.paused_us = event->now_us;
        f->order.offset = event->info->offset;
    }
    return true;
}

static bool failover_absorb_donating(struct failover *f, const struct failover_event *event)
{
    if (f->phase != FAILOVER_DONOR || event->epoch != f->record.epoch)
        return false;
    if (event->err == 0) {
        assert(event->info);
        failover_take_info(f, event->member, event->info, event->now_us);
    }
    return true;
}

/* Takes the event in; false when nothing is to be decided about it. */
bool failover_absorb(struct failover *f, const struct failover_event *event)
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
        return event->type == FAILOVER_ON_COMMAND;
    if (event->type == FAILOVER_ON_TICK)
        return true;
    if (event->type == FAILOVER_ON_HINT)
        return failover_absorb_hint(f, event);
    if (event->type == FAILOVER_ON_SURVEYED)
        return failover_absorb_votes(f, event);
    if (event->type == FAILOVER_ON_HELD)
        return failover_absorb_held(f, event);
    if (event->type == FAILOVER_ON_COMMAND)
        return true;
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
    case FAILOVER_ON_PAUSED:
        return failover_absorb_paused(f, event);
    case FAILOVER_ON_DONATING:
        return failover_absorb_donating(f, event);
    case FAILOVER_ON_FENCED:
        failover_absorb_fenced(f, event);
        return true;
    case FAILOVER_ON_MUTE:
    case FAILOVER_ON_HEARD:
    case FAILOVER_ON_KNOCK:
    case FAILOVER_ON_PINGS:
        return failover_absorb_silence(f, event);
    default:
        assert(!"an event type that absorb does not know");
        return false;
    }
}
