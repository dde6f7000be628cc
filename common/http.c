/*
 *   epoll descriptor readable ─► MHD_run ─► on_access … body … ─► on_request ─┬─ http_answer at once
 *                                   ▲                                         ├─ kept: suspended
 *        http_answer later: resume ─┴── kick ◄────────────────────────────────┴─ http_stream_open */
#include "common/http.h"

#include "common/http_private.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/tcp.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    BODY_MAX_BYTES = 64 * 1024,
    DRAIN_MAX_BYTES = 1024 * 1024, /* read of a body that is too large, so that the client reads its answer */
    CONNECTIONS_MAX = 256,
    CONNECTIONS_OF_ONE_MAX = 224, /* of one address: the health checks of all others are still heard */
    IDLE_S = 30,                  /* libmicrohttpd closes a connection after that long without any progress */
    COMMENT_S = 5,
    BACKLOG = 128,
    CLOSE_RUNS = 16, /* turns of libmicrohttpd in which last answers may leave */
    MESSAGE_MAX = 1024,
};

/* ---- answers ------------------------------------------------------------------------------------------- */

static enum MHD_Result queue_response(struct http_request *r)
{
    struct MHD_Response *response = r->response;
    enum MHD_Result result;

    r->response = NULL;
    result = MHD_queue_response(r->connection, r->status, response);
    MHD_destroy_response(response); /* libmicrohttpd counts its own reference */
    return result;
}

void http_request_respond(struct http_request *r, unsigned status, struct MHD_Response *response)
{
    assert(!r->response && response);
    r->status = status;
    r->response = response;
    list_remove(&r->node);
    if (!r->suspended)
        return; /* still inside on_request: on_access() queues it */
    r->suspended = false;
    MHD_resume_connection(r->connection);
    http_server_kick(r->server);
}

static void answer(struct http_request *r, int status, const char *type, const char *location,
                   const char *text, size_t len)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, (void *)text, MHD_RESPMEM_MUST_COPY);

    assert(status >= 200 && status <= 599);
    if (!response) { /* out of memory: an empty answer needs less of it */
        response = MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
        status = MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (!response)
        abort();
    if (MHD_add_response_header(response, "Content-Type", type ? type : "application/json") != MHD_YES ||
        MHD_add_response_header(response, "Cache-Control", "no-store") != MHD_YES ||
        (location && MHD_add_response_header(response, "Location", location) != MHD_YES))
        log_warn("event=http.header_refused status=%d", status);
    if (status == MHD_HTTP_UNAUTHORIZED)
        (void)MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    http_request_respond(r, (unsigned)status, response);
}

void http_answer(struct http_request *r, int status, const char *content_type, const char *text, size_t len)
{
    answer(r, status, content_type, NULL, text, len);
}

/* Messages carry other programs' words: whatever is not UTF-8 in them must not cost the whole answer. */
static json_t *text_to_json(char *text)
{
    json_t *value = json_string(text);

    if (value)
        return value;
    for (char *c = text; *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    return json_string(text);
}

void http_answer_error(struct http_request *r, int status, const char *code, const char *fmt, ...)
{
    char message[MESSAGE_MAX];
    json_t *root;
    char *text;
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    root = json_pack("{s:{s:s,s:o}}", "error", "code", code, "message", text_to_json(message));
    text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    answer(r, status, NULL, NULL, text ? text : "", text ? strlen(text) : 0);
    free(text);
}

void http_answer_redirect(struct http_request *r, const char *url)
{
    answer(r, MHD_HTTP_TEMPORARY_REDIRECT, NULL, url, "", 0);
}

/* ---- requests ------------------------------------------------------------------------------------------ */

const char *http_request_method(const struct http_request *r)
{
    return r->method;
}

const char *http_request_path(const struct http_request *r)
{
    return r->path;
}

const char *http_request_query(const struct http_request *r, const char *key)
{
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, key);
}

const char *http_request_body(const struct http_request *r, size_t *len)
{
    if (len)
        *len = r->body_len;
    return r->body ? r->body : "";
}

static void request_free(struct http_request *r)
{
    list_remove(&r->node);
    if (r->response)
        MHD_destroy_response(r->response);
    free(r->method);
    free(r->path);
    free(r->body);
    free(r);
}

static struct http_request *request_create(struct http_server *server, struct MHD_Connection *connection,
                                           const char *method, const char *path)
{
    struct http_request *r = calloc(1, sizeof *r);
    const char *announced = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    unsigned long long announced_bytes = announced ? strtoull(announced, NULL, 10) : 0;

    if (!r)
        return NULL;
    list_init(&r->node);
    r->server = server;
    r->connection = connection;
    r->method = strdup(method);
    r->path = strdup(path);
    r->too_large = announced_bytes > BODY_MAX_BYTES;
    r->hopeless = announced_bytes > DRAIN_MAX_BYTES;
    if (!r->method || !r->path) {
        request_free(r);
        return NULL;
    }
    return r;
}

/* Takes a piece of the body. False: cut the connection. */
static bool request_take(struct http_request *r, const char *data, size_t len)
{
    char *grown;

    if (r->too_large || r->body_len + len > BODY_MAX_BYTES) {
        r->too_large = true;
        r->body_len += len;
        return r->body_len <= DRAIN_MAX_BYTES;
    }
    grown = realloc(r->body, r->body_len + len + 1);
    if (!grown)
        return false;
    memcpy(grown + r->body_len, data, len);
    r->body = grown;
    r->body_len += len;
    r->body[r->body_len] = '\0';
    return true;
}

static void digest(const char *text, unsigned char out[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx sha;

    sha256_init(&sha);
    sha256_update(&sha, strlen(text), (const uint8_t *)text);
    sha256_digest(&sha, SHA256_DIGEST_SIZE, out);
}

static bool is_allowed(const struct http_request *r)
{
    const struct http_server *server = r->server;
    const char *header = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Authorization");
    unsigned char given[SHA256_DIGEST_SIZE];

    if (!server->has_token || strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0)
        return true;
    if (!header || strncasecmp(header, "Bearer ", 7) != 0)
        return false;
    digest(header + 7, given);
    return memeql_sec(given, server->token, sizeof given);
}

/* The whole request is here. */
static enum MHD_Result request_handle(struct http_request *r)
{
    struct http_server *server = r->server;

    if (server->closing) {
        http_answer_error(r, 503, "stopping", "this server is stopping");
    } else if (r->too_large) {
        http_answer_error(r, 413, "too_large", "the body is larger than %d bytes", BODY_MAX_BYTES);
    } else if (!is_allowed(r)) {
        http_answer_error(r, 401, "unauthorized", "this needs the header \"Authorization: Bearer TOKEN\"");
    } else {
        list_push_back(&server->waiting, &r->node);
        server->config.on_request(server->config.ctx, r);
    }
    if (r->response)
        return queue_response(r);
    r->suspended = true;
    MHD_suspend_connection(r->connection);
    return MHD_YES;
}

static enum MHD_Result http_on_access(void *cls, struct MHD_Connection *connection, const char *url,
                                      const char *method, const char *version, const char *data, size_t *len,
                                      void **con_cls)
{
    struct http_request *r = *con_cls;

    (void)version;
    if (!r) { /* the headers */
        r = *con_cls = request_create(cls, connection, method, url);
        if (!r)
            return MHD_NO;
        return r->hopeless ? request_handle(r) : MHD_YES;
    }
    if (*len > 0) {
        bool taken = request_take(r, data, *len);

        *len = 0;
        return taken ? MHD_YES : MHD_NO;
    }
    if (r->response) /* resumed: the answer is there */
        return queue_response(r);
    return request_handle(r);
}

static void http_on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                              enum MHD_RequestTerminationCode why)
{
    struct http_request *r = *con_cls;

    (void)cls;
    (void)connection;
    (void)why;
    if (!r)
        return;
    if (r->stream)
        http_stream_disconnected(r->stream);
    request_free(r);
    *con_cls = NULL;
}

/* ---- libmicrohttpd on the loop ------------------------------------------------------------------------- */

static void server_run(struct http_server *server)
{
    struct ev_loop *ev = loop_ev(server->loop);
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;

    assert(!server->running);
    server->running = true;
    (void)MHD_run(server->daemon);
    server->running = false;
    ev_timer_stop(ev, &server->deadline);
    if (MHD_get_timeout(server->daemon, &wait_ms) != MHD_YES)
        return;
    ev_timer_set(&server->deadline, (double)wait_ms / 1000., 0.);
    ev_timer_start(ev, &server->deadline);
}

static void http_on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
    (void)ev;
    (void)revents;
    server_run(w->data);
}

static void http_on_deadline(struct ev_loop *ev, ev_timer *w, int revents)
{
    (void)ev;
    (void)revents;
    server_run(w->data);
}

static void http_on_comment(struct ev_loop *ev, ev_timer *w, int revents)
{
    (void)ev;
    (void)revents;
    http_stream_comment_all(w->data);
}

void http_server_kick(struct http_server *server)
{
    if (!server->closing)
        ev_feed_event(loop_ev(server->loop), &server->readable, EV_READ);
}

__attribute__((format(printf, 2, 0))) static void http_on_log(void *cls, const char *fmt, va_list ap)
{
    char text[256];

    (void)cls;
    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    (void)vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("event=http.library say=\"%s\"", text);
}

/* ---- open, close --------------------------------------------------------------------------------------- */

static int listen_on(const char *host, uint16_t port, int *out, uint16_t *bound)
{
    struct topology_address address = {.port = port};
    struct sockaddr_storage a;
    socklen_t len = 0;
    const int on = 1;
    int fd, e;

    if (strlen(host) > TOPOLOGY_HOST_MAX)
        return ERR_INVALID;
    memcpy(address.host, host, strlen(host) + 1);
    if (tcp_address(&address, &a, &len) != 0)
        return ERR_INVALID;
    fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ERR_IO;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&a, len) == 0 && listen(fd, BACKLOG) == 0 &&
        getsockname(fd, (struct sockaddr *)&a, &len) == 0) {
        *bound = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                               : ((struct sockaddr_in *)&a)->sin_port);
        *out = fd;
        return 0;
    }
    e = errno;
    close(fd);
    return e == EADDRINUSE ? ERR_EXISTS : ERR_IO;
}

static int daemon_start(struct http_server *server, int listener)
{
    const union MHD_DaemonInfo *info;

    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, http_on_access, server,
        MHD_OPTION_EXTERNAL_LOGGER, http_on_log, NULL, MHD_OPTION_LISTEN_SOCKET, listener,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)CONNECTIONS_OF_ONE_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
        MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, NULL, MHD_OPTION_END);
    if (!server->daemon)
        return ERR_IO;
    info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || info->epoll_fd < 0) {
        MHD_stop_daemon(server->daemon); /* closes the listener */
        server->daemon = NULL;
        return ERR_IO;
    }
    ev_io_init(&server->readable, http_on_readable, info->epoll_fd, EV_READ);
    ev_timer_init(&server->deadline, http_on_deadline, 0., 0.);
    ev_timer_init(&server->comment, http_on_comment, COMMENT_S, COMMENT_S);
    server->readable.data = server->deadline.data = server->comment.data = server;
    ev_io_start(loop_ev(server->loop), &server->readable);
    ev_timer_start(loop_ev(server->loop), &server->comment);
    return 0;
}

int http_server_open(struct http_server **out, struct loop *loop, const struct http_server_config *config)
{
    struct http_server *server = calloc(1, sizeof *server);
    int listener = -1, err;

    assert(out && loop && config && config->host && config->on_request);
    if (!server)
        return ERR_NOMEM;
    server->loop = loop;
    server->config = *config;
    server->config.host = server->config.token = NULL;
    list_init(&server->waiting);
    list_init(&server->streams);
    server->has_token = config->token != NULL;
    if (server->has_token)
        digest(config->token, server->token);
    err = listen_on(config->host, config->port, &listener, &server->port);
    if (err == 0)
        err = daemon_start(server, listener);
    if (err) {
        free(server);
        return err;
    }
    *out = server;
    return 0;
}

void http_server_close(struct http_server *server)
{
    if (!server)
        return;
    assert(!server->running && !server->closing);
    ev_timer_stop(loop_ev(server->loop), &server->comment);
    while (!list_empty(&server->waiting))
        http_answer_error(list_entry(list_first(&server->waiting), struct http_request, node), 503,
                          "stopping",
                          "this server is stopping; the command may or may not have been carried out");
    http_stream_end_all(server);
    server->closing = true;
    for (int i = 0; i < CLOSE_RUNS; i++)
        server_run(server);
    ev_io_stop(loop_ev(server->loop), &server->readable);
    ev_timer_stop(loop_ev(server->loop), &server->deadline);
    MHD_stop_daemon(server->daemon);
    loop_defer(server->loop, free, server); /* after the streams that are freed at this turn's end */
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}
