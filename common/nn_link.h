/* A nanomsg socket on a libev loop, optionally signed.
 *
 * Sets NN_TCP_NODELAY, NN_RECONNECT_IVL 10 ms, NN_RCVMAXSIZE 1 MiB, NN_IPV4ONLY 0, NN_LINGER 0. With a key,
 * each message is followed by its HMAC-SHA-256 (32 raw bytes) and one that doesn't verify is dropped,
 * counted and logged (at most once a second). Messages over NN_LINK_MESSAGE_MAX are dropped likewise. A stray
 * or hostile frame must never end the process: PUB sockets therefore live in controller/publisher only. */
#ifndef MR_COMMON_NN_LINK_H
#define MR_COMMON_NN_LINK_H

#include "common/core/err.h"

#include <stddef.h>
#include <stdint.h>

struct loop;
struct nn_link;

enum { NN_LINK_MESSAGE_MAX = 64 * 1024 }; /* bytes, without the signature */
/* NN_SURVEYOR | NN_LINK_RAW: any number of surveys at once. nanomsg's own SURVEYOR forgets the present one
 * when the next is sent; here answers of all come in, and telling them apart and ending them is the caller's.
 */
enum { NN_LINK_RAW = 1 << 16 };

struct nn_link_key {
    size_t len; /* 0: unsigned */
    unsigned char bytes[256];
};
/* Reads a key file (its bytes without trailing newlines, 16–256 of them). ERR_IO, ERR_INVALID. */
int nn_link_key_read(const char *path, struct nn_link_key *out) MR_MUST_CHECK;

/* data is borrowed for the call and has no signature any more; a NUL follows it. */
typedef void (*nn_message_fn)(void *ctx, const char *data, size_t len);

/* protocol: NN_SUB (subscribed to everything), NN_PUB, NN_PUSH, NN_PULL, … on_message may be NULL for
 * senders. */
int nn_link_open(struct nn_link **out, struct loop *loop, int protocol, const struct nn_link_key *key,
                 nn_message_fn on_message, void *ctx) MR_MUST_CHECK;
void nn_link_close(struct nn_link *link); /* no callback after this */

/* "tcp://127.0.0.1:7701", "tcp://[::1]:7701" (an IP literal); endpoint (≥ 0) is what disconnect takes. Port 0
 * isn't known to nanomsg: see nn_link_bind_any(). ERR_INVALID, ERR_EXISTS (address in use), ERR_IO. */
int nn_link_bind(struct nn_link *link, const char *url, int *endpoint) MR_MUST_CHECK;
int nn_link_connect(struct nn_link *link, const char *url, int *endpoint) MR_MUST_CHECK;
void nn_link_disconnect(struct nn_link *link, int endpoint);
/* Binds host:port; port 0 picks a free one. *bound is the port in use. */
int nn_link_bind_any(struct nn_link *link, const char *host, uint16_t port, uint16_t *bound) MR_MUST_CHECK;

/* Never blocks: ERR_BUSY when nobody is connected or the peer's queue is full (the message is lost);
 * ERR_TOO_LARGE, ERR_IO. */
int nn_link_send(struct nn_link *link, const char *data, size_t len) MR_MUST_CHECK;
uint64_t nn_link_dropped(const struct nn_link *link); /* messages refused so far: signature or size */

#endif
