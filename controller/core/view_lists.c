/* History, controllers and proxies as JSON; contract in view.h. */
#include "common/core/json_write.h"
#include "controller/core/view.h"
#include "controller/core/view_timeline.h"

#include <assert.h>

char *view_history(const struct view_history *entries, size_t n, size_t *len)
{
    assert(entries != NULL || n == 0);
    assert(len != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_t *history = json_write_array(&w);
    for (size_t k = 0; k < n; k++) {
        const struct topology_history *h = entries[k].entry;
        json_t *object = json_write_object(&w);
        json_write_text(&w, object, "instance", entries[k].instance);
        json_write_text(&w, object, "kind", topology_history_kind_name(h->kind));
        json_write_int(&w, object, "at", h->at_ms);
        json_write_u64(&w, object, "epoch", h->epoch);
        json_write_u64(&w, object, "term", h->term);
        json_write_int(&w, object, "row", h->row);
        json_write_address(&w, object, "from", &h->from);
        json_write_address(&w, object, "to", &h->to);
        if (h->lost_bytes != 0)
            json_write_int(&w, object, "lost_bytes", h->lost_bytes);
        if (h->verdict != TOPOLOGY_VERDICT_NONE)
            json_write_text(&w, object, "verdict", topology_verdict_name(h->verdict));
        json_write_note(&w, object, "evidence", h->evidence);
        if (h->kind == TOPOLOGY_HISTORY_FAILOVER)
            view_timeline_write(&w, object, &h->timeline);
        json_write_append(&w, history, object);
    }
    json_write_set(&w, root, "history", history);
    return json_write_finish_alloc(&w, root, len);
}

char *view_controllers(const struct view_controller *controllers, size_t n, size_t *len)
{
    assert(controllers != NULL || n == 0);
    assert(len != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_t *array = json_write_array(&w);
    for (size_t k = 0; k < n; k++) {
        const struct topology_controller *c = controllers[k].controller;
        json_t *object = json_write_object(&w);
        json_write_text(&w, object, "id", c->id);
        json_write_text(&w, object, "role", controllers[k].leads ? "leader" : "standby");
        json_write_text(&w, object, "host", c->host);
        json_write_int(&w, object, "http_port", c->http_port);
        json_write_int(&w, object, "pub_port", c->pub_port);
        json_write_int(&w, object, "ingest_port", c->ingest_port);
        if (c->vote_port != 0)
            json_write_int(&w, object, "vote_port", c->vote_port);
        json_write_note(&w, object, "version", c->version);
        json_write_int(&w, object, "started", c->started_ms);
        json_write_append(&w, array, object);
    }
    json_write_set(&w, root, "controllers", array);
    return json_write_finish_alloc(&w, root, len);
}

char *view_proxies(const struct view_proxy *proxies, size_t n, size_t *len)
{
    assert(proxies != NULL || n == 0);
    assert(len != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_t *array = json_write_array(&w);
    for (size_t k = 0; k < n; k++) {
        const struct topology_proxy *p = proxies[k].proxy;
        json_t *object = json_write_object(&w);
        json_write_text(&w, object, "id", p->id);
        json_write_text(&w, object, "bind", p->bind);
        json_write_int(&w, object, "threads", p->threads);
        json_write_note(&w, object, "version", p->version);
        json_write_int(&w, object, "started", p->started_ms);
        if (p->http[0] != '\0')
            json_write_text(&w, object, "http", p->http);
        if (proxies[k].behind != VIEW_UNKNOWN)
            json_write_int(&w, object, "behind", proxies[k].behind);
        json_write_append(&w, array, object);
    }
    json_write_set(&w, root, "proxies", array);
    return json_write_finish_alloc(&w, root, len);
}
