#include "common/zk_request.h"

#include "common/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*   loop's thread: zk_request_send ─► libzookeeper ─► its completion thread: zk_request_on_<answer> copies
 * the answer into the request and pushes it ─► loop's thread: zk_request_deliver ─► the caller's callback */

/* What a multi needs until it is answered: the library writes into results, stats and paths by itself. */
struct zk_request_multi {
    size_t n;
    zoo_op_result_t *results;
    struct Stat *raw_stats;
    struct zk_stat *stats;
    char **created;      /* n buffers of created_size bytes */
    const char **paths;  /* what the caller sees: created paths without the chroot */
    size_t created_size; /* bytes */
};

struct zk_request {
    struct zk_item item;
    struct list node; /* handle->requests, or handle->ended */
    struct zk_handle *handle;
    enum zk_request_kind kind;
    bool ended; /* loop's thread only */
    size_t prefix_len;
    union zk_done done;
    void *ctx;
    struct zk_watch *watch;

    /* The answer: the completion thread's until it is pushed, the loop's afterwards. */
    int err;
    bool watching; /* the library has set the watch */
    struct zk_stat stat;
    char *data; /* value or created path, NUL-terminated */
    size_t len;
    char **names; /* one block with the texts behind the array */
    size_t n_names;
    struct zk_request_multi *multi; /* one block */
};

int zk_request_error(int rc)
{
    switch (rc) {
    case ZOK:
        return 0;
    case ZNONODE:
        return ERR_NOT_FOUND;
    case ZNODEEXISTS:
        return ERR_EXISTS;
    case ZBADVERSION:
        return ERR_BAD_VERSION;
    case ZNOTEMPTY:
        return ERR_NOT_EMPTY;
    case ZNOAUTH:
    case ZAUTHFAILED:
    case ZINVALIDACL:
        return ERR_AUTH;
    case ZCONNECTIONLOSS:
    case ZOPERATIONTIMEOUT:
    case ZCLOSING:
    case ZINVALIDSTATE:
    case ZSESSIONMOVED:
        return ERR_CONNECTION;
    case ZSESSIONEXPIRED:
        return ERR_SESSION;
    case ZBADARGUMENTS:
    case ZNOCHILDRENFOREPHEMERALS:
        return ERR_INVALID;
    case ZTHROTTLEDOP:
        return ERR_BUSY;
    default:
        return ERR_IO;
    }
}

static void zk_request_stat(struct zk_stat *out, const struct Stat *in)
{
    out->czxid = in->czxid;
    out->mzxid = in->mzxid;
    out->pzxid = in->pzxid;
    out->version = in->version;
    out->n_children = in->numChildren;
    out->ephemeral_owner = in->ephemeralOwner;
}

static void zk_request_free(struct zk_request *r)
{
    free(r->data);
    free(r->names);
    free(r->multi);
    free(r);
}

void zk_request_free_node(struct list *node)
{
    list_remove(node);
    zk_request_free(list_entry(node, struct zk_request, node));
}

/* ---- on the library's completion thread ------------------------------------------------------------------
 */

static void zk_request_keep_result(struct zk_request *r, int rc)
{
    r->err = zk_request_error(rc);
    /* exists() watches a znode that isn't there, too; any other failure sets no watch. */
    r->watching = rc == ZOK || (r->kind == ZK_REQUEST_EXISTS && rc == ZNONODE);
}

static void zk_request_keep_data(struct zk_request *r, const char *data, size_t len)
{
    r->data = malloc(len + 1);
    if (r->data == NULL) {
        r->err = ERR_NOMEM;
        return;
    }
    if (len > 0)
        memcpy(r->data, data, len);
    r->data[len] = '\0';
    r->len = len;
}

static void zk_request_on_data(int rc, const char *value, int len, const struct Stat *stat, const void *p)
{
    struct zk_request *r = (struct zk_request *)p;

    zk_request_keep_result(r, rc);
    if (r->err == 0) {
        zk_request_stat(&r->stat, stat);
        zk_request_keep_data(r, value, value != NULL && len > 0 ? (size_t)len : 0); /* -1: no data at all */
    }
    zk_handle_push(r->handle, &r->item);
}

static void zk_request_on_stat(int rc, const struct Stat *stat, const void *p)
{
    struct zk_request *r = (struct zk_request *)p;

    zk_request_keep_result(r, rc);
    if (r->err == 0)
        zk_request_stat(&r->stat, stat);
    zk_handle_push(r->handle, &r->item);
}

static void zk_request_on_string(int rc, const char *value, const void *p)
{
    struct zk_request *r = (struct zk_request *)p;

    zk_request_keep_result(r, rc);
    if (r->err == 0 && value != NULL)
        zk_request_keep_data(r, value, strlen(value));
    zk_handle_push(r->handle, &r->item);
}

static void zk_request_keep_names(struct zk_request *r, const struct String_vector *strings)
{
    size_t n = strings != NULL ? (size_t)strings->count : 0;
    size_t size = (n + 1) * sizeof(char *);
    char *text;

    for (size_t i = 0; i < n; i++)
        size += strlen(strings->data[i]) + 1;
    r->names = malloc(size);
    if (r->names == NULL) {
        r->err = ERR_NOMEM;
        return;
    }
    r->n_names = n;
    text = (char *)(r->names + n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(strings->data[i]) + 1;

        memcpy(text, strings->data[i], len);
        r->names[i] = text;
        text += len;
    }
    r->names[n] = NULL;
}

static void zk_request_on_names(int rc, const struct String_vector *strings, const struct Stat *stat,
                                const void *p)
{
    struct zk_request *r = (struct zk_request *)p;

    zk_request_keep_result(r, rc);
    if (r->err == 0) {
        zk_request_stat(&r->stat, stat);
        zk_request_keep_names(r, strings);
    }
    zk_handle_push(r->handle, &r->item);
}

/* Also the end of a multi, whose parts the library has written into r->multi. */
static void zk_request_on_void(int rc, const void *p)
{
    struct zk_request *r = (struct zk_request *)p;

    zk_request_keep_result(r, rc);
    zk_handle_push(r->handle, &r->item);
}

static void zk_request_on_watch(zhandle_t *zh, int type, int state, const char *path, void *ctx)
{
    struct zk_watch *w = ctx;

    (void)zh;
    (void)state;
    (void)path;
    /* Every watcher hears of the session too; that is not what it was set for, and it stays set. */
    if (type != ZOO_SESSION_EVENT)
        zk_handle_push(w->handle, &w->item);
}

/* ---- on the loop's thread --------------------------------------------------------------------------------
 */

static void zk_request_free_watch(struct zk_watch *w)
{
    list_remove(&w->node);
    free(w);
}

static struct zk_watch *zk_request_make_watch(struct zk_handle *handle, const struct zk_call *call)
{
    const char *path = call->path + call->prefix_len;
    struct zk_watch *w;

    if (*path == '\0')
        path = "/";
    w = calloc(1, sizeof(*w) + strlen(path) + 1);
    if (w == NULL)
        return NULL;
    w->item.kind = ZK_ITEM_WATCH;
    w->handle = handle;
    w->fn = call->watch;
    w->ctx = call->ctx;
    memcpy(w->path, path, strlen(path) + 1);
    list_push_back(&handle->watches, &w->node);
    return w;
}

/* All arrays of a multi in one block; NULL when out of memory. */
static struct zk_request_multi *zk_request_make_multi(const struct zk_call *call)
{
    size_t n = call->n_ops, longest = 0;
    struct zk_request_multi *m;
    char *texts;

    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(call->ops[i].path);

        longest = len > longest ? len : longest;
    }
    longest += strlen(call->ops_root) + 16; /* a sequential name has ten digits more, maybe a sign */
    m = calloc(1, sizeof(*m) + n * (sizeof(*m->results) + sizeof(*m->raw_stats) + sizeof(*m->stats) +
                                    sizeof(*m->created) + sizeof(*m->paths) + longest));
    if (m == NULL)
        return NULL;
    m->n = n;
    m->created_size = longest;
    /* From the strictest alignment to none. */
    m->stats = (struct zk_stat *)(m + 1);
    m->raw_stats = (struct Stat *)(m->stats + n);
    m->results = (zoo_op_result_t *)(m->raw_stats + n);
    m->created = (char **)(m->results + n);
    m->paths = (const char **)(m->created + n);
    texts = (char *)(m->paths + n);
    for (size_t i = 0; i < n; i++)
        m->created[i] = texts + i * longest;
    return m;
}

static int zk_request_flags(int flags)
{
    return (flags & ZK_EPHEMERAL ? ZOO_EPHEMERAL : 0) | (flags & ZK_SEQUENTIAL ? ZOO_SEQUENCE : 0);
}

static void zk_request_fill_op(zoo_op_t *out, const struct zk_op *op, const char *path,
                               struct zk_request_multi *m, size_t i)
{
    switch (op->kind) {
    case ZK_OP_CHECK:
        zoo_check_op_init(out, path, op->version);
        break;
    case ZK_OP_SET:
        zoo_set_op_init(out, path, op->data, (int)op->len, op->version, &m->raw_stats[i]);
        break;
    case ZK_OP_CREATE:
        zoo_create_op_init(out, path, op->data, (int)op->len, &ZOO_OPEN_ACL_UNSAFE,
                           zk_request_flags(op->flags), m->created[i], (int)m->created_size);
        break;
    case ZK_OP_DELETE:
        zoo_delete_op_init(out, path, op->version);
        break;
    }
}

/* The library serializes the ops inside the call, so they and their paths may go right after it. */
static int zk_request_send_multi(struct zk_request *r, const struct zk_call *call)
{
    struct zk_request_multi *m = zk_request_make_multi(call);
    zoo_op_t *ops;
    char *paths;
    int rc;

    if (m == NULL)
        return ZSYSTEMERROR;
    r->multi = m;
    ops = calloc(m->n, sizeof(*ops) + m->created_size);
    if (ops == NULL)
        return ZSYSTEMERROR;
    paths = (char *)(ops + m->n);
    for (size_t i = 0; i < m->n; i++) {
        char *path = paths + i * m->created_size;

        (void)snprintf(path, m->created_size, "%s%s", call->ops_root, call->ops[i].path);
        zk_request_fill_op(&ops[i], &call->ops[i], path, m, i);
    }
    rc = zoo_amulti(r->handle->zh, (int)m->n, ops, m->results, zk_request_on_void, r);
    free(ops);
    return rc;
}

static int zk_request_call(struct zk_request *r, const struct zk_call *c)
{
    zhandle_t *zh = r->handle->zh;
    watcher_fn fn = r->watch != NULL ? zk_request_on_watch : NULL;

    switch (c->kind) {
    case ZK_REQUEST_GET:
        return zoo_awget(zh, c->path, fn, r->watch, zk_request_on_data, r);
    case ZK_REQUEST_EXISTS:
        return zoo_awexists(zh, c->path, fn, r->watch, zk_request_on_stat, r);
    case ZK_REQUEST_CHILDREN:
        return zoo_awget_children2(zh, c->path, fn, r->watch, zk_request_on_names, r);
    case ZK_REQUEST_CREATE:
        return zoo_acreate(zh, c->path, c->data, (int)c->len, &ZOO_OPEN_ACL_UNSAFE,
                           zk_request_flags(c->flags), zk_request_on_string, r);
    case ZK_REQUEST_SET:
        return zoo_aset(zh, c->path, c->data, (int)c->len, c->version, zk_request_on_stat, r);
    case ZK_REQUEST_DELETE:
        return zoo_adelete(zh, c->path, c->version, zk_request_on_void, r);
    case ZK_REQUEST_MULTI:
        return zk_request_send_multi(r, c);
    case ZK_REQUEST_SYNC:
        return zoo_async(zh, c->path, zk_request_on_string, r);
    }
    return ZBADARGUMENTS;
}

int zk_request_send(struct zk_handle *handle, const struct zk_call *call)
{
    struct zk_request *r = calloc(1, sizeof(*r));
    int rc;

    assert(handle->zh != NULL);
    if (r == NULL)
        return ERR_NOMEM;
    r->item.kind = ZK_ITEM_REQUEST;
    r->handle = handle;
    r->kind = call->kind;
    r->prefix_len = call->prefix_len;
    r->done = call->done;
    r->ctx = call->ctx;
    if (call->watch != NULL) {
        r->watch = zk_request_make_watch(handle, call);
        if (r->watch == NULL) {
            free(r);
            return ERR_NOMEM;
        }
    }
    /* Listed first: the answer may be in the queue before the call returns. */
    list_push_back(&handle->requests, &r->node);
    rc = zk_request_call(r, call);
    if (rc == ZOK)
        return 0;
    if (r->watch != NULL)
        zk_request_free_watch(r->watch);
    zk_request_free_node(&r->node);
    return rc == ZSYSTEMERROR || rc == ZMARSHALLINGERROR ? ERR_NOMEM : zk_request_error(rc);
}

struct zk_request *zk_request_first(struct zk_handle *handle)
{
    struct list *node = list_first(&handle->requests);

    return node != NULL ? list_entry(node, struct zk_request, node) : NULL;
}

/* The part that made the multi fail says why; those after it say ZRUNTIMEINCONSISTENCY, those before 0. */
static void zk_request_finish_multi(struct zk_request *r, int err)
{
    struct zk_request_multi *m = r->multi;
    struct zk_multi_result result = {.n = m->n, .failed = -1, .stats = m->stats, .paths = m->paths};

    for (size_t i = 0; i < m->n && err == 0; i++) {
        zk_request_stat(&m->stats[i], &m->raw_stats[i]);
        m->paths[i] = strlen(m->created[i]) > r->prefix_len ? m->created[i] + r->prefix_len : NULL;
    }
    /* Not when the connection was lost: then nobody knows, and the parts say nothing. */
    bool answered = err != 0 && err != ERR_CONNECTION && err != ERR_SESSION;
    for (size_t i = 0; i < m->n && answered && result.failed < 0; i++) {
        if (m->results[i].err != ZOK && m->results[i].err != ZRUNTIMEINCONSISTENCY) {
            result.failed = (int)i;
            err = zk_request_error(m->results[i].err);
        }
    }
    r->done.multi(r->ctx, err, &result);
}

static void zk_request_finish(struct zk_request *r, int err)
{
    const struct zk_stat *stat = err == 0 ? &r->stat : NULL;

    switch (r->kind) {
    case ZK_REQUEST_GET:
        r->done.data(r->ctx, err, err == 0 ? r->data : NULL, err == 0 ? r->len : 0, stat);
        break;
    case ZK_REQUEST_EXISTS:
    case ZK_REQUEST_SET:
        r->done.stat(r->ctx, err, stat);
        break;
    case ZK_REQUEST_CHILDREN:
        r->done.children(r->ctx, err, err == 0 ? (const char *const *)r->names : NULL,
                         err == 0 ? r->n_names : 0, stat);
        break;
    case ZK_REQUEST_CREATE:
        r->done.path(r->ctx, err, err == 0 && r->len > r->prefix_len ? r->data + r->prefix_len : NULL);
        break;
    case ZK_REQUEST_DELETE:
    case ZK_REQUEST_SYNC:
        r->done.done(r->ctx, err);
        break;
    case ZK_REQUEST_MULTI:
        zk_request_finish_multi(r, err);
        break;
    }
}

void zk_request_deliver(struct zk_item *item)
{
    struct zk_request *r = list_entry(&item->node, struct zk_request, item.node);

    assert(item->kind == ZK_ITEM_REQUEST);
    list_remove(&r->node); /* from here on it is ours: the callback may close the session */
    if (r->watch != NULL && !r->watching)
        zk_request_free_watch(r->watch);
    if (!r->ended)
        zk_request_finish(r, r->err);
    zk_request_free(r);
}

void zk_request_end(struct zk_request *r, int err)
{
    struct zk_handle *handle = r->handle;

    assert(!r->ended && err != 0);
    r->ended = true;
    list_remove(&r->node);
    list_push_back(&handle->ended, &r->node);
    /* The library may still send it after a reconnect and even set its watch: then nobody is to hear of it.
     */
    if (r->watch != NULL)
        r->watch->fn = NULL;
    if (r->kind == ZK_REQUEST_MULTI) {
        /* r->multi is the completion thread's. */
        struct zk_multi_result none = {.n = r->multi->n, .failed = -1};

        r->done.multi(r->ctx, err, &none);
        return;
    }
    zk_request_finish(r, err);
}

void zk_request_deliver_watch(struct zk_watch *w)
{
    list_remove(&w->node);
    if (w->fn != NULL)
        w->fn(w->ctx, w->path);
    free(w);
}
