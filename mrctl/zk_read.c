#include "mrctl/zk_read.h"

#include "common/loop.h"
#include "common/zk_session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ZK_READ_SESSION_MS = 4000, ZK_READ_CLOSE_MS = 500, ZK_READ_PATH_MAX = 512 };

struct zk_read_node {
    struct zk_read *read;
    char *name;
    char *data; /* NULL: it vanished */
    size_t len;
};

struct zk_read {
    struct loop *loop;
    struct zk_session *zk;
    const char *folder;
    ev_timer deadline;
    bool asked;
    size_t n, pending;
    struct zk_read_node *nodes;
    int err;
};

static void zk_read_end(struct zk_read *read, int err)
{
    if (read->err == 0)
        read->err = err;
    loop_stop(read->loop);
}

static void zk_read_on_data(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat)
{
    (void)stat;
    struct zk_read_node *node = ctx;
    struct zk_read *read = node->read;
    if (err != 0 && err != ERR_NOT_FOUND) {
        zk_read_end(read, err);
        return;
    }
    if (err == 0) {
        node->data = malloc(len + 1);
        if (node->data == NULL) {
            zk_read_end(read, ERR_NOMEM);
            return;
        }
        if (len > 0)
            memcpy(node->data, data, len);
        node->len = len;
    }
    assert(read->pending > 0);
    if (--read->pending == 0)
        zk_read_end(read, 0);
}

static void zk_read_on_children(void *ctx, int err, const char *const *names, size_t n,
                                const struct zk_stat *stat)
{
    (void)stat;
    struct zk_read *read = ctx;
    if (err == ERR_NOT_FOUND || (err == 0 && n == 0)) {
        zk_read_end(read, 0); /* nobody ever used this ZooKeeper: an empty folder */
        return;
    }
    if (err == 0) {
        read->nodes = calloc(n, sizeof *read->nodes);
        err = read->nodes != NULL ? 0 : ERR_NOMEM;
    }
    for (size_t k = 0; err == 0 && k < n; k++) {
        char path[ZK_READ_PATH_MAX];
        int len = snprintf(path, sizeof path, "%s/%s", read->folder, names[k]);
        if (len < 0 || (size_t)len >= sizeof path)
            continue;
        struct zk_read_node *node = &read->nodes[read->n++];
        node->read = read;
        node->name = strdup(names[k]);
        err = node->name != NULL ? zk_get(read->zk, path, NULL, zk_read_on_data, node) : ERR_NOMEM;
        read->pending += err == 0;
    }
    if (err != 0 || read->pending == 0)
        zk_read_end(read, err);
}

static void zk_read_on_state(void *ctx, enum zk_session_state state, bool fresh)
{
    (void)fresh;
    struct zk_read *read = ctx;
    if (state != ZK_CONNECTED || read->asked)
        return;
    read->asked = true;
    int err = zk_children(read->zk, read->folder, NULL, zk_read_on_children, read);
    if (err != 0)
        zk_read_end(read, err);
}

static void zk_read_on_deadline(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    struct zk_read *read = timer->data;
    zk_read_end(read, ERR_UNREACHABLE);
}

static int zk_read_by_name(const void *a, const void *b)
{
    const struct zk_read_node *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void zk_read_run(struct zk_read *read, const char *hosts, int timeout_ms)
{
    const struct zk_session_config config = {
        .hosts = hosts, .timeout_ms = ZK_READ_SESSION_MS, .on_state = zk_read_on_state, .ctx = read};
    read->err = zk_session_open(&read->zk, read->loop, &config);
    if (read->err != 0)
        return;
    ev_timer_init(&read->deadline, zk_read_on_deadline, timeout_ms / 1000.0, 0);
    read->deadline.data = read;
    ev_timer_start(loop_ev(read->loop), &read->deadline);
    loop_run(read->loop);
    ev_timer_stop(loop_ev(read->loop), &read->deadline);
    zk_session_close(read->zk, ZK_READ_CLOSE_MS);
}

static void zk_read_free(struct zk_read *read)
{
    for (size_t k = 0; k < read->n; k++) {
        free(read->nodes[k].name);
        free(read->nodes[k].data);
    }
    free(read->nodes);
    if (read->loop != NULL)
        loop_destroy(read->loop);
}

int zk_read_folder(const char *hosts, const char *folder, int timeout_ms, zk_read_fn on_node, void *ctx,
                   char *why, size_t why_size)
{
    assert(hosts != NULL && folder != NULL && timeout_ms > 0);
    struct zk_read read = {.loop = loop_create(false), .folder = folder};
    if (read.loop == NULL)
        read.err = ERR_NOMEM;
    else
        zk_read_run(&read, hosts, timeout_ms);
    if (read.err == ERR_INVALID)
        (void)snprintf(why, why_size, "'%s' is not a list of ZooKeeper servers like h1:2181,h2:2181/mr-redis",
                       hosts);
    else if (read.err != 0)
        (void)snprintf(why, why_size, "ZooKeeper at %s: %s", hosts,
                       read.err == ERR_UNREACHABLE ? "no answer" : err_text(read.err));
    if (read.err == 0 && read.n > 0) {
        qsort(read.nodes, read.n, sizeof *read.nodes, zk_read_by_name);
        for (size_t k = 0; k < read.n; k++)
            if (read.nodes[k].data != NULL)
                on_node(ctx, read.nodes[k].name, read.nodes[k].data, read.nodes[k].len);
    }
    int err = read.err;
    zk_read_free(&read);
    return err;
}
