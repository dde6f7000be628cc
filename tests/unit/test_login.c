/* Clients of a fenced instance say who they are without any epoch; its servers are told the present one. */
#include "proxy/core/login.h"
#include "tests/lib/session_bench.h"
#include "tests/lib/session_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define AUTH(user) "*3\r\n$4\r\nAUTH\r\n" user "\r\n$2\r\npw\r\n"
#define APP        "$3\r\napp"
#define APP_7      "$6\r\napp-e7"
#define APP_8      "$6\r\napp-e8"

static const struct route fenced = {.name = "cart", .epoch = 7, .fence_user = "app"};

/* What the server is told of it; the same when it needs no change. */
static const char *told(const struct route *r, const char *request)
{
    static char text[1024];
    struct buf out = {0};
    if (!login_to_server(r, request, strlen(request), &out))
        return request;
    (void)snprintf(text, sizeof(text), "%.*s", (int)buf_len(&out), buf_at(&out, buf_start(&out)));
    buf_free(&out);
    return text;
}

static void test_only_the_fences_user_is_changed(void **state)
{
    static const char *const same[] = {
        AUTH("$5\r\nother"),
        AUTH("$4\r\napp2"),
        AUTH("$5\r\napp-e"),
        AUTH("$7\r\napp-e7x"),
        AUTH("$3\r\nAPP"),
        AUTH("$6\r\napp-f7"),
        AUTH(APP_7),                         /* it is the present one's */
        "*2\r\n$4\r\nAUTH\r\n$3\r\napp\r\n", /* a password, of the default user */
        "*3\r\n$3\r\nSET\r\n$3\r\napp\r\n$2\r\npw\r\n",
        "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    };
    (void)state;
    for (size_t k = 0; k < sizeof(same) / sizeof(same[0]); k++)
        assert_ptr_equal(told(&fenced, same[k]), same[k]);
    assert_string_equal(told(&fenced, AUTH(APP)), AUTH(APP_7));
    assert_string_equal(told(&fenced, "auth app pw\r\n"),
                        "*3\r\n$4\r\nauth\r\n" APP_7 "\r\n$2\r\npw\r\n");  /* by hand */
    assert_string_equal(told(&fenced, AUTH("$6\r\napp-e6")), AUTH(APP_7)); /* goes along with the epochs */
    assert_string_equal(told(&fenced, "*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nauth\r\n" APP
                                      "\r\n$2\r\npw\r\n$7\r\nSETNAME\r\n$2\r\nme\r\n"),
                        "*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nauth\r\n" APP_7
                        "\r\n$2\r\npw\r\n$7\r\nSETNAME\r\n$2\r\nme\r\n");
    struct route open = fenced;
    open.fence_user[0] = '\0';
    assert_string_equal(told(&open, AUTH(APP)), AUTH(APP));
}

static void test_what_a_connection_is_told_first(void **state)
{
    struct buf text = {0};
    (void)state;
    assert_int_equal(buf_append(&text, AUTH(APP) "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n",
                                strlen(AUTH(APP) "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n")),
                     0);
    assert_int_equal(login_map(&fenced, &text), 0);
    assert_int_equal(buf_len(&text), strlen(AUTH(APP_7) "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"));
    assert_memory_equal(buf_at(&text, buf_start(&text)), AUTH(APP_7) "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n",
                        buf_len(&text));
    buf_free(&text);
    assert_int_equal(buf_append(&text, "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n", 23), 0);
    assert_int_equal(login_map(&fenced, &text), 0); /* nobody has logged in */
    assert_memory_equal(buf_at(&text, buf_start(&text)), "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n", 23);
    buf_free(&text);
}

static void bench_fenced(struct session_bench *b)
{
    bench_init(b);
    strcpy(b->route.fence_user, "app");
    assert_int_equal(b->route.epoch, 7);
}

static void test_a_client_goes_along_with_the_epochs(void **state)
{
    struct session_bench b;
    (void)state;
    bench_fenced(&b);
    client_says(&b, AUTH(APP) "*1\r\n$4\r\nPING\r\n"); /* with something behind it */
    assert_string_equal(to_server(&b), AUTH(APP_7) "*1\r\n$4\r\nPING\r\n");
    server_says(&b, "+OK\r\n+PONG\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n+PONG\r\n");
    break_and_attach(&b);
    client_says(&b, "*1\r\n$4\r\nPING\r\n");
    assert_string_equal(to_server(&b), AUTH(APP_8));
    server_says(&b, "+OK\r\n");
    assert_string_equal(to_server(&b), "*1\r\n$4\r\nPING\r\n");
    server_says(&b, "+PONG\r\n");
    assert_string_equal(to_client(&b), "+PONG\r\n");
    bench_free(&b);
}

/* AUTH on its way when the master is lost: it is told the next one in the next one's words. */
static void test_a_login_that_was_lost_is_translated_anew(void **state)
{
    struct session_bench b;
    (void)state;
    bench_fenced(&b);
    b.env.held = true;
    session_detached(&b.session, 0);
    client_says(&b, AUTH(APP_7));
    assert_string_equal(to_server(&b), "");
    b.env.held = false;
    b.route.epoch = 8;
    session_attached(&b.session, 0);
    assert_string_equal(to_server(&b), AUTH(APP_8));
    server_says(&b, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    assert_string_equal(to_client(&b), "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    bench_free(&b);
}

/* The fence is turned off: who has logged in under it goes on as the user that it said. */
static void test_the_fence_is_turned_off(void **state)
{
    struct session_bench b;
    (void)state;
    bench_fenced(&b);
    client_says(&b, AUTH(APP));
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    (void)to_client(&b);
    b.route.fence_user[0] = '\0';
    break_and_attach(&b);
    client_says(&b, "*1\r\n$4\r\nPING\r\n");
    assert_string_equal(to_server(&b), AUTH(APP));
    bench_free(&b);
}

/* A server that doesn't know the epoch's user (yet) is doubted, but not for ever. */
static void test_a_refused_login_is_doubted_a_few_times(void **state)
{
    static const char refusal[] = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    struct session_bench b;
    (void)state;
    bench_fenced(&b);
    client_says(&b, AUTH(APP));
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    (void)to_client(&b);
    break_and_attach(&b);
    for (int k = 0; k < 3; k++) {
        client_says(&b, "*1\r\n$4\r\nPING\r\n");
        (void)to_server(&b);
        server_says(&b, refusal);
        unsigned actions = session_take_actions(&b.session);
        assert_int_equal(actions & (SESSION_DOUBT | SESSION_DETACH | SESSION_CLOSE),
                         SESSION_DOUBT | SESSION_DETACH);
        session_attached(&b.session, 0);
    }
    (void)to_server(&b);
    server_says(&b, refusal);
    assert_true(session_take_actions(&b.session) & SESSION_CLOSE);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_fences_user_is_changed),
        cmocka_unit_test(test_what_a_connection_is_told_first),
        cmocka_unit_test(test_a_client_goes_along_with_the_epochs),
        cmocka_unit_test(test_a_login_that_was_lost_is_translated_anew),
        cmocka_unit_test(test_the_fence_is_turned_off),
        cmocka_unit_test(test_a_refused_login_is_doubted_a_few_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
