#include "common/log.h"
#include "controller/zk_store_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*   session state ─► election_step ─► LIST, CREATE, WATCH, DELETE, REMOVE ─► zk_session ─► events ─►
 * election_step … │ role, term                                                       (the core decides) ▼
 *   LEADER ─► full pass over the records (zk_store_records.c) ─► on_role(LEADER) */

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
    s->leader_term = first != NULL ? first->entry.czxid : 0;
}

void zk_store_tell_role(struct zk_store *s)
{
    enum election_role role = s->election.role;
    uint64_t term = s->election.term;

    if (role == ELECTION_LEADER && !s->fresh)
        return; /* once all records have been read */
    if (role == s->told_role && term == s->told_term && s->leader_term == s->told_leader_term &&
        strcmp(s->leader, s->told_leader) == 0)
        return;
    s->told_role = role;
    s->told_term = term;
    s->told_leader_term = s->leader_term;
    memcpy(s->told_leader, s->leader, sizeof(s->leader));
    if (s->config.on_role != NULL)
        s->config.on_role(s->config.ctx, role, term, s->leader);
}

bool zk_store_own_path(const struct zk_store *s, char path[ZK_STORE_PATH_MAX])
{
    (void)snprintf(path, ZK_STORE_PATH_MAX, "/election/%s", s->election.own);
    return s->election.own[0] != '\0';
}

/* ---- the election core's actions -------------------------------------------------------------------------
 */

/* After an answer that was an error though the connection stands (no rights, no memory): not at once again.
 */
static void zk_store_step_later(struct zk_store *s, int err)
{
    if (zk_store_is_lost(err))
        return;
    s->election_retry = true;
    if (err == ERR_NOT_FOUND) {
        zk_store_list_failed(s, "/election", err);
        return;
    }
    log_warn("event=election.failed err=%s say=\"cannot take part in the election (%s); trying again\"",
             err_name(err), err_text(err));
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
    if (err == ERR_NOT_FOUND) {      /* nobody stands; making our znode fails, too, and is tried again */
        zk_store_list_failed(s, "/election", err);
        err = 0;
        n = 0;
    } else if (err == 0) {
        s->folder_gone = false;
    }
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

/* ---- a leader that is gone -------------------------------------------------------------------------------
 */

static void zk_store_on_removed(void *ctx, int err)
{
    const struct zk_store_removal *r = &((struct zk_store *)ctx)->removal;

    if (err == 0)
        log_warn("event=election.leader_removed node=%s term=%" PRIu64
                 " say=\"its host refuses connections: not waiting for its session to time out\"",
                 r->node, r->czxid);
    else if (err != ERR_NOT_FOUND) /* another standby was faster */
        log_warn("event=election.remove_failed node=%s err=%s say=\"it goes with its session\"", r->node,
                 err_name(err));
}

/* Names are given again when somebody has removed /election as a whole: the czxid tells. */
static void zk_store_on_removable(void *ctx, int err, const struct zk_stat *stat)
{
    struct zk_store *s = ctx;
    char path[ZK_STORE_PATH_MAX];

    s->removal.running = false;
    if (err == 0 && (uint64_t)stat->czxid != s->removal.czxid)
        err = ERR_NOT_FOUND;
    (void)snprintf(path, sizeof(path), "/election/%s", s->removal.node);
    if (err == 0)
        err = zk_delete(s->zk, path, stat->version, zk_store_on_removed, s);
    if (err != 0)
        zk_store_on_removed(s, err);
}

static void zk_store_remove(struct zk_store *s, const struct election_update *update)
{
    char path[ZK_STORE_PATH_MAX];

    if (s->removal.running)
        return;
    s->removal.czxid = update->czxid;
    memcpy(s->removal.node, update->node, sizeof(s->removal.node));
    (void)snprintf(path, sizeof(path), "/election/%s", update->node);
    if (zk_exists(s->zk, path, NULL, zk_store_on_removable, s) == 0)
        s->removal.running = true;
}

void zk_store_leader_gone(struct zk_store *s, uint64_t term)
{
    struct election_event event = {.type = ELECTION_ON_LEADER_GONE, .czxid = term};

    zk_store_step(s, &event); /* changes no role: nobody is called back */
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
    case ELECTION_DO_REMOVE:
        zk_store_remove(s, update);
        break;
    }
}

void zk_store_step(struct zk_store *s, const struct election_event *event)
{
    enum election_role role = s->election.role;
    uint64_t term = s->election.term;
    struct election_update update;

    election_step(&s->election, event, &update);
    if (s->election.role != role || s->election.term != term) {
        s->fresh = false;
        if (role == ELECTION_LEADER) { /* the next list tells who it is now */
            s->leader[0] = '\0';
            s->leader_term = 0;
        }
        if (s->election.role == ELECTION_LEADER) {
            log_info("event=election.won term=%" PRIu64 " say=\"reading all records before acting\"",
                     s->election.term);
            zk_store_records_pass(s);
        }
    }
    zk_store_tell_role(s);
    zk_store_act(s, &update);
}
