/* A non-blocking connection to a master: connecting, socket options, reading and writing; no protocol.
 *
 * A backend belongs to whoever attached it (in dedicated mode: one client). Its events go to the owner's
 * on_event(); nothing is called back from inside a call of this module. */
#ifndef MR_PROXY_BACKEND_H
#define MR_PROXY_BACKEND_H

#include "common/core/buf.h"
#include "common/core/topology.h"

#include <sys/types.h>

struct ev_loop;
struct backend;

enum backend_event {
    BACKEND_CONNECTED,
    BACKEND_FAILED,   /* could not connect: err is an errno */
    BACKEND_READABLE, /* read it */
    BACKEND_WRITABLE, /* go on writing */
};

typedef void (*backend_event_fn)(void *owner, enum backend_event event, int err);

/* Starts connecting. NULL with errno set: it failed at once. */
struct backend *backend_open(struct ev_loop *ev, const struct topology_address *to, int64_t now_us,
                             backend_event_fn on_event, void *owner);
/* Resets the connection (what the server hasn't read yet is thrown away) and frees. */
void backend_close(struct backend *b);

/* Its events go to another owner from now on. */
void backend_give(struct backend *b, backend_event_fn on_event, void *owner);

bool backend_is_connected(const struct backend *b);
int64_t backend_opened_us(const struct backend *b);
const struct topology_address *backend_address(const struct backend *b);

/* A server whose kernel answers nothing for so long, with data on its way, is gone: the connection ends as if
 * the server had closed it. Before the first write; 10 s unless set. */
void backend_set_gone_ms(struct backend *b, unsigned gone_ms);

/* Only one client's requests are written to it (net_keep_little()). */
void backend_keep_little(struct backend *b);

/* Its socket, for what reads and writes nothing but what the session wants. */
int backend_fd(struct backend *b);
/* As read(2): 0 at the end, ERR_BUSY when there is nothing now, ERR_CONNECTION when it is broken. */
ssize_t backend_read(struct backend *b, char *to, size_t size);
/* Writes what the kernel takes; 0 when it takes nothing now, ERR_CONNECTION when it is broken. */
ssize_t backend_write(struct backend *b, const struct buf_span *spans, int n);
/* Which events are wanted; costs nothing when it is as before. */
void backend_want(struct backend *b, bool readable, bool writable);

#endif
