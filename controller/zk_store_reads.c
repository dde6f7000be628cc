#include "common/log.h"
#include "common/loop.h"
#include "controller/zk_store_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads for people: children of a folder ─► a get each (ZK_STORE_OUTSTANDING at once) ─► decoded, in order.
 */

enum zk_store_read_kind { ZK_STORE_HISTORY, ZK_STORE_CONTROLLERS, ZK_STORE_PROXIES };

struct zk_store_read;

struct zk_store_read_item {
    struct zk_store_read *read;
    bool good;
    char *name;
};

struct zk_store_read {
    struct list node; /* store->reads */
    struct zk_store *store;
    enum zk_store_read_kind kind;
    char folder[ZK_STORE_PATH_MAX];
    size_t limit; /* of entries */
    size_t n, next, pending;
    int err; /* the first failure */
    struct zk_store_read_item *items;
    char *values; /* n of zk_store_value_size() */
    zk_store_history_fn on_history;
    zk_store_controllers_fn on_controllers;
    zk_store_proxies_fn on_proxies;
    void *ctx;
};

static size_t zk_store_value_size(enum zk_store_read_kind kind)
{
    switch (kind) {
    case ZK_STORE_HISTORY:
        return sizeof(struct topology_history);
    case ZK_STORE_CONTROLLERS:
        return sizeof(struct topology_controller);
    case ZK_STORE_PROXIES:
        return sizeof(struct topology_proxy);
    }
    return 0;
}

static void zk_store_read_free(struct zk_store_read *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->items[i].name);
    list_remove(&r->node);
    free(r->items);
    free(r->values);
    free(r);
}

void zk_store_reads_free(struct zk_store *s)
{
    list_for_each(node, &s->reads) zk_store_read_free(list_entry(node, struct zk_store_read, node));
}

/* Moves the good values together. */
static size_t zk_store_read_pack(struct zk_store_read *r)
{
    size_t size = zk_store_value_size(r->kind), n = 0;

    for (size_t i = 0; i < r->n; i++) {
        if (r->items[i].good) {
            memmove(r->values + n * size, r->values + i * size, size);
            n++;
        }
    }
    return n;
}

static void zk_store_read_finish(struct zk_store_read *r)
{
    int err = r->err;
    size_t n = err == 0 ? zk_store_read_pack(r) : 0;
    void *values = n > 0 ? r->values : NULL;

    /* Out of the list first: whoever is called may close the store. */
    list_remove(&r->node);
    switch (r->kind) {
    case ZK_STORE_HISTORY:
        r->on_history(r->ctx, err, values, n);
        break;
    case ZK_STORE_CONTROLLERS:
        r->on_controllers(r->ctx, err, values, n);
        break;
    case ZK_STORE_PROXIES:
        r->on_proxies(r->ctx, err, values, n);
        break;
    }
    zk_store_read_free(r);
}

static int zk_store_read_decode(const struct zk_store_read *r, void *value, const char *data, size_t len,
                                char *why, size_t why_size)
{
    switch (r->kind) {
    case ZK_STORE_HISTORY:
        return topology_decode_history(data, len, value, why, why_size);
    case ZK_STORE_CONTROLLERS:
        return topology_decode_controller(data, len, value, why, why_size);
    case ZK_STORE_PROXIES:
        return topology_decode_proxy(data, len, value, why, why_size);
    }
    return ERR_INVALID;
}

static void zk_store_read_pump(struct zk_store_read *r);

static void zk_store_on_read_data(void *ctx, int err, const char *data, size_t len,
                                  const struct zk_stat *stat)
{
    struct zk_store_read_item *item = ctx;
    struct zk_store_read *r = item->read;
    char *value = r->values + (size_t)(item - r->items) * zk_store_value_size(r->kind);
    char why[256] = "";

    (void)stat;
    r->pending--;
    if (err == 0) {
        item->good = zk_store_read_decode(r, value, data, len, why, sizeof(why)) == 0;
        if (!item->good)
            log_warn("event=zk_store.corrupt znode=%s/%s why=\"%s\" say=\"left out\"", r->folder, item->name,
                     why);
    } else if (err != ERR_NOT_FOUND && r->err == 0) { /* gone meanwhile is no failure */
        r->err = err;
    }
    zk_store_read_pump(r);
}

/* Sends what may be sent; ends the read when nothing is left. */
static void zk_store_read_pump(struct zk_store_read *r)
{
    char path[ZK_STORE_PATH_MAX * 2];

    while (r->err == 0 && r->next < r->n && r->pending < ZK_STORE_OUTSTANDING) {
        struct zk_store_read_item *item = &r->items[r->next++];

        if (strlen(item->name) >= ZK_STORE_PATH_MAX)
            continue; /* none of ours */
        (void)snprintf(path, sizeof(path), "%s/%s", r->folder, item->name);
        r->err = zk_get(r->store->zk, path, NULL, zk_store_on_read_data, item);
        if (r->err == 0)
            r->pending++;
    }
    if (r->pending == 0)
        zk_store_read_finish(r);
}

static int zk_store_read_compare(const void *a, const void *b)
{
    return strcmp(((const struct zk_store_read_item *)a)->name, ((const struct zk_store_read_item *)b)->name);
}

static int zk_store_read_compare_newest(const void *a, const void *b)
{
    return zk_store_read_compare(b, a);
}

static int zk_store_read_keep(struct zk_store_read *r, const char *const *names, size_t n)
{
    r->items = calloc(n + 1, sizeof(*r->items));
    if (r->items == NULL)
        return ERR_NOMEM;
    for (; r->n < n; r->n++) {
        r->items[r->n].read = r;
        r->items[r->n].name = strdup(names[r->n]);
        if (r->items[r->n].name == NULL)
            return ERR_NOMEM;
    }
    qsort(r->items, n, sizeof(*r->items),
          r->kind == ZK_STORE_HISTORY ? zk_store_read_compare_newest : zk_store_read_compare);
    while (r->n > r->limit)
        free(r->items[--r->n].name);
    r->values = calloc(r->n + 1, zk_store_value_size(r->kind));
    return r->values != NULL ? 0 : ERR_NOMEM;
}

static void zk_store_on_read_list(void *ctx, int err, const char *const *names, size_t n,
                                  const struct zk_stat *stat)
{
    struct zk_store_read *r = ctx;

    (void)stat;
    r->err = err != 0 ? err : zk_store_read_keep(r, names, n);
    zk_store_read_pump(r);
}

static int zk_store_read_begin(struct zk_store *s, const struct zk_store_read *like)
{
    struct zk_store_read *r = malloc(sizeof(*r));
    int err;

    if (r == NULL)
        return ERR_NOMEM;
    *r = *like;
    r->store = s;
    list_push_back(&s->reads, &r->node);
    err = zk_children(s->zk, r->folder, NULL, zk_store_on_read_list, r);
    if (err != 0)
        zk_store_read_free(r);
    return err;
}

int zk_store_read_history(struct zk_store *s, const char *name, size_t limit, zk_store_history_fn done,
                          void *ctx)
{
    struct zk_store_read like = {.kind = ZK_STORE_HISTORY, .limit = limit, .on_history = done, .ctx = ctx};

    if (topology_name_check(name) != 0)
        return ERR_INVALID;
    (void)snprintf(like.folder, sizeof(like.folder), "/history/%s", name);
    return zk_store_read_begin(s, &like);
}

int zk_store_read_controllers(struct zk_store *s, zk_store_controllers_fn done, void *ctx)
{
    struct zk_store_read like = {.kind = ZK_STORE_CONTROLLERS,
                                 .folder = "/controllers",
                                 .limit = SIZE_MAX,
                                 .on_controllers = done,
                                 .ctx = ctx};

    return zk_store_read_begin(s, &like);
}

int zk_store_read_proxies(struct zk_store *s, zk_store_proxies_fn done, void *ctx)
{
    struct zk_store_read like = {
        .kind = ZK_STORE_PROXIES, .folder = "/proxies", .limit = SIZE_MAX, .on_proxies = done, .ctx = ctx};

    return zk_store_read_begin(s, &like);
}
