/* One core driven by hand: events in, the executor's actions as one line. For unit tests of the failover
 * core. */
#ifndef MR_TESTS_LIB_FAILOVER_RIG_H
#define MR_TESTS_LIB_FAILOVER_RIG_H

#include "controller/core/failover.h"

#define RIG_TEN(c) c c c c c c c c c c
#define RIG_ID(c)  RIG_TEN(c) RIG_TEN(c) RIG_TEN(c) RIG_TEN(c)

#define RIG_REPL_1 RIG_ID("1") /* replication ids of epochs 1 and 2 */
#define RIG_REPL_2 RIG_ID("2")

/* One instance, one core, and what the executor would have to do. trust: all is well, one controller, unless
 * a test says otherwise. Members are 10.0.0.1:6379 (the master) and up. */
struct rig {
    struct failover f;
    struct failover_update update;
    int64_t now_us;
    int32_t version;
    int64_t revision;
    int64_t wall_ms;
    struct health_trust trust;
    const struct topology_pause *maintenance;
};

/* STABLE in epoch 1; run ids aaa…, bbb…, ccc…. */
struct topology_instance rig_sample(uint32_t n_members);
void rig_step(struct rig *b, struct failover_event event);
/* "COMMIT SEAL:1 SEAL:2 PUBLISH", reports left out; valid until the next call. */
const char *rig_actions(const struct rig *b);
void rig_link_up(struct rig *b, int member);
void rig_link_down(struct rig *b, int member, int err);
struct info rig_master_info(int member, int64_t offset);
struct info rig_replica_info(const struct rig *b, int member, int64_t offset, bool up);
struct info rig_sealed_info(int member, int64_t offset);
void rig_tell(struct rig *b, int member, struct info info);
void rig_committed(struct rig *b);
void rig_sealed(struct rig *b, int member, int64_t offset);
void rig_promoted(struct rig *b, int member, int64_t offset);
void rig_lead(struct rig *b, uint64_t term);
void rig_read_record(struct rig *b, const struct topology_instance *record);
/* A leader that watches a healthy instance of n members; free() it. */
struct rig *rig_watching(uint32_t n);
void rig_kill_master(struct rig *b);

/* Time passes: TICKs at the deadlines of the core, until now_us is that much later. */
void rig_pass(struct rig *b, int64_t us);
/* The member was asked at since_us and has not answered. */
void rig_mute(struct rig *b, int member, int64_t since_us);
void rig_knock(struct rig *b, int member, enum health_knock knock);
/* The others' answers: n of them, each of that kind and silence. */
void rig_vote(struct rig *b, uint32_t n, enum health_view_kind kind, int64_t silent_us);
/* The operator's order, id 9; the answer's err is returned (1: none yet). */
int rig_order(struct rig *b, struct failover_command command);
/* err of the DO_ANSWER in the last update; 1: there is none. And its text; "": likewise. */
int rig_answered(const struct rig *b);
const char *rig_answer(const struct rig *b);
/* Whether one of the reports of the last update has that text in it. */
bool rig_reports(const struct rig *b, const char *text);

#endif
