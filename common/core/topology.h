/* The values that describe one Redis service: an instance, its members, its epochs. Pure.
 *
 * Plain, printable, comparable structs; every text field is NUL-terminated and bounded, so that a
 * value may be copied with `=`. The vocabulary (instance, member, incarnation, epoch, term) is that of
 * the design's safety document. topology_codec.h turns them into znodes and back. */
#ifndef MR_COMMON_CORE_TOPOLOGY_H
#define MR_COMMON_CORE_TOPOLOGY_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TOPOLOGY_NAME_MAX = 64,    /* instance name, bytes */
    TOPOLOGY_HOST_MAX = 45,    /* an IPv4 or IPv6 literal */
    TOPOLOGY_ADDRESS_MAX = 54, /* "[host]:port" */
    TOPOLOGY_RUN_ID_LEN = 40,  /* Redis' run_id and replication id, hex digits */
    TOPOLOGY_ZONE_MAX = 32,
    TOPOLOGY_USER_MAX = 64,
    TOPOLOGY_FENCE_USER_MAX = 40, /* leaves room for "-e" and an epoch */
    TOPOLOGY_PASSWORD_MAX = 512,
    TOPOLOGY_MEMBERS_MAX = 16,
    TOPOLOGY_EPOCHS_MAX = 32, /* newest rows kept; older lineages can't win a choice any more */
    TOPOLOGY_EVIDENCE_MAX = 256,
    TOPOLOGY_REASON_MAX = 128,
};

/* A member's address; host is an IP literal (never a name: resolving would block a loop). */
struct topology_address {
    char host[TOPOLOGY_HOST_MAX + 1];
    uint16_t port; /* 0: no address */
};

enum topology_priority {
    TOPOLOGY_NEUTRAL, /* default */
    TOPOLOGY_PREFER,
    TOPOLOGY_PREFER_NOT,
    TOPOLOGY_MUST_NOT,
};

/* One registered redis-server process. run_id names the incarnation whose data is trusted;
 * "" until it was first seen. */
struct topology_member {
    struct topology_address address;
    char run_id[TOPOLOGY_RUN_ID_LEN + 1];
    enum topology_priority priority;
    char zone[TOPOLOGY_ZONE_MAX + 1];
    bool serves_reads; /* a replica whose data the leader found fresh enough (controller/core/reader.h) */
};

/* A replica that clients may read from. */
struct topology_reader {
    struct topology_address address;
    char zone[TOPOLOGY_ZONE_MAX + 1];
};

/* One promotion: from start_offset on, the replication history of this epoch is repl_id's. The id is "" from
 * the choice until the promotion is recorded (it is random; whoever carries it branched off exactly at
 * start_offset). Two rows of one epoch: the master renamed its history by itself (repl-backlog-ttl). */
struct topology_epoch {
    uint64_t epoch;
    char repl_id[TOPOLOGY_RUN_ID_LEN + 1];
    int64_t start_offset; /* bytes of the replication stream */
};

/* Durable state of an instance: safety.md §3. */
enum topology_state {
    TOPOLOGY_STABLE,    /* `master` serves */
    TOPOLOGY_SEALING,   /* an intent is committed: members are being sealed, nobody may be promoted yet */
    TOPOLOGY_PROMOTING, /* `candidate` was chosen and is being promoted */
};

enum topology_durability { TOPOLOGY_ASYNC, TOPOLOGY_STRICT };

/* Who answers what clients read, as far as they don't say so themselves (READONLY, READWRITE). */
enum topology_reads {
    TOPOLOGY_READS_MASTER,
    TOPOLOGY_READS_REPLICA, /* any replica that may; the master when there is none */
    TOPOLOGY_READS_NEAREST, /* the same, those of the proxy's own zone first */
};

/* How applications that connect to members directly are kept off a deposed one. */
enum topology_fence {
    TOPOLOGY_FENCE_NONE,
    TOPOLOGY_FENCE_ACL, /* they log in as a user of the present epoch: controller/core/fence.h */
};

/* Why a failover was begun: safety.md §2. */
enum topology_verdict {
    TOPOLOGY_VERDICT_NONE,
    TOPOLOGY_VERDICT_DEAD,
    TOPOLOGY_VERDICT_RESTARTED,
    TOPOLOGY_VERDICT_DEMOTED, /* the registered master answers as a replica (a late seal, or somebody's
                                 REPLICAOF) */
    TOPOLOGY_VERDICT_UNREACHABLE,
    TOPOLOGY_VERDICT_HUNG,
    TOPOLOGY_VERDICT_MANUAL,  /* mrctl failover */
    TOPOLOGY_VERDICT_PLANNED, /* mrctl switchover: both ends are in step before anything is committed */
};

/* What an operator may set (interfaces.md, "Instance policy keys"). */
struct topology_policy {
    enum topology_durability durability;          /* async */
    uint32_t acks;                                /* 1: replicas that acknowledge a strict write */
    uint32_t unreachable_after_ms;                /* 1500 */
    uint32_t hung_after_ms;                       /* 3000 */
    uint32_t cooldown_ms;                         /* 60000 */
    uint32_t min_replicas_to_write;               /* 0 */
    uint32_t min_replicas_max_lag;                /* 10 seconds, as Redis has it */
    uint32_t hold_ms;                             /* 0: the proxy's own --hold-ms */
    uint64_t max_lag_bytes;                       /* of a replica that serves reads; 0: no limit */
    enum topology_reads reads;                    /* master */
    bool auto_failover;                           /* true */
    enum topology_fence fence;                    /* none */
    char fence_user[TOPOLOGY_FENCE_USER_MAX + 1]; /* whose rules and passwords the epochs' users have; "" */
};

/* Credentials the controllers log in to the members with; both "" when none. */
struct topology_auth {
    char user[TOPOLOGY_USER_MAX + 1]; /* "": the default user, AUTH with the password alone */
    char password[TOPOLOGY_PASSWORD_MAX + 1];
};

/* How long each part of a failover took, microseconds; -1: not known (another controller did it). */
struct topology_timeline {
    int64_t detect_us; /* first evidence → verdict */
    int64_t commit_us; /* the intent's and the choice's commits together */
    int64_t seal_us;   /* first seal sent → last answer */
    int64_t fence_us; /* choice committed → the candidate's ACL is the epoch's, or can't be; not fenced: -1 */
    int64_t promote_us; /* REPLICAOF NO ONE sent → role:master seen */
    int64_t publish_us; /* route handed to the publisher */
};

/* The failover under way (state is not STABLE), or the last one that ended; epoch 0: there was none. */
struct topology_failover {
    int64_t at_ms; /* wall clock, Unix milliseconds, when the verdict fell */
    enum topology_verdict verdict;
    uint64_t epoch;
    struct topology_address old_master;
    char evidence[TOPOLOGY_EVIDENCE_MAX + 1]; /* one line for people */
    struct topology_timeline timeline;
    struct topology_address target; /* PLANNED, MANUAL: who is to become master; port 0: whoever is best */
    int64_t target_offset;          /* PLANNED: bytes the target holds for certain */
    bool data_loss_allowed;         /* MANUAL: --allow-data-loss */
    int64_t lost_bytes; /* taken by that order: what a member had more than the chosen one, at least; 0:
                           unknown */
};

/* Maintenance: no automatic failover until it ends. Of one instance, or (znode /pause) of all. */
struct topology_pause {
    char owner[TOPOLOGY_NAME_MAX + 1]; /* "": not paused */
    char reason[TOPOLOGY_REASON_MAX + 1];
    int64_t since_ms, until_ms; /* wall clock, Unix milliseconds; until_ms 0: until resumed */
};

/* Restraint after a failover (safety.md §7): no automatic one for cooldown_ms << (strikes - 1) after
 * failover.at_ms, at most TOPOLOGY_COOLDOWN_MAX_MS. */
struct topology_cooldown {
    uint32_t strikes; /* unplanned failovers in a row; 0: none, or cleared by `mrctl ack` */
    bool bypassed;    /* a DEAD verdict has bypassed it already */
};
enum { TOPOLOGY_COOLDOWN_MAX_MS = 3600 * 1000 };

struct topology_instance {
    char name[TOPOLOGY_NAME_MAX + 1];
    uint16_t port;
    enum topology_state state;
    uint64_t epoch;                    /* of the last committed intent; grows only */
    struct topology_address master;    /* port 0 while SEALING (nobody may serve) */
    struct topology_address candidate; /* port 0 unless PROMOTING */
    int64_t start_offset;              /* the candidate's offset; 0 unless PROMOTING */
    struct topology_policy policy;
    struct topology_auth auth;
    uint32_t n_members;
    struct topology_member members[TOPOLOGY_MEMBERS_MAX];
    uint32_t n_epochs; /* oldest first */
    struct topology_epoch epochs[TOPOLOGY_EPOCHS_MAX];
    struct topology_failover failover;
    struct topology_pause pause;
    struct topology_cooldown cooldown;
};

/* One entry of /history/<name>: a failover, or another change worth keeping. */
enum topology_history_kind {
    TOPOLOGY_HISTORY_ADOPTED,
    TOPOLOGY_HISTORY_FAILOVER,
    TOPOLOGY_HISTORY_REJOINED, /* a deposed or restarted member became a replica again */
    TOPOLOGY_HISTORY_MEMBER,   /* a member was registered or its incarnation replaced */
    TOPOLOGY_HISTORY_ROLLBACK, /* a switchover that could not finish: evidence says why; nothing was changed
                                */
    TOPOLOGY_HISTORY_POLICY,   /* set, pause, resume, ack: evidence says what, from whom */
    TOPOLOGY_HISTORY_DEGRADED, /* a master that answers but can't serve as it should; and that it is over */
};
struct topology_history {
    enum topology_history_kind kind;
    int64_t at_ms; /* wall clock, Unix milliseconds */
    uint64_t epoch;
    uint64_t term;                /* the leader that did it */
    uint32_t row;                 /* number of the decision's row in failover_table */
    struct topology_address from; /* FAILOVER: old master; else the member */
    struct topology_address to;   /* FAILOVER: new master; REJOINED: its master; else port 0 */
    int64_t lost_bytes; /* REJOINED: bytes the member had that the new history lacks; FAILOVER: see above;
                           else 0 */
    enum topology_verdict verdict;
    struct topology_timeline timeline;
    char evidence[TOPOLOGY_EVIDENCE_MAX + 1];
};

/* Fills `policy` with the defaults above. */
void topology_policy_default(struct topology_policy *policy);

/* 0 when text is a legal instance name, [A-Za-z0-9._-]{1,64}; ERR_INVALID otherwise ("." and ".." too:
 * ZooKeeper refuses them as node names). */
int topology_name_check(const char *text) MR_MUST_CHECK;

/* Parses "1.2.3.4:6379" or "[::1]:6379"; ERR_INVALID when it is not an IP literal with a port 1-65535. */
int topology_address_parse(const char *text, struct topology_address *out) MR_MUST_CHECK;
/* Writes "host:port" (IPv6 in brackets, "-" when there is none); returns `text`. */
const char *topology_address_format(const struct topology_address *a, char text[TOPOLOGY_ADDRESS_MAX + 1]);
bool topology_address_equal(const struct topology_address *a, const struct topology_address *b);
static inline bool topology_address_is_set(const struct topology_address *a)
{
    return a->port != 0;
}

/* Index of the member at that address, or -1. */
int topology_member_find(const struct topology_instance *i, const struct topology_address *a);
/* The address clients are routed to: the master, or the candidate while PROMOTING (it answers -READONLY
 * until it is promoted, which a proxy holds); NULL while SEALING. */
const struct topology_address *topology_route(const struct topology_instance *i);
static inline bool topology_is_strict(const struct topology_instance *i)
{
    return i->policy.durability == TOPOLOGY_STRICT;
}
static inline bool topology_is_fenced(const struct topology_instance *i)
{
    return i->policy.fence == TOPOLOGY_FENCE_ACL;
}
/* The user that applications log in as directly: "app-e7"; "" while there is none (not fenced, or SEALING).
 * Returns text. */
const char *topology_fence_login(const struct topology_instance *i, char text[TOPOLOGY_USER_MAX + 1]);
/* The members that clients may read from; none while nobody is master. Returns how many. */
uint32_t topology_readers(const struct topology_instance *i,
                          struct topology_reader out[TOPOLOGY_MEMBERS_MAX]);
/* Nobody serves reads any more: what was known of the members' data counts for their present master only. */
void topology_readers_clear(struct topology_instance *i);
/* Appends a row to the epoch table; the oldest goes when the table is full. */
void topology_epoch_append(struct topology_instance *i, const struct topology_epoch *row);

/* 0 when the value obeys its own rules: legal name, master among the members, unique addresses, epochs
 * that never go back, counts within limits, a candidate exactly while PROMOTING. Otherwise ERR_INVALID and
 * one sentence in why. The codec calls it on everything it reads. */
int topology_check(const struct topology_instance *i, char *why, size_t why_size) MR_MUST_CHECK;

const char *topology_state_name(enum topology_state s);           /* "stable", "sealing", "promoting" */
const char *topology_verdict_name(enum topology_verdict v);       /* "NONE", "DEAD", … */
const char *topology_durability_name(enum topology_durability d); /* "async", "strict" */
const char *topology_priority_name(enum topology_priority p);     /* "neutral", "prefer", … */
const char *topology_reads_name(enum topology_reads r);           /* "master", "replica", "nearest" */
const char *topology_fence_name(enum topology_fence f);           /* "none", "acl" */
const char *topology_history_kind_name(enum topology_history_kind k);
/* The inverse of each; ERR_INVALID for an unknown word. */
int topology_state_parse(const char *text, enum topology_state *out) MR_MUST_CHECK;
int topology_verdict_parse(const char *text, enum topology_verdict *out) MR_MUST_CHECK;
int topology_durability_parse(const char *text, enum topology_durability *out) MR_MUST_CHECK;
int topology_priority_parse(const char *text, enum topology_priority *out) MR_MUST_CHECK;
int topology_reads_parse(const char *text, enum topology_reads *out) MR_MUST_CHECK;
int topology_fence_parse(const char *text, enum topology_fence *out) MR_MUST_CHECK;
int topology_history_kind_parse(const char *text, enum topology_history_kind *out) MR_MUST_CHECK;

#endif
