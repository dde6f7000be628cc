/* The number in a RESP header line ("*3\r\n", "$11\r\n"), read in any split. Pure; private to the framer. */
#ifndef MR_COMMON_CORE_RESP_LINE_H
#define MR_COMMON_CORE_RESP_LINE_H

#include "common/core/resp.h"

#include <assert.h>
#include <string.h>

enum resp_line_result { RESP_LINE_MORE, RESP_LINE_END, RESP_LINE_TOO_LONG };

static inline void resp_line_begin(struct resp_line *l)
{
    memset(l, 0, sizeof(*l));
}

/* Reads at *data (moved on) up to CR LF, as strictly as Redis' string2ll(): no blanks, no plus, no leading
 * zero. A bad number is reported by l->bad at the line's end, which is when Redis notices it. */
enum resp_line_result resp_line_feed(struct resp_line *l, const char **data, const char *end);

/* The number of a complete line that isn't bad. */
static inline int64_t resp_line_value(const struct resp_line *l)
{
    assert(!l->bad && l->value >= 0);
    return l->negative ? -l->value : l->value;
}

#endif
