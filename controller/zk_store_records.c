#include "common/log.h"
#include "common/loop.h"
#include "controller/zk_store_private.h"

#include <assert.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*   pass: sync ─► children of /instances ─► each record ─► waiting ─► get with a watch ─► decode ─► on_record
 *   watch of the folder ─► children ────────► new and vanished ones ──┘      ▲
 *   watch of a record, reload (after a sync) ────────────────────────────────┘
 *
 * At most ZK_STORE_OUTSTANDING gets are under way. A record that was listed or told once and is gone now is
 * found out in the same way as everything else: its get says so. */

struct zk_store_record {
    struct list all;     /* store->all */
    struct list waiting; /* store->waiting, or unlinked */
    struct zk_store *store;
    bool watched; /* a data watch is set: it holds our address until it fires or the session ends */
    bool reading;
    bool watching; /* the get under way carries the watch */
    bool again;    /* read once more after the get under way, which may be too old */
    bool forced;   /* tell the owner even when nothing has changed */
    bool told;     /* the owner knows of it */
    bool corrupt;
    bool in_pass;
    uint32_t syncs;   /* of its reloads, under way; it is read after the last one */
    uint64_t listed;  /* serial of the list that it was last in */
    int64_t revision; /* as last told */
    void (*done)(void *ctx, int err);
    void *ctx;
    char name[TOPOLOGY_NAME_MAX + 1];
};

static void zk_store_records_pump(struct zk_store *s);
static void zk_store_records_list(struct zk_store *s);

/* ---- the records that we know ----------------------------------------------------------------------------
 */

static int zk_store_records_compare(const void *a, const void *b)
{
    return strcmp(((const struct zk_store_record *)a)->name, ((const struct zk_store_record *)b)->name);
}

/* Finds or makes it; NULL when out of memory. */
static struct zk_store_record *zk_store_records_get(struct zk_store *s, const char *name)
{
    struct zk_store_record key, *r;
    void *found;

    assert(strlen(name) <= TOPOLOGY_NAME_MAX);
    (void)snprintf(key.name, sizeof(key.name), "%s", name);
    found = tfind(&key, &s->records, zk_store_records_compare);
    if (found != NULL)
        return *(struct zk_store_record **)found;
    r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->store = s;
    memcpy(r->name, key.name, sizeof(r->name));
    list_init(&r->waiting);
    if (tsearch(r, &s->records, zk_store_records_compare) == NULL) {
        free(r);
        return NULL;
    }
    list_push_back(&s->all, &r->all);
    return r;
}

/* Frees it unless something still has its address. */
static void zk_store_records_drop(struct zk_store_record *r)
{
    if (r->told || r->watched || r->reading || r->syncs > 0 || !list_empty(&r->waiting))
        return;
    list_remove(&r->all);
    (void)tdelete(r, &r->store->records, zk_store_records_compare);
    free(r);
}

static void zk_store_records_enqueue(struct zk_store_record *r)
{
    if (r->reading)
        r->again = true;
    else if (list_empty(&r->waiting))
        list_push_back(&r->store->waiting, &r->waiting);
}

static void zk_store_records_nomem(struct zk_store *s)
{
    log_error("event=zk_store.nomem say=\"out of memory while reading the instances; trying again\"");
    s->pass_retry = true;
    zk_store_retry_later(s);
}

/* ---- one record ------------------------------------------------------------------------------------------
 */

void zk_store_records_pass_ended(struct zk_store *s)
{
    struct zk_store_pass *pass = &s->pass;

    if (!pass->running || !pass->listed || pass->pending > 0 || s->pause.in_pass)
        return;
    pass->running = false;
    if (s->election.role == ELECTION_LEADER) {
        s->fresh = true;
        zk_store_tell_role(s);
    }
}

static void zk_store_records_leave_pass(struct zk_store_record *r)
{
    if (r->in_pass) {
        r->in_pass = false;
        r->store->pass.pending--;
    }
}

static void zk_store_records_tell(struct zk_store_record *r, const char *data, size_t len,
                                  const struct zk_stat *stat)
{
    const struct zk_store_config *config = &r->store->config;
    struct topology_instance record;
    char why[256] = "";

    if (r->told && r->revision == stat->mzxid && !r->forced)
        return;
    r->told = true;
    r->forced = false;
    r->revision = stat->mzxid;
    r->corrupt = topology_decode_instance(data, len, &record, why, sizeof(why)) != 0;
    if (!r->corrupt && strcmp(record.name, r->name) != 0) {
        r->corrupt = true;
        (void)snprintf(why, sizeof(why), "its name field says %s", record.name);
    }
    if (!r->corrupt) {
        config->on_record(config->ctx, &record, stat->version, stat->mzxid);
        return;
    }
    log_error("event=zk_store.corrupt instance=%s znode=/instances/%s why=\"%s\" say=\"this instance is left "
              "alone until its znode is repaired; the others go on\"",
              r->name, r->name, why);
    config->on_corrupt(config->ctx, r->name, why);
}

static void zk_store_records_gone(struct zk_store_record *r)
{
    const struct zk_store_config *config = &r->store->config;
    bool told = r->told;

    r->told = false;
    r->forced = false;
    r->revision = 0;
    if (told)
        config->on_removed(config->ctx, r->name);
}

static void zk_store_records_finish(struct zk_store_record *r, int err)
{
    void (*done)(void *ctx, int err) = r->done;

    r->done = NULL;
    if (done != NULL)
        done(r->ctx, err);
}

static void zk_store_records_on_watch(void *ctx, const char *path)
{
    struct zk_store_record *r = ctx;

    (void)path;
    r->watched = false;
    zk_store_records_enqueue(r);
    zk_store_records_pump(r->store);
}

static void zk_store_records_on_data(void *ctx, int err, const char *data, size_t len,
                                     const struct zk_stat *stat)
{
    struct zk_store_record *r = ctx;
    struct zk_store *s = r->store;

    r->reading = false;
    s->outstanding--;
    if (err != 0 && r->watching)
        r->watched = false; /* no watch was set */
    if (zk_store_is_lost(err)) {
        zk_store_records_finish(r, err);
        return; /* the pass after the reconnect reads it */
    }
    if (r->again || (err != 0 && err != ERR_NOT_FOUND)) {
        if (!r->again) {
            log_warn("event=zk_store.read_failed instance=%s err=%s say=\"%s; trying again\"", r->name,
                     err_name(err), err_text(err));
            zk_store_retry_later(s);
        }
        list_push_back(&s->waiting, &r->waiting);
        if (r->again)
            zk_store_records_pump(s);
        r->again = false;
        return;
    }
    zk_store_records_leave_pass(r);
    if (err == 0)
        zk_store_records_tell(r, data, len, stat);
    else
        zk_store_records_gone(r);
    zk_store_records_finish(r, err);
    zk_store_records_drop(r);
    zk_store_records_pass_ended(s);
    zk_store_records_pump(s);
}

static void zk_store_records_pump(struct zk_store *s)
{
    char path[ZK_STORE_PATH_MAX];
    struct list *node;

    while (s->connected && s->outstanding < ZK_STORE_OUTSTANDING &&
           (node = list_first(&s->waiting)) != NULL) {
        struct zk_store_record *r = list_entry(node, struct zk_store_record, waiting);
        int err;

        (void)snprintf(path, sizeof(path), "/instances/%s", r->name);
        err = zk_get(s->zk, path, r->watched ? NULL : zk_store_records_on_watch, zk_store_records_on_data, r);
        if (err != 0) {
            if (!zk_store_is_lost(err))
                zk_store_retry_later(s);
            return;
        }
        list_remove(node);
        r->watching = !r->watched;
        r->watched = true;
        r->reading = true;
        s->outstanding++;
    }
}

/* ---- the folder ------------------------------------------------------------------------------------------
 */

static void zk_store_records_on_folder_watch(void *ctx, const char *path)
{
    struct zk_store *s = ctx;

    (void)path;
    s->instances_watched = false;
    zk_store_records_list(s);
}

/* In a pass every record is read; otherwise new ones, and those that seem to have gone. */
static void zk_store_records_apply_list(struct zk_store *s, const char *const *names, size_t n, bool pass)
{
    s->list_serial++;
    for (size_t i = 0; i < n; i++) {
        struct zk_store_record *r;

        if (topology_name_check(names[i]) != 0) {
            log_error("event=zk_store.bad_name znode=\"/instances/%s\" say=\"not a legal instance name; "
                      "ignored\"",
                      names[i]);
            continue;
        }
        r = zk_store_records_get(s, names[i]);
        if (r == NULL) {
            zk_store_records_nomem(s);
            continue;
        }
        r->listed = s->list_serial;
        if (!r->told)
            zk_store_records_enqueue(r);
    }
    list_for_each(node, &s->all)
    {
        struct zk_store_record *r = list_entry(node, struct zk_store_record, all);

        if (pass && !r->in_pass) {
            r->in_pass = true;
            s->pass.pending++;
        }
        if (pass || r->listed != s->list_serial)
            zk_store_records_enqueue(r);
    }
}

static void zk_store_records_on_list(void *ctx, int err, const char *const *names, size_t n,
                                     const struct zk_stat *stat)
{
    struct zk_store *s = ctx;
    bool pass = s->pass.running && !s->pass.listed && s->pass.syncs == 0 && !s->list_again;

    (void)stat;
    s->listing = false;
    if (err != 0) {
        if (s->list_watching)
            s->instances_watched = false;
        s->list_again = false;
        if (!zk_store_is_lost(err)) {
            s->pass_retry = true;
            zk_store_list_failed(s, "/instances", err);
        }
        return;
    }
    if (s->list_again) {
        zk_store_records_list(s);
        return;
    }
    if (pass)
        s->pass.listed = true;
    zk_store_records_apply_list(s, names, n, pass);
    zk_store_records_pass_ended(s);
    zk_store_records_pump(s);
}

static void zk_store_records_list(struct zk_store *s)
{
    int err;

    s->list_again = s->listing;
    if (s->listing)
        return;
    err = zk_children(s->zk, "/instances", s->instances_watched ? NULL : zk_store_records_on_folder_watch,
                      zk_store_records_on_list, s);
    if (err == 0) {
        s->listing = true;
        s->list_watching = !s->instances_watched;
        s->instances_watched = true;
    } else if (!zk_store_is_lost(err)) {
        zk_store_records_nomem(s);
    }
}

/* ---- passes and reloads ----------------------------------------------------------------------------------
 */

static void zk_store_records_on_pass_sync(void *ctx, int err)
{
    struct zk_store *s = ctx;

    s->pass.syncs--;
    if (zk_store_is_lost(err))
        return;
    if (err != 0) {
        log_warn("event=zk_store.sync_failed err=%s say=\"%s; trying again\"", err_name(err), err_text(err));
        s->pass_retry = true;
        zk_store_retry_later(s);
        return;
    }
    if (s->pass.syncs > 0)
        return;
    zk_store_watches_pass(s);
    zk_store_records_list(s);
}

void zk_store_records_pass(struct zk_store *s)
{
    int err;

    s->pass_retry = false;
    s->pass.running = true;
    s->pass.listed = false;
    err = zk_sync(s->zk, zk_store_records_on_pass_sync, s);
    if (err == 0)
        s->pass.syncs++;
    else if (!zk_store_is_lost(err))
        zk_store_records_nomem(s);
}

static void zk_store_records_on_reload_sync(void *ctx, int err)
{
    struct zk_store_record *r = ctx;

    r->syncs--;
    if (r->syncs > 0 || zk_store_is_lost(err))
        return; /* lost: the pass after the reconnect reads it */
    zk_store_records_enqueue(r);
    zk_store_records_pump(r->store);
}

void zk_store_reload(struct zk_store *s, const char *name)
{
    struct zk_store_record *r;

    if (topology_name_check(name) != 0)
        return;
    r = zk_store_records_get(s, name);
    if (r == NULL) {
        zk_store_records_nomem(s);
        return;
    }
    r->forced = true;
    if (zk_sync(s->zk, zk_store_records_on_reload_sync, r) == 0)
        r->syncs++;
    else if (s->connected)
        zk_store_records_nomem(s);
}

void zk_store_records_read_new(struct zk_store *s, const char *name, void (*done)(void *ctx, int err),
                               void *ctx)
{
    struct zk_store_record *r = zk_store_records_get(s, name);

    if (r == NULL) {
        done(ctx, ERR_NOMEM);
        return;
    }
    assert(r->done == NULL); /* one create of a name can succeed until it is read */
    r->forced = true;
    r->done = done;
    r->ctx = ctx;
    zk_store_records_enqueue(r);
    zk_store_records_pump(s);
}

void zk_store_records_expired(struct zk_store *s)
{
    s->instances_watched = false;
    list_for_each(node, &s->all)
    {
        struct zk_store_record *r = list_entry(node, struct zk_store_record, all);

        r->watched = false;
        zk_store_records_drop(r);
    }
}

void zk_store_records_retry(struct zk_store *s)
{
    if (s->pass_retry)
        zk_store_records_pass(s);
    zk_store_records_pump(s);
}

void zk_store_records_free(struct zk_store *s)
{
    list_for_each(node, &s->all)
    {
        struct zk_store_record *r = list_entry(node, struct zk_store_record, all);

        list_remove(&r->all);
        (void)tdelete(r, &s->records, zk_store_records_compare);
        free(r);
    }
}
