/* The leader's PUB socket, kept in a supervised child process.
 *
 *   engine ── publisher_send ──► SOCK_SEQPACKET ──► child: nanomsg PUB ──► proxies
 *
 * A stray frame from any TCP peer can abort a nanomsg PUB process, and its fan-out blocks the caller
 * (design: pitfalls.md). The child is /proc/self/exe run again with a hidden argument, so it starts
 * without a trace of the parent's nanomsg, threads or libraries. It dies with the parent; when it dies first
 * it is restarted at once on the same port; 30 ms later, when its subscribers are back, the last
 * PUBLISHER_RING messages are announced again, what was sent meanwhile behind them (receivers drop what they
 * know by term and seq), and the engine is told, so that its beats can hurry. */
#ifndef MR_CONTROLLER_PUBLISHER_H
#define MR_CONTROLLER_PUBLISHER_H

#include "common/nn_link.h"

struct loop;
struct publisher;

enum {
    PUBLISHER_RING = 256,          /* messages announced again after a restart */
    PUBLISHER_MESSAGE_MAX = 16384, /* bytes of one message */
};

struct publisher_config {
    const char *host;              /* IP literal to bind; copied */
    uint16_t port;                 /* 0: choose one; restarts keep it */
    const struct nn_link_key *key; /* NULL or len 0: unsigned; copied */
    /* The child died, a new one serves the same port and the ring was handed to it. Never inside a call. */
    void (*on_restarted)(void *ctx);
    void *ctx;
};

/* First thing in main() of every program that opens a publisher: when this process was started as a
 * publisher's child it serves there and exits; otherwise returns at once. */
void publisher_child_main_if_asked(int argc, char **argv);

/* Starts the child and waits until it has bound (milliseconds; 5 s at most): a start-up call, it blocks.
 * ERR_EXISTS (address in use), ERR_INVALID, ERR_IO, ERR_TIMEOUT, ERR_NOMEM. */
int publisher_open(struct publisher **out, struct loop *loop,
                   const struct publisher_config *config) MR_MUST_CHECK;
uint16_t publisher_port(const struct publisher *p); /* the real one; the same for as long as it is open */
/* Copies the message into the ring and hands it to the child without ever blocking. While the child is being
 * restarted or is slow it waits in the ring. ERR_TOO_LARGE; ERR_BUSY: the ring overflowed, so the oldest
 * message that waited is lost (receivers see the gap in seq and re-read). */
int publisher_send(struct publisher *p, const char *data, size_t len) MR_MUST_CHECK;
/* Lets the child send what it was handed (50 ms at most), then ends it. No callback after this. */
void publisher_close(struct publisher *p);
uint64_t publisher_restarts(const struct publisher *p); /* since it was opened */

#endif
