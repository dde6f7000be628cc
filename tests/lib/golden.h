/* Golden files: the text that a value must give, byte for byte, kept in tests/golden/. For cmocka tests.
 *
 * Run from the repository's root. MR_GOLDEN_UPDATE=1 rewrites the files instead of comparing. */
#ifndef MR_TESTS_LIB_GOLDEN_H
#define MR_TESTS_LIB_GOLDEN_H

#include <stddef.h>

/* Fails the running test unless tests/golden/<name> holds exactly text; a missing file fails too. */
void golden_compare(const char *name, const char *text, size_t len);
/* The file's content, NUL-terminated, to be freed; fails the running test when it can't be read. */
char *golden_read(const char *name, size_t *len);

#endif
