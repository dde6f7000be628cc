/* The GET handlers: gather from engine and store, render with core/view, answer. */
#include "common/log.h"
#include "common/loop.h"
#include "controller/core/view.h"
#include "controller/engine.h"
#include "controller/http_api_private.h"
#include "controller/zk_store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HISTORY_PER_INSTANCE = 20, HISTORY_OF_ONE = 100, HISTORY_IN_ALL = 200 };

/* Takes ownership of text (NULL: out of memory). */
static void http_api_answer_text_as(struct http_api *a, struct http_request *r, const char *content_type,
                                    char *text, size_t len)
{
    if (text)
        http_answer(r, 200, content_type, text, len);
    else
        http_answer_error(r, 503, "no_memory", "controller %s is out of memory", a->id);
    free(text);
}

static void http_api_answer_text(struct http_api *a, struct http_request *r, char *text, size_t len)
{
    http_api_answer_text_as(a, r, NULL, text, len);
}

static void http_api_answer_away(struct http_api *a, struct http_request *r, int err)
{
    http_answer_error(r, 503, "zookeeper", "controller %s can't read ZooKeeper: %s", a->id, err_text(err));
}

void http_api_get_health(struct http_api *a, struct http_request *r, const char *name)
{
    char text[256];
    (void)name;
    bool leads = engine_term(a->engine) != 0;
    bool connected = zk_store_is_connected(a->store);
    const char *role = a->stopping ? "stopping" : leads ? "leader" : connected ? "standby" : "no ZooKeeper";
    int len =
        snprintf(text, sizeof(text), "{\"id\":\"%s\",\"role\":\"%s\",\"zookeeper\":%s,\"instances\":%u}",
                 a->id, role, connected ? "true" : "false", engine_count(a->engine));
    http_answer(r, a->stopping ? 503 : 200, NULL, text, (size_t)len);
}

/* ---- topology, instances --------------------------------------------------------------------------------
 */

struct http_api_gather {
    struct http_api *api;
    struct view_instance *instances;
    size_t n_instances;
    struct view_set_aside *set_aside;
    size_t n_set_aside;
    const char *only; /* NULL: all */
};

static void http_api_view_of(struct http_api *a, const struct engine_view *v, struct view_instance *out)
{
    bool acked = v->acks->epoch == v->failover->record.epoch;
    struct failover_plan plan;
    memset(out, 0, sizeof(*out));
    out->record = &v->failover->record;
    out->failover = v->failover;
    out->revision = v->failover->revision;
    out->acked = acked ? (int32_t)v->acks->n : VIEW_UNKNOWN; /* it switched before we led */
    out->slowest_us = acked && v->acks->n > 0 ? v->acks->slowest_us : VIEW_UNKNOWN;
    out->missing = acked ? v->acks->missing : NULL;
    out->holding = v->strict ? (int32_t)v->strict->n : VIEW_UNKNOWN;
    out->not_holding = v->strict ? v->strict->missing : NULL;
    out->orders = v->orders;
    out->now_us = loop_now_us(a->loop);
    out->wall_ms = loop_wall_ms();
    out->next = -1;
    if (engine_explain(a->engine, v->name, NULL, &plan) != 0)
        return;
    out->readiness = plan.ready ? VIEW_READY : VIEW_NOT_READY;
    out->next = plan.target;
    memcpy(out->verdict, plan.verdict, sizeof(plan.verdict));
}

static void http_api_gather_one(void *ctx, const struct engine_view *v)
{
    struct http_api_gather *g = ctx;
    if (g->only && strcmp(g->only, v->name) != 0)
        return;
    if (v->corrupt) {
        g->set_aside[g->n_set_aside].name = v->name;
        g->set_aside[g->n_set_aside++].why = v->corrupt;
    } else if (v->failover->has_record) {
        http_api_view_of(g->api, v, &g->instances[g->n_instances++]);
    }
}

/* What a read waits for: the number of registered proxies is ZooKeeper's to tell. */
struct http_api_read {
    struct http_api *api;
    struct http_request *request;
    char *(*render)(const struct view_topology *t, size_t *len);
    const char *content_type;         /* NULL: JSON */
    char name[TOPOLOGY_NAME_MAX + 1]; /* "": all */
};

static void http_api_render_topology(struct http_api_read *read, int32_t proxies)
{
    struct http_api *a = read->api;
    size_t count = engine_count(a->engine), len = 0;
    char *text = NULL;
    struct http_api_gather g = {.api = a, .only = read->name[0] != '\0' ? read->name : NULL};
    g.instances = calloc(count + 1, sizeof(*g.instances));
    g.set_aside = calloc(count + 1, sizeof(*g.set_aside));
    if (g.instances && g.set_aside) {
        const char *leader = zk_store_leader(a->store);
        engine_each(a->engine, http_api_gather_one, &g);
        struct view_topology t = {
            .revision = engine_revision(a->engine),
            .leader = leader[0] != '\0' ? leader : NULL,
            .source = a->id,
            .zookeeper_is_up = zk_store_is_connected(a->store),
            .pause = a->pause.owner[0] != '\0' ? &a->pause : NULL,
            .wall_ms = loop_wall_ms(),
            .proxies = proxies,
            .leads = engine_term(a->engine) != 0,
            .instances = g.instances,
            .n_instances = g.n_instances,
            .set_aside = g.set_aside,
            .n_set_aside = g.n_set_aside,
        };
        text = read->render(&t, &len);
    }
    http_api_answer_text_as(a, read->request, read->content_type, text, len);
    free(g.instances);
    free(g.set_aside);
}

static void http_api_on_proxy_count(void *ctx, int err, const struct topology_proxy *list, size_t n)
{
    struct http_api_read *read = ctx;
    (void)list;
    http_api_render_topology(read, err == 0 ? (int32_t)n : VIEW_UNKNOWN);
    free(read);
}

static void http_api_read_topology(struct http_api *a, struct http_request *r, const char *name,
                                   char *(*render)(const struct view_topology *t, size_t *len),
                                   const char *content_type)
{
    struct http_api_read *read = calloc(1, sizeof(*read));
    if (!read) {
        http_api_answer_text(a, r, NULL, 0);
        return;
    }
    read->api = a;
    read->request = r;
    read->render = render;
    read->content_type = content_type;
    if (name)
        snprintf(read->name, sizeof(read->name), "%s", name);
    if (zk_store_read_proxies(a->store, http_api_on_proxy_count, read) != 0)
        http_api_on_proxy_count(read, ERR_CONNECTION, NULL, 0);
}

void http_api_get_topology(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    http_api_read_topology(a, r, http_request_query(r, "instance"), view_topology, NULL);
}

void http_api_get_instances(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    http_api_read_topology(a, r, NULL, view_instances, NULL);
}

void http_api_get_metrics(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    http_api_read_topology(a, r, NULL, view_metrics, "text/plain; version=0.0.4");
}

static void http_api_on_proxy_count_of_one(void *ctx, int err, const struct topology_proxy *list, size_t n)
{
    struct http_api_read *read = ctx;
    struct engine_view v;
    size_t len = 0;
    (void)list;
    if (http_api_find(read->api, read->request, read->name, &v)) {
        struct view_instance one;
        http_api_view_of(read->api, &v, &one);
        char *text = view_instance(&one, err == 0 ? (int32_t)n : VIEW_UNKNOWN, &len);
        http_api_answer_text(read->api, read->request, text, len);
    }
    free(read);
}

void http_api_get_instance(struct http_api *a, struct http_request *r, const char *name)
{
    struct http_api_read *read = calloc(1, sizeof(*read));
    if (topology_name_check(name) != 0) {
        http_answer_error(r, 400, "bad_name", "an instance name is 1 to 64 of A-Z a-z 0-9 . _ -");
        free(read);
        return;
    }
    if (!read) {
        http_api_answer_text(a, r, NULL, 0);
        return;
    }
    read->api = a;
    read->request = r;
    memcpy(read->name, name, strlen(name) + 1);
    if (zk_store_read_proxies(a->store, http_api_on_proxy_count_of_one, read) != 0)
        http_api_on_proxy_count_of_one(read, ERR_CONNECTION, NULL, 0);
}

/* ---- controllers, proxies -------------------------------------------------------------------------------
 */

static void http_api_on_controllers(void *ctx, int err, const struct topology_controller *list, size_t n)
{
    struct http_api_read *read = ctx;
    struct http_api *a = read->api;
    struct view_controller *v = calloc(n + 1, sizeof(*v));
    size_t len = 0;
    for (size_t k = 0; v && k < n; k++) {
        v[k].controller = &list[k];
        v[k].leads = strcmp(list[k].id, zk_store_leader(a->store)) == 0;
    }
    if (err != 0) {
        http_api_answer_away(a, read->request, err);
    } else {
        char *text = v ? view_controllers(v, n, &len) : NULL;
        http_api_answer_text(a, read->request, text, len);
    }
    free(v);
    free(read);
}

void http_api_get_controllers(struct http_api *a, struct http_request *r, const char *name)
{
    struct http_api_read *read = calloc(1, sizeof(*read));
    (void)name;
    if (!read) {
        http_api_answer_text(a, r, NULL, 0);
        return;
    }
    read->api = a;
    read->request = r;
    int err = zk_store_read_controllers(a->store, http_api_on_controllers, read);
    if (err != 0)
        http_api_on_controllers(read, err, NULL, 0);
}

static void http_api_on_proxies(void *ctx, int err, const struct topology_proxy *list, size_t n)
{
    struct http_api_read *read = ctx;
    struct http_api *a = read->api;
    struct view_proxy *v = calloc(n + 1, sizeof(*v));
    size_t len = 0;
    for (size_t k = 0; v && k < n; k++) {
        v[k].proxy = &list[k];
        v[k].behind = engine_proxy_behind(a->engine, list[k].id);
    }
    if (err != 0) {
        http_api_answer_away(a, read->request, err);
    } else {
        char *text = v ? view_proxies(v, n, &len) : NULL;
        http_api_answer_text(a, read->request, text, len);
    }
    free(v);
    free(read);
}

void http_api_get_proxies(struct http_api *a, struct http_request *r, const char *name)
{
    struct http_api_read *read = calloc(1, sizeof(*read));
    (void)name;
    if (!read) {
        http_api_answer_text(a, r, NULL, 0);
        return;
    }
    read->api = a;
    read->request = r;
    int err = zk_store_read_proxies(a->store, http_api_on_proxies, read);
    if (err != 0)
        http_api_on_proxies(read, err, NULL, 0);
}

/* ---- history --------------------------------------------------------------------------------------------
 */

/* One instance after the other; the newest HISTORY_IN_ALL of all of them are shown. */
struct http_api_history {
    struct http_api *api;
    struct http_request *request;
    char (*names)[TOPOLOGY_NAME_MAX + 1];
    size_t n_names, next, limit;
    struct http_api_entry {
        const char *instance;
        struct topology_history entry;
    } * entries;
    size_t n_entries;
};

static void http_api_history_free(struct http_api_history *h)
{
    free(h->names);
    free(h->entries);
    free(h);
}

static int http_api_newer(const void *x, const void *y)
{
    const struct http_api_entry *a = x, *b = y;
    return a->entry.at_ms < b->entry.at_ms ? 1 : a->entry.at_ms > b->entry.at_ms ? -1 : 0;
}

static void http_api_history_answer(struct http_api_history *h)
{
    size_t len = 0, n = h->n_entries;
    struct view_history *v = calloc(n + 1, sizeof(*v));
    if (n > 1)
        qsort(h->entries, n, sizeof(h->entries[0]), http_api_newer);
    if (n > HISTORY_IN_ALL)
        n = HISTORY_IN_ALL;
    for (size_t k = 0; v && k < n; k++) {
        v[k].instance = h->entries[k].instance;
        v[k].entry = &h->entries[k].entry;
    }
    char *text = v ? view_history(v, n, &len) : NULL;
    http_api_answer_text(h->api, h->request, text, len);
    free(v);
    http_api_history_free(h);
}

static void http_api_history_next(struct http_api_history *h);

static void http_api_on_history(void *ctx, int err, const struct topology_history *entries, size_t n)
{
    struct http_api_history *h = ctx;
    struct http_api_entry *more = NULL;
    if (err == 0 && n > 0)
        more = realloc(h->entries, (h->n_entries + n) * sizeof(*more));
    if (more) {
        h->entries = more;
        for (size_t k = 0; k < n; k++) {
            more[h->n_entries].instance = h->names[h->next - 1];
            more[h->n_entries++].entry = entries[k];
        }
    }
    if (err != 0 && err != ERR_NOT_FOUND) {
        http_api_answer_away(h->api, h->request, err);
        http_api_history_free(h);
        return;
    }
    http_api_history_next(h);
}

static void http_api_history_next(struct http_api_history *h)
{
    if (h->next == h->n_names) {
        http_api_history_answer(h);
        return;
    }
    const char *name = h->names[h->next++];
    int err = zk_store_read_history(h->api->store, name, h->limit, http_api_on_history, h);
    if (err != 0) {
        http_api_answer_away(h->api, h->request, err);
        http_api_history_free(h);
    }
}

static void http_api_collect_name(void *ctx, const struct engine_view *v)
{
    struct http_api_history *h = ctx;
    snprintf(h->names[h->n_names++], sizeof(h->names[0]), "%s", v->name);
}

void http_api_get_history(struct http_api *a, struct http_request *r, const char *name)
{
    const char *only = http_request_query(r, "instance");
    struct http_api_history *h = calloc(1, sizeof(*h));
    struct engine_view v;
    (void)name;
    if (h)
        h->names = calloc(engine_count(a->engine) + 1, sizeof(h->names[0]));
    if (!h || !h->names) {
        free(h);
        http_api_answer_text(a, r, NULL, 0);
        return;
    }
    h->api = a;
    h->request = r;
    h->limit = only ? HISTORY_OF_ONE : HISTORY_PER_INSTANCE;
    if (only && !engine_find(a->engine, only, &v)) {
        http_answer_error(r, 404, "not_found", "there is no instance %s", only);
        http_api_history_free(h);
        return;
    }
    if (only)
        snprintf(h->names[h->n_names++], sizeof(h->names[0]), "%s", only);
    else
        engine_each(a->engine, http_api_collect_name, h);
    http_api_history_next(h);
}
