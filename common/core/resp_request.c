/*   FIRST ─'*'─► COUNT ─► DOLLAR ─► LENGTH ─► BODY ─► CR ─► LF ─┬─► the last argument: END
 *     └──else─► INLINE     ▲                                    │
 *                 LF: END  └─────────── n arguments ◄───────────┘
 *
 * A body is skipped by its length; only header digits, the first two arguments and inline commands are
 * looked at byte by byte. */
#include "common/core/resp_inline.h"
#include "common/core/resp_line.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static unsigned char upper(unsigned char c)
{
    return (unsigned char)(c - ((unsigned)(c - 'a') < 26U ? 32 : 0));
}

enum request_state {
    REQ_FIRST,
    REQ_COUNT,
    REQ_DOLLAR,
    REQ_LENGTH,
    REQ_BODY,
    REQ_CR,
    REQ_LF,
    REQ_INLINE,
    REQ_BAD
};

void resp_request_init(struct resp_request *r)
{
    assert(r);
    memset(r, 0, sizeof(*r));
}

static enum resp_result request_fail(struct resp_request *r, const char *why)
{
    assert(strlen(why) <= RESP_PROBLEM_MAX);
    snprintf(r->problem, sizeof(r->problem), "%s", why);
    r->state = REQ_BAD;
    return RESP_BAD;
}

static void request_begin(struct resp_request *r)
{
    r->n_args = r->arg = 0;
    r->is_inline = false;
    r->word_len[0] = r->word_len[1] = 0;
    r->word[0][0] = r->word[1][0] = '\0';
    r->bytes = 0;
    r->pending = 0;
}

/* Keeps the beginning of the first two arguments. */
static void request_keep_word(struct resp_request *r, const char *data, size_t len)
{
    assert(r->arg < 2);
    char *word = r->word[r->arg];
    uint32_t at = r->word_len[r->arg];
    size_t room = at < RESP_WORD_MAX ? RESP_WORD_MAX - at : 0;
    size_t n = len < room ? len : room;

    for (size_t i = 0; i < n; i++)
        word[at + i] = (char)upper((unsigned char)data[i]);
    if (room > 0)
        word[at + n] = '\0';
    r->word_len[r->arg] = at + (uint32_t)len;
}

static enum resp_result request_count_line(struct resp_request *r)
{
    if (r->line.bad || resp_line_value(&r->line) > RESP_ARGS_MAX)
        return request_fail(r, "Protocol error: invalid multibulk length");
    int64_t n = resp_line_value(&r->line);
    r->n_args = n > 0 ? (uint32_t)n : 0;
    r->state = n > 0 ? REQ_DOLLAR : REQ_FIRST;
    return n > 0 ? RESP_MORE : RESP_END;
}

static enum resp_result request_length_line(struct resp_request *r)
{
    if (r->line.bad || r->line.negative || resp_line_value(&r->line) > RESP_BULK_MAX)
        return request_fail(r, "Protocol error: invalid bulk length");
    r->pending = resp_line_value(&r->line);
    r->state = r->pending > 0 ? REQ_BODY : REQ_CR;
    return RESP_MORE;
}

/* '*' or '$' was read; the number follows. */
static enum resp_result request_line(struct resp_request *r, const char **p, const char *end)
{
    bool is_count = r->state == REQ_COUNT;

    switch (resp_line_feed(&r->line, p, end)) {
    case RESP_LINE_MORE:
        return RESP_MORE;
    case RESP_LINE_TOO_LONG:
        return request_fail(r, is_count ? "Protocol error: too big mbulk count string"
                                        : "Protocol error: too big bulk count string");
    case RESP_LINE_END:
        break;
    }
    return is_count ? request_count_line(r) : request_length_line(r);
}

static enum resp_result request_dollar(struct resp_request *r, char c)
{
    if (c != '$') {
        /* Redis prints the byte as it is; a NUL or a newline would break the error reply in two. */
        char why[RESP_PROBLEM_MAX + 1];
        snprintf(why, sizeof(why), "Protocol error: expected '$', got '%c'", c >= ' ' && c <= '~' ? c : '?');
        return request_fail(r, why);
    }
    resp_line_begin(&r->line);
    r->state = REQ_LENGTH;
    return RESP_MORE;
}

static void request_body(struct resp_request *r, const char **p, const char *end)
{
    size_t here = (size_t)(end - *p);
    size_t n = (int64_t)here < r->pending ? here : (size_t)r->pending;

    assert(r->pending > 0);
    if (r->arg < 2)
        request_keep_word(r, *p, n);
    *p += n;
    r->pending -= (int64_t)n;
    if (r->pending == 0)
        r->state = REQ_CR;
}

/* The CR and LF after a body. Redis skips two bytes whatever they are; we insist, because what we pass on
 * must be legal for every server. */
static enum resp_result request_body_end(struct resp_request *r, char c)
{
    if (c != (r->state == REQ_CR ? '\r' : '\n'))
        return request_fail(r, "Protocol error: expected CRLF after bulk");
    if (r->state == REQ_CR) {
        r->state = REQ_LF;
        return RESP_MORE;
    }
    r->arg++;
    assert(r->arg <= r->n_args);
    r->state = r->arg == r->n_args ? REQ_FIRST : REQ_DOLLAR;
    return r->arg == r->n_args ? RESP_END : RESP_MORE;
}

/* The short cut that nearly every request takes: whole arguments, "$<at most four digits>\r\n<body>\r\n", are
 * taken in one stride. Returns where it stopped: at the end of the request, or at the first argument that is
 * incomplete, long or odd in any way, which the states then deal with. */
static const char *request_whole_args(struct resp_request *r, const char *p, const char *end)
{
    assert(r->state == REQ_DOLLAR && r->arg < r->n_args);
    while (r->arg < r->n_args && end - p >= 7 && p[0] == '$' && p[1] != '0') {
        const char *digit = p + 1;
        unsigned len = 0, d = 0;
        for (; digit < p + 5 && (d = (unsigned)(unsigned char)*digit - '0') <= 9; digit++)
            len = len * 10 + d;
        const char *body = digit + 2;
        if (len == 0 || digit[0] != '\r' || digit[1] != '\n' || end - body < (ptrdiff_t)len + 2 ||
            body[len] != '\r' || body[len + 1] != '\n')
            break;
        if (r->arg < 2)
            request_keep_word(r, body, len);
        r->arg++;
        p = body + len + 2;
    }
    return p;
}

/* At a '$', or where one should be. */
static enum resp_result request_args(struct resp_request *r, const char **p, const char *end)
{
    *p = request_whole_args(r, *p, end);
    if (r->arg == r->n_args) {
        r->state = REQ_FIRST;
        return RESP_END;
    }
    return *p < end ? request_dollar(r, *(*p)++) : RESP_MORE;
}

static enum resp_result request_inline_byte(struct resp_request *r, unsigned char c)
{
    struct resp_inline_step step;

    if (c == '\n') {
        if (!resp_inline_is_closed(r->inline_state))
            return request_fail(r, "Protocol error: unbalanced quotes in request");
        r->state = REQ_FIRST;
        return RESP_END;
    }
    if (c == '\0') /* Redis would wait for ever for the rest of this line */
        return request_fail(r, "Protocol error: NUL byte in inline request");
    if (++r->line.len > RESP_INLINE_MAX)
        return request_fail(r, "Protocol error: too big inline request");
    r->inline_state = (uint8_t)resp_inline_next(r->inline_state, &r->saved, c, &step);
    if (step.bad)
        return request_fail(r, "Protocol error: unbalanced quotes in request");
    if (step.begins)
        r->arg = r->n_args++;
    if (step.n > 0 && r->arg < 2)
        request_keep_word(r, step.out, step.n);
    return RESP_MORE;
}

static enum resp_result request_first(struct resp_request *r, const char **p, const char *end)
{
    const char *at = *p;

    request_begin(r);
    if (end - at >= 4 && at[0] == '*' && at[1] >= '1' && at[1] <= '9' && at[2] == '\r' && at[3] == '\n') {
        r->n_args = (uint32_t)(at[1] - '0');
        r->state = REQ_DOLLAR;
        *p += 4;
        return RESP_MORE;
    }
    resp_line_begin(&r->line);
    r->is_inline = **p != '*';
    r->state = r->is_inline ? REQ_INLINE : REQ_COUNT;
    r->inline_state = RESP_IN_GAP;
    if (!r->is_inline)
        ++*p;
    return RESP_MORE;
}

/* Does what the state wants with the bytes at *p; at least one byte is there. */
static enum resp_result request_step(struct resp_request *r, const char **p, const char *end)
{
    switch ((enum request_state)r->state) {
    case REQ_FIRST:
        return request_first(r, p, end);
    case REQ_COUNT:
    case REQ_LENGTH:
        return request_line(r, p, end);
    case REQ_DOLLAR:
        return request_args(r, p, end);
    case REQ_BODY:
        request_body(r, p, end);
        return RESP_MORE;
    case REQ_CR:
    case REQ_LF:
        return request_body_end(r, *(*p)++);
    case REQ_INLINE:
        return request_inline_byte(r, (unsigned char)*(*p)++);
    case REQ_BAD:
        return RESP_BAD;
    }
    assert(!"request state");
    return RESP_BAD;
}

enum resp_result resp_request_feed(struct resp_request *r, const char *data, size_t len, size_t *used)
{
    const char *p = data, *end = data + len;
    enum resp_result result = r->state == REQ_BAD ? RESP_BAD : RESP_MORE;

    assert(r && used);
    while (result == RESP_MORE && p < end)
        result = request_step(r, &p, end);
    *used = (size_t)(p - data);
    r->bytes += *used;
    assert(*used <= len);
    return result;
}

void resp_request_skip(struct resp_request *r, uint64_t n)
{
    assert(r->state == REQ_BODY && n < (uint64_t)r->pending);
    r->pending -= (int64_t)n;
    r->bytes += n;
}

/* Reads "<type><number>\r\n" at *p. */
static bool split_number(const char **p, const char *end, char type, int64_t *out)
{
    struct resp_line line;

    if (*p >= end || **p != type)
        return false;
    ++*p;
    resp_line_begin(&line);
    if (resp_line_feed(&line, p, end) != RESP_LINE_END || line.bad)
        return false;
    *out = resp_line_value(&line);
    return true;
}

static int split_multibulk(const char *p, const char *end, struct resp_arg *args, int max)
{
    int64_t n = 0;

    if (!split_number(&p, end, '*', &n) || n > RESP_ARGS_MAX)
        return ERR_INVALID;
    for (int64_t i = 0; i < n && i < max; i++) {
        int64_t len = 0;
        if (!split_number(&p, end, '$', &len) || len < 0 || len > end - p - 2)
            return ERR_INVALID;
        args[i] = (struct resp_arg){.data = p, .len = (size_t)len};
        p += len + 2;
    }
    return n > 0 ? (int)n : 0;
}

static int split_inline(const char *p, const char *end, char *scratch, struct resp_arg *args, int max)
{
    enum resp_inline_state state = RESP_IN_GAP;
    uint8_t saved = 0;
    int n = 0;

    for (; p < end && *p != '\n'; p++) {
        struct resp_inline_step step;
        state = resp_inline_next(state, &saved, (unsigned char)*p, &step);
        if (step.bad || *p == '\0')
            return ERR_INVALID;
        if (step.begins && n++ < max)
            args[n - 1] = (struct resp_arg){.data = scratch, .len = 0};
        if (step.n > 0 && n <= max) {
            memcpy(scratch, step.out, step.n);
            scratch += step.n; /* never more bytes than were read */
            args[n - 1].len += step.n;
        }
    }
    return p < end && resp_inline_is_closed(state) ? n : ERR_INVALID;
}

int resp_request_split(const char *data, size_t len, char *scratch, struct resp_arg *args, int max)
{
    assert(data && max >= 0);
    if (len == 0)
        return ERR_INVALID;
    return data[0] == '*' ? split_multibulk(data, data + len, args, max)
                          : split_inline(data, data + len, scratch, args, max);
}
