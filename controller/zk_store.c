#include "controller/zk_store.h"

#include "common/log.h"
#include "common/loop.h"
#include "controller/zk_store_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*   session state ─► election_step ─► LIST, CREATE, WATCH, DELETE ─► zk_session ─► events ─► election_step …
 *                        │ role, term                                                     (the core decides)
 *                        ▼
 *   LEADER ─► full pass over the records (zk_store_records.c) ─► on_role(LEADER)
 *
 * A lost connection ends every call under way before the next CONNECTED is told, so no answer is ever taken
 * for one of a later connection. */

static const double zk_store_retry_s = 0.5;

static void zk_store_step(struct zk_store *s, const struct election_event *event);

/* ---- role ------------------------------------------------------------------------------------------------
 */

static void zk_store_find_leader(struct zk_store *s)
{
    const struct zk_store_candidate *first = NULL;

    for (size_t i = 0; i < s->candidates.n; i++) {
        const struct zk_store_candidate *c = &s->candidates.list[i];

        if (c->exists && (first == NULL || c->entry.czxid < first->entry.czxid))
            first = c;
    }
    (void)snprintf(s->leader, sizeof(s->leader), "%s", first != NULL ? first->id : "");
}

void zk_store_tell_role(struct zk_store *s)
{
    enum election_role role = s->election.role;
    uint64_t term = s->election.term;

    if (role == ELECTION_LEADER && !s->fresh)
        return; /* once all records have been read */
    if (role == s->told_role && term == s->told_term && strcmp(s->leader, s->told_leader) == 0)
        return;
    s->told_role = role;
    s->told_term = term;
    memcpy(s->told_leader, s->leader, sizeof(s->leader));
    if (s->config.on_role != NULL)
        s->config.on_role(s->config.ctx, role, term, s->leader);
}

bool zk_store_own_path(const struct zk_store *s, char path[ZK_STORE_PATH_MAX])
{
    (void)snprintf(path, ZK_STORE_PATH_MAX, "/election/%s", s->election.own);
    return s->election.own[0] != '\0';
}

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

/* ---- the election core's actions -------------------------------------------------------------------------
 */

/* After an answer that was an error though the connection stands (no rights, no memory): not at once again.
 */
static void zk_store_step_later(struct zk_store *s, int err)
{
    if (zk_store_is_lost(err))
        return;
    log_warn("event=election.failed err=%s say=\"cannot take part in the election (%s); trying again\"",
             err_name(err), err_text(err));
    s->election_retry = true;
    zk_store_retry_later(s);
}

static void zk_store_changed(struct zk_store *s)
{
    struct election_event event = {.type = ELECTION_ON_CHANGED};

    zk_store_step(s, &event);
}

static void zk_store_on_election_watch(void *ctx, const char *path)
{
    struct zk_store *s = ctx;

    (void)path;
    s->election_watched = false;
    zk_store_changed(s);
}

static void zk_store_list(struct zk_store *s);

static void zk_store_listed(struct zk_store *s)
{
    struct zk_store_candidates *c = &s->candidates;
    struct election_entry entries[ELECTION_ENTRIES_MAX];
    struct election_event event = {.type = ELECTION_ON_LIST, .entries = entries};

    c->running = false;
    if (c->err != 0) {
        c->again = false;
        zk_store_step_later(s, c->err);
        return;
    }
    if (c->again) {
        zk_store_list(s);
        return;
    }
    for (size_t i = 0; i < c->n; i++) {
        if (c->list[i].exists)
            entries[event.n++] = c->list[i].entry;
    }
    zk_store_find_leader(s);
    zk_store_step(s, &event);
}

static void zk_store_on_candidate(void *ctx, int err, const char *data, size_t len,
                                  const struct zk_stat *stat)
{
    struct zk_store_candidate *c = ctx;
    struct zk_store *s = c->store;

    if (err == 0) {
        c->exists = true;
        c->entry.owner = stat->ephemeral_owner;
        c->entry.czxid = (uint64_t)stat->czxid;
        if (len < sizeof(c->id) && topology_name_check(data) == 0)
            memcpy(c->id, data, len + 1);
    } else if (err != ERR_NOT_FOUND && s->candidates.err == 0) {
        s->candidates.err = err;
    }
    if (--s->candidates.pending == 0)
        zk_store_listed(s);
}

static void zk_store_on_candidates(void *ctx, int err, const char *const *names, size_t n,
                                   const struct zk_stat *stat)
{
    struct zk_store *s = ctx;
    struct zk_store_candidates *c = &s->candidates;
    char path[ZK_STORE_PATH_MAX];

    (void)stat;
    if (err != 0 && c->watching)
        s->election_watched = false; /* no watch was set */
    if (err == 0 && n > ELECTION_ENTRIES_MAX)
        err = ERR_TOO_LARGE;
    c->err = err;
    c->n = 0;
    c->pending = 1; /* ours, until every get is sent */
    for (size_t i = 0; i < n && c->err == 0; i++) {
        struct zk_store_candidate *next = &c->list[c->n];

        if (strlen(names[i]) >= ELECTION_NODE_MAX)
            continue; /* nothing that a candidate made */
        memset(next, 0, sizeof(*next));
        next->store = s;
        (void)snprintf(next->entry.node, sizeof(next->entry.node), "%s", names[i]);
        (void)snprintf(path, sizeof(path), "/election/%s", names[i]);
        c->err = zk_get(s->zk, path, NULL, zk_store_on_candidate, next);
        if (c->err == 0) {
            c->n++;
            c->pending++;
        }
    }
    if (--c->pending == 0)
        zk_store_listed(s);
}

/* The watch on the whole folder is for knowing who leads; three controllers are no herd. */
static void zk_store_list(struct zk_store *s)
{
    struct zk_store_candidates *c = &s->candidates;
    int err;

    c->again = c->running;
    if (c->running)
        return;
    err = zk_children(s->zk, "/election", s->election_watched ? NULL : zk_store_on_election_watch,
                      zk_store_on_candidates, s);
    if (err != 0) {
        zk_store_step_later(s, err);
        return;
    }
    c->running = true;
    c->watching = !s->election_watched;
    s->election_watched = true;
}

static void zk_store_on_created(void *ctx, int err, const char *path)
{
    struct zk_store *s = ctx;
    struct election_event event = {.type = ELECTION_ON_CREATED};

    (void)path;
    if (err != 0)
        zk_store_step_later(s, err);
    else
        zk_store_step(s, &event);
}

static void zk_store_create_candidate(struct zk_store *s)
{
    int err = zk_create(s->zk, "/election/c_", s->self.id, strlen(s->self.id), ZK_EPHEMERAL | ZK_SEQUENTIAL,
                        zk_store_on_created, s);

    if (err != 0)
        zk_store_step_later(s, err);
}

static void zk_store_on_predecessor_watch(void *ctx, const char *path)
{
    struct zk_store *s = ctx;

    /* Not the one of an earlier predecessor, whose watch may still come. */
    if (strcmp(path + strlen("/election/"), s->watched) == 0)
        s->watched[0] = '\0';
    zk_store_changed(s);
}

static void zk_store_on_predecessor(void *ctx, int err, const char *data, size_t len,
                                    const struct zk_stat *stat)
{
    struct zk_store *s = ctx;

    (void)data;
    (void)len;
    (void)stat;
    if (err == 0)
        return;
    s->watched[0] = '\0'; /* no watch was set */
    if (err == ERR_NOT_FOUND)
        zk_store_changed(s);
    else
        zk_store_step_later(s, err);
}

/* By a get: unlike exists() it leaves no watch behind on a znode that is gone for ever. */
static void zk_store_watch_predecessor(struct zk_store *s, const char *node)
{
    char path[ZK_STORE_PATH_MAX];
    int err;

    if (strcmp(s->watched, node) == 0)
        return;
    (void)snprintf(path, sizeof(path), "/election/%s", node);
    err = zk_get(s->zk, path, zk_store_on_predecessor_watch, zk_store_on_predecessor, s);
    if (err != 0)
        zk_store_step_later(s, err);
    else
        (void)snprintf(s->watched, sizeof(s->watched), "%s", node);
}

static void zk_store_on_deleted(void *ctx, int err)
{
    (void)ctx;
    if (err != 0 && err != ERR_NOT_FOUND)
        log_warn("event=election.leave_failed err=%s say=\"the election znode goes with the session\"",
                 err_name(err));
}

static void zk_store_act(struct zk_store *s, const struct election_update *update)
{
    char path[ZK_STORE_PATH_MAX];

    switch (update->action) {
    case ELECTION_DO_NOTHING:
        break;
    case ELECTION_DO_LIST:
        zk_store_list(s);
        break;
    case ELECTION_DO_CREATE:
        zk_store_create_candidate(s);
        break;
    case ELECTION_DO_WATCH:
        zk_store_watch_predecessor(s, update->node);
        break;
    case ELECTION_DO_DELETE:
        (void)snprintf(path, sizeof(path), "/election/%s", update->node);
        if (zk_delete(s->zk, path, -1, zk_store_on_deleted, s) != 0)
            zk_store_on_deleted(s, ERR_CONNECTION);
        break;
    }
}

static void zk_store_step(struct zk_store *s, const struct election_event *event)
{
    enum election_role role = s->election.role;
    uint64_t term = s->election.term;
    struct election_update update;

    election_step(&s->election, event, &update);
    if (s->election.role != role || s->election.term != term) {
        s->fresh = false;
        if (s->election.role == ELECTION_LEADER) {
            log_info("event=election.won term=%" PRIu64 " say=\"reading all records before acting\"",
                     s->election.term);
            zk_store_records_pass(s);
        }
    }
    zk_store_tell_role(s);
    zk_store_act(s, &update);
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

static void zk_store_disconnected(struct zk_store *s, bool expired)
{
    struct election_event event = {.type = expired ? ELECTION_ON_EXPIRED : ELECTION_ON_SUSPENDED};
    bool was_connected = s->connected;

    s->connected = false;
    s->leader[0] = '\0';
    s->election_retry = false;
    if (expired) { /* the watches went with the session */
        s->election_watched = false;
        s->watched[0] = '\0';
        zk_store_records_expired(s);
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
        zk_store_changed(s);
    }
    if (s->register_retry) {
        s->register_retry = false;
        zk_store_register(s);
    }
    zk_store_records_retry(s);
}

static void zk_store_free(void *p)
{
    struct zk_store *s = p;

    zk_store_records_free(s);
    zk_store_writes_free(s);
    zk_store_reads_free(s);
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
