/* Connections that clients share, without sockets: random runs of several clients, and exact moments. */
#include "tests/fuzz/shared_model.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SEEDS = 1500, DICE_MAX = 6200 };

static void test_random_runs_lose_double_and_reorder_nothing(void **state)
{
    static uint8_t dice[DICE_MAX];

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t x = seed * 0x9E3779B97F4A7C15ULL + 1;
        size_t n = 200 + seed % 6000;
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

struct bench {
    struct route route;
    struct session_env env;
    struct session_counts counts;
    struct shared shared;
    struct session sessions[3];
    struct shared_user users[3];
    char text[4096];
};

static void bench_init(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    snprintf(b->route.name, sizeof(b->route.name), "cart");
    b->route.epoch = 7;
    b->env = (struct session_env){.route = &b->route, .hold_ms = 1000, .counts = &b->counts};
    for (int i = 0; i < 3; i++) {
        session_init(&b->sessions[i], &b->env, 0);
        b->users[i].session = &b->sessions[i];
    }
}

static void bench_free(struct bench *b)
{
    for (int i = 0; i < 3; i++) {
        shared_leave(&b->users[i]);
        session_free(&b->sessions[i]);
    }
    shared_break(&b->shared, 0, false);
    assert_null(shared_take_back(&b->shared, 0, 7));
    session_env_free(&b->env);
}

/* Returns how many bytes weren't taken. */
static size_t says(struct bench *b, int i, const char *text)
{
    return strlen(text) - shared_take(&b->shared, &b->users[i], 0, text, strlen(text));
}

/* Everything that goes to the server now. */
static const char *written(struct bench *b)
{
    struct buf_span span = shared_span(&b->shared);

    assert_true(span.len < sizeof(b->text));
    if (span.len > 0)
        memcpy(b->text, span.data, span.len);
    b->text[span.len] = '\0';
    shared_wrote(&b->shared, span.len);
    return b->text;
}

/* The server says it; returns "user:text" of each step. */
static const char *answers(struct bench *b, const char *text)
{
    size_t len = strlen(text), at = 0;
    struct shared_step step;

    b->text[0] = '\0';
    for (;;) {
        shared_take_reply(&b->shared, 0, &text, &len, &step);
        if (step.what == SHARED_NOTHING)
            return b->text;
        at +=
            (size_t)snprintf(b->text + at, sizeof(b->text) - at, "%s%s%td:%.*s", at ? " " : "",
                             step.what == SHARED_REFUSED  ? "refused "
                             : step.what == SHARED_BROKEN ? "broken "
                                                          : "",
                             step.user ? step.user - b->users : -1, (int)step.len, step.len ? step.data : "");
        if (step.user)
            shared_settle(step.user, 0);
        if (step.what == SHARED_BROKEN)
            return b->text;
    }
}

static void lose(struct bench *b, bool unsent)
{
    shared_break(&b->shared, 0, unsent);
    while (shared_take_back(&b->shared, 0, 7))
        continue;
}

static const char *told(struct bench *b, int i)
{
    struct buf_span span = session_reply_span(&b->sessions[i]);

    assert_true(span.len < sizeof(b->text));
    if (span.len > 0)
        memcpy(b->text, span.data, span.len);
    b->text[span.len] = '\0';
    if (span.len > 0)
        session_reply_wrote(&b->sessions[i], span.len);
    return b->text;
}

static void test_replies_go_to_who_asked_and_runs_are_passed_as_one(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\nGET b\r\n"), 0);
    assert_int_equal(says(&b, 1, "SET c 1\r\n"), 0);
    assert_int_equal(says(&b, 0, "GET d\r\n"), 0);
    assert_string_equal(written(&b), "GET a\r\nGET b\r\nSET c 1\r\nGET d\r\n");
    assert_int_equal(b.users[0].pending, 3);
    assert_string_equal(answers(&b, "$1\r\nA\r\n$-1\r\n+OK\r\n$2\r\nD"), "0:$1\r\nA\r\n$-1\r\n 1:+OK\r\n");
    assert_null(b.users[1].on);
    assert_string_equal(answers(&b, "D\r\n"), "0:$2\r\nDD\r\n");
    assert_int_equal(shared_count(&b.shared), 0);
    assert_null(b.sessions[0].work); /* nothing was copied for it */
    bench_free(&b);
}

static void test_only_what_depends_on_nothing_but_data_is_taken(void **state)
{
    static const char *const own[] = {
        "MULTI\r\n",        "SUBSCRIBE a\r\n",   "BLPOP a 0\r\n",        "SELECT 1\r\n",
        "WAIT 1 0\r\n",     "CLIENT ID\r\n",     "MONITOR\r\n",          "XREAD BLOCK 0 STREAMS s $\r\n",
        "NO.SUCH x\r\n",    "CLIENT LIST\r\n",   "HELLO 3\r\n",          "WATCH a\r\n",
        "CONFIG GET x\r\n", "SCRIPT LOAD x\r\n", "AUTH x\r\n",           "RESET\r\n",
        "QUIT\r\n",         "SHUTDOWN\r\n",      "CLIENT REPLY OFF\r\n", "DEBUG SLEEP 1\r\n"};
    struct bench b;

    (void)state;
    bench_init(&b);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        assert_false(shared_may_take(own[i], strlen(own[i])));
        assert_int_equal(says(&b, 0, own[i]), strlen(own[i]));
    }
    assert_int_equal(says(&b, 0, "PUBLISH a b\r\nEVAL x 0\r\nPING\r\nMULTI\r\nGET a\r\n"), 14);
    assert_int_equal(says(&b, 1, "\r\n*0\r\nOBJECT ENCODING a\r\nGET"), 3); /* blank lines vanish */
    assert_string_equal(written(&b), "PUBLISH a b\r\nEVAL x 0\r\nPING\r\nOBJECT ENCODING a\r\n");
    bench_free(&b);
}

static void test_a_lost_connection_repeats_reads_and_tells_of_writes(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\nSET a 1\r\nGET b\r\n"), 0);
    assert_int_equal(says(&b, 1, "SET x 1\r\n"), 0);
    (void)written(&b);
    assert_int_equal(says(&b, 2, "SET y 1\r\n"), 0); /* not written yet */
    session_take_request(&b.sessions[0], 0, "GET c\r\n", 7);
    lose(&b, false);
    assert_memory_equal(told(&b, 1), "-MRUNKNOWN ", 11);
    assert_string_equal(told(&b, 0), ""); /* its GET a comes first */
    assert_int_equal(atomic_load(&b.counts.replayed), 2);
    assert_int_equal(atomic_load(&b.counts.held), 2);
    /* All that waits goes over the next one, up to the answer that has its place in between. */
    assert_int_equal(shared_take_waiting(&b.shared, &b.users[0]), 1);
    assert_int_equal(shared_take_waiting(&b.shared, &b.users[2]), 1);
    assert_string_equal(written(&b), "GET a\r\nSET y 1\r\n");
    assert_string_equal(answers(&b, "$1\r\n1\r\n+OK\r\n"), "0:$1\r\n1\r\n 2:+OK\r\n");
    assert_memory_equal(told(&b, 0), "-MRUNKNOWN ", 11);
    assert_int_equal(shared_take_waiting(&b.shared, &b.users[0]), 2);
    assert_string_equal(written(&b), "GET b\r\nGET c\r\n");
    bench_free(&b);
}

/* A PING waits behind others' requests, so it is lost with them; it isn't to blame. */
static void test_pings_survive_any_number_of_lost_connections(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "DBSIZE\r\n"), 0);
    assert_int_equal(says(&b, 1, "PING\r\n"), 0);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(written(&b), "DBSIZE\r\nPING\r\n");
        lose(&b, false);
        assert_string_equal(told(&b, 1), "");
        assert_int_equal(shared_take_waiting(&b.shared, &b.users[0]), i == 0);
        assert_int_equal(shared_take_waiting(&b.shared, &b.users[1]), 1);
    }
    assert_memory_equal(told(&b, 0), "-MRUNKNOWN two connections ", 27);
    assert_string_equal(written(&b), "PING\r\n");
    assert_string_equal(answers(&b, "+PONG\r\n"), "1:+PONG\r\n");
    bench_free(&b);
}

static void test_a_refusal_holds_that_client_and_its_later_requests(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "SET a 1\r\nGET a\r\nSET b 1\r\n"), 0);
    assert_int_equal(says(&b, 1, "GET x\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "-READONLY You can't write against a read only replica.\r\n$1\r\n0\r\n"),
                        "refused 0: 0:");
    assert_string_equal(answers(&b, "-READONLY You can't write against a read only replica.\r\n$1\r\nX\r\n"),
                        "refused 0: 1:$1\r\nX\r\n");
    assert_string_equal(told(&b, 0), "");
    assert_int_equal(atomic_load(&b.counts.held), 3);
    assert_int_equal(shared_take_waiting(&b.shared, &b.users[0]), 3);
    assert_string_equal(written(&b), "SET a 1\r\nGET a\r\nSET b 1\r\n");
    bench_free(&b);
}

static void test_a_large_reply_moves_its_client(void **state)
{
    char *large = malloc(40001);
    struct bench b;

    (void)state;
    assert_non_null(large);
    memset(large, 'x', 40000);
    large[40000] = '\0';
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\nGET b\r\n"), 0);
    assert_int_equal(says(&b, 1, "GET c\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "$40000\r\n"), ""); /* swallowed from its first byte on */
    assert_true(b.users[0].diverted);
    assert_string_equal(answers(&b, large), "");
    assert_string_equal(answers(&b, "\r\n$1\r\nb\r\n$1\r\nc\r\n"), "0: 0: 1:$1\r\nc\r\n");
    assert_false(session_may_share(&b.sessions[0], 0));
    assert_true(session_wants_backend(&b.sessions[0]));
    assert_int_equal(atomic_load(&b.counts.replayed), 1);
    free(large);
    bench_free(&b);
}

static void test_a_large_reply_that_cannot_be_asked_again_is_streamed(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\nSET a 1\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "$40000\r\nabc"), "0:$40000\r\nabc");
    assert_string_equal(answers(&b, "def"), "0:def");
    lose(&b, false);
    assert_true(session_take_actions(&b.sessions[0]) & SESSION_CLOSE); /* it can't be repaired */
    bench_free(&b);
}

static void test_who_leaves_gets_nothing_and_disturbs_nobody(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\n"), 0);
    assert_int_equal(says(&b, 1, "GET b\r\n"), 0);
    assert_int_equal(says(&b, 0, "GET c\r\n"), 0);
    (void)written(&b);
    shared_leave(&b.users[0]);
    assert_string_equal(answers(&b, "$1\r\na\r\n$1\r\nb\r\n-ERR c\r\n"), "1:$1\r\nb\r\n");
    assert_int_equal(shared_count(&b.shared), 0);
    bench_free(&b);
}

static void test_what_is_refused_as_a_whole_is_sent_again(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "SET a 1\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "-ERR max number of clients reached\r\n"),
                        "broken -1:-ERR max number of clients reached\r\n");
    for (int i = 0; i < 3; i++) {
        lose(&b, true);
        assert_string_equal(told(&b, 0), "");
        assert_int_equal(shared_take_waiting(&b.shared, &b.users[0]), 1);
        assert_int_equal(atomic_load(&b.counts.held), 1); /* however often it is refused */
    }
    bench_free(&b);
}

static void test_what_the_connection_is_told_first_has_to_succeed(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(shared_begin(&b.shared, "AUTH x\r\nSELECT 2\r\n", 18, 2), 0);
    assert_string_equal(written(&b), "AUTH x\r\nSELECT 2\r\n");
    assert_string_equal(answers(&b, "+OK\r\n+OK\r\n"), "");
    assert_int_equal(shared_count(&b.shared), 0);
    assert_int_equal(shared_begin(&b.shared, "AUTH y\r\n", 8, 1), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "-WRONGPASS no\r\n"), "broken -1:-WRONGPASS no\r\n");
    bench_free(&b);
}

static void test_a_deep_pipeline_needs_a_connection_of_its_own(void **state)
{
    char *deep = calloc(SHARED_USER_MAX + 10, 6);
    struct bench b;

    (void)state;
    assert_non_null(deep);
    for (int i = 0; i < SHARED_USER_MAX + 10; i++)
        memcpy(deep + i * 6, "PING\r\n", 6);
    bench_init(&b);
    assert_int_equal(shared_take(&b.shared, &b.users[0], 0, deep, (SHARED_USER_MAX + 10) * 6),
                     SHARED_USER_MAX * 6);
    assert_false(session_may_share(&b.sessions[0], SESSION_OWN_MS - 1));
    assert_true(session_may_share(&b.sessions[0], SESSION_OWN_MS));
    free(deep);
    bench_free(&b);
}

/* WAIT counts from what its own connection wrote; the writes went elsewhere. */
static void test_wait_is_made_to_know_of_writes_that_were_shared(void **state)
{
    struct bench b;
    struct buf_span span;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "SET a 1\r\n"), 0);
    (void)written(&b);
    session_take_request(&b.sessions[0], 0, "WAIT 1 0\r\n", 10);
    assert_false(session_wants_backend(&b.sessions[0])); /* not before its SET is answered */
    assert_string_equal(answers(&b, "+OK\r\n"), "0:+OK\r\n");
    assert_true(session_wants_backend(&b.sessions[0]));
    session_attached(&b.sessions[0], 0);
    assert_int_equal(session_request_spans(&b.sessions[0], &span, 1), 1);
    assert_memory_equal(span.data, "*3\r\n$7\r\nPUBLISH\r\n", 17);
    session_request_wrote(&b.sessions[0], 0, span.len);
    assert_int_equal(session_request_spans(&b.sessions[0], &span, 1), 0);
    session_take_reply(&b.sessions[0], 0, ":0\r\n", 4);
    assert_int_equal(session_request_spans(&b.sessions[0], &span, 1), 1);
    assert_memory_equal(span.data, "WAIT 1 0\r\n", 10);
    session_request_wrote(&b.sessions[0], 0, span.len);
    session_take_reply(&b.sessions[0], 0, ":1\r\n", 4);
    assert_string_equal(told(&b, 0), ":1\r\n");
    /* The second one needs no marker. */
    session_take_request(&b.sessions[0], 0, "WAIT 1 0\r\n", 10);
    assert_int_equal(session_request_spans(&b.sessions[0], &span, 1), 1);
    assert_memory_equal(span.data, "WAIT 1 0\r\n", 10);
    bench_free(&b);
}

static void test_wait_of_who_may_not_publish_knows_of_nobody(void **state)
{
    struct bench b;
    struct buf_span span;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "SET a 1\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "+OK\r\n"), "0:+OK\r\n");
    session_take_request(&b.sessions[0], 0, "WAIT 1 0\r\nGET a\r\n", 17);
    session_attached(&b.sessions[0], 0);
    assert_int_equal(session_request_spans(&b.sessions[0], &span, 1), 1);
    session_request_wrote(&b.sessions[0], 0, span.len);
    assert_string_equal(told(&b, 0), "");
    session_take_reply(&b.sessions[0], 0, "-NOPERM no\r\n", 12);
    assert_string_equal(told(&b, 0), ":0\r\n");
    assert_int_equal(session_request_spans(&b.sessions[0], &span, 1), 1);
    assert_memory_equal(span.data, "GET a\r\n", 7);
    bench_free(&b);
}

/* What it doesn't take is asked for again where it can be left unread. */
static void test_who_takes_nothing_is_moved(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\nGET b\r\n"), 0);
    assert_int_equal(says(&b, 1, "GET c\r\nSET d 1\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "$1\r\na\r\n"), "0:$1\r\na\r\n");
    shared_overflow(&b.users[0], 0);
    shared_overflow(&b.users[1], 0); /* it has a write there: that can't be moved */
    assert_string_equal(answers(&b, "$1\r\nb\r\n$1\r\nc\r\n+OK\r\n"), "0: 1:$1\r\nc\r\n+OK\r\n");
    assert_true(session_wants_backend(&b.sessions[0]));
    assert_false(session_wants_shared(&b.sessions[0], 0));
    bench_free(&b);
}

static void test_who_comes_does_not_wait_for_what_is_dropped(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\nGET b\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "$262143\r\nx"), "");
    assert_false(shared_is_crowded(&b.shared)); /* it is soon over */
    bench_free(&b);
    bench_init(&b);
    assert_int_equal(says(&b, 0, "GET a\r\nGET b\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, "$1000000\r\n"), "");
    assert_true(shared_is_crowded(&b.shared));
    bench_free(&b);
}

/* So that nobody has to wait behind all that one has to say. */
static void test_nobody_fills_the_connection_alone(void **state)
{
    enum { SIZE = 10000, LEN = SIZE + 7, N = SHARED_USER_BYTES / LEN + 1 };
    static char text[20 * LEN];
    struct bench b;

    (void)state;
    assert_true(N < 20);
    bench_init(&b);
    for (int k = 0; k < 20; k++) {
        memcpy(text + k * LEN, "ECHO ", 5);
        memset(text + k * LEN + 5, 'x', SIZE);
        memcpy(text + k * LEN + 5 + SIZE, "\r\n", 2);
    }
    assert_int_equal(shared_take(&b.shared, &b.users[0], 0, text, sizeof(text)), N * LEN);
    assert_int_equal(b.users[0].bytes, N * LEN);
    assert_false(session_may_share(&b.sessions[0], 0)); /* the rest goes over its own */
    assert_int_equal(says(&b, 1, "GET c\r\n"), 0);
    shared_wrote(&b.shared, shared_span(&b.shared).len);
    for (int k = 0; k < N; k++)
        assert_string_equal(answers(&b, "$1\r\nx\r\n"), "0:$1\r\nx\r\n");
    assert_int_equal(b.users[0].bytes, 0);
    assert_string_equal(answers(&b, "$-1\r\n"), "1:$-1\r\n");
    shared_leave(&b.users[1]);
    assert_int_equal(b.users[1].bytes, 0);
    bench_free(&b);
}

/* It doesn't read, and what it asked can't be asked for again: it ends, the others don't notice. */
static void test_an_echo_is_answered_in_its_turn_and_told_nobody(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    says(&b, 0, "GET a\r\n");
    uint64_t echo = shared_echo(&b.shared);
    assert_true(echo > 0);
    says(&b, 1, "GET b\r\n");
    assert_string_equal(written(&b), "GET a\r\n*1\r\n$4\r\nPING\r\nGET b\r\n");
    assert_false(shared_has_answered(&b.shared, echo));
    assert_string_equal(answers(&b, "$1\r\n1\r\n"), "0:$1\r\n1\r\n");
    assert_false(shared_has_answered(&b.shared, echo));
    assert_string_equal(answers(&b, "+PONG\r\n$1\r\n2\r\n"), "1:$1\r\n2\r\n");
    assert_true(shared_has_answered(&b.shared, echo));
    (void)shared_echo(&b.shared);
    written(&b);
    assert_string_equal(answers(&b, "-NOAUTH no\r\n"), ""); /* the server had its turn all the same */
    assert_int_equal(shared_count(&b.shared), 0);
    bench_free(&b);
}

static void test_what_is_due_does_not_wait_for_the_turns_end(void **state)
{
    static char value[SHARED_REQUEST_MAX];
    struct bench b;

    (void)state;
    bench_init(&b);
    for (int i = 1; i < SHARED_START_REQUESTS; i++) {
        says(&b, i % 3, "GET a\r\n");
        assert_false(shared_is_due(&b.shared, false));
    }
    says(&b, 0, "GET a\r\n");
    assert_true(shared_is_due(&b.shared, false)); /* the server has nothing to do */
    assert_false(shared_is_due(&b.shared, true)); /* nor could it, while this thread runs */
    written(&b);
    assert_false(shared_is_due(&b.shared, false));
    for (int i = 0; i < SHARED_START_REQUESTS; i++)
        says(&b, i % 3, "GET a\r\n");
    assert_false(shared_is_due(&b.shared, false)); /* it has */
    written(&b);
    int head = snprintf(value, sizeof(value), "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$16000\r\n");
    memset(value + head, 'v', 16000);
    memcpy(value + head + 16000, "\r\n", 3);
    assert_int_equal(says(&b, 1, value), 0);
    says(&b, 2, value);
    assert_false(shared_is_due(&b.shared, false));
    says(&b, 0, value);
    assert_true(shared_is_due(&b.shared, false)); /* a full batch */
    assert_true(shared_is_due(&b.shared, true));
    bench_free(&b);
}

static void test_too_many_untaken_replies_of_writes_end_their_client(void **state)
{
    static char large[SESSION_OUT_MAX];
    const struct session_limits limits = {.reply_bytes = SESSION_OUT_MAX};
    const char *end =
        "-MRLIMIT a client of instance cart left 65536 bytes of replies unread (--max-reply-bytes";
    struct bench b;

    (void)state;
    bench_init(&b);
    b.env.limits = &limits;
    assert_int_equal(says(&b, 0, "INCR a\r\nGET b\r\nINCR a\r\n"), 0);
    assert_int_equal(says(&b, 1, "GET c\r\n"), 0);
    (void)written(&b);
    assert_string_equal(answers(&b, ":1\r\n"), "0::1\r\n");
    session_emit(&b.sessions[0], large, sizeof(large) - 1);
    shared_overflow(&b.users[0], 0);
    assert_false(b.sessions[0].closing); /* not yet */
    session_emit(&b.sessions[0], large, 1);
    shared_overflow(&b.users[0], 0);
    assert_true(b.sessions[0].closing && !session_reads_client(&b.sessions[0]));
    assert_int_equal(b.counts.rejected, 1);
    assert_string_equal(answers(&b, "$1\r\nx\r\n:2\r\n$1\r\ny\r\n"), "1:$1\r\ny\r\n");
    session_reply_wrote(&b.sessions[0], sizeof(large));
    assert_memory_equal(told(&b, 0), end, strlen(end));
    assert_true(session_is_over(&b.sessions[0]));
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_go_to_who_asked_and_runs_are_passed_as_one),
        cmocka_unit_test(test_only_what_depends_on_nothing_but_data_is_taken),
        cmocka_unit_test(test_a_lost_connection_repeats_reads_and_tells_of_writes),
        cmocka_unit_test(test_pings_survive_any_number_of_lost_connections),
        cmocka_unit_test(test_a_refusal_holds_that_client_and_its_later_requests),
        cmocka_unit_test(test_a_large_reply_moves_its_client),
        cmocka_unit_test(test_a_large_reply_that_cannot_be_asked_again_is_streamed),
        cmocka_unit_test(test_who_leaves_gets_nothing_and_disturbs_nobody),
        cmocka_unit_test(test_what_is_refused_as_a_whole_is_sent_again),
        cmocka_unit_test(test_what_the_connection_is_told_first_has_to_succeed),
        cmocka_unit_test(test_a_deep_pipeline_needs_a_connection_of_its_own),
        cmocka_unit_test(test_wait_is_made_to_know_of_writes_that_were_shared),
        cmocka_unit_test(test_wait_of_who_may_not_publish_knows_of_nobody),
        cmocka_unit_test(test_who_takes_nothing_is_moved),
        cmocka_unit_test(test_random_runs_lose_double_and_reorder_nothing),
        cmocka_unit_test(test_an_echo_is_answered_in_its_turn_and_told_nobody),
        cmocka_unit_test(test_what_is_due_does_not_wait_for_the_turns_end),
        cmocka_unit_test(test_too_many_untaken_replies_of_writes_end_their_client),
        cmocka_unit_test(test_nobody_fills_the_connection_alone),
        cmocka_unit_test(test_who_comes_does_not_wait_for_what_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
