/* The limit of any proxy: takes requests from clients and answers each itself, without a Redis behind.
 *
 *   clients ──► one read a turn, framed as the proxy frames ──► all its answers ──► one write a turn
 *
 * What a proxy must do for its clients is here, what it does towards the server is not: so no proxy's CPU per
 * request can be much below. GET is answered with --value-bytes of "x", anything else with +OK. Says
 * {"event":"ready","port":…} once it listens; ends with SIGTERM. */
#include "common/core/resp.h"
#include "common/options.h"
#include "tests/lib/writer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, READ_SIZE = 64 * 1024, BACKLOG = 1024, HEAD_MAX = 32 };

struct bytes {
    char *data;
    size_t len, size;
};

struct client {
    int fd;
    struct resp_request request;
    struct bytes unsent; /* answers that the socket didn't take; nothing is read meanwhile */
};

struct answerer {
    int epoll, listener;
    struct bytes value; /* the answer to GET, framed */
    struct bytes out;   /* the answers of one client's turn */
};

static void fail(const char *what)
{
    fprintf(stderr, "answerer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void bytes_add(struct bytes *b, const char *data, size_t len)
{
    if (b->len + len > b->size) {
        b->size = 2 * (b->len + len);
        b->data = realloc(b->data, b->size);
        if (b->data == NULL)
            fail("memory");
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static void client_watch(const struct answerer *a, struct client *c, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(a->epoll, op, c->fd, &event) != 0)
        fail("epoll_ctl");
}

static void client_close(struct client *c)
{
    close(c->fd);
    free(c->unsent.data);
    free(c);
}

/* Bytes that the socket took of those, or -1 when the client is gone. */
static ssize_t client_send(const struct client *c, const char *data, size_t len)
{
    size_t sent = 0;
    while (sent < len) {
        const ssize_t n = write(c->fd, data + sent, len - sent);
        if (n < 0 && errno != EAGAIN)
            return -1;
        if (n < 0)
            break;
        sent += (size_t)n;
    }
    return (ssize_t)sent;
}

static void client_write(struct answerer *a, struct client *c)
{
    const ssize_t n = client_send(c, c->unsent.data, c->unsent.len);
    if (n < 0) {
        client_close(c);
        return;
    }
    c->unsent.len -= (size_t)n;
    memmove(c->unsent.data, c->unsent.data + n, c->unsent.len);
    if (c->unsent.len == 0)
        client_watch(a, c, EPOLL_CTL_MOD, EPOLLIN);
}

/* Answers every request that ends in those bytes; false when one is malformed. */
static bool client_answer(struct answerer *a, struct client *c, const char *data, size_t len)
{
    while (len > 0) {
        size_t used = 0;
        const enum resp_result result = resp_request_feed(&c->request, data, len, &used);
        data += used;
        len -= used;
        if (result == RESP_BAD)
            return false;
        if (result == RESP_END && c->request.n_args > 0) {
            if (strcmp(c->request.word[0], "GET") == 0)
                bytes_add(&a->out, a->value.data, a->value.len);
            else
                bytes_add(&a->out, "+OK\r\n", 5);
        }
    }
    return true;
}

static void client_read(struct answerer *a, struct client *c)
{
    static char data[READ_SIZE];
    const ssize_t n = read(c->fd, data, sizeof data);
    if (n < 0 && errno == EAGAIN)
        return;
    a->out.len = 0;
    if (n <= 0 || !client_answer(a, c, data, (size_t)n)) {
        client_close(c);
        return;
    }
    const ssize_t sent = client_send(c, a->out.data, a->out.len);
    if (sent < 0) {
        client_close(c);
    } else if ((size_t)sent < a->out.len) {
        bytes_add(&c->unsent, a->out.data + sent, a->out.len - (size_t)sent);
        client_watch(a, c, EPOLL_CTL_MOD, EPOLLOUT);
    }
}

static void answerer_accept(struct answerer *a)
{
    int fd;
    while ((fd = accept4(a->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct client *c = calloc(1, sizeof *c);
        if (c == NULL)
            fail("client");
        c->fd = fd;
        resp_request_init(&c->request);
        client_watch(a, c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int answerer_listen(struct answerer *a)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (a->epoll < 0 || a->listener < 0 || bind(a->listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(a->listener, BACKLOG) != 0 || getsockname(a->listener, (struct sockaddr *)&at, &len) != 0)
        fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(a->epoll, EPOLL_CTL_ADD, a->listener, &event) != 0)
        fail("epoll_ctl");
    return ntohs(at.sin_port);
}

static void answerer_turn(struct answerer *a)
{
    struct epoll_event events[EVENTS];
    const int n = epoll_wait(a->epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (c == NULL)
            answerer_accept(a);
        else if (c->unsent.len > 0)
            client_write(a, c);
        else
            client_read(a, c);
    }
}

int main(int argc, char **argv)
{
    int value_bytes = 3;
    char head[HEAD_MAX];
    const struct option_row rows[] = {
        {"value-bytes", 0, OPTION_INT, &value_bytes, "N", 0, 16 * 1024 * 1024, "of the answer to GET"},
        {0},
    };
    const struct options_spec spec = {
        .program = "answerer",
        .synopsis = "[OPTIONS]",
        .about = "Answers clients' requests itself: what no proxy can be cheaper than.",
        .rows = rows,
    };
    if (options_parse(&spec, argc, argv) != argc)
        options_fail(&spec, "takes no operands");
    writer_process_init();
    struct answerer a = {0};
    bytes_add(&a.value, head, (size_t)snprintf(head, sizeof head, "$%d\r\n", value_bytes));
    for (int i = 0; i < value_bytes; i++)
        bytes_add(&a.value, "x", 1);
    bytes_add(&a.value, "\r\n", 2);
    printf("{\"event\":\"ready\",\"port\":%d}\n", answerer_listen(&a));
    fflush(stdout);
    for (;;)
        answerer_turn(&a);
}
