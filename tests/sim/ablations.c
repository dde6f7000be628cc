/* The lies of each ablation. */
#include "tests/sim/ablations.h"

#include "tests/sim/sim.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *word, *rule;
} ablations[ABLATIONS] = {
#define ABLATION_ROW(name, word, rule) [ABLATE_##name] = {word, rule},
    [ABLATE_NOTHING] = {"nothing", "all rules hold"}, ABLATION_LIST(ABLATION_ROW)
#undef ABLATION_ROW
};

const char *ablation_word(enum ablation a)
{
    assert(a < ABLATIONS);
    return ablations[a].word;
}

const char *ablation_rule(enum ablation a)
{
    assert(a < ABLATIONS);
    return ablations[a].rule;
}

int ablation_parse(const char *word, enum ablation *out)
{
    for (int a = 0; a < ABLATIONS; a++) {
        if (strcmp(word, ablations[a].word) == 0) {
            *out = (enum ablation)a;
            return 0;
        }
    }
    return ERR_INVALID;
}

static const char *ablations_newest_id(const struct topology_instance *record)
{
    for (uint32_t k = record->n_epochs; k-- > 0;) {
        if (record->epochs[k].repl_id[0] != '\0')
            return record->epochs[k].repl_id;
    }
    return NULL;
}

static void ablations_hide_strangers(const struct topology_instance *record, struct info *info)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < info->n_replicas; k++) {
        if (topology_member_find(record, &info->replicas[k].address) >= 0)
            info->replicas[n++] = info->replicas[k];
    }
    info->n_replicas = n;
}

void ablations_change_info(const struct sim *s, int redis, bool sealed, struct info *info)
{
    const struct topology_instance *record = &s->zk.nodes[s->redis[redis].instance].record;
    struct topology_address address;
    sim_redis_address(redis, &address);
    int member = topology_member_find(record, &address);
    const char *id = ablations_newest_id(record);
    switch (s->ablation) {
    case ABLATE_SEAL:
        if (sealed) {
            info->role = INFO_ROLE_REPLICA;
            info->master = (struct topology_address){.host = "127.0.0.1", .port = 1};
            info->master_link_up = false;
        }
        break;
    case ABLATE_LINEAGE:
        if (id)
            memcpy(info->repl_id, id, sizeof(info->repl_id));
        info->second_offset = -1;
        break;
    case ABLATE_RUN_ID:
        if (member >= 0 && record->members[member].run_id[0] != '\0')
            memcpy(info->run_id, record->members[member].run_id, sizeof(info->run_id));
        break;
    case ABLATE_WITNESS:
        info->master_link_up = false;
        break;
    case ABLATE_UNREGISTERED:
        ablations_hide_strangers(record, info);
        break;
    case ABLATE_DRAIN:
        for (int m = 0; m < s->n_members[s->redis[redis].instance]; m++) {
            const struct sim_redis *other = &s->redis[sim_redis_index(s->redis[redis].instance, m)];
            if (info->role == INFO_ROLE_REPLICA && other->data.offset > info->offset)
                info->offset = other->data.offset;
        }
        break;
    default:
        break;
    }
}

void ablations_change_votes(const struct sim *s, struct health_votes *votes)
{
    if (s->ablation != ABLATE_MAJORITY)
        return;
    votes->n = votes->n_controllers > 0 ? votes->n_controllers - 1 : 0;
    for (uint32_t k = 0; k < votes->n; k++)
        votes->views[k] = (struct health_view){.kind = HEALTH_VIEW_UNREACHABLE, .silent_us = 10000000};
}

void ablations_change_trust(const struct sim *s, struct health_trust *trust)
{
    if (s->ablation == ABLATE_DISTRUST)
        trust->distrusted = false;
    else if (s->ablation == ABLATE_STALL)
        trust->since_us = 0;
}

/* It believes in an async instance, and never says so. */
void ablations_before_step(const struct sim *s, struct failover *f)
{
    if (s->ablation == ABLATE_QUORUM)
        f->record.policy.durability = TOPOLOGY_ASYNC;
    for (int k = 0; s->ablation == ABLATE_REACH && k < TOPOLOGY_MEMBERS_MAX; k++)
        f->members[k].reached_us = INT64_MAX;
    for (int k = 0; s->ablation == ABLATE_ACL_WAIT && k < TOPOLOGY_MEMBERS_MAX; k++)
        if (f->record.state == TOPOLOGY_SEALING)
            f->members[k].fence =
                (struct failover_fence){.done = true, .keep = true, .epoch = f->record.epoch};
}

void ablations_after_step(const struct sim *s, const struct failover_event *event, struct failover *f)
{
    if (s->ablation != ABLATE_QUORUM || !f->has_record)
        return;
    enum topology_durability truth = s->zk.nodes[f->record.name[1] - '0'].record.policy.durability;
    f->record.policy.durability = truth;
    if (event->type != FAILOVER_ON_COMMAND)
        f->proposed.policy.durability = f->route.policy.durability = truth;
}

void ablations_change_commit(const struct sim *s, const struct topology_instance *before,
                             struct topology_instance *record)
{
    if (s->ablation != ABLATE_DROP || before->state != TOPOLOGY_PROMOTING || record->state != TOPOLOGY_STABLE)
        return;
    int old = topology_member_find(record, &record->failover.old_master);
    if (old < 0 || topology_address_equal(&record->master, &record->failover.old_master) ||
        s->redis[sim_redis_at(&record->failover.old_master)].alive)
        return;
    for (uint32_t k = (uint32_t)old; k + 1 < record->n_members; k++)
        record->members[k] = record->members[k + 1];
    record->n_members--;
}

int64_t ablations_wall_ms(const struct sim *s)
{
    return sim_wall_ms(s) + (s->ablation == ABLATE_RESTRAINT ? s->world.now_us : 0);
}
