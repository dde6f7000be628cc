/* READONLY, READWRITE, and connections to replicas, at exact moments: sessions and shared connections without
 * sockets. */
#include "proxy/core/shared.h"
#include "tests/lib/session_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define client_says session_bench_client_says
#define server_says session_bench_server_says
#define to_server   session_bench_to_server
#define to_client   session_bench_to_client

/* Not connected; the route lets clients read from one replica. */
static void bench_init(struct session_bench *b, enum topology_reads reads)
{
    session_bench_init(b);
    assert_true(session_leave_own(&b->session));
    b->route.reads = reads;
    b->route.n_readers = 1;
}

/* ---- who says what --------------------------------------------------------------------------------------
 */

static void test_the_proxy_answers_without_a_server(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b, TOPOLOGY_READS_MASTER);
    assert_false(session_reads_replica(&b.session));
    client_says(&b, "READONLY\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n");
    assert_true(session_reads_replica(&b.session));
    assert_true(session_may_share(&b.session, 0)); /* it costs no connection */
    client_says(&b, "*1\r\n$9\r\nreadwrite\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n");
    assert_false(session_reads_replica(&b.session));
    assert_null(b.session.work);
    session_bench_free(&b);
}

static void test_policy_client_and_route_together(void **state)
{
    static const struct {
        const char *said;
        enum topology_reads policy;
        uint32_t readers;
        bool replica;
    } rows[] = {
        {"", TOPOLOGY_READS_MASTER, 1, false},
        {"", TOPOLOGY_READS_REPLICA, 1, true},
        {"", TOPOLOGY_READS_NEAREST, 1, true},
        {"", TOPOLOGY_READS_REPLICA, 0, false},
        {"READONLY\r\n", TOPOLOGY_READS_MASTER, 1, true},
        {"READONLY\r\n", TOPOLOGY_READS_MASTER, 0, false},
        {"READWRITE\r\n", TOPOLOGY_READS_NEAREST, 1, false},
    };

    (void)state;
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct session_bench b;
        bench_init(&b, rows[k].policy);
        b.route.n_readers = rows[k].readers;
        client_says(&b, rows[k].said);
        (void)to_client(&b);
        if (session_reads_replica(&b.session) != rows[k].replica)
            fail_msg("row %zu", k);
        session_bench_free(&b);
    }
}

static void test_answers_keep_their_order_and_reset_ends_it(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b, TOPOLOGY_READS_MASTER);
    session_attached(&b.session, 0);
    client_says(&b, "SET a 1\r\nREADONLY\r\nPING\r\n");
    assert_string_equal(to_server(&b), "SET a 1\r\nPING\r\n");
    assert_string_equal(to_client(&b), "");
    server_says(&b, "+OK\r\n");
    assert_string_equal(to_client(&b), "+OK\r\n+OK\r\n");
    server_says(&b, "+PONG\r\n");
    assert_string_equal(to_client(&b), "+PONG\r\n");
    assert_true(session_reads_replica(&b.session));
    client_says(&b, "RESET\r\n");
    assert_false(session_reads_replica(&b.session));
    assert_string_equal(to_server(&b), "RESET\r\n");
    server_says(&b, "+RESET\r\n");
    session_bench_free(&b);
}

/* With an argument, or inside of a transaction, it is the server's to refuse. */
static void test_odd_ones_go_to_the_server(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b, TOPOLOGY_READS_MASTER);
    session_attached(&b.session, 0);
    client_says(&b, "READONLY now\r\n");
    assert_string_equal(to_server(&b), "READONLY now\r\n");
    server_says(&b, "-ERR wrong number of arguments for 'readonly' command\r\n");
    client_says(&b, "MULTI\r\nREADONLY\r\nEXEC\r\n");
    assert_string_equal(to_server(&b), "MULTI\r\nREADONLY\r\nEXEC\r\n");
    assert_false(session_reads_replica(&b.session));
    session_bench_free(&b);
}

static void test_it_outlives_the_connection(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b, TOPOLOGY_READS_MASTER);
    client_says(&b, "READONLY\r\n");
    session_attached(&b.session, 0);
    session_bench_break(&b);
    assert_string_equal(to_server(&b), ""); /* the server isn't told */
    assert_true(session_reads_replica(&b.session));
    session_bench_free(&b);
}

/* ---- a connection of its own to a replica ---------------------------------------------------------------
 */

static void test_only_reads_are_sent_to_a_replica(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b, TOPOLOGY_READS_REPLICA);
    client_says(&b, "GET a\r\nGET b\r\nSET a 1\r\nGET c\r\n");
    assert_true(session_may_attach_to_replica(&b.session));
    session_attached_to_replica(&b.session, 0);
    assert_string_equal(to_server(&b), "GET a\r\nGET b\r\n");
    server_says(&b, "$1\r\nA\r\n");
    assert_int_equal(session_take_actions(&b.session), 0);
    server_says(&b, "$1\r\nB\r\n");
    assert_string_equal(to_client(&b), "$1\r\nA\r\n$1\r\nB\r\n");
    assert_int_equal(session_take_actions(&b.session), SESSION_DETACH); /* it has done reading */
    assert_true(session_wants_backend(&b.session));
    assert_false(session_may_attach_to_replica(&b.session));
    session_attached(&b.session, 0);
    assert_string_equal(to_server(&b), "SET a 1\r\nGET c\r\n");
    assert_int_equal(b.counts.replica_reads, 2);
    assert_int_equal(b.counts.replayed + b.counts.unknown, 0);
    session_bench_free(&b);
}

static void test_what_has_state_or_scripts_goes_to_the_master(void **state)
{
    static const char *const texts[] = {"MULTI\r\nGET a\r\n",
                                        "WATCH a\r\n",
                                        "EVAL_RO s 0\r\n",
                                        "BLPOP a 0\r\n",
                                        "SUBSCRIBE c\r\n",
                                        "SCAN 0\r\n",
                                        "CLIENT REPLY SKIP\r\nGET a\r\n",
                                        "GET a",
                                        "XREAD STREAMS s 0\r\n"};

    (void)state;
    for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
        struct session_bench b;
        bench_init(&b, TOPOLOGY_READS_REPLICA);
        client_says(&b, texts[k]);
        if (session_may_attach_to_replica(&b.session))
            fail_msg("%s", texts[k]);
        session_bench_free(&b);
    }
}

static void test_a_refusal_of_a_replica_is_the_masters_to_answer(void **state)
{
    static const char *const refusals[] = {
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-BUSY Redis is busy running a script.\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-NOREPLICAS Not enough good replicas to write.\r\n",
        "-ERR max number of clients reached\r\n",
    };

    (void)state;
    for (size_t k = 0; k < sizeof(refusals) / sizeof(refusals[0]); k++) {
        struct session_bench b;
        bench_init(&b, TOPOLOGY_READS_REPLICA);
        client_says(&b, "GET a\r\n");
        session_attached_to_replica(&b.session, 0);
        assert_string_equal(to_server(&b), "GET a\r\n");
        server_says(&b, refusals[k]);
        assert_string_equal(to_client(&b), "");
        assert_int_equal(session_take_actions(&b.session), SESSION_DETACH | SESSION_DOUBT);
        assert_null(b.env.refusal); /* the master isn't to blame */
        session_attached(&b.session, 0);
        assert_string_equal(to_server(&b), "GET a\r\n");
        session_bench_free(&b);
    }
}

static void test_a_route_or_the_client_ends_reading_there(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b, TOPOLOGY_READS_REPLICA);
    client_says(&b, "GET a\r\n");
    session_attached_to_replica(&b.session, 0);
    (void)to_server(&b);
    server_says(&b, "$1\r\nA\r\n");
    client_says(&b, "READWRITE\r\n");
    assert_int_equal(session_take_actions(&b.session), 0);
    client_says(&b, "GET b\r\n");
    assert_int_equal(session_take_actions(&b.session), SESSION_DETACH);
    assert_string_equal(to_client(&b), "$1\r\nA\r\n+OK\r\n");
    session_bench_free(&b);
}

static void test_a_switchover_does_not_wait_for_a_replica(void **state)
{
    struct session_bench b;

    (void)state;
    bench_init(&b, TOPOLOGY_READS_REPLICA);
    client_says(&b, "GET a\r\n");
    session_attached_to_replica(&b.session, 0);
    (void)to_server(&b);
    b.env.pause = SESSION_FINISHING;
    assert_false(session_is_in_flight(&b.session));
    session_bench_free(&b);
}

/* ---- a shared connection to a replica -------------------------------------------------------------------
 */

static void test_a_shared_connection_to_a_replica_takes_reads_only(void **state)
{
    static const char text[] = "GET a\r\nMGET b c\r\nEVAL_RO s 0\r\nSET d 1\r\nGET e\r\n";
    struct session_bench b;
    struct shared master = {0}, replica = {.replica = true};
    struct shared_user user = {.session = &b.session};

    (void)state;
    bench_init(&b, TOPOLOGY_READS_REPLICA);
    size_t n = shared_take(&replica, &user, 0, text, strlen(text));
    assert_string_equal(text + n, "SET d 1\r\nGET e\r\n");
    assert_int_equal(user.pending, 3);
    assert_int_equal(shared_take(&replica, &user, 0, text + n, strlen(text + n)), 0);
    assert_int_equal(shared_take(&master, &user, 0, text + n, strlen(text + n)),
                     0); /* not before they are done */
    client_says(&b, text + n);
    assert_int_equal(shared_take_waiting(&master, &user), 0);
    assert_int_equal(shared_take_waiting(&replica, &user), 0);
    shared_wrote(&replica, shared_span(&replica).len);
    /* The master knows what the replica doesn't; what came behind that one is read again, too. */
    const char *data = "$1\r\nA\r\n-NOSCRIPT No matching script.\r\n$1\r\nS\r\n";
    size_t len = strlen(data);
    struct shared_step step = {.what = SHARED_PASS};
    while (step.what != SHARED_NOTHING) {
        shared_take_reply(&replica, 0, &data, &len, &step);
        assert_true(step.what != SHARED_REFUSED); /* it can go on being asked */
        if (step.user && step.len > 0)
            session_emit(&b.session, step.data, step.len);
        if (step.user)
            shared_settle(step.user, 0);
    }
    assert_string_equal(to_client(&b), "$1\r\nA\r\n");
    assert_int_equal(user.pending, 0);
    assert_int_equal(shared_take_waiting(&replica, &user), 0);
    assert_int_equal(shared_take_waiting(&master, &user), 4);
    struct buf_span span = shared_span(&master);
    assert_memory_equal(span.data, "MGET b c\r\nEVAL_RO s 0\r\nSET d 1\r\nGET e\r\n", span.len);
    shared_break(&master, 0, true);
    while (shared_take_back(&master, 0, 7))
        continue;
    shared_free(&replica);
    session_bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_proxy_answers_without_a_server),
        cmocka_unit_test(test_policy_client_and_route_together),
        cmocka_unit_test(test_answers_keep_their_order_and_reset_ends_it),
        cmocka_unit_test(test_odd_ones_go_to_the_server),
        cmocka_unit_test(test_it_outlives_the_connection),
        cmocka_unit_test(test_only_reads_are_sent_to_a_replica),
        cmocka_unit_test(test_what_has_state_or_scripts_goes_to_the_master),
        cmocka_unit_test(test_a_refusal_of_a_replica_is_the_masters_to_answer),
        cmocka_unit_test(test_a_route_or_the_client_ends_reading_there),
        cmocka_unit_test(test_a_switchover_does_not_wait_for_a_replica),
        cmocka_unit_test(test_a_shared_connection_to_a_replica_takes_reads_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
