/*   snapshot_read ─► zk_sync ─► zk_children ─► names ─┬─► zk_get ─► record, bad ─┐ until none is left
 *                                                     └◄─────── next ◄───────────┘
 * Every call is a request; it knows the number of the read that it belongs to, so that what comes back for a
 * forgotten read is dropped. A request with a watch lives on, armed, until the watch fires. */
#include "proxy/snapshot.h"

#include "common/core/list.h"
#include "common/core/topology_codec.h"
#include "common/zk_session.h"

#include <assert.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "/instances"

enum { PATH_SIZE = sizeof(FOLDER "/") + TOPOLOGY_NAME_MAX };

typedef char name_text[TOPOLOGY_NAME_MAX + 1];

struct request {
    struct list node;
    struct snapshot *s;
    uint64_t read;  /* 0: after a watch, of no read */
    bool pending;   /* the answer is still to come */
    bool armed;     /* in the tree of watches: a watch was asked for, or is set */
    name_text name; /* "": the folder */
};

struct snapshot {
    struct snapshot_config config;
    struct list requests;
    uint64_t read; /* number of the newest read */
    bool reading, watch;
    name_text *names; /* of the read under way */
    size_t n_names, next, in_flight;
    void *armed; /* tsearch() tree of requests, by name: at most one watch for each znode */
};

int snapshot_open(struct snapshot **out, const struct snapshot_config *config)
{
    struct snapshot *s = calloc(1, sizeof(*s));

    assert(config->zk && config->on_record && config->on_bad && config->on_done && config->on_moved);
    if (!s)
        return ERR_NOMEM;
    s->config = *config;
    list_init(&s->requests);
    *out = s;
    return 0;
}

/* ---- requests and their watches ------------------------------------------------------------------------ */

static int request_compare(const void *a, const void *b)
{
    return strcmp(((const struct request *)a)->name, ((const struct request *)b)->name);
}

static struct request *request_begin(struct snapshot *s, uint64_t read, const char *name)
{
    struct request *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->s = s;
    r->read = read;
    r->pending = true;
    snprintf(r->name, sizeof(r->name), "%s", name);
    list_push_back(&s->requests, &r->node);
    return r;
}

/* Asks for a watch unless that znode has one. */
static void request_arm(struct request *r)
{
    void *node = tsearch(r, &r->s->armed, request_compare);

    r->armed = node && *(struct request **)node == r;
}

static void request_disarm(struct request *r)
{
    if (r->armed)
        tdelete(r, &r->s->armed, request_compare);
    r->armed = false;
}

static void request_free(struct request *r)
{
    request_disarm(r);
    list_remove(&r->node);
    free(r);
}

/* Its answer has come; err != 0: without one, or there is nothing to watch. */
static void request_answered(struct request *r, int err)
{
    r->pending = false;
    if (err != 0 || !r->armed)
        request_free(r);
}

static void request_keep(void *request)
{
    (void)request;
}

void snapshot_close(struct snapshot *s)
{
    if (!s)
        return;
    tdestroy(s->armed, request_keep); /* the tree alone; its requests are in the list */
    list_for_each(node, &s->requests) free(list_entry(node, struct request, node));
    free(s->names);
    free(s);
}

void snapshot_forget_watches(struct snapshot *s)
{
    list_for_each(node, &s->requests)
    {
        struct request *r = list_entry(node, struct request, node);
        request_disarm(r);
        if (!r->pending)
            request_free(r);
    }
}

/* Is its answer still of interest? */
static bool request_is_current(const struct request *r)
{
    return r->read == 0 || (r->s->reading && r->read == r->s->read);
}

/* ---- records ------------------------------------------------------------------------------------------- */

void snapshot_cancel(struct snapshot *s)
{
    s->reading = false;
    free(s->names);
    s->names = NULL;
    s->n_names = s->next = s->in_flight = 0;
}

static void snapshot_end(struct snapshot *s, int err)
{
    assert(s->reading);
    snapshot_cancel(s);
    s->config.on_done(s->config.ctx, err);
}

static void snapshot_record(struct snapshot *s, const struct request *r, const char *data, size_t len,
                            const struct zk_stat *stat)
{
    struct topology_instance instance;
    char why[200];

    if (topology_decode_instance(data, len, &instance, why, sizeof(why)) != 0)
        s->config.on_bad(s->config.ctx, r->name, why);
    else if (strcmp(instance.name, r->name) != 0)
        s->config.on_bad(s->config.ctx, r->name, "the record names another instance");
    else
        s->config.on_record(s->config.ctx, &instance, (uint64_t)stat->mzxid, r->read != 0);
}

static int snapshot_get(struct snapshot *s, uint64_t read, const char *name);

/* Keeps the window full; ends the read when nothing is left. */
static void snapshot_go_on(struct snapshot *s)
{
    while (s->next < s->n_names && s->in_flight < SNAPSHOT_WINDOW) {
        int err = snapshot_get(s, s->read, s->names[s->next]);
        if (err != 0) {
            snapshot_end(s, err);
            return;
        }
        s->next++;
        s->in_flight++;
    }
    if (s->in_flight == 0)
        snapshot_end(s, 0);
}

static void snapshot_on_get(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat)
{
    struct request *r = ctx;
    struct snapshot *s = r->s;
    bool current = request_is_current(r), of_read = r->read != 0;

    if (current && err == 0)
        snapshot_record(s, r, data, len, stat);
    request_answered(r, err);
    if (!current || !of_read)
        return;
    assert(s->in_flight > 0);
    s->in_flight--;
    if (err != 0 && err != ERR_NOT_FOUND) /* not found: deleted meanwhile */
        snapshot_end(s, err);
    else
        snapshot_go_on(s);
}

static void snapshot_on_changed(void *ctx, const char *path)
{
    struct request *r = ctx;
    struct snapshot *s = r->s;
    name_text name;

    (void)path;
    assert(r->armed && !r->pending);
    memcpy(name, r->name, sizeof(name));
    request_free(r);
    if (!s->watch)
        return;
    /* What can't be asked for now is read with all the rest once the connection is back. */
    if (name[0] == '\0' || snapshot_get(s, 0, name) != 0)
        s->config.on_moved(s->config.ctx);
}

static int snapshot_get(struct snapshot *s, uint64_t read, const char *name)
{
    char path[PATH_SIZE];
    struct request *r = request_begin(s, read, name);

    if (!r)
        return ERR_NOMEM;
    if (s->watch)
        request_arm(r);
    snprintf(path, sizeof(path), FOLDER "/%s", name);
    int err = zk_get(s->config.zk, path, r->armed ? snapshot_on_changed : NULL, snapshot_on_get, r);
    if (err != 0)
        request_free(r);
    return err;
}

/* ---- one read ------------------------------------------------------------------------------------------ */

/* Keeps the legal names; what isn't one can't be an instance, and is named. */
static int snapshot_keep_names(struct snapshot *s, const char *const *names, size_t n)
{
    assert(!s->names);
    s->names = calloc(n ? n : 1, sizeof(name_text));
    if (!s->names)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        if (topology_name_check(names[i]) == 0)
            snprintf(s->names[s->n_names++], sizeof(name_text), "%s", names[i]);
        else
            s->config.on_bad(s->config.ctx, names[i], "not a legal instance name");
    }
    return 0;
}

static void snapshot_on_children(void *ctx, int err, const char *const *names, size_t n,
                                 const struct zk_stat *stat)
{
    struct request *r = ctx;
    struct snapshot *s = r->s;
    bool current = request_is_current(r);

    (void)stat;
    request_answered(r, err);
    if (!current)
        return;
    if (err == 0)
        err = snapshot_keep_names(s, names, n);
    if (err == 0)
        snapshot_go_on(s);
    else
        snapshot_end(s, err);
}

static void snapshot_on_sync(void *ctx, int err)
{
    struct request *r = ctx;
    struct snapshot *s = r->s;
    bool current = request_is_current(r);

    request_answered(r, err);
    if (!current)
        return;
    struct request *list = err == 0 ? request_begin(s, s->read, "") : NULL;
    if (!list) {
        snapshot_end(s, err != 0 ? err : ERR_NOMEM);
        return;
    }
    if (s->watch)
        request_arm(list);
    err = zk_children(s->config.zk, FOLDER, list->armed ? snapshot_on_changed : NULL, snapshot_on_children,
                      list);
    if (err != 0) {
        request_free(list);
        snapshot_end(s, err);
    }
}

int snapshot_read(struct snapshot *s, bool watch)
{
    snapshot_cancel(s);
    struct request *r = request_begin(s, ++s->read, "");
    if (!r)
        return ERR_NOMEM;
    s->watch = watch;
    int err = zk_sync(s->config.zk, snapshot_on_sync, r);
    if (err != 0)
        request_free(r);
    s->reading = err == 0;
    return err;
}
