#include "proxy/backend.h"

#include "common/tcp.h"
#include "proxy/net.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

/* Unacknowledged data that old breaks the connection: a vanished host; the controllers notice it sooner. */
enum { BACKEND_USER_TIMEOUT_MS = 10000 };

struct backend {
    ev_io io;
    struct ev_loop *ev;
    backend_event_fn on_event;
    void *owner;
    int64_t opened_us;
    bool connected;
    struct topology_address address;
};

static void backend_on_connecting(struct backend *b)
{
    int err = 0;
    socklen_t len = sizeof(err);

    if (getsockopt(b->io.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    if (err == 0) {
        b->connected = true;
        /* Routes first: when a new one comes in the same turn as a reply of the old master, which may have
         * been stopped meanwhile, the reply isn't believed any more. */
        net_watch(b->ev, &b->io, 0);
        ev_set_priority(&b->io, -1);
        net_watch(b->ev, &b->io, EV_READ);
    } else {
        net_watch(b->ev, &b->io, 0);
    }
    b->on_event(b->owner, err == 0 ? BACKEND_CONNECTED : BACKEND_FAILED, err);
}

static void backend_on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    struct backend *b = io->data;

    (void)ev;
    if (!b->connected)
        backend_on_connecting(b);
    else if (revents & EV_READ)
        b->on_event(b->owner, BACKEND_READABLE, 0); /* may free b */
    else
        b->on_event(b->owner, BACKEND_WRITABLE, 0);
}

struct backend *backend_open(struct ev_loop *ev, const struct topology_address *to, int64_t now_us,
                             backend_event_fn on_event, void *owner)
{
    struct sockaddr_storage address;
    socklen_t len;
    int user_timeout_ms = BACKEND_USER_TIMEOUT_MS, fd = -1, err = EINVAL;
    struct backend *b = NULL;

    assert(on_event && owner);
    if (net_address(to->host, to->port, &address, &len))
        goto fail;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        err = errno;
        goto fail;
    }
    net_tune(fd);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
    b = calloc(1, sizeof(*b));
    if (!b) {
        err = ENOMEM;
        goto fail;
    }
    if (connect(fd, (const struct sockaddr *)&address, len) != 0 && errno != EINPROGRESS) {
        err = errno;
        goto fail;
    }
    *b =
        (struct backend){.ev = ev, .on_event = on_event, .owner = owner, .opened_us = now_us, .address = *to};
    ev_io_init(&b->io, backend_on_io, fd, EV_WRITE);
    b->io.data = b;
    ev_io_start(ev, &b->io);
    return b;
fail:
    free(b);
    if (fd >= 0)
        close(fd);
    errno = err;
    return NULL;
}

void backend_close(struct backend *b)
{
    if (!b)
        return;
    ev_io_stop(b->ev, &b->io);
    /* RST instead of FIN: what the server's kernel doesn't have yet is never sent, and nothing lingers here.
     * What its kernel has, a stopped master still executes when it resumes: it counts as sent, -MRUNKNOWN. */
    tcp_close_resets(b->io.fd);
    close(b->io.fd);
    free(b);
}

void backend_give(struct backend *b, backend_event_fn on_event, void *owner)
{
    assert(on_event && owner);
    b->on_event = on_event;
    b->owner = owner;
}

bool backend_is_connected(const struct backend *b)
{
    return b->connected;
}

int64_t backend_opened_us(const struct backend *b)
{
    return b->opened_us;
}

const struct topology_address *backend_address(const struct backend *b)
{
    return &b->address;
}

int backend_fd(const struct backend *b)
{
    assert(b->connected);
    return b->io.fd;
}

ssize_t backend_read(struct backend *b, char *to, size_t size)
{
    assert(b->connected);
    return net_read(b->io.fd, to, size);
}

ssize_t backend_write(struct backend *b, const struct buf_span *spans, int n)
{
    assert(b->connected);
    ssize_t wrote = net_write(b->io.fd, spans, n);
    return wrote == ERR_BUSY ? 0 : wrote;
}

void backend_want(struct backend *b, bool readable, bool writable)
{
    if (b->connected)
        net_watch(b->ev, &b->io, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
}
