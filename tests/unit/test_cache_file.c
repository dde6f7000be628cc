/* The cache file: what is written is read back, and nothing else is taken for routes. */
#include "proxy/cache_file.h"

#include "common/loop.h"
#include "proxy/core/route_table.h"
#include "tests/lib/wait.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    struct loop *loop;
    struct route_table table;
    char dir[64], path[96];
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    if (!w)
        return -1;
    snprintf(w->dir, sizeof(w->dir), "%s/mr-cache-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(w->dir))
        return -1;
    snprintf(w->path, sizeof(w->path), "%s/routes", w->dir);
    w->loop = loop_create(false);
    route_table_init(&w->table);
    *state = w;
    return w->loop ? 0 : -1;
}

static int teardown(void **state)
{
    struct world *w = *state;
    route_table_free(&w->table);
    loop_destroy(w->loop);
    unlink(w->path);
    int left = rmdir(w->dir); /* fails when a temporary file was left */
    free(w);
    return left;
}

static struct route *add(struct world *w, const char *name, const char *master)
{
    struct route_entry *e = route_table_add(&w->table, name);
    assert_non_null(e);
    e->route.port = 6100;
    e->route.epoch = 3;
    e->route.revision = 77;
    e->route.acks = 1;
    e->route.hold_ms = 1234;
    e->route.state = master ? ROUTE_SERVING : ROUTE_HELD;
    if (master) {
        assert_int_equal(topology_address_parse(master, &e->route.master), 0);
        assert_int_equal(topology_address_parse("[::1]:7", &e->route.replicas[e->route.n_replicas++]), 0);
    }
    return &e->route;
}

static void write_text(const struct world *w, const char *text)
{
    FILE *f = fopen(w->path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void test_round_trip(void **state)
{
    struct world *w = *state;
    struct cache_file *c;
    struct route *routes;
    size_t n;
    char why[200];
    struct stat st;

    add(w, "cart", "10.0.0.1:6379");
    add(w, "shop", NULL);
    assert_int_equal(cache_file_open(&c, w->loop, w->path, &w->table), 0);
    cache_file_touch(c);
    cache_file_close(c);
    assert_int_equal(stat(w->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(cache_file_read(w->path, &routes, &n, why, sizeof(why)), 0);
    assert_int_equal(n, 2);
    assert_string_equal(routes[0].name, "cart");
    assert_int_equal(routes[0].state, ROUTE_SERVING);
    assert_int_equal(routes[0].epoch, 3);
    assert_int_equal(routes[0].revision, 77);
    assert_int_equal(routes[0].hold_ms, 1234);
    assert_int_equal(routes[0].n_replicas, 1);
    assert_int_equal(routes[0].master.port, 6379);
    assert_string_equal(routes[1].name, "shop");
    assert_int_equal(routes[1].state, ROUTE_HELD);
    assert_int_equal(routes[1].port, 6100);
    free(routes);
}

struct expectation {
    const struct world *w;
    size_t n;
};

static bool file_has(void *ctx)
{
    const struct expectation *e = ctx;
    struct route *routes;
    size_t n;
    char why[200];
    bool ok = cache_file_read(e->w->path, &routes, &n, why, sizeof(why)) == 0 && n == e->n;
    free(routes);
    return ok;
}

/* Written after a while by itself; what changes while the writer works is written afterwards. */
static void test_written_in_the_background(void **state)
{
    struct world *w = *state;
    struct cache_file *c;

    assert_int_equal(cache_file_open(&c, w->loop, w->path, &w->table), 0);
    for (size_t i = 1; i <= 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%zu", i);
        add(w, name, "10.0.0.1:6379");
        cache_file_touch(c);
        cache_file_touch(c);
        assert_true(wait_until(w->loop, file_has, &(struct expectation){w, i}, WAIT_MS));
    }
    add(w, "last", NULL);
    cache_file_touch(c);
    cache_file_close(c);
    assert_true(file_has(&(struct expectation){w, 4}));
}

static void expect_error(const struct world *w, int expected, const char *words)
{
    struct route *routes;
    size_t n;
    char why[200] = "";

    assert_int_equal(cache_file_read(w->path, &routes, &n, why, sizeof(why)), expected);
    assert_null(routes);
    assert_int_equal(n, 0);
    if (!strstr(why, words))
        fail_msg("\"%s\" does not say \"%s\"", why, words);
}

static void test_bad_files(void **state)
{
    struct world *w = *state;
    static const char route[] = "{\"v\":1,\"type\":\"hold\",\"term\":0,\"seq\":0,\"revision\":1,\"instance\":"
                                "\"a\",\"port\":6100,\"epoch\":1}\n";
    char text[1024];

    expect_error(w, ERR_NOT_FOUND, "");
    write_text(w, "");
    expect_error(w, ERR_INVALID, "does not begin");
    write_text(w, "garbage\n");
    expect_error(w, ERR_INVALID, "does not begin");
    write_text(w, "mr-proxy routes, version 2, 0 lines\n");
    expect_error(w, ERR_VERSION, "newer");
    write_text(w, "mr-proxy routes, version 1, 999999999 lines\n");
    expect_error(w, ERR_TOO_LARGE, "announces");
    write_text(w, "mr-proxy routes, version 1, 1 lin");
    expect_error(w, ERR_INVALID, "malformed");
    snprintf(text, sizeof(text), "mr-proxy routes, version 1, 2 lines\n%s", route);
    write_text(w, text);
    expect_error(w, ERR_INVALID, "1 lines less");
    snprintf(text, sizeof(text), "mr-proxy routes, version 1, 1 lines\n%s%s", route, route);
    write_text(w, text);
    expect_error(w, ERR_INVALID, "more lines");
    snprintf(text, sizeof(text), "mr-proxy routes, version 1, 2 lines\n%s{\"v\":1}\n", route);
    write_text(w, text);
    expect_error(w, ERR_INVALID, "line 3");
    snprintf(text, sizeof(text), "mr-proxy routes, version 1, 1 lines\n%s", route);
    write_text(w, text);
    assert_true(file_has(&(struct expectation){w, 1}));
}

/* A folder that isn't there: a warning, and the proxy goes on. */
static void test_unwritable(void **state)
{
    struct world *w = *state;
    struct cache_file *c;
    char path[128];
    struct route *routes;
    size_t n;
    char why[200];

    snprintf(path, sizeof(path), "%s/no/such/file", w->dir);
    assert_int_equal(cache_file_open(&c, w->loop, path, &w->table), 0);
    cache_file_touch(c);
    cache_file_close(c);
    assert_int_equal(cache_file_read(path, &routes, &n, why, sizeof(why)), ERR_NOT_FOUND);
    assert_int_equal(cache_file_read(w->dir, &routes, &n, why, sizeof(why)), ERR_IO);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_written_in_the_background),
        TEST(test_bad_files),
        TEST(test_unwritable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
