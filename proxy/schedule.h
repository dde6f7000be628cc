/* How the data path's thread takes a processor, as core/turns.h and core/spin.h say. One a thread. */
#ifndef MR_PROXY_SCHEDULE_H
#define MR_PROXY_SCHEDULE_H

#include "proxy/core/spin.h"
#include "proxy/core/turns.h"

#include <ev.h>

struct shard;

struct schedule {
    struct shard *shard;
    struct turns turns;
    struct spin spin;
    bool is_on;    /* else it is scheduled as any other thread */
    bool may_wait; /* the kernel has not refused SCHED_BATCH */
    ev_idle idle;  /* active while the thread doesn't sleep */
};

void schedule_init(struct schedule *s, struct shard *shard, bool is_on);
/* On the thread itself: a turn ends, all that it could read is read. */
void schedule_turn(struct schedule *s);
void schedule_stop(struct schedule *s);

#endif
