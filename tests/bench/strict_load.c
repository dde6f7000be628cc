/* Writers and readers at once, from one thread: how many requests a second, and how long each took.
 *
 *   writer: depth × SET, and WAIT behind them if --wait ──► all answers ──► the next
 *   reader: depth × GET of keys that nobody writes       ──► all answers ──► the next
 *
 * Connects everybody, lets them run for a tenth of the time, then measures. What is counted are SETs and
 * GETs; with --wait a SET is done when WAIT has answered that so many replicas have it. Prints one JSON line,
 * times in microseconds:
 *   {"event":"load","errors":…,"write":{"per_s":…,"p50_us":…,"p99_us":…},"read":{…}} */
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

enum { EVENTS = 256, READ_SIZE = 64 * 1024, WAIT_MS = 1000, LATENCY_MAX_US = 2000000, SILENCE_MS = 10000 };

struct account {
    uint32_t *counts; /* of answers that took so many microseconds */
    uint64_t answers;
};

struct client {
    int fd;
    bool writes;
    unsigned due; /* answers that are still to come */
    int64_t sent_us;
    struct resp_reply reply;
    char number; /* the last digit of an integer: WAIT's answer is below 10 */
};

struct load {
    int port, writers, readers, depth, wait, duration_ms, keys;
    int epoll;
    bool counts; /* the warm-up is over */
    uint64_t errors, random;
    struct account written, read;
    char *text; /* of one client's requests */
};

static void fail(const char *what)
{
    fprintf(stderr, "strict_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t load_random(struct load *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return l->random;
}

static void client_ask(struct load *l, struct client *c, int64_t now_us)
{
    size_t len = 0;

    for (int i = 0; i < l->depth; i++) {
        unsigned key = (unsigned)(load_random(l) % (unsigned)l->keys);
        char *to = l->text + len;
        len += (size_t)(c->writes ? sprintf(to, "*3\r\n$3\r\nSET\r\n$10\r\nw:%08u\r\n$3\r\nxxx\r\n", key)
                                  : sprintf(to, "*2\r\n$3\r\nGET\r\n$10\r\nr:%08u\r\n", key));
    }
    c->due = (unsigned)l->depth;
    if (c->writes && l->wait > 0) {
        len +=
            (size_t)sprintf(l->text + len, "*3\r\n$4\r\nWAIT\r\n$1\r\n%d\r\n$4\r\n%d\r\n", l->wait, WAIT_MS);
        c->due++;
    }
    c->sent_us = now_us;
    /* At most a few kilobytes of which everything has been answered: the socket takes them. */
    if (write(c->fd, l->text, len) != (ssize_t)len)
        fail("write");
}

static void account_add(struct account *a, int64_t us, unsigned n)
{
    a->counts[us < 0 ? 0 : us < LATENCY_MAX_US ? us : LATENCY_MAX_US] += n;
    a->answers += n;
}

static void client_answered(struct load *l, struct client *c, int64_t now_us)
{
    bool is_wait = c->writes && l->wait > 0 && c->due == 0;

    if (c->reply.type == '-' || (is_wait && c->number - '0' < l->wait))
        l->errors++;
    if (!l->counts || (c->writes && l->wait > 0 && !is_wait))
        return;
    account_add(c->writes ? &l->written : &l->read, now_us - c->sent_us, is_wait ? (unsigned)l->depth : 1);
}

static void client_read(struct load *l, struct client *c)
{
    static char data[READ_SIZE];
    const char *at = data;
    const ssize_t n = read(c->fd, data, sizeof data);
    const int64_t now_us = writer_now_us();

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        fail("a connection was closed");
    for (size_t left = (size_t)n, used = 0; left > 0; at += used, left -= used) {
        const enum resp_result result = resp_reply_feed(&c->reply, at, left, &used);
        for (size_t k = 0; k < used && c->reply.type == ':'; k++)
            if (at[k] >= '0' && at[k] <= '9')
                c->number = at[k];
        if (result == RESP_BAD || (result == RESP_END && c->due == 0))
            fail("an answer that nobody asked for");
        if (result != RESP_END)
            continue;
        c->due--;
        client_answered(l, c, now_us);
    }
    if (c->due == 0)
        client_ask(l, c, now_us);
}

static void load_connect(struct load *l, struct client *c)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                   .sin_port = htons((uint16_t)l->port)};
    const int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    resp_reply_init(&c->reply);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&to, sizeof to) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
        fail("connect");
}

static void load_run_until(struct load *l, int64_t end_us)
{
    struct epoll_event events[EVENTS];

    while (writer_now_us() < end_us) {
        const int n = epoll_wait(l->epoll, events, EVENTS, SILENCE_MS);
        if (n == 0)
            fail("nobody is answered");
        for (int i = 0; i < n; i++)
            client_read(l, events[i].data.ptr);
    }
}

static int account_percentile_us(const struct account *a, double share)
{
    uint64_t left = (uint64_t)((double)a->answers * share);

    for (int us = 0; us < LATENCY_MAX_US; us++) {
        if (left < a->counts[us])
            return us;
        left -= a->counts[us];
    }
    return LATENCY_MAX_US;
}

static void account_print(const char *name, const struct account *a, int64_t took_us)
{
    printf(",\"%s\":{\"per_s\":%.1f,\"p50_us\":%d,\"p99_us\":%d}", name,
           (double)a->answers * 1e6 / (double)took_us, account_percentile_us(a, 0.5),
           account_percentile_us(a, 0.99));
}

static void load_run(struct load *l)
{
    const int n = l->writers + l->readers;
    struct client *clients = calloc((size_t)n, sizeof *clients);

    l->written.counts = calloc(LATENCY_MAX_US + 1, sizeof(uint32_t));
    l->read.counts = calloc(LATENCY_MAX_US + 1, sizeof(uint32_t));
    l->text = malloc((size_t)(l->depth + 1) * 64);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || !l->written.counts || !l->read.counts || !l->text || l->epoll < 0)
        fail("start");
    for (int i = 0; i < n; i++) {
        clients[i].writes = i < l->writers;
        load_connect(l, &clients[i]);
    }
    for (int i = 0; i < n; i++)
        client_ask(l, &clients[i], writer_now_us());
    load_run_until(l, writer_now_us() + (int64_t)l->duration_ms * 100);
    l->counts = true;
    l->errors = 0;
    const int64_t begin_us = writer_now_us();
    load_run_until(l, begin_us + (int64_t)l->duration_ms * 1000);
    const int64_t took_us = writer_now_us() - begin_us;
    printf("{\"event\":\"load\",\"errors\":%llu", (unsigned long long)l->errors);
    account_print("write", &l->written, took_us);
    account_print("read", &l->read, took_us);
    puts("}");
    free(clients);
    free(l->written.counts);
    free(l->read.counts);
    free(l->text);
}

int main(int argc, char **argv)
{
    struct load l = {
        .port = 6379, .writers = 1, .depth = 1, .duration_ms = 1000, .keys = 100000, .random = 1};
    const struct option_row rows[] = {
        {"port", 'p', OPTION_INT, &l.port, "PORT", 1, 65535, "of 127.0.0.1 to connect to"},
        {"writers", 0, OPTION_INT, &l.writers, "N", 0, 10000, "clients that write"},
        {"readers", 0, OPTION_INT, &l.readers, "N", 0, 10000, "clients that read other keys"},
        {"depth", 0, OPTION_INT, &l.depth, "N", 1, 1000, "requests of a client at once"},
        {"wait", 0, OPTION_INT, &l.wait, "K", 0, 9, "writers wait for K replicas themselves; 0: they don't"},
        {"keys", 0, OPTION_INT, &l.keys, "N", 1, 100000000, "written at random, and as many read"},
        {"duration-ms", 0, OPTION_INT, &l.duration_ms, "N", 10, 600000, "how long is measured"},
        {0},
    };
    const struct options_spec spec = {
        .program = "strict_load",
        .synopsis = "[OPTIONS]",
        .about = "Clients that write, or read, as fast as they are answered: rates and latencies of both.",
        .rows = rows,
        .epilogue = "Exit codes: 0 measured, 1 a connection failed or nobody was answered; 2 usage.",
    };
    if (options_parse(&spec, argc, argv) != argc)
        options_fail(&spec, "takes no operands");
    if (l.writers + l.readers == 0)
        options_fail(&spec, "needs a writer or a reader");
    writer_process_init();
    load_run(&l);
    return 0;
}
