/* A line of text for a terminal, built piece by piece and wrapped at 80 columns.
 *
 * What comes from elsewhere can't move the cursor or ring bells: control characters become '?'. */
#ifndef MR_MRCTL_LINE_H
#define MR_MRCTL_LINE_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stdio.h>

enum { LINE_COLUMNS = 80, LINE_TEXT_MAX = 1024 };

struct line {
    FILE *out;
    const char *indent; /* of continuation lines; borrowed */
    int column;
    int padding;     /* blanks at the end of the last piece: printed only before another one */
    bool has_pieces; /* on this screen line */
};

/* Begins with `head` (printed as it is). */
void line_begin(struct line *l, FILE *out, const char *head, const char *indent);
/* Adds a piece, two blanks after the one before it, on the next line when it would not fit. An empty piece is
 * skipped. */
void line_add(struct line *l, const char *fmt, ...) MR_PRINTF(2, 3);
/* Adds a sentence: a piece, but one that is longer than a line is wrapped between its words. */
void line_add_words(struct line *l, const char *fmt, ...) MR_PRINTF(2, 3);
void line_end(struct line *l);

/* Columns that UTF-8 text takes (one a character). */
int line_columns(const char *text);

#endif
