/* The child's half: socketpair ─► nanomsg PUB. A frame that aborts it takes nothing else down. */
#include "controller/publisher_child.h"

#include "common/log.h"
#include "common/loop.h"
#include "controller/publisher.h"

#include <errno.h>
#include <fcntl.h>
#include <nanomsg/pubsub.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct publisher_child {
    struct loop *loop;
    struct nn_link *pub;
    ev_io readable;
};

static void publisher_child_on_readable(struct ev_loop *ev, ev_io *io, int revents)
{
    static char data[PUBLISHER_MESSAGE_MAX];
    struct publisher_child *c = io->data;
    (void)ev;
    (void)revents;
    for (;;) {
        ssize_t n = recv(io->fd, data, sizeof(data), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) { /* the parent has closed, or died */
            loop_stop(c->loop);
            return;
        }
        if (nn_link_send(c->pub, data, (size_t)n) != 0)
            log_debug("event=publisher.unsent bytes=%zd", n);
    }
}

/* Its group's Ctrl-C or TERM is the parent's business: a clean hand-over still publishes. */
static void publisher_child_settle(pid_t parent)
{
    struct rlimit no_core = {0, 0};
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    (void)setrlimit(RLIMIT_CORE, &no_core); /* a stray frame's abort is expected: no heap of core files */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0); /* it died before prctl */
}

static int publisher_child_serve(const struct publisher_child_setup *setup)
{
    static struct publisher_child c;
    struct publisher_child_hello hello = {0};
    c.loop = loop_create(true);
    if (!c.loop)
        return 1;
    hello.err = nn_link_open(&c.pub, c.loop, NN_PUB, &setup->key, NULL, NULL);
    if (hello.err == 0)
        hello.err = nn_link_bind_any(c.pub, setup->host, setup->port, &hello.port);
    if (send(STDIN_FILENO, &hello, sizeof(hello), MSG_NOSIGNAL) != (ssize_t)sizeof(hello) || hello.err != 0)
        return 1;
    ev_io_init(&c.readable, publisher_child_on_readable, STDIN_FILENO, EV_READ);
    c.readable.data = &c;
    ev_io_start(loop_ev(c.loop), &c.readable);
    loop_run(c.loop);
    nn_link_close(c.pub);
    loop_destroy(c.loop);
    return 0;
}

void publisher_child_main_if_asked(int argc, char **argv)
{
    struct publisher_child_setup setup;
    if (argc != 2 || strcmp(argv[1], PUBLISHER_CHILD_ARGUMENT) != 0)
        return;
    log_init("publisher", "child", LOG_LEVEL_INFO);
    if (recv(STDIN_FILENO, &setup, sizeof(setup), 0) != (ssize_t)sizeof(setup))
        _exit(2); /* somebody typed it: there is no parent at the other end */
    publisher_child_settle(setup.parent);
    exit(publisher_child_serve(&setup));
}
