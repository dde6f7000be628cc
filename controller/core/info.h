/* What a redis-server says about itself: the INFO text parsed into a value. Pure.
 *
 * Source: Redis INFO documentation and replication.c/server.c behaviour of 6.2–7.x. */
#ifndef MR_CONTROLLER_CORE_INFO_H
#define MR_CONTROLLER_CORE_INFO_H

#include "common/core/topology.h"

enum info_role { INFO_ROLE_UNKNOWN, INFO_ROLE_MASTER, INFO_ROLE_REPLICA };

struct info_replica {
    struct topology_address address;
    int64_t offset; /* bytes acknowledged */
    bool online;
};

struct info {
    enum info_role role;
    char run_id[TOPOLOGY_RUN_ID_LEN + 1]; /* "" when the text had no Server section */
    char version[16];                     /* redis_version, likewise */
    bool loading;                         /* reading its data set from disk */
    bool syncing;                         /* replica: a full synchronization is under way */
    int sync_io_s;                        /* then: seconds since its last byte came; -1: not said */
    char repl_id[TOPOLOGY_RUN_ID_LEN + 1], repl_id2[TOPOLOGY_RUN_ID_LEN + 1];
    int64_t offset;        /* applied bytes: slave_repl_offset of a replica, else master_repl_offset */
    int64_t second_offset; /* repl_id2 is valid below this offset; -1: none */
    struct topology_address master;  /* replica: whom it follows; port 0 when its host isn't an IP literal */
    bool master_link_up;             /* replica: master_link_status:up */
    int master_last_io_s;            /* replica: seconds since it heard from its master; -1: never */
    int replica_priority;            /* replica-priority of its configuration; 100 when not said */
    int64_t used_memory, max_memory; /* bytes that count for eviction, and their limit; 0: no limit */
    bool evicts;                     /* at the limit old keys go; otherwise writes are refused */
    uint32_t n_replicas;             /* master: those connected, at most TOPOLOGY_MEMBERS_MAX */
    struct info_replica replicas[TOPOLOGY_MEMBERS_MAX];
};

void info_init(struct info *out);
/* A master that refuses every write that needs memory (a replica takes what its master sends). */
bool info_is_out_of_memory(const struct info *info);
/* Parses one INFO reply (any set of sections); fields whose section is absent keep their value in *out, so
 * that INFO server and INFO replication can be fed in turn. Unknown lines are skipped. ERR_INVALID when the
 * text is not an INFO reply at all (no "key:value" line). */
int info_parse(const char *text, size_t len, struct info *out) MR_MUST_CHECK;

#endif
