/* Fuzz target of the RESP framer: one piece and random pieces must give identical results.
 *
 * Input: one byte that seeds the pieces' sizes, then the stream. A stream is framed message by message, as
 * requests and as replies; a request that ends must also split into the arguments it counted. */
#include "common/core/resp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(c)                                                                                             \
    do {                                                                                                     \
        if (!(c)) {                                                                                          \
            fprintf(stderr, "fuzz_resp: line %d: %s\n", __LINE__, #c);                                       \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

enum { ARGS = 8 };

/* The next piece's size: 1…8 bytes. */
static size_t next_piece(uint32_t *seed, size_t left)
{
    *seed = *seed * 1103515245U + 12345U;
    size_t n = ((*seed >> 16) & 7) + 1;
    return n < left ? n : left;
}

static void check_split(const struct resp_request *r, const char *data, size_t len)
{
    char *scratch = malloc(len);
    struct resp_arg args[ARGS];

    CHECK(scratch);
    int n = resp_request_split(data, len, scratch, args, ARGS);
    CHECK(n >= 0 && (uint32_t)n == r->n_args);
    for (int i = 0; i < n && i < 2; i++)
        CHECK(args[i].len == r->word_len[i]);
    free(scratch);
}

static void check_requests_equal(const struct resp_request *a, const struct resp_request *b)
{
    CHECK(a->n_args == b->n_args && a->is_inline == b->is_inline && a->bytes == b->bytes);
    CHECK(a->pending == b->pending && !strcmp(a->problem, b->problem));
    for (int i = 0; i < 2; i++)
        CHECK(a->word_len[i] == b->word_len[i] && !strcmp(a->word[i], b->word[i]));
}

static void fuzz_requests(const char *data, size_t size, uint32_t seed)
{
    struct resp_request whole, parts;
    enum resp_result result = RESP_END;

    resp_request_init(&whole);
    resp_request_init(&parts);
    while (result == RESP_END && size > 0) {
        size_t used = 0, sum = 0, n = 0;
        enum resp_result piecewise = RESP_MORE;
        result = resp_request_feed(&whole, data, size, &used);
        CHECK(used <= size && (result != RESP_MORE || used == size) && (result != RESP_END || used > 0));
        while (piecewise == RESP_MORE && sum < size) {
            size_t piece = next_piece(&seed, size - sum);
            piecewise = resp_request_feed(&parts, data + sum, piece, &n);
            sum += n;
        }
        CHECK(piecewise == result && sum == used);
        check_requests_equal(&whole, &parts);
        if (result == RESP_END)
            check_split(&whole, data, used);
        data += used;
        size -= used;
    }
}

static void check_replies_equal(const struct resp_reply *a, const struct resp_reply *b)
{
    CHECK(a->type == b->type && a->is_null == b->is_null && a->count == b->count && a->bytes == b->bytes);
    CHECK(a->error_len == b->error_len && !strcmp(a->error, b->error));
    CHECK(a->word_len == b->word_len && !strcmp(a->word, b->word));
    CHECK(a->problem == b->problem);
}

static void fuzz_replies(const char *data, size_t size, uint32_t seed)
{
    struct resp_reply whole, parts;
    enum resp_result result = RESP_END;

    resp_reply_init(&whole);
    resp_reply_init(&parts);
    while (result == RESP_END && size > 0) {
        size_t used = 0, sum = 0, n = 0;
        enum resp_result piecewise = RESP_MORE;
        result = resp_reply_feed(&whole, data, size, &used);
        CHECK(used <= size && (result != RESP_MORE || used == size) && (result != RESP_END || used > 0));
        while (piecewise == RESP_MORE && sum < size) {
            size_t piece = next_piece(&seed, size - sum);
            piecewise = resp_reply_feed(&parts, data + sum, piece, &n);
            sum += n;
        }
        CHECK(piecewise == result && sum == used);
        check_replies_equal(&whole, &parts);
        data += used;
        size -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    fuzz_requests((const char *)data + 1, size - 1, data[0]);
    fuzz_replies((const char *)data + 1, size - 1, data[0]);
    return 0;
}
