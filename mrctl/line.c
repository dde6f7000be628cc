#include "mrctl/line.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

static bool line_is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

int line_columns(const char *text)
{
    int columns = 0;
    for (; *text != '\0'; text++)
        columns += !line_is_continuation(*text);
    return columns;
}

/* C0, DEL and (in UTF-8: C2 80 … C2 9F) C1 control characters. */
static void line_disarm(char *text)
{
    for (char *c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c, following = (unsigned char)c[1];
        if (byte < 0x20 || byte == 0x7f)
            *c = '?';
        else if (byte == 0xc2 && following >= 0x80 && following < 0xa0)
            c[0] = c[1] = '?';
    }
}

void line_begin(struct line *l, FILE *out, const char *head, const char *indent)
{
    assert(out != NULL && head != NULL && indent != NULL);
    *l = (struct line){.out = out, .indent = indent, .column = line_columns(head)};
    (void)fputs(head, out);
}

/* gap: blanks between the piece and the one before it. text is disarmed and cut at its last blank here. */
static void line_put(struct line *l, char *text, int gap)
{
    line_disarm(text);
    size_t len = strlen(text);
    int padding = 0;
    for (; len > 0 && text[len - 1] == ' '; padding++)
        text[--len] = '\0';
    int columns = line_columns(text);
    if (columns == 0)
        return;
    gap = l->has_pieces ? gap + l->padding : 0;
    if (l->has_pieces && l->column + gap + columns > LINE_COLUMNS) {
        (void)fprintf(l->out, "\n%s", l->indent);
        l->column = line_columns(l->indent);
        gap = 0;
    }
    (void)fprintf(l->out, "%*s%s", gap, "", text);
    l->column += gap + columns;
    l->padding = padding;
    l->has_pieces = true;
}

void line_add(struct line *l, const char *fmt, ...)
{
    char text[LINE_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    line_put(l, text, 2);
}

void line_add_words(struct line *l, const char *fmt, ...)
{
    char text[LINE_TEXT_MAX], *rest = text, *word;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (line_columns(l->indent) + line_columns(text) <= LINE_COLUMNS) {
        line_put(l, text, 2); /* stays together */
        return;
    }
    for (int gap = 2; (word = strsep(&rest, " ")) != NULL; gap = 1)
        line_put(l, word, gap);
}

void line_end(struct line *l)
{
    (void)fputc('\n', l->out);
}
