/* The few socket calls that listeners, clients and backends share. */
#ifndef MR_PROXY_NET_H
#define MR_PROXY_NET_H

#include "common/core/buf.h"
#include "common/core/topology.h"

#include <ev.h>
#include <sys/socket.h>
#include <sys/types.h>

/* An IP literal and a port as a socket address; ERR_INVALID. */
int net_address(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len) MR_MUST_CHECK;
/* TCP_NODELAY, and keepalive so that a peer whose host vanished is noticed. */
void net_tune(int fd);
/* What the other side has no room for waits where it comes from, but for 16 KB, not in this socket: the
 * kernel would send that while the other side reads, in its time on a processor. With all of it there, 50
 * clients that read values of 1 MB got half as many. Not where the requests of many are written at once:
 * those come in hundreds of KB. */
void net_keep_little(int fd);
/* The processor on which the other side ran when it sent what was read last; -1: it is on another host, or
 * that can't be told. */
int net_processor(int fd);
/* As read(2) and writev(2): the bytes; read: 0 at the end; ERR_BUSY: not now; ERR_CONNECTION: broken. */
ssize_t net_read(int fd, char *to, size_t size);
ssize_t net_write(int fd, const struct buf_span *spans, int n);
/* Changes a watcher's events; 0 stops it. */
void net_watch(struct ev_loop *ev, ev_io *io, int events);

#endif
