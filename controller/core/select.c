/* The comparator, and the rules of who may be compared at all. */
#include "controller/core/select.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* A row without a replication id was committed with a promotion whose end nobody recorded: its id is random
 * and unknown, but whoever carries it branched off the row before exactly at start_offset. */
static bool select_is_unnamed(const struct topology_instance *i, uint32_t row, const struct info *info)
{
    const struct topology_epoch *e = &i->epochs[row];
    if (e->repl_id[0] != '\0' || info->second_offset < 0)
        return false;
    for (uint32_t k = 0; k < i->n_epochs; k++)
        if (i->epochs[k].repl_id[0] != '\0' && strcmp(i->epochs[k].repl_id, info->repl_id) == 0)
            return false; /* its history has a name of its own */
    for (uint32_t k = row; k-- > 0;)
        if (i->epochs[k].repl_id[0] != '\0')
            return strcmp(i->epochs[k].repl_id, info->repl_id2) == 0 &&
                   info->second_offset == e->start_offset + 1;
    return false;
}

/* The lineage, and in *shared up to which offset the member's history is that lineage's: what comes after it
 * has nothing to do with how complete the member is. */
static uint64_t select_place(const struct topology_instance *i, const struct info *info, int64_t *shared)
{
    assert(i && info);
    *shared = info->offset;
    if (info->repl_id[0] == '\0')
        return 0;
    for (uint32_t k = i->n_epochs; k-- > 0;) {
        const struct topology_epoch *e = &i->epochs[k];
        if (e->start_offset > info->offset)
            continue;
        if (select_is_unnamed(i, k, info))
            return e->epoch;
        if (e->repl_id[0] == '\0')
            continue;
        if (strcmp(e->repl_id, info->repl_id) == 0)
            return e->epoch;
        /* Shifted by a promotion that is in no row: it still holds all of the history it branched from. */
        if (info->second_offset > e->start_offset && strcmp(e->repl_id, info->repl_id2) == 0) {
            *shared = info->second_offset - 1 < info->offset ? info->second_offset - 1 : info->offset;
            return e->epoch;
        }
    }
    return 0;
}

uint64_t select_lineage(const struct topology_instance *i, const struct info *info)
{
    int64_t shared = 0;
    return select_place(i, info, &shared);
}

/* Why its data does not count; NULL: it does. */
static const char *select_uncountable(const struct topology_instance *i, int member,
                                      const struct select_member *m)
{
    const struct topology_member *registered = &i->members[member];
    if (!m->sealed)
        return m->may_return ? "not reachable" : "not sealed";
    if (m->info.loading)
        return "loading its data set";
    if (m->info.syncing)
        return "its full synchronization had not ended";
    if (registered->run_id[0] == '\0' || m->info.run_id[0] == '\0')
        return "its incarnation was never registered";
    if (strcmp(registered->run_id, m->info.run_id) != 0)
        return "restarted: its data is not trusted";
    if (select_lineage(i, &m->info) == 0)
        return "its replication id is in no row of the epoch table";
    return NULL;
}

/* Why it must not be master though its data counts; NULL: it may be. */
static const char *select_forbidden(const struct topology_instance *i, int member,
                                    const struct select_member *m)
{
    if (i->members[member].priority == TOPOLOGY_MUST_NOT)
        return "labelled must_not";
    if (m->info.replica_priority == 0)
        return "replica-priority is 0";
    return NULL;
}

const char *select_refusal(const struct topology_instance *i, int member, const struct select_member *m)
{
    assert(member >= 0 && member < (int)i->n_members && m);
    const char *why = select_uncountable(i, member, m);
    return why ? why : select_forbidden(i, member, m);
}

bool select_counts(const struct topology_instance *i, int member, const struct select_member *m)
{
    assert(member >= 0 && member < (int)i->n_members && m);
    return select_uncountable(i, member, m) == NULL;
}

uint32_t select_needed(const struct topology_instance *i)
{
    assert(i);
    const struct topology_policy *p = &i->policy;
    return p->durability == TOPOLOGY_STRICT && i->n_members > p->acks ? i->n_members - p->acks : 1;
}

static int select_rank(enum topology_priority p)
{
    switch (p) {
    case TOPOLOGY_PREFER:
        return 0;
    case TOPOLOGY_NEUTRAL:
        return 1;
    case TOPOLOGY_PREFER_NOT:
        return 2;
    case TOPOLOGY_MUST_NOT:
        return 3;
    }
    return 1;
}

static bool select_in_zone(const struct topology_instance *i, int member)
{
    int old = topology_member_find(i, &i->failover.old_master);
    return old >= 0 && i->members[old].zone[0] != '\0' &&
           strcmp(i->members[old].zone, i->members[member].zone) == 0;
}

int select_compare(const struct topology_instance *i, int a, const struct select_member *ma, int b,
                   const struct select_member *mb)
{
    assert(a >= 0 && b >= 0 && a < (int)i->n_members && b < (int)i->n_members);
    int64_t sa = 0, sb = 0;
    uint64_t la = select_place(i, &ma->info, &sa), lb = select_place(i, &mb->info, &sb);
    if (la != lb)
        return la > lb ? -1 : 1;
    if (la != 0 && sa != sb)
        return sa > sb ? -1 : 1;
    if (la != 0 && ma->info.offset != mb->info.offset)
        return ma->info.offset > mb->info.offset ? -1 : 1;
    if (la == 0) { /* offsets of unknown histories can't be compared: a process that never restarted, then the
                      one that served last, is the better guess */
        bool pa = strcmp(i->members[a].run_id, ma->info.run_id) == 0;
        bool pb = strcmp(i->members[b].run_id, mb->info.run_id) == 0;
        if (pa != pb)
            return pa ? -1 : 1;
        bool oa = topology_address_equal(&i->members[a].address, &i->failover.old_master);
        bool ob = topology_address_equal(&i->members[b].address, &i->failover.old_master);
        if (oa != ob)
            return oa ? -1 : 1;
    }
    int ra = select_rank(i->members[a].priority), rb = select_rank(i->members[b].priority);
    if (ra != rb)
        return ra - rb;
    if (select_in_zone(i, a) != select_in_zone(i, b))
        return select_in_zone(i, a) ? -1 : 1;
    return strcmp(ma->info.run_id, mb->info.run_id);
}

/* Every member answers, none is the incarnation it was registered as: nobody who could have better data is
 * missing, so waiting helps nobody (a power cut of the whole service, or an instance of one member). */
static bool select_is_last_resort(const struct topology_instance *i, const struct select_member *members)
{
    for (uint32_t k = 0; k < i->n_members; k++) {
        if (!members[k].sealed || members[k].info.loading || members[k].info.syncing)
            return false;
    }
    return i->n_members > 0;
}

/* The process that served last, never restarted: whatever Redis calls its history now (it renames one that
 * nobody could continue), it is the instance's. */
static bool select_served_last(const struct topology_instance *i, int member, const struct select_member *m)
{
    return topology_address_equal(&i->members[member].address, &i->failover.old_master) &&
           m->info.run_id[0] != '\0' && strcmp(i->members[member].run_id, m->info.run_id) == 0;
}

static int select_compare_last_resort(const struct topology_instance *i, int a,
                                      const struct select_member *ma, int b, const struct select_member *mb)
{
    bool sa = select_served_last(i, a, ma), sb = select_served_last(i, b, mb);
    if (sa != sb)
        return sa ? -1 : 1;
    return select_compare(i, a, ma, b, mb);
}

static void select_explain_refusal(const struct topology_instance *i, const struct select_member *members,
                                   struct select_result *out)
{
    size_t at = 0;
    const size_t size = sizeof(out->reason);
    if (topology_is_strict(i))
        at = (size_t)snprintf(out->reason, size,
                              "needs %u of %u registered members (acks %u), has %u: ", out->needed,
                              i->n_members, i->policy.acks, out->have);
    for (uint32_t k = 0; k < i->n_members && at < size; k++) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        const char *why = select_refusal(i, (int)k, &members[k]);
        int n = snprintf(out->reason + at, size - at, "%s%s: %s", k == 0 ? "" : "; ",
                         topology_address_format(&i->members[k].address, text),
                         why                     ? why
                         : topology_is_strict(i) ? "its data counts"
                                                 : "may be promoted");
        if (n < 0)
            break;
        at += (size_t)n;
    }
}

/* Is a's data ahead of b's? Labels don't matter here. */
static bool select_is_ahead(const struct topology_instance *i, const struct select_member *a,
                            const struct select_member *b)
{
    int64_t sa = 0, sb = 0;
    uint64_t la = select_place(i, &a->info, &sa), lb = select_place(i, &b->info, &sb);
    return la != lb ? la > lb : sa > sb;
}

static bool select_took(const struct select_donation *donation, const struct select_member *m)
{
    return donation && donation->repl_id[0] != '\0' && strcmp(donation->repl_id, m->info.repl_id) == 0 &&
           m->info.offset >= donation->offset;
}

static int select_better(const struct topology_instance *i, const struct select_member *members, int k,
                         int best)
{
    return best < 0 || select_compare(i, k, &members[k], best, &members[best]) < 0 ? k : best;
}

/* Best of the countable ones, and best of those that may be master too; -1: none. */
static void select_rank_all(const struct topology_instance *i, const struct select_member *members,
                            bool manual, int *countable, int *allowed)
{
    int old = topology_member_find(i, &i->failover.old_master);
    *countable = *allowed = -1;
    for (int k = 0; k < (int)i->n_members; k++) {
        if (select_uncountable(i, k, &members[k]))
            continue;
        *countable = select_better(i, members, k, *countable);
        if (!select_forbidden(i, k, &members[k]) && !(manual && k == old))
            *allowed = select_better(i, members, k, *allowed);
    }
    /* It was to be replaced, but nobody else is left. */
    if (*allowed < 0 && manual && old >= 0 && !select_refusal(i, old, &members[old]))
        *allowed = old;
}

/* The target that an operator named, if it may be taken; -1 otherwise. */
static int select_target(const struct topology_instance *i, const struct select_member *members,
                         const struct select_donation *donation, int countable)
{
    const struct topology_failover *f = &i->failover;
    int target = topology_member_find(i, &f->target);
    if (!topology_address_is_set(&f->target) || target < 0 || select_refusal(i, target, &members[target]))
        return -1;
    if (f->verdict == TOPOLOGY_VERDICT_MANUAL)
        return target;
    const struct info *info = &members[target].info;
    bool in_step = donation && donation->in_step;
    if (!in_step && select_is_ahead(i, &members[countable], &members[target]))
        return -1; /* the pause may have ended before the seal: that may be acknowledged writes */
    if (f->verdict == TOPOLOGY_VERDICT_PLANNED && info->offset >= f->target_offset &&
        select_lineage(i, info) == select_lineage(i, &members[countable].info))
        return target;
    return -1;
}

static void select_last_resort(const struct topology_instance *i, const struct select_member *members,
                               struct select_result *out)
{
    bool allowed = i->failover.data_loss_allowed;
    if (!allowed && (topology_is_strict(i) || !select_is_last_resort(i, members)))
        return;
    for (int k = 0; k < (int)i->n_members; k++) {
        if (!members[k].sealed || members[k].info.loading || members[k].info.syncing)
            continue;
        if (out->chosen < 0 ||
            select_compare_last_resort(i, k, &members[k], out->chosen, &members[out->chosen]) < 0)
            out->chosen = k;
    }
    out->last_resort = out->chosen >= 0;
}

/* A history that began with a donation, or with a promotion that is in no row, has a name that the table
 * lacks. Who got it by a synchronization may not know where it branched off; a trusted member with the same
 * name does. */
static void select_complete_by(const struct topology_instance *i, const char *id, int64_t below,
                               struct info *mine)
{
    int64_t here = 0, there = 0;
    struct info other = *mine;
    memcpy(other.repl_id2, id, sizeof(other.repl_id2));
    other.second_offset = below;
    uint64_t lineage = select_place(i, mine, &here), better = select_place(i, &other, &there);
    if (better > lineage || (better == lineage && there > here))
        *mine = other;
}

static void select_complete(const struct topology_instance *i, const struct select_member *members,
                            const struct select_donation *donation, struct select_member *out)
{
    memcpy(out, members, i->n_members * sizeof(*out));
    for (int k = 0; k < (int)i->n_members; k++) {
        for (int j = 0; j < (int)i->n_members; j++) {
            const struct info *known = &members[j].info;
            struct info *mine = &out[k].info;
            if (j == k || select_uncountable(i, j, &members[j]) ||
                strcmp(mine->repl_id, known->repl_id) != 0 || known->second_offset < 0)
                continue;
            select_complete_by(i, known->repl_id2, known->second_offset, mine);
        }
        if (donation && donation->known_id[0] != '\0' && donation->repl_id[0] != '\0' &&
            strcmp(out[k].info.repl_id, donation->repl_id) == 0)
            select_complete_by(i, donation->known_id, donation->known_below, &out[k].info);
    }
}

static bool select_is_named(const struct topology_instance *i, const char *repl_id)
{
    for (uint32_t k = 0; k < i->n_epochs; k++)
        if (repl_id[0] != '\0' && strcmp(i->epochs[k].repl_id, repl_id) == 0)
            return true;
    return false;
}

void select_note_donor(const struct topology_instance *i, const struct info *donor,
                       struct select_donation *donation)
{
    assert(i && donor && donation);
    if (donation->repl_id[0] != '\0' && strcmp(donation->repl_id, donor->repl_id) == 0)
        return; /* it gives again: where it began is known */
    bool own = select_is_named(i, donor->repl_id), second = select_is_named(i, donor->repl_id2);
    memset(donation->known_id, 0, sizeof(donation->known_id));
    donation->known_below = 0;
    if (own || second) {
        memcpy(donation->known_id, own ? donor->repl_id : donor->repl_id2, sizeof(donation->known_id));
        donation->known_below = own ? donor->offset + 1 : donor->second_offset;
    }
}

/* Members of which is known that the chosen one has, or will have, all that they hold: whoever is to be
 * overlooked must be one of the rest. A donor gives first, so everybody's data will be there. */
static uint32_t select_covered(const struct topology_instance *i, const struct select_member *members,
                               const struct select_donation *donation, bool in_step,
                               const struct select_result *choice)
{
    uint32_t n = 0;
    for (int k = 0; k < (int)i->n_members; k++) {
        if (select_uncountable(i, k, &members[k]))
            continue;
        const struct select_member *m = &members[k];
        /* Who gave, or feeds the target of a switchover, is ahead by its pings only: its writes are paused.
         */
        bool gave = choice->chosen >= 0 && select_took(donation, &members[choice->chosen]) &&
                    strcmp(donation->repl_id, m->info.repl_id) == 0;
        n += choice->chosen < 0 || choice->donor >= 0 || in_step || gave ||
             !select_is_ahead(i, m, &members[choice->chosen]);
    }
    return n;
}

/* The promise of a strict instance: too few of them, and an acknowledged write may be on none. */
static void select_count(const struct topology_instance *i, const struct select_member *members,
                         const struct select_donation *donation, bool in_step, struct select_result *out)
{
    out->needed = select_needed(i);
    out->have = select_covered(i, members, donation, in_step, out);
    if (!topology_is_strict(i) || i->failover.data_loss_allowed || out->have >= out->needed)
        return;
    out->chosen = out->donor = -1;
}

static void select_choose_among(const struct topology_instance *i, const struct select_member *members,
                                const struct select_donation *donation, struct select_result *out)
{
    memset(out, 0, sizeof(*out));
    out->chosen = out->donor = -1;
    int countable = -1;
    /* Nobody could give its data to whom the operator wants, and no loss was allowed: the most complete one,
     * the old master too. */
    bool free = donation && donation->failed && !i->failover.data_loss_allowed;
    bool manual = i->failover.verdict == TOPOLOGY_VERDICT_MANUAL && !free;
    select_rank_all(i, members, manual, &countable, &out->chosen);
    bool named = i->failover.verdict != TOPOLOGY_VERDICT_MANUAL || manual;
    int target = countable >= 0 && named ? select_target(i, members, donation, countable) : -1;
    if (target >= 0)
        out->chosen = target;
    bool planned = target >= 0 && i->failover.verdict == TOPOLOGY_VERDICT_PLANNED;
    if (out->chosen >= 0 && !planned && countable != out->chosen && !(donation && donation->failed) &&
        !select_took(donation, &members[out->chosen]) &&
        select_is_ahead(i, &members[countable], &members[out->chosen]))
        out->donor = countable;
    select_count(i, members, donation, planned && donation && donation->in_step, out);
    if (out->chosen < 0)
        select_last_resort(i, members, out);
    if (out->chosen < 0) {
        select_explain_refusal(i, members, out);
        return;
    }
    out->lineage = select_lineage(i, &members[out->chosen].info);
    snprintf(out->reason, sizeof(out->reason), "%s: history of epoch %llu up to offset %lld",
             out->last_resort ? "best of what is left, not a trusted incarnation"
             : target >= 0    ? "named by the operator"
                              : "most complete",
             (unsigned long long)out->lineage, (long long)members[out->chosen].info.offset);
}

void select_choose(const struct topology_instance *i, const struct select_member *members,
                   const struct select_donation *donation, struct select_result *out)
{
    struct select_member complete[TOPOLOGY_MEMBERS_MAX];
    assert(i && members && out);
    select_complete(i, members, donation, complete);
    select_choose_among(i, complete, donation, out);
}
