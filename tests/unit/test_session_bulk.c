/* Large bodies that pass a session unseen: when they may, and what becomes of them when the master is lost.
 */
#include "tests/lib/session_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define says_ session_bench_client_says
#define told  session_bench_to_client

enum { BODY = 1000000 };

static const char set[] = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\n";
static char body[BODY];

/* n bytes of the body come from the client, seen, and are written. */
static void flows(struct session_bench *b, size_t n)
{
    struct buf_span span;

    session_take_request(&b->session, 0, body, n);
    while (session_request_spans(&b->session, &span, 1) > 0)
        session_request_wrote(&b->session, 0, span.len);
}

static void test_a_body_passes_but_for_its_end(void **state)
{
    struct session_bench b;

    (void)state;
    session_bench_init(&b);
    says_(&b, set);
    assert_int_equal(session_request_unseen(&b.session), 0); /* it may yet be answered here */
    session_take_request(&b.session, 0, body, 20000);
    assert_int_equal(session_request_unseen(&b.session), 0); /* that is to be written before */
    flows(&b, 30000);
    uint64_t left = BODY - 50000 - SESSION_SEEN_END;
    assert_int_equal(session_request_unseen(&b.session), left);
    session_request_passed(&b.session, 100000);
    assert_int_equal(session_request_unseen(&b.session), left - 100000);
    session_take_request(&b.session, 0, body, 5000); /* what the master's socket didn't take */
    assert_int_equal(session_request_unseen(&b.session), 0);
    assert_int_equal(session_held_bytes(&b.session), 0);
    flows(&b, 1);
    session_request_passed(&b.session, left - 105001);
    assert_int_equal(session_request_unseen(&b.session), 0);
    flows(&b, SESSION_SEEN_END);
    says_(&b, "\r\nGET a\r\n");
    assert_string_equal(session_bench_to_server(&b), "\r\nGET a\r\n");
    session_bench_server_says(&b, "+OK\r\n$1000000\r\n");
    assert_int_equal(session_reply_unseen(&b.session), 0);
    assert_string_equal(told(&b), "+OK\r\n$1000000\r\n");
    left = BODY - SESSION_SEEN_END;
    assert_int_equal(session_reply_unseen(&b.session), left);
    session_reply_passed(&b.session, left - 70000);
    session_take_reply(&b.session, 0, body, 30000); /* what the client's socket didn't take */
    assert_int_equal(session_reply_unseen(&b.session), 0);
    session_reply_wrote(&b.session, 30000);
    assert_int_equal(session_reply_unseen(&b.session), 40000);
    session_reply_passed(&b.session, 40000);
    assert_int_equal(session_reply_unseen(&b.session), 0);
    session_take_reply(&b.session, 0, body, SESSION_SEEN_END);
    session_reply_wrote(&b.session, SESSION_SEEN_END);
    session_bench_server_says(&b, "\r\n");
    assert_string_equal(told(&b), "\r\n");
    assert_true(session_is_idle(&b.session));
    assert_int_equal(b.counts.requests, 2);
    session_bench_free(&b);
}

static void test_a_very_large_body_goes_in_strides(void **state)
{
    struct session_bench b;

    (void)state;
    session_bench_init(&b);
    says_(&b, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4000000\r\n");
    flows(&b, 50000);
    assert_false(session_ends_stride(&b.session));
    assert_int_equal(session_request_unseen(&b.session), SESSION_STRIDE); /* not further than it goes */
    session_request_passed(&b.session, SESSION_STRIDE - 1);
    assert_int_equal(session_request_unseen(&b.session), 1);
    assert_false(session_ends_stride(&b.session));
    session_request_passed(&b.session, 1);
    assert_true(session_ends_stride(&b.session));
    assert_false(session_ends_stride(&b.session)); /* the next one begins */
    for (uint64_t left = 4000000 - 50000 - SESSION_STRIDE; left > SESSION_STRIDE_END;) {
        uint64_t n = session_request_unseen(&b.session);
        assert_in_range(n, 1, SESSION_STRIDE);
        session_request_passed(&b.session, n);
        left -= n;
        assert_int_equal(session_ends_stride(&b.session), left > SESSION_STRIDE_END);
    }
    assert_true(session_request_unseen(&b.session) > SESSION_STRIDE); /* what is left is its end */
    session_bench_free(&b);

    session_bench_init(&b);
    says_(&b, set); /* no larger than an end */
    flows(&b, 50000);
    session_request_passed(&b.session, SESSION_STRIDE);
    assert_false(session_ends_stride(&b.session));
    session_bench_free(&b);
}

static void test_a_request_that_is_cut_is_discarded_to_its_end(void **state)
{
    struct session_bench b;

    (void)state;
    session_bench_init(&b);
    says_(&b, set);
    flows(&b, 50000);
    session_request_passed(&b.session, 100000);
    session_bench_break(&b);
    assert_int_equal(session_request_unseen(&b.session), 0);
    for (size_t left = BODY - 150000; left > 0; left -= left < 50000 ? left : 50000)
        session_take_request(&b.session, 0, body, left < 50000 ? left : 50000);
    says_(&b, "\r\nGET a\r\n");
    assert_string_equal(session_bench_to_server(&b), "GET a\r\n");
    assert_memory_equal(told(&b), "-MRUNKNOWN ", 11);
    session_bench_server_says(&b, "$1\r\nx\r\n");
    assert_string_equal(told(&b), "$1\r\nx\r\n");
    session_bench_free(&b);
}

static void test_half_of_a_reply_that_passed_ends_the_client(void **state)
{
    struct session_bench b;

    (void)state;
    session_bench_init(&b);
    says_(&b, "GET a\r\n");
    assert_string_equal(session_bench_to_server(&b), "GET a\r\n");
    session_bench_server_says(&b, "$1000000\r\n");
    assert_int_equal(session_reply_unseen(&b.session), 0);
    assert_string_equal(told(&b), "$1000000\r\n");
    session_reply_passed(&b.session, 1);
    session_detached(&b.session, 0);
    assert_true(session_take_actions(&b.session) & SESSION_CLOSE);
    session_bench_free(&b);
}

/* Its reply must be looked at: it isn't for the client. */
static void test_what_is_swallowed_does_not_pass(void **state)
{
    struct session_bench b;

    (void)state;
    session_bench_init(&b);
    says_(&b, "SUBSCRIBE a\r\n");
    assert_string_equal(session_bench_to_server(&b), "SUBSCRIBE a\r\n");
    session_bench_server_says(&b, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    assert_string_equal(told(&b), "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    session_bench_server_says(&b, "*3\r\n$1000000\r\n");
    assert_int_equal(session_reply_unseen(&b.session), 0); /* its first word is still to be known */
    session_bench_free(&b);
}

/* Whether what it writes next is the first that it waits for, and how soon it will have a reply. */
static void test_when_a_client_asks_anew(void **state)
{
    struct session_bench b;

    (void)state;
    session_bench_init(&b);
    assert_false(session_asks_anew(&b.session)); /* nothing */
    says_(&b, "EVAL x 0\r\nEVAL y 0\r\n");
    assert_true(session_asks_anew(&b.session));
    assert_string_equal(session_bench_to_server(&b), "EVAL x 0\r\nEVAL y 0\r\n");
    says_(&b, "EVAL z 0\r\n");
    assert_false(session_asks_anew(&b.session)); /* two are under way */
    session_bench_server_says(&b, "+x\r\n+y\r\n");
    assert_false(session_asks_anew(&b.session)); /* it hasn't taken those replies */
    assert_string_equal(told(&b), "+x\r\n+y\r\n");
    assert_true(session_asks_anew(&b.session));
    (void)session_bench_to_server(&b);
    session_bench_server_says(&b, "+z\r\n");
    assert_string_equal(told(&b), "+z\r\n");
    const char *const never[] = {"BLPOP l 0\r\n", "WAIT 1 0\r\n", "MODULES.OWN x\r\n", set};
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        says_(&b, never[i]);
        if (never[i] == set) /* large: once it is known to be */
            session_take_request(&b.session, 0, body, 20000);
        assert_false(session_asks_anew(&b.session));
        (void)session_bench_to_server(&b);
        if (never[i] != set) {
            session_bench_server_says(&b, ":0\r\n");
            (void)told(&b);
        }
    }
    session_bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_body_passes_but_for_its_end),
        cmocka_unit_test(test_a_very_large_body_goes_in_strides),
        cmocka_unit_test(test_when_a_client_asks_anew),
        cmocka_unit_test(test_a_request_that_is_cut_is_discarded_to_its_end),
        cmocka_unit_test(test_half_of_a_reply_that_passed_ends_the_client),
        cmocka_unit_test(test_what_is_swallowed_does_not_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
