/* fence=acl in the simulation: ACLs of members, FENCEs on their way, applications that log in directly. */
#ifndef MR_TESTS_SIM_SIM_FENCE_H
#define MR_TESTS_SIM_SIM_FENCE_H

#include "controller/core/fence.h"

struct message;
struct sim;

enum {
    SIM_EPOCHS = 256,
    SIM_APPS = 2,   /* of an instance: clients that connect to members directly */
    SIM_MARKS = 16, /* more than there are leaders */
    SIM_CONNECTIONS = 4096,
};

/* Of a leader: that it has changed the ACL, or will. */
struct sim_mark {
    uint64_t term, client;
};

/* The ACL of a process. */
struct sim_acl {
    uint64_t on[SIM_EPOCHS / 64]; /* which epochs' logins it accepts */
    uint32_t n_marks;
    struct sim_mark marks[SIM_MARKS];
    uint64_t clients;                      /* connections so far: CLIENT ID of the newest */
    uint64_t killed[SIM_CONNECTIONS / 64]; /* nothing that comes over these is carried out any more */
    uint64_t fenced_epoch;                 /* the newest of a FENCE that a controller knows to be done */
    uint64_t unfenced_epoch; /* the newest of one that is known to have been refused, and not done since */
};

/* An application that connects to members directly. */
struct sim_app {
    uint64_t known; /* the newest epoch that it has heard of */
    bool connected; /* to … */
    int redis;
    uint32_t process;
    uint64_t epoch; /* … logged in as that one's user */
};

/* A FENCE of a controller's to a member: one at a time. */
struct sim_fencing {
    uint32_t number; /* of the pending one on the link; 0: none */
    uint32_t left;   /* answers that are still to come in this round */
    int err;
    struct fence fence;
};

/* ---- sim_fence.c ---- */
void sim_fence_create(struct sim *s);
void sim_fence_on_start(struct sim *s, int redis); /* a new process */
/* A controller has been told what became of its FENCE. */
void sim_fence_on_done(struct sim *s, int redis, uint64_t epoch, bool keep);
void sim_fence_on_refused(struct sim *s, int redis, uint64_t epoch);
/* Some users have gone: cuts who is logged in as one of them. */
void sim_fence_cut(struct sim *s, int redis);
void sim_fence_on_promote(struct sim *s, int redis, uint64_t epoch);
void sim_fence_on_replicate(struct sim *s, int redis, uint64_t epoch); /* it is about to be done */
void sim_fence_on_publish(struct sim *s, const struct message *m);
bool sim_fence_settled(const struct sim *s, int redis);

/* ---- sim_fencing.c ---- */
/* Sends the order's first round; one FAILOVER_ON_FENCED comes back, unless the controller crashes. */
void sim_fencing_order(struct sim *s, int controller, int redis, const struct fence_order *order);

#endif
