/* A session while a planned switchover is prepared, and what moves to the new master without being noticed.
 */
#include "proxy/core/blocked.h"
#include "tests/lib/session_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void pause_(struct session_bench *b, enum session_pause pause)
{
    b->env.pause = (uint8_t)pause;
    if (pause == SESSION_FLOWS)
        session_route_changed(&b->session, b->now_ms);
}

static void test_new_requests_wait_and_old_replies_flow(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SET a 1\r\nGET a\r\n");
    (void)to_server(&b);
    pause_(&b, SESSION_FINISHING);
    client_says(&b, "SET b 1\r\n");
    assert_string_equal(to_server(&b), "");
    assert_true(session_is_in_flight(&b.session));
    server_says(&b, "+OK\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n");
    assert_true(session_is_in_flight(&b.session));
    server_says(&b, "$1\r\n1\r\n");
    assert_false(session_is_in_flight(&b.session));
    client_says(&b, "QUIT\r\n");
    assert_string_equal(to_server(&b), "");
    pause_(&b, SESSION_FLOWS);
    assert_string_equal(to_server(&b), "SET b 1\r\n");
    bench_free(&b);
}

/* Released before the pause, not yet taken by the socket: it is in flight, and its rest is written. */
static void test_what_was_begun_is_written_to_its_end(void **state)
{
    struct buf_span spans[4];
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SET b 1\r\n");
    assert_int_equal(session_request_spans(&b.session, spans, 4), 1);
    session_request_wrote(&b.session, 0, 4);
    pause_(&b, SESSION_STILL);
    assert_true(session_is_in_flight(&b.session));
    assert_string_equal(to_server(&b), "b 1\r\n");
    server_says(&b, "+OK\r\n");
    assert_false(session_is_in_flight(&b.session));
    bench_free(&b);
}

static void test_a_large_request_is_waited_for_in_the_first_half(void **state)
{
    static char half[20000];
    struct session_bench b;

    (void)state;
    bench_init(&b);
    memset(half, 'x', sizeof(half) - 1);
    client_says(&b, "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$30000\r\n");
    client_says(&b, half);
    pause_(&b, SESSION_FINISHING);
    assert_true(session_is_in_flight(&b.session));
    pause_(&b, SESSION_STILL);
    assert_false(session_is_in_flight(&b.session));
    bench_free(&b);
}

/* WAIT may have to wait for replicas that never come. */
static void test_wait_is_waited_for_in_the_first_half(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "WAIT 9 0\r\n");
    (void)to_server(&b);
    assert_false(session_awaits_reply(&b.session));
    pause_(&b, SESSION_FINISHING);
    assert_true(session_is_in_flight(&b.session));
    pause_(&b, SESSION_STILL);
    assert_false(session_is_in_flight(&b.session));
    pause_(&b, SESSION_FLOWS);
    server_says(&b, ":1\r\n");
    client_says(&b, "MULTI\r\nWAIT 9 0\r\nEXEC\r\n"); /* it doesn't wait here */
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    pause_(&b, SESSION_STILL);
    assert_true(session_is_in_flight(&b.session));
    bench_free(&b);
}

static void test_an_open_transaction_may_end_in_the_first_half(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "MULTI\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    pause_(&b, SESSION_FINISHING);
    assert_true(session_is_in_flight(&b.session));
    client_says(&b, "SET a 1\r\nEXEC\r\nSET b 1\r\nMULTI\r\n");
    assert_string_equal(to_server(&b), "SET a 1\r\nEXEC\r\n");
    server_says(&b, "+QUEUED\r\n*1\r\n+OK\r\n");
    assert_false(session_is_in_flight(&b.session));
    pause_(&b, SESSION_FLOWS);
    assert_string_equal(to_server(&b), "SET b 1\r\nMULTI\r\n");
    pause_(&b, SESSION_STILL);
    server_says(&b, "+OK\r\n+OK\r\n");
    assert_false(session_is_in_flight(&b.session)); /* its client has to go on: not waited for */
    client_says(&b, "SET c 1\r\n");
    assert_string_equal(to_server(&b), "");
    bench_free(&b);
}

/* One of its commands has waited too long: the server must not execute the others. */
static void test_a_transaction_that_waits_too_long_is_aborted_as_a_whole(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "MULTI\r\nSET a 1\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n+QUEUED\r\n");
    (void)to_client(&b);
    pause_(&b, SESSION_STILL);
    client_says(&b, "SET b 1\r\n");
    session_expire(&b.session, 1000);
    assert_true(session_take_actions(&b.session) & SESSION_DETACH);
    assert_string_equal(to_client(&b), "+QUEUED\r\n");
    client_says(&b, "EXEC\r\n");
    assert_memory_equal(to_client(&b), "-EXECABORT ", 11);
    bench_free(&b);
}

static void test_waiting_is_bounded(void **state)
{
    struct session_bench b;
    uint32_t at_ms = 0;

    (void)state;
    bench_init(&b);
    pause_(&b, SESSION_FINISHING);
    client_says(&b, "SET a 1\r\n");
    assert_true(session_deadline(&b.session, &at_ms));
    assert_int_equal(at_ms, 1000);
    session_expire(&b.session, 1000);
    assert_memory_equal(to_client(&b), "-MRHOLD ", 8);
    assert_true(session_is_idle(&b.session));
    bench_free(&b);
}

static void test_a_blocked_command_is_not_in_flight_and_moves_along(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "BLPOP q 5\r\nSET a 1\r\n");
    (void)to_server(&b);
    pause_(&b, SESSION_FINISHING);
    assert_false(session_is_in_flight(&b.session));
    assert_false(session_awaits_reply(&b.session));
    b.now_ms = 2000;
    pause_(&b, SESSION_FLOWS);
    b.env.planned = true;
    break_and_attach(&b);
    assert_string_equal(to_client(&b), "");
    assert_string_equal(to_server(&b), "*3\r\n$5\r\nBLPOP\r\n$1\r\nq\r\n$5\r\n3.000\r\nSET a 1\r\n");
    b.now_ms = 2500; /* and once more */
    break_and_attach(&b);
    assert_string_equal(to_server(&b), "*3\r\n$5\r\nBLPOP\r\n$1\r\nq\r\n$5\r\n2.500\r\nSET a 1\r\n");
    server_says(&b, "*2\r\n$1\r\nq\r\n$1\r\nx\r\n+OK\r\n");
    assert_string_equal(to_client(&b), "*2\r\n$1\r\nq\r\n$1\r\nx\r\n+OK\r\n");
    assert_true(session_is_idle(&b.session));
    bench_free(&b);
}

static void test_the_servers_own_unblocked_moves_it_along(void **state)
{
    static const char demoted[] =
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n";
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "BLPOP q 0\r\nINCR a\r\n");
    (void)to_server(&b);
    server_says(&b, demoted);
    assert_int_equal(session_take_actions(&b.session), SESSION_DETACH | SESSION_DOUBT);
    assert_string_equal(to_client(&b), "");
    session_attached(&b.session, 0);
    assert_string_equal(to_server(&b), "BLPOP q 0\r\nINCR a\r\n");
    server_says(&b, "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"); /* meant for the client */
    assert_string_equal(to_client(&b), "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    bench_free(&b);
}

/* Released, paused before it was written, lost, held again: it expires after a transaction behind it that was
 * given up first. (The model of shared connections, seed 2634: that one's EXEC went to the server alone.) */
static void test_two_transactions_given_up_the_later_one_first(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "GET a\r\nMULTI\r\nSET b 1\r\nEXEC\r\n");
    pause_(&b, SESSION_FINISHING);
    client_says(&b, "MULTI\r\nSET c 1\r\n");
    b.now_ms = 2000;
    session_expire(&b.session, b.now_ms);
    session_detached(&b.session, b.now_ms);
    b.now_ms = 3500;
    session_expire(&b.session, b.now_ms);
    const char *text = to_client(&b);
    assert_memory_equal(text, "-MRHOLD ", 8);
    assert_non_null(strstr(text, "\r\n+OK\r\n+QUEUED\r\n-EXECABORT "));
    assert_non_null(strstr(strstr(text, "-EXECABORT "), "\r\n+OK\r\n+QUEUED\r\n"));
    pause_(&b, SESSION_FLOWS);
    client_says(&b, "EXEC\r\nSET d 1\r\n");
    session_attached(&b.session, b.now_ms);
    assert_memory_equal(to_client(&b), "-EXECABORT ", 11);
    assert_string_equal(to_server(&b), "SET d 1\r\n");
    bench_free(&b);
}

/* Something before it was in flight: nothing is known of the blocked one. */
static void test_behind_a_lost_write_a_blocked_command_is_unblocked(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SET a 1\r\nBLPOP q 0\r\n");
    (void)to_server(&b);
    b.env.planned = true;
    break_and_attach(&b);
    const char *text = to_client(&b);
    assert_memory_equal(text, "-MRUNKNOWN ", 11);
    assert_non_null(strstr(text, "\r\n-UNBLOCKED "));
    bench_free(&b);
}

/* A blocked command, then a large one whose beginning isn't kept: it can't be sent again. */
static void test_what_cannot_be_sent_again_is_said(void **state)
{
    static char large[20000];
    struct session_bench b;

    (void)state;
    bench_init(&b);
    memset(large, 'x', sizeof(large) - 1);
    client_says(&b, "BLPOP q 0\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$19999\r\n");
    client_says(&b, large);
    client_says(&b, "\r\n");
    struct buf_span spans[4];
    int n;
    while ((n = session_request_spans(&b.session, spans, 4)) > 0)
        for (size_t all = 0, i = 0; i < (size_t)n; i++) {
            all += spans[i].len;
            if (i + 1 == (size_t)n)
                session_request_wrote(&b.session, 0, all);
        }
    b.env.planned = true;
    break_and_attach(&b);
    const char *text = to_client(&b);
    assert_memory_equal(text, "-UNBLOCKED ", 11);
    assert_non_null(strstr(text, "\r\n-MRUNKNOWN "));
    bench_free(&b);
}

/* ---- blocked.h ------------------------------------------------------------------------------------------
 */

static void shortened(const char *from, uint32_t waited_ms, const char *to)
{
    struct buf out = {0};

    assert_int_equal(blocked_shorten(from, strlen(from), waited_ms, &out), 0);
    assert_int_equal(buf_len(&out), strlen(to));
    if (*to)
        assert_memory_equal(buf_at(&out, buf_start(&out)), to, strlen(to));
    buf_free(&out);
}

static void test_time_limits(void **state)
{
    (void)state;
    shortened("BLPOP a b 1.5\r\n", 400, "*4\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\nb\r\n$5\r\n1.100\r\n");
    shortened("*3\r\n$5\r\nbrpop\r\n$1\r\na\r\n$1\r\n1\r\n", 4000,
              "*3\r\n$5\r\nbrpop\r\n$1\r\na\r\n$5\r\n0.001\r\n");
    shortened("BLMPOP 2 1 q LEFT\r\n", 500,
              "*5\r\n$6\r\nBLMPOP\r\n$5\r\n1.500\r\n$1\r\n1\r\n$1\r\nq\r\n$4\r\nLEFT\r\n");
    shortened("XREAD COUNT 1 BLOCK 900 STREAMS s $\r\n", 300,
              "*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$1\r\n1\r\n$5\r\nBLOCK\r\n$3\r\n600\r\n$7\r\nSTREAMS\r\n$"
              "1\r\ns\r\n$1\r\n$\r\n");
    /* For ever, or no number: as it is. */
    shortened("BLPOP a 0\r\n", 400, "");
    shortened("XREAD BLOCK 0 STREAMS s $\r\n", 400, "");
    shortened("BLPOP a 1e3\r\n", 400, "");
    shortened("BLPOP a 1.2.3\r\n", 400, "");
    shortened("BLPOP\r\n", 400, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_requests_wait_and_old_replies_flow),
        cmocka_unit_test(test_what_was_begun_is_written_to_its_end),
        cmocka_unit_test(test_a_large_request_is_waited_for_in_the_first_half),
        cmocka_unit_test(test_wait_is_waited_for_in_the_first_half),
        cmocka_unit_test(test_an_open_transaction_may_end_in_the_first_half),
        cmocka_unit_test(test_two_transactions_given_up_the_later_one_first),
        cmocka_unit_test(test_a_transaction_that_waits_too_long_is_aborted_as_a_whole),
        cmocka_unit_test(test_waiting_is_bounded),
        cmocka_unit_test(test_a_blocked_command_is_not_in_flight_and_moves_along),
        cmocka_unit_test(test_the_servers_own_unblocked_moves_it_along),
        cmocka_unit_test(test_behind_a_lost_write_a_blocked_command_is_unblocked),
        cmocka_unit_test(test_what_cannot_be_sent_again_is_said),
        cmocka_unit_test(test_time_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
