#include "tests/lib/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka.h needs the four headers above it. */
#include <cmocka.h>

enum { GOLDEN_MAX = 1 << 20 };

static void golden_path(const char *name, char *path, size_t size)
{
    int len = snprintf(path, size, "tests/golden/%s", name);
    assert_true(len > 0 && (size_t)len < size);
}

char *golden_read(const char *name, size_t *len)
{
    char path[256];
    golden_path(name, path, sizeof path);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s is missing: run from the repository's root, or make it with MR_GOLDEN_UPDATE=1", path);
    char *text = malloc(GOLDEN_MAX);
    assert_non_null(text);
    *len = fread(text, 1, GOLDEN_MAX - 1, file);
    text[*len] = '\0';
    assert_int_equal(fclose(file), 0);
    return text;
}

void golden_compare(const char *name, const char *text, size_t len)
{
    if (getenv("MR_GOLDEN_UPDATE") != NULL) {
        char path[256];
        golden_path(name, path, sizeof path);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(text, 1, len, file), len);
        assert_int_equal(fclose(file), 0);
        return;
    }
    size_t wanted_len;
    char *wanted = golden_read(name, &wanted_len);
    if (wanted_len != len || memcmp(wanted, text, len) != 0)
        fail_msg("tests/golden/%s differs\n  is:     %.*s\n  wanted: %s", name, (int)len, text, wanted);
    free(wanted);
}
