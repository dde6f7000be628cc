#include "proxy/listener.h"

#include "common/log.h"
#include "proxy/ports.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { LISTENER_BACKLOG = 4096, LISTENER_ACCEPTS_MAX = 64 };
#define LISTENER_RETRY_MIN_S 0.1
#define LISTENER_RETRY_MAX_S 5.0
#define LISTENER_PAUSE_S     0.1
#define LISTENER_PAUSES_TOLD 50 /* one line in five seconds is enough */

struct listener {
    struct listener_config config;
    struct ev_loop *ev;
    ev_io io;
    ev_timer timer; /* the next attempt to listen, or the end of a pause */
    double retry_s;
    unsigned pauses; /* for want of descriptors */
};

static void listener_wait(struct listener *l, double seconds)
{
    ev_timer_stop(l->ev, &l->timer);
    ev_timer_set(&l->timer, seconds, 0.);
    ev_timer_start(l->ev, &l->timer);
}

static void listener_on_acceptable(struct ev_loop *ev, ev_io *io, int revents)
{
    struct listener *l = io->data;

    (void)revents;
    for (int i = 0; i < LISTENER_ACCEPTS_MAX; i++) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            l->config.on_accept(l->config.ctx, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (l->pauses++ % LISTENER_PAUSES_TOLD == 0)
                log_error(
                    "event=listener.exhausted port=%u reason=\"%s\" say=\"raise the limit of open files\"",
                    l->config.port, strerror(errno));
            ev_io_stop(ev, io);
            listener_wait(l, LISTENER_PAUSE_S);
        }
        return;
    }
}

static void listener_try(struct listener *l)
{
    int fd = ports_listen(l->config.ports, l->config.host, l->config.port, LISTENER_BACKLOG);

    if (fd < 0) {
        int err = errno;
        listener_wait(l, l->retry_s);
        l->retry_s = l->retry_s * 2 < LISTENER_RETRY_MAX_S ? l->retry_s * 2 : LISTENER_RETRY_MAX_S;
        l->config.on_failed(l->config.ctx, err);
        return;
    }
    l->retry_s = LISTENER_RETRY_MIN_S;
    ev_io_set(&l->io, fd, EV_READ);
    ev_io_start(l->ev, &l->io);
}

static void listener_on_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct listener *l = timer->data;

    (void)revents;
    if (l->io.fd < 0)
        listener_try(l);
    else
        ev_io_start(ev, &l->io);
}

struct listener *listener_open(struct ev_loop *ev, const struct listener_config *config)
{
    struct listener *l = calloc(1, sizeof(*l));

    assert(config->on_accept && config->on_failed);
    if (!l)
        return NULL;
    l->config = *config;
    l->ev = ev;
    l->retry_s = LISTENER_RETRY_MIN_S;
    ev_io_init(&l->io, listener_on_acceptable, -1, EV_READ);
    ev_timer_init(&l->timer, listener_on_timer, 0., 0.);
    l->io.data = l->timer.data = l;
    listener_try(l);
    return l;
}

void listener_close(struct listener *l)
{
    if (!l)
        return;
    ev_timer_stop(l->ev, &l->timer);
    ev_io_stop(l->ev, &l->io);
    if (l->io.fd >= 0)
        ports_leave(l->config.ports, l->config.port, l->io.fd);
    free(l);
}
