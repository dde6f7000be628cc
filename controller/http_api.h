/* The controllers' HTTP API (design: interfaces.md, "HTTP"): any controller answers reads, a standby sends
 * commands on to the leader (307). Routing and rendering only: what is shown comes from engine and store, the
 * JSON from core/view. */
#ifndef MR_CONTROLLER_HTTP_API_H
#define MR_CONTROLLER_HTTP_API_H

#include "controller/core/failover.h"

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
/* After the store and the adopter have been closed: they answer no more. The engine may be closed later; what
 * it answers then reaches nobody. */
void http_api_close(struct http_api *a);
uint16_t http_api_port(const struct http_api *a);

/* Tells the event streams that an instance has changed. */
void http_api_on_change(struct http_api *a, const char *instance, int64_t revision);
/* Tells them, and remembers for those that will ask, one line of what was decided or noticed (engine.h). */
void http_api_on_event(struct http_api *a, const char *instance, enum failover_level level, const char *text);
/* Tells them who leads now ("" nobody): whoever follows decisions follows the leader. */
void http_api_on_leader(struct http_api *a, const char *leader);
/* Maintenance of all instances, as it is in ZooKeeper; NULL: none. Copied. */
void http_api_on_maintenance(struct http_api *a, const struct topology_pause *pause);
/* We are stopping: /health says so (503), so that a load balancer looks elsewhere. */
void http_api_set_stopping(struct http_api *a);

#endif
