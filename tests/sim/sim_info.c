/* What a redis-server of the simulation says of itself: its INFO. */
#include "tests/sim/sim.h"

#include <string.h>

static void redis_id(char out[TOPOLOGY_RUN_ID_LEN + 1], char kind, uint64_t value)
{
    memset(out, '0', TOPOLOGY_RUN_ID_LEN);
    out[0] = kind;
    for (int i = TOPOLOGY_RUN_ID_LEN - 1; value; i--, value >>= 4)
        out[i] = "0123456789abcdef"[value & 15];
    out[TOPOLOGY_RUN_ID_LEN] = '\0';
}

void sim_redis_run_id(const struct sim *s, int redis, char out[TOPOLOGY_RUN_ID_LEN + 1])
{
    redis_id(out, 'a', (uint64_t)(redis + 1) << 16 | s->redis[redis].process);
}

void sim_redis_info(const struct sim *s, int redis, struct info *out)
{
    const struct sim_redis *r = &s->redis[redis];
    info_init(out);
    sim_redis_run_id(s, redis, out->run_id);
    memcpy(out->version, "7.0.15", 7);
    out->loading = r->loading;
    out->role = r->is_master ? INFO_ROLE_MASTER : INFO_ROLE_REPLICA;
    redis_id(out->repl_id, 'b', r->data.id);
    redis_id(out->repl_id2, r->data.id2 ? 'b' : '0', r->data.id2);
    out->second_offset = r->data.id2 ? r->data.second : -1;
    out->replica_priority = 100;
    out->offset =
        r->is_master || r->cached ? r->data.offset : 1; /* as Redis says it of one that never had a master */
    if (!r->is_master) {
        if (r->follows >= 0)
            sim_redis_address(r->follows, &out->master);
        else
            out->master = (struct topology_address){.host = "127.0.0.1", .port = 1};
        out->syncing = r->syncing;
        if (r->syncing && r->follows >= 0) {
            const struct sim_redis *master = &s->redis[r->follows];
            out->sync_io_s = master->stopped_us ? (int)((s->world.now_us - master->stopped_us) / 1000000) : 0;
        }
        out->master_link_up = r->link_up;
        out->master_last_io_s = r->link_up ? (int)((s->world.now_us - r->heard_us) / 1000000) : -1;
    }
    for (int k = 0; k < SIM_REDISES; k++) {
        const struct sim_redis *other = &s->redis[k];
        bool online = sim_redis_is_attached(s, k, redis);
        if (!online && !(other->alive && other->syncing && other->follows == redis))
            continue;
        struct info_replica *replica = &out->replicas[out->n_replicas++];
        sim_redis_address(k, &replica->address);
        replica->offset = online ? other->data.offset : 0;
        replica->online = online;
    }
}
