/* The RESP framer: every split of every message, both protocols, inline quoting, limits, wording of errors.
 */
#include "common/core/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

/* A text that may hold NULs, and its length. */
#define TEXT(s) (s), sizeof(s) - 1

struct request_case {
    const char *data;
    size_t len;
    uint32_t n_args;
    const char *words[2];
    bool is_inline;
};

static const struct request_case requests[] = {
    {TEXT("*1\r\n$4\r\nping\r\n"), 1, {"PING", ""}, false},
    {TEXT("*3\r\n$3\r\nSET\r\n$3\r\nKey\r\n$5\r\nv\r\n\0x\r\n"), 3, {"SET", "KEY"}, false},
    {TEXT("*2\r\n$0\r\n\r\n$1\r\n\n\r\n"), 2, {"", "\n"}, false},
    {TEXT("*0\r\n"), 0, {"", ""}, false},
    {TEXT("*-1\r\n"), 0, {"", ""}, false},
    {TEXT("*-10\r\n"), 0, {"", ""}, false},
    {TEXT("\r\n"), 0, {"", ""}, true},
    {TEXT("\n"), 0, {"", ""}, true},
    {TEXT(" \t\v\f \r\n"), 0, {"", ""}, true},
    {TEXT("PING\n"), 1, {"PING", ""}, true},
    {TEXT("  set a\tb  \r\n"), 3, {"SET", "A"}, true},
    {TEXT("set \"a b\" 'c d'\r\n"), 3, {"SET", "A B"}, true},
    {TEXT("set \"\\x41\\n\\\"\\q\" x\r\n"), 3, {"SET", "A\n\"Q"}, true},
    {TEXT("set \"\\xZ\\x4\\x4g\" x\r\n"), 3, {"SET", "XZX4X4G"}, true},
    {TEXT("set \"\\\\x41\" x\r\n"), 3, {"SET", "\\X41"}, true},
    {TEXT("set 'it\\'s \\n' x\r\n"), 3, {"SET", "IT'S \\N"}, true},
    {TEXT("set '\\\\z' x\r\n"), 3, {"SET", "\\\\Z"}, true},
    {TEXT("set k\"q r\"\r\n"), 2, {"SET", "KQ R"}, true},
    {TEXT("set \"\" ''\r\n"), 3, {"SET", ""}, true},
    {TEXT("a\rb\vc\r\n"), 2, {"A", "B\vC"}, true},
    {TEXT("*2\r\n$40\r\n0123456789012345678901234567890123456789\r\n$1\r\nx\r\n"),
     2,
     {"0123456789012345678901234567890", "X"},
     false},
};

static void check_request(const struct resp_request *r, const struct request_case *c)
{
    assert_int_equal(r->n_args, c->n_args);
    assert_int_equal(r->is_inline, c->is_inline);
    assert_int_equal(r->bytes, c->len);
    assert_int_equal(r->pending, 0);
    assert_string_equal(r->word[0], c->words[0]);
    assert_string_equal(r->word[1], c->words[1]);
    assert_string_equal(r->problem, "");
}

/* Feeds data[from..to); the message must not end in it unless it ends exactly there. */
static enum resp_result feed_part(struct resp_request *r, const char *data, size_t from, size_t to)
{
    /* A copy of its own, so that a read past the end is seen by AddressSanitizer. */
    size_t len = to - from, used = 99;
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, data + from, len);
    enum resp_result result = resp_request_feed(r, copy, len, &used);
    free(copy);
    assert_int_equal(used, len);
    return result;
}

static void test_request_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(requests); i++) {
        const struct request_case *c = &requests[i];
        struct resp_request r;
        for (size_t a = 0; a < c->len; a++) {
            for (size_t b = a; b < c->len; b++) {
                resp_request_init(&r);
                assert_int_equal(feed_part(&r, c->data, 0, a), RESP_MORE);
                assert_int_equal(feed_part(&r, c->data, a, b), RESP_MORE);
                assert_int_equal(feed_part(&r, c->data, b, c->len), RESP_END);
                check_request(&r, c);
            }
        }
    }
}

/* One after the other through one framer, in one piece: each ends where it should. */
static void test_request_pipeline(void **state)
{
    char all[4096];
    size_t len = 0, at = 0;
    struct resp_request r;

    (void)state;
    for (size_t i = 0; i < LEN(requests); i++) {
        memcpy(all + len, requests[i].data, requests[i].len);
        len += requests[i].len;
    }
    resp_request_init(&r);
    for (size_t i = 0; i < LEN(requests); i++) {
        size_t used = 0;
        assert_int_equal(resp_request_feed(&r, all + at, len - at, &used), RESP_END);
        assert_int_equal(used, requests[i].len);
        check_request(&r, &requests[i]);
        at += used;
    }
    assert_int_equal(at, len);
}

static void test_request_word_lengths(void **state)
{
    struct resp_request r;
    size_t used = 0;
    const char *text = "*2\r\n$40\r\n0123456789012345678901234567890123456789\r\n$2\r\nab\r\n";

    (void)state;
    resp_request_init(&r);
    assert_int_equal(resp_request_feed(&r, text, strlen(text), &used), RESP_END);
    assert_int_equal(r.word_len[0], 40);
    assert_int_equal(r.word_len[1], 2);
}

/* A body is skipped, not looked for: a huge one passes, and `pending` says what is to come. */
static void test_request_streams_huge_bulk(void **state)
{
    enum { CHUNK = 1 << 20 };
    struct resp_request r;
    size_t used = 0;
    const char *head = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n";
    char *chunk = calloc(1, CHUNK);

    (void)state;
    assert_non_null(chunk);
    resp_request_init(&r);
    assert_int_equal(resp_request_feed(&r, head, strlen(head), &used), RESP_MORE);
    for (int64_t left = RESP_BULK_MAX; left > 0; left -= CHUNK) {
        assert_int_equal(r.pending, left);
        assert_int_equal(resp_request_feed(&r, chunk, CHUNK, &used), RESP_MORE);
        assert_int_equal(used, CHUNK);
    }
    assert_int_equal(r.pending, 0);
    assert_int_equal(resp_request_feed(&r, "\r\nX", 3, &used), RESP_END);
    assert_int_equal(used, 2);
    assert_int_equal(r.bytes, strlen(head) + RESP_BULK_MAX + 2);
    free(chunk);
}

struct bad_case {
    const char *data;
    size_t len;
    const char *problem;
};

static const struct bad_case bad_requests[] = {
    {TEXT("*x\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*-\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*-0\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*+1\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*01\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("* 1\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*1\rx"), "Protocol error: invalid multibulk length"},
    {TEXT("*1048577\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*99999999999999999999\r\n"), "Protocol error: invalid multibulk length"},
    {TEXT("*1\r\nx"), "Protocol error: expected '$', got 'x'"},
    {TEXT("*1\r\n\n"), "Protocol error: expected '$', got '?'"},
    {TEXT("*1\r\n$-1\r\n"), "Protocol error: invalid bulk length"},
    {TEXT("*1\r\n$536870913\r\n"), "Protocol error: invalid bulk length"},
    {TEXT("*1\r\n$a\r\n"), "Protocol error: invalid bulk length"},
    {TEXT("*1\r\n$1\r\nabc\r\n"), "Protocol error: expected CRLF after bulk"},
    {TEXT("*1\r\n$1\r\na\rx"), "Protocol error: expected CRLF after bulk"},
    {TEXT("set \"a\r\n"), "Protocol error: unbalanced quotes in request"},
    {TEXT("set '\\\\' x\r\n"), "Protocol error: unbalanced quotes in request"}, /* so does Redis */
    {TEXT("set 'a\\'\r\n"), "Protocol error: unbalanced quotes in request"},
    {TEXT("set \"a\"b\r\n"), "Protocol error: unbalanced quotes in request"},
    {TEXT("set \"a\\\r\n"), "Protocol error: unbalanced quotes in request"},
    {TEXT("set a\0b\r\n"), "Protocol error: NUL byte in inline request"},
};

static void test_request_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(bad_requests); i++) {
        const struct bad_case *c = &bad_requests[i];
        for (size_t split = 0; split < c->len; split++) {
            struct resp_request r;
            size_t used = 0, more = 0;
            resp_request_init(&r);
            enum resp_result result = resp_request_feed(&r, c->data, split, &used);
            if (result == RESP_MORE)
                result = resp_request_feed(&r, c->data + split, c->len - split, &more);
            assert_int_equal(result, RESP_BAD);
            assert_string_equal(r.problem, c->problem);
            assert_int_equal(r.bytes, used + more);
            /* It stays bad, and takes nothing. */
            assert_int_equal(resp_request_feed(&r, TEXT("*1\r\n$4\r\nPING\r\n"), &used), RESP_BAD);
            assert_int_equal(used, 0);
        }
    }
}

static void check_too_long(const char *head, char filler, const char *problem)
{
    struct resp_request r;
    size_t used = 0, limit = RESP_INLINE_MAX + 16;
    char *text = malloc(limit);

    assert_non_null(text);
    memset(text, filler, limit);
    resp_request_init(&r);
    if (*head)
        assert_int_equal(resp_request_feed(&r, head, strlen(head), &used), RESP_MORE);
    assert_int_equal(resp_request_feed(&r, text, limit, &used), RESP_BAD);
    assert_string_equal(r.problem, problem);
    free(text);
}

static void test_request_line_limits(void **state)
{
    (void)state;
    check_too_long("*", '1', "Protocol error: too big mbulk count string");
    check_too_long("*1\r\n$", '1', "Protocol error: too big bulk count string");
    check_too_long("", 'a', "Protocol error: too big inline request");
}

static void test_request_split(void **state)
{
    static const char multi[] = "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\na\r\n\r\n";
    static const char line[] = " set \"a \\x42\" 'it\\'s' e\r\n";
    char scratch[64];
    struct resp_arg args[4];

    (void)state;
    assert_int_equal(resp_request_split(TEXT(multi), scratch, args, 4), 3);
    assert_int_equal(args[0].len, 3);
    assert_memory_equal(args[0].data, "SET", 3);
    assert_int_equal(args[1].len, 0);
    assert_int_equal(args[2].len, 3);
    assert_memory_equal(args[2].data, "a\r\n", 3);

    assert_int_equal(resp_request_split(TEXT(line), scratch, args, 4), 4);
    assert_memory_equal(args[0].data, "set", 3);
    assert_int_equal(args[1].len, 3);
    assert_memory_equal(args[1].data, "a B", 3);
    assert_int_equal(args[2].len, 4);
    assert_memory_equal(args[2].data, "it's", 4);
    assert_int_equal(args[3].len, 1);

    /* More than there is room for: counted, the first ones given. */
    assert_int_equal(resp_request_split(TEXT(multi), scratch, args, 1), 3);
    assert_int_equal(resp_request_split(TEXT(line), scratch, args, 2), 4);
    assert_int_equal(args[1].len, 3);
    assert_int_equal(resp_request_split(TEXT(line), scratch, NULL, 0), 4);
    assert_int_equal(resp_request_split(TEXT("*0\r\n"), scratch, args, 4), 0);
    assert_int_equal(resp_request_split(TEXT("\r\n"), scratch, args, 4), 0);

    /* Incomplete or malformed. */
    for (size_t len = 0; len < sizeof(line) - 1; len++)
        assert_int_equal(resp_request_split(line, len, scratch, args, 4), ERR_INVALID);
    for (size_t len = 0; len < sizeof(multi) - 1; len++)
        assert_int_equal(resp_request_split(multi, len, scratch, args, 4), ERR_INVALID);
}

struct reply_case {
    const char *data;
    size_t len;
    char type;
    bool is_null;
    int64_t count;
    const char *error, *word;
};

static const struct reply_case replies[] = {
    {TEXT("+OK\r\n"), '+', false, 0, "", ""},
    {TEXT("-READONLY You can't write\r\n"), '-', false, 0, "READONLY You can't write", ""},
    {TEXT(":-12\r\n"), ':', false, 0, "", ""},
    {TEXT("$5\r\na\r\n-b\r\n"), '$', false, 0, "", ""},
    {TEXT("$0\r\n\r\n"), '$', false, 0, "", ""},
    {TEXT("$-1\r\n"), '$', true, 0, "", ""},
    {TEXT("*-1\r\n"), '*', true, 0, "", ""},
    {TEXT("*0\r\n"), '*', false, 0, "", ""},
    {TEXT("*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$5\r\nhello\r\n"), '*', false, 3, "", "message"},
    {TEXT("*2\r\n*2\r\n:1\r\n:2\r\n$1\r\nx\r\n"), '*', false, 2, "", ""},
    {TEXT("*2\r\n*0\r\n*-1\r\n"), '*', false, 2, "", ""},
    {TEXT("*2\r\n$-1\r\n$1\r\nx\r\n"), '*', false, 2, "", ""},
    {TEXT("*1\r\n-ERR inside\r\n"), '*', false, 1, "", ""},
    {TEXT("*2\r\n+simple\r\n+other\r\n"), '*', false, 2, "", "simple"},
    {TEXT("_\r\n"), '_', true, 0, "", ""},
    {TEXT("#t\r\n"), '#', false, 0, "", ""},
    {TEXT(",3.14\r\n"), ',', false, 0, "", ""},
    {TEXT("(3492890328409238509324850943850943825024385\r\n"), '(', false, 0, "", ""},
    {TEXT("=15\r\ntxt:Some string\r\n"), '=', false, 0, "", ""},
    {TEXT("!21\r\nSYNTAX invalid syntax\r\n"), '!', false, 0, "SYNTAX invalid syntax", ""},
    {TEXT("%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n"), '%', false, 2, "", "a"},
    {TEXT("~2\r\n:1\r\n#f\r\n"), '~', false, 2, "", ""},
    {TEXT(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"), '>', false, 2, "", "invalidate"},
    {TEXT("|1\r\n+ttl\r\n:3600\r\n+OK\r\n"), '+', false, 0, "", ""},
    {TEXT("|1\r\n-ERR no\r\n%1\r\n+x\r\n+y\r\n*2\r\n$1\r\na\r\n:2\r\n"), '*', false, 2, "", "a"},
    {TEXT("|0\r\n$-1\r\n"), '$', true, 0, "", ""},
    {TEXT("*2\r\n|1\r\n+p\r\n+q\r\n+first\r\n:2\r\n"), '*', false, 2, "", "first"},
    {TEXT("*1\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"), '*', false, 1, "", ""}, /* EXEC in RESP3 */
    {TEXT("*1\r\n$40\r\n0123456789012345678901234567890123456789\r\n"), '*', false, 1, "",
     "0123456789012345678901234567890"},
};

static void check_reply(const struct resp_reply *r, const struct reply_case *c)
{
    assert_int_equal(r->type, c->type);
    assert_int_equal(r->is_null, c->is_null);
    assert_int_equal(r->count, c->count);
    assert_int_equal(r->bytes, c->len);
    assert_string_equal(r->error, c->error);
    assert_int_equal(r->error_len, strlen(c->error));
    assert_string_equal(r->word, c->word);
    assert_int_equal(r->word_len, strlen(c->word));
}

static enum resp_result feed_reply(struct resp_reply *r, const char *data, size_t from, size_t to)
{
    size_t len = to - from, used = 99;
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, data + from, len);
    enum resp_result result = resp_reply_feed(r, copy, len, &used);
    free(copy);
    assert_int_equal(used, len);
    return result;
}

static void test_reply_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(replies); i++) {
        const struct reply_case *c = &replies[i];
        struct resp_reply r;
        for (size_t a = 0; a < c->len; a++) {
            for (size_t b = a; b < c->len; b++) {
                resp_reply_init(&r);
                assert_int_equal(feed_reply(&r, c->data, 0, a), RESP_MORE);
                assert_int_equal(feed_reply(&r, c->data, a, b), RESP_MORE);
                assert_int_equal(feed_reply(&r, c->data, b, c->len), RESP_END);
                check_reply(&r, c);
            }
        }
    }
}

static void test_reply_pipeline(void **state)
{
    char all[4096];
    size_t len = 0, at = 0;
    struct resp_reply r;

    (void)state;
    for (size_t i = 0; i < LEN(replies); i++) {
        memcpy(all + len, replies[i].data, replies[i].len);
        len += replies[i].len;
    }
    resp_reply_init(&r);
    for (size_t i = 0; i < LEN(replies); i++) {
        size_t used = 0;
        assert_int_equal(resp_reply_feed(&r, all + at, len - at, &used), RESP_END);
        assert_int_equal(used, replies[i].len);
        check_reply(&r, &replies[i]);
        at += used;
    }
    assert_int_equal(at, len);
}

static const struct bad_case bad_replies[] = {
    {TEXT("HTTP/1.1 400\r\n"), "unexpected byte where a reply should begin"},
    {TEXT("\0"), "unexpected byte where a reply should begin"},
    {TEXT("$x\r\n"), "a length that is no number"},
    {TEXT("*?\r\n"), "a length that is no number"},
    {TEXT("$-2\r\n"), "a negative length"},
    {TEXT("%-1\r\n"), "a negative length"},
    {TEXT("!-1\r\n"), "a negative length"},
    {TEXT("*1099511627777\r\n"), "more elements than can be"},
    {TEXT("+a\rb\r\n"), "a carriage return inside of a line"},
    {TEXT("$1\r\nabc\r\n"), "a bulk that is longer than its length"},
    {TEXT("$1\r\na\rb"), "a bulk that is longer than its length"},
};

static void test_reply_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(bad_replies); i++) {
        const struct bad_case *c = &bad_replies[i];
        for (size_t split = 0; split < c->len; split++) {
            struct resp_reply r;
            size_t used = 0, more = 0;
            resp_reply_init(&r);
            enum resp_result result = resp_reply_feed(&r, c->data, split, &used);
            if (result == RESP_MORE)
                result = resp_reply_feed(&r, c->data + split, c->len - split, &more);
            assert_int_equal(result, RESP_BAD);
            assert_string_equal(r.problem, c->problem);
            assert_int_equal(resp_reply_feed(&r, TEXT("+OK\r\n"), &used), RESP_BAD);
            assert_int_equal(used, 0);
        }
    }
}

static void test_reply_depth_limit(void **state)
{
    struct resp_reply r;
    size_t used = 0;

    (void)state;
    resp_reply_init(&r);
    for (int i = 0; i < RESP_RUNS_MAX - 1; i++)
        assert_int_equal(resp_reply_feed(&r, i % 2 ? "*1\r\n" : "*2\r\n", 4, &used), RESP_MORE);
    struct resp_reply deeper = r;
    for (int i = 0; i < RESP_RUNS_MAX / 2; i++)
        assert_int_equal(resp_reply_feed(&r, TEXT(":1\r\n"), &used), RESP_MORE);
    assert_int_equal(resp_reply_feed(&r, TEXT(":1\r\n"), &used), RESP_END);
    assert_int_equal(resp_reply_feed(&deeper, TEXT("*1\r\n"), &used), RESP_BAD);
    assert_string_equal(deeper.problem, "nested too deeply");
}

/* As Lua answers with a table that contains itself. */
static void test_replies_nested_as_deeply_as_scripts_can(void **state)
{
    enum { DEEP = 8000 };
    struct resp_reply r;
    size_t used = 0;

    (void)state;
    resp_reply_init(&r);
    for (int width = 1; width <= 3; width++) {
        for (int i = 0; i < DEEP; i++)
            assert_int_equal(resp_reply_feed(&r,
                                             width == 1   ? "*1\r\n"
                                             : width == 2 ? "*2\r\n"
                                                          : "*3\r\n",
                                             4, &used),
                             RESP_MORE);
        int elements = DEEP * (width - 1) + 1;
        for (int i = 1; i < elements; i++)
            assert_int_equal(resp_reply_feed(&r, TEXT("+x\r\n"), &used), RESP_MORE);
        assert_int_equal(resp_reply_feed(&r, TEXT("+x\r\n"), &used), RESP_END);
        assert_int_equal(r.bytes, 4 * (DEEP + elements));
        assert_int_equal(r.count, width);
        assert_int_equal(r.word_len, 0);
    }
}

static void test_reply_keeps_the_error_within_bounds(void **state)
{
    struct resp_reply r;
    size_t used = 0;
    char text[2 * RESP_ERROR_MAX + 3];

    (void)state;
    memset(text, 'e', sizeof(text));
    text[0] = '-';
    memcpy(text + sizeof(text) - 2, "\r\n", 2);
    resp_reply_init(&r);
    assert_int_equal(resp_reply_feed(&r, text, sizeof(text), &used), RESP_END);
    assert_int_equal(r.error_len, RESP_ERROR_MAX);
    assert_int_equal(strlen(r.error), RESP_ERROR_MAX);
}

/* A status reply longer than any line limit is legal (a script can make one). */
static void test_reply_long_line(void **state)
{
    struct resp_reply r;
    size_t used = 0, len = 200 * 1024;
    char *text = malloc(len);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', len);
    text[0] = '+';
    memcpy(text + len - 2, "\r\n", 2);
    resp_reply_init(&r);
    assert_int_equal(resp_reply_feed(&r, text, len, &used), RESP_END);
    assert_int_equal(used, len);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_every_split),
        cmocka_unit_test(test_request_pipeline),
        cmocka_unit_test(test_request_word_lengths),
        cmocka_unit_test(test_request_streams_huge_bulk),
        cmocka_unit_test(test_request_bad),
        cmocka_unit_test(test_request_line_limits),
        cmocka_unit_test(test_request_split),
        cmocka_unit_test(test_reply_every_split),
        cmocka_unit_test(test_reply_pipeline),
        cmocka_unit_test(test_reply_bad),
        cmocka_unit_test(test_reply_depth_limit),
        cmocka_unit_test(test_replies_nested_as_deeply_as_scripts_can),
        cmocka_unit_test(test_reply_keeps_the_error_within_bounds),
        cmocka_unit_test(test_reply_long_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
