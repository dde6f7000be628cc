/* request ─► table of routes ─► handler (http_reads.c, http_commands.c, http_instance.c)
 * engine ─ change, event ─► http_events.c ─► every open event stream */
#include "controller/http_api.h"

#include "controller/http_api_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *method;
    const char *path; /* '*' stands for an instance's name */
    http_api_fn handle;
} routes[] = {
    {"GET", "/health", http_api_get_health},
    {"GET", "/metrics", http_api_get_metrics},
    {"GET", "/v1/topology", http_api_get_topology},
    {"GET", "/v1/instances", http_api_get_instances},
    {"POST", "/v1/instances", http_api_post_instances},
    {"GET", "/v1/instances/*", http_api_get_instance},
    {"PATCH", "/v1/instances/*", http_api_patch_instance},
    {"DELETE", "/v1/instances/*", http_api_delete_instance},
    {"GET", "/v1/instances/*/explain", http_api_get_explain},
    {"POST", "/v1/instances/*/switchover", http_api_post_switchover},
    {"POST", "/v1/instances/*/failover", http_api_post_failover},
    {"POST", "/v1/instances/*/pause", http_api_post_pause_one},
    {"POST", "/v1/instances/*/resume", http_api_post_resume_one},
    {"POST", "/v1/instances/*/ack", http_api_post_ack},
    {"POST", "/v1/instances/*/forget", http_api_post_forget},
    {"POST", "/v1/pause", http_api_post_pause},
    {"POST", "/v1/resume", http_api_post_resume},
    {"GET", "/v1/controllers", http_api_get_controllers},
    {"GET", "/v1/proxies", http_api_get_proxies},
    {"GET", "/v1/history", http_api_get_history},
    {"GET", "/v1/events", http_api_get_events},
};

/* One byte more than a legal name has, so that a longer one stays illegal. */
enum { HTTP_API_NAME_SIZE = TOPOLOGY_NAME_MAX + 2 };

/* Does the path fit the route? What its '*' stands for goes to name. */
static bool http_api_match(const char *route, const char *path, char name[HTTP_API_NAME_SIZE])
{
    const char *star = strchr(route, '*');
    name[0] = '\0';
    if (!star)
        return strcmp(route, path) == 0;
    size_t head = (size_t)(star - route);
    if (strncmp(route, path, head) != 0)
        return false;
    size_t len = strcspn(path + head, "/");
    if (len == 0 || strcmp(path + head + len, star + 1) != 0)
        return false;
    snprintf(name, HTTP_API_NAME_SIZE, "%.*s", (int)len, path + head);
    return true;
}

static void http_api_on_request(void *ctx, struct http_request *r)
{
    struct http_api *a = ctx;
    const char *method = http_request_method(r), *path = http_request_path(r);
    char name[HTTP_API_NAME_SIZE];
    bool known = false;
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (size_t k = 0; k < sizeof(routes) / sizeof(routes[0]); k++) {
        if (!http_api_match(routes[k].path, path, name))
            continue;
        known = true;
        if (strcmp(routes[k].method, method) != 0)
            continue;
        if (!a->store) {
            http_answer_error(r, 503, "starting", "controller %s is starting: try again", a->id);
            return;
        }
        routes[k].handle(a, r, name);
        return;
    }
    if (known)
        http_answer_error(r, 405, "method_not_allowed", "%s is not possible on %s", method, path);
    else
        http_answer_error(r, 404, "not_found", "there is no %s here: see README, \"HTTP\"", path);
}

int http_api_open(struct http_api **out, struct loop *loop, const struct http_api_config *config,
                  struct engine *engine)
{
    assert(out && loop && config && config->id && engine);
    struct http_api *a = calloc(1, sizeof(*a));
    if (!a)
        return ERR_NOMEM;
    a->loop = loop;
    a->engine = engine;
    list_init(&a->streams);
    list_init(&a->orders);
    snprintf(a->id, sizeof(a->id), "%s", config->id);
    struct http_server_config server = {.host = config->host,
                                        .port = config->port,
                                        .token = config->token,
                                        .on_request = http_api_on_request,
                                        .ctx = a};
    int err = http_server_open(&a->server, loop, &server);
    if (err != 0) {
        free(a);
        return err;
    }
    *out = a;
    return 0;
}

void http_api_set_store(struct http_api *a, struct zk_store *store, struct adopter *adopter)
{
    a->store = store;
    a->adopter = adopter;
}

void http_api_on_maintenance(struct http_api *a, const struct topology_pause *pause)
{
    if (pause)
        a->pause = *pause;
    else
        memset(&a->pause, 0, sizeof(a->pause));
}

void http_api_set_stopping(struct http_api *a)
{
    a->stopping = true;
}

void http_api_close(struct http_api *a)
{
    if (!a)
        return;
    http_api_forget_orders(a);
    http_server_close(a->server);
    http_api_forget_events(a);
    free(a);
}

uint16_t http_api_port(const struct http_api *a)
{
    return http_server_port(a->server);
}
