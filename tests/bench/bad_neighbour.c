/* A client that others share a proxy with, and shouldn't have to suffer from.
 *
 *   pipeline  keeps --depth GETs on their way, taking answers as fast as it can
 *   slow      has --depth GETs of a large value on their way and takes 4 KB every 10 ms
 *   big       SETs a value of --bytes, again and again
 *
 * Says {"event":"busy"} with the first bytes that it moved; goes on until it reads anything from stdin, or
 * its end; then tells
 *   {"event":"moved","answers":…,"errors":…,"sent_bytes":…,"taken_bytes":…} */
#include "common/core/resp.h"
#include "common/options.h"
#include "tests/lib/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024, SIP = 4096, SIP_EVERY_MS = 10, TIMEOUT_MS = 60000, HEAD_MAX = 256 };

struct guest {
    int fd;
    bool is_slow, is_busy;
    char head[HEAD_MAX]; /* of each request; a body of body_len bytes and CRLF follow when there is one */
    size_t head_len, body_len;
    size_t at;                /* bytes sent of the request under way */
    uint64_t under_way, most; /* requests begun and not answered; at most */
    struct resp_reply reply;
    uint64_t answers, errors, sent_bytes, taken_bytes;
};

static char filler[CHUNK];

static size_t guest_request_len(const struct guest *g)
{
    return g->head_len + (g->body_len > 0 ? g->body_len + 2 : 0);
}

/* Sends some of the request under way; false when the connection is gone. */
static bool guest_send(struct guest *g)
{
    const size_t end = g->head_len + g->body_len;
    const char *from = filler;
    size_t len = end - g->at;
    if (g->at < g->head_len) {
        from = g->head + g->at;
        len = g->head_len - g->at;
    } else if (g->at >= end) {
        from = "\r\n" + (g->at - end);
        len = 2 - (g->at - end);
    } else if (len > CHUNK) {
        len = CHUNK;
    }
    const ssize_t n = write(g->fd, from, len);
    if (n < 0)
        return errno == EAGAIN;
    if (g->at == 0)
        g->under_way++;
    g->at += (size_t)n;
    g->sent_bytes += (uint64_t)n;
    if (g->at == guest_request_len(g))
        g->at = 0;
    return true;
}

/* Small requests go many at once, as a pipelining client sends them. */
static bool guest_send_batch(struct guest *g)
{
    static char batch[CHUNK];
    size_t len = 0;
    uint64_t n_requests = 0;
    while (g->under_way + n_requests < g->most && len + g->head_len <= sizeof batch) {
        memcpy(batch + len, g->head, g->head_len);
        len += g->head_len;
        n_requests++;
    }
    const ssize_t n = write(g->fd, batch, len);
    if (n < 0)
        return errno == EAGAIN;
    g->under_way += ((size_t)n + g->head_len - 1) / g->head_len;
    g->at = (size_t)n % g->head_len;
    g->sent_bytes += (uint64_t)n;
    return true;
}

static bool guest_take(struct guest *g)
{
    static char data[CHUNK];
    const ssize_t n = read(g->fd, data, g->is_slow ? SIP : sizeof data);
    if (n < 0)
        return errno == EAGAIN;
    if (n == 0)
        return false;
    g->taken_bytes += (uint64_t)n;
    for (size_t done = 0; done < (size_t)n;) {
        size_t used = 0;
        const enum resp_result result = resp_reply_feed(&g->reply, data + done, (size_t)n - done, &used);
        done += used;
        if (result == RESP_BAD)
            return false;
        if (result == RESP_END) {
            g->answers++;
            g->errors += g->reply.type == '-';
            g->under_way -= g->under_way > 0;
        }
    }
    return true;
}

static void guest_say_busy(struct guest *g)
{
    if (g->is_busy || g->sent_bytes == 0 || (g->body_len == 0 && g->taken_bytes == 0))
        return;
    g->is_busy = true;
    puts("{\"event\":\"busy\"}");
    fflush(stdout);
}

/* Until told to end, true; or until the connection does, false. */
static bool guest_run(struct guest *g)
{
    for (;;) {
        const bool may_begin = g->at > 0 || g->under_way < g->most;
        struct pollfd fds[] = {
            {.fd = STDIN_FILENO, .events = POLLIN},
            {.fd = g->fd, .events = (short)((g->is_slow ? 0 : POLLIN) | (may_begin ? POLLOUT : 0))},
        };
        const int n = poll(fds, 2, g->is_slow ? SIP_EVERY_MS : -1);
        if (n < 0 && errno != EINTR)
            return false;
        if (fds[0].revents != 0)
            return true;
        /* Slowly means: by the clock, however much there is to take. */
        const bool takes = g->is_slow ? n == 0 : (fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
        if (takes && !guest_take(g))
            return false;
        if (fds[1].revents & POLLOUT && g->body_len == 0 && g->at == 0) {
            if (!guest_send_batch(g))
                return false;
        } else if (fds[1].revents & POLLOUT && !guest_send(g)) {
            return false;
        }
        guest_say_busy(g);
    }
}

static void guest_prepare(struct guest *g, const char *kind, const char *key, int depth, int bytes)
{
    g->is_slow = strcmp(kind, "slow") == 0;
    g->most = (uint64_t)depth;
    resp_reply_init(&g->reply);
    if (strcmp(kind, "big") == 0) {
        g->most = 1;
        g->body_len = (size_t)bytes;
        g->head_len = (size_t)snprintf(g->head, sizeof g->head, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%d\r\n",
                                       strlen(key), key, bytes);
    } else {
        g->head_len =
            (size_t)snprintf(g->head, sizeof g->head, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(key), key);
    }
    memset(filler, 'x', sizeof filler);
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1", *key = "bad_neighbour", *kind = "pipeline";
    int port = 6379, depth = 10000, bytes = 512 * 1024 * 1024;
    const struct option_row rows[] = {
        {"host", 0, OPTION_TEXT, &host, "HOST", 0, 0, "whom to burden"},
        {"port", 'p', OPTION_INT, &port, "PORT", 1, 65535, "its port"},
        {"kind", 0, OPTION_TEXT, &kind, "KIND", 0, 0, "pipeline, slow or big"},
        {"key", 0, OPTION_TEXT, &key, "KEY", 0, 0, "to get, or to set (big)"},
        {"depth", 0, OPTION_INT, &depth, "N", 1, 1000000, "pipeline, slow: requests on their way"},
        {"bytes", 0, OPTION_INT, &bytes, "N", 1, 512 * 1024 * 1024, "big: of the value"},
        {0},
    };
    const struct options_spec spec = {
        .program = "bad_neighbour",
        .synopsis = "[OPTIONS]",
        .about = "Pipelines deeply, reads slowly or sends a large value, until told to end.",
        .rows = rows,
        .epilogue = "Exit codes: 0 told to end, 1 not connected or connection lost, 2 usage.",
    };
    if (options_parse(&spec, argc, argv) != argc)
        options_fail(&spec, "takes no operands");
    if (strcmp(kind, "pipeline") != 0 && strcmp(kind, "slow") != 0 && strcmp(kind, "big") != 0)
        options_fail(&spec, "--kind %s: pipeline, slow or big", kind);
    if (strlen(key) > HEAD_MAX / 2)
        options_fail(&spec, "--key: at most %d bytes", HEAD_MAX / 2);
    writer_process_init();
    redisContext *connection = writer_dial(host, port, TIMEOUT_MS);
    if (connection == NULL) {
        fprintf(stderr, "bad_neighbour: nothing answers at %s:%d\n", host, port);
        return 1;
    }
    struct guest g = {.fd = connection->fd};
    guest_prepare(&g, kind, key, depth, bytes);
    fcntl(g.fd, F_SETFL, fcntl(g.fd, F_GETFL) | O_NONBLOCK);
    const bool stands = guest_run(&g);
    printf(
        "{\"event\":\"moved\",\"answers\":%llu,\"errors\":%llu,\"sent_bytes\":%llu,\"taken_bytes\":%llu}\n",
        (unsigned long long)g.answers, (unsigned long long)g.errors, (unsigned long long)g.sent_bytes,
        (unsigned long long)g.taken_bytes);
    fflush(stdout);
    if (!stands)
        fprintf(stderr, "bad_neighbour: %s lost its connection\n", kind);
    redisFree(connection);
    return stands ? 0 : 1;
}
