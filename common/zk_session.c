#include "common/zk_session.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/zk_request.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*              open ─► CONNECTING ──first connect, folders made──► CONNECTED (fresh)
 *                                                                  │      ▲
 *                                              connection lost     ▼      │ same session: CONNECTED (not
 * fresh) SUSPENDED ┘ │ reconnected too late ▼ new handle ◄── old one abandoned ── EXPIRED ──connect,
 * folders──► CONNECTED (fresh)
 *
 * The chroot is a prefix that this module puts in front of every path, and not the library's own: so the
 * chroot itself can be made through the same connection, again after an expiry too (somebody may have wiped
 * ZooKeeper meanwhile), and paths that come back are cut in one place.
 *
 * A session never mixes the answers of two handles: each handle has a queue, requests and watches of its own,
 * and an abandoned handle's queue is never read again. */

enum {
    ZK_SESSION_PATH_MAX = 1024,
    ZK_SESSION_HOSTS_MAX = 2048,
    ZK_SESSION_FIRST_NAG_S =
        2,                 /* seconds without a connection until the log says so; also the pace at which */
    ZK_SESSION_NAG_S = 10, /* folders that could not be made are tried again */
};

static const char *const zk_session_folders[] = {"/election", "/controllers", "/instances",
                                                 "/ports",    "/proxies",     "/history"};

struct zk_session {
    struct loop *loop;
    struct zk_session_config config;
    char *hosts;  /* as configured */
    char *prefix; /* the chroot: "" or "/mr-redis" */
    enum zk_session_state state;
    bool closed;
    bool connected; /* the handle is, even while the folders are still being made */
    bool fresh;     /* the handle's session has not been reported yet */
    int64_t id;
    int timeout_ms;
    int64_t lost_us; /* monotonic: without a connection since */

    struct zk_handle_thread *thread;
    struct zk_handle *handle;   /* NULL only while an expiry is reported, or without memory for a new one */
    struct zk_handle *expiring; /* the old one meanwhile */
    ev_async async;
    ev_timer nag;

    int folders_pending; /* creates under way */
    int folders_err;     /* the first failure of this attempt */
    bool folders_denied;
};

/* ---- parsing ---------------------------------------------------------------------------------------------
 */

static int zk_session_check_hosts(const char *hosts, size_t len)
{
    size_t start = 0;

    for (size_t i = 0; i <= len; i++) {
        unsigned long port = 0;
        size_t colon = i;

        if (i < len && hosts[i] != ',')
            continue;
        while (colon > start && hosts[colon - 1] != ':')
            colon--;
        if (colon <= start + 1 || colon == i || i - colon > 5) /* no colon, no host, no port, or too long */
            return ERR_INVALID;
        for (size_t j = colon; j < i; j++) {
            if (hosts[j] < '0' || hosts[j] > '9')
                return ERR_INVALID;
            port = port * 10 + (unsigned long)(hosts[j] - '0');
        }
        if (port == 0 || port > UINT16_MAX || memchr(hosts + start, ' ', i - start) != NULL)
            return ERR_INVALID;
        start = i + 1;
    }
    return 0;
}

/* "/a/b" → itself; "/" → "" (no chroot); empty components and a slash at the end are mistakes. */
static int zk_session_check_chroot(const char *chroot)
{
    size_t len = strlen(chroot);

    if (strcmp(chroot, "/") == 0)
        return 0;
    if (len > ZK_SESSION_PATH_MAX / 2 || chroot[len - 1] == '/' || strstr(chroot, "//") != NULL)
        return ERR_INVALID;
    return 0;
}

/* ---- telling the owner -----------------------------------------------------------------------------------
 */

static void zk_session_report(struct zk_session *zk, enum zk_session_state state, bool fresh)
{
    zk->state = state;
    if (zk->config.on_state != NULL)
        zk->config.on_state(zk->config.ctx, state, fresh);
}

static void zk_session_watch_clock(struct zk_session *zk)
{
    zk->lost_us = loop_now_us(zk->loop);
    ev_timer_stop(loop_ev(zk->loop), &zk->nag);
    ev_timer_set(&zk->nag, ZK_SESSION_FIRST_NAG_S, ZK_SESSION_NAG_S);
    ev_timer_start(loop_ev(zk->loop), &zk->nag);
}

/* The callers of everything under way learn that they will get no answer. */
static void zk_session_end_requests(struct zk_session *zk, struct zk_handle *handle, int err)
{
    struct zk_request *r;

    while (!zk->closed && (r = zk_request_first(handle)) != NULL)
        zk_request_end(r, err);
}

/* ---- folders ---------------------------------------------------------------------------------------------
 */

static void zk_session_on_folder(void *ctx, int err, const char *path)
{
    struct zk_session *zk = ctx;

    (void)path;
    zk->folders_pending--;
    if (err == ERR_AUTH)
        zk->folders_denied = true;
    else if (err != 0 && err != ERR_EXISTS && zk->folders_err == 0)
        zk->folders_err = err;
    if (zk->folders_pending > 0 || !zk->connected)
        return;
    if (zk->folders_err != 0) {
        log_error(
            "event=zk.folders_failed chroot=%s/ err=%s say=\"could not create the standing folders (%s); "
            "trying again\"",
            zk->prefix, err_name(zk->folders_err), err_text(zk->folders_err));
        return; /* the nag timer tries again */
    }
    /* Without the right to create they may still be there; what is missing is named when it is used. */
    if (zk->folders_denied)
        log_warn("event=zk.folders_denied chroot=%s/ say=\"ZooKeeper's ACL lets us create nothing here: make "
                 "the folders by hand or grant CREATE\"",
                 zk->prefix);
    zk->fresh = false;
    ev_timer_stop(loop_ev(zk->loop), &zk->nag);
    log_info("event=zk.connected session=0x%llx timeout_ms=%d", (unsigned long long)zk->id, zk->timeout_ms);
    zk_session_report(zk, ZK_CONNECTED, true);
}

static void zk_session_make_folder(struct zk_session *zk, const char *path)
{
    struct zk_call call = {
        .kind = ZK_REQUEST_CREATE, .path = path, .data = "", .done.path = zk_session_on_folder, .ctx = zk};

    int err = zk_request_send(zk->handle, &call);

    if (err == 0)
        zk->folders_pending++;
    else if (zk->folders_err == 0)
        zk->folders_err = err;
}

/* ZooKeeper answers in the order of the calls, so parents come first and all go out at once. */
static void zk_session_make_folders(struct zk_session *zk)
{
    char path[ZK_SESSION_PATH_MAX];

    if (zk->folders_pending > 0)
        return;
    zk->folders_err = 0;
    zk->folders_denied = false;
    for (const char *p = zk->prefix; *p != '\0';) {
        const char *slash = strchr(p + 1, '/');

        p = slash != NULL ? slash : p + strlen(p);
        (void)snprintf(path, sizeof(path), "%.*s", (int)(p - zk->prefix), zk->prefix);
        zk_session_make_folder(zk, path);
    }
    for (size_t i = 0; i < sizeof(zk_session_folders) / sizeof(zk_session_folders[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", zk->prefix, zk_session_folders[i]);
        zk_session_make_folder(zk, path);
    }
}

/* ---- the handle's states ---------------------------------------------------------------------------------
 */

static void zk_session_on_connected(struct zk_session *zk, const struct zk_state_item *s)
{
    zk->connected = true;
    zk->id = s->session_id;
    zk->timeout_ms = s->timeout_ms;
    if (zk->fresh) {
        zk_session_make_folders(zk);
        return;
    }
    ev_timer_stop(loop_ev(zk->loop), &zk->nag);
    log_info("event=zk.reconnected session=0x%llx", (unsigned long long)zk->id);
    zk_session_report(zk, ZK_CONNECTED, false);
}

static void zk_session_on_lost(struct zk_session *zk)
{
    bool was_connected = zk->connected;

    zk->connected = false;
    if (zk->state == ZK_CONNECTED) {
        log_warn("event=zk.suspended hosts=%s say=\"the connection to ZooKeeper is lost; nothing is decided "
                 "until it is back\"",
                 zk->hosts);
        zk_session_watch_clock(zk);
        zk_session_report(zk, ZK_SUSPENDED, false);
    }
    if (was_connected && !zk->closed)
        zk_session_end_requests(zk, zk->handle, ERR_CONNECTION);
}

static void zk_session_on_expired(struct zk_session *zk)
{
    log_warn("event=zk.expired session=0x%llx say=\"the ZooKeeper session is over; opening a new one\"",
             (unsigned long long)zk->id);
    zk->connected = false;
    zk->fresh = true;
    zk->id = 0;
    zk->expiring = zk->handle;
    zk->handle = NULL;
    zk_session_watch_clock(zk);
    zk_session_report(zk, ZK_EXPIRED, false);
    zk_session_end_requests(zk, zk->expiring, ERR_SESSION);
    if (zk->closed) /* by one of the callbacks */
        return;
    zk_handle_abandon(zk->thread, zk->expiring);
    zk->expiring = NULL;
    zk->handle =
        zk_handle_open(zk->thread, loop_ev(zk->loop), &zk->async); /* NULL: the nag timer tries again */
}

static void zk_session_on_handle_state(struct zk_session *zk, struct zk_state_item *s)
{
    int state = s->state;

    zk->handle->zh = s->zh;
    if (state == ZOO_CONNECTED_STATE)
        zk_session_on_connected(zk, s);
    else if (state == ZOO_EXPIRED_SESSION_STATE || state == ZOO_AUTH_FAILED_STATE)
        zk_session_on_expired(zk);
    else
        zk_session_on_lost(zk);
    free(s);
}

static void zk_session_on_async(struct ev_loop *ev, ev_async *w, int revents)
{
    struct zk_session *zk = w->data;
    struct zk_item *item;

    (void)ev;
    (void)revents;
    while (!zk->closed && zk->handle != NULL && (item = zk_handle_pop(zk->handle)) != NULL) {
        switch (item->kind) {
        case ZK_ITEM_STATE:
            zk_session_on_handle_state(zk, (struct zk_state_item *)item);
            break;
        case ZK_ITEM_REQUEST:
            zk_request_deliver(item);
            break;
        case ZK_ITEM_WATCH:
            zk_request_deliver_watch((struct zk_watch *)item);
            break;
        }
    }
}

static void zk_session_on_nag(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct zk_session *zk = w->data;
    int64_t waited_ms = (loop_now_us(zk->loop) - zk->lost_us) / 1000;

    (void)ev;
    (void)revents;
    if (zk->handle == NULL)
        zk->handle = zk_handle_open(zk->thread, loop_ev(zk->loop), &zk->async);
    if (zk->connected && zk->fresh)
        zk_session_make_folders(zk);
    else
        log_warn(
            "event=zk.unreachable hosts=%s waited_ms=%lld say=\"no answer from ZooKeeper yet; trying on\"",
            zk->hosts, (long long)waited_ms);
}

/* ---- opening and closing ---------------------------------------------------------------------------------
 */

static void zk_session_free(void *p)
{
    struct zk_session *zk = p;

    free(zk->hosts);
    free(zk->prefix);
    free(zk);
}

/* Splits the configured hosts from the chroot and checks both. */
static int zk_session_parse(struct zk_session *zk, const char *hosts, char *plain, size_t plain_size)
{
    const char *slash = strchr(hosts, '/');
    size_t len = slash != NULL ? (size_t)(slash - hosts) : strlen(hosts);

    if (len >= plain_size)
        return ERR_INVALID;
    if (zk_session_check_hosts(hosts, len) != 0 || (slash != NULL && zk_session_check_chroot(slash) != 0))
        return ERR_INVALID;
    memcpy(plain, hosts, len);
    plain[len] = '\0';
    zk->hosts = strdup(hosts);
    zk->prefix = strdup(slash == NULL ? "/mr-redis" : strcmp(slash, "/") == 0 ? "" : slash);
    return zk->hosts != NULL && zk->prefix != NULL ? 0 : ERR_NOMEM;
}

int zk_session_open(struct zk_session **out, struct loop *loop, const struct zk_session_config *config)
{
    char plain[ZK_SESSION_HOSTS_MAX];
    struct zk_session *zk;
    int err;

    assert(config->hosts != NULL);
    if (config->timeout_ms <= 0)
        return ERR_INVALID;
    zk = calloc(1, sizeof(*zk));
    if (zk == NULL)
        return ERR_NOMEM;
    zk->loop = loop;
    zk->config = *config;
    zk->state = ZK_CONNECTING;
    zk->fresh = true;
    zk->timeout_ms = config->timeout_ms;
    err = zk_session_parse(zk, config->hosts, plain, sizeof(plain));
    if (err == 0)
        err = zk_handle_thread_start(&zk->thread, plain, config->timeout_ms);
    if (err != 0) {
        zk_session_free(zk);
        return err;
    }
    zk->config.hosts = zk->hosts;
    ev_async_init(&zk->async, zk_session_on_async);
    zk->async.data = zk;
    ev_async_start(loop_ev(loop), &zk->async);
    ev_init(&zk->nag, zk_session_on_nag);
    zk->nag.data = zk;
    zk_session_watch_clock(zk);
    zk->handle = zk_handle_open(zk->thread, loop_ev(loop), &zk->async);
    *out = zk;
    return 0;
}

void zk_session_close(struct zk_session *zk, int wait_ms)
{
    if (zk == NULL)
        return;
    assert(!zk->closed);
    zk->closed = true;
    ev_async_stop(loop_ev(zk->loop), &zk->async);
    ev_timer_stop(loop_ev(zk->loop), &zk->nag);
    if (zk->handle != NULL)
        zk_handle_abandon(zk->thread, zk->handle);
    if (zk->expiring != NULL)
        zk_handle_abandon(zk->thread, zk->expiring);
    zk_handle_thread_stop(zk->thread, wait_ms);
    /* A callback of ours may be on the stack. */
    loop_defer(zk->loop, zk_session_free, zk);
}

enum zk_session_state zk_session_state(const struct zk_session *zk)
{
    return zk->state;
}

int64_t zk_session_id(const struct zk_session *zk)
{
    return zk->id;
}

int zk_session_timeout_ms(const struct zk_session *zk)
{
    return zk->timeout_ms;
}

const char *zk_session_hosts(const struct zk_session *zk)
{
    return zk->hosts;
}

/* ---- calls -----------------------------------------------------------------------------------------------
 */

static bool zk_session_is_path(const char *path)
{
    return path != NULL && path[0] == '/';
}

/* Fills in the full path and sends. The paths are the project's own: a bad one is ERR_INVALID. */
static int zk_session_call(struct zk_session *zk, const char *path, struct zk_call *call)
{
    char full[ZK_SESSION_PATH_MAX];
    int n;

    assert(!zk->closed);
    if (!zk_session_is_path(path))
        return ERR_INVALID;
    if (zk->state != ZK_CONNECTED)
        return ERR_CONNECTION;
    if (strcmp(path, "/") == 0 && zk->prefix[0] != '\0')
        path = "";
    n = snprintf(full, sizeof(full), "%s%s", zk->prefix, path);
    if (n < 0 || (size_t)n >= sizeof(full))
        return ERR_INVALID;
    call->path = full;
    call->prefix_len = strlen(zk->prefix);
    return zk_request_send(zk->handle, call);
}

int zk_get(struct zk_session *zk, const char *path, zk_watch_fn watch, zk_data_fn done, void *ctx)
{
    struct zk_call call = {.kind = ZK_REQUEST_GET, .watch = watch, .done.data = done, .ctx = ctx};

    return zk_session_call(zk, path, &call);
}

int zk_exists(struct zk_session *zk, const char *path, zk_watch_fn watch, zk_stat_fn done, void *ctx)
{
    struct zk_call call = {.kind = ZK_REQUEST_EXISTS, .watch = watch, .done.stat = done, .ctx = ctx};

    return zk_session_call(zk, path, &call);
}

int zk_children(struct zk_session *zk, const char *path, zk_watch_fn watch, zk_children_fn done, void *ctx)
{
    struct zk_call call = {.kind = ZK_REQUEST_CHILDREN, .watch = watch, .done.children = done, .ctx = ctx};

    return zk_session_call(zk, path, &call);
}

int zk_create(struct zk_session *zk, const char *path, const char *data, size_t len, int flags,
              zk_path_fn done, void *ctx)
{
    struct zk_call call = {
        .kind = ZK_REQUEST_CREATE, .data = data, .len = len, .flags = flags, .done.path = done, .ctx = ctx};

    return zk_session_call(zk, path, &call);
}

int zk_set(struct zk_session *zk, const char *path, const char *data, size_t len, int32_t version,
           zk_stat_fn done, void *ctx)
{
    struct zk_call call = {
        .kind = ZK_REQUEST_SET, .data = data, .len = len, .version = version, .done.stat = done, .ctx = ctx};

    return zk_session_call(zk, path, &call);
}

int zk_delete(struct zk_session *zk, const char *path, int32_t version, zk_done_fn done, void *ctx)
{
    struct zk_call call = {.kind = ZK_REQUEST_DELETE, .version = version, .done.done = done, .ctx = ctx};

    return zk_session_call(zk, path, &call);
}

int zk_multi(struct zk_session *zk, const struct zk_op *ops, size_t n, zk_multi_fn done, void *ctx)
{
    struct zk_call call = {.kind = ZK_REQUEST_MULTI,
                           .ops_root = zk->prefix,
                           .ops = ops,
                           .n_ops = n,
                           .done.multi = done,
                           .ctx = ctx};

    if (n == 0)
        return ERR_INVALID;
    for (size_t i = 0; i < n; i++) {
        if (!zk_session_is_path(ops[i].path))
            return ERR_INVALID;
    }
    return zk_session_call(zk, "/", &call);
}

int zk_sync(struct zk_session *zk, zk_done_fn done, void *ctx)
{
    struct zk_call call = {.kind = ZK_REQUEST_SYNC, .done.done = done, .ctx = ctx};

    return zk_session_call(zk, "/", &call);
}
