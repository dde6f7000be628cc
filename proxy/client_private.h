/* What the files of the clients (client*.c, gather.c) know of each other; nobody else includes this.
 *
 *   client.c: sockets, its own backend, replies, the turn's end      client_requests.c: what it sends
 *   client_window.c: when it may ask for a large reply
 *   gather.c: many that have sent something, read together */
#ifndef MR_PROXY_CLIENT_PRIVATE_H
#define MR_PROXY_CLIENT_PRIVATE_H

#include "proxy/client.h"
#include "proxy/instance.h"

static inline uint32_t client_now_ms(const struct client *c)
{
    return shard_now_ms(c->instance->shard);
}
void client_close_backend(struct client *c);
/* To its own backend, as far as they may go now. */
void client_write_requests(struct client *c);

/* ---- client_window.c ---- */
/* What it wants to write may go to its own backend now; else it is written when there is room. */
bool client_may_ask(struct client *c);
/* n bytes came from there. */
void client_window_reply(struct client *c, uint64_t n);
/* Its backend is closed, or it has nothing to ask there any more. */
void client_window_leave(struct client *c);

/* ---- client_requests.c ---- */
/* May what it sends be read now? */
bool client_reads(const struct client *c);
/* Its socket has something: reads it, by itself or with others. */
void client_on_readable(struct client *c);
/* Reads now; only if client_reads(). */
void client_read(struct client *c);
/* It was read: n as of net_read(). */
void client_arrived(struct client *c, const char *data, ssize_t n);
/* Requests that wait in its session go over the shared connections, as far as they may. */
void client_share(struct client *c);

#endif
