/* Orders that are answered later, by the engine or the store.
 *
 *   handler ─ begin ─► engine_command, zk_store_… ─► on_ordered, on_stored ─► 200 {"instance","message"}, or
 * why not
 *
 * An order outlives the API when the server is closed before the engine has answered: it then has no request.
 */
#include "common/core/json_write.h"
#include "controller/engine.h"
#include "controller/http_api_private.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_api_order {
    struct list node; /* in api->orders */
    struct http_api *api;
    struct http_request *request; /* NULL: nobody is to be told any more */
    char name[TOPOLOGY_NAME_MAX + 1];
    bool is_stores;                   /* the store carries it out, not the engine */
    char done[FAILOVER_TEXT_MAX + 1]; /* is_stores: what to say once it is */
};

static const struct {
    int err, status;
    const char *code;
} order_answers[] = {
    {ERR_REJECTED, 409, "refused"},    {ERR_TIMEOUT, 409, "rolled_back"}, {ERR_NOT_FOUND, 404, "not_found"},
    {ERR_INVALID, 400, "bad_request"}, {ERR_BUSY, 409, "busy"},           {ERR_BAD_VERSION, 409, "conflict"},
    {ERR_DEPOSED, 503, "deposed"},     {ERR_CANCELLED, 503, "cancelled"}, {ERR_CONNECTION, 503, "zookeeper"},
    {ERR_SESSION, 503, "zookeeper"},
};

struct http_api_order *http_api_order_begin(struct http_api *a, struct http_request *r, const char *name)
{
    struct http_api_order *o = calloc(1, sizeof(*o));
    if (!o) {
        http_answer_error(r, 503, "no_memory", "controller %s is out of memory", a->id);
        return NULL;
    }
    o->api = a;
    o->request = r;
    snprintf(o->name, sizeof(o->name), "%s", name);
    list_push_back(&a->orders, &o->node);
    return o;
}

static void http_api_answer_done(struct http_api_order *o, const char *text)
{
    size_t len;
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    if (o->name[0] != '\0')
        json_write_text(&w, root, "instance", o->name);
    json_write_note(&w, root, "message", text);
    char *json = json_write_finish_alloc(&w, root, &len);
    if (json)
        http_answer(o->request, 200, NULL, json, len);
    else
        http_answer_error(o->request, 503, "no_memory", "it was done, but controller %s is out of memory",
                          o->api->id);
    free(json);
}

static void http_api_order_end(struct http_api_order *o, int err, const char *text)
{
    int status = 503;
    const char *code = "failed";
    for (size_t k = 0; k < sizeof(order_answers) / sizeof(order_answers[0]); k++) {
        if (order_answers[k].err == err) {
            status = order_answers[k].status;
            code = order_answers[k].code;
        }
    }
    if (!o->request) {
        free(o);
        return;
    }
    if (err == 0)
        http_api_answer_done(o, text);
    else
        http_answer_error(o->request, status, code, "%s", text[0] != '\0' ? text : err_text(err));
    list_remove(&o->node);
    free(o);
}

void http_api_on_ordered(void *ctx, int err, const char *text)
{
    http_api_order_end(ctx, err, text ? text : "");
}

void http_api_order_say(struct http_api_order *o, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(o->done, sizeof(o->done), fmt, args);
    va_end(args);
    o->is_stores = true;
}

void http_api_on_stored(void *ctx, int err)
{
    struct http_api_order *o = ctx;
    http_api_order_end(o, err, err == 0 ? o->done : "");
}

void http_api_forget_orders(struct http_api *a)
{
    list_for_each(node, &a->orders)
    {
        struct http_api_order *o = list_entry(node, struct http_api_order, node);
        list_remove(node);
        o->request = NULL;
        if (o->is_stores)
            free(o); /* the store has been closed and calls back no more; the engine will */
    }
}
