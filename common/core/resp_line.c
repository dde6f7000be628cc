#include "common/core/resp_line.h"

enum { LINE_DIGITS_MAX = 18 }; /* more would not fit an int64_t, and is over every limit anyway */

/* One byte that isn't a plain digit: a sign, the line's end, or what makes the number bad. */
static bool line_other_byte(struct resp_line *l, char c)
{
    if (l->cr) {
        l->bad |= c != '\n';
        return true;
    }
    if (c == '\r')
        l->cr = true;
    else if (c == '-' && l->len == 0)
        l->negative = true;
    else
        l->bad = true;
    l->len++;
    return false;
}

enum resp_line_result resp_line_feed(struct resp_line *l, const char **data, const char *end)
{
    const char *p = *data;

    assert(p <= end && l->len <= RESP_INLINE_MAX);
    while (p < end) {
        unsigned digit = (unsigned)(unsigned char)*p - '0';
        if (digit <= 9 && !l->cr) {
            uint32_t digits = l->len - (l->negative ? 1 : 0);
            bool zero_led = (digits > 0 && l->value == 0) || (digit == 0 && l->negative && digits == 0);
            l->bad |= digits >= LINE_DIGITS_MAX || zero_led;
            if (!l->bad)
                l->value = l->value * 10 + (int64_t)digit;
            l->len++;
            p++;
        } else if (line_other_byte(l, *p++)) {
            l->bad |= l->len == (l->negative ? 2U : 1U); /* nothing but the CR */
            *data = p;
            return RESP_LINE_END;
        }
        if (l->len > RESP_INLINE_MAX) {
            *data = p;
            return RESP_LINE_TOO_LONG;
        }
    }
    *data = p;
    return RESP_LINE_MORE;
}
