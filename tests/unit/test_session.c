/* The session without sockets: seeded runs of the model, and the cases that need an exact moment. */
#include "tests/fuzz/session_model.h"
#include "tests/lib/session_words.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SEEDS = 1500, DICE_MAX = 4200 };

static void test_random_runs_lose_double_and_reorder_nothing(void **state)
{
    static uint8_t dice[DICE_MAX];

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t x = seed * 0x9E3779B97F4A7C15ULL + 1;
        size_t n = 200 + seed % 4000;
        for (size_t i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            dice[i] = (uint8_t)(x >> 24);
        }
        if (seed % 500 == 1)
            print_message("seeds from %llu\n", (unsigned long long)seed);
        model_run(dice, n);
    }
}

/* ---- exact moments --------------------------------------------------------------------------------------
 */

static void test_reads_are_sent_again_and_writes_are_unknown_in_their_place(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "GET a\r\nSET b 1\r\nGET c\r\n");
    assert_string_equal(to_server(&b), "GET a\r\nSET b 1\r\nGET c\r\n");
    break_and_attach(&b);
    assert_string_equal(to_server(&b), "GET a\r\nGET c\r\n");
    server_says(&b, "$1\r\nA\r\n$1\r\nC\r\n");
    const char *text = to_client(&b);
    assert_memory_equal(text, "$1\r\nA\r\n-MRUNKNOWN ", 18);
    assert_non_null(strstr(text, "(epoch 7)"));
    assert_string_equal(strstr(text, "\r\n$1") + 2, "$1\r\nC\r\n");
    assert_true(session_is_idle(&b.session));
    assert_null(b.session.work);
    bench_free(&b);
}

static void test_a_request_written_in_part_was_not_executed(void **state)
{
    struct buf_span spans[4];
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SET b 1\r\n");
    assert_int_equal(session_request_spans(&b.session, spans, 4), 1);
    session_request_wrote(&b.session, 0, 8); /* all but the newline */
    break_and_attach(&b);
    assert_string_equal(to_server(&b), "SET b 1\r\n");
    bench_free(&b);
}

static void test_half_a_reply_is_taken_back_if_the_client_has_none_of_it(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "GET a\r\n");
    (void)to_server(&b);
    server_says(&b, "$10\r\nAAAAA");
    break_and_attach(&b);
    assert_string_equal(to_server(&b), "GET a\r\n");
    server_says(&b, "$10\r\nBBBB");
    assert_string_equal(to_client(&b), "$10\r\nBBBB");
    session_detached(&b.session, 0);
    assert_true(session_take_actions(&b.session) & SESSION_CLOSE);
    bench_free(&b);
}

static void test_watch_across_a_switch_makes_exec_null(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "WATCH k\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    (void)to_client(&b);
    break_and_attach(&b);
    client_says(&b, "GET k\r\nMULTI\r\nSET k 1\r\nEXEC\r\nSET x 1\r\n");
    assert_string_equal(to_server(&b), "GET k\r\nSET x 1\r\n");
    server_says(&b, "$-1\r\n+OK\r\n");
    assert_string_equal(to_client(&b), "$-1\r\n+OK\r\n+QUEUED\r\n*-1\r\n+OK\r\n");
    bench_free(&b);
}

static void test_a_transaction_without_its_exec_is_aborted(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "MULTI\r\nSET k 1\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    break_and_attach(&b);
    client_says(&b, "SET l 1\r\nEXEC\r\nGET k\r\n");
    assert_string_equal(to_server(&b), "GET k\r\n");
    const char *text = to_client(&b);
    assert_memory_equal(text, "+OK\r\n+QUEUED\r\n+QUEUED\r\n-EXECABORT ", 34);
    bench_free(&b);
}

static void test_an_exec_in_flight_is_unknown_and_an_unanswered_multi_starts_over(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "MULTI\r\nSET k 1\r\nEXEC\r\nMULTI\r\nSET l 1\r\n");
    (void)to_server(&b);
    break_and_attach(&b);
    client_says(&b, "EXEC\r\n");
    assert_string_equal(to_server(&b), "MULTI\r\nSET l 1\r\nEXEC\r\n");
    const char *text = to_client(&b);
    assert_memory_equal(text, "+OK\r\n+QUEUED\r\n-MRUNKNOWN ", 25);
    bench_free(&b);
}

static void test_a_blocked_client_is_unblocked(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "BLPOP q 0\r\n");
    (void)to_server(&b);
    break_and_attach(&b);
    assert_memory_equal(to_client(&b), "-UNBLOCKED force unblock from blocking operation", 48);
    client_says(&b, "XREAD COUNT 1 STREAMS s 0\r\n"); /* doesn't block */
    (void)to_server(&b);
    break_and_attach(&b);
    assert_string_equal(to_server(&b), "XREAD COUNT 1 STREAMS s 0\r\n");
    bench_free(&b);
}

static void test_a_refused_write_waits_for_another_master_and_order_is_kept(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SET a 1\r\nGET a\r\nSET b 1\r\n");
    (void)to_server(&b);
    server_says(&b, "-READONLY You can't write against a read only replica.\r\n$3\r\nold\r\n");
    assert_int_equal(session_take_actions(&b.session), SESSION_DOUBT);
    server_says(&b, "-READONLY You can't write against a read only replica.\r\n");
    assert_int_equal(session_take_actions(&b.session), SESSION_DETACH);
    assert_string_equal(to_client(&b), "");
    assert_true(session_wants_backend(&b.session));
    session_attached(&b.session, 0);
    assert_string_equal(to_server(&b), "SET a 1\r\nGET a\r\nSET b 1\r\n");
    bench_free(&b);
}

static void test_waiting_ends_with_an_error_that_names_the_instance(void **state)
{
    struct session_bench b;
    uint32_t at_ms = 0;

    (void)state;
    bench_init(&b);
    session_detached(&b.session, 0);
    client_says(&b, "SET a 1\r\nMULTI\r\nSET b 1\r\n");
    assert_true(session_deadline(&b.session, &at_ms));
    assert_int_equal(at_ms, 1000);
    session_expire(&b.session, 999);
    assert_string_equal(to_client(&b), "");
    session_expire(&b.session, 1000);
    const char *text = to_client(&b);
    assert_memory_equal(text, "-MRHOLD held longer than 1000 ms: instance cart has no master (epoch 7)", 71);
    /* What follows a MULTI must not be executed outside of its transaction. */
    assert_non_null(strstr(text, "\r\n+OK\r\n+QUEUED\r\n"));
    session_attached(&b.session, 1000);
    client_says(&b, "EXEC\r\n");
    assert_string_equal(to_server(&b), "");
    assert_memory_equal(to_client(&b), "-EXECABORT ", 11);
    bench_free(&b);
}

/* What kills every server that executes it must not be carried from one master to the next. */
static void test_a_read_is_sent_again_once(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "KEYS *\r\n");
    assert_string_equal(to_server(&b), "KEYS *\r\n");
    session_detached(&b.session, 0);
    client_says(&b, "GET a\r\n"); /* not sent yet: no suspect */
    session_attached(&b.session, 0);
    assert_string_equal(to_server(&b), "KEYS *\r\nGET a\r\n");
    break_and_attach(&b);
    assert_memory_equal(to_client(&b), "-MRUNKNOWN ", 11);
    assert_string_equal(to_server(&b), "GET a\r\n");
    server_says(&b, "$1\r\n1\r\n");
    assert_string_equal(to_client(&b), "$1\r\n1\r\n");
    bench_free(&b);
}

/* What is sent to a server and what only meant to be: the one is sent again, the other waited. */
static void test_what_was_not_written_counts_as_held(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "GET a\r\n");
    assert_string_equal(to_server(&b), "GET a\r\n");
    client_says(&b, "GET b\r\nGET c\r\n"); /* the server is gone, which nobody knows yet */
    assert_int_equal(b.counts.held, 0);
    break_and_attach(&b);
    assert_int_equal(b.counts.held, 2);
    assert_int_equal(b.counts.replayed, 1);
    break_and_attach(&b); /* before any was written */
    assert_int_equal(b.counts.held, 2);
    assert_string_equal(to_server(&b), "GET a\r\nGET b\r\nGET c\r\n");
    bench_free(&b);
}

/* No server is lost by a PING: it isn't under suspicion, however often its connection is. */
static void test_what_asks_for_no_data_is_sent_again_each_time(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "PING\r\nDBSIZE\r\nECHO a\r\n");
    for (int i = 0; i < 2; i++) {
        assert_string_equal(to_server(&b), "PING\r\nDBSIZE\r\nECHO a\r\n");
        assert_string_equal(to_client(&b), "");
        break_and_attach(&b);
    }
    assert_string_equal(to_server(&b), "PING\r\nECHO a\r\n");
    server_says(&b, "+PONG\r\n$1\r\na\r\n");
    const char *text = to_client(&b);
    assert_memory_equal(text, "+PONG\r\n-MRUNKNOWN two connections ", 34);
    assert_non_null(strstr(text, "it only reads"));
    assert_non_null(strstr(text, "\r\n$1\r\na\r\n"));
    bench_free(&b);
}

/* A master at its client limit, a replica that the route calls master: it is not tried for ever. */
static void test_a_request_that_is_refused_again_and_again_waits_no_longer_than_others(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SET a 1\r\n");
    for (uint32_t now_ms = 5000; now_ms < 6000; now_ms += 100) {
        assert_string_equal(to_server(&b), "SET a 1\r\n");
        session_take_reply(&b.session, now_ms, "-ERR max number of clients reached\r\n", 36);
        assert_string_equal(b.env.refusal, "it has its maxclients");
        session_expire(&b.session, now_ms);
        assert_string_equal(to_client(&b), "");
        session_attached(&b.session, now_ms);
    }
    assert_string_equal(to_server(&b), "SET a 1\r\n");
    session_take_reply(&b.session, 6000, "-ERR max number of clients reached\r\n", 36);
    session_expire(&b.session, 6000);
    assert_memory_equal(to_client(&b), "-MRHOLD held longer than 1000 ms", 32);
    bench_free(&b);
}

static void test_a_half_closed_client_is_answered_while_a_master_can_be_reached(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    session_detached(&b.session, 0);
    client_says(&b, "SET a 1\r\nGET a\r\n");
    session_client_left(&b.session); /* its backend is still being connected */
    assert_int_equal(session_take_actions(&b.session), 0);
    assert_true(session_wants_backend(&b.session));
    session_attached(&b.session, 0);
    assert_string_equal(to_server(&b), "SET a 1\r\nGET a\r\n");
    assert_false(session_is_over(&b.session));
    server_says(&b, "+OK\r\n$1\r\n1\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n$1\r\n1\r\n");
    assert_true(session_is_over(&b.session));
    bench_free(&b);

    /* Nobody is to wait for a new master on behalf of a client that is gone: not one that leaves then, */
    bench_init(&b);
    session_detached(&b.session, 0);
    b.env.held = true;
    client_says(&b, "SET a 1\r\n");
    session_client_left(&b.session);
    assert_int_equal(session_take_actions(&b.session), SESSION_CLOSE);
    bench_free(&b);

    /* nor one whose master is lost before it was connected. */
    bench_init(&b);
    session_detached(&b.session, 0);
    client_says(&b, "SET a 1\r\n");
    session_client_left(&b.session);
    session_detached(&b.session, 0);
    assert_int_equal(session_take_actions(&b.session), SESSION_CLOSE);
    bench_free(&b);
}

static void test_the_connection_is_made_again_before_anything_else(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "HELLO 3 AUTH u p SETNAME n\r\nSELECT 4\r\nSELECT 99\r\nSUBSCRIBE x\r\n");
    (void)to_server(&b);
    server_says(&b, "%1\r\n+proto\r\n:3\r\n+OK\r\n-ERR DB index is out of range\r\n"
                    ">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    (void)to_client(&b);
    session_detached(&b.session, 0);
    assert_true(session_wants_backend(&b.session));
    session_attached(&b.session, 0);
    client_says(&b, "GET a\r\n");
    assert_string_equal(to_server(&b),
                        "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"
                        "*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n"
                        "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1\r\nn\r\n"
                        "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nx\r\n");
    server_says(&b, "+OK\r\n%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n");
    assert_string_equal(to_server(&b), "");
    server_says(&b, ">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$2\r\nhi\r\n");
    server_says(&b, ">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    assert_string_equal(to_server(&b), "GET a\r\n");
    assert_string_equal(to_client(&b), ">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$2\r\nhi\r\n");
    bench_free(&b);
}

static void test_a_login_that_fails_on_the_new_master_closes_the_client(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "AUTH p\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    break_and_attach(&b);
    (void)to_server(&b);
    server_says(&b, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    assert_true(session_take_actions(&b.session) & SESSION_CLOSE);
    assert_non_null(b.session.reason);
    bench_free(&b);
}

static void test_scripts_are_loaded_before_evalsha(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SCRIPT LOAD return\r\n");
    (void)to_server(&b);
    server_says(&b, "$2\r\nab\r\n");
    client_says(&b, "EVALSHA ab 0\r\n");
    assert_string_equal(to_server(&b), "EVALSHA ab 0\r\n");
    server_says(&b, "$-1\r\n");
    (void)to_client(&b);
    scripts_doubt(&b.env.scripts);
    break_and_attach(&b);
    client_says(&b, "SET a 1\r\nEVALSHA ab 0\r\n");
    assert_string_equal(to_server(&b), "SET a 1\r\n");
    server_says(&b, "+OK\r\n");
    assert_string_equal(to_server(&b), "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$6\r\nreturn\r\n");
    server_says(&b, "$2\r\nab\r\n");
    assert_string_equal(to_server(&b), "EVALSHA ab 0\r\n");
    server_says(&b, ":1\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n:1\r\n");
    bench_free(&b);
}

static void test_client_reply_off_and_skip_change_what_is_awaited(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n");
    (void)to_server(&b);
    server_says(&b, "$1\r\n1\r\n");
    assert_string_equal(to_client(&b), "$1\r\n1\r\n");
    client_says(&b, "CLIENT REPLY OFF\r\nSET a 1\r\nSET a 2\r\n");
    (void)to_server(&b);
    assert_true(session_is_idle(&b.session));
    break_and_attach(&b);
    client_says(&b, "CLIENT REPLY ON\r\nGET a\r\n");
    assert_string_equal(to_server(&b), "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n"
                                       "CLIENT REPLY ON\r\nGET a\r\n");
    server_says(&b, "+OK\r\n$1\r\n2\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n$1\r\n2\r\n");
    bench_free(&b);
}

static void test_monitor_lines_are_no_replies(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "MONITOR\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] \"keys\"\r\n");
    (void)to_client(&b);
    break_and_attach(&b);
    assert_string_equal(to_server(&b), "*1\r\n$7\r\nMONITOR\r\n");
    server_says(&b, "+OK\r\n+1339518084.107412 [0 127.0.0.1:60866] \"get\"\r\n");
    assert_string_equal(to_client(&b), "+1339518084.107412 [0 127.0.0.1:60866] \"get\"\r\n");
    bench_free(&b);
}

static void test_a_malformed_request_is_answered_in_its_turn_and_closes(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "GET a\r\n*1\r\n!oops\r\n");
    assert_string_equal(to_server(&b), "GET a\r\n");
    assert_string_equal(to_client(&b), "");
    server_says(&b, "$-1\r\n");
    assert_string_equal(to_client(&b), "$-1\r\n-ERR Protocol error: expected '$', got '!'\r\n");
    assert_true(session_is_over(&b.session));
    bench_free(&b);
}

static void test_tracking_is_enabled_again_and_everything_invalidated(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "HELLO 3\r\nCLIENT TRACKING ON\r\n");
    (void)to_server(&b);
    server_says(&b, "%1\r\n+proto\r\n:3\r\n+OK\r\n");
    (void)to_client(&b);
    break_and_attach(&b);
    assert_string_equal(to_client(&b), ">2\r\n$10\r\ninvalidate\r\n_\r\n");
    assert_non_null(strstr(to_server(&b), "TRACKING"));
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_runs_lose_double_and_reorder_nothing),
        cmocka_unit_test(test_reads_are_sent_again_and_writes_are_unknown_in_their_place),
        cmocka_unit_test(test_a_request_written_in_part_was_not_executed),
        cmocka_unit_test(test_half_a_reply_is_taken_back_if_the_client_has_none_of_it),
        cmocka_unit_test(test_watch_across_a_switch_makes_exec_null),
        cmocka_unit_test(test_a_transaction_without_its_exec_is_aborted),
        cmocka_unit_test(test_an_exec_in_flight_is_unknown_and_an_unanswered_multi_starts_over),
        cmocka_unit_test(test_a_blocked_client_is_unblocked),
        cmocka_unit_test(test_a_refused_write_waits_for_another_master_and_order_is_kept),
        cmocka_unit_test(test_waiting_ends_with_an_error_that_names_the_instance),
        cmocka_unit_test(test_a_read_is_sent_again_once),
        cmocka_unit_test(test_what_was_not_written_counts_as_held),
        cmocka_unit_test(test_what_asks_for_no_data_is_sent_again_each_time),
        cmocka_unit_test(test_a_request_that_is_refused_again_and_again_waits_no_longer_than_others),
        cmocka_unit_test(test_a_half_closed_client_is_answered_while_a_master_can_be_reached),
        cmocka_unit_test(test_the_connection_is_made_again_before_anything_else),
        cmocka_unit_test(test_a_login_that_fails_on_the_new_master_closes_the_client),
        cmocka_unit_test(test_scripts_are_loaded_before_evalsha),
        cmocka_unit_test(test_client_reply_off_and_skip_change_what_is_awaited),
        cmocka_unit_test(test_monitor_lines_are_no_replies),
        cmocka_unit_test(test_a_malformed_request_is_answered_in_its_turn_and_closes),
        cmocka_unit_test(test_tracking_is_enabled_again_and_everything_invalidated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
