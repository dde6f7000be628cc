/* What durability asks of members, operators and history (safety.md §5).
 *
 *   INFO of master and replicas ─► who has reached what, who is attached ─► may a new incarnation count, may
 * a member be forgotten? set durability, acks ─► enough replicas? what should be known about it? failover
 * that takes the loss ─► who was passed over, how much it had
 */
#include "controller/core/failover_table.h"
#include "controller/core/placement.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- who has what ---------------------------------------------------------------------------------------
 */

static bool failover_lists(const struct failover *f, const struct info *master,
                           const struct topology_address *a)
{
    for (uint32_t k = 0; k < master->n_replicas; k++) {
        struct topology_address seen =
            placement_seen_from_outside(&f->record.master, &master->replicas[k].address);
        if (topology_address_equal(a, &seen) || topology_address_equal(a, &master->replicas[k].address))
            return true;
    }
    return false;
}

/* The replica shows the master's own history, and as much of it as the master had when it was last asked. */
static bool failover_has_reached(const struct failover *f, int master, const struct health_member *h)
{
    const struct health_member *m = &f->health[master];
    return m->link == HEALTH_LINK_UP && m->info_known && m->info.role == INFO_ROLE_MASTER &&
           h->info.role == INFO_ROLE_REPLICA && h->info.master_link_up && !h->info.syncing &&
           topology_address_equal(&h->info.master, &f->record.master) &&
           strcmp(h->info.repl_id, m->info.repl_id) == 0 && h->info.offset >= m->info.offset;
}

void failover_note_reach(struct failover *f, int member, int64_t now_us)
{
    int master = topology_member_find(&f->record, &f->record.master);
    if (master < 0)
        return;
    if (member != master) {
        if (failover_has_reached(f, master, &f->health[member]))
            f->members[member].reached_us = f->health[master].info_at_us;
        return;
    }
    for (int k = 0; k < (int)f->record.n_members; k++) {
        int64_t *apart_us = &f->members[k].apart_us;
        if (k == master || f->health[master].info.role != INFO_ROLE_MASTER ||
            failover_lists(f, &f->health[master].info, &f->record.members[k].address))
            *apart_us = 0;
        else if (*apart_us == 0)
            *apart_us = now_us;
    }
}

uint32_t failover_survivors(const struct failover *f, int without, int64_t since_us)
{
    uint32_t n = 0;
    int master = topology_member_find(&f->record, &f->record.master);
    for (int k = 0; k < (int)f->record.n_members; k++) {
        const struct select_member m = {.sealed = true, .info = f->health[k].info};
        n += k != without && k != master && since_us != 0 && f->members[k].reached_us >= since_us &&
             health_is_reachable(&f->health[k]) && f->health[k].info_known &&
             select_counts(&f->record, k, &m);
    }
    return n;
}

/* ---- what an operator may set ---------------------------------------------------------------------------
 */

int failover_check_durability(const struct topology_instance *from, const struct topology_instance *to,
                              char *why, size_t why_size)
{
    assert(from && to && why);
    uint32_t acks = to->policy.acks, replicas = to->n_members - 1;
    if (!topology_is_strict(to))
        return 0;
    if (replicas < acks) {
        snprintf(why, why_size, "durability strict with acks %u needs %u registered replica%s, %s has %u",
                 acks, acks, acks == 1 ? "" : "s", to->name, replicas);
        return ERR_REJECTED;
    }
    /* A failover would count on acknowledgements that earlier writes never had. */
    if (topology_is_strict(from) && acks > from->policy.acks) {
        snprintf(
            why, why_size,
            "acks can't be raised from %u to %u while strict: a failover would then count on more copies "
            "than "
            "what was written so far is sure to have; set durability=async first (which ends the promise for "
            "that), then durability=strict acks=%u",
            from->policy.acks, acks, acks);
        return ERR_REJECTED;
    }
    return 0;
}

const char *failover_durability_note(const struct topology_instance *from, const struct topology_instance *to,
                                     char *text, size_t size)
{
    text[0] = '\0';
    bool news = topology_is_strict(to) != topology_is_strict(from) || to->policy.acks != from->policy.acks ||
                to->n_members != from->n_members;
    /* Of the N - 1 that are left without the master, N - acks are needed: acks - 1 may be away. */
    if (news && topology_is_strict(to) && to->policy.acks == 1)
        snprintf(text, size,
                 "with acks 1 a failover needs all %u replicas: while one is away none is possible (acks 2 "
                 "spares one)",
                 to->n_members - 1);
    return text;
}

/* Why it can't be taken out now; NULL: it can. */
static const char *failover_forget_obstacle(const struct failover *f, int member)
{
    int master = topology_member_find(&f->record, &f->record.master);
    const struct failover_member *m = &f->members[member];
    if (member == master)
        return "it is the master: switch over first";
    if (f->health[master].link != HEALTH_LINK_UP || !f->health[master].info_known)
        return "the master does not answer: whether it still feeds that member is not known";
    if (m->apart_us == 0)
        return "the master feeds it: stop it, or let it follow somebody else, first (or it would be a member "
               "again "
               "at once)";
    return NULL;
}

int failover_propose_forget(const struct failover *f, const struct topology_address *target,
                            struct topology_instance *p, char *why, size_t why_size)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    int member = topology_member_find(p, target);
    topology_address_format(target, text);
    if (member < 0) {
        snprintf(why, why_size, "%s is not a member of %s", text, p->name);
        return ERR_NOT_FOUND;
    }
    const char *obstacle = failover_forget_obstacle(f, member);
    if (obstacle) {
        snprintf(why, why_size, "%s can't be forgotten: %s", text, obstacle);
        return ERR_REJECTED;
    }
    /* What it has acknowledged must be on as many of the others. */
    uint32_t n = failover_survivors(f, member, f->members[member].apart_us), acks = p->policy.acks;
    if (topology_is_strict(p) && (p->n_members < acks + 2 || n < acks)) {
        snprintf(
            why, why_size,
            "%s can't be forgotten: acks %u needs %u other replica%s that have reached the master's offset "
            "since it left, %s has %u of %u",
            text, acks, acks, acks == 1 ? "" : "s", p->name, n, p->n_members - 2);
        return ERR_REJECTED;
    }
    for (uint32_t k = (uint32_t)member; k + 1 < p->n_members; k++)
        p->members[k] = p->members[k + 1];
    p->n_members--;
    memset(&p->members[p->n_members], 0, sizeof(p->members[0]));
    return 0;
}

/* ---- loss that was ordered ------------------------------------------------------------------------------
 */

/* Bytes the member had, when it was last heard, that the chosen one's history lacks; 0 when unknown. */
static int64_t failover_passed_over_bytes(const struct failover *f, int member, int chosen)
{
    const struct info *own = &f->health[member].info, *kept = &f->health[chosen].info;
    if (f->health[member].info_at_us == 0 || select_lineage(&f->record, own) == 0 ||
        select_lineage(&f->record, own) != select_lineage(&f->record, kept))
        return 0;
    return own->offset > kept->offset ? own->offset - kept->offset : 0;
}

void failover_note_loss(const struct failover *f, const struct select_result *choice,
                        struct topology_instance *p)
{
    assert(choice->chosen >= 0);
    if (!p->failover.data_loss_allowed || (choice->have >= choice->needed && !choice->last_resort))
        return;
    const size_t size = sizeof(p->failover.evidence);
    size_t at = strlen(p->failover.evidence);
    at += (size_t)snprintf(p->failover.evidence + at, size - at,
                           "; loss taken: needed %u of %u members, had %u", choice->needed, p->n_members,
                           choice->have);
    for (int k = 0; k < (int)p->n_members; k++) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        const struct select_member m = failover_as_candidate(f, k);
        int64_t lost_bytes = k == choice->chosen ? 0 : failover_passed_over_bytes(f, k, choice->chosen);
        if (lost_bytes > p->failover.lost_bytes)
            p->failover.lost_bytes = lost_bytes;
        if ((select_counts(&f->record, k, &m) && lost_bytes == 0) || at >= size)
            continue;
        topology_address_format(&p->members[k].address, text);
        at += (size_t)(f->health[k].info_at_us == 0
                           ? snprintf(p->failover.evidence + at, size - at, "; %s never heard", text)
                           : snprintf(p->failover.evidence + at, size - at, "; %s at %lld", text,
                                      (long long)f->health[k].info.offset));
    }
}

/* ---- readiness ------------------------------------------------------------------------------------------
 */

void failover_observe_readiness(struct failover *f, const struct failover_event *event,
                                struct failover_update *out)
{
    struct readiness r;
    bool alone = f->has_record && f->record.n_members < 2;
    if (f->phase != FAILOVER_WATCH && f->phase != FAILOVER_REPAIR)
        f->readiness.since_us =
            0; /* what is missing during a failover, or a switchover, is counted after it */
    if (f->term == 0 || f->phase != FAILOVER_WATCH || alone)
        return;
    readiness_judge(&f->record, f->health, &r);
    enum readiness_news news = readiness_watch_step(&f->readiness, r.ready, event->now_us);
    if (news == READINESS_SAME)
        return;
    bool back = news == READINESS_BACK;
    failover_report(f, out, back ? FAILOVER_INFO : FAILOVER_WARN,
                    "event=readiness.%s instance=%s needed=%u have=%u missing=\"%s\" next=\"%s\"",
                    back ? "back" : "lost", f->record.name, r.needed, r.have, r.missing,
                    back ? "nothing" : "mend them now: should the master be lost, nobody could take over");
}
