/* What the monitor sets on its members, with real servers. */
#include "common/loop.h"
#include "controller/monitor.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/wait.h"
#include "tests/lib/watched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct wish {
    struct redis_server *server;
    const char *setting, *value;
};

static bool has_setting(void *ctx)
{
    const struct wish *wish = ctx;
    return strcmp(redis_server_config(wish->server, wish->setting), wish->value) == 0;
}

static void wait_setting(struct watched *w, struct redis_server *s, const char *setting, const char *value)
{
    struct wish wish = {s, setting, value};
    if (!wait_until(w->loop, has_setting, &wish, 5000))
        fail_msg("%s is %s, not %s", setting, redis_server_config(s, setting), value);
}

static void test_silence_is_made_to_mean_something(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    (void)state;
    watched_open(&w, &s->address, 20);
    wait_setting(&w, s, "repl-ping-replica-period", "1");
    wait_setting(&w, s, "lua-time-limit", "2000");
    watched_end(&w);
    redis_server_do(s, "CONFIG SET lua-time-limit 700"); /* stricter than we need: left alone */
    redis_server_do(s, "CONFIG SET repl-ping-replica-period 10");
    w = (struct watched){0};
    watched_open(&w, &s->address, 20);
    wait_setting(&w, s, "repl-ping-replica-period", "1");
    assert_string_equal(redis_server_config(s, "lua-time-limit"), "700");
    watched_end(&w);
    redis_server_stop(s);
}

static void test_min_replicas_follow_the_policy(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    (void)state;
    redis_server_do(s, "CONFIG SET min-replicas-to-write 3"); /* the server's own */
    watched_open(&w, &s->address, 20);
    monitor_set_min_replicas(w.member, 0, 10);
    wait_setting(&w, s, "repl-ping-replica-period", "1");
    assert_string_equal(redis_server_config(s, "min-replicas-to-write"), "3");
    monitor_set_min_replicas(w.member, 1, 7);
    wait_setting(&w, s, "min-replicas-to-write", "1");
    wait_setting(&w, s, "min-replicas-max-lag", "7");
    monitor_set_min_replicas(w.member, 0, 7);
    wait_setting(&w, s, "min-replicas-to-write", "0");
    watched_end(&w);
    redis_server_stop(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence_is_made_to_mean_something),
        cmocka_unit_test(test_min_replicas_follow_the_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
