/* request ─► table of routes ─► handler (http_reads.c, http_commands.c)
 * engine ─ change ─► every open event stream */
#include "controller/http_api.h"

#include "common/log.h"
#include "controller/http_api_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_api_stream {
    struct list node;
    struct http_stream *stream;
};

static void http_api_on_stream_close(void *ctx)
{
    struct http_api_stream *s = ctx;
    list_remove(&s->node);
    free(s);
}

static void http_api_get_events(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    struct http_api_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        http_answer_error(r, 503, "no_memory", "controller %s is out of memory", a->id);
        return;
    }
    list_push_back(&a->streams, &s->node);
    s->stream = http_stream_open(r, http_api_on_stream_close, s);
    if (!s->stream)
        http_api_on_stream_close(s);
}

void http_api_on_change(struct http_api *a, const char *instance, int64_t revision)
{
    char data[TOPOLOGY_NAME_MAX + 64];
    if (list_empty(&a->streams))
        return;
    int len =
        snprintf(data, sizeof(data), "{\"instance\":\"%s\",\"revision\":%" PRId64 "}", instance, revision);
    assert(len > 0 && (size_t)len < sizeof(data));
    list_for_each(node, &a->streams)
        http_stream_send(list_entry(node, struct http_api_stream, node)->stream, "change", data, (size_t)len);
}

static const struct {
    const char *method;
    const char *path; /* "/…/" at the end: an instance's name follows */
    http_api_fn handle;
} routes[] = {
    {"GET", "/health", http_api_get_health},          {"GET", "/v1/topology", http_api_get_topology},
    {"GET", "/v1/instances", http_api_get_instances}, {"POST", "/v1/instances", http_api_post_instances},
    {"GET", "/v1/instances/", http_api_get_instance}, {"GET", "/v1/controllers", http_api_get_controllers},
    {"GET", "/v1/proxies", http_api_get_proxies},     {"GET", "/v1/history", http_api_get_history},
    {"GET", "/v1/events", http_api_get_events},
};

/* The part of path after a route that ends with '/', or "" for an exact match; NULL: another route. */
static const char *http_api_match(const char *route, const char *path)
{
    size_t len = strlen(route);
    if (route[len - 1] != '/')
        return strcmp(route, path) == 0 ? "" : NULL;
    if (strncmp(route, path, len) != 0 || path[len] == '\0' || strchr(path + len, '/'))
        return NULL;
    return path + len;
}

static void http_api_on_request(void *ctx, struct http_request *r)
{
    struct http_api *a = ctx;
    const char *method = http_request_method(r), *path = http_request_path(r);
    bool known = false;
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (size_t k = 0; k < sizeof(routes) / sizeof(routes[0]); k++) {
        const char *name = http_api_match(routes[k].path, path);
        if (!name)
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

void http_api_set_stopping(struct http_api *a)
{
    a->stopping = true;
}

void http_api_close(struct http_api *a)
{
    if (!a)
        return;
    http_server_close(a->server);
    free(a);
}

uint16_t http_api_port(const struct http_api *a)
{
    return http_server_port(a->server);
}
