/* Shared by http_api.c (routing, events) and http_reads.c, http_commands.c (handlers). */
#ifndef MR_CONTROLLER_HTTP_API_PRIVATE_H
#define MR_CONTROLLER_HTTP_API_PRIVATE_H

#include "common/core/list.h"
#include "common/core/topology.h"
#include "common/http.h"
#include "controller/http_api.h"

struct http_api {
    struct loop *loop;
    struct http_server *server;
    struct engine *engine;
    struct zk_store *store; /* NULL until the start is complete */
    struct adopter *adopter;
    struct list streams;
    bool stopping;
    char id[TOPOLOGY_NAME_MAX + 1];
};

/* name: the instance in the path, "" when the path has none. */
typedef void (*http_api_fn)(struct http_api *a, struct http_request *r, const char *name);

/* http_reads.c */
void http_api_get_health(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_topology(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_instances(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_instance(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_controllers(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_proxies(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_history(struct http_api *a, struct http_request *r, const char *name);

/* http_commands.c */
void http_api_post_instances(struct http_api *a, struct http_request *r, const char *name);
/* True: we lead. Otherwise the request has been (or will be) answered: 307 to the leader, or 503. */
bool http_api_must_lead(struct http_api *a, struct http_request *r);

#endif
