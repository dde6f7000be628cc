#include "common/core/resp_inline.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static void step_put(struct resp_inline_step *s, int c)
{
    assert(s->n < sizeof(s->out));
    s->out[s->n++] = (char)c;
}

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int escape_value(unsigned char c)
{
    static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
    const char *at = c ? strchr(from, c) : NULL;
    return at ? to[at - from] : c;
}

static enum resp_inline_state inline_plain(enum resp_inline_state state, unsigned char c,
                                           struct resp_inline_step *s)
{
    if (state == RESP_IN_GAP && is_space(c))
        return RESP_IN_GAP;
    if (c == ' ' || c == '\t' || c == '\r') /* narrower than isspace(): so does Redis */
        return RESP_IN_GAP;
    s->begins = state == RESP_IN_GAP;
    if (c == '"')
        return RESP_IN_DOUBLE;
    if (c == '\'')
        return RESP_IN_SINGLE;
    step_put(s, c);
    return RESP_IN_PLAIN;
}

static enum resp_inline_state inline_double(unsigned char c, struct resp_inline_step *s)
{
    if (c == '\\')
        return RESP_IN_ESCAPE;
    if (c == '"')
        return RESP_IN_CLOSED;
    step_put(s, c);
    return RESP_IN_DOUBLE;
}

static enum resp_inline_state inline_single(enum resp_inline_state state, unsigned char c,
                                            struct resp_inline_step *s)
{
    if (state == RESP_IN_SINGLE_ESC) {
        if (c == '\'') {
            step_put(s, c);
            return RESP_IN_SINGLE;
        }
        step_put(s, '\\'); /* it was an ordinary backslash */
    }
    if (c == '\\')
        return RESP_IN_SINGLE_ESC;
    if (c == '\'')
        return RESP_IN_CLOSED;
    step_put(s, c);
    return RESP_IN_SINGLE;
}

/* \xHH, seen one byte at a time; what turns out not to be one is the text it looks like, its backslash lost.
 */
static enum resp_inline_state inline_hex(enum resp_inline_state state, uint8_t *saved, unsigned char c,
                                         struct resp_inline_step *s)
{
    if (hex_digit(c) >= 0) {
        if (state == RESP_IN_HEX_1) {
            *saved = c;
            return RESP_IN_HEX_2;
        }
        step_put(s, hex_digit(*saved) * 16 + hex_digit(c));
        return RESP_IN_DOUBLE;
    }
    step_put(s, 'x');
    if (state == RESP_IN_HEX_2)
        step_put(s, *saved);
    return inline_double(c, s);
}

enum resp_inline_state resp_inline_next(enum resp_inline_state state, uint8_t *saved, unsigned char c,
                                        struct resp_inline_step *s)
{
    memset(s, 0, sizeof(*s));
    switch (state) {
    case RESP_IN_GAP:
    case RESP_IN_PLAIN:
        return inline_plain(state, c, s);
    case RESP_IN_DOUBLE:
        return inline_double(c, s);
    case RESP_IN_ESCAPE:
        if (c == 'x')
            return RESP_IN_HEX_1;
        step_put(s, escape_value(c));
        return RESP_IN_DOUBLE;
    case RESP_IN_HEX_1:
    case RESP_IN_HEX_2:
        return inline_hex(state, saved, c, s);
    case RESP_IN_SINGLE:
    case RESP_IN_SINGLE_ESC:
        return inline_single(state, c, s);
    case RESP_IN_CLOSED:
        s->bad = !is_space(c);
        return RESP_IN_GAP;
    }
    assert(!"inline state");
    return RESP_IN_GAP;
}
