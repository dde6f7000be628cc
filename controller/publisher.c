/* The parent's half: feeds the child, keeps the ring, restarts the child.
 *
 *   publisher_send ─► ring ─► socketpair ─► child (publisher_child.c)
 *                       ▲ written up to `sent`; a new child starts again at the oldest
 */
#include "controller/publisher.h"

#include "common/log.h"
#include "common/loop.h"
#include "controller/publisher_child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_WAIT_MS = 5000, CLOSE_WAIT_MS = 50, CALM_MS = 5000 };
/* Subscribers come back within two of their attempts (10 ms each). What a PUB sends before that reaches
 * nobody. */
static const double settle_s = 0.03;
static const double backoff_first_s = 0.02, backoff_last_s = 1.0;

struct publisher_message {
    size_t len;
    char *data;
};

struct publisher {
    struct loop *loop;
    struct publisher_config config;
    char host[64];
    struct nn_link_key key;
    uint16_t port;
    pid_t pid;  /* 0: none */
    int fd;     /* our end of the socketpair; -1: none */
    bool ready; /* the child has bound, and its subscribers had time to come back */
    ev_io readable, writable;
    ev_timer again, settled;
    double backoff_s;
    int64_t started_us;
    uint64_t restarts;
    struct publisher_message ring[PUBLISHER_RING];
    uint64_t head, sent; /* messages ever taken, messages handed to this child; ring[n % PUBLISHER_RING] */
};

/* ---- starting the child ---------------------------------------------------------------------------------
 */

/* The child's standard input is its end of the pair; key and address travel as its first packet. */
static int publisher_spawn(struct publisher *p)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return ERR_IO;
    struct publisher_child_setup setup;
    memset(&setup, 0, sizeof(setup));
    memcpy(setup.host, p->host, sizeof(setup.host));
    setup.port = p->port;
    setup.key = p->key;
    setup.parent = getpid();
    if (send(pair[0], &setup, sizeof(setup), MSG_NOSIGNAL) != (ssize_t)sizeof(setup)) {
        close(pair[0]);
        close(pair[1]);
        return ERR_IO;
    }
    pid_t pid = fork();
    if (pid == 0) {
        char *const argv[] = {(char *)"mr-controller", (char *)PUBLISHER_CHILD_ARGUMENT, NULL};
        /* Not every library closes its descriptors on exec: kept open here, they would hide our death from
         * peers. */
        if (dup2(pair[1], STDIN_FILENO) == STDIN_FILENO && close_range(3, ~0U, 0) == 0)
            execv("/proc/self/exe", argv);
        _exit(127);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return ERR_IO;
    }
    fcntl(pair[0], F_SETFL, fcntl(pair[0], F_GETFL) | O_NONBLOCK);
    p->pid = pid;
    p->fd = pair[0];
    p->ready = false;
    p->started_us = loop_clock_us();
    return 0;
}

/* Reaps the child; it is killed unless it ends within wait_ms. */
static void publisher_reap(struct publisher *p, int wait_ms)
{
    if (p->pid == 0)
        return;
    struct pollfd gone = {.fd = p->fd, .events = 0};
    if (p->fd >= 0 && wait_ms > 0)
        (void)poll(&gone, 1, wait_ms); /* POLLHUP: the child has closed its end */
    if (waitpid(p->pid, NULL, WNOHANG) == 0) {
        kill(p->pid, SIGKILL);
        (void)waitpid(p->pid, NULL, 0);
    }
    p->pid = 0;
}

static void publisher_unplug(struct publisher *p)
{
    ev_io_stop(loop_ev(p->loop), &p->readable);
    ev_io_stop(loop_ev(p->loop), &p->writable);
    ev_timer_stop(loop_ev(p->loop), &p->settled);
    p->ready = false;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

/* ---- feeding it -----------------------------------------------------------------------------------------
 */

static uint64_t publisher_oldest(const struct publisher *p)
{
    return p->head > PUBLISHER_RING ? p->head - PUBLISHER_RING : 0;
}

static void publisher_flush(struct publisher *p)
{
    if (p->fd < 0 || !p->ready)
        return;
    while (p->sent < p->head) {
        const struct publisher_message *m = &p->ring[p->sent % PUBLISHER_RING];
        ssize_t n = send(p->fd, m->data, m->len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            ev_io_start(loop_ev(p->loop), &p->writable);
            return;
        }
        if (n < 0)
            return; /* the child is gone: its end of file restarts it */
        p->sent++;
    }
    ev_io_stop(loop_ev(p->loop), &p->writable);
}

static void publisher_on_writable(struct ev_loop *ev, ev_io *io, int revents)
{
    (void)ev;
    (void)revents;
    publisher_flush(io->data);
}

int publisher_send(struct publisher *p, const char *data, size_t len)
{
    assert(p && data);
    if (len == 0 || len > PUBLISHER_MESSAGE_MAX)
        return ERR_TOO_LARGE;
    struct publisher_message *m = &p->ring[p->head % PUBLISHER_RING];
    char *copy = malloc(len);
    if (!copy)
        return ERR_NOMEM;
    memcpy(copy, data, len);
    free(m->data);
    m->data = copy;
    m->len = len;
    p->head++;
    bool overflowed = p->sent < publisher_oldest(p);
    if (overflowed)
        p->sent = publisher_oldest(p);
    publisher_flush(p);
    return overflowed ? ERR_BUSY : 0;
}

/* ---- supervising it -------------------------------------------------------------------------------------
 */

static void publisher_watch(struct publisher *p)
{
    ev_io_set(&p->readable, p->fd, EV_READ);
    ev_io_set(&p->writable, p->fd, EV_WRITE);
    ev_io_start(loop_ev(p->loop), &p->readable);
}

static void publisher_on_again(struct ev_loop *ev, ev_timer *timer, int revents);

/* At once the first time; a child that keeps dying is given less and less often. */
static void publisher_restart_later(struct publisher *p)
{
    bool calm = loop_clock_us() - p->started_us > (int64_t)CALM_MS * 1000;
    p->backoff_s = calm ? 0. : p->backoff_s == 0. ? backoff_first_s : p->backoff_s * 2;
    if (p->backoff_s > backoff_last_s)
        p->backoff_s = backoff_last_s;
    ev_timer_stop(loop_ev(p->loop), &p->again);
    ev_timer_set(&p->again, calm || p->restarts == 0 ? 0. : p->backoff_s, 0.);
    ev_timer_start(loop_ev(p->loop), &p->again);
}

static void publisher_on_again(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct publisher *p = timer->data;
    (void)ev;
    (void)revents;
    p->restarts++;
    p->sent = publisher_oldest(p);
    if (publisher_spawn(p) == 0) {
        publisher_watch(p);
        return;
    }
    log_error("event=publisher.spawn_failed reason=\"%s\" next=\"tried again; proxies re-read ZooKeeper "
              "meanwhile\"",
              strerror(errno));
    publisher_restart_later(p);
}

static void publisher_on_gone(struct publisher *p)
{
    int status = 0;
    publisher_unplug(p);
    (void)kill(p->pid,
               SIGKILL); /* mostly it is dead already, and keeps its own signal; never wait for a live one */
    if (waitpid(p->pid, &status, 0) == p->pid)
        log_warn("event=publisher.died pid=%d signal=%d exit=%d next=\"restarted\"", (int)p->pid,
                 WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    p->pid = 0;
    publisher_restart_later(p);
}

static void publisher_on_readable(struct ev_loop *ev, ev_io *io, int revents)
{
    struct publisher *p = io->data;
    struct publisher_child_hello hello;
    (void)revents;
    ssize_t n = recv(p->fd, &hello, sizeof(hello), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof(hello) || hello.err != 0) {
        if (n == (ssize_t)sizeof(hello))
            log_error("event=publisher.bind_failed address=%s:%u reason=\"%s\" next=\"tried again\"", p->host,
                      p->port, err_text(hello.err));
        publisher_on_gone(p);
        return;
    }
    ev_timer_stop(ev, &p->settled);
    ev_timer_set(&p->settled, settle_s, 0.);
    ev_timer_start(ev, &p->settled);
}

static void publisher_on_settled(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct publisher *p = timer->data;
    (void)ev;
    (void)revents;
    p->ready = true;
    publisher_flush(p);
    if (p->config.on_restarted)
        p->config.on_restarted(p->config.ctx);
}

/* ---- life -----------------------------------------------------------------------------------------------
 */

static int publisher_await_hello(struct publisher *p)
{
    struct publisher_child_hello hello;
    struct pollfd ready = {.fd = p->fd, .events = POLLIN};
    int n = poll(&ready, 1, START_WAIT_MS);
    if (n <= 0)
        return n == 0 ? ERR_TIMEOUT : ERR_IO;
    if (recv(p->fd, &hello, sizeof(hello), 0) != (ssize_t)sizeof(hello))
        return ERR_IO;
    p->port = hello.port;
    p->ready = hello.err == 0;
    return hello.err;
}

int publisher_open(struct publisher **out, struct loop *loop, const struct publisher_config *config)
{
    assert(out && loop && config && config->host);
    struct publisher *p = calloc(1, sizeof(*p));
    if (!p)
        return ERR_NOMEM;
    p->loop = loop;
    p->config = *config;
    p->fd = -1;
    p->port = config->port;
    snprintf(p->host, sizeof(p->host), "%s", config->host);
    if (config->key)
        p->key = *config->key;
    ev_init(&p->readable, publisher_on_readable);
    ev_init(&p->writable, publisher_on_writable);
    ev_init(&p->again, publisher_on_again);
    ev_init(&p->settled, publisher_on_settled);
    p->readable.data = p->writable.data = p->again.data = p->settled.data = p;
    int err = publisher_spawn(p);
    if (err == 0)
        err = publisher_await_hello(p);
    if (err != 0) {
        publisher_reap(p, 0);
        publisher_unplug(p);
        free(p);
        return err;
    }
    publisher_watch(p);
    *out = p;
    return 0;
}

uint16_t publisher_port(const struct publisher *p)
{
    return p->port;
}

uint64_t publisher_restarts(const struct publisher *p)
{
    return p->restarts;
}

void publisher_close(struct publisher *p)
{
    if (!p)
        return;
    publisher_flush(p);
    ev_timer_stop(loop_ev(p->loop), &p->again);
    if (p->fd >= 0)
        shutdown(p->fd, SHUT_WR); /* the child sends what it has, then ends */
    publisher_reap(p, CLOSE_WAIT_MS);
    publisher_unplug(p);
    for (size_t k = 0; k < PUBLISHER_RING; k++)
        free(p->ring[k].data);
    free(p);
}
