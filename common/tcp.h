/* What our TCP client sockets have in common: addresses, tuning, the meaning of errno. */
#ifndef MR_COMMON_TCP_H
#define MR_COMMON_TCP_H

#include "common/core/topology.h"

#include <sys/socket.h>

/* Socket address of an IP literal (port 0 allowed); ERR_INVALID when it is none. */
int tcp_address(const struct topology_address *a, struct sockaddr_storage *out, socklen_t *len) MR_MUST_CHECK;
/* An IP literal that only this host reaches. */
bool tcp_is_loopback(const char *host);
/* TCP_NODELAY, keepalive (dead after 11 s of silence) and TCP_USER_TIMEOUT (10 s). */
void tcp_tune(int fd);
/* close() resets the connection, and so does the death of this process: what the peer's kernel doesn't have
 * yet is never sent, and neither side is left in TIME_WAIT. */
void tcp_close_resets(int fd);
/* A connect to an unused local port of the ephemeral range can meet itself (TCP's simultaneous open). It
 * looks like a peer that echoes, and keeps the port from the server that wants it back. */
bool tcp_met_itself(int fd);
/* What was sent waits, and for after_ms nothing at all came from the peer's kernel, though it was asked again
 * meanwhile. Not so of a peer that lives and doesn't read, which TCP_USER_TIMEOUT takes for gone: the kernel
 * of one whose buffers are full still answers. */
bool tcp_host_is_gone(int fd, unsigned after_ms);
/* Bytes that were sent and that the peer's kernel doesn't have; 0 when nobody can tell. */
int tcp_waiting_bytes(int fd);
/* ERR_REFUSED, ERR_UNREACHABLE, ERR_TIMEOUT, ERR_CLOSED (reset) or ERR_IO for an errno. */
int tcp_reason(int error);

#endif
