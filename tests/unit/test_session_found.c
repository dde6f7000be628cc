/* The session in moments that Redis' own suite and the differential test found. */
#include "tests/lib/session_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* MULTI may be refused: then what comes behind it has as many replies as it has outside of a transaction. */
static void test_replies_are_counted_as_the_server_has_it(void **state)
{
    static const char refusal[] =
        "-ERR Can't execute 'multi': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
        "QUIT / RESET are allowed in this context\r\n";
    static const char left[] = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"
                               "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n";
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SUBSCRIBE a\r\nMULTI\r\nUNSUBSCRIBE a b\r\nMULTI now\r\nUNSUBSCRIBE a b\r\nGET a\r\n");
    (void)to_server(&b);
    server_says(&b, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    server_says(&b, refusal);
    server_says(&b, left);
    server_says(&b, "-ERR wrong number of arguments for 'multi' command\r\n");
    server_says(&b, left);
    assert_true(session_awaits_reply(&b.session));
    server_says(&b, "$1\r\nA\r\n");

    assert_non_null(strstr(to_client(&b), "$1\r\nA\r\n"));
    assert_int_equal(session_take_actions(&b.session), 0);
    assert_true(session_is_idle(&b.session));
    /* And +QUEUED is one, whatever was queued. */
    client_says(&b, "MULTI\r\nUNSUBSCRIBE a b\r\nDISCARD\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n+QUEUED\r\n+OK\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n+QUEUED\r\n+OK\r\n");
    assert_int_equal(session_take_actions(&b.session), 0);
    assert_true(session_is_idle(&b.session));
    bench_free(&b);
}

static void test_what_gives_no_reply_holds_nothing_up(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nPING\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n+PONG\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n+PONG\r\n");
    session_wrote_shared(&b.session);
    client_says(&b, "CLIENT REPLY OFF\r\nSET a 1\r\nWAIT 0 1\r\nCLIENT REPLY ON\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n");
    assert_true(session_is_idle(&b.session));
    /* What is silent later says nothing about the marker of a WAIT that isn't. */
    client_says(&b, "CLIENT REPLY SKIP\r\nSET a 1\r\nWAIT 1 0\r\nCLIENT REPLY OFF\r\n");
    assert_non_null(strstr(to_server(&b), "__mr-redis_ack"));
    server_says(&b, ":0\r\n");
    assert_string_equal(to_server(&b), "WAIT 1 0\r\nCLIENT REPLY OFF\r\n");
    server_says(&b, ":1\r\n");
    assert_string_equal(to_client(&b), ":1\r\n");
    assert_int_equal(session_take_actions(&b.session), 0);
    bench_free(&b);
}

/* A user that may not PUBLISH, and one that listens, who may not WAIT either: the server says so. */
static void test_wait_is_answered_whatever_becomes_of_its_marker(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    session_wrote_shared(&b.session);
    client_says(&b, "SUBSCRIBE a\r\nWAIT 1 0\r\n");
    (void)to_server(&b);
    server_says(&b, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    assert_string_equal(to_server(&b), "WAIT 1 0\r\n");
    server_says(&b, "-ERR Can't execute 'wait'\r\n");
    client_says(&b, "UNSUBSCRIBE a\r\nWAIT 1 0\r\nWAITAOF 0 1 0\r\n");
    (void)to_server(&b);
    server_says(&b, "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n");
    assert_non_null(strstr(to_server(&b), "__mr-redis_ack"));
    (void)to_client(&b);
    server_says(&b, "-NOPERM this user has no permissions to access one of the channels\r\n");
    assert_memory_equal(to_client(&b), ":0\r\n-NOPERM this user may not PUBLISH", 37);
    assert_true(session_is_idle(&b.session));
    bench_free(&b);
}

static void break_while_a_script_runs(struct session_bench *b)
{
    break_and_attach(b);
    assert_string_equal(to_server(b), "*2\r\n$6\r\nSELECT\r\n$1\r\n5\r\n");
    server_says(
        b, "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n");
}

/* A server that runs a script doesn't take SELECT either: its client must not be closed for that. */
static void test_a_script_that_runs_is_no_reason_to_close(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "SELECT 5\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    (void)to_client(&b);
    client_says(&b, "GET a\r\n");
    break_while_a_script_runs(&b);
    assert_memory_equal(to_client(&b), "-BUSY Redis is busy", 19);
    assert_int_equal(session_take_actions(&b.session), SESSION_DETACH);
    assert_false(session_wants_backend(&b.session));

    /* MULTI is taken, and nothing of it is executed. */
    client_says(&b, "MULTI\r\n");
    assert_true(session_wants_backend(&b.session));
    break_while_a_script_runs(&b);
    assert_string_equal(to_client(&b), "+OK\r\n");
    client_says(&b, "SET a 1\r\nEXEC\r\n");
    assert_string_equal(to_client(&b),
                        "+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n");

    /* What ends the script gets through; what came behind it is said on a connection that knows who speaks.
     */
    client_says(&b, "SCRIPT KILL\r\nGET a\r\n");
    break_while_a_script_runs(&b);
    assert_string_equal(to_server(&b), "SCRIPT KILL\r\n");
    server_says(&b, "+OK\r\n");
    assert_memory_equal(to_client(&b), "+OK\r\n-BUSY ", 11);
    assert_int_equal(session_take_actions(&b.session), SESSION_DETACH);
    client_says(&b, "GET a\r\n");
    session_attached(&b.session, b.now_ms);
    assert_string_equal(to_server(&b), "*2\r\n$6\r\nSELECT\r\n$1\r\n5\r\n");
    server_says(&b, "+OK\r\n");
    assert_string_equal(to_server(&b), "GET a\r\n");
    server_says(&b, "$1\r\nA\r\n");
    assert_string_equal(to_client(&b), "$1\r\nA\r\n");
    assert_int_equal(session_take_actions(&b.session), 0);
    bench_free(&b);
}

/* A SELECT that fails inside of a transaction must not be told to the next connection. */
static void test_a_select_counts_if_exec_says_so(void **state)
{
    static const struct {
        const char *says, *answer, *then;
    } cases[] = {
        {"GET a\r\nSELECT 99\r\n", "*2\r\n*1\r\n-ERR x\r\n-ERR DB index is out of range\r\n", "GET a\r\n"},
        {"GET a\r\nSELECT 5\r\n", "*2\r\n-WRONGTYPE x\r\n+OK\r\n", "SELECT 5\r\nGET a\r\n"},
        {"SELECT 5\r\nSELECT 6\r\n", "*2\r\n+OK\r\n+OK\r\n", "SELECT 6\r\nGET a\r\n"},
        {"SELECT 99\r\nSELECT 6\r\n", "*2\r\n-ERR DB index is out of range\r\n+OK\r\n",
         "SELECT 6\r\nGET a\r\n"},
        {"SELECT 5\r\nSELECT 99\r\n", "*2\r\n+OK\r\n-ERR DB index is out of range\r\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct session_bench b;
        bench_init(&b);
        client_says(&b, "MULTI\r\n");
        client_says(&b, cases[i].says);
        client_says(&b, "EXEC\r\n");
        (void)to_server(&b);
        server_says(&b, "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        server_says(&b, cases[i].answer);
        (void)to_client(&b);
        assert_true(session_is_idle(&b.session));
        client_says(&b, "GET a\r\n");
        break_and_attach(&b);
        if (!cases[i].then) {
            assert_true(session_take_actions(&b.session) & SESSION_CLOSE);
        } else {
            const char *said = to_server(&b);
            size_t n = strlen(said);
            if (strncmp(said, "SELECT", 6) == 0) {
                assert_int_equal(strncmp(said, cases[i].then, n), 0);
                server_says(&b, "+OK\r\n");
                assert_string_equal(to_server(&b), cases[i].then + n);
            } else {
                assert_string_equal(said, cases[i].then);
            }
            assert_int_equal(session_take_actions(&b.session), 0);
        }
        bench_free(&b);
    }
}

/* The refusal of one MULTI comes when the next is on its way: WAIT is inside of that one, and needs no
 * marker, which would become a part of it. */
static void test_a_refused_multi_ends_no_later_transaction(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    session_wrote_shared(&b.session); /* what it wrote went over another connection */
    client_says(&b, "SUBSCRIBE a\r\nMULTI\r\nRESET\r\nMULTI\r\n");
    (void)to_server(&b);
    server_says(&b,
                "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n-ERR Can't execute 'multi'\r\n+RESET\r\n+OK\r\n");
    (void)to_client(&b);
    client_says(&b, "WAIT 0 10\r\n");
    assert_string_equal(to_server(&b), "WAIT 0 10\r\n");
    server_says(&b, "+QUEUED\r\n");
    client_says(&b, "EXEC\r\nWAIT 0 10\r\n");
    assert_string_equal(to_server(&b), "EXEC\r\n");
    server_says(&b, "*1\r\n:0\r\n");
    assert_string_equal(to_server(&b), "*3\r\n$7\r\nPUBLISH\r\n$14\r\n__mr-redis_ack\r\n$0\r\n\r\n");
    bench_free(&b);
}

/* CLIENT REPLY OFF: nobody says whether AUTH was taken. Told again, a wrong one would close the client in the
 * midst of calm, so no other connection is made for it; a new master ends it, and says why. */
static void test_state_that_was_set_in_silence_stays_on_its_connection(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b);
    client_says(&b, "CLIENT REPLY OFF\r\nAUTH wrong password\r\nCLIENT REPLY ON\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n");
    assert_false(session_may_share(&b.session, b.now_ms + 100000));
    assert_false(session_leave_own(&b.session));
    client_says(&b, "GET a\r\n");
    assert_string_equal(to_server(&b), "GET a\r\n");
    break_and_attach(&b);
    assert_true(session_take_actions(&b.session) & SESSION_CLOSE);
    assert_non_null(strstr(b.session.reason, "can't be made again"));
    bench_free(&b);
}

/* SUBSCRIBE inside of a transaction isn't followed: that the client listens shows by the marker's refusal. */
static void test_wait_of_a_client_that_listens_unseen_is_the_servers_to_refuse(void **state)
{
    static const char refusal[] =
        "-ERR Can't execute 'publish': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
        "QUIT / RESET are allowed in this context\r\n";
    struct session_bench b;

    (void)state;
    bench_init(&b);
    session_wrote_shared(&b.session);
    client_says(&b, "MULTI\r\nSUBSCRIBE a\r\nEXEC\r\n");
    (void)to_server(&b);
    server_says(&b, "+OK\r\n+QUEUED\r\n*1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    (void)to_client(&b);
    for (int i = 0; i < 2; i++) { /* the second one, too */
        client_says(&b, "WAIT 0 10\r\n");
        assert_memory_equal(to_server(&b), "*3\r\n$7\r\nPUBLISH\r\n", 17);
        server_says(&b, refusal);
        assert_string_equal(to_server(&b), "WAIT 0 10\r\n");
        server_says(&b, "-ERR Can't execute 'wait'\r\n");
        assert_string_equal(to_client(&b), "-ERR Can't execute 'wait'\r\n");
    }
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_are_counted_as_the_server_has_it),
        cmocka_unit_test(test_what_gives_no_reply_holds_nothing_up),
        cmocka_unit_test(test_wait_is_answered_whatever_becomes_of_its_marker),
        cmocka_unit_test(test_a_select_counts_if_exec_says_so),
        cmocka_unit_test(test_a_script_that_runs_is_no_reason_to_close),
        cmocka_unit_test(test_a_refused_multi_ends_no_later_transaction),
        cmocka_unit_test(test_state_that_was_set_in_silence_stays_on_its_connection),
        cmocka_unit_test(test_wait_of_a_client_that_listens_unseen_is_the_servers_to_refuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
