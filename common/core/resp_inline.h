/* Tokenizer of inline commands (SET "a b" 'c'), one byte at a time. Pure; private to the framer.
 *
 * The quoting rules are those of Redis' sdssplitargs(). */
#ifndef MR_COMMON_CORE_RESP_INLINE_H
#define MR_COMMON_CORE_RESP_INLINE_H

#include <stdbool.h>
#include <stdint.h>

/* Where the tokenizer of inline commands is; the rules are those of Redis' sdssplitargs(). */
enum resp_inline_state {
    RESP_IN_GAP,        /* between arguments */
    RESP_IN_PLAIN,      /* in an argument, outside of quotes */
    RESP_IN_DOUBLE,     /* in "…" */
    RESP_IN_ESCAPE,     /* after a backslash in "…" */
    RESP_IN_HEX_1,      /* after \x */
    RESP_IN_HEX_2,      /* after \xH */
    RESP_IN_SINGLE,     /* in '…' */
    RESP_IN_SINGLE_ESC, /* after a backslash in '…': only \' is an escape there */
    RESP_IN_CLOSED,     /* after a closing quote: a blank must follow */
};

/* What one byte does: an argument begins, up to three bytes are added to it, the line is malformed. */
struct resp_inline_step {
    bool begins, bad;
    unsigned n;
    char out[3];
};

/* One byte of an inline command, its newline excluded. Returns the state after it; *saved carries a hex digit
 * from one byte to the next. The first byte meets RESP_IN_GAP. */
enum resp_inline_state resp_inline_next(enum resp_inline_state state, uint8_t *saved, unsigned char c,
                                        struct resp_inline_step *s);

/* May the line end here? Not inside of quotes. */
static inline bool resp_inline_is_closed(enum resp_inline_state state)
{
    return state == RESP_IN_GAP || state == RESP_IN_PLAIN || state == RESP_IN_CLOSED;
}

#endif
