/* Twenty route changes a second under load: each request has one reply, its own, in order, or a stated error.
 *
 *   load thread: clients ── pipelines of ECHO, SET, GET, MULTI … EXEC ──► two workers ──► server A or B
 *   main thread: every 50 ms the route leads to the other one; every second change is a planned switchover
 *
 * MR_CHURN_SECONDS says for how long; `make nightly` says a minute. */
#include "common/core/buf.h"
#include "common/core/resp.h"
#include "common/loop.h"
#include "tests/lib/proxy_rig.h"
#include "tests/lib/wait.h"

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    CLIENTS = 24,
    DEPTH_MAX = 256, /* requests of one client under way */
    LARGE = 24 * 1024,
    CHANGE_MS = 50,
    LIMIT_MS = 5000, /* of a switchover */
    SECONDS = 3,
};

enum ask { ASK_ECHO, ASK_SET, ASK_GET, ASK_LARGE, ASK_MULTI, ASK_QUEUED, ASK_EXEC };

struct asked {
    enum ask ask;
    unsigned id;
};

struct load_client {
    int fd;
    unsigned number, last_id, depth; /* depth: how many it asks at once */
    struct asked ring[DEPTH_MAX];
    unsigned head, tail;
    struct buf out, in;
    struct resp_reply framer;
};

struct load {
    const struct proxy_rig *rig;
    struct load_client clients[CLIENTS];
    atomic_bool stop;
    uint64_t answered, unknown, aborted, cut; /* the thread's, until it is joined */
    char failure[512];                        /* "": none */
    uint64_t x;
};

static uint64_t load_dice(struct load *l)
{
    l->x ^= l->x << 13;
    l->x ^= l->x >> 7;
    l->x ^= l->x << 17;
    return l->x;
}

static void MR_PRINTF(2, 3) load_fail(struct load *l, const char *fmt, ...)
{
    va_list ap;

    if (l->failure[0])
        return;
    va_start(ap, fmt);
    (void)vsnprintf(l->failure, sizeof(l->failure), fmt, ap);
    va_end(ap);
}

/* ---- asking -----------------------------------------------------------------------------------------------
 */

static void MR_PRINTF(4, 5)
    client_ask(struct load *l, struct load_client *c, enum ask ask, const char *fmt, ...)
{
    char text[LARGE + 256];
    va_list ap;

    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (len < 0 || (size_t)len >= sizeof(text) || buf_append(&c->out, text, (size_t)len))
        load_fail(l, "can't ask");
    c->ring[c->tail++ % DEPTH_MAX] = (struct asked){ask, c->last_id};
}

static void client_ask_echo(struct load *l, struct load_client *c, enum ask ask)
{
    char id[32];

    (void)snprintf(id, sizeof(id), "c%u-%u", c->number, ++c->last_id);
    client_ask(l, c, ask, "*2\r\n$4\r\nECHO\r\n$%zu\r\n%s\r\n", strlen(id), id);
}

static void client_ask_large(struct load *l, struct load_client *c)
{
    ++c->last_id;
    client_ask(l, c, ASK_LARGE, "*2\r\n$4\r\nECHO\r\n$%d\r\nc%u-%u%*s\r\n", LARGE, c->number, c->last_id,
               LARGE - snprintf(NULL, 0, "c%u-%u", c->number, c->last_id), "");
}

static void client_ask_tx(struct load *l, struct load_client *c)
{
    client_ask(l, c, ASK_MULTI, "*1\r\n$5\r\nMULTI\r\n");
    client_ask_echo(l, c, ASK_QUEUED);
    client_ask(l, c, ASK_EXEC, "*1\r\n$4\r\nEXEC\r\n");
}

static void client_ask_more(struct load *l, struct load_client *c)
{
    while (c->tail - c->head + 3 < c->depth) {
        unsigned what = (unsigned)(load_dice(l) % 16);
        if (c->number % 4 == 0 && what == 0)
            client_ask_tx(l, c);
        else if (c->number % 8 == 0 && what == 1)
            client_ask_large(l, c);
        else if (what < 5) {
            ++c->last_id;
            client_ask(l, c, ASK_SET, "SET key-%u c%u-%u\r\n", c->number, c->number, c->last_id);
        } else if (what < 8)
            client_ask(l, c, ASK_GET, "GET key-%u\r\n", c->number);
        else
            client_ask_echo(l, c, ASK_ECHO);
    }
}

/* ---- checking ---------------------------------------------------------------------------------------------
 */

static bool begins(const char *reply, size_t len, const char *text)
{
    return len >= strlen(text) && memcmp(reply, text, strlen(text)) == 0;
}

/* A value that this client wrote; nothing was, on that server. */
static bool is_own_value(const struct load_client *c, const char *reply, size_t len)
{
    char own[32];
    const char *body = memchr(reply, '\n', len);

    (void)snprintf(own, sizeof(own), "c%u-", c->number);
    return begins(reply, len, "$-1\r\n") ||
           (reply[0] == '$' && body && begins(body + 1, len - (size_t)(body + 1 - reply), own));
}

static bool is_echo(const struct load_client *c, const struct asked *a, const char *reply, size_t len)
{
    char text[64];
    char id[32];

    (void)snprintf(id, sizeof(id), "c%u-%u", c->number, a->id);
    if (a->ask == ASK_LARGE) {
        (void)snprintf(text, sizeof(text), "$%d\r\n%s ", LARGE, id);
        return begins(reply, len, text) && len == LARGE + strlen("$24576\r\n\r\n");
    }
    (void)snprintf(text, sizeof(text), "%s$%zu\r\n%s\r\n", a->ask == ASK_EXEC ? "*1\r\n" : "", strlen(id),
                   id);
    return len == strlen(text) && memcmp(reply, text, len) == 0;
}

static bool is_right(const struct load_client *c, const struct asked *a, const char *reply, size_t len)
{
    switch (a->ask) {
    case ASK_SET:
        return begins(reply, len, "+OK\r\n");
    case ASK_MULTI:
        return begins(reply, len, "+OK\r\n");
    case ASK_QUEUED:
        return begins(reply, len, "+QUEUED\r\n");
    case ASK_GET:
        return is_own_value(c, reply, len);
    default:
        return is_echo(c, a, reply, len);
    }
}

static void client_check(struct load *l, struct load_client *c, const char *reply, size_t len)
{
    if (c->head == c->tail) {
        load_fail(l, "client %u: a reply that nobody asked for: %.*s", c->number,
                  (int)(len < 100 ? len : 100), reply);
        return;
    }
    const struct asked *a = &c->ring[c->head++ % DEPTH_MAX];
    if (is_right(c, a, reply, len))
        l->answered++;
    else if (begins(reply, len, "-MRUNKNOWN "))
        l->unknown++;
    else if (a->ask == ASK_EXEC && begins(reply, len, "-EXECABORT "))
        l->aborted++;
    else
        load_fail(l, "client %u, its request %u of kind %d: %.*s", c->number, a->id, (int)a->ask,
                  (int)(len < 100 ? len : 100), reply);
}

/* ---- moving bytes -----------------------------------------------------------------------------------------
 */

static void client_open(struct load *l, struct load_client *c)
{
    c->fd = proxy_rig_dial(l->rig);
    c->head = c->tail = 0;
    buf_free(&c->out);
    buf_free(&c->in);
    resp_reply_init(&c->framer);
}

/* Only half a large reply, which can't be repaired, is a reason to close. */
static void client_closed(struct load *l, struct load_client *c)
{
    bool large = c->head != c->tail && c->ring[c->head % DEPTH_MAX].ask == ASK_LARGE && buf_len(&c->in) > 0;

    if (!large)
        load_fail(l, "client %u was closed with %u requests under way", c->number, c->tail - c->head);
    l->cut++;
    close(c->fd);
    client_open(l, c);
}

static void client_read(struct load *l, struct load_client *c)
{
    static char data[64 * 1024];
    ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        client_closed(l, c);
        return;
    }
    for (size_t at = 0; n > 0 && at < (size_t)n && !l->failure[0];) {
        size_t used = 0;
        enum resp_result result = resp_reply_feed(&c->framer, data + at, (size_t)n - at, &used);
        if (result == RESP_BAD || buf_append(&c->in, data + at, used)) {
            load_fail(l, "client %u: what it reads is no reply", c->number);
            return;
        }
        at += used;
        if (result == RESP_END) {
            client_check(l, c, buf_at(&c->in, buf_start(&c->in)), buf_len(&c->in));
            buf_free(&c->in);
        }
    }
}

static void client_write(struct load_client *c)
{
    ssize_t n =
        send(c->fd, buf_at(&c->out, buf_start(&c->out)), buf_len(&c->out), MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0)
        buf_consume(&c->out, (size_t)n);
}

static bool load_is_settled(const struct load *l)
{
    for (int i = 0; i < CLIENTS; i++)
        if (l->clients[i].head != l->clients[i].tail)
            return false;
    return true;
}

static int64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

/* Asks until it is told to stop, then waits for what is due. */
static void *load_run(void *ctx)
{
    struct load *l = ctx;
    struct pollfd fds[CLIENTS];
    int64_t until_ms = 0;

    while (!l->failure[0]) {
        bool stop = atomic_load(&l->stop);
        if (stop && load_is_settled(l))
            break;
        until_ms = stop && until_ms == 0 ? now_ms() + WAIT_MS : until_ms;
        if (stop && now_ms() > until_ms)
            load_fail(l, "replies are missing at the end");
        for (int i = 0; i < CLIENTS; i++) {
            struct load_client *c = &l->clients[i];
            if (!stop && c->tail - c->head < c->depth / 2 + 1)
                client_ask_more(l, c);
            fds[i] =
                (struct pollfd){.fd = c->fd, .events = (short)(POLLIN | (buf_len(&c->out) ? POLLOUT : 0))};
        }
        (void)poll(fds, CLIENTS, 10);
        for (int i = 0; i < CLIENTS; i++) {
            if (fds[i].revents & POLLOUT)
                client_write(&l->clients[i]);
            if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
                client_read(l, &l->clients[i]);
        }
    }
    return NULL;
}

/* ---- the test ---------------------------------------------------------------------------------------------
 */

static int open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static bool is_past(void *ctx)
{
    return now_ms() >= *(const int64_t *)ctx;
}

/* Changes the route for so long; returns how often. */
static unsigned change_routes(struct proxy_rig *r, struct load *l, int64_t ms)
{
    struct redis_server *other = r->replica, *current = r->master;
    int64_t begun_ms = now_ms();
    unsigned n = 0;

    for (; now_ms() - begun_ms < ms && !atomic_load(&l->stop); n++) {
        int64_t due_ms = begun_ms + (int64_t)(n + 1) * CHANGE_MS;
        assert_true(wait_until(r->loop, is_past, &due_ms, WAIT_MS));
        if (n % 2) {
            proxy_rig_pause(r, LIMIT_MS);
            proxy_rig_wait_held(r);
        }
        proxy_rig_apply(r, ROUTE_SERVING, other);
        struct redis_server *was = current;
        current = other;
        other = was;
    }
    return n;
}

static void load_begin(struct load *l, const struct proxy_rig *r)
{
    static const unsigned depths[] = {4, 20, 100, 250};

    l->rig = r;
    l->x = 88172645463325252ULL;
    for (unsigned i = 0; i < CLIENTS; i++) {
        l->clients[i].number = i;
        l->clients[i].depth = depths[i / 2 % 4];
        client_open(l, &l->clients[i]);
    }
}

static void load_end(struct load *l)
{
    for (int i = 0; i < CLIENTS; i++) {
        close(l->clients[i].fd);
        buf_free(&l->clients[i].out);
        buf_free(&l->clients[i].in);
    }
}

static void test_twenty_route_changes_a_second_under_load(void **state)
{
    static struct load l;
    const char *text = getenv("MR_CHURN_SECONDS");
    long seconds = text ? strtol(text, NULL, 10) : SECONDS;
    struct proxy_rig r;
    pthread_t thread;

    (void)state;
    proxy_rig_start_two(&r, WAIT_MS);
    redis_server_do(r.replica, "REPLICAOF NO ONE");
    load_begin(&l, &r);
    assert_int_equal(pthread_create(&thread, NULL, load_run, &l), 0);
    /* What is allocated once has been after a while. */
    unsigned n = change_routes(&r, &l, seconds * 1000 / 3);
    int fds = open_fds();
    size_t bytes = mallinfo2().uordblks;
    n += change_routes(&r, &l, seconds * 1000 * 2 / 3);
    int fds_after = open_fds();
    size_t bytes_after = mallinfo2().uordblks;
    atomic_store(&l.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message(
        "%u changes: %llu answered, %llu unknown, %llu aborted, %llu cut off; %d to %d descriptors, %zu to "
        "%zu bytes\n",
        n, (unsigned long long)l.answered, (unsigned long long)l.unknown, (unsigned long long)l.aborted,
        (unsigned long long)l.cut, fds, fds_after, bytes, bytes_after);
    assert_string_equal(l.failure, "");
    assert_true(n > 0);
    assert_true(l.answered > n);
    /* Both moments are in the middle of it all. */
    assert_true(fds_after <= fds + 4 * CLIENTS);
    assert_true(bytes_after <= bytes + (size_t)16 * 1024 * 1024);
    load_end(&l);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_twenty_route_changes_a_second_under_load)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
