/* Shared by http_api.c (routing), http_events.c (streams) and http_reads.c, http_commands.c, http_instance.c
 * (handlers). */
#ifndef MR_CONTROLLER_HTTP_API_PRIVATE_H
#define MR_CONTROLLER_HTTP_API_PRIVATE_H

#include "common/core/list.h"
#include "common/core/topology.h"
#include "common/http.h"
#include "controller/http_api.h"

struct engine_view;

/* The newest events, for those who ask what happened before they came. */
enum { HTTP_API_RECENT_MAX = 256 };
struct http_api_event {
    char instance[TOPOLOGY_NAME_MAX + 1]; /* "": of the controller itself */
    char *data;                           /* its JSON; NULL: none yet */
    size_t len;
};

struct http_api {
    struct loop *loop;
    struct http_server *server;
    struct engine *engine;
    struct zk_store *store; /* NULL until the start is complete */
    struct adopter *adopter;
    struct list streams;
    struct list orders; /* given to engine or store and not answered yet */
    struct http_api_event recent[HTTP_API_RECENT_MAX];
    size_t n_events;             /* ever: the newest one is recent[(n_events - 1) % HTTP_API_RECENT_MAX] */
    struct topology_pause pause; /* of all instances */
    bool stopping;
    char id[TOPOLOGY_NAME_MAX + 1];
};

/* name: the instance in the path, "" when the path has none. */
typedef void (*http_api_fn)(struct http_api *a, struct http_request *r, const char *name);

/* http_reads.c */
void http_api_get_health(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_topology(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_metrics(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_instances(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_instance(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_controllers(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_proxies(struct http_api *a, struct http_request *r, const char *name);
void http_api_get_history(struct http_api *a, struct http_request *r, const char *name);

/* http_events.c */
void http_api_get_events(struct http_api *a, struct http_request *r, const char *name);
void http_api_forget_events(struct http_api *a);

/* http_commands.c */
void http_api_post_instances(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_pause(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_resume(struct http_api *a, struct http_request *r, const char *name);
/* True: we lead. Otherwise the request has been (or will be) answered: 307 to the leader, or 503. */
bool http_api_must_lead(struct http_api *a, struct http_request *r);

/* http_instance.c */
void http_api_get_explain(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_switchover(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_failover(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_pause_one(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_resume_one(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_ack(struct http_api *a, struct http_request *r, const char *name);
void http_api_post_forget(struct http_api *a, struct http_request *r, const char *name);
void http_api_patch_instance(struct http_api *a, struct http_request *r, const char *name);
void http_api_delete_instance(struct http_api *a, struct http_request *r, const char *name);
/* Finds an instance whose record can be read; false: the request was answered (400, 404, 409). */
bool http_api_find(struct http_api *a, struct http_request *r, const char *name, struct engine_view *out);

/* http_order.c: what is answered later. */
struct http_api_order;
/* NULL: out of memory, and the request was answered. name "": of all instances. */
struct http_api_order *http_api_order_begin(struct http_api *a, struct http_request *r, const char *name);
/* engine_command_fn and zk_store_done_fn; ctx is the order. */
void http_api_on_ordered(void *ctx, int err, const char *text);
/* The words of success, for an order that the store carries out. */
void http_api_order_say(struct http_api_order *o, const char *fmt, ...) MR_PRINTF(2, 3);
void http_api_on_stored(void *ctx, int err);
/* The server is being closed and answers for us: whoever ends an order from now on reaches nobody. */
void http_api_forget_orders(struct http_api *a);

#endif
