/* Notices that a connected master doesn't answer, so that the leader can be asked to look at it now.
 *
 * One slow timer an instance, which runs only while replies are due. */
#ifndef MR_PROXY_SILENCE_H
#define MR_PROXY_SILENCE_H

#include "common/core/list.h"

#include <ev.h>
#include <stdint.h>

struct client;
struct instance;

#define SILENCE_AFTER_US ((int64_t)500000)  /* without a reply that is due */
#define SILENCE_EVERY_US ((int64_t)1000000) /* at most one on_silent() in so long */

struct silence {
    struct list awaiting; /* clients to which a reply is due, the longest wait not necessarily first */
    int64_t told_us;      /* last on_silent(); 0: never */
    ev_timer timer;
};

void silence_init(struct instance *i);
void silence_stop(struct instance *i);
/* The client's backend sent something. */
void silence_heard(struct client *c);
/* A reply is due on a connection that clients share (mux.h). */
void silence_begin(struct instance *i);
/* Something may have changed: is a reply due to it? */
void silence_look(struct client *c);

#endif
