/* Tables, for the files that render lists (render_*.c); nobody else includes this. */
#ifndef MR_MRCTL_RENDER_TABLE_H
#define MR_MRCTL_RENDER_TABLE_H

#include <jansson.h>
#include <stdio.h>

enum { CELL_MAX = 80, COLUMNS_MAX = 9 };

/* One row's cells from one element. */
typedef void (*render_row_fn)(const json_t *item, char cells[COLUMNS_MAX][CELL_MAX]);

/* A line of titles (the last one is NULL), then one for each element of the array `items`. */
void render_table(FILE *out, const json_t *items, const char *const *titles, render_row_fn row);
/* A number that is not negative, or "-"; a text, or "-". */
void render_number(const json_t *item, const char *key, char cell[CELL_MAX]);
void render_word(const json_t *item, const char *key, char cell[CELL_MAX]);

#endif
