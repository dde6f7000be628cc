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
/* TCP_NODELAY; keepalive so that a peer whose host vanished is noticed; and little that waits in the socket. */
void net_tune(int fd);
/* As read(2) and writev(2): the bytes; read: 0 at the end; ERR_BUSY: not now; ERR_CONNECTION: broken. */
ssize_t net_read(int fd, char *to, size_t size);
ssize_t net_write(int fd, const struct buf_span *spans, int n);
/* Changes a watcher's events; 0 stops it. */
void net_watch(struct ev_loop *ev, ev_io *io, int events);

#endif
