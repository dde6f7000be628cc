/* What a STABLE instance needs to become whole again.
 *
 *   stray (answers as master, or did) ──► SEAL ──► divergent bytes into history ──► REPLICATE
 *   replica of somebody else, or sealed ──────────────────────────────────► REPLICATE
 *   replica in sync under a new run_id, unregistered replica, new replication id of the master ──► membership
 * commit
 */
#include "controller/core/failover_table.h"
#include "controller/core/placement.h"
#include "controller/core/select.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const int64_t retry_us = 1000 * 1000; /* between two tries on one member */

bool failover_master_is_well(const struct failover *f, int master)
{
    const struct health_member *h = master >= 0 ? &f->health[master] : NULL;
    return h && h->link == HEALTH_LINK_UP && h->info_known && h->info.role == INFO_ROLE_MASTER &&
           strcmp(h->info.run_id, f->record.members[master].run_id) == 0;
}

bool failover_follows(const struct failover *f, const struct health_member *h)
{
    return h->info.role == INFO_ROLE_REPLICA && topology_address_equal(&h->info.master, &f->record.master);
}

/* Evidence text of a membership commit: "a; b; c", cut where it's full. */
static void failover_note(struct topology_history *history, const char *what,
                          const struct topology_address *who)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    if (!history)
        return;
    size_t at = strlen(history->evidence);
    if (at == 0)
        history->from = *who;
    snprintf(history->evidence + at, sizeof(history->evidence) - at, "%s%s %s", at ? "; " : "", what,
             topology_address_format(who, text));
}

bool failover_has_row(const struct topology_instance *i, const char *repl_id)
{
    for (uint32_t k = 0; k < i->n_epochs; k++)
        if (strcmp(i->epochs[k].repl_id, repl_id) == 0)
            return true;
    return false;
}

/* Redis renames a master's history when it had no replicas for repl-backlog-ttl: same process, same data,
 * offsets go on. Without a row for the new name no replica could ever be promoted. */
static bool failover_find_renamed_history(const struct failover *f, int master,
                                          struct topology_instance *proposed,
                                          struct topology_history *history)
{
    const struct info *info = &f->health[master].info;
    if (info->repl_id[0] == '\0' || failover_has_row(&f->record, info->repl_id))
        return false;
    if (proposed) {
        const struct topology_epoch *last =
            proposed->n_epochs ? &proposed->epochs[proposed->n_epochs - 1] : NULL;
        struct topology_epoch row = {.epoch = f->record.epoch, .start_offset = last ? last->start_offset : 0};
        memcpy(row.repl_id, info->repl_id, sizeof(row.repl_id));
        topology_epoch_append(proposed, &row);
        failover_note(history, "new replication id of", &f->record.master);
    }
    return true;
}

/* What the process before it has acknowledged, a strict instance's clients were promised: a partial
 * synchronization is "up" before it has brought all of that. */
static bool failover_is_complete(const struct failover *f, int member)
{
    return !topology_is_strict(&f->record) || f->members[member].reached_us >= f->health[member].link_at_us;
}

static bool failover_find_incarnations(const struct failover *f, struct topology_instance *proposed,
                                       struct topology_history *history)
{
    bool any = false;
    for (uint32_t k = 0; k < f->record.n_members; k++) {
        const struct topology_member *m = &f->record.members[k];
        const struct health_member *h = &f->health[k];
        if (h->link != HEALTH_LINK_UP || !h->info_known || h->info.run_id[0] == '\0' ||
            !failover_follows(f, h) || !h->info.master_link_up || h->info.syncing ||
            !failover_is_complete(f, (int)k) || strcmp(m->run_id, h->info.run_id) == 0)
            continue;
        any = true;
        if (proposed) {
            memcpy(proposed->members[k].run_id, h->info.run_id, sizeof(proposed->members[k].run_id));
            failover_note(history, "in sync:", &m->address);
        }
    }
    return any;
}

static bool failover_find_unregistered(const struct failover *f, int master,
                                       struct topology_instance *proposed, struct topology_history *history)
{
    const struct info *info = &f->health[master].info;
    bool any = false;
    uint32_t n = f->record.n_members;
    for (uint32_t k = 0; k < info->n_replicas && n < TOPOLOGY_MEMBERS_MAX; k++) {
        struct topology_address a =
            placement_seen_from_outside(&f->record.master, &info->replicas[k].address);
        /* Redis' WAIT counts whoever is attached: of a strict instance it is registered before it can be. */
        if ((!info->replicas[k].online && !topology_is_strict(&f->record)) ||
            topology_member_find(&f->record, &a) >= 0 ||
            topology_member_find(&f->record, &info->replicas[k].address) >= 0)
            continue;
        if (proposed && topology_member_find(proposed, &a) >= 0)
            continue;
        any = true;
        n++;
        if (proposed) {
            struct topology_member *m = &proposed->members[proposed->n_members++];
            memset(m, 0, sizeof(*m));
            m->address = a;
            failover_note(history, "new replica", &a);
        }
    }
    return any;
}

bool failover_find_fact(const struct failover *f, const struct failover_event *event,
                        struct topology_instance *proposed, struct topology_history *history)
{
    int master = topology_member_find(&f->record, &f->record.master);
    if (f->record.state != TOPOLOGY_STABLE || !failover_master_is_well(f, master))
        return false;
    if (proposed)
        *proposed = f->record;
    if (history) {
        memset(history, 0, sizeof(*history));
        history->kind = TOPOLOGY_HISTORY_MEMBER;
        history->at_ms = event->wall_ms;
        history->epoch = f->record.epoch;
        history->term = f->term;
    }
    bool any = failover_find_renamed_history(f, master, proposed, history);
    any = failover_find_incarnations(f, proposed, history) || any;
    any = failover_find_unregistered(f, master, proposed, history) || any;
    return any;
}

int64_t failover_divergent_bytes(const struct topology_instance *i, const struct info *info)
{
    uint64_t lineage = select_lineage(i, info);
    if (lineage == 0)
        return 0;
    for (uint32_t k = 0; k < i->n_epochs; k++) {
        const struct topology_epoch *e = &i->epochs[k];
        if (e->epoch <= lineage)
            continue;
        return info->offset > e->start_offset ? info->offset - e->start_offset : 0;
    }
    return 0;
}

/* A seal that reached the old master though its answer never reached us has detached it, no more. */
bool failover_is_stray(const struct failover *f, int member)
{
    const struct health_member *h = &f->health[member];
    if (f->members[member].sealed)
        return false;
    if (!h->info_known || h->info.role == INFO_ROLE_MASTER)
        return true;
    return topology_address_equal(&f->record.members[member].address, &f->record.failover.old_master) &&
           !failover_follows(f, h);
}

static int64_t failover_sooner(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

int64_t failover_tend_members(struct failover *f, const struct failover_event *event,
                              struct failover_update *out)
{
    int64_t deadline_us = 0;
    int master = topology_member_find(&f->record, &f->record.master);
    if (!failover_master_is_well(f, master))
        return 0;
    for (int k = 0; k < (int)f->record.n_members; k++) {
        const struct health_member *h = &f->health[k];
        struct failover_member *m = &f->members[k];
        if (k == master || h->link != HEALTH_LINK_UP || !h->info_known || failover_follows(f, h) ||
            m->seal_pending || m->replicate_pending || failover_awaits_fence(f, k))
            continue;
        if (m->retry_at_us > event->now_us) {
            deadline_us = failover_sooner(deadline_us, m->retry_at_us);
            continue;
        }
        m->retry_at_us = event->now_us + retry_us;
        if (failover_is_stray(f, k)) {
            failover_seal_member(f, event->now_us, out, k);
        } else {
            m->replicate_pending = true;
            failover_add(out, FAILOVER_DO_REPLICATE, k, f->record.epoch)->target = f->record.master;
        }
    }
    return deadline_us;
}
