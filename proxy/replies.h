/* Replies for many clients: written in one system call, straight from where they lie (batch.h).
 *
 *   replies_add() … replies_add() ──► replies_write() ──► clients' sockets
 *                                          └─ what they don't take ──► session
 *
 * Between the two nothing else may be given to such a client: c->gathered says so. */
#ifndef MR_PROXY_REPLIES_H
#define MR_PROXY_REPLIES_H

#include "proxy/batch.h"

#include <stdbool.h>
#include <stddef.h>

struct client;
struct instance;

enum { REPLIES_BYTES_MAX = 16 * 1024 }; /* at once for one client: larger ones are written by themselves */

/* On the stack of who has them. */
struct replies {
    struct instance *instance;
    void *owner;
    void (*on_passed)(void *owner, struct client *c); /* it was given what it was to be given */
    int n;
    struct client *clients[BATCH_MAX];
    struct batch_item items[BATCH_MAX];
};

/* The bytes (borrowed until replies_write()) are for that client. False: pass them yourself; what it was
 * given before is written. */
bool replies_add(struct replies *r, struct client *c, const char *data, size_t len);
/* Something else is to be given to that client: what it was given before is written. */
void replies_make_way(struct replies *r, const struct client *c);
void replies_write(struct replies *r);

#endif
