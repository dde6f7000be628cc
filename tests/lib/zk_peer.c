#include "tests/lib/zk_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct zk_server *zk_peer_server;

void zk_peer_on_state(void *ctx, enum zk_session_state state, bool fresh)
{
    static const char letters[] = "kcse";
    struct zk_peer *p = ctx;
    size_t len = strlen(p->states);

    assert_true(len + 1 < sizeof(p->states));
    assert_true(!fresh || state == ZK_CONNECTED);
    p->states[len] = fresh ? 'C' : letters[state];
    if (state == ZK_EXPIRED && p->close_on_expired) {
        zk_session_close(p->zk, 0);
        p->zk = NULL;
    }
}

bool zk_peer_is_in_state(void *ctx)
{
    struct zk_peer *p = ctx;

    return p->zk != NULL && zk_session_state(p->zk) == p->awaited;
}

bool zk_peer_is_closed(void *ctx)
{
    return ((struct zk_peer *)ctx)->zk == NULL;
}

bool zk_peer_is_answered(void *ctx)
{
    return ((struct zk_answer *)ctx)->calls > 0;
}

bool zk_peer_has_fired(void *ctx)
{
    return ((struct zk_answer *)ctx)->fired > 0;
}

void zk_peer_await_state(struct zk_peer *p, enum zk_session_state state)
{
    p->awaited = state;
    assert_true(wait_until(p->loop, zk_peer_is_in_state, p, ZK_PEER_PATIENCE_MS));
}

void zk_peer_open_at(struct zk_peer *p, struct loop *loop, const char *hosts)
{
    struct zk_session_config config = {hosts, ZK_PEER_TIMEOUT_MS, zk_peer_on_state, p};

    memset(p, 0, sizeof(*p));
    p->loop = loop;
    assert_int_equal(zk_session_open(&p->zk, loop, &config), 0);
}

/* Each test has a chroot of its own on the shared zk_peer_server. */
void zk_peer_open_fresh(struct zk_peer *p, struct loop *loop, const char *chroot)
{
    char hosts[128];

    (void)snprintf(hosts, sizeof(hosts), "%s%s", zk_server_hosts(zk_peer_server), chroot);
    zk_peer_open_at(p, loop, hosts);
    zk_peer_await_state(p, ZK_CONNECTED);
    assert_string_equal(p->states, "C");
}

void zk_peer_end(struct zk_peer *p)
{
    zk_session_close(p->zk, ZK_PEER_PATIENCE_MS);
    loop_destroy(p->loop);
}

/* ---- answers ---------------------------------------------------------------------------------------------
 */

void zk_peer_on_done(void *ctx, int err)
{
    struct zk_answer *a = ctx;

    a->calls++;
    a->err = err;
}

void zk_peer_on_stat(void *ctx, int err, const struct zk_stat *stat)
{
    struct zk_answer *a = ctx;

    zk_peer_on_done(a, err);
    assert_true((err == 0) == (stat != NULL));
    if (stat != NULL)
        a->stat = *stat;
}

void zk_peer_on_path(void *ctx, int err, const char *path)
{
    struct zk_answer *a = ctx;

    zk_peer_on_done(a, err);
    assert_true((err == 0) == (path != NULL));
    (void)snprintf(a->text, sizeof(a->text), "%s", path != NULL ? path : "");
}

void zk_peer_on_data(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat)
{
    struct zk_answer *a = ctx;

    zk_peer_on_stat(a, err, stat);
    a->text[0] = '\0';
    if (err == 0) {
        assert_int_equal(data[len], '\0');
        (void)snprintf(a->text, sizeof(a->text), "%s", data);
    }
}

int zk_peer_compare_names(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

void zk_peer_on_children(void *ctx, int err, const char *const *names, size_t n, const struct zk_stat *stat)
{
    struct zk_answer *a = ctx;
    const char *sorted[16];
    size_t len = 0;

    zk_peer_on_stat(a, err, stat);
    assert_true(n <= 16);
    if (n > 0)
        memcpy(sorted, names, n * sizeof(*names));
    qsort(sorted, n, sizeof(*sorted), zk_peer_compare_names);
    a->text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(a->text + len, sizeof(a->text) - len, "%s%s", i > 0 ? " " : "", sorted[i]);
}

void zk_peer_on_multi(void *ctx, int err, const struct zk_multi_result *result)
{
    struct zk_answer *a = ctx;

    zk_peer_on_done(a, err);
    a->failed = result->failed;
    for (size_t i = 0; i < result->n && err == 0; i++) {
        a->op_stats[i] = result->stats[i];
        (void)snprintf(a->op_paths[i], sizeof(a->op_paths[i]), "%s",
                       result->paths[i] != NULL ? result->paths[i] : "");
    }
}

void zk_peer_on_watch(void *ctx, const char *path)
{
    struct zk_answer *a = ctx;

    a->fired++;
    (void)snprintf(a->fired_path, sizeof(a->fired_path), "%s", path);
}

int zk_peer_await(struct zk_peer *p, struct zk_answer *a)
{
    assert_true(wait_until(p->loop, zk_peer_is_answered, a, ZK_PEER_PATIENCE_MS));
    assert_int_equal(a->calls, 1);
    return a->err;
}

int zk_peer_do_create(struct zk_peer *p, const char *path, const char *data, int flags, struct zk_answer *a)
{
    *a = (struct zk_answer){0};
    assert_int_equal(zk_create(p->zk, path, data, strlen(data), flags, zk_peer_on_path, a), 0);
    return zk_peer_await(p, a);
}

int zk_peer_do_get(struct zk_peer *p, const char *path, struct zk_answer *a)
{
    *a = (struct zk_answer){0};
    assert_int_equal(zk_get(p->zk, path, NULL, zk_peer_on_data, a), 0);
    return zk_peer_await(p, a);
}

int zk_peer_do_set(struct zk_peer *p, const char *path, const char *data, int32_t version,
                   struct zk_answer *a)
{
    *a = (struct zk_answer){0};
    assert_int_equal(zk_set(p->zk, path, data, strlen(data), version, zk_peer_on_stat, a), 0);
    return zk_peer_await(p, a);
}

int zk_peer_do_delete(struct zk_peer *p, const char *path, int32_t version)
{
    struct zk_answer a = {0};

    assert_int_equal(zk_delete(p->zk, path, version, zk_peer_on_done, &a), 0);
    return zk_peer_await(p, &a);
}

int zk_peer_do_multi(struct zk_peer *p, const struct zk_op *ops, size_t n, struct zk_answer *a)
{
    *a = (struct zk_answer){0};
    assert_int_equal(zk_multi(p->zk, ops, n, zk_peer_on_multi, a), 0);
    return zk_peer_await(p, a);
}
