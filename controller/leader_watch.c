/*   aim: leader and its address known ─► CONNECTING ─► UP ─ end ─► CONNECTING ─ refused, and it was UP ─►
 * on_gone │ refused, no answer, no route: again in 100 ms └─ another leader or address: aim again */
#include "controller/leader_watch.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/tcp.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double leader_watch_again_s = 0.1;
static const double leader_watch_connect_s = 1.0;
enum { LEADER_WATCH_BRIEF_US = 200000 }; /* a connection that ends sooner is not made again at once */

/* What nanomsg's SURVEYOR says first: with it the vote port takes us for one more controller, which never
 * asks. */
static const char leader_watch_hello[8] = {0, 'S', 'P', 0, 0, 0x62, 0, 0};

struct leader_watch {
    struct loop *loop;
    leader_watch_fn on_gone;
    void *ctx;
    bool closed;
    struct topology_controller *list;
    size_t n;
    char id[TOPOLOGY_NAME_MAX + 1]; /* "": nobody to watch */
    uint64_t term;
    struct topology_address address; /* port 0: not registered */
    bool greets;                     /* the address is a vote port */
    bool stood;                      /* a connection to it was established in this term */
    bool up;
    int fd; /* -1: none */
    int64_t up_us;
    ev_io io;
    ev_timer timer; /* the attempt's deadline, or the next attempt */
};

static void leader_watch_connect(struct leader_watch *w);

static void leader_watch_drop(struct leader_watch *w)
{
    ev_io_stop(loop_ev(w->loop), &w->io);
    ev_timer_stop(loop_ev(w->loop), &w->timer);
    if (w->fd >= 0)
        (void)close(w->fd);
    w->fd = -1;
    w->up = false;
}

static void leader_watch_again(struct leader_watch *w, double after_s)
{
    leader_watch_drop(w);
    ev_timer_set(&w->timer, after_s, 0.);
    ev_timer_start(loop_ev(w->loop), &w->timer);
}

/* on_gone may set another leader or close us. */
static void leader_watch_failed(struct leader_watch *w, int err)
{
    leader_watch_again(w, leader_watch_again_s);
    if (err != ERR_REFUSED || !w->stood)
        return;
    log_info("event=leader_watch.gone leader=%s term=%" PRIu64
             " say=\"its connection broke and a new one was "
             "refused\"",
             w->id, w->term);
    w->on_gone(w->ctx, w->id, w->term);
}

static void leader_watch_on_connected(struct leader_watch *w)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0 && tcp_met_itself(w->fd))
        error = ECONNREFUSED; /* nobody but we is there */
    /* Reset, not refused: it had been established, and has ended already. */
    w->stood = w->stood || error == 0 || error == ECONNRESET;
    if (error == 0 && w->greets &&
        send(w->fd, leader_watch_hello, sizeof(leader_watch_hello), MSG_NOSIGNAL) !=
            sizeof(leader_watch_hello))
        error = ECONNRESET;
    if (error != 0) {
        leader_watch_failed(w, tcp_reason(error));
        return;
    }
    ev_timer_stop(loop_ev(w->loop), &w->timer);
    ev_io_stop(loop_ev(w->loop), &w->io);
    ev_io_set(&w->io, w->fd, EV_READ);
    ev_io_start(loop_ev(w->loop), &w->io);
    w->up = true;
    w->up_us = loop_now_us(w->loop);
    log_debug("event=leader_watch.up leader=%s term=%" PRIu64, w->id, w->term);
}

/* What it says doesn't matter; that it ends does. */
static void leader_watch_on_readable(struct leader_watch *w)
{
    char bytes[512];
    ssize_t n = recv(w->fd, bytes, sizeof(bytes), 0);
    bool was_brief = loop_now_us(w->loop) - w->up_us < LEADER_WATCH_BRIEF_US;

    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    leader_watch_drop(w);
    if (was_brief) /* somebody who takes connections only to end them must not keep us busy */
        leader_watch_again(w, leader_watch_again_s);
    else
        leader_watch_connect(w);
}

static void leader_watch_on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    struct leader_watch *w = io->data;

    (void)ev;
    (void)revents;
    if (w->up)
        leader_watch_on_readable(w);
    else
        leader_watch_on_connected(w);
}

static void leader_watch_on_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct leader_watch *w = timer->data;

    (void)ev;
    (void)revents;
    if (w->fd >= 0)
        leader_watch_again(w, leader_watch_again_s); /* no answer */
    else
        leader_watch_connect(w);
}

/* From a watcher's callback only: a refusal may come at once, and is told. */
static void leader_watch_connect(struct leader_watch *w)
{
    struct sockaddr_storage to;
    socklen_t len;

    assert(w->fd < 0 && w->address.port != 0);
    if (tcp_address(&w->address, &to, &len) != 0)
        return; /* registered with an address that is none */
    w->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->fd < 0) {
        leader_watch_again(w, leader_watch_again_s);
        return;
    }
    tcp_tune(w->fd);
    if (connect(w->fd, (const struct sockaddr *)&to, len) != 0 && errno != EINPROGRESS) {
        leader_watch_failed(w, tcp_reason(errno));
        return;
    }
    ev_io_set(&w->io, w->fd, EV_WRITE);
    ev_io_start(loop_ev(w->loop), &w->io);
    ev_timer_set(&w->timer, leader_watch_connect_s, 0.);
    ev_timer_start(loop_ev(w->loop), &w->timer);
}

/* Looks up where the leader is; connects anew when that has changed. The first attempt comes from the timer,
 * so that nobody is called back inside a call. */
static void leader_watch_aim(struct leader_watch *w)
{
    struct topology_address address = {.port = 0};
    bool greets = false;

    for (size_t k = 0; w->id[0] != '\0' && k < w->n; k++) {
        const struct topology_controller *c = &w->list[k];

        if (strcmp(c->id, w->id) != 0)
            continue;
        greets = c->vote_port != 0;
        address.port = greets ? c->vote_port : c->http_port;
        memcpy(address.host, c->host, sizeof(address.host));
    }
    /* A dead leader's registration goes with its session, and may go before its candidacy: it still is the
     * one. */
    if (address.port == 0 && w->id[0] != '\0' && w->address.port != 0)
        return;
    if (topology_address_equal(&address, &w->address) && greets == w->greets)
        return;
    leader_watch_drop(w);
    w->stood = false;
    w->address = address;
    w->greets = greets;
    if (address.port != 0)
        leader_watch_again(w, 0.);
}

void leader_watch_set_leader(struct leader_watch *w, const char *id, uint64_t term)
{
    assert(!w->closed && strlen(id) <= TOPOLOGY_NAME_MAX);
    if (strcmp(id, w->id) == 0 && term == w->term)
        return;
    leader_watch_drop(w);
    w->stood = false;
    w->address.port = 0;
    memcpy(w->id, id, strlen(id) + 1);
    w->term = term;
    leader_watch_aim(w);
}

int leader_watch_set_controllers(struct leader_watch *w, const struct topology_controller *list, size_t n)
{
    struct topology_controller *copy = calloc(n + 1, sizeof(*copy));

    assert(!w->closed);
    if (copy == NULL)
        return ERR_NOMEM;
    if (n > 0)
        memcpy(copy, list, n * sizeof(*copy));
    free(w->list);
    w->list = copy;
    w->n = n;
    leader_watch_aim(w);
    return 0;
}

int leader_watch_open(struct leader_watch **out, struct loop *loop, leader_watch_fn on_gone, void *ctx)
{
    struct leader_watch *w = calloc(1, sizeof(*w));

    assert(on_gone != NULL);
    if (w == NULL)
        return ERR_NOMEM;
    w->loop = loop;
    w->on_gone = on_gone;
    w->ctx = ctx;
    w->fd = -1;
    ev_init(&w->io, leader_watch_on_io);
    w->io.data = w;
    ev_init(&w->timer, leader_watch_on_timer);
    w->timer.data = w;
    *out = w;
    return 0;
}

static void leader_watch_free(void *p)
{
    struct leader_watch *w = p;

    free(w->list);
    free(w);
}

void leader_watch_close(struct leader_watch *w)
{
    if (w == NULL)
        return;
    assert(!w->closed);
    w->closed = true;
    leader_watch_drop(w);
    loop_defer(w->loop, leader_watch_free, w); /* on_gone may be running */
}
