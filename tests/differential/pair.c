#include "tests/differential/pair.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAIR_READ = 64 * 1024, PAIR_MAX = 64, PAIR_TINY = 8, PAIR_CONTEXT = 160 };

static const char *const side_names[PAIR_SIDES] = {"direct", "through the proxy"};

static int64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

static const char *bytes_of(const struct buf *b)
{
    return buf_len(b) > 0 ? buf_at(b, buf_start(b)) : "";
}

/* ---- connections ------------------------------------------------------------------------------------------
 */

static int dial(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        fprintf(stderr, "can't connect to port %u: %s\n", port, strerror(errno));
        exit(1);
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    return fd;
}

void pair_connect(struct pair *p, const uint16_t ports[PAIR_SIDES])
{
    for (int i = 0; i < PAIR_SIDES; i++) {
        p->sides[i] = (struct pair_side){.fd = dial(ports[i])};
        resp_reply_init(&p->sides[i].framer);
    }
    speaker_reset(&p->speaker);
}

void pair_close(struct pair *p)
{
    for (int i = 0; i < PAIR_SIDES; i++) {
        close(p->sides[i].fd);
        p->sides[i].fd = -1;
        buf_free(&p->sides[i].in);
    }
    buf_free(&p->request);
}

void pair_begin(struct pair *p)
{
    buf_free(&p->request);
    for (int i = 0; i < PAIR_SIDES; i++) {
        buf_free(&p->sides[i].in);
        p->sides[i].sent = p->sides[i].replies = 0;
    }
    p->expected = 0;
    p->piece = 0;
    p->lazy = dice_once_in(p->dice, 10);
    speaker_begin(&p->speaker, &p->request);
}

/* ---- bytes ------------------------------------------------------------------------------------------------
 */

static void side_write(struct pair *p, struct pair_side *side)
{
    size_t left = buf_len(&p->request) - side->sent;
    size_t piece = p->piece > 0 ? 1 + dice_below(p->dice, p->piece) : left;
    ssize_t n = send(side->fd, bytes_of(&p->request) + side->sent, piece < left ? piece : left,
                     MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n > 0)
        side->sent += (size_t)n;
    else if (errno != EAGAIN && errno != EWOULDBLOCK)
        side->sent = buf_len(&p->request); /* reading will tell */
}

static void side_frame(struct pair_side *side, const char *data, size_t len)
{
    while (len > 0) {
        size_t used = 0;
        enum resp_result result = resp_reply_feed(&side->framer, data, len, &used);
        bool told = side->framer.type == '>' && strcmp(side->framer.word, "invalidate") == 0;
        side->replies += result == RESP_END && !told;
        if (result == RESP_BAD)
            return;
        data += used;
        len -= used;
    }
}

static void side_read(struct pair_side *side)
{
    static char data[PAIR_READ];
    ssize_t n = recv(side->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0) {
        int err = buf_append(&side->in, data, (size_t)n);
        assert(!err);
        side_frame(side, data, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        side->eof = true;
    }
}

static bool side_is_done(const struct pair *p, const struct pair_side *side)
{
    return side->eof ||
           (side->sent == buf_len(&p->request) && side->replies >= p->expected && !p->speaker.ends);
}

static bool pair_is_done(const struct pair *p)
{
    return side_is_done(p, &p->sides[PAIR_DIRECT]) && side_is_done(p, &p->sides[PAIR_PROXIED]);
}

/* ---- comparing --------------------------------------------------------------------------------------------
 */

/* HELLO tells the connection's number, which is each server's own. */
static size_t skip_id(const struct buf *b, size_t at)
{
    static const char mark[] = "$2\r\nid\r\n:";
    const char *data = bytes_of(b);
    size_t len = sizeof(mark) - 1;

    if (at < len || memcmp(data + at - len, mark, len) != 0)
        return at;
    while (at < buf_len(b) && isdigit((unsigned char)data[at]))
        at++;
    return at;
}

/* The first place where they differ, in both; false: they don't. */
static bool pair_differs(const struct pair *p, size_t at[PAIR_SIDES])
{
    const struct buf *a = &p->sides[PAIR_DIRECT].in, *b = &p->sides[PAIR_PROXIED].in;
    size_t i = 0, k = 0;

    for (;; i++, k++) {
        i = skip_id(a, i);
        k = skip_id(b, k);
        if (i == buf_len(a) || k == buf_len(b) || bytes_of(a)[i] != bytes_of(b)[k])
            break;
    }
    at[PAIR_DIRECT] = i;
    at[PAIR_PROXIED] = k;
    return i < buf_len(a) || k < buf_len(b);
}

static const char *pair_compare(const struct pair *p)
{
    size_t at[PAIR_SIDES];

    if (pair_differs(p, at))
        return "the replies differ";
    if (p->sides[PAIR_DIRECT].eof != p->sides[PAIR_PROXIED].eof)
        return "only one of them was closed";
    if (p->sides[PAIR_DIRECT].eof && !p->speaker.ends)
        return "both were closed, which nobody expected";
    if (p->sides[PAIR_DIRECT].replies != p->expected)
        return "both gave another number of replies than expected";
    return NULL;
}

const struct pair *pair_run(struct pair *pairs, unsigned n, int limit_ms, const char **why)
{
    struct pollfd fds[PAIR_MAX * PAIR_SIDES];
    int64_t until_ms = now_ms() + limit_ms;
    const struct pair *open = NULL;

    assert(n <= PAIR_MAX);
    do {
        open = NULL;
        for (unsigned i = 0; i < n * PAIR_SIDES; i++) {
            struct pair *p = &pairs[i / PAIR_SIDES];
            const struct pair_side *side = &p->sides[i % PAIR_SIDES];
            bool late = p->lazy && i % PAIR_SIDES == PAIR_PROXIED && !side_is_done(p, &p->sides[PAIR_DIRECT]);
            bool writes = !side->eof && side->sent < buf_len(&p->request);
            fds[i] = (struct pollfd){.fd = side_is_done(p, side) ? -1 : side->fd,
                                     .events = (short)((late ? 0 : POLLIN) | (writes ? POLLOUT : 0))};
            open = pair_is_done(p) ? open : p;
        }
        if (!open || poll(fds, n * PAIR_SIDES, 100) < 0)
            break;
        for (unsigned i = 0; i < n * PAIR_SIDES; i++) {
            struct pair *p = &pairs[i / PAIR_SIDES];
            if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
                side_read(&p->sides[i % PAIR_SIDES]);
            if (fds[i].revents & POLLOUT)
                side_write(p, &p->sides[i % PAIR_SIDES]);
        }
    } while (now_ms() < until_ms);
    *why = "no answer in time";
    for (unsigned i = 0; !open && i < n; i++)
        open = (*why = pair_compare(&pairs[i])) != NULL ? &pairs[i] : NULL;
    return open;
}

/* ---- what went wrong --------------------------------------------------------------------------------------
 */

static void print_bytes(const char *title, const struct buf *b, size_t from, size_t to)
{
    const char *data = bytes_of(b);

    to = to < buf_len(b) ? to : buf_len(b);
    printf("  %s, bytes %zu to %zu of %zu:\n    ", title, from, to, buf_len(b));
    for (size_t i = from; i < to; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == '\n')
            printf("\\n ");
        else if (c == '\r')
            printf("\\r");
        else if (isprint(c))
            putchar(c);
        else
            printf("\\x%02x", c);
    }
    putchar('\n');
}

void pair_print(const struct pair *p)
{
    size_t at[PAIR_SIDES];
    bool differs = pair_differs(p, at);

    printf("client %u: RESP%u%s, %u replies expected, pieces of %u\n", p->speaker.id, p->speaker.resp,
           p->speaker.multi ? ", in a transaction" : "", p->expected, p->piece);
    print_bytes("asked, its end", &p->request,
                buf_len(&p->request) > 4 * PAIR_CONTEXT ? buf_len(&p->request) - 4 * PAIR_CONTEXT : 0,
                SIZE_MAX);
    for (int i = 0; i < PAIR_SIDES; i++) {
        const struct pair_side *side = &p->sides[i];
        printf("  %s: %u replies, %zu bytes sent%s\n", side_names[i], side->replies, side->sent,
               side->eof ? ", closed" : "");
        if (differs)
            print_bytes(side_names[i], &side->in, at[i] > PAIR_CONTEXT ? at[i] - PAIR_CONTEXT : 0,
                        at[i] + PAIR_CONTEXT);
    }
}
