/* Log lines: their form, their level, and that a value can't forge one. */
#include "common/log.h"

#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char captured[8192];
static int kept_stderr = -1;
static FILE *sink;

static void capture_begin(void)
{
    (void)fflush(stderr);
    kept_stderr = dup(STDERR_FILENO);
    sink = tmpfile();
    assert_non_null(sink);
    assert_true(dup2(fileno(sink), STDERR_FILENO) >= 0);
}

static const char *capture_end(void)
{
    ssize_t n;

    assert_true(dup2(kept_stderr, STDERR_FILENO) >= 0);
    (void)close(kept_stderr);
    n = pread(fileno(sink), captured, sizeof(captured) - 1, 0);
    assert_true(n >= 0);
    captured[n] = '\0';
    (void)fclose(sink);
    return captured;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t re;
    bool found;

    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    found = regexec(&re, text, 0, NULL, 0) == 0;
    regfree(&re);
    return found;
}

static void test_form(void **state)
{
    (void)state;
    log_init("controller", "ctl-1", LOG_LEVEL_INFO);
    capture_begin();
    log_warn("event=link.down instance=%s port=%d", "cart", 6100);
    assert_true(matches(capture_end(),
                        "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z warn "
                        "controller\\[ctl-1\\] event=link.down instance=cart port=6100\n$"));
}

static void test_level(void **state)
{
    enum log_level level;

    (void)state;
    log_init("proxy", NULL, LOG_LEVEL_WARN);
    assert_true(log_enabled(LOG_LEVEL_ERROR));
    assert_false(log_enabled(LOG_LEVEL_INFO));
    capture_begin();
    log_info("event=hidden");
    log_debug("event=hidden");
    log_error("event=shown");
    assert_true(matches(capture_end(), "^[^\n]* error proxy event=shown\n$"));

    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_int_equal(log_level_parse("verbose", &level), ERR_INVALID);
}

static void test_a_value_cannot_forge_a_line(void **state)
{
    (void)state;
    log_init("proxy", "h1", LOG_LEVEL_INFO);
    capture_begin();
    log_info("event=client.name name=\"%s\"", "a\nerror proxy[h1] event=fake\r\x1b[31m");
    assert_true(matches(capture_end(), "^[^\n]*name=\"a[?]error proxy\\[h1\\] event=fake[?][?]\\[31m\"\n$"));
}

static void test_a_long_line_is_cut_and_says_so(void **state)
{
    char text[4000];
    const char *line;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    capture_begin();
    log_info("event=long value=%s", text);
    line = capture_end();
    assert_true(strlen(line) < 2100);
    assert_true(matches(line, "^[^\n]*xxx[.][.][.]\n$"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_level),
        cmocka_unit_test(test_a_value_cannot_forge_a_line),
        cmocka_unit_test(test_a_long_line_is_cut_and_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
