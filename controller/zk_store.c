#include "controller/zk_store.h"

#include "common/log.h"
#include "common/loop.h"
#include "controller/zk_store_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*   session state ─► election (zk_store_election.c), registration of /controllers/<id>, passes over the
 * records
 *
 * A lost connection ends every call under way before the next CONNECTED is told, so no answer is ever taken
 * for one of a later connection. */

static const double zk_store_retry_s = 0.5;

bool zk_store_is_lost(int err)
{
    return err == ERR_CONNECTION || err == ERR_SESSION;
}

void zk_store_retry_later(struct zk_store *s)
{
    if (!ev_is_active(&s->retry)) {
        ev_timer_set(&s->retry, zk_store_retry_s, 0);
        ev_timer_start(loop_ev(s->loop), &s->retry);
    }
}

void zk_store_list_failed(struct zk_store *s, const char *folder, int err)
{
    if (err != ERR_NOT_FOUND)
        log_warn("event=zk_store.list_failed znode=%s err=%s say=\"%s; trying again\"", folder, err_name(err),
                 err_text(err));
    else if (!s->folder_gone)
        log_error("event=zk_store.folder_gone znode=%s say=\"somebody deleted it, and nobody leads without. "
                  "Restore "
                  "ZooKeeper's data, and all goes on. Or restart the controllers to begin with nothing: "
                  "proxies drop "
                  "the routes that they still have then\"",
                  folder);
    s->folder_gone = s->folder_gone || err == ERR_NOT_FOUND;
    zk_store_retry_later(s);
}

/* ---- /controllers/<id> -----------------------------------------------------------------------------------
 */

static void zk_store_register(struct zk_store *s);

static void zk_store_registered(struct zk_store *s, int err)
{
    s->registering = false;
    if (err != 0 && !zk_store_is_lost(err)) {
        s->register_retry = true;
        zk_store_retry_later(s);
    }
    if (zk_store_is_lost(err))
        s->register_again = true; /* after the reconnect */
    if (err == 0)
        s->rival_logged = false;
    if (s->register_again && err == 0)
        zk_store_register(s);
}

static void zk_store_on_register_set(void *ctx, int err, const struct zk_stat *stat)
{
    (void)stat;
    zk_store_registered(ctx, err);
}

static void zk_store_on_register_owner(void *ctx, int err, const struct zk_stat *stat)
{
    struct zk_store *s = ctx;
    char path[ZK_STORE_PATH_MAX], text[TOPOLOGY_TEXT_MAX];
    ssize_t len;

    if (err == 0 && stat->ephemeral_owner != zk_session_id(s->zk)) {
        if (!s->rival_logged)
            log_warn("event=controller.name_taken id=%s owner=0x%" PRIx64
                     " say=\"another session holds this --id: a former run of ours until its session times "
                     "out, or a second controller with the same --id, which must be changed\"",
                     s->self.id, (uint64_t)stat->ephemeral_owner);
        s->rival_logged = true;
        err = ERR_EXISTS;
    }
    if (err != 0) {
        zk_store_registered(s, err);
        return;
    }
    len = topology_encode_controller(&s->self, text, sizeof(text));
    (void)snprintf(path, sizeof(path), "/controllers/%s", s->self.id);
    err = len < 0 ? (int)len : zk_set(s->zk, path, text, (size_t)len, -1, zk_store_on_register_set, s);
    if (err != 0)
        zk_store_registered(s, err);
}

static void zk_store_on_register(void *ctx, int err, const char *created)
{
    struct zk_store *s = ctx;
    char path[ZK_STORE_PATH_MAX];

    (void)created;
    if (err == ERR_EXISTS) {
        (void)snprintf(path, sizeof(path), "/controllers/%s", s->self.id);
        err = zk_exists(s->zk, path, NULL, zk_store_on_register_owner, s);
        if (err == 0)
            return;
    }
    zk_store_registered(s, err);
}

static void zk_store_register(struct zk_store *s)
{
    char path[ZK_STORE_PATH_MAX], text[TOPOLOGY_TEXT_MAX];
    ssize_t len;
    int err;

    s->register_again = s->registering;
    if (s->registering)
        return;
    s->registering = true;
    len = topology_encode_controller(&s->self, text, sizeof(text));
    (void)snprintf(path, sizeof(path), "/controllers/%s", s->self.id);
    err =
        len < 0 ? (int)len : zk_create(s->zk, path, text, (size_t)len, ZK_EPHEMERAL, zk_store_on_register, s);
    if (err != 0)
        zk_store_registered(s, err);
}

void zk_store_register_again(struct zk_store *s)
{
    if (!s->registering && !s->register_again && !s->register_retry)
        zk_store_register(s);
}

/* ---- session ---------------------------------------------------------------------------------------------
 */

static void zk_store_connected(struct zk_store *s, bool fresh)
{
    struct election_event event = {.type = ELECTION_ON_SESSION, .session = zk_session_id(s->zk)};

    s->connected = true;
    if (s->config.on_connected != NULL)
        s->config.on_connected(s->config.ctx, true);
    if (fresh || s->register_again || s->register_retry)
        zk_store_register(s);
    zk_store_step(s, &event);
    zk_store_records_pass(s);
}

/* libzookeeper asks after a third of the timeout without traffic and tells after two thirds without an
 * answer; its thread stood still with us, so what it says now may be late. */
void zk_store_on_lag(struct zk_store *s, int64_t lag_us)
{
    struct election_event lost = {.type = ELECTION_ON_SUSPENDED};
    struct election_event again = {.type = ELECTION_ON_SESSION, .session = zk_session_id(s->zk)};

    if (!s->connected || lag_us < (int64_t)s->config.session_timeout_ms * 1000 / 3)
        return;
    s->leader[0] = '\0';
    s->leader_term = 0;
    zk_store_step(s, &lost);
    zk_store_step(s, &again);
}

static void zk_store_disconnected(struct zk_store *s, bool expired)
{
    struct election_event event = {.type = expired ? ELECTION_ON_EXPIRED : ELECTION_ON_SUSPENDED};
    bool was_connected = s->connected;

    s->connected = false;
    s->leader[0] = '\0';
    s->leader_term = 0;
    s->election_retry = false;
    if (expired) { /* the watches went with the session */
        s->election_watched = false;
        s->watched[0] = '\0';
        zk_store_records_expired(s);
        zk_store_watches_expired(s);
    }
    zk_store_step(s, &event);
    if (was_connected && s->config.on_connected != NULL)
        s->config.on_connected(s->config.ctx, false);
}

static void zk_store_on_state(void *ctx, enum zk_session_state state, bool fresh)
{
    struct zk_store *s = ctx;

    if (state == ZK_CONNECTED)
        zk_store_connected(s, fresh);
    else
        zk_store_disconnected(s, state == ZK_EXPIRED);
}

static void zk_store_on_retry(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct zk_store *s = w->data;

    (void)ev;
    (void)revents;
    if (!s->connected)
        return; /* the next CONNECTED starts everything over */
    if (s->election_retry) {
        s->election_retry = false;
        zk_store_step(s, &(struct election_event){.type = ELECTION_ON_CHANGED});
    }
    if (s->register_retry) {
        s->register_retry = false;
        zk_store_register(s);
    }
    zk_store_records_retry(s);
    zk_store_watches_retry(s);
}

static void zk_store_on_soon(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct zk_store *s = w->data;
    struct election_event event = {.type = s->fit ? ELECTION_ON_FIT : ELECTION_ON_YIELD};

    (void)ev;
    (void)revents;
    zk_store_step(s, &event);
}

static void zk_store_free(void *p)
{
    struct zk_store *s = p;

    zk_store_records_free(s);
    zk_store_writes_free(s);
    zk_store_reads_free(s);
    zk_store_watches_free(s);
    free(s);
}

int zk_store_open(struct zk_store **out, struct loop *loop, const struct zk_store_config *config)
{
    struct zk_session_config session = {config->hosts, config->session_timeout_ms, zk_store_on_state, NULL};
    struct zk_store *s;
    int err;

    assert(config->self != NULL && config->hosts != NULL && config->on_record != NULL &&
           config->on_corrupt != NULL && config->on_removed != NULL);
    if (topology_name_check(config->self->id) != 0 || config->port_low == 0 ||
        config->port_low > config->port_high)
        return ERR_INVALID;
    s = calloc(1, sizeof(*s));
    if (s == NULL)
        return ERR_NOMEM;
    s->loop = loop;
    s->config = *config;
    s->config.hosts = NULL;
    s->config.self = NULL;
    s->self = *config->self;
    election_init(&s->election);
    list_init(&s->all);
    list_init(&s->waiting);
    list_init(&s->jobs);
    list_init(&s->reads);
    ev_init(&s->retry, zk_store_on_retry);
    s->retry.data = s;
    ev_timer_init(&s->soon, zk_store_on_soon, 0, 0);
    s->soon.data = s;
    s->fit = true;
    zk_store_watches_init(s);
    session.ctx = s;
    err = zk_session_open(&s->zk, loop, &session);
    if (err != 0) {
        free(s);
        return err;
    }
    *out = s;
    return 0;
}

void zk_store_close(struct zk_store *s, int wait_ms)
{
    if (s == NULL)
        return;
    ev_timer_stop(loop_ev(s->loop), &s->retry);
    ev_timer_stop(loop_ev(s->loop), &s->soon);
    zk_store_watches_stop(s);
    /* Closing the session removes its ephemerals at once: the election znode and our registration. */
    zk_session_close(s->zk, wait_ms);
    s->zk = NULL;
    loop_defer(s->loop, zk_store_free, s);
}

int zk_store_set_self(struct zk_store *s, const struct topology_controller *self)
{
    if (strcmp(self->id, s->self.id) != 0)
        return ERR_INVALID;
    s->self = *self;
    if (s->connected)
        zk_store_register(s);
    else
        s->register_again = true;
    return 0;
}

bool zk_store_is_connected(const struct zk_store *s)
{
    return s->connected;
}

const char *zk_store_leader(const struct zk_store *s)
{
    return s->told_leader;
}

uint64_t zk_store_leader_term(const struct zk_store *s)
{
    return s->leader_term;
}

void zk_store_set_fit(struct zk_store *s, bool fit)
{
    if (s->fit == fit)
        return;
    s->fit = fit;
    ev_timer_start(loop_ev(s->loop), &s->soon); /* on_role must not run inside this call */
}
