/* A small HTTP/1.1 server (libmicrohttpd) on a libev loop, and JSON answers.
 *
 * Requests are handled on the loop's thread. A handler answers at once or later (http_answer), or turns the
 * request into a Server-Sent Events stream. Bodies over 64 KiB are answered 413. Limits: 256 connections,
 * of which 192 may be streams. */
#ifndef MR_COMMON_HTTP_H
#define MR_COMMON_HTTP_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct http_server;
struct http_request; /* valid until it is answered or its stream is closed */
struct http_stream;

struct http_server_config {
    const char *host; /* IP literal to listen on */
    uint16_t port;    /* 0: choose one */
    const char
        *token; /* NULL: none. With one, every method but GET/HEAD needs "Authorization: Bearer …" (401) */
    /* Called once per complete request. Must answer, keep it for a later answer, or open a stream. */
    void (*on_request)(void *ctx, struct http_request *request);
    void *ctx;
};

int http_server_open(struct http_server **out, struct loop *loop,
                     const struct http_server_config *config) MR_MUST_CHECK;
/* Unanswered requests get 503 and are invalid then. Not inside on_request. */
void http_server_close(struct http_server *server);
uint16_t http_server_port(const struct http_server *server);

const char *http_request_method(const struct http_request *r);
const char *http_request_path(const struct http_request *r); /* without the query; decoded */
const char *http_request_query(const struct http_request *r, const char *key); /* NULL: absent */
const char *http_request_body(const struct http_request *r, size_t *len);      /* NUL-terminated */

/* Ends the request; text is copied. content_type NULL: application/json. */
void http_answer(struct http_request *r, int status, const char *content_type, const char *text, size_t len);
/* {"error":{"code":…,"message":…}} */
void http_answer_error(struct http_request *r, int status, const char *code, const char *fmt, ...)
    MR_PRINTF(4, 5);
/* 307 to url (a standby sends commands on to the leader). */
void http_answer_redirect(struct http_request *r, const char *url);

/* Turns the request into text/event-stream; sends ": ok" at once and a comment every few seconds.
 * on_close runs when the client has gone or lags by more than 1 MiB, or inside http_server_close(); never
 * inside another call; the stream is invalid after it. NULL: too many streams or no memory; then the request
 * was answered with 503 and on_close does not run. */
struct http_stream *http_stream_open(struct http_request *r, void (*on_close)(void *ctx), void *ctx);
/* One event; name and data are copied (both without newlines). */
void http_stream_send(struct http_stream *s, const char *name, const char *data, size_t len);

#endif
