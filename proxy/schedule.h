/* How the data path's thread takes a processor, and which, as core/turns.h, core/spin.h and core/beside.h
 * say. One a thread. */
#ifndef MR_PROXY_SCHEDULE_H
#define MR_PROXY_SCHEDULE_H

#include "proxy/core/beside.h"
#include "proxy/core/spin.h"
#include "proxy/core/turns.h"

#include <ev.h>
#include <sched.h>

struct shard;

struct schedule {
    struct shard *shard;
    bool is_on; /* else it is scheduled as any other thread */
    struct turns turns;
    bool may_wait; /* the kernel has not refused SCHED_BATCH */
    struct spin spin;
    ev_idle idle; /* active while the thread doesn't sleep */
    struct beside beside;
    bool may_move;      /* the kernel has not refused that either */
    cpu_set_t own, set; /* where it may run; what it chose of that */
    ev_timer rest;      /* active while it chose */
};

/* may_move: it may choose its processor. Of several threads of a process none should, nor one whose clients
 * are on other hosts. */
void schedule_init(struct schedule *s, struct shard *shard, bool is_on, bool may_move);
/* On the thread itself: a server's replies were just read from that socket. */
void schedule_answered(struct schedule *s, int fd);
/* The thread has chosen to run where a Redis of this host answers it. */
static inline bool schedule_is_beside(const struct schedule *s)
{
    return s->beside.processor != BESIDE_ANYWHERE;
}
/* On the thread itself: a turn ends, all that it could read is read. */
void schedule_turn(struct schedule *s);
void schedule_stop(struct schedule *s);

#endif
