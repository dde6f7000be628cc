/*   create ─► exists, with a watch ─► ours: done, until it is gone (somebody deleted it)
 *     ▲                           └─► of another session: until that has ended
 *     │                                                      │
 *     ├──────────────────────────────────────────────────────┘
 *     └──────── /proxies is there again ◄── exists, with a watch ◄── there is no /proxies
 *
 * Who isn't registered is not waited for, by a switchover or before a promise is given. */
#include "proxy/registration.h"

#include "common/log.h"
#include "common/zk_session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct registration {
    struct zk_session *zk;
    char id[TOPOLOGY_NAME_MAX + 1];
    char path[sizeof("/proxies/") + TOPOLOGY_NAME_MAX];
    char text[1024];
    size_t len;
    bool done, busy; /* busy: a call is under way */
    bool watched;    /* ours is there, and its end will be told */
};

int registration_open(struct registration **out, struct zk_session *zk, const struct topology_proxy *self)
{
    struct registration *r = calloc(1, sizeof(*r));

    assert(zk && topology_name_check(self->id) == 0);
    if (!r)
        return ERR_NOMEM;
    ssize_t len = topology_encode_proxy(self, r->text, sizeof(r->text));
    if (len < 0) {
        free(r);
        return (int)len;
    }
    r->zk = zk;
    r->len = (size_t)len;
    snprintf(r->id, sizeof(r->id), "%s", self->id);
    snprintf(r->path, sizeof(r->path), "/proxies/%s", self->id);
    *out = r;
    return 0;
}

void registration_describe(struct registration *r, const struct topology_proxy *self)
{
    char text[sizeof(r->text)];
    ssize_t len = topology_encode_proxy(self, text, sizeof(text));

    assert(strcmp(r->id, self->id) == 0);
    if (len < 0)
        return; /* what it says already is true as well, only less */
    memcpy(r->text, text, (size_t)len);
    r->len = (size_t)len;
}

void registration_close(struct registration *r)
{
    free(r);
}

static void registration_create(struct registration *r);
static void registration_look(struct registration *r);

/* A call ended without an answer, or ZooKeeper refused it. */
static void registration_failed(struct registration *r, int err)
{
    if (err != ERR_CONNECTION && err != ERR_SESSION)
        log_warn(
            "event=registration.failed proxy=%s reason=%s say=\"mrctl does not list this proxy; it serves "
            "all the same\"",
            r->id, err_name(err));
    else if (zk_session_state(r->zk) == ZK_CONNECTED) /* it is back already */
        registration_look(r);
}

static void registration_on_gone(void *ctx, const char *path)
{
    struct registration *r = ctx;

    (void)path;
    r->watched = false;
    registration_look(r);
}

static void registration_on_exists(void *ctx, int err, const struct zk_stat *stat)
{
    struct registration *r = ctx;
    bool ours = err == 0 && stat->ephemeral_owner == zk_session_id(r->zk);

    r->busy = false;
    r->watched = err == 0;
    if (ours && !r->done)
        log_info("event=registration.done proxy=%s", r->id);
    r->done = ours;
    if (err == ERR_NOT_FOUND) {
        registration_create(r);
    } else if (err != 0) {
        registration_failed(r, err);
    } else if (!ours) {
        log_warn("event=registration.taken proxy=%s say=\"another session holds this name: this proxy's last "
                 "run, which ends by itself, or a second proxy, which needs another --id\"",
                 r->id);
    }
}

/* Is it there, and whose is it? Its end is told. */
static void registration_look(struct registration *r)
{
    if (!r->busy)
        r->busy = zk_exists(r->zk, r->path, registration_on_gone, registration_on_exists, r) == 0;
}

static void registration_on_folder(void *ctx, int err, const struct zk_stat *stat)
{
    struct registration *r = ctx;

    (void)stat;
    r->busy = false;
    if (err == 0)
        registration_create(r);
    else if (err != ERR_NOT_FOUND) /* that is: its creation is told */
        registration_failed(r, err);
}

static void registration_on_folder_watch(void *ctx, const char *path)
{
    struct registration *r = ctx;

    (void)path;
    if (!r->done)
        registration_create(r);
}

static void registration_on_created(void *ctx, int err, const char *path)
{
    struct registration *r = ctx;

    (void)path;
    r->busy = false;
    if (err == 0 || err == ERR_EXISTS) {
        registration_look(r);
        return;
    }
    registration_failed(r, err);
    if (err == ERR_NOT_FOUND && !r->busy)
        r->busy = zk_exists(r->zk, "/proxies", registration_on_folder_watch, registration_on_folder, r) == 0;
}

static void registration_create(struct registration *r)
{
    if (!r->busy)
        r->busy = zk_create(r->zk, r->path, r->text, r->len, ZK_EPHEMERAL, registration_on_created, r) == 0;
}

void registration_renew(struct registration *r, bool fresh)
{
    if (fresh)
        r->done = r->watched = false;
    if (!r->done)
        registration_create(r);
    else if (!r->watched)
        registration_look(r);
}

bool registration_is_done(const struct registration *r)
{
    return r->done;
}
