/* The limits' counting, and what a session makes of them; test_proxy_limits.c has real clients and servers.
 */
#include "proxy/core/histogram.h"
#include "proxy/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S ((int64_t)1000000)

static struct limits *opened(struct limits_config config)
{
    config.data = (struct session_limits){.request_bytes = 100000, .held_bytes = 50, .reply_bytes = 1000};
    struct limits *l = limits_open(&config);
    assert_non_null(l);
    return l;
}

static bool enters(struct limits_share *s, int64_t now_us, const char *why)
{
    char text[LIMITS_TEXT_MAX] = "";
    bool entered = limits_enter(s, 0, now_us, text);

    assert_true(entered || (strncmp(text, "-MRLIMIT ", 9) == 0 && strstr(text, why)));
    return entered;
}

static void test_clients_are_counted_by_instance_and_altogether(void **state)
{
    struct limits *l = opened((struct limits_config){.clients = 3, .clients_instance = 2});
    struct limits_share *a = limits_take_share(l, "a"), *b = limits_take_share(l, "b");

    (void)state;
    assert_ptr_equal(limits_take_share(l, "a"), a); /* another thread's */
    assert_true(enters(a, S, "") && enters(a, S, ""));
    assert_false(enters(a, S, "2 clients of instance a at most (--max-clients"));
    assert_true(enters(b, S, ""));
    assert_false(enters(b, S, "3 clients at most (--max-clients"));
    limits_leave(a);
    assert_true(enters(b, S, ""));
    assert_false(enters(a, S, "3 clients at most"));
    limits_leave(a);
    limits_leave(b);
    limits_leave(b);
    limits_give_share(a);
    limits_give_share(a);
    limits_give_share(b);
    limits_close(l);
}

static void test_without_a_limit_a_thread_has_its_own(void **state)
{
    struct limits *l = opened((struct limits_config){0});
    struct limits_share *a = limits_take_share(l, "a");
    char text[LIMITS_TEXT_MAX];

    (void)state;
    assert_true(limits_enter(a, LIMITS_CLIENTS_A_THREAD - 1, S, text));
    assert_false(limits_enter(a, LIMITS_CLIENTS_A_THREAD, S, text));
    assert_non_null(strstr(text, "10000 clients a thread at most (--max-clients"));
    limits_give_share(a);
    limits_close(l);
}

static void test_connections_come_at_their_rate(void **state)
{
    struct limits *l = opened((struct limits_config){.connects_per_s = 4});
    struct limits_share *a = limits_take_share(l, "a"), *b = limits_take_share(l, "b");
    int entered = 0;

    (void)state;
    while (enters(a, S, "instance a takes 4 new connections a second here (--max-connects-per-s"))
        entered++;
    assert_int_equal(entered, 4);
    assert_true(enters(b, S, "")); /* each instance has its own */
    assert_false(enters(a, S + S / 5, "--max-connects-per-s"));
    assert_true(enters(a, S + S / 4, ""));
    assert_false(enters(a, S + S / 4, "--max-connects-per-s"));
    for (entered = 0; enters(a, 100 * S, "--max-connects-per-s");)
        entered++; /* a long silence saves up no more than a second */
    assert_int_equal(entered, 4);
    assert_false(enters(a, 99 * S, "--max-connects-per-s")); /* another thread's clock is a turn behind */
    limits_give_share(a);
    limits_give_share(b);
    limits_close(l);
}

static void test_the_option_is_one_number_or_two(void **state)
{
    static const char *const bad[] = {"",   ":",    "1:",    ":1",         "x", "1x",
                                      "-1", "1:-1", "1:2:3", "2147483648", " 1"};
    struct limits_config c = {0};

    (void)state;
    assert_int_equal(limits_parse_clients("0", &c), 0);
    assert_true(c.clients == 0 && c.clients_instance == 0);
    assert_int_equal(limits_parse_clients("20000:5000", &c), 0);
    assert_true(c.clients == 20000 && c.clients_instance == 5000);
    for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
        assert_int_equal(limits_parse_clients(bad[k], &c), ERR_INVALID);
}

/* ---- a session ------------------------------------------------------------------------------------------
 */

struct bench {
    struct route route;
    struct session_counts counts;
    struct session_env env;
    struct session_limits limits;
    struct session_clock clock;
    atomic_uint_least64_t held_bytes, unread_bytes;
    struct session session;
};

static void bench_init(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    b->route = (struct route){.name = "cart", .state = ROUTE_SERVING, .epoch = 1};
    b->limits = (struct session_limits){.request_bytes = 100000, .held_bytes = 50, .reply_bytes = 1000};
    b->env = (struct session_env){.route = &b->route,
                                  .hold_ms = 1000,
                                  .counts = &b->counts,
                                  .clock = &b->clock,
                                  .limits = &b->limits,
                                  .held_bytes = &b->held_bytes,
                                  .unread_bytes = &b->unread_bytes};
    session_init(&b->session, &b->env, 0);
}

static void bench_free(struct bench *b)
{
    session_free(&b->session);
    free(b->counts.latency);
}

static void says(struct bench *b, const char *text)
{
    session_take_request(&b->session, 0, text, strlen(text));
    b->held_bytes = session_held_bytes(&b->session); /* as tally.c does */
}

static void says_much(struct bench *b, size_t n)
{
    char *much = malloc(n);

    assert_non_null(much);
    memset(much, 'x', n);
    session_take_request(&b->session, 0, much, n);
    free(much);
}

/* What the client is told; asserts that it begins like that. */
static void told(struct bench *b, const char *begin)
{
    struct buf_span span = session_reply_span(&b->session);

    assert_true(span.len >= strlen(begin));
    assert_memory_equal(span.data, begin, strlen(begin));
    session_reply_wrote(&b->session, span.len);
}

/* Writes what is to be written, and returns how much that is. */
static size_t flows(struct bench *b)
{
    struct buf_span spans[4];
    size_t sum = 0;
    int n;

    while ((n = session_request_spans(&b->session, spans, 4)) > 0) {
        size_t len = 0;
        for (int k = 0; k < n; k++)
            len += spans[k].len;
        session_request_wrote(&b->session, 0, len);
        sum += len;
    }
    b->held_bytes = session_held_bytes(&b->session);
    return sum;
}

static void test_a_request_that_is_too_large_is_refused_and_the_next_one_is_not(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    session_attached(&b.session, 0);
    says(&b, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n");
    assert_int_equal(flows(&b), 0);
    says_much(&b, 100000);
    assert_true(session_memory_bytes(&b.session) < 4096); /* it isn't kept */
    says(&b, "\r\nPING\r\n");
    told(&b, "-MRLIMIT a request to instance cart may have 100000 bytes at most (--max-request-bytes");
    assert_int_equal(flows(&b), 6);
    session_take_reply(&b.session, 0, "+PONG\r\n", 7);
    told(&b, "+PONG\r\n");
    assert_int_equal(b.counts.rejected, 1);
    assert_true(session_is_idle(&b.session) && session_reads_client(&b.session));
    bench_free(&b);
}

/* Its size shows only on the way, when the master has a part of it. */
static void test_what_grows_too_large_on_its_way_ends_the_client(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    session_attached(&b.session, 0);
    says(&b, "*4\r\n$3\r\nDEL\r\n$60000\r\n");
    says_much(&b, 60000);
    assert_true(flows(&b) > 60000);
    says(&b, "\r\n$60000\r\n");
    told(&b, "-MRLIMIT a request to instance cart may have 100000 bytes at most");
    assert_true(session_take_actions(&b.session) & SESSION_DETACH);
    assert_false(session_reads_client(&b.session));
    assert_true(session_is_over(&b.session));
    bench_free(&b);
}

static void test_a_transaction_is_never_executed_without_its_large_request(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    session_attached(&b.session, 0);
    says(&b, "MULTI\r\n");
    assert_int_equal(flows(&b), 7);
    session_take_reply(&b.session, 0, "+OK\r\n", 5);
    told(&b, "+OK\r\n");
    says(&b, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n");
    told(&b, "-MRLIMIT a request");
    assert_int_equal(flows(&b), 0);
    assert_true(session_is_over(&b.session));
    bench_free(&b);
}

static void test_requests_that_wait_are_refused_when_too_much_waits(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    b.limits.held_bytes = 50 + SESSION_HELD_EACH;
    b.env.held = true;
    says(&b, "SET a 0123456789012345678901234567890123456789\r\n");
    assert_int_equal(b.held_bytes, 48 + SESSION_HELD_EACH);
    says(&b, "GET a\r\n");
    assert_int_equal(b.held_bytes, 55 + 2 * SESSION_HELD_EACH);
    says(&b, "GET b\r\nMULTI\r\nSET c 1\r\nEXEC\r\n"); /* the transaction is not torn apart */
    assert_int_equal(b.held_bytes, 55 + 7 + 9 + 6 + 6 * SESSION_HELD_EACH);
    assert_int_equal(b.counts.rejected, 1);
    assert_int_equal(b.counts.held, 5);
    assert_int_equal(session_reply_span(&b.session).len, 0); /* it isn't its turn */
    b.env.held = false;
    session_attached(&b.session, 0);
    assert_int_equal(flows(&b), 55 + 7 + 9 + 6);
    assert_int_equal(b.held_bytes, 0);
    says(&b, "GET d\r\n"); /* it flows again */
    assert_int_equal(flows(&b), 7);
    session_take_reply(&b.session, 0, "+OK\r\n$1\r\nx\r\n", 12);
    told(&b, "+OK\r\n$1\r\nx\r\n-MRLIMIT requests of 114 bytes wait for the master of instance cart already "
             "(--max-held-bytes");
    session_take_reply(&b.session, 0, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$-1\r\n", 28);
    told(&b, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$-1\r\n");
    assert_true(session_is_idle(&b.session));
    assert_int_equal(session_memory_bytes(&b.session), 0);
    bench_free(&b);
}

static void test_who_leaves_replies_untaken_gets_less_once_all_do(void **state)
{
    static char much[SESSION_OUT_TIGHT];
    struct bench b;

    (void)state;
    bench_init(&b);
    b.limits.reply_bytes = SESSION_OUT_LIMIT;
    b.limits.unread_bytes = 1000000;
    assert_int_equal(session_backend_room(&b.session), SESSION_READ_MAX);
    assert_int_equal(session_unread_bytes(&b.session), 0);
    session_emit(&b.session, much, sizeof(much));
    assert_in_range(session_unread_bytes(&b.session), sizeof(much), 3 * sizeof(much));
    assert_true(session_reads_client(&b.session) && !session_is_slow(&b.session));
    b.unread_bytes = 1000000;
    assert_true(!session_reads_client(&b.session) && session_is_slow(&b.session));
    assert_true(session_has_too_much(&b.session));
    session_reply_wrote(&b.session, 1);
    assert_int_equal(session_backend_room(&b.session), SESSION_OUT_TIGHT);
    assert_false(session_has_too_much(&b.session));
    b.limits.unread_bytes = 0; /* no limit */
    session_emit(&b.session, much, sizeof(much));
    assert_int_equal(session_backend_room(&b.session),
                     SESSION_READ_MAX - (2 * SESSION_OUT_TIGHT - 1)); /* with what is here */
    bench_free(&b);
}

/* Of many small ones a turn takes fewer bytes, so that it ends soon. */
static void test_thousands_of_replies_are_taken_in_pieces(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    session_attached(&b.session, 0);
    for (int k = 0; k < 1000; k++)
        says(&b, "INCR n\r\n");
    assert_int_equal(flows(&b), 8000);
    session_take_reply(&b.session, 0, ":1\r\n", 4);
    assert_int_equal(session_backend_room(&b.session), SESSION_DEEP_READ);
    session_take_reply(&b.session, 0,
                       "-ERR increment or decrement would overflow, and this is a long text\r\n", 69);
    assert_in_range(session_backend_room(&b.session), SESSION_READ_MAX - 100, SESSION_READ_MAX);
    bench_free(&b);
}

static void test_a_client_that_does_not_take_its_replies_is_not_read(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    session_attached(&b.session, 0);
    for (int k = 0; k < 300; k++)
        says(&b, "GET a\r\n");
    assert_int_equal(flows(&b), 300 * 7);
    for (int k = 0; k < 199; k++)
        session_take_reply(&b.session, 0, "$-1\r\n", 5);
    assert_true(session_reads_client(&b.session));
    session_take_reply(&b.session, 0, "$-1\r\n", 5);
    assert_false(session_reads_client(&b.session));
    session_reply_wrote(&b.session, 1);
    assert_true(session_reads_client(&b.session));
    bench_free(&b);
}

/* The others on this machine have their turn, while the answers to hundreds are on their way. */
static void test_a_deep_pipeline_waits_for_its_answers(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    session_attached(&b.session, 0);
    for (int k = 0; k < SESSION_DEEP_MAX; k++) {
        assert_true(session_reads_client(&b.session));
        says(&b, "INCR n\r\n");
    }
    assert_false(session_reads_client(&b.session));
    assert_int_equal(flows(&b), SESSION_DEEP_MAX * 8);
    assert_false(session_reads_client(&b.session));
    session_take_reply(&b.session, 0, ":1\r\n", 4);
    assert_true(session_reads_client(&b.session));
    bench_free(&b);
}

static void test_who_sends_all_before_it_reads_is_read(void **state)
{
    enum { VALUE = 1024 };
    static char reply[VALUE + 9];
    struct bench b;

    (void)state;
    memset(reply, 'v', sizeof(reply));
    memcpy(reply, "$1024\r\n", 7);
    memcpy(reply + sizeof(reply) - 2, "\r\n", 2);
    bench_init(&b);
    b.limits.reply_bytes = 2 * SESSION_OUT_MAX;
    session_attached(&b.session, 0);
    for (int k = 0; k < SESSION_DEEP_MAX + 100; k++)
        says(&b, "GET a\r\n");
    assert_true(flows(&b) > 0);
    for (int k = 0; k < SESSION_OUT_MAX / VALUE - 1; k++)
        session_take_reply(&b.session, 0, reply, sizeof(reply));
    assert_false(session_reads_client(&b.session));
    session_take_reply(&b.session, 0, reply, sizeof(reply));
    assert_true(session_is_slow(&b.session));
    assert_true(session_reads_client(&b.session));
    bench_free(&b);

    bench_init(&b);
    session_attached(&b.session, 0);
    says(&b, "BLPOP a 0\r\n");
    for (int k = 0; k < SESSION_DEEP_MAX + 100; k++)
        says(&b, "INCR n\r\n");
    assert_true(session_reads_client(&b.session)); /* that it leaves has to be noticed */
    bench_free(&b);
}

static void test_latency_is_from_arrival_to_reply(void **state)
{
    struct bench b;
    struct histogram_sum sum = {0};

    (void)state;
    bench_init(&b);
    session_attached(&b.session, 0);
    b.clock.arrived_us = UINT32_MAX - 99; /* the clock wraps on the way */
    says(&b, "GET a\r\n");
    b.clock.arrived_us = 900;
    says(&b, "BLPOP q 1\r\n");
    assert_true(flows(&b) > 0);
    b.clock.written_us = 1900;
    session_take_reply(&b.session, 0, "$-1\r\n*-1\r\n", 10);
    histogram_read(b.counts.latency, &sum);
    assert_int_equal(histogram_total(&sum), 1); /* what blocks takes as long as it likes */
    assert_int_equal(sum.sum_us, 2000);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_are_counted_by_instance_and_altogether),
        cmocka_unit_test(test_without_a_limit_a_thread_has_its_own),
        cmocka_unit_test(test_connections_come_at_their_rate),
        cmocka_unit_test(test_the_option_is_one_number_or_two),
        cmocka_unit_test(test_a_request_that_is_too_large_is_refused_and_the_next_one_is_not),
        cmocka_unit_test(test_what_grows_too_large_on_its_way_ends_the_client),
        cmocka_unit_test(test_a_transaction_is_never_executed_without_its_large_request),
        cmocka_unit_test(test_requests_that_wait_are_refused_when_too_much_waits),
        cmocka_unit_test(test_who_leaves_replies_untaken_gets_less_once_all_do),
        cmocka_unit_test(test_thousands_of_replies_are_taken_in_pieces),
        cmocka_unit_test(test_a_client_that_does_not_take_its_replies_is_not_read),
        cmocka_unit_test(test_a_deep_pipeline_waits_for_its_answers),
        cmocka_unit_test(test_who_sends_all_before_it_reads_is_read),
        cmocka_unit_test(test_latency_is_from_arrival_to_reply),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
