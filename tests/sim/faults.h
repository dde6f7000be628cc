/* The vocabulary of what can go wrong, for the stories. */
#ifndef MR_TESTS_SIM_FAULTS_H
#define MR_TESTS_SIM_FAULTS_H

#include "tests/sim/sim.h"

enum fault {
    FAULT_KILL_MASTER,
    FAULT_KILL_REPLICA,
    FAULT_KILL_ALL,   /* of one instance, at the same moment */
    FAULT_KILL_AHEAD, /* the master, while all but one replica lag behind: that one must not be master,
                         perhaps */
    FAULT_KILL_TWICE, /* the master, then whoever has become it, while a replica is cut off from the others */
    FAULT_KILL_BEHIND, /* a replica comes back with old data, the master dies before it has caught up, the
                          others are cut off */
    FAULT_SAVE,
    FAULT_STOP_MASTER,
    FAULT_STOP_ANY,
    FAULT_STALL, /* a stop that is shorter than any limit */
    FAULT_BUSY,
    FAULT_MISCONF,
    FAULT_OFF_MASTER, /* host and all: silence, no RST */
    FAULT_OFF_ANY,
    FAULT_LAST_OF_REDIS = FAULT_OFF_ANY,
    FAULT_CUT,   /* two places, both ways or one */
    FAULT_FLAP,  /* again and again */
    FAULT_SPLIT, /* groups of places */
    FAULT_BLIND, /* a controller from most members */
    FAULT_LAST_OF_NETWORK = FAULT_BLIND,
    FAULT_ZK_AWAY,
    FAULT_ZK_EXPIRE,
    FAULT_ZK_BREAK,
    FAULT_CRASH,
    FAULT_PAUSE,
    FAULT_CRASH_LEADER,
    FAULT_PAUSE_LEADER,
    FAULT_RESIGN,
    FAULT_DELETE_LEADER,
    FAULT_LAST_OF_CONTROLLERS = FAULT_DELETE_LEADER,
    FAULT_SET,
    FAULT_SWITCHOVER,
    FAULT_MAINTENANCE,
    FAULT_FORGET,
    FAULT_ORDER, /* any */
};

/* Draws the details. */
void faults_do(struct sim *s, enum fault fault);
/* Everything that was broken is mended; one process may stay dead for good. */
void faults_mend(struct sim *s);

int faults_master(const struct sim *s, int instance); /* of the record; -1: none */
int faults_replica(struct sim *s, int instance);      /* any other member; -1: none */
void faults_kill(struct sim *s, int redis);
void faults_stop(struct sim *s, int redis, int64_t for_us);
void faults_say(struct sim *s, int redis, enum health_said said, int64_t for_us);
void faults_cut_pair(struct sim *s, int a, int b, int64_t for_us);
void faults_blind(struct sim *s, int controller, int64_t for_us);
/* Longest stop that must never be taken for more than a stall. */
int64_t faults_stall_max_us(const struct sim *s, int instance);
void faults_stale_until(struct sim *s, int64_t until_us);

#endif
