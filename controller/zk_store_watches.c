#include "common/core/pause_codec.h"
#include "common/log.h"
#include "common/loop.h"
#include "controller/zk_store_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*   pass, children's watch, a value's watch ─► children ─► [a get each] ─► changed? ─► on_controllers,
 * on_proxies pass, watch of /pause ─► exists with a watch ─► get ─► changed? ─► on_maintenance
 *
 * One read of a folder is under way at a time, and the next one begins no sooner than 50 ms after it began:
 * a thousand proxies that start together are read twenty times a second, not a thousand times. */

enum { ZK_STORE_PACE_US = 50000 };

static void zk_store_folder_read(struct zk_store_folder *f);

/* ---- telling ---------------------------------------------------------------------------------------------
 */

static void zk_store_folder_clear(struct zk_store_folder *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->names[i]);
    free(f->names);
    free(f->values);
    f->names = NULL;
    f->values = NULL;
    f->n = f->next = f->n_values = 0;
}

/* What is to be told as one block of bytes, for comparison with the last one; NULL: out of memory. */
static char *zk_store_folder_flatten(const struct zk_store_folder *f, size_t *len)
{
    char *flat, *at;

    *len = f->n_values * sizeof(*f->values);
    for (size_t i = 0; !f->has_values && i < f->n; i++)
        *len += strlen(f->names[i]) + 1;
    flat = at = malloc(*len + 1);
    if (flat == NULL)
        return NULL;
    if (f->n_values > 0)
        memcpy(flat, f->values, *len);
    for (size_t i = 0; !f->has_values && i < f->n; i++)
        at = stpcpy(at, f->names[i]) + 1;
    return flat;
}

/* The owner may close the store. */
static void zk_store_folder_tell(struct zk_store_folder *f)
{
    const struct zk_store_config *config = &f->store->config;
    size_t len;
    char *flat = zk_store_folder_flatten(f, &len);

    if (flat != NULL && f->told != NULL && len == f->told_len && memcmp(flat, f->told, len) == 0) {
        free(flat);
        return;
    }
    free(f->told);
    f->told = flat;
    f->told_len = len;
    if (f->has_values && config->on_controllers != NULL)
        config->on_controllers(config->ctx, f->values, f->n_values);
    if (!f->has_values && config->on_proxies != NULL)
        config->on_proxies(config->ctx, (const char *const *)f->names, f->n);
}

static bool zk_store_folder_has_us(const struct zk_store_folder *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->names[i], f->store->self.id) == 0)
            return true;
    return false;
}

static void zk_store_folder_finish(struct zk_store_folder *f, int err)
{
    f->reading = false;
    if (err == 0 && f->has_values && !zk_store_folder_has_us(f))
        zk_store_register_again(f->store);
    if (err == 0)
        zk_store_folder_tell(f);
    zk_store_folder_clear(f);
    if (f->store->zk == NULL || zk_store_is_lost(err)) { /* lost: the pass after the reconnect reads it */
        f->again = false;
        return;
    }
    if (err != 0) {
        f->retry = true;
        zk_store_list_failed(f->store, f->path, err);
    }
    if (f->again) {
        f->again = false;
        zk_store_folder_read(f);
    }
}

/* ---- values ----------------------------------------------------------------------------------------------
 */

/* The place of that name among the values with a watch; "" finds a free one. NULL: none. */
static char *zk_store_folder_watched(struct zk_store_folder *f, const char *name)
{
    for (int i = 0; i < ZK_STORE_VALUES_WATCHED; i++) {
        if (strcmp(f->values_watched[i], name) == 0)
            return f->values_watched[i];
    }
    return NULL;
}

static void zk_store_folder_on_value_watch(void *ctx, const char *path)
{
    struct zk_store_folder *f = ctx;
    char *watched = zk_store_folder_watched(f, path + strlen(f->path) + 1);

    if (watched != NULL)
        watched[0] = '\0';
    zk_store_folder_read(f);
}

static void zk_store_folder_next(struct zk_store_folder *f);

static void zk_store_folder_on_value(void *ctx, int err, const char *data, size_t len,
                                     const struct zk_stat *stat)
{
    struct zk_store_folder *f = ctx;
    const char *name = f->names[f->next++];
    struct topology_controller *value = &f->values[f->n_values];
    char why[256] = "", *watched = zk_store_folder_watched(f, name);

    (void)stat;
    if (err != 0 && f->value_watching && watched != NULL)
        watched[0] = '\0'; /* no watch was set */
    if (err != 0 && err != ERR_NOT_FOUND) {
        zk_store_folder_finish(f, err);
        return;
    }
    if (err == 0 && topology_decode_controller(data, len, value, why, sizeof(why)) == 0)
        f->n_values++;
    else if (err == 0)
        log_warn("event=zk_store.corrupt znode=%s/%s why=\"%s\" say=\"left out\"", f->path, name, why);
    zk_store_folder_next(f);
}

/* One after the other: a get and its watch share the context, which must outlive them. */
static void zk_store_folder_next(struct zk_store_folder *f)
{
    char path[ZK_STORE_PATH_MAX], *watched;
    int err;

    if (!f->has_values || f->next == f->n) {
        zk_store_folder_finish(f, 0);
        return;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", f->path, f->names[f->next]);
    watched = zk_store_folder_watched(f, f->names[f->next]) == NULL ? zk_store_folder_watched(f, "") : NULL;
    f->value_watching = watched != NULL;
    err = zk_get(f->store->zk, path, watched != NULL ? zk_store_folder_on_value_watch : NULL,
                 zk_store_folder_on_value, f);
    if (err != 0)
        zk_store_folder_finish(f, err);
    else if (watched != NULL)
        (void)snprintf(watched, TOPOLOGY_NAME_MAX + 1, "%s", f->names[f->next]);
}

/* ---- children --------------------------------------------------------------------------------------------
 */

static int zk_store_folder_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int zk_store_folder_keep(struct zk_store_folder *f, const char *const *names, size_t n)
{
    f->names = calloc(n + 1, sizeof(*f->names));
    if (f->names == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        if (topology_name_check(names[i]) != 0)
            continue; /* none of ours */
        f->names[f->n] = strdup(names[i]);
        if (f->names[f->n] == NULL)
            return ERR_NOMEM;
        f->n++;
    }
    qsort(f->names, f->n, sizeof(*f->names), zk_store_folder_compare);
    if (f->has_values)
        f->values = calloc(f->n + 1, sizeof(*f->values));
    return f->has_values && f->values == NULL ? ERR_NOMEM : 0;
}

static void zk_store_folder_on_list(void *ctx, int err, const char *const *names, size_t n,
                                    const struct zk_stat *stat)
{
    struct zk_store_folder *f = ctx;

    (void)stat;
    if (err != 0 && f->watching)
        f->watched = false; /* no watch was set */
    if (err == 0)
        err = zk_store_folder_keep(f, names, n);
    if (err != 0)
        zk_store_folder_finish(f, err);
    else
        zk_store_folder_next(f);
}

static void zk_store_folder_on_watch(void *ctx, const char *path)
{
    struct zk_store_folder *f = ctx;

    (void)path;
    f->watched = false;
    zk_store_folder_read(f);
}

static void zk_store_folder_read(struct zk_store_folder *f)
{
    struct zk_store *s = f->store;
    int64_t rest_us = f->read_us + ZK_STORE_PACE_US - loop_now_us(s->loop);
    int err;

    if (f->reading) {
        f->again = true;
        return;
    }
    if (!s->connected || ev_is_active(&f->pace))
        return;
    if (f->read_us != 0 && rest_us > 0) {
        ev_timer_set(&f->pace, (double)rest_us / 1e6, 0.);
        ev_timer_start(loop_ev(s->loop), &f->pace);
        return;
    }
    err =
        zk_children(s->zk, f->path, f->watched ? NULL : zk_store_folder_on_watch, zk_store_folder_on_list, f);
    if (err != 0) {
        zk_store_folder_finish(f, err);
        return;
    }
    f->reading = true;
    f->watching = !f->watched;
    f->watched = true;
    f->read_us = loop_now_us(s->loop);
}

static void zk_store_folder_on_pace(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct zk_store_folder *f = w->data;

    (void)ev;
    (void)revents;
    f->read_us = 0;
    zk_store_folder_read(f);
}

/* ---- /pause ----------------------------------------------------------------------------------------------
 */

static void zk_store_pause_read(struct zk_store *s);

static bool zk_store_pause_is(const struct topology_pause *a, const struct topology_pause *b)
{
    return strcmp(a->owner, b->owner) == 0 && strcmp(a->reason, b->reason) == 0 &&
           a->since_ms == b->since_ms && a->until_ms == b->until_ms;
}

/* The owner may close the store. */
static void zk_store_pause_tell(struct zk_store *s, const struct topology_pause *now)
{
    struct zk_store_pause *p = &s->pause;

    if (p->told && zk_store_pause_is(now, &p->last))
        return;
    p->told = true;
    p->last = *now;
    if (s->config.on_maintenance != NULL)
        s->config.on_maintenance(s->config.ctx, &p->last);
}

static void zk_store_pause_finish(struct zk_store *s, int err)
{
    struct zk_store_pause *p = &s->pause;

    p->reading = false;
    if (s->zk == NULL)
        return;
    if (zk_store_is_lost(err)) {
        p->again = false;
        return; /* the pass after the reconnect reads it */
    }
    if (err != 0) {
        log_warn("event=zk_store.read_failed znode=/pause err=%s say=\"%s; trying again\"", err_name(err),
                 err_text(err));
        p->retry = true;
        zk_store_retry_later(s);
    }
    if (p->again) {
        p->again = false;
        zk_store_pause_read(s);
        return;
    }
    p->in_pass = false;
    zk_store_records_pass_ended(s);
}

static void zk_store_pause_on_data(void *ctx, int err, const char *data, size_t len,
                                   const struct zk_stat *stat)
{
    struct zk_store *s = ctx;
    struct topology_pause now = {.owner = ""};
    char why[256] = "";

    (void)stat;
    if (err == 0 && len > 0 && topology_decode_pause(data, len, &now, why, sizeof(why)) != 0)
        log_error(
            "event=zk_store.corrupt znode=/pause why=\"%s\" say=\"maintenance stays as it was until the "
            "znode is repaired\"",
            why);
    else if (err == 0 || err == ERR_NOT_FOUND)
        zk_store_pause_tell(s, &now);
    zk_store_pause_finish(s, err == ERR_NOT_FOUND ? 0 : err);
}

static void zk_store_pause_on_exists(void *ctx, int err, const struct zk_stat *stat)
{
    struct zk_store *s = ctx;

    if (err != 0 && err != ERR_NOT_FOUND && s->pause.watching)
        s->pause.watched = false; /* no watch was set */
    if (err == 0)                 /* without a watch: the one of exists() fires at any change after it */
        err = zk_get(s->zk, "/pause", NULL, zk_store_pause_on_data, s);
    if (err != 0)
        zk_store_pause_on_data(s, err, "", 0, stat);
}

static void zk_store_pause_on_watch(void *ctx, const char *path)
{
    struct zk_store *s = ctx;

    (void)path;
    s->pause.watched = false;
    zk_store_pause_read(s);
}

static void zk_store_pause_read(struct zk_store *s)
{
    struct zk_store_pause *p = &s->pause;
    int err;

    p->again = p->reading;
    if (p->reading || !s->connected)
        return;
    err =
        zk_exists(s->zk, "/pause", p->watched ? NULL : zk_store_pause_on_watch, zk_store_pause_on_exists, s);
    if (err != 0) {
        zk_store_pause_finish(s, err);
        return;
    }
    p->reading = true;
    p->watching = !p->watched;
    p->watched = true;
}

/* ---- for the store ---------------------------------------------------------------------------------------
 */

static void zk_store_folder_init(struct zk_store_folder *f, struct zk_store *s, const char *path,
                                 bool has_values)
{
    f->store = s;
    f->path = path;
    f->has_values = has_values;
    ev_init(&f->pace, zk_store_folder_on_pace);
    f->pace.data = f;
}

void zk_store_watches_init(struct zk_store *s)
{
    zk_store_folder_init(&s->controllers, s, "/controllers", true);
    zk_store_folder_init(&s->proxies, s, "/proxies", false);
}

void zk_store_watches_stop(struct zk_store *s)
{
    ev_timer_stop(loop_ev(s->loop), &s->controllers.pace);
    ev_timer_stop(loop_ev(s->loop), &s->proxies.pace);
}

void zk_store_watches_pass(struct zk_store *s)
{
    s->pause.in_pass = true;
    zk_store_pause_read(s);
    if (s->zk != NULL)
        zk_store_folder_read(&s->controllers);
    if (s->zk != NULL)
        zk_store_folder_read(&s->proxies);
}

void zk_store_watches_expired(struct zk_store *s)
{
    s->controllers.watched = s->proxies.watched = s->pause.watched = false;
    memset(s->controllers.values_watched, 0, sizeof(s->controllers.values_watched));
}

void zk_store_watches_retry(struct zk_store *s)
{
    struct zk_store_folder *const folders[] = {&s->controllers, &s->proxies};

    for (int i = 0; i < 2; i++) {
        if (folders[i]->retry) {
            folders[i]->retry = false;
            zk_store_folder_read(folders[i]);
        }
    }
    if (s->pause.retry) {
        s->pause.retry = false;
        zk_store_pause_read(s);
    }
}

void zk_store_watches_free(struct zk_store *s)
{
    struct zk_store_folder *const folders[] = {&s->controllers, &s->proxies};

    for (int i = 0; i < 2; i++) {
        zk_store_folder_clear(folders[i]);
        free(folders[i]->told);
    }
}
