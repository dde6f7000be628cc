/* The ports of a process whose threads share them (SO_REUSEPORT), and with nobody else.
 *
 * The kernel lets any process of the same user join a shared port: two proxies would silently divide the
 * clients of it. So the first thread of a process that listens on a port looks whether somebody listens there
 * already, and all proxies of a host (of a network namespace) do that one after the other. */
#ifndef MR_PROXY_PORTS_H
#define MR_PROXY_PORTS_H

#include "common/core/err.h"

#include <stdint.h>

struct ports;

/* NULL when out of memory. Used by any thread. */
struct ports *ports_create(void);
/* Of no port that is still listened on. */
void ports_free(struct ports *p);

/* A listening socket, non-blocking and close-on-exec, that ports_leave() closes. p NULL: this process's only
 * one on the port. -1 with errno set: EADDRINUSE when another process listens there, or looks just now. */
int ports_listen(struct ports *p, const char *host, uint16_t port, int backlog);
void ports_leave(struct ports *p, uint16_t port, int fd);

#endif
