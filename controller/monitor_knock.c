/* Fresh connections to a mute member, closed at once: is there a kernel, is there a listener?
 *
 *   connect ─► accepted, refused ─► on_knock ─► 100 ms ─► again
 *          └─► MONITOR_KNOCK_MS without an answer, no route ─► on_knock ─► again
 *
 * The host is back when a knock is accepted after some were not answered. TCP would then repeat what it holds
 * for us only after its back-off, which has grown to seconds: the control connection is made anew.
 */
#include "common/log.h"
#include "common/loop.h"
#include "common/redis_link.h"
#include "common/tcp.h"
#include "controller/monitor_member.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PAUSE_MS = 100,
    RENEW_MS = 300, /* for an answer on the control connection, once the host is back */
    /* A process that does not run accepts nothing: each knock stays in its listen queue, and full it would
     * look like a host that is gone. By then (3 s) whoever decides has seen enough of them. */
    FREQUENT = 30,
    LONG_PAUSE_MS = 2000,
};

static void monitor_knock_wait(struct monitor_member *m, int ms)
{
    struct ev_loop *ev = loop_ev(m->monitor->loop);
    ev_timer_stop(ev, &m->knock.timer);
    ev_timer_set(&m->knock.timer, ms / 1000.0, 0.);
    ev_timer_start(ev, &m->knock.timer);
}

static void monitor_knock_close(struct monitor_member *m)
{
    if (m->knock.fd < 0)
        return;
    ev_io_stop(loop_ev(m->monitor->loop), &m->knock.connected);
    close(m->knock.fd);
    m->knock.fd = -1;
}

static void monitor_knock_renew(struct monitor_member *m, enum health_knock how)
{
    struct monitor_knock *k = &m->knock;
    int64_t now_us = loop_now_us(m->monitor->loop);
    if (how == HEALTH_KNOCK_NO_ANSWER)
        k->unanswered = true;
    if (how != HEALTH_KNOCK_ACCEPTED) {
        k->answered_us = 0;
        return;
    }
    if (k->unanswered) {
        k->unanswered = false;
        k->answered_us = now_us;
        redis_link_nudge(m->link);
    } else if (k->answered_us != 0 && now_us - k->answered_us >= RENEW_MS * 1000) {
        k->answered_us = 0;
        log_debug("event=member.renew member=\"%s\"", m->label);
        redis_link_renew(m->link, "it is back, but did not answer on this connection");
    }
}

/* The owner may unwatch the member, or end its silence, inside on_knock. */
static void monitor_knock_end(struct monitor_member *m, enum health_knock how, int pause_ms)
{
    monitor_knock_close(m);
    m->knock.accepted = how == HEALTH_KNOCK_ACCEPTED ? m->knock.accepted + 1 : 0;
    if (m->knock.accepted > FREQUENT)
        pause_ms = LONG_PAUSE_MS;
    monitor_knock_renew(m, how);
    monitor_knock_wait(m, pause_ms);
    if (m->monitor->config.on_knock)
        m->monitor->config.on_knock(m->owner, how);
}

static void monitor_knock_end_errno(struct monitor_member *m, int e)
{
    switch (tcp_reason(e)) {
    case ERR_UNREACHABLE:
    case ERR_TIMEOUT:
        monitor_knock_end(m, HEALTH_KNOCK_NO_ANSWER, PAUSE_MS);
        return;
    case ERR_REFUSED:
    case ERR_CLOSED: /* reset: the host is there */
        monitor_knock_end(m, HEALTH_KNOCK_REFUSED, PAUSE_MS);
        return;
    default: /* no descriptor, no port: ours, and no evidence */
        log_warn("event=member.knock_failed member=\"%s\" say=\"%s\" next=\"raise this controller's limit of "
                 "open files\"",
                 m->label, strerror(e));
        monitor_knock_close(m);
        monitor_knock_wait(m, PAUSE_MS * 10);
    }
}

static void monitor_knock_end_connected(struct monitor_member *m)
{
    bool itself = tcp_met_itself(m->knock.fd);
    tcp_close_resets(m->knock.fd); /* thousands of these must not stay in TIME_WAIT, here or there */
    monitor_knock_end(m, itself ? HEALTH_KNOCK_REFUSED : HEALTH_KNOCK_ACCEPTED, PAUSE_MS);
}

static void monitor_knock_begin(struct monitor_member *m)
{
    struct sockaddr_storage address;
    socklen_t len = 0;
    int err = tcp_address(&m->address, &address, &len);
    assert(err == 0); /* redis_link_open() took it */
    (void)err;
    m->knock.fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (m->knock.fd < 0) {
        monitor_knock_end_errno(m, errno);
        return;
    }
    ev_io_set(&m->knock.connected, m->knock.fd, EV_WRITE);
    if (connect(m->knock.fd, (struct sockaddr *)&address, len) == 0) {
        monitor_knock_end_connected(m);
    } else if (errno == EINPROGRESS) {
        ev_io_start(loop_ev(m->monitor->loop), &m->knock.connected);
        monitor_knock_wait(m, MONITOR_KNOCK_MS);
    } else {
        monitor_knock_end_errno(m, errno);
    }
}

static void monitor_knock_on_connected(struct ev_loop *ev, ev_io *w, int revents)
{
    struct monitor_member *m = w->data;
    int e = 0;
    socklen_t len = sizeof(e);
    (void)ev;
    (void)revents;
    if (getsockopt(m->knock.fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0)
        e = errno;
    if (e != 0)
        monitor_knock_end_errno(m, e);
    else
        monitor_knock_end_connected(m);
}

static void monitor_knock_on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct monitor_member *m = w->data;
    (void)ev;
    (void)revents;
    if (m->knock.fd < 0)
        monitor_knock_begin(m);
    else /* its own time was the pause */
        monitor_knock_end(m, HEALTH_KNOCK_NO_ANSWER, 0);
}

void monitor_knock_init(struct monitor_member *m)
{
    m->knock.fd = -1;
    ev_init(&m->knock.connected, monitor_knock_on_connected);
    ev_init(&m->knock.timer, monitor_knock_on_timer);
    m->knock.connected.data = m->knock.timer.data = m;
    ev_set_priority(&m->knock.timer, EV_MINPRI); /* after a stall of ours: what arrived in time comes first */
}

void monitor_knock_start(struct monitor_member *m)
{
    assert(m->knock.fd < 0);
    m->knock.accepted = 0;
    m->knock.unanswered = false;
    m->knock.answered_us = 0;
    monitor_knock_wait(m, 0);
}

void monitor_knock_stop(struct monitor_member *m)
{
    ev_timer_stop(loop_ev(m->monitor->loop), &m->knock.timer);
    monitor_knock_close(m);
}
