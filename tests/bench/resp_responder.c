/* Thousands of pretended Redis processes in one: what a controller is measured against at scale.
 *
 *   controllers, proxies ──TCP──► one listener a member ──► tests/lib/fake_redis.h (one group an instance)
 *   orders on stdin: kill, start  ──► closes a member's listener and connections, or opens them again
 *
 * Ports are the kernel's choice; a killed member's port stays reserved (bound, not listening), so that
 * connecting to it is refused and nobody else gets it. Orders are lines; answers and events are JSON objects,
 * one a line; times are microseconds of CLOCK_MONOTONIC:
 *   (at the start)  {"event":"ready","instances":[[MASTER,REPLICA,…],…]}
 *   kill PORT…      {"event":"killed","ports":[…],"at_us":…}
 *   start PORT…     {"event":"started","ports":[…],"at_us":…}
 *   stats           {"event":"stats","connections":…,"commands":…}
 *   (unasked)       {"event":"promoted"|"follows","port":…,"master":…,"at_us":…} */
#include "common/options.h"
#include "tests/lib/fake_redis.h"
#include "tests/lib/writer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, READ_SIZE = 16 * 1024, BACKLOG = 64, ORDER_SIZE = 64 * 1024 };

enum source_kind { SOURCE_STDIN, SOURCE_LISTENER, SOURCE_CONNECTION };

/* What an epoll event points to: the first field of a listener and of a connection. */
struct source {
    enum source_kind kind;
    int fd; /* -1: closed */
};

struct connection {
    struct source source;
    struct listener *listener;
    struct connection *next, *previous; /* of the same member; `next` also of the freed ones */
    struct fake_session session;
    redisReader *reader;
    struct fake_text out;
    size_t sent; /* bytes of out */
    bool wants_write;
};

struct listener {
    struct source source; /* a dead member's fd is bound but doesn't listen, and isn't watched */
    struct fake_member *member;
    struct connection *connections;
};

struct responder {
    int epoll, n_instances, n_members; /* members of one instance */
    struct fake_group *groups;
    struct listener *listeners;      /* n_instances × n_members */
    struct listener *by_port[65536]; /* NULL: not ours */
    struct connection *freed;        /* until the end of the turn: later events may still point to them */
    struct source input;
    char order[ORDER_SIZE];
    size_t order_len;
    uint64_t n_connections, n_commands;
    bool stopping;
};

static void fail(const char *what)
{
    fprintf(stderr, "resp_responder: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(const struct responder *r, struct source *source, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(r->epoll, op, source->fd, &event) != 0)
        fail("epoll_ctl");
}

/* ---- members --------------------------------------------------------------------------------------------
 */

/* A socket bound to that port of 127.0.0.1 (0: the kernel's choice); returns the port. */
static int listener_bind(struct listener *l, int port)
{
    const int on = 1;
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    l->source.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->source.fd < 0)
        fail("socket (is the limit of open files high enough?)");
    setsockopt(l->source.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(l->source.fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        getsockname(l->source.fd, (struct sockaddr *)&at, &len) != 0)
        fail("bind");
    return ntohs(at.sin_port);
}

static void listener_listen(const struct responder *r, struct listener *l)
{
    if (listen(l->source.fd, BACKLOG) != 0)
        fail("listen");
    watch(r, &l->source, EPOLL_CTL_ADD, EPOLLIN);
}

static void connection_close(struct responder *r, struct connection *c)
{
    if (c->source.fd < 0)
        return;
    close(c->source.fd);
    c->source.fd = -1;
    if (c->previous != NULL)
        c->previous->next = c->next;
    else
        c->listener->connections = c->next;
    if (c->next != NULL)
        c->next->previous = c->previous;
    c->next = r->freed;
    r->freed = c;
    r->n_connections--;
}

static void connections_free(struct responder *r)
{
    while (r->freed != NULL) {
        struct connection *c = r->freed;
        r->freed = c->next;
        fake_session_free(&c->session);
        fake_text_free(&c->out);
        redisReaderFree(c->reader);
        free(c);
    }
}

static void listener_accept(struct responder *r, struct listener *l)
{
    int fd;
    while ((fd = accept4(l->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        redisReader *reader = redisReaderCreate();
        if (c == NULL || reader == NULL)
            fail("connection");
        *c = (struct connection){.source = {SOURCE_CONNECTION, fd}, .listener = l, .reader = reader};
        fake_session_init(&c->session, l->member);
        c->next = l->connections;
        if (c->next != NULL)
            c->next->previous = c;
        l->connections = c;
        r->n_connections++;
        watch(r, &c->source, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void member_kill(struct responder *r, struct listener *l)
{
    fake_member_kill(l->member);
    close(l->source.fd);
    while (l->connections != NULL)
        connection_close(r, l->connections);
    listener_bind(l, l->member->port);
}

static void member_start(struct responder *r, struct listener *l)
{
    fake_member_start(l->member);
    listener_listen(r, l);
}

/* ---- connections ----------------------------------------------------------------------------------------
 */

static void connection_flush(struct responder *r, struct connection *c)
{
    while (c->sent < c->out.len) {
        const ssize_t n = write(c->source.fd, c->out.data + c->sent, c->out.len - c->sent);
        if (n < 0 && errno != EAGAIN) {
            connection_close(r, c);
            return;
        }
        if (n < 0)
            break;
        c->sent += (size_t)n;
    }
    const bool left = c->sent < c->out.len;
    if (!left)
        c->sent = c->out.len = 0;
    if (left != c->wants_write)
        watch(r, &c->source, EPOLL_CTL_MOD, left ? EPOLLIN | EPOLLOUT : EPOLLIN);
    c->wants_write = left;
}

/* False when that isn't a command: an array of at least one bulk string. */
static bool connection_execute(struct responder *r, struct connection *c, const redisReply *request)
{
    struct fake_arg argv[FAKE_ARGS_MAX];
    if (request->type != REDIS_REPLY_ARRAY || request->elements == 0)
        return false;
    const int argc = request->elements < FAKE_ARGS_MAX ? (int)request->elements : FAKE_ARGS_MAX;
    for (int i = 0; i < argc; i++) {
        if (request->element[i]->type != REDIS_REPLY_STRING)
            return false;
        argv[i] = (struct fake_arg){request->element[i]->str, (size_t)request->element[i]->len};
    }
    r->n_commands++;
    const struct fake_member *m = c->session.member;
    const enum fake_change change = fake_execute(&c->session, argc, argv, &c->out);
    if (change != FAKE_NOTHING)
        printf("{\"event\":\"%s\",\"port\":%d,\"master\":%d,\"at_us\":%lld}\n",
               change == FAKE_PROMOTED ? "promoted" : "follows", m->port, m->master_port,
               (long long)writer_now_us());
    return true;
}

static void connection_read(struct responder *r, struct connection *c)
{
    char bytes[READ_SIZE];
    const ssize_t n = read(c->source.fd, bytes, sizeof bytes);
    if (n < 0 && errno == EAGAIN)
        return;
    bool good = n > 0 && redisReaderFeed(c->reader, bytes, (size_t)n) == REDIS_OK;
    void *request = NULL;
    while (good && (good = redisReaderGetReply(c->reader, &request) == REDIS_OK) && request != NULL) {
        good = connection_execute(r, c, request);
        freeReplyObject(request);
    }
    if (good)
        connection_flush(r, c);
    else
        connection_close(r, c);
}

/* ---- orders ---------------------------------------------------------------------------------------------
 */

/* "kill PORT…" and "start PORT…": done to every port that is ours and in the other state; those are named. */
static void order_members(struct responder *r, char *ports, bool kill)
{
    const int64_t at_us = writer_now_us();
    int n = 0;
    printf("{\"event\":\"%s\",\"ports\":[", kill ? "killed" : "started");
    char *rest = NULL;
    for (char *word = strtok_r(ports, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        const long port = strtol(word, NULL, 10);
        struct listener *l = port > 0 && port < 65536 ? r->by_port[port] : NULL;
        if (l == NULL || l->member->alive != kill)
            continue;
        if (kill)
            member_kill(r, l);
        else
            member_start(r, l);
        printf("%s%ld", n++ > 0 ? "," : "", port);
    }
    printf("],\"at_us\":%lld}\n", (long long)at_us);
}

static void responder_obey(struct responder *r, char *order)
{
    if (strncmp(order, "kill ", 5) == 0)
        order_members(r, order + 5, true);
    else if (strncmp(order, "start ", 6) == 0)
        order_members(r, order + 6, false);
    else if (strcmp(order, "stats") == 0)
        printf("{\"event\":\"stats\",\"connections\":%llu,\"commands\":%llu}\n",
               (unsigned long long)r->n_connections, (unsigned long long)r->n_commands);
    else if (strcmp(order, "quit") == 0)
        r->stopping = true;
    else
        fprintf(stderr, "resp_responder: unknown order \"%s\" (kill, start, stats, quit)\n", order);
}

static void responder_listen(struct responder *r)
{
    const ssize_t n = read(STDIN_FILENO, r->order + r->order_len, ORDER_SIZE - r->order_len);
    if (n <= 0) {
        r->stopping = true; /* a full buffer without a line is as good as nobody there */
        return;
    }
    r->order_len += (size_t)n;
    char *newline;
    while ((newline = memchr(r->order, '\n', r->order_len)) != NULL) {
        *newline = '\0';
        responder_obey(r, r->order);
        r->order_len -= (size_t)(newline - r->order) + 1;
        memmove(r->order, newline + 1, r->order_len);
    }
}

/* ---- set-up ---------------------------------------------------------------------------------------------
 */

static void responder_open(struct responder *r)
{
    int ports[FAKE_MEMBERS_MAX];
    size_t n = 0;
    printf("{\"event\":\"ready\",\"instances\":[");
    for (int i = 0; i < r->n_instances; i++) {
        for (int j = 0; j < r->n_members; j++) {
            struct listener *l = &r->listeners[n++];
            l->source.kind = SOURCE_LISTENER;
            l->member = &r->groups[i].members[j];
            ports[j] = listener_bind(l, 0);
            r->by_port[ports[j]] = l;
            listener_listen(r, l);
            printf("%s%d", j > 0 ? "," : i > 0 ? ",[" : "[", ports[j]);
        }
        putchar(']');
        fake_group_init(&r->groups[i], ports, r->n_members);
    }
    puts("]}");
}

static void responder_turn(struct responder *r)
{
    struct epoll_event events[EVENTS];
    const int n = epoll_wait(r->epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
        struct source *source = events[i].data.ptr;
        if (source->kind == SOURCE_STDIN) {
            responder_listen(r);
        } else if (source->kind == SOURCE_LISTENER) {
            listener_accept(r, (struct listener *)source);
        } else if (source->fd >= 0) {
            struct connection *c = (struct connection *)source;
            if (events[i].events & EPOLLOUT)
                connection_flush(r, c);
            if (c->source.fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT)
                connection_read(r, c);
        }
    }
    connections_free(r);
    fflush(stdout);
}

static void responder_close(struct responder *r)
{
    for (int i = 0; i < r->n_instances * r->n_members; i++) {
        while (r->listeners[i].connections != NULL)
            connection_close(r, r->listeners[i].connections);
        close(r->listeners[i].source.fd);
    }
    connections_free(r);
    free(r->groups);
    free(r->listeners);
    close(r->epoll);
    free(r);
}

int main(int argc, char **argv)
{
    int n_instances = 1000, n_members = 3;
    const struct option_row rows[] = {
        {"instances", 0, OPTION_INT, &n_instances, "N", 1, 5000, "how many"},
        {"members", 0, OPTION_INT, &n_members, "N", 1, FAKE_MEMBERS_MAX, "of each, the master included"},
        {0},
    };
    const struct options_spec spec = {
        .program = "resp_responder",
        .synopsis = "[OPTIONS]",
        .about = "Pretends to be many Redis masters with their replicas.",
        .rows = rows,
        .epilogue = "Orders are read from stdin: kill PORT…, start PORT…, stats, quit.",
    };
    if (options_parse(&spec, argc, argv) != argc)
        options_fail(&spec, "takes no operands");
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    writer_process_init();
    setvbuf(stdout, NULL, _IOFBF, 64 * 1024);
    struct responder *r = calloc(1, sizeof *r);
    const size_t n = (size_t)n_instances * (size_t)n_members;
    if (r == NULL)
        fail("start");
    *r = (struct responder){.n_instances = n_instances, .n_members = n_members, .epoll = epoll_create1(0)};
    r->groups = calloc((size_t)n_instances, sizeof *r->groups);
    r->listeners = calloc(n, sizeof *r->listeners);
    if (r->epoll < 0 || r->groups == NULL || r->listeners == NULL)
        fail("start");
    r->input = (struct source){SOURCE_STDIN, STDIN_FILENO};
    watch(r, &r->input, EPOLL_CTL_ADD, EPOLLIN);
    responder_open(r);
    fflush(stdout);
    while (!r->stopping)
        responder_turn(r);
    responder_close(r);
    return 0;
}
