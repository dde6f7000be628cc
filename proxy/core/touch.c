#include "proxy/core/touch.h"

#include "common/core/resp.h"
#include "proxy/core/command.h"

#include <string.h>

/* The next argument at *p of a request that isn't inline, which moves on; false: it isn't all here. */
static bool touch_next(const char **p, const char *end, struct resp_arg *arg)
{
    const char *at = *p;
    size_t len = 0;

    if (at >= end || *at != '$')
        return false;
    for (at++; at < end && *at >= '0' && *at <= '9' && len < RESP_BULK_MAX; at++)
        len = len * 10 + (size_t)(*at - '0');
    if (end - at < 2 || at[0] != '\r' || (size_t)(end - at - 2) < len)
        return false;
    *arg = (struct resp_arg){at + 2, len};
    at += 2 + len;
    *p = end - at < 2 ? end : at + 2;
    return true;
}

/* Where the first argument is, and how many there are; false: an inline request. */
static bool touch_begin(const char **p, const char *end, int64_t *n)
{
    const char *at = *p;

    *n = 0;
    if (at >= end || *at != '*')
        return false;
    for (at++; at < end && *at >= '0' && *at <= '9' && *n <= RESP_ARGS_MAX; at++)
        *n = *n * 10 + (*at - '0');
    if (end - at < 2)
        return false;
    *p = at + 2;
    return true;
}

/* The argument with that number (the command's name is 0). */
static bool touch_arg(const char *bytes, size_t len, int number, struct resp_arg *arg)
{
    const char *p = bytes, *end = bytes + len;
    int64_t n;

    if (!touch_begin(&p, end, &n) || number >= n)
        return false;
    for (int i = 0; i <= number; i++)
        if (!touch_next(&p, end, arg))
            return false;
    return true;
}

static const struct command *touch_command(const struct resp_request *r)
{
    return command_lookup(r->word[0], r->word_len[0], r->word[1], r->word_len[1], r->n_args);
}

static enum durable_touch touch_kind(const struct command *c)
{
    if (!c || (c->flags & (COMMAND_WRITE | COMMAND_MAY_WRITE)))
        return DURABLE_WRITES;
    return c->flags & COMMAND_READONLY ? DURABLE_READS : DURABLE_NOTHING;
}

enum durable_touch touch_of(const struct resp_request *r, const char *bytes, size_t len, uint16_t *slot)
{
    const struct command *c = touch_command(r);
    enum durable_touch touch = touch_kind(c);
    struct resp_arg key;

    *slot = DURABLE_ANY;
    if (touch == DURABLE_NOTHING || !c || c->first_key <= 0)
        return touch;
    int64_t last = c->last_key < 0 ? (int64_t)r->n_args + c->last_key : c->last_key;
    bool one = c->first_key + c->key_step > last;
    if (one && touch_arg(bytes, len, c->first_key, &key))
        *slot = durable_slot(key.data, key.len);
    else if (!one && touch == DURABLE_READS && !r->is_inline)
        *slot = TOUCH_KEYS;
    return touch;
}

/* Of the keys among a read's arguments; false: they couldn't be found. */
static bool touch_needs_of_keys(const struct durable *d, const char *bytes, size_t len, uint64_t *needs)
{
    struct resp_request framer;
    const char *p = bytes, *end = bytes + len;
    size_t used = 0;
    int64_t n;

    resp_request_init(&framer);
    if (resp_request_feed(&framer, bytes, len, &used) != RESP_END || !touch_begin(&p, end, &n))
        return false;
    const struct command *c = touch_command(&framer);
    if (!c || c->first_key <= 0 || c->key_step <= 0)
        return false;
    int64_t last = c->last_key < 0 ? n + c->last_key : c->last_key;
    int64_t next = (int64_t)c->first_key;
    for (int64_t i = 0; i <= last; i++) {
        struct resp_arg arg;
        if (!touch_next(&p, end, &arg))
            return false;
        if (i != next)
            continue;
        uint64_t one = durable_read_needs(d, durable_slot(arg.data, arg.len));
        *needs = one > *needs ? one : *needs;
        next += c->key_step;
    }
    return true;
}

uint64_t touch_read_needs(const struct durable *d, uint16_t slot, const char *bytes, size_t len)
{
    uint64_t needs = 0;

    if (slot != TOUCH_KEYS)
        return durable_read_needs(d, slot);
    if (bytes && durable_read_needs(d, DURABLE_ANY) > 0 && touch_needs_of_keys(d, bytes, len, &needs))
        return needs;
    return durable_read_needs(d, DURABLE_ANY);
}

enum durable_touch touch_answered(enum durable_touch touch, uint16_t slot, bool failed)
{
    return touch == DURABLE_WRITES && failed && slot != DURABLE_ANY ? DURABLE_READS : touch;
}
