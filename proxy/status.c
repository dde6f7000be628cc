#include "proxy/status.h"

#include "common/http.h"
#include "proxy/control.h"
#include "proxy/meter.h"
#include "proxy/status_private.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct status {
    struct control *control;
    struct http_server *server;
    struct meter *meter;
};

/* Takes over root. */
static void status_answer(struct http_request *request, int code, json_t *root)
{
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

    json_decref(root);
    if (text)
        http_answer(request, code, NULL, text, strlen(text));
    else
        http_answer_error(request, 503, "out_of_memory", "the answer does not fit the memory");
    free(text);
}

static json_t *status_summary(struct control *c)
{
    const struct route_book *b = control_book(c);

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "id", control_configured(c)->id, "version",
                     MR_VERSION, "store", b->store_up ? "connected" : "away", "controllers",
                     b->silent ? "silent" : "heard", "leader", b->leader, "term", (json_int_t)b->term,
                     "garbled_messages", (json_int_t)control_garbled(c), "routes", (json_int_t)b->table.n);
}

/* Useful: it knows where to send requests, or knows that there is no instance yet. */
static void status_health(struct status *s, struct http_request *request)
{
    const struct route_book *b = control_book(s->control);
    bool useful = b->reads_done > 0 || b->table.n > 0;
    json_t *root = status_summary(s->control);

    if (root)
        json_object_set_new(root, "status", json_string(useful ? "ok" : "waiting for ZooKeeper"));
    status_answer(request, useful ? 200 : 503, root);
}

static json_t *status_addresses(const struct route *r)
{
    json_t *list = json_array();
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    for (uint32_t i = 0; i < r->n_replicas; i++)
        json_array_append_new(list, json_string(topology_address_format(&r->replicas[i], text)));
    return list;
}

/* The replicas that clients may read from. */
static json_t *status_readers(const struct route *r)
{
    json_t *list = json_array();
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    for (uint32_t i = 0; i < r->n_readers; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "address",
                                              topology_address_format(&r->readers[i].address, text), "zone",
                                              r->readers[i].zone));
    return list;
}

static json_t *status_route(struct control *c, const struct route_entry *e)
{
    const struct route *r = &e->route;
    char master[TOPOLOGY_ADDRESS_MAX + 1];
    struct worker_stats w;

    control_read_stats(c, r->name, &w);
    return json_pack("{s:s, s:i, s:s, s:b, s:b, s:I, s:I, s:s, s:o, s:s, s:s, s:s, s:o, s:{s:I, s:I, s:I, "
                     "s:I, s:I, s:I, s:I}}",
                     "name", r->name, "port", (int)r->port, "state",
                     r->state == ROUTE_HELD ? "held" : "serving", "in_doubt", !list_empty(&e->doubt),
                     "switching_over", !list_empty(&e->pausing), "epoch", (json_int_t)r->epoch, "revision",
                     (json_int_t)r->revision, "master", topology_address_format(&r->master, master),
                     "replicas", status_addresses(r), "durability", topology_durability_name(r->durability),
                     "fence_user", r->fence_user, "reads", topology_reads_name(r->reads), "readers",
                     status_readers(r), "stats", "clients", (json_int_t)w.clients, "accepted",
                     (json_int_t)w.accepted, "requests", (json_int_t)w.requests, "held", (json_int_t)w.held,
                     "replayed", (json_int_t)w.replayed, "unknown", (json_int_t)w.unknown, "rejected",
                     (json_int_t)w.rejected);
}

static void status_routes(struct status *s, struct http_request *request)
{
    const struct route_book *b = control_book(s->control);
    json_t *root = status_summary(s->control), *list = json_array();

    for (size_t i = 0; i < b->table.n; i++)
        json_array_append_new(list, status_route(s->control, b->table.entries[i]));
    if (root)
        json_object_set_new(root, "routes", list);
    else
        json_decref(list);
    status_answer(request, 200, root);
}

static void status_stats(struct status *s, struct http_request *request)
{
    const struct route_book *b = control_book(s->control);
    json_t *root = status_summary(s->control), *list = json_array();

    for (size_t i = 0; i < b->table.n; i++)
        json_array_append_new(list, status_stats_of(s->control, s->meter, &b->table.entries[i]->route));
    if (root)
        json_object_set_new(root, "instances", list);
    else
        json_decref(list);
    status_answer(request, 200, root);
}

static void status_show_metrics(struct status *s, struct http_request *request)
{
    size_t len = 0;
    char *text = status_metrics(s->control, &len);

    if (text)
        http_answer(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
    else
        http_answer_error(request, 503, "out_of_memory", "the answer does not fit the memory");
    free(text);
}

static const struct status_page {
    const char *path;
    void (*show)(struct status *s, struct http_request *request);
} status_pages[] = {
    {"/health", status_health},
    {"/v1/routes", status_routes},
    {"/v1/stats", status_stats},
    {"/metrics", status_show_metrics},
};

static void status_on_request(void *ctx, struct http_request *request)
{
    struct status *s = ctx;
    const char *method = http_request_method(request), *path = http_request_path(request);

    for (size_t k = 0; k < sizeof(status_pages) / sizeof(status_pages[0]); k++) {
        if (strcmp(path, status_pages[k].path) != 0)
            continue;
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
            http_answer_error(request, 405, "method_not_allowed", "%s takes GET only", path);
        else
            status_pages[k].show(s, request);
        return;
    }
    http_answer_error(request, 404, "not_found",
                      "there is GET /health, GET /v1/routes, GET /v1/stats and GET /metrics");
}

int status_open(struct status **out, struct loop *loop, const char *host, uint16_t port,
                struct control *control)
{
    struct status *s = calloc(1, sizeof(*s));

    assert(control);
    if (!s)
        return ERR_NOMEM;
    s->control = control;
    struct http_server_config config = {
        .host = host, .port = port, .on_request = status_on_request, .ctx = s};
    int err = meter_open(&s->meter, loop, control);
    if (err == 0)
        err = http_server_open(&s->server, loop, &config);
    if (err != 0) {
        meter_close(s->meter);
        free(s);
        return err;
    }
    *out = s;
    return 0;
}

void status_close(struct status *s)
{
    if (!s)
        return;
    http_server_close(s->server);
    meter_close(s->meter);
    free(s);
}

uint16_t status_port(const struct status *s)
{
    return http_server_port(s->server);
}
