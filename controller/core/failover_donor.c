/* A complete member that must not be master gives its data to the one that may be (safety.md §4.3).
 *
 *   SEAL ─ donor ahead ─► DONATE donor (writes paused; REPLICAOF NO ONE) ─► REPLICATE recipient → donor
 *     ▲                                                                         │ offset reached
 *     └───────── seal everybody again: now nobody is ahead ◄────────────────────┘
 *
 * A replica whose link is down lets nobody replicate from it, so the donor answers as a master for that
 * while; no route leads to it, its writes are paused, and it is sealed again before anybody is promoted. The
 * durable state stays SEALING: whoever resumes begins with sealing, and donates again. */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <string.h>

static const int64_t donor_wait_us = 5 * 1000 * 1000;   /* for a partial synchronization */
static const int64_t donor_sync_us = 600 * 1000 * 1000; /* while a full one goes on */
static const int64_t donor_look_us = 20 * 1000;         /* between two looks at the recipient */
enum { DONOR_PAUSE_MS = 600 * 1000 };

static int failover_donor(const struct failover *f)
{
    return topology_member_find(&f->record, &f->donor);
}

static int failover_recipient(const struct failover *f)
{
    return topology_member_find(&f->record, &f->recipient);
}

/* Giving again would hide where its history came from (Redis remembers one former id): the table must know
 * the present one first. */
FAILOVER_EFFECT(failover_do_name_donor)
{
    char donor[TOPOLOGY_ADDRESS_MAX + 1];
    struct select_result choice;
    failover_choose(f, event->now_us, &choice);
    assert(choice.chosen >= 0 && choice.donor >= 0);
    const struct info *info = &f->health[choice.donor].info;
    struct topology_instance *p = &f->proposed;
    *p = f->record;
    p->epoch++;
    p->failover.epoch = p->epoch;
    struct topology_epoch row = {.epoch = p->epoch,
                                 .start_offset = info->second_offset > 0 ? info->second_offset - 1 : 0};
    memcpy(row.repl_id, info->repl_id, sizeof(row.repl_id));
    failover_make_room(p);
    topology_epoch_append(p, &row);
    f->commit_at_us = event->now_us;
    failover_report(f, out, FAILOVER_WARN,
                    "event=failover.donor_named instance=%s epoch=%llu donor=%s repl_id=%.8s", p->name,
                    (unsigned long long)p->epoch,
                    topology_address_format(&f->record.members[choice.donor].address, donor), row.repl_id);
    failover_commit(f, out, false);
}

FAILOVER_EFFECT(failover_do_donate)
{
    char donor[TOPOLOGY_ADDRESS_MAX + 1], recipient[TOPOLOGY_ADDRESS_MAX + 1];
    struct select_result choice;
    failover_choose(f, event->now_us, &choice);
    assert(choice.chosen >= 0 && choice.donor >= 0);
    f->donor = f->record.members[choice.donor].address;
    f->recipient = f->record.members[choice.chosen].address;
    f->donor_at_us = event->now_us;
    f->fed = false;
    select_note_donor(&f->record, &f->health[choice.donor].info, &f->donation);
    f->deadline_us = event->now_us + donor_wait_us;
    failover_report(f, out, FAILOVER_WARN,
                    "event=failover.donor instance=%s epoch=%llu donor=%s offset=%lld recipient=%s "
                    "recipient_offset=%lld",
                    f->record.name, (unsigned long long)f->record.epoch,
                    topology_address_format(&f->donor, donor), (long long)f->health[choice.donor].info.offset,
                    topology_address_format(&f->recipient, recipient),
                    (long long)f->health[choice.chosen].info.offset);
    failover_add(out, FAILOVER_DO_DONATE, choice.donor, f->record.epoch)->limit_ms = DONOR_PAUSE_MS;
}

FAILOVER_GUARD(failover_is_donor_lost)
{
    int donor = failover_donor(f), recipient = failover_recipient(f);
    if (donor < 0 || recipient < 0 || (event->type == FAILOVER_ON_DONATING && event->err != 0))
        return true;
    const struct health_member *d = &f->health[donor], *r = &f->health[recipient];
    if (!health_is_reachable(d) || !health_is_reachable(r))
        return true;
    int64_t limit_us = r->info_known && r->info.syncing ? donor_sync_us : donor_wait_us;
    return event->now_us >= f->donor_at_us + limit_us;
}

FAILOVER_GUARD(failover_has_donated)
{
    (void)event;
    int recipient = failover_recipient(f);
    if (recipient < 0 || f->donation.repl_id[0] == '\0')
        return false;
    const struct info *info = &f->health[recipient].info;
    return f->health[recipient].info_known && info->master_link_up && !info->syncing &&
           topology_address_equal(&info->master, &f->donor) &&
           strcmp(info->repl_id, f->donation.repl_id) == 0 && info->offset >= f->donation.offset;
}

/* Points the recipient at the donor, once; not before who is logged in there as an old epoch's user is cut.
 */
static void failover_feed(struct failover *f, struct failover_update *out, int recipient)
{
    struct failover_member *m = &f->members[recipient];
    if (f->fed || failover_awaits_fence(f, recipient))
        return;
    f->fed = true;
    m->sealed = false;
    m->replicate_pending = true;
    failover_add(out, FAILOVER_DO_REPLICATE, recipient, f->record.epoch)->target = f->donor;
}

/* The donor answers as a master. */
FAILOVER_EFFECT(failover_do_feed)
{
    int recipient = failover_recipient(f);
    assert(recipient >= 0 && event->info);
    memcpy(f->donation.repl_id, event->info->repl_id, sizeof(f->donation.repl_id));
    f->donation.offset = event->info->offset;
    f->deadline_us = event->now_us + donor_look_us;
    failover_feed(f, out, recipient);
}

FAILOVER_EFFECT(failover_do_await_recipient)
{
    int recipient = failover_recipient(f);
    assert(recipient >= 0);
    if (f->donation.repl_id[0] != '\0')
        failover_feed(f, out, recipient);
    if (event->now_us < f->deadline_us)
        return;
    f->deadline_us = event->now_us + donor_look_us;
    if (f->donation.repl_id[0] != '\0')
        failover_add(out, FAILOVER_DO_PROBE, recipient, f->record.epoch);
}

FAILOVER_EFFECT(failover_do_end_donation)
{
    int donor = failover_donor(f);
    failover_report(f, out, FAILOVER_INFO,
                    "event=failover.donated instance=%s epoch=%llu offset=%lld took_ms=%lld", f->record.name,
                    (unsigned long long)f->record.epoch, (long long)f->donation.offset,
                    (long long)(event->now_us - f->donor_at_us) / 1000);
    failover_seal_all(f, event, out);
    if (donor >= 0)
        failover_add(out, FAILOVER_DO_UNPAUSE, donor, f->record.epoch);
}

FAILOVER_EFFECT(failover_do_abandon_donation)
{
    char donor[TOPOLOGY_ADDRESS_MAX + 1];
    int member = failover_donor(f);
    failover_report(
        f, out, FAILOVER_ERROR,
        "event=failover.donor_lost instance=%s epoch=%llu donor=%s next=\"choosing without it%s\"",
        f->record.name, (unsigned long long)f->record.epoch, topology_address_format(&f->donor, donor),
        topology_is_strict(&f->record) ? ", if enough others count; or asking it again"
                                       : ": what only it has is lost");
    f->donation.failed = true;
    failover_seal_all(f, event, out);
    if (member >= 0 && f->health[member].link == HEALTH_LINK_UP)
        failover_add(out, FAILOVER_DO_UNPAUSE, member, f->record.epoch);
}
