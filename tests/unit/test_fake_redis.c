/* The pretended Redis of the scale bench must behave as the real one where a controller looks. */
#include "controller/core/info.h"
#include "tests/lib/fake_redis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ARGS_MAX = 8 };

struct world {
    struct fake_group group;
    struct fake_session sessions[3];
    struct fake_text out; /* of the last command, NUL-terminated */
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    fake_group_init(&w->group, (const int[]){7001, 7002, 7003}, 3);
    for (int i = 0; i < 3; i++)
        fake_session_init(&w->sessions[i], &w->group.members[i]);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 3; i++)
        fake_session_free(&w->sessions[i]);
    fake_text_free(&w->out);
    free(w);
    return 0;
}

/* Sends the words of `command` to member i; the answer is in w->out. */
static enum fake_change run(struct world *w, int i, const char *command)
{
    char words[256], *rest = NULL;
    struct fake_arg argv[ARGS_MAX];
    int argc = 0;
    snprintf(words, sizeof words, "%s", command);
    for (char *word = strtok_r(words, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = (struct fake_arg){word, strlen(word)};
    w->out.len = 0;
    const enum fake_change change = fake_execute(&w->sessions[i], argc, argv, &w->out);
    assert_true(w->out.len < w->out.size);
    w->out.data[w->out.len] = '\0';
    return change;
}

static void expect(struct world *w, int i, const char *command, const char *answer)
{
    run(w, i, command);
    assert_string_equal(w->out.data, answer);
}

/* What our own parser makes of member i's INFO. */
static struct info info_of(struct world *w, int i)
{
    struct info info;
    info_init(&info);
    run(w, i, "INFO");
    const char *text = strchr(w->out.data, '\n');
    assert_non_null(text);
    assert_int_equal(info_parse(text + 1, strlen(text + 1), &info), 0);
    return info;
}

static void a_group_begins_as_a_master_and_its_replicas(void **state)
{
    struct world *w = *state;
    const struct info master = info_of(w, 0), replica = info_of(w, 1);
    assert_int_equal(master.role, INFO_ROLE_MASTER);
    assert_int_equal(master.n_replicas, 2);
    assert_int_equal(master.replicas[1].address.port, 7003);
    assert_true(master.replicas[1].online);
    assert_int_equal(strlen(master.run_id), FAKE_ID_LEN);
    assert_int_equal(replica.role, INFO_ROLE_REPLICA);
    assert_int_equal(replica.master.port, 7001);
    assert_true(replica.master_link_up);
    assert_string_equal(replica.repl_id, master.repl_id);
    assert_string_not_equal(replica.run_id, master.run_id);
}

static void writes_move_every_offset_that_is_linked(void **state)
{
    struct world *w = *state;
    expect(w, 0, "SET a 1", "+OK\r\n");
    expect(w, 1, "SET a 1", "-READONLY You can't write against a read only replica.\r\n");
    const int64_t offset = info_of(w, 0).offset;
    assert_true(offset > 0);
    assert_int_equal(info_of(w, 2).offset, offset);
    expect(w, 0, "WAIT 2 100", ":2\r\n");
}

static void a_seal_detaches_and_tells_the_final_offset(void **state)
{
    struct world *w = *state;
    run(w, 0, "SET a 1");
    const int64_t sealed = info_of(w, 1).offset;
    expect(w, 1, "MULTI", "+OK\r\n");
    expect(w, 1, "REPLICAOF 127.0.0.1 1", "+QUEUED\r\n");
    expect(w, 1, "INFO replication", "+QUEUED\r\n");
    assert_int_equal(run(w, 1, "EXEC"), FAKE_FOLLOWS);
    assert_memory_equal(w->out.data, "*2\r\n+OK\r\n$", 10);
    assert_non_null(strstr(w->out.data, "master_link_status:down"));
    run(w, 0, "SET a 2");
    assert_int_equal(info_of(w, 1).offset, sealed);
    assert_int_equal(info_of(w, 0).n_replicas, 1);
}

static void a_promotion_begins_a_history_that_continues_the_old_one(void **state)
{
    struct world *w = *state;
    run(w, 0, "SET a 1");
    const struct info before = info_of(w, 1);
    fake_member_kill(&w->group.members[0]);
    assert_false(info_of(w, 1).master_link_up);
    assert_int_equal(run(w, 1, "REPLICAOF NO ONE"), FAKE_PROMOTED);
    assert_int_equal(run(w, 1, "REPLICAOF NO ONE"), FAKE_NOTHING);
    assert_int_equal(run(w, 2, "REPLICAOF 127.0.0.1 7002"), FAKE_FOLLOWS);
    const struct info master = info_of(w, 1), replica = info_of(w, 2);
    assert_int_equal(master.role, INFO_ROLE_MASTER);
    assert_string_equal(master.repl_id2, before.repl_id);
    assert_string_not_equal(master.repl_id, before.repl_id);
    assert_int_equal(master.second_offset, before.offset + 1);
    assert_string_equal(replica.repl_id, master.repl_id);
    assert_true(replica.master_link_up);
}

static void a_master_that_restarts_empty_wipes_who_follows_it(void **state)
{
    struct world *w = *state;
    run(w, 0, "SET a 1");
    const struct info before = info_of(w, 0);
    fake_member_kill(&w->group.members[0]);
    run(w, 2, "REPLICAOF 127.0.0.1 1");
    fake_member_start(&w->group.members[0]);
    const struct info after = info_of(w, 0);
    assert_string_not_equal(after.run_id, before.run_id);
    assert_int_equal(after.offset, 0);
    assert_int_equal(info_of(w, 1).offset, 0);
    assert_int_equal(info_of(w, 2).offset, before.offset);
}

static void a_ring_of_replicas_has_no_link(void **state)
{
    struct world *w = *state;
    run(w, 0, "REPLICAOF 127.0.0.1 7002");
    assert_false(fake_member_link_is_up(&w->group.members[0]));
    assert_false(fake_member_link_is_up(&w->group.members[1]));
    assert_false(fake_member_link_is_up(&w->group.members[2]));
}

static void errors_are_worded_as_redis_words_them(void **state)
{
    struct world *w = *state;
    expect(w, 0, "EXEC", "-ERR EXEC without MULTI\r\n");
    expect(w, 0, "REPLICAOF x", "-ERR wrong number of arguments for 'replicaof' command\r\n");
    expect(w, 0, "REPLICAOF 127.0.0.1 99999", "-ERR Invalid master port\r\n");
    run(w, 0, "FLUSHALL");
    assert_memory_equal(w->out.data, "-ERR unknown command 'FLUSHALL'", 31);
    expect(w, 0, "MULTI", "+OK\r\n");
    for (int i = 0; i < FAKE_QUEUE_MAX; i++)
        expect(w, 0, "PING", "+QUEUED\r\n");
    run(w, 0, "PING");
    assert_memory_equal(w->out.data, "-ERR", 4);
    expect(w, 0, "DISCARD", "+OK\r\n");
    expect(w, 0, "PING", "+PONG\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(a_group_begins_as_a_master_and_its_replicas),
        TEST(writes_move_every_offset_that_is_linked),
        TEST(a_seal_detaches_and_tells_the_final_offset),
        TEST(a_promotion_begins_a_history_that_continues_the_old_one),
        TEST(a_master_that_restarts_empty_wipes_who_follows_it),
        TEST(a_ring_of_replicas_has_no_link),
        TEST(errors_are_worded_as_redis_words_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
