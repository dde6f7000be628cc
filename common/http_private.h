/* Private to the HTTP server: requests and streams as http.c (connections) and http_stream.c share them. */
#ifndef MR_COMMON_HTTP_PRIVATE_H
#define MR_COMMON_HTTP_PRIVATE_H

#include "common/core/list.h"
#include "common/http.h"

#include <ev.h>
#include <microhttpd.h>

struct http_server {
    struct loop *loop;
    struct http_server_config config; /* host and token are not kept */
    unsigned char token[32]; /* SHA-256 of it, so that comparing takes the same time whatever its length */
    bool has_token, closing;
    bool running; /* inside MHD_run() */
    struct MHD_Daemon *daemon;
    uint16_t port;
    ev_io readable;      /* libmicrohttpd's epoll descriptor */
    ev_timer deadline;   /* its next time-out */
    ev_timer comment;    /* of the streams */
    struct list waiting; /* requests that were kept for a later answer */
    struct list streams;
    size_t n_streams;
};

struct http_request {
    struct list node; /* in server->waiting */
    struct http_server *server;
    struct MHD_Connection *connection;
    char *method, *path;
    char *body; /* NUL-terminated; NULL: none */
    size_t body_len;
    bool too_large;
    bool hopeless;   /* …so much that it is not even read to its end */
    bool in_handler; /* MHD called us: an answer can be queued at once */
    bool suspended;
    struct MHD_Response *response; /* the answer, until it is queued */
    unsigned status;
    struct http_stream *stream; /* the answer is one */
};

struct http_stream {
    struct list node; /* in server->streams */
    struct http_server *server;
    struct http_request *request; /* NULL: the connection is gone */
    void (*on_close)(void *ctx);  /* NULL: it has run */
    void *ctx;
    char *out;
    size_t out_len, out_sent, out_size;
    bool suspended; /* MHD waits for http_stream_send() */
    bool ended;     /* what is in `out` is all */
    bool closing;   /* on_close is deferred */
};

/* Runs libmicrohttpd in this turn: after each resume. */
void http_server_kick(struct http_server *server);
/* Hands request->response over to libmicrohttpd, now or when it asks. */
void http_request_respond(struct http_request *r, unsigned status, struct MHD_Response *response);
/* libmicrohttpd is done with the request that the stream answered. */
void http_stream_disconnected(struct http_stream *s);
/* Ends all streams; each on_close runs here. */
void http_stream_end_all(struct http_server *server);
/* A comment to each stream, which is how a vanished client is noticed. */
void http_stream_comment_all(struct http_server *server);

#endif
