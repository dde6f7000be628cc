/* Clients whose sockets have something, read together (batch.h) before the turn ends. One a thread.
 *
 *   readable ──► gather_add() ──(BATCH_MAX, or the end of the turn)──► gather_read() ──► client_arrived()
 *
 * For small requests only: each has GATHER_BYTES. A client that fills them is read by itself next time. Many
 * replies at once: mux_replies.c. */
#ifndef MR_PROXY_GATHER_H
#define MR_PROXY_GATHER_H

#include "proxy/batch.h"

#include <stdbool.h>

struct client;

/* Not 4 KB: 32 rooms that begin at the same place of a page would share few cache lines. */
enum { GATHER_BYTES = 4096 - 64 };

struct gather {
    struct batch *batch; /* NULL: nothing is gathered */
    char *rooms;
    int n;
    struct client *clients[BATCH_MAX];
};

/* Without io_uring, or when `wanted` is false, nothing will be gathered. ERR_NOMEM. */
int gather_open(struct gather *g, bool wanted) MR_MUST_CHECK;
void gather_close(struct gather *g);
/* False: nothing is gathered, read it yourself. */
bool gather_add(struct gather *g, struct client *c);
void gather_read(struct gather *g);
/* The client goes. */
void gather_forget(struct gather *g, const struct client *c);

#endif
