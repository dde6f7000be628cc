/*
 *   accept ─► connection ─► redisReader ─► fake_execute ─► send */
#include "tests/lib/fake_server.h"

#include "common/core/list.h"
#include "common/loop.h"
#include "tests/lib/fake_redis.h"
#include "tests/lib/test_peer.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024, READ_BYTES = 4096 };

struct fake_server {
    struct loop *loop;
    struct fake_member *member;
    int listener;
    ev_io acceptable;
    struct list connections;
};

struct fake_connection {
    struct list node;
    struct fake_server *server;
    int fd;
    ev_io readable;
    redisReader *reader;
    struct fake_session session;
};

static void connection_close(struct fake_connection *c)
{
    ev_io_stop(loop_ev(c->server->loop), &c->readable);
    close(c->fd);
    list_remove(&c->node);
    redisReaderFree(c->reader);
    fake_session_free(&c->session);
    free(c);
}

/* Answers are far smaller than a socket's buffer: one that does not fit is the end of the connection. */
static bool connection_execute(struct fake_connection *c, const redisReply *request)
{
    struct fake_arg argv[FAKE_ARGS_MAX];
    struct fake_text out = {0};
    bool sent;

    if (request->type != REDIS_REPLY_ARRAY || request->elements == 0 || request->elements > FAKE_ARGS_MAX)
        return false;
    for (size_t i = 0; i < request->elements; i++)
        argv[i] = (struct fake_arg){request->element[i]->str, (size_t)request->element[i]->len};
    (void)fake_execute(&c->session, (int)request->elements, argv, &out);
    sent = send(c->fd, out.data, out.len, MSG_NOSIGNAL) == (ssize_t)out.len;
    fake_text_free(&out);
    return sent;
}

static void connection_on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
    struct fake_connection *c = w->data;
    char bytes[READ_BYTES];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    bool good = n > 0 && redisReaderFeed(c->reader, bytes, (size_t)n) == REDIS_OK;
    void *request = NULL;

    (void)ev;
    (void)revents;
    while (good && (good = redisReaderGetReply(c->reader, &request) == REDIS_OK) && request) {
        good = connection_execute(c, request);
        freeReplyObject(request);
    }
    if (!good)
        connection_close(c);
}

static void server_on_acceptable(struct ev_loop *ev, ev_io *w, int revents)
{
    struct fake_server *s = w->data;
    int fd;

    (void)revents;
    while ((fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct fake_connection *c = calloc(1, sizeof *c);

        assert(c);
        c->server = s;
        c->fd = fd;
        c->reader = redisReaderCreate();
        assert(c->reader);
        fake_session_init(&c->session, s->member);
        list_push_back(&s->connections, &c->node);
        ev_io_init(&c->readable, connection_on_readable, fd, EV_READ);
        c->readable.data = c;
        ev_io_start(ev, &c->readable);
    }
}

struct fake_server *fake_server_open(struct loop *loop, struct fake_member *member,
                                     struct topology_address *address)
{
    struct fake_server *s = calloc(1, sizeof *s);

    assert(s);
    s->loop = loop;
    s->member = member;
    s->listener = test_peer_listen(BACKLOG, address);
    list_init(&s->connections);
    ev_io_init(&s->acceptable, server_on_acceptable, s->listener, EV_READ);
    s->acceptable.data = s;
    ev_io_start(loop_ev(loop), &s->acceptable);
    return s;
}

void fake_server_close(struct fake_server *s)
{
    list_for_each(node, &s->connections) connection_close(list_entry(node, struct fake_connection, node));
    ev_io_stop(loop_ev(s->loop), &s->acceptable);
    close(s->listener);
    free(s);
}
