/* Server-Sent Events of the API.
 *
 *   engine ─ on_change ───────────────► "change" {"instance","revision"}
 *   engine ─ on_event ─► recent ring ─► "report" {"at","instance","level","text"}
 *   election ─ on_leader ─────────────► "leader" {"leader"}
 *
 * ?instance=NAME: only that instance's. ?recent=N: the newest N reports first, then "live" {}. The limits of
 * streams, and the comments that keep them alive, are common/http's. */
#include "common/core/json_write.h"
#include "common/loop.h"
#include "controller/engine.h"
#include "controller/http_api_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_api_stream {
    struct list node;
    struct http_stream *stream;
    char only[TOPOLOGY_NAME_MAX + 1]; /* "": every instance */
};

static const char *const level_names[] = {
    [FAILOVER_INFO] = "info", [FAILOVER_WARN] = "warn", [FAILOVER_ERROR] = "error"};

static void http_api_on_stream_close(void *ctx)
{
    struct http_api_stream *s = ctx;
    list_remove(&s->node);
    free(s);
}

/* instance "": concerns everybody. */
static bool http_api_wants(const struct http_api_stream *s, const char *instance)
{
    return s->only[0] == '\0' || instance[0] == '\0' || strcmp(s->only, instance) == 0;
}

static void http_api_tell(struct http_api *a, const char *instance, const char *event, const char *data,
                          size_t len)
{
    list_for_each(node, &a->streams)
    {
        struct http_api_stream *s = list_entry(node, struct http_api_stream, node);
        if (http_api_wants(s, instance))
            http_stream_send(s->stream, event, data, len);
    }
}

/* The newest n that the stream wants, oldest first. */
static void http_api_send_recent(struct http_api *a, struct http_api_stream *s, long n)
{
    size_t oldest = a->n_events > HTTP_API_RECENT_MAX ? a->n_events - HTTP_API_RECENT_MAX : 0;
    size_t from = a->n_events;
    for (long wanted = n; from > oldest && wanted > 0; from--)
        wanted -= http_api_wants(s, a->recent[(from - 1) % HTTP_API_RECENT_MAX].instance);
    for (; from < a->n_events; from++) {
        const struct http_api_event *e = &a->recent[from % HTTP_API_RECENT_MAX];
        if (http_api_wants(s, e->instance))
            http_stream_send(s->stream, "report", e->data, e->len);
    }
    http_stream_send(s->stream, "live", "{}", 2);
}

void http_api_get_events(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    const char *only = http_request_query(r, "instance"), *recent = http_request_query(r, "recent");
    char *end = NULL;
    long n = recent ? strtol(recent, &end, 10) : 0;
    struct engine_view v;
    if (recent && (end == recent || *end != '\0' || n < 0 || n > HTTP_API_RECENT_MAX)) {
        http_answer_error(r, 400, "bad_request", "recent must be a whole number from 0 to %d",
                          HTTP_API_RECENT_MAX);
        return;
    }
    if (only && !engine_find(a->engine, only, &v)) {
        http_answer_error(r, 404, "not_found", "there is no instance %s", only);
        return;
    }
    struct http_api_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        http_answer_error(r, 503, "no_memory", "controller %s is out of memory", a->id);
        return;
    }
    if (only)
        snprintf(s->only, sizeof(s->only), "%s", only);
    list_push_back(&a->streams, &s->node);
    s->stream = http_stream_open(r, http_api_on_stream_close, s);
    if (!s->stream)
        http_api_on_stream_close(s);
    else if (recent)
        http_api_send_recent(a, s, n);
}

void http_api_on_change(struct http_api *a, const char *instance, int64_t revision)
{
    if (list_empty(&a->streams))
        return;
    size_t len;
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_note(&w, root, "instance", instance);
    json_write_int(&w, root, "revision", revision);
    char *data = json_write_finish_alloc(&w, root, &len);
    if (data)
        http_api_tell(a, instance, "change", data, len);
    free(data);
}

void http_api_on_event(struct http_api *a, const char *instance, enum failover_level level, const char *text)
{
    assert(level <= FAILOVER_ERROR);
    size_t len;
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "at", loop_wall_ms());
    json_write_note(&w, root, "instance", instance);
    json_write_text(&w, root, "level", level_names[level]);
    json_write_note(&w, root, "text", text);
    char *data = json_write_finish_alloc(&w, root, &len);
    if (!data)
        return; /* out of memory: the log has it */
    struct http_api_event *e = &a->recent[a->n_events++ % HTTP_API_RECENT_MAX];
    free(e->data);
    e->data = data;
    e->len = len;
    snprintf(e->instance, sizeof(e->instance), "%s", instance);
    http_api_tell(a, instance, "report", data, len);
}

void http_api_on_leader(struct http_api *a, const char *leader)
{
    char data[TOPOLOGY_NAME_MAX + 32];
    assert(leader[0] == '\0' || topology_name_check(leader) == 0); /* so that it needs no escaping */
    int len = snprintf(data, sizeof(data), "{\"leader\":\"%s\"}", leader);
    http_api_tell(a, "", "leader", data, (size_t)len);
}

void http_api_forget_events(struct http_api *a)
{
    for (size_t k = 0; k < HTTP_API_RECENT_MAX; k++)
        free(a->recent[k].data);
}
