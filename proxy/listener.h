/* A listening socket of one instance in one thread (ports.h: every thread has its own).
 *
 * A port that can't be listened on is tried again with back-off; running out of descriptors pauses accepting
 * instead of spinning. */
#ifndef MR_PROXY_LISTENER_H
#define MR_PROXY_LISTENER_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stdint.h>

struct ev_loop;
struct listener;
struct ports;

struct listener_config {
    const char *host; /* IP literal; borrowed for the listener's life */
    uint16_t port;
    struct ports *ports;                   /* several threads of this process listen on it; NULL: one */
    void (*on_accept)(void *ctx, int fd);  /* takes the descriptor: non-blocking, close-on-exec */
    void (*on_failed)(void *ctx, int err); /* an errno; also from inside listener_open() */
    void *ctx;
};

/* NULL only when out of memory. */
struct listener *listener_open(struct ev_loop *ev, const struct listener_config *config);
/* The port is free when this returns (as far as this thread is concerned). */
void listener_close(struct listener *l);

#endif
