/* A network between two hosts, on one: passes on what comes, each byte --delay-us after it came, both ways.
 *
 *   who connects ──► read ──► queue: (bytes, when they are due) ──► written when due ──► --to
 *                ◄── …                 the same the other way                        ◄──
 *
 * What comes in one read stays together, nothing else is gathered; the end of a stream is as late as its
 * bytes. The connection to --to is made at once: only what is said is late. Says {"event":"ready","port":…}
 * once it listens; ends with SIGTERM. */
#include "common/options.h"
#include "tests/lib/writer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 64,
    READ_SIZE = 64 * 1024,
    BACKLOG = 16,
    PAIRS = 64,
    NS_PER_US = 1000,
    NS_PER_S = 1000000000
};

struct piece {
    struct piece *next;
    int64_t due_ns;
    size_t len, sent; /* len 0: the end of the stream */
    char bytes[];
};

/* One way of a connection. */
struct way {
    int from, to;
    struct piece *first, **last;
    bool ended; /* nothing more is read */
};

struct pair {
    bool open;
    struct way ways[2];
};

struct relay {
    int epoll, listener, timer, delay_us;
    struct sockaddr_in to;
    struct pair pairs[PAIRS];
};

static void fail(const char *what)
{
    fprintf(stderr, "delay_relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * NS_PER_S + at.tv_nsec;
}

static void pair_close(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        struct way *w = &p->ways[i];
        close(w->from);
        for (struct piece *piece = w->first, *next; piece; piece = next) {
            next = piece->next;
            free(piece);
        }
    }
    *p = (struct pair){0};
}

/* Writes what is due; when the next is, 0: nothing waits for its time. False: the connection is over. */
static bool way_write(struct way *w, int64_t now, int64_t *next_ns)
{
    while (w->first && w->first->due_ns <= now) {
        struct piece *piece = w->first;
        if (piece->len == 0)
            return false;
        const ssize_t n = write(w->to, piece->bytes + piece->sent, piece->len - piece->sent);
        if (n < 0 && errno == EAGAIN)
            return true; /* until it can be written to again */
        if (n < 0)
            return false;
        piece->sent += (size_t)n;
        if (piece->sent < piece->len)
            continue;
        w->first = piece->next;
        if (!w->first)
            w->last = &w->first;
        free(piece);
    }
    if (w->first && (*next_ns == 0 || w->first->due_ns < *next_ns))
        *next_ns = w->first->due_ns;
    return true;
}

static void way_read(const struct relay *r, struct way *w)
{
    static char data[READ_SIZE];

    while (!w->ended) {
        const ssize_t n = read(w->from, data, sizeof data);
        if (n < 0 && errno == EAGAIN)
            return;
        const size_t len = n > 0 ? (size_t)n : 0;
        struct piece *piece = malloc(sizeof *piece + len);
        if (!piece)
            fail("memory");
        *piece = (struct piece){.due_ns = now_ns() + (int64_t)r->delay_us * NS_PER_US, .len = len};
        memcpy(piece->bytes, data, len);
        *w->last = piece;
        w->last = &piece->next;
        w->ended = n <= 0;
    }
}

static void relay_watch(const struct relay *r, int fd, void *what, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = what};

    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

static void relay_accept(struct relay *r)
{
    const int on = 1, one = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct pair *p = r->pairs;

    while (p < r->pairs + PAIRS && p->open)
        p++;
    if (one < 0)
        return;
    const int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p == r->pairs + PAIRS || other < 0 ||
        connect(other, (const struct sockaddr *)&r->to, sizeof r->to) != 0) {
        close(one);
        if (other >= 0)
            close(other);
        return;
    }
    setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *p = (struct pair){.open = true, .ways = {{.from = one, .to = other}, {.from = other, .to = one}}};
    for (int i = 0; i < 2; i++)
        p->ways[i].last = &p->ways[i].first;
    if (fcntl(other, F_SETFL, O_NONBLOCK) != 0)
        fail("fcntl");
    /* Edge-triggered: a way is read until it is empty, and written whenever there is news. */
    relay_watch(r, one, p, EPOLLIN | EPOLLOUT | EPOLLET);
    relay_watch(r, other, p, EPOLLIN | EPOLLOUT | EPOLLET);
}

/* Everything that is due goes; the timer is set for what is next. */
static void relay_pass(struct relay *r)
{
    int64_t next_ns = 0;
    const int64_t now = now_ns();

    for (struct pair *p = r->pairs; p < r->pairs + PAIRS; p++)
        if (p->open && (!way_write(&p->ways[0], now, &next_ns) || !way_write(&p->ways[1], now, &next_ns)))
            pair_close(p);
    if (next_ns == 0)
        return;
    const struct itimerspec at = {.it_value = {next_ns / NS_PER_S, next_ns % NS_PER_S}};
    if (timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &at, NULL) != 0)
        fail("timerfd_settime");
}

static void relay_turn(struct relay *r)
{
    struct epoll_event events[EVENTS];
    uint64_t times;
    const int n = epoll_wait(r->epoll, events, EVENTS, -1);

    for (int i = 0; i < n; i++) {
        struct pair *p = events[i].data.ptr;
        if (events[i].data.ptr == &r->listener)
            relay_accept(r);
        else if (events[i].data.ptr == &r->timer)
            (void)!read(r->timer, &times, sizeof times);
        else if (p->open)
            for (int k = 0; k < 2; k++)
                way_read(r, &p->ways[k]);
    }
    relay_pass(r);
}

static int relay_listen(struct relay *r)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;

    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    r->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->epoll < 0 || r->timer < 0 || r->listener < 0 ||
        bind(r->listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(r->listener, BACKLOG) != 0 ||
        getsockname(r->listener, (struct sockaddr *)&at, &len) != 0)
        fail("listen");
    relay_watch(r, r->listener, &r->listener, EPOLLIN);
    relay_watch(r, r->timer, &r->timer, EPOLLIN);
    return ntohs(at.sin_port);
}

int main(int argc, char **argv)
{
    static struct relay r = {.to = {.sin_family = AF_INET}, .delay_us = 1000};
    const char *to = NULL;
    char host[64];
    int port = 0;
    const struct option_row rows[] = {
        {"to", 0, OPTION_TEXT, &to, "IP:PORT", 0, 0, "where to connect to for who connects here"},
        {"delay-us", 0, OPTION_INT, &r.delay_us, "N", 0, 1000000, "from a byte's coming to its going (1000)"},
        {0},
    };
    const struct options_spec spec = {
        .program = "delay_relay",
        .synopsis = "--to IP:PORT [OPTIONS]",
        .about = "Passes connections on, each byte late by the same time.",
        .rows = rows,
    };
    if (options_parse(&spec, argc, argv) != argc)
        options_fail(&spec, "takes no operands");
    if (!to || writer_parse_address(to, host, sizeof host, &port) ||
        inet_pton(AF_INET, host, &r.to.sin_addr) != 1)
        options_fail(&spec, "needs --to IP:PORT");
    r.to.sin_port = htons((uint16_t)port);
    writer_process_init();
    printf("{\"event\":\"ready\",\"port\":%d}\n", relay_listen(&r));
    fflush(stdout);
    for (;;)
        relay_turn(&r);
}
