/*   TYPE ─ + - : _ , # ( ─► TEXT ─────────────────────┐
 *    ▲  ├─ $ ! = ─► SIZE ─► BODY ─► CR ─► LF ─────────┤ an element is done: so may be the aggregates that it
 *    │  └─ * % ~ > | ─► SIZE ─► one depth deeper ─┐   │ closes; END when none is open any more
 *    └────────────────────────────────────────────┴───┘
 *
 * Bodies are skipped by their length, text lines by memchr. */
#include "common/core/resp_line.h"

#include <assert.h>
#include <string.h>

enum reply_state { REP_TYPE, REP_SIZE, REP_TEXT, REP_TEXT_LF, REP_BODY, REP_BODY_CR, REP_BODY_LF, REP_BAD };

/* Elements of one aggregate: a bound of our own, so that a map's doubled count can't overflow. */
#define REPLY_COUNT_MAX ((int64_t)1 << 40)

void resp_reply_init(struct resp_reply *r)
{
    assert(r);
    memset(r, 0, sizeof(*r));
}

static enum resp_result reply_fail(struct resp_reply *r, const char *why)
{
    r->problem = why;
    r->state = REP_BAD;
    return RESP_BAD;
}

static void reply_begin(struct resp_reply *r)
{
    r->type = '\0';
    r->is_null = false;
    r->count = 0;
    r->bytes = r->errors = 0;
    r->error_len = r->word_len = 0;
    r->error[0] = r->word[0] = '\0';
    r->word_due = false;
    r->depth = 0;
    r->attributes = 0;
    r->element = '\0';
}

static bool reply_is_top(const struct resp_reply *r)
{
    return r->depth == 0;
}

/* The innermost aggregate has one element less to come: true when it has none. */
static bool reply_count_down(struct resp_reply *r)
{
    struct resp_run *run = &r->runs[r->depth - 1];

    assert(r->depth <= RESP_RUNS_MAX && run->left > 0 && run->times > 0);
    if (run->left == 1) {
        run->times--;
        return true;
    }
    if (run->times == 1) {
        run->left--;
        return false;
    }
    run->times--; /* the others of its run have as many as before */
    assert(r->depth < RESP_RUNS_MAX);
    r->runs[r->depth++] = (struct resp_run){run->left - 1, 1};
    return false;
}

/* An element is complete; so may be the aggregates it closes. */
static enum resp_result reply_element_done(struct resp_reply *r)
{
    r->state = REP_TYPE;
    for (;;) {
        if (reply_is_top(r))
            return RESP_END;
        if (!reply_count_down(r))
            return RESP_MORE;
        if (r->runs[r->depth - 1].times > 0)
            continue;
        r->depth--;
        uint32_t bit = (uint32_t)1 << r->depth;
        if (r->attributes & bit) { /* what it belongs to is still to come */
            r->attributes &= ~bit;
            return RESP_MORE;
        }
    }
}

static enum resp_result reply_type(struct resp_reply *r, char c)
{
    if (c == '\0' || !strchr("+-:$*_,#!=(%~>|", c))
        return reply_fail(r, "unexpected byte where a reply should begin");
    r->element = c;
    if (reply_is_top(r) && c != '|')
        r->type = c;
    if ((c == '-' || c == '!') && r->type == '*' && r->depth == 1 && r->runs[0].times == 1) {
        int64_t i = r->count - r->runs[0].left;
        r->errors |= (uint64_t)1 << (i < 63 ? i : 63);
    }
    bool is_text = strchr("+-:_,#(", c) != NULL;
    /* The word is the first element of the top-level aggregate, when that is a string. */
    if (r->depth == 1 && r->word_due && r->attributes == 0 && c != '|' && c != '+' && c != '$')
        r->word_due = false;
    resp_line_begin(&r->line);
    r->state = is_text ? REP_TEXT : REP_SIZE;
    return RESP_MORE;
}

/* Keeps the beginning of what the caller may want to read: an error's text, a pub/sub message's kind. */
static void reply_keep(struct resp_reply *r, const char *data, size_t len)
{
    char *to = r->error;
    uint32_t *kept = &r->error_len;
    uint32_t max = RESP_ERROR_MAX;

    if (r->depth == 1 && r->word_due && r->attributes == 0) {
        to = r->word;
        kept = &r->word_len;
        max = RESP_WORD_MAX;
    } else if (!reply_is_top(r) || (r->element != '-' && r->element != '!')) {
        return;
    }
    size_t room = max - *kept, n = len < room ? len : room;
    memcpy(to + *kept, data, n);
    *kept += (uint32_t)n;
    to[*kept] = '\0';
}

static enum resp_result reply_string_done(struct resp_reply *r)
{
    if (r->depth == 1 && r->attributes == 0)
        r->word_due = false;
    return reply_element_done(r);
}

static enum resp_result reply_text(struct resp_reply *r, const char **p, const char *end)
{
    const char *cr = memchr(*p, '\r', (size_t)(end - *p));
    const char *stop = cr ? cr : end;

    reply_keep(r, *p, (size_t)(stop - *p));
    *p = cr ? cr + 1 : end;
    if (cr)
        r->state = REP_TEXT_LF;
    return RESP_MORE;
}

static enum resp_result reply_text_end(struct resp_reply *r, char c)
{
    if (c != '\n')
        return reply_fail(r, "a carriage return inside of a line");
    if (r->element == '_' && reply_is_top(r))
        r->is_null = true;
    return reply_string_done(r);
}

static enum resp_result reply_deeper(struct resp_reply *r, int64_t elements, bool is_attribute)
{
    struct resp_run *run = r->depth > 0 ? &r->runs[r->depth - 1] : NULL;

    /* One place is left for the innermost aggregate of a run, when its elements come. */
    if (r->depth >= RESP_RUNS_MAX - 1 || (run && run->times == UINT32_MAX))
        return reply_fail(r, "nested too deeply");
    if (run && run->left == elements && !is_attribute && !(r->attributes >> (r->depth - 1))) {
        run->times++;
        return RESP_MORE;
    }
    if (is_attribute)
        r->attributes |= (uint32_t)1 << r->depth;
    r->runs[r->depth++] = (struct resp_run){elements, 1};
    return RESP_MORE;
}

static enum resp_result reply_aggregate(struct resp_reply *r, int64_t n)
{
    if (n > REPLY_COUNT_MAX)
        return reply_fail(r, "more elements than can be");
    bool is_attribute = r->element == '|';
    bool top = reply_is_top(r) && !is_attribute;
    if (top) {
        r->count = n;
        r->word_due = n > 0;
    }
    if (n == 0 && !is_attribute)
        return reply_element_done(r);
    r->state = REP_TYPE;
    if (n == 0)
        return RESP_MORE;
    return reply_deeper(r, r->element == '%' || is_attribute ? 2 * n : n, is_attribute);
}

/* The number after $ ! = * % ~ > |. */
static enum resp_result reply_size(struct resp_reply *r, const char **p, const char *end)
{
    enum resp_line_result line = resp_line_feed(&r->line, p, end);

    if (line == RESP_LINE_MORE)
        return RESP_MORE;
    if (line == RESP_LINE_TOO_LONG || r->line.bad)
        return reply_fail(r, "a length that is no number");
    int64_t n = resp_line_value(&r->line);
    if (n == -1 && (r->element == '$' || r->element == '*')) {
        if (reply_is_top(r))
            r->is_null = true;
        return reply_string_done(r);
    }
    if (n < 0)
        return reply_fail(r, "a negative length");
    if (!strchr("$!=", r->element))
        return reply_aggregate(r, n);
    r->body = n;
    r->state = n > 0 ? REP_BODY : REP_BODY_CR;
    return RESP_MORE;
}

static void reply_body(struct resp_reply *r, const char **p, const char *end)
{
    size_t here = (size_t)(end - *p);
    size_t n = (int64_t)here < r->body ? here : (size_t)r->body;

    assert(r->body > 0);
    reply_keep(r, *p, n);
    *p += n;
    r->body -= (int64_t)n;
    if (r->body == 0)
        r->state = REP_BODY_CR;
}

static enum resp_result reply_body_end(struct resp_reply *r, char c)
{
    if (c != (r->state == REP_BODY_CR ? '\r' : '\n'))
        return reply_fail(r, "a bulk that is longer than its length");
    if (r->state == REP_BODY_LF)
        return reply_string_done(r);
    r->state = REP_BODY_LF;
    return RESP_MORE;
}

static enum resp_result reply_step(struct resp_reply *r, const char **p, const char *end)
{
    switch ((enum reply_state)r->state) {
    case REP_TYPE:
        return reply_type(r, *(*p)++);
    case REP_SIZE:
        return reply_size(r, p, end);
    case REP_TEXT:
        return reply_text(r, p, end);
    case REP_TEXT_LF:
        return reply_text_end(r, *(*p)++);
    case REP_BODY:
        reply_body(r, p, end);
        return RESP_MORE;
    case REP_BODY_CR:
    case REP_BODY_LF:
        return reply_body_end(r, *(*p)++);
    case REP_BAD:
        return RESP_BAD;
    }
    assert(!"reply state");
    return RESP_BAD;
}

enum resp_result resp_reply_feed(struct resp_reply *r, const char *data, size_t len, size_t *used)
{
    const char *p = data, *end = data + len;
    enum resp_result result = r->state == REP_BAD ? RESP_BAD : RESP_MORE;

    assert(r && used);
    if (!r->under_way && result == RESP_MORE && len > 0) {
        reply_begin(r);
        r->under_way = true;
    }
    while (result == RESP_MORE && p < end)
        result = reply_step(r, &p, end);
    if (result == RESP_END)
        r->under_way = false;
    *used = (size_t)(p - data);
    r->bytes += *used;
    assert(*used <= len);
    return result;
}

uint64_t resp_reply_unseen(const struct resp_reply *r)
{
    if (r->state != REP_BODY || r->word_due || r->element == '!')
        return 0;
    return (uint64_t)r->body;
}

void resp_reply_skip(struct resp_reply *r, uint64_t n)
{
    assert(n < resp_reply_unseen(r));
    r->body -= (int64_t)n;
    r->bytes += n;
}
