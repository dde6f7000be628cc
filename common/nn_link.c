/*
 *   nn_link_send: data ─► data│HMAC ─► nn_send        nn_recv ─► size? HMAC? ─► on_message(data)
 *                                                                  └─ no ─► counted, logged, dropped */
#include "common/nn_link.h"

#include "common/core/topology.h"
#include "common/log.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <nanomsg/nn.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/pubsub.h>
#include <nanomsg/survey.h>
#include <nanomsg/tcp.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SIGNATURE_BYTES = 32,
    SURVEY_ID_BYTES = 4, /* in front of a raw survey */
    RECONNECT_MS = 10,
    RECEIVE_MAX_BYTES = 1024 * 1024,
    MESSAGES_PER_TURN = 512, /* fairness: a flood must not starve the loop */
    BIND_TRIES = 32,
    LOG_PERIOD_US = 1000000,
};

struct nn_link {
    struct loop *loop;
    int socket;
    bool closed;
    bool raw;            /* each message starts with a survey id */
    uint32_t survey_ids; /* given so far */
    nn_message_fn on_message;
    void *ctx;
    ev_io readable;
    struct hmac_sha256_ctx *mac; /* NULL: unsigned */
    uint64_t dropped, dropped_logged;
    int64_t logged_at_us;
    char in[NN_LINK_MESSAGE_MAX + SIGNATURE_BYTES + 1];
    char out[SURVEY_ID_BYTES + NN_LINK_MESSAGE_MAX + SIGNATURE_BYTES];
};

/* ---- signing ------------------------------------------------------------------------------------------- */

int nn_link_key_read(const char *path, struct nn_link_key *out)
{
    FILE *f = fopen(path, "re");
    unsigned char bytes[sizeof out->bytes + 64]; /* room for newlines, and to see that there is too much */
    size_t len;
    bool failed;

    if (!f)
        return ERR_IO;
    len = fread(bytes, 1, sizeof bytes, f);
    failed = ferror(f) != 0;
    (void)fclose(f);
    while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
        len--;
    memset(out, 0, sizeof *out);
    if (!failed && len >= 16 && len <= sizeof out->bytes) {
        memcpy(out->bytes, bytes, len);
        out->len = len;
    }
    explicit_bzero(bytes, sizeof bytes);
    if (failed)
        return ERR_IO;
    return out->len ? 0 : ERR_INVALID;
}

static struct hmac_sha256_ctx *mac_create(const struct nn_link_key *key)
{
    struct hmac_sha256_ctx *mac = malloc(sizeof(*mac));

    if (mac)
        hmac_sha256_set_key(mac, key->len, (const uint8_t *)key->bytes);
    return mac;
}

static void mac_free(struct hmac_sha256_ctx *mac)
{
    if (mac)
        explicit_bzero(mac, sizeof(*mac)); /* the key is in it */
    free(mac);
}

static void sign(struct nn_link *link, const char *data, size_t len, unsigned char signature[SIGNATURE_BYTES])
{
    hmac_sha256_update(link->mac, len, (const uint8_t *)data);
    hmac_sha256_digest(link->mac, SIGNATURE_BYTES, signature); /* ready for the next, with the same key */
}

/* ---- receiving ----------------------------------------------------------------------------------------- */

static void drop(struct nn_link *link, const char *why, size_t len)
{
    int64_t now_us = loop_now_us(link->loop);

    link->dropped++;
    if (link->logged_at_us && now_us - link->logged_at_us < LOG_PERIOD_US)
        return;
    log_warn("event=nn_link.dropped reason=%s bytes=%zu count=%llu", why, len,
             (unsigned long long)(link->dropped - link->dropped_logged));
    link->logged_at_us = now_us;
    link->dropped_logged = link->dropped;
}

/* `in` holds what fits of a message of len bytes. */
static void take(struct nn_link *link, size_t len)
{
    size_t signature_len = link->mac ? SIGNATURE_BYTES : 0;
    unsigned char expected[SIGNATURE_BYTES];

    if (len > NN_LINK_MESSAGE_MAX + signature_len) {
        drop(link, "too-large", len);
        return;
    }
    if (len < signature_len) {
        drop(link, "unsigned", len);
        return;
    }
    len -= signature_len;
    if (link->mac)
        sign(link, link->in, len, expected);
    if (link->mac && !memeql_sec(expected, link->in + len, SIGNATURE_BYTES)) {
        drop(link, "bad-signature", len);
        return;
    }
    link->in[len] = '\0';
    link->on_message(link->ctx, link->in, len);
}

static void nn_link_on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
    struct nn_link *link = w->data;

    (void)revents;
    for (int i = 0; i < MESSAGES_PER_TURN; i++) {
        int n = nn_recv(link->socket, link->in, sizeof link->in - 1, NN_DONTWAIT);

        /* Not only EAGAIN ends it: a survey's end is ETIMEDOUT, a survey's absence EFSM. */
        if (n < 0)
            return;
        take(link, (size_t)n);
        if (link->closed)
            return;
    }
    ev_feed_event(ev, w, EV_READ);
}

/* ---- open, close --------------------------------------------------------------------------------------- */

static bool set(int socket, int level, int option, int value)
{
    return nn_setsockopt(socket, level, option, &value, sizeof value) == 0;
}

static int configure(struct nn_link *link, int protocol)
{
    int s = link->socket, fd = -1;
    size_t fd_len = sizeof fd;

    if (!set(s, NN_TCP, NN_TCP_NODELAY, 1) || !set(s, NN_SOL_SOCKET, NN_RECONNECT_IVL, RECONNECT_MS) ||
        !set(s, NN_SOL_SOCKET, NN_RECONNECT_IVL_MAX, 0) ||
        !set(s, NN_SOL_SOCKET, NN_RCVMAXSIZE, RECEIVE_MAX_BYTES) || !set(s, NN_SOL_SOCKET, NN_IPV4ONLY, 0) ||
        !set(s, NN_SOL_SOCKET, NN_LINGER, 0))
        return ERR_IO;
    if (protocol == NN_SUB && nn_setsockopt(s, NN_SUB, NN_SUB_SUBSCRIBE, "", 0) != 0)
        return ERR_IO;
    if (!link->on_message)
        return 0;
    if (nn_getsockopt(s, NN_SOL_SOCKET, NN_RCVFD, &fd, &fd_len) != 0)
        return ERR_INVALID; /* a protocol that only sends */
    ev_io_set(&link->readable, fd, EV_READ);
    ev_io_start(loop_ev(link->loop), &link->readable);
    return 0;
}

int nn_link_open(struct nn_link **out, struct loop *loop, int protocol, const struct nn_link_key *key,
                 nn_message_fn on_message, void *ctx)
{
    struct nn_link *link = calloc(1, sizeof *link);
    int err;

    assert(out && loop);
    if (!link)
        return ERR_NOMEM;
    link->loop = loop;
    link->on_message = on_message;
    link->ctx = ctx;
    ev_init(&link->readable, nn_link_on_readable);
    link->readable.data = link;
    link->raw = (protocol & NN_LINK_RAW) != 0;
    protocol &= ~NN_LINK_RAW;
    assert(!link->raw || protocol == NN_SURVEYOR);
    link->socket = nn_socket(link->raw ? AF_SP_RAW : AF_SP, protocol);
    err = link->socket < 0 ? (nn_errno() == EINVAL ? ERR_INVALID : ERR_IO) : configure(link, protocol);
    if (err == 0 && key && key->len > 0 && !(link->mac = mac_create(key)))
        err = ERR_NOMEM;
    if (err) {
        ev_io_stop(loop_ev(loop), &link->readable);
        if (link->socket >= 0)
            (void)nn_close(link->socket);
        free(link);
        return err;
    }
    *out = link;
    return 0;
}

static void nn_link_on_free(void *p)
{
    struct nn_link *link = p;

    mac_free(link->mac);
    free(link);
}

void nn_link_close(struct nn_link *link)
{
    if (!link)
        return;
    assert(!link->closed);
    link->closed = true;
    ev_io_stop(loop_ev(link->loop), &link->readable);
    while (nn_close(link->socket) != 0 && nn_errno() == EINTR)
        continue;
    loop_defer(link->loop, nn_link_on_free, link); /* on_message may be running */
}

/* ---- endpoints ----------------------------------------------------------------------------------------- */

static int endpoint_result(int rc, int *endpoint)
{
    if (rc >= 0) {
        if (endpoint)
            *endpoint = rc;
        return 0;
    }
    switch (nn_errno()) {
    case EADDRINUSE:
        return ERR_EXISTS;
    case EINVAL:
    case ENAMETOOLONG:
    case EPROTONOSUPPORT:
    case ENODEV:
        return ERR_INVALID;
    default:
        return ERR_IO;
    }
}

/* Only literals: nanomsg resolves names behind our back, to a family that may not fit the local end. */
static int url_parse(const char *url, struct topology_address *out)
{
    if (strncmp(url, "tcp://", 6) != 0)
        return ERR_INVALID;
    return topology_address_parse(url + 6, out);
}

int nn_link_bind(struct nn_link *link, const char *url, int *endpoint)
{
    struct topology_address address;

    assert(!link->closed);
    if (url_parse(url, &address) != 0)
        return ERR_INVALID;
    return endpoint_result(nn_bind(link->socket, url), endpoint);
}

int nn_link_connect(struct nn_link *link, const char *url, int *endpoint)
{
    struct topology_address address;
    char both[80];

    assert(!link->closed);
    if (url_parse(url, &address) != 0)
        return ERR_INVALID;
    /* With NN_IPV4ONLY 0 nanomsg 1.1.5 binds the local end to "::"; for an IPv4 peer that fails, and its next
     * attempt aborts the process (usock_posix.inc). So the local end is named. */
    (void)snprintf(both, sizeof both, "tcp://%s%s", strchr(address.host, ':') ? "" : "0.0.0.0;", url + 6);
    return endpoint_result(nn_connect(link->socket, both), endpoint);
}

void nn_link_disconnect(struct nn_link *link, int endpoint)
{
    assert(!link->closed);
    (void)nn_shutdown(link->socket, endpoint);
}

/* A port that was free a moment ago; 0: none, or the host is no literal of this machine. */
static uint16_t free_port(const char *host)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    bool is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
    struct sockaddr *a = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t len = is_v4 ? sizeof v4 : sizeof v6;
    uint16_t port = 0;
    int fd;

    if (!is_v4 && inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
        return 0;
    fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    if (bind(fd, a, len) == 0 && getsockname(fd, a, &len) == 0)
        port = ntohs(is_v4 ? v4.sin_port : v6.sin6_port);
    close(fd);
    return port;
}

int nn_link_bind_any(struct nn_link *link, const char *host, uint16_t port, uint16_t *bound)
{
    char url[80];
    int err = ERR_INVALID;

    for (int i = 0; i < BIND_TRIES; i++) {
        uint16_t chosen = port ? port : free_port(host);

        if (!chosen)
            return ERR_INVALID;
        (void)snprintf(url, sizeof url, strchr(host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", host, chosen);
        err = nn_link_bind(link, url, NULL);
        *bound = chosen;
        if (err != ERR_EXISTS || port)
            return err;
    }
    return err;
}

/* ---- sending ------------------------------------------------------------------------------------------- */

/* What a SURVEYOR that isn't raw would put there: a number with the highest bit set, which tells the
 * responder where the way back ends. Nobody looks at it here: our messages carry numbers of their own. */
static void put_survey_id(struct nn_link *link)
{
    uint32_t id = htonl(0x80000000U | (++link->survey_ids & 0x7fffffffU));

    memcpy(link->out, &id, SURVEY_ID_BYTES);
}

int nn_link_send(struct nn_link *link, const char *data, size_t len)
{
    const char *bytes = data;
    size_t head = link->raw ? SURVEY_ID_BYTES : 0, n = len;

    assert(!link->closed);
    if (len > NN_LINK_MESSAGE_MAX)
        return ERR_TOO_LARGE;
    if (link->mac || link->raw) {
        memcpy(link->out + head, data, len);
        if (link->mac)
            sign(link, data, len, (unsigned char *)link->out + head + len);
        if (link->raw)
            put_survey_id(link);
        bytes = link->out;
        n += head + (link->mac ? SIGNATURE_BYTES : 0);
    }
    if (nn_send(link->socket, bytes, n, NN_DONTWAIT) >= 0)
        return 0;
    return nn_errno() == EAGAIN ? ERR_BUSY : ERR_IO;
}

uint64_t nn_link_dropped(const struct nn_link *link)
{
    return link->dropped;
}
