#include "common/core/pause_codec.h"
#include "common/log.h"
#include "common/loop.h"
#include "controller/zk_store_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*   commit ─┐
 *   append ─┼─► multi { check /election/<own>, … } ─► done, or once more in another form ─► done
 *   delete ─┘          ▲
 *   create ─► children of /ports ─► lowest free port (the next one when somebody was faster)
 *   maintenance ─► multi { check, set /pause }, or create it
 *
 * The check comes first in every multi: when it fails we are deposed, whatever we believe. */

enum zk_store_job_kind {
    ZK_STORE_COMMIT,
    ZK_STORE_APPEND,
    ZK_STORE_CREATE,
    ZK_STORE_DELETE,
    ZK_STORE_TRIM,
    ZK_STORE_PAUSE
};

enum { ZK_STORE_OPS_MAX = 5 };

/* What an op of a job's multi is for; so that its failure can be told apart. */
enum zk_store_part {
    ZK_STORE_PART_LEADS,
    ZK_STORE_PART_RECORD,
    ZK_STORE_PART_PORT,
    ZK_STORE_PART_FOLDER, /* /history/<name> */
    ZK_STORE_PART_ENTRY,  /* the history entry in it */
};

struct zk_store_job {
    struct list node; /* store->jobs */
    struct zk_store *store;
    enum zk_store_job_kind kind;
    char name[TOPOLOGY_NAME_MAX + 1];
    uint16_t port;
    int32_t version;
    size_t keep;        /* TRIM: newest entries; 0: the folder goes too */
    bool makes_folder;  /* CREATE: with the history's folder, which may be left from an earlier instance */
    bool frees_port;    /* DELETE */
    bool creates;       /* PAUSE: the znode is not there yet */
    bool folder_missed; /* the folder was missing once, and was made */
    char *record;       /* encoded; NULL: none */
    size_t record_len;
    char *history; /* encoded; NULL: none */
    size_t history_len;
    struct topology_instance *instance; /* CREATE: encoded anew for each port that is tried */
    uint8_t *taken;                     /* CREATE: a bit for each port */
    enum zk_store_part parts[ZK_STORE_OPS_MAX];
    zk_store_commit_fn on_commit;
    zk_store_create_fn on_create;
    zk_store_done_fn on_done;
    void *ctx;
};

/* ---- jobs ------------------------------------------------------------------------------------------------
 */

static void zk_store_job_free(struct zk_store_job *job)
{
    list_remove(&job->node);
    free(job->record);
    free(job->history);
    free(job->instance);
    free(job->taken);
    free(job);
}

void zk_store_writes_free(struct zk_store *s)
{
    list_for_each(node, &s->jobs) zk_store_job_free(list_entry(node, struct zk_store_job, node));
}

/* 0 when we may write at all; the multi's check has the last word. */
static int zk_store_may_write(const struct zk_store *s, const char *name)
{
    if (topology_name_check(name) != 0)
        return ERR_INVALID;
    if (!s->connected)
        return ERR_CONNECTION;
    return s->election.role == ELECTION_LEADER ? 0 : ERR_DEPOSED;
}

static int zk_store_job_new(struct zk_store *s, enum zk_store_job_kind kind, const char *name,
                            struct zk_store_job **out)
{
    int err = zk_store_may_write(s, name);
    struct zk_store_job *job;

    if (err != 0)
        return err;
    job = calloc(1, sizeof(*job));
    if (job == NULL)
        return ERR_NOMEM;
    job->store = s;
    job->kind = kind;
    (void)snprintf(job->name, sizeof(job->name), "%s", name);
    list_push_back(&s->jobs, &job->node);
    *out = job;
    return 0;
}

static int zk_store_keep(char **out, size_t *out_len, const char *text, ssize_t len)
{
    if (len < 0)
        return (int)len;
    free(*out);
    *out = malloc((size_t)len + 1);
    if (*out == NULL)
        return ERR_NOMEM;
    memcpy(*out, text, (size_t)len + 1);
    *out_len = (size_t)len;
    return 0;
}

static int zk_store_keep_record(struct zk_store_job *job, const struct topology_instance *record)
{
    char text[TOPOLOGY_TEXT_MAX];

    return zk_store_keep(&job->record, &job->record_len, text,
                         topology_encode_instance(record, text, sizeof(text)));
}

static int zk_store_keep_history(struct zk_store_job *job, const struct topology_history *history)
{
    char text[TOPOLOGY_TEXT_MAX];

    if (history == NULL)
        return 0;
    return zk_store_keep(&job->history, &job->history_len, text,
                         topology_encode_history(history, text, sizeof(text)));
}

/* ---- history's upkeep: best effort ------------------------------------------------------------------------
 */

static void zk_store_on_trimmed(void *ctx, int err)
{
    const struct zk_store *s = ctx;

    if (err != 0 && err != ERR_NOT_FOUND)
        log_debug("event=history.trim_failed controller=%s err=%s", s->self.id, err_name(err));
}

static int zk_store_compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int zk_store_trim_oldest(struct zk_store_job *job, const char *const *names, size_t n)
{
    const char **sorted = calloc(n, sizeof(*sorted));
    char path[ZK_STORE_PATH_MAX];
    int err = sorted != NULL ? 0 : ERR_NOMEM;

    if (sorted != NULL) {
        memcpy(sorted, names, n * sizeof(*sorted));
        qsort(sorted, n, sizeof(*sorted), zk_store_compare_names); /* ten digits: by age */
    }
    for (size_t i = 0; err == 0 && i < n - job->keep; i++) {
        int len = snprintf(path, sizeof(path), "/history/%s/%s", job->name, sorted[i]);

        if (len < (int)sizeof(path)) /* longer ones are none of ours */
            err = zk_delete(job->store->zk, path, -1, zk_store_on_trimmed, job->store);
    }
    free(sorted);
    return err;
}

static void zk_store_on_trim_list(void *ctx, int err, const char *const *names, size_t n,
                                  const struct zk_stat *stat)
{
    struct zk_store_job *job = ctx;
    char path[ZK_STORE_PATH_MAX];

    (void)stat;
    if (err == 0 && n > job->keep)
        err = zk_store_trim_oldest(job, names, n);
    if (err == 0 && job->keep == 0) { /* carried out after the deletes: ZooKeeper keeps the order */
        (void)snprintf(path, sizeof(path), "/history/%s", job->name);
        err = zk_delete(job->store->zk, path, -1, zk_store_on_trimmed, job->store);
    }
    zk_store_on_trimmed(job->store, err);
    zk_store_job_free(job);
}

static void zk_store_trim(struct zk_store *s, const char *name, size_t keep)
{
    struct zk_store_job *job;
    char path[ZK_STORE_PATH_MAX];

    if (zk_store_job_new(s, ZK_STORE_TRIM, name, &job) != 0)
        return; /* whoever leads next trims at its first entry */
    job->keep = keep;
    (void)snprintf(path, sizeof(path), "/history/%s", name);
    if (zk_children(s->zk, path, NULL, zk_store_on_trim_list, job) != 0)
        zk_store_job_free(job);
}

/* ---- ends ------------------------------------------------------------------------------------------------
 */

/* Frees the job first: the callback may begin the next one or close the store. */
static void zk_store_finish(struct zk_store_job *job, int err, const struct zk_stat *stat)
{
    struct zk_store_job ended = *job;
    struct zk_store *s = job->store;
    bool trims =
        err == 0 && ended.history != NULL && (ended.kind == ZK_STORE_COMMIT || ended.kind == ZK_STORE_APPEND);

    zk_store_job_free(job);
    if (trims)
        zk_store_trim(s, ended.name, ZK_STORE_HISTORY_KEPT);
    switch (ended.kind) {
    case ZK_STORE_COMMIT:
        ended.on_commit(ended.ctx, err, stat != NULL ? stat->version : -1, stat != NULL ? stat->mzxid : 0);
        break;
    case ZK_STORE_CREATE:
        ended.on_create(ended.ctx, err, err == 0 ? ended.port : 0);
        break;
    case ZK_STORE_DELETE:
        if (err == 0)
            zk_store_trim(s, ended.name, 0);
        ended.on_done(ended.ctx, err);
        break;
    case ZK_STORE_PAUSE:
        ended.on_done(ended.ctx, err);
        break;
    case ZK_STORE_APPEND:
        if (err != 0)
            log_warn("event=history.append_failed instance=%s err=%s say=\"one entry of its history is lost "
                     "(%s)\"",
                     ended.name, err_name(err), err_text(err));
        break;
    case ZK_STORE_TRIM:
        break;
    }
}

static void zk_store_on_new_record(void *ctx, int err)
{
    zk_store_finish(ctx, err, NULL);
}

/* ---- multis ----------------------------------------------------------------------------------------------
 */

static void zk_store_add(struct zk_store_job *job, struct zk_op *ops, size_t *n, enum zk_store_part part,
                         struct zk_op op)
{
    assert(*n < ZK_STORE_OPS_MAX);
    job->parts[*n] = part;
    ops[(*n)++] = op;
}

struct zk_store_paths {
    char own[ZK_STORE_PATH_MAX], record[ZK_STORE_PATH_MAX], port[ZK_STORE_PATH_MAX],
        folder[ZK_STORE_PATH_MAX], entry[ZK_STORE_PATH_MAX];
};

static void zk_store_fill_paths(const struct zk_store_job *job, struct zk_store_paths *p)
{
    (void)zk_store_own_path(job->store, p->own);
    (void)snprintf(p->record, sizeof(p->record), job->kind == ZK_STORE_PAUSE ? "/%s" : "/instances/%s",
                   job->name);
    (void)snprintf(p->port, sizeof(p->port), "/ports/%u", job->port);
    (void)snprintf(p->folder, sizeof(p->folder), "/history/%s", job->name);
    (void)snprintf(p->entry, sizeof(p->entry), "/history/%s/e_", job->name);
}

static size_t zk_store_fill_ops(struct zk_store_job *job, const struct zk_store_paths *p, struct zk_op *ops)
{
    struct zk_op check = {.kind = ZK_OP_CHECK, .path = p->own, .version = -1};
    struct zk_op set = {ZK_OP_SET, p->record, job->record, job->record_len, job->version, 0};
    struct zk_op create = {ZK_OP_CREATE, p->record, job->record, job->record_len, 0, 0};
    struct zk_op erase = {.kind = ZK_OP_DELETE, .path = p->record, .version = job->version};
    struct zk_op claim = {ZK_OP_CREATE, p->port, job->name, strlen(job->name), 0, 0};
    struct zk_op release = {.kind = ZK_OP_DELETE, .path = p->port, .version = -1};
    struct zk_op folder = {ZK_OP_CREATE, p->folder, "", 0, 0, 0};
    struct zk_op entry = {ZK_OP_CREATE, p->entry, job->history, job->history_len, 0, ZK_SEQUENTIAL};
    size_t n = 0;

    zk_store_add(job, ops, &n, ZK_STORE_PART_LEADS, check);
    if (job->kind == ZK_STORE_COMMIT || (job->kind == ZK_STORE_PAUSE && !job->creates))
        zk_store_add(job, ops, &n, ZK_STORE_PART_RECORD, set);
    if (job->kind == ZK_STORE_CREATE) {
        zk_store_add(job, ops, &n, ZK_STORE_PART_PORT, claim);
        zk_store_add(job, ops, &n, ZK_STORE_PART_RECORD, create);
    }
    if (job->kind == ZK_STORE_PAUSE && job->creates)
        zk_store_add(job, ops, &n, ZK_STORE_PART_RECORD, create);
    if (job->kind == ZK_STORE_DELETE)
        zk_store_add(job, ops, &n, ZK_STORE_PART_RECORD, erase);
    if (job->kind == ZK_STORE_DELETE && job->frees_port)
        zk_store_add(job, ops, &n, ZK_STORE_PART_PORT, release);
    if (job->makes_folder)
        zk_store_add(job, ops, &n, ZK_STORE_PART_FOLDER, folder);
    if (job->history != NULL)
        zk_store_add(job, ops, &n, ZK_STORE_PART_ENTRY, entry);
    return n;
}

static void zk_store_on_multi(void *ctx, int err, const struct zk_multi_result *result);

static int zk_store_send(struct zk_store_job *job)
{
    int err = zk_store_may_write(job->store, job->name);
    struct zk_store_paths paths;
    struct zk_op ops[ZK_STORE_OPS_MAX];

    if (err != 0)
        return err;
    zk_store_fill_paths(job, &paths);
    return zk_multi(job->store->zk, ops, zk_store_fill_ops(job, &paths, ops), zk_store_on_multi, job);
}

/* Takes the lowest port that isn't known to be taken; ERR_EXHAUSTED. */
static int zk_store_choose_port(struct zk_store_job *job)
{
    const struct zk_store_config *config = &job->store->config;

    for (uint32_t port = config->port_low; port <= config->port_high; port++) {
        if (job->taken[port / 8] & (1U << (port % 8)))
            continue;
        job->port = (uint16_t)port;
        job->instance->port = job->port;
        return zk_store_keep_record(job, job->instance);
    }
    return ERR_EXHAUSTED;
}

static void zk_store_on_folder(void *ctx, int err, const char *path)
{
    struct zk_store_job *job = ctx;

    (void)path;
    if (err == 0 || err == ERR_EXISTS)
        err = zk_store_send(job);
    if (err != 0)
        zk_store_finish(job, err, NULL);
}

static int zk_store_make_folder(struct zk_store_job *job)
{
    char path[ZK_STORE_PATH_MAX];

    job->folder_missed = true;
    (void)snprintf(path, sizeof(path), "/history/%s", job->name);
    return zk_create(job->store->zk, path, "", 0, 0, zk_store_on_folder, job);
}

/* The multi was refused because of that part: 0 when it was sent again in another form. */
static int zk_store_amend(struct zk_store_job *job, enum zk_store_part part, int err)
{
    int again;

    if (part == ZK_STORE_PART_LEADS)
        return ERR_DEPOSED;
    /* Somebody removed the folder by hand; a history is not worth a failover. */
    if (part == ZK_STORE_PART_ENTRY && err == ERR_NOT_FOUND && !job->folder_missed)
        return zk_store_make_folder(job);
    if (part == ZK_STORE_PART_FOLDER && err == ERR_EXISTS) {
        job->makes_folder = false;
        return zk_store_send(job);
    }
    if (job->kind == ZK_STORE_PAUSE && err == (job->creates ? ERR_EXISTS : ERR_NOT_FOUND)) {
        job->creates = !job->creates;
        return zk_store_send(job);
    }
    if (part == ZK_STORE_PART_PORT && err == ERR_EXISTS) {
        job->taken[job->port / 8] |= (uint8_t)(1U << (job->port % 8));
        again = zk_store_choose_port(job);
        return again == 0 ? zk_store_send(job) : again;
    }
    if (part == ZK_STORE_PART_PORT && err == ERR_NOT_FOUND) {
        job->frees_port = false;
        return zk_store_send(job);
    }
    return err;
}

static void zk_store_on_multi(void *ctx, int err, const struct zk_multi_result *result)
{
    struct zk_store_job *job = ctx;

    if (err == 0 && job->kind == ZK_STORE_CREATE) {
        zk_store_records_read_new(job->store, job->name, zk_store_on_new_record, job);
        return;
    }
    if (err == 0) {
        zk_store_finish(job, 0, job->kind == ZK_STORE_COMMIT ? &result->stats[1] : NULL);
        return;
    }
    if (result->failed >= 0) {
        err = zk_store_amend(job, job->parts[result->failed], err);
        if (err == 0)
            return;
    }
    zk_store_finish(job, err, NULL);
}

/* ---- calls -----------------------------------------------------------------------------------------------
 */

/* The job's values are in it: sends it, or gives it up when one of them could not be kept. */
static int zk_store_begin(struct zk_store_job *job, int err)
{
    if (err == 0)
        err = zk_store_send(job);
    if (err != 0)
        zk_store_job_free(job);
    return err;
}

int zk_store_commit(struct zk_store *s, const struct topology_instance *record, int32_t version,
                    const struct topology_history *history, zk_store_commit_fn done, void *ctx)
{
    struct zk_store_job *job;
    int err = zk_store_job_new(s, ZK_STORE_COMMIT, record->name, &job);

    if (err != 0)
        return err;
    job->version = version;
    job->on_commit = done;
    job->ctx = ctx;
    err = zk_store_keep_record(job, record);
    if (err == 0)
        err = zk_store_keep_history(job, history);
    return zk_store_begin(job, err);
}

int zk_store_append_history(struct zk_store *s, const char *name, const struct topology_history *history)
{
    struct zk_store_job *job;
    int err = zk_store_job_new(s, ZK_STORE_APPEND, name, &job);

    if (err != 0)
        return err;
    assert(history != NULL);
    return zk_store_begin(job, zk_store_keep_history(job, history));
}

static void zk_store_on_ports(void *ctx, int err, const char *const *names, size_t n,
                              const struct zk_stat *stat)
{
    struct zk_store_job *job = ctx;

    (void)stat;
    for (size_t i = 0; i < n; i++) {
        char *stop;
        unsigned long port = strtoul(names[i], &stop, 10);

        if (*stop == '\0' && port <= UINT16_MAX)
            job->taken[port / 8] |= (uint8_t)(1U << (port % 8));
    }
    if (err == 0)
        err = zk_store_choose_port(job);
    if (err == 0)
        err = zk_store_send(job);
    if (err != 0)
        zk_store_finish(job, err, NULL);
}

int zk_store_create(struct zk_store *s, const struct topology_instance *record,
                    const struct topology_history *history, zk_store_create_fn done, void *ctx)
{
    struct zk_store_job *job;
    int err = zk_store_job_new(s, ZK_STORE_CREATE, record->name, &job);

    if (err != 0)
        return err;
    job->on_create = done;
    job->ctx = ctx;
    job->makes_folder = true;
    job->instance = malloc(sizeof(*job->instance));
    job->taken = calloc((UINT16_MAX + 1) / 8, 1);
    err = job->instance != NULL && job->taken != NULL ? 0 : ERR_NOMEM;
    if (err == 0) {
        *job->instance = *record;
        err = zk_store_keep_history(job, history);
    }
    if (err == 0)
        err = zk_children(s->zk, "/ports", NULL, zk_store_on_ports, job);
    if (err != 0)
        zk_store_job_free(job);
    return err;
}

int zk_store_delete(struct zk_store *s, const char *name, uint16_t port, int32_t version,
                    zk_store_done_fn done, void *ctx)
{
    struct zk_store_job *job;
    int err = zk_store_job_new(s, ZK_STORE_DELETE, name, &job);

    if (err != 0)
        return err;
    job->port = port;
    job->version = version;
    job->frees_port = port != 0;
    job->on_done = done;
    job->ctx = ctx;
    return zk_store_begin(job, 0);
}

int zk_store_set_maintenance(struct zk_store *s, const struct topology_pause *pause, zk_store_done_fn done,
                             void *ctx)
{
    const struct topology_pause none = {.owner = ""};
    struct zk_store_job *job;
    char text[TOPOLOGY_TEXT_MAX];
    int err = zk_store_job_new(s, ZK_STORE_PAUSE, "pause", &job);

    if (err != 0)
        return err;
    job->version = -1;
    job->on_done = done;
    job->ctx = ctx;
    return zk_store_begin(
        job, zk_store_keep(&job->record, &job->record_len, text,
                           topology_encode_pause(pause != NULL ? pause : &none, text, sizeof(text))));
}
