/*   directory_read ─► zk_children (watch) ─► a zk_get for each ─► on_list
 *                          ▲ the watch fires, or a record came or went meanwhile
 * An endpoint never changes while its ephemeral znode lives, so only the list is watched. */
#include "proxy/directory.h"

#include "common/log.h"
#include "common/zk_session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "/controllers"

/* One reading of the list; it is freed when its last answer is in, used or not. */
struct reading {
    struct directory *d;
    struct reading *next;
    size_t in_flight, n;
    struct topology_controller controllers[DIRECTORY_MAX];
};

struct directory {
    struct zk_session *zk;
    directory_fn on_list;
    void *ctx;
    bool watched;             /* the list's watch is set, or asked for */
    unsigned lists;           /* zk_children() under way */
    struct reading *newest;   /* the one that counts; NULL: none under way */
    struct reading *readings; /* all that are under way */
};

int directory_open(struct directory **out, struct zk_session *zk, directory_fn on_list, void *ctx)
{
    struct directory *d = calloc(1, sizeof(*d));

    assert(zk && on_list);
    if (!d)
        return ERR_NOMEM;
    d->zk = zk;
    d->on_list = on_list;
    d->ctx = ctx;
    *out = d;
    return 0;
}

/* It holds one answer open itself, until all its gets are sent. NULL: out of memory. */
static struct reading *reading_begin(struct directory *d)
{
    struct reading *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->d = d;
    r->in_flight = 1;
    r->next = d->readings;
    d->readings = d->newest = r;
    return r;
}

static void reading_free(struct reading *r)
{
    struct reading **at = &r->d->readings;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (r->d->newest == r)
        r->d->newest = NULL;
    free(r);
}

void directory_close(struct directory *d)
{
    if (!d)
        return;
    while (d->readings)
        reading_free(d->readings);
    free(d);
}

/* One of its answers is in; the last one completes it. */
static void reading_answered(struct reading *r)
{
    struct directory *d = r->d;

    assert(r->in_flight > 0);
    if (--r->in_flight > 0)
        return;
    if (d->newest == r)
        d->on_list(d->ctx, r->controllers, r->n);
    reading_free(r);
}

static void directory_on_get(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat)
{
    struct reading *r = ctx;
    char why[200];

    (void)stat;
    if (err == 0 && topology_decode_controller(data, len, &r->controllers[r->n], why, sizeof(why)) != 0)
        log_warn("event=directory.bad_record say=\"a record in %s can't be used: %s\"", FOLDER, why);
    else if (err == 0)
        r->n++;
    else if (err != ERR_NOT_FOUND && r->d->newest == r)
        r->d->newest = NULL; /* the connection is lost: the list is read again once it is back */
    reading_answered(r);
}

static int directory_get(struct reading *r, const char *name)
{
    char path[sizeof(FOLDER "/") + TOPOLOGY_NAME_MAX];

    snprintf(path, sizeof(path), FOLDER "/%s", name);
    int err = zk_get(r->d->zk, path, NULL, directory_on_get, r);
    if (err == 0)
        r->in_flight++;
    return err;
}

static void directory_on_children(void *ctx, int err, const char *const *names, size_t n,
                                  const struct zk_stat *stat)
{
    struct directory *d = ctx;

    (void)stat;
    if (err != 0)
        d->watched = false;
    assert(d->lists > 0);
    if (--d->lists > 0 || err != 0) /* a newer list is on its way, or will be once ZooKeeper is back */
        return;
    struct reading *r = reading_begin(d);
    for (size_t i = 0; r && i < n; i++) {
        if (i >= DIRECTORY_MAX || topology_name_check(names[i]) != 0)
            log_warn("event=directory.ignored controller=\"%s\" limit=%d say=\"not a legal name, or one too "
                     "many\"",
                     names[i], DIRECTORY_MAX);
        else if (directory_get(r, names[i]) != 0)
            d->newest = NULL;
    }
    if (r)
        reading_answered(r);
}

static void directory_on_changed(void *ctx, const char *path)
{
    struct directory *d = ctx;

    (void)path;
    d->watched = false;
    directory_read(d, false);
}

void directory_read(struct directory *d, bool fresh)
{
    if (fresh)
        d->watched = false;
    bool arm = !d->watched;
    if (zk_children(d->zk, FOLDER, arm ? directory_on_changed : NULL, directory_on_children, d) != 0)
        return; /* not connected: read once it is */
    d->lists++;
    d->watched = true;
}
