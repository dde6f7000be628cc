#include "proxy/backend.h"

#include "common/tcp.h"
#include "proxy/net.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

/* Silence of the server's kernel for so long, with data on its way, is a vanished host; the controllers
 * notice it sooner. */
enum { BACKEND_GONE_MS = 10000, BACKEND_LOOKS = 4 };

struct backend {
    ev_io io;
    ev_timer look; /* active as long as what was written may be on its way */
    unsigned gone_ms;
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

/* A server that lives and doesn't read for a while, because it is stopped or has very much to do, is not
 * lost: so no TCP_USER_TIMEOUT, which breaks the connection then. */
static void backend_on_look(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct backend *b = timer->data;

    (void)revents;
    if (tcp_waiting_bytes(b->io.fd) == 0)
        ev_timer_stop(ev, timer);
    else if (tcp_host_is_gone(b->io.fd, b->gone_ms))
        (void)shutdown(b->io.fd, SHUT_RDWR); /* reading tells of the end */
}

/* Something is written now. */
static void backend_watch_over(struct backend *b)
{
    if (ev_is_active(&b->look))
        return;
    b->look.repeat = b->gone_ms / (1e3 * BACKEND_LOOKS);
    ev_timer_again(b->ev, &b->look);
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
    int fd = -1, err = EINVAL;
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
    b = calloc(1, sizeof(*b));
    if (!b) {
        err = ENOMEM;
        goto fail;
    }
    if (connect(fd, (const struct sockaddr *)&address, len) != 0 && errno != EINPROGRESS) {
        err = errno;
        goto fail;
    }
    *b = (struct backend){.ev = ev,
                          .gone_ms = BACKEND_GONE_MS,
                          .on_event = on_event,
                          .owner = owner,
                          .opened_us = now_us,
                          .address = *to};
    ev_timer_init(&b->look, backend_on_look, 0., 0.);
    b->look.data = b;
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
    ev_timer_stop(b->ev, &b->look);
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

void backend_keep_little(struct backend *b)
{
    net_keep_little(b->io.fd);
}

int backend_fd(struct backend *b)
{
    assert(b->connected);
    backend_watch_over(b);
    return b->io.fd;
}

void backend_set_gone_ms(struct backend *b, unsigned gone_ms)
{
    assert(gone_ms >= BACKEND_LOOKS);
    b->gone_ms = gone_ms;
}

ssize_t backend_read(struct backend *b, char *to, size_t size)
{
    assert(b->connected);
    return net_read(b->io.fd, to, size);
}

ssize_t backend_write(struct backend *b, const struct buf_span *spans, int n)
{
    assert(b->connected);
    backend_watch_over(b);
    ssize_t wrote = net_write(b->io.fd, spans, n);
    return wrote == ERR_BUSY ? 0 : wrote;
}

void backend_want(struct backend *b, bool readable, bool writable)
{
    if (b->connected)
        net_watch(b->ev, &b->io, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
}
