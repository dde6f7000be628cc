/* Options: precedence, forms, errors with their exit codes, endpoints, ranges, secrets. */
#include "common/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *zk;
static int port;
static bool json;
static bool watching;

static const struct option_row rows[] = {
    {"zk", 'z', OPTION_TEXT, &zk, "HOST:PORT[,…]", 0, 0, "where ZooKeeper is"},
    {"pub-port", 'p', OPTION_INT, &port, "PORT", 0, 65535, "port of the publisher"},
    {"json", 'j', OPTION_FLAG, &json, NULL, 0, 0, "print JSON"},
    {"watch", 'w', OPTION_FLAG, &watching, NULL, 0, 0, "redraw on change"},
    {NULL, 0, OPTION_FLAG, NULL, NULL, 0, 0, NULL},
};
static const struct options_spec spec = {"mr-test", "[OPTIONS] COMMAND", "Tests options.", rows,
                                         "exit codes: 0, 2"};

static int reset(void **state)
{
    (void)state;
    zk = "default:1";
    port = 7701;
    json = watching = false;
    assert_int_equal(unsetenv("MR_ZK") | unsetenv("MR_PUB_PORT") | unsetenv("MR_JSON"), 0);
    return 0;
}

/* Parses the NULL-terminated words (the first is the program) and permutes them; returns the number of
 * operands, which end up last. */
static int parse(char **words)
{
    int argc = 0;

    while (words[argc] != NULL)
        argc++;
    return argc - options_parse(&spec, argc, words);
}

#define PARSE(...) parse((char *[]){"mr-test", __VA_ARGS__, NULL})

static void test_defaults_stay(void **state)
{
    (void)state;
    assert_int_equal(PARSE("topology"), 1);
    assert_string_equal(zk, "default:1");
    assert_int_equal(port, 7701);
    assert_false(json);
}

static void test_command_line_over_environment_over_default(void **state)
{
    (void)state;
    assert_int_equal(
        setenv("MR_ZK", "env:2", 1) | setenv("MR_PUB_PORT", "9", 1) | setenv("MR_JSON", "yes", 1), 0);
    assert_int_equal(PARSE("--zk", "line:3"), 0);
    assert_string_equal(zk, "line:3");
    assert_int_equal(port, 9);
    assert_true(json);
    reset(NULL);
    assert_int_equal(setenv("MR_ZK", "", 1), 0); /* empty: unset */
    assert_int_equal(PARSE("x"), 1);
    assert_string_equal(zk, "default:1");
}

static void test_forms(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--zk=a=b", "-p0", "-wj"), 0);
    assert_string_equal(zk, "a=b");
    assert_int_equal(port, 0);
    assert_true(json && watching);
    assert_int_equal(PARSE("-jp", "65535", "-z", "-"), 0);
    assert_int_equal(port, 65535);
    assert_string_equal(zk, "-");
}

static void test_operands_end_up_last(void **state)
{
    char *words[] = {"mr-test", "set", "--json", "cart", "--zk", "h:1", "-", "--", "--json", "-5", NULL};
    char **operands = words + 5; /* after the program, --json, --zk, h:1 and -- */

    (void)state;
    assert_int_equal(parse(words), 5);
    assert_string_equal(operands[0], "set");
    assert_string_equal(operands[1], "cart");
    assert_string_equal(operands[2], "-");
    assert_string_equal(operands[3], "--json");
    assert_string_equal(operands[4], "-5");
    assert_null(operands[5]);
    assert_true(json);
    assert_string_equal(zk, "h:1");
}

/* Runs options_parse in a child; returns its exit code, out: what it said on stdout and stderr. */
static int run_in_child(char **words, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    (void)fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)dup2(fds[1], STDERR_FILENO);
        (void)parse(words);
        (void)fflush(stdout);
        _exit(99); /* it was accepted */
    }
    (void)close(fds[1]);
    while ((n = read(fds[0], out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    out[len] = '\0';
    (void)close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_usage_errors(void **state)
{
    static const struct {
        char *words[4];
        const char *says;
    } cases[] = {
        {{"mr-test", "--nonsense", NULL}, "mr-test: unknown option '--nonsense' (see mr-test --help)\n"},
        {{"mr-test", "--js", NULL}, "unknown option '--js'"}, /* no abbreviations */
        {{"mr-test", "--zkx=1", NULL}, "unknown option '--zkx'"},
        {{"mr-test", "-q", NULL}, "unknown option '-q'"},
        {{"mr-test", "--zk", NULL}, "--zk needs a value: HOST:PORT"},
        {{"mr-test", "-p", NULL}, "-p needs a value: PORT"},
        {{"mr-test", "--json=1", NULL}, "--json takes no value"},
        {{"mr-test", "--pub-port", "65536", NULL}, "--pub-port takes a number from 0 to 65535, not '65536'"},
        {{"mr-test", "--pub-port", "1x", NULL}, "not '1x'"},
        {{"mr-test", "--pub-port", " 1", NULL}, "not ' 1'"},
        {{"mr-test", "--pub-port=", NULL}, "not ''"},
        {{"mr-test", "-p-1", NULL}, "not '-1'"},
    };
    char out[4096];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(run_in_child((char **)cases[i].words, out, sizeof(out)), 2);
        assert_non_null(strstr(out, cases[i].says));
    }
    assert_int_equal(setenv("MR_PUB_PORT", "many", 1), 0);
    assert_int_equal(run_in_child((char *[]){"mr-test", NULL}, out, sizeof(out)), 2);
    assert_non_null(strstr(out, "MR_PUB_PORT takes a number from 0 to 65535, not 'many'"));
}

static void test_help_and_version(void **state)
{
    char out[4096];

    (void)state;
    assert_int_equal(run_in_child((char *[]){"mr-test", "x", "--help", NULL}, out, sizeof(out)), 0);
    assert_non_null(strstr(out, "usage: mr-test [OPTIONS] COMMAND\n"));
    assert_non_null(strstr(out, "  -p, --pub-port PORT"));
    assert_non_null(strstr(out, "port of the publisher (default 7701) [MR_PUB_PORT]\n"));
    assert_non_null(strstr(out, "exit codes: 0, 2\n"));
    assert_int_equal(run_in_child((char *[]){"mr-test", "--version", NULL}, out, sizeof(out)), 0);
    assert_string_equal(out, "mr-test " MR_VERSION "\n");
}

static void check_endpoint(const char *text, int err, const char *host, uint16_t number)
{
    char got[46];
    uint16_t got_port;

    assert_int_equal(options_parse_endpoint(text, "0.0.0.0", got, sizeof(got), &got_port), err);
    if (err == 0) {
        assert_string_equal(got, host);
        assert_int_equal(got_port, number);
    }
}

static void test_endpoints(void **state)
{
    (void)state;
    check_endpoint("7700", 0, "0.0.0.0", 7700);
    check_endpoint("127.0.0.1:0", 0, "127.0.0.1", 0);
    check_endpoint("[::1]:7700", 0, "::1", 7700);
    check_endpoint("", ERR_INVALID, NULL, 0);
    check_endpoint(":1", ERR_INVALID, NULL, 0);
    check_endpoint("[]:1", ERR_INVALID, NULL, 0);
    check_endpoint("[:1", ERR_INVALID, NULL, 0);
    check_endpoint("::1:7700", ERR_INVALID, NULL, 0);
    check_endpoint("h:65536", ERR_INVALID, NULL, 0);
    check_endpoint("h:", ERR_INVALID, NULL, 0);
    check_endpoint("h:1 ", ERR_INVALID, NULL, 0);
    check_endpoint("0123456789012345678901234567890123456789012345:1", ERR_TOO_LARGE, NULL, 0);
}

static void test_ranges(void **state)
{
    static const char *const bad[] = {"",        "-",     "6100", "6100-", "-6100",      "2-1",       "0-5",
                                      "1-65536", "1-2-3", "a-b",  "1 -2",  "99999999-1", "6100-63 00"};
    uint16_t lo, hi;

    (void)state;
    assert_int_equal(options_parse_range("6100-6300", &lo, &hi), 0);
    assert_int_equal(lo, 6100);
    assert_int_equal(hi, 6300);
    assert_int_equal(options_parse_range("65535-65535", &lo, &hi), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(options_parse_range(bad[i], &lo, &hi), ERR_INVALID);
}

static int secret_of(const char *content, char *out, size_t size)
{
    char path[] = "/tmp/mr-test-secret-XXXXXX";
    int fd = mkstemp(path);
    int err;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(close(fd), 0);
    err = options_read_secret(path, out, size);
    assert_int_equal(unlink(path), 0);
    return err;
}

static void test_secrets(void **state)
{
    char out[8];

    (void)state;
    assert_int_equal(secret_of("s3cret\nnot this", out, sizeof(out)), 0);
    assert_string_equal(out, "s3cret");
    assert_int_equal(secret_of("7 bytes", out, sizeof(out)), 0);
    assert_string_equal(out, "7 bytes");
    assert_int_equal(secret_of("8 bytes!", out, sizeof(out)), ERR_TOO_LARGE);
    assert_string_equal(out, "");
    assert_int_equal(secret_of("", out, sizeof(out)), ERR_INVALID);
    assert_int_equal(secret_of("\nx", out, sizeof(out)), ERR_INVALID);
    assert_int_equal(options_read_secret("/nonexistent/file", out, sizeof(out)), ERR_IO);
    assert_int_equal(options_read_secret("/", out, sizeof(out)), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults_stay, reset),
        cmocka_unit_test_setup(test_command_line_over_environment_over_default, reset),
        cmocka_unit_test_setup(test_forms, reset),
        cmocka_unit_test_setup(test_operands_end_up_last, reset),
        cmocka_unit_test_setup(test_usage_errors, reset),
        cmocka_unit_test_setup(test_help_and_version, reset),
        cmocka_unit_test_setup(test_endpoints, reset),
        cmocka_unit_test_setup(test_ranges, reset),
        cmocka_unit_test_setup(test_secrets, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
