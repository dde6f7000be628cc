/* The controllers' HTTP API (design: interfaces.md, "HTTP"): any controller answers reads, a standby sends
 * commands on to the leader (307). Routing and rendering only: what is shown comes from engine and store, the
 * JSON from core/view. */
#ifndef MR_CONTROLLER_HTTP_API_H
#define MR_CONTROLLER_HTTP_API_H

#include "common/core/err.h"

#include <stdint.h>

struct adopter;
struct engine;
struct http_api;
struct loop;
struct zk_store;

struct http_api_config {
    const char *id;
    const char *host;  /* to listen on */
    uint16_t port;     /* 0: choose one */
    const char *token; /* NULL: none */
};

int http_api_open(struct http_api **out, struct loop *loop, const struct http_api_config *config,
                  struct engine *engine) MR_MUST_CHECK;
/* Both come into being after the server, because its port is part of what the store registers. */
void http_api_set_store(struct http_api *a, struct zk_store *store, struct adopter *adopter);
/* After the store and the adopter have been closed: nothing may answer later any more. */
void http_api_close(struct http_api *a);
uint16_t http_api_port(const struct http_api *a);

/* Tells the event streams that an instance has changed. */
void http_api_on_change(struct http_api *a, const char *instance, int64_t revision);
/* We are stopping: /health says so (503), so that a load balancer looks elsewhere. */
void http_api_set_stopping(struct http_api *a);

#endif
