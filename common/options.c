#include "common/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTIONS_NAME_MAX = 64, OPTIONS_HELP_COLUMN = 34 };

void options_fail(const struct options_spec *spec, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "%s: %s (see %s --help)\n", spec->program, text, spec->program);
    exit(2);
}

/* "session-timeout-ms" → "MR_SESSION_TIMEOUT_MS" */
static void options_env_name(const char *name, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "MR_%s", name);

    assert(n < size);
    for (size_t i = 3; i < n; i++)
        out[i] = name[i - 3] == '-' ? '_' : (char)toupper((unsigned char)name[i - 3]);
}

/* Strictly a decimal number, with no blanks around it. */
static int options_parse_int(const char *text, long min, long max, long *out)
{
    char *end = NULL;

    if (!isdigit((unsigned char)text[0]) && !(text[0] == '-' && isdigit((unsigned char)text[1])))
        return ERR_INVALID;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || v < min || v > max)
        return ERR_INVALID;
    *out = v;
    return 0;
}

static int options_parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "true", "yes"};
    static const char *const no[] = {"0", "false", "no"};

    for (size_t i = 0; i < 3; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return ERR_INVALID;
}

/* shown: how the user wrote it ("--http", "MR_HTTP"), for the message. */
static void options_set(const struct options_spec *spec, const struct option_row *row, const char *shown,
                        const char *text)
{
    long number;

    switch (row->kind) {
    case OPTION_TEXT:
        *(const char **)row->value = text;
        break;
    case OPTION_INT:
        if (options_parse_int(text, row->min, row->max, &number) != 0)
            options_fail(spec, "%s takes a number from %d to %d, not '%s'", shown, row->min, row->max, text);
        *(int *)row->value = (int)number;
        break;
    case OPTION_FLAG:
        if (options_parse_bool(text, (bool *)row->value) != 0)
            options_fail(spec, "%s takes 1, true, yes, 0, false or no, not '%s'", shown, text);
        break;
    }
}

static void options_from_environment(const struct options_spec *spec)
{
    for (const struct option_row *row = spec->rows; row->name != NULL; row++) {
        char name[OPTIONS_NAME_MAX];
        const char *value;

        options_env_name(row->name, name, sizeof(name));
        value = getenv(name); // NOLINT(concurrency-mt-unsafe): before there are threads
        /* Empty counts as unset: deployment files like to write MR_KEY_FILE= for "none". */
        if (value != NULL && value[0] != '\0')
            options_set(spec, row, name, value);
    }
}

static void options_print_default(const struct option_row *row)
{
    if (row->kind == OPTION_INT)
        (void)printf(" (default %d)", *(const int *)row->value);
    else if (row->kind == OPTION_TEXT && *(const char **)row->value != NULL)
        (void)printf(" (default %s)", *(const char **)row->value);
}

static void options_print_row(const struct option_row *row)
{
    char left[96], env[OPTIONS_NAME_MAX];
    char letter[] = {'-', row->letter, ',', ' ', '\0'};
    int n = snprintf(left, sizeof(left), "  %s--%s%s%s", row->letter != 0 ? letter : "    ", row->name,
                     row->arg != NULL ? " " : "", row->arg != NULL ? row->arg : "");

    options_env_name(row->name, env, sizeof(env));
    if (n >= OPTIONS_HELP_COLUMN)
        (void)printf("%s\n%*s", left, OPTIONS_HELP_COLUMN, "");
    else
        (void)printf("%-*s", OPTIONS_HELP_COLUMN, left);
    (void)printf("%s", row->help);
    options_print_default(row);
    (void)printf(" [%s]\n", env);
}

static void options_print_help(const struct options_spec *spec)
{
    (void)printf("usage: %s %s\n\n%s\n\noptions (each also reads the environment variable in brackets):\n",
                 spec->program, spec->synopsis, spec->about);
    for (const struct option_row *row = spec->rows; row->name != NULL; row++)
        options_print_row(row);
    (void)printf("%-*s%s\n", OPTIONS_HELP_COLUMN, "  -h, --help", "print this and exit");
    (void)printf("%-*s%s\n", OPTIONS_HELP_COLUMN, "      --version", "print the version and exit");
    if (spec->epilogue != NULL)
        (void)printf("\n%s\n", spec->epilogue);
}

static const struct option_row *options_find(const struct options_spec *spec, const char *name, size_t len)
{
    for (const struct option_row *row = spec->rows; row->name != NULL; row++) {
        if (strlen(row->name) == len && memcmp(row->name, name, len) == 0)
            return row;
    }
    return NULL;
}

static const struct option_row *options_find_letter(const struct options_spec *spec, char letter)
{
    for (const struct option_row *row = spec->rows; row->name != NULL; row++) {
        if (row->letter != 0 && row->letter == letter)
            return row;
    }
    return NULL;
}

static void options_built_in(const struct options_spec *spec, const char *arg)
{
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
        options_print_help(spec);
        exit(0);
    }
    if (strcmp(arg, "--version") == 0) {
        (void)printf("%s %s\n", spec->program, MR_VERSION);
        exit(0);
    }
}

/* --name, --name=value or --name value; returns how many further arguments were used (0 or 1). */
static int options_take_long(const struct options_spec *spec, const char *arg, const char *following)
{
    const char *equals = strchr(arg, '=');
    size_t len = equals != NULL ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
    const struct option_row *row = options_find(spec, arg + 2, len);
    char shown[OPTIONS_NAME_MAX];

    if (row == NULL)
        options_fail(spec, "unknown option '%.*s'", (int)len + 2, arg);
    (void)snprintf(shown, sizeof(shown), "--%s", row->name);
    if (row->kind == OPTION_FLAG) {
        if (equals != NULL)
            options_fail(spec, "%s takes no value", shown);
        *(bool *)row->value = true;
        return 0;
    }
    if (equals == NULL && following == NULL)
        options_fail(spec, "%s needs a value: %s", shown, row->arg);
    options_set(spec, row, shown, equals != NULL ? equals + 1 : following);
    return equals != NULL ? 0 : 1;
}

/* -x, -xvalue, -x value, and flags in one word (-wj). */
static int options_take_short(const struct options_spec *spec, const char *arg, const char *following)
{
    for (const char *p = arg + 1; *p != '\0'; p++) {
        const struct option_row *row = options_find_letter(spec, *p);
        char shown[3] = {'-', *p, '\0'};

        if (row == NULL)
            options_fail(spec, "unknown option '%s'", shown);
        if (row->kind == OPTION_FLAG) {
            *(bool *)row->value = true;
            continue;
        }
        if (p[1] != '\0') {
            options_set(spec, row, shown, p + 1);
            return 0;
        }
        if (following == NULL)
            options_fail(spec, "%s needs a value: %s", shown, row->arg);
        options_set(spec, row, shown, following);
        return 1;
    }
    return 0;
}

/* Moves the n words at `from` in front of the operands at `first`, which keep their order. */
static void options_move_ahead(char **argv, int first, int from, int n)
{
    char *words[2];

    assert(n >= 1 && n <= 2 && first <= from);
    memcpy(words, argv + from, (size_t)n * sizeof(*argv));
    memmove(argv + first + n, argv + first, (size_t)(from - first) * sizeof(*argv));
    memcpy(argv + first, words, (size_t)n * sizeof(*argv));
}

int options_parse(const struct options_spec *spec, int argc, char **argv)
{
    int first = 1; /* argv[first..i) are the operands seen so far */

    options_from_environment(spec);
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        int n = 1;

        if (arg[0] != '-' || arg[1] == '\0')
            continue;
        if (strcmp(arg, "--") == 0) {
            options_move_ahead(argv, first, i, 1);
            return first + 1;
        }
        options_built_in(spec, arg);
        char *following = i + 1 < argc ? argv[i + 1] : NULL;
        n += arg[1] == '-' ? options_take_long(spec, arg, following)
                           : options_take_short(spec, arg, following);
        options_move_ahead(argv, first, i, n);
        first += n;
        i += n - 1;
    }
    return first;
}

int options_parse_endpoint(const char *text, const char *default_host, char *host, size_t host_size,
                           uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    const char *from = text;
    size_t len;
    long number;

    if (colon == NULL) {
        from = default_host;
        len = strlen(default_host);
    } else if (text[0] == '[') {
        if (colon == text || colon[-1] != ']')
            return ERR_INVALID;
        from = text + 1;
        len = (size_t)(colon - text) - 2;
    } else {
        len = (size_t)(colon - text);
        if (memchr(text, ':', len) != NULL) /* an IPv6 address without brackets: where does the port begin? */
            return ERR_INVALID;
    }
    if (len == 0 || options_parse_int(colon == NULL ? text : colon + 1, 0, UINT16_MAX, &number) != 0)
        return ERR_INVALID;
    if (len >= host_size)
        return ERR_TOO_LARGE;
    memcpy(host, from, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    return 0;
}

int options_parse_range(const char *text, uint16_t *lo, uint16_t *hi)
{
    const char *dash = strchr(text, '-');
    char first[8];
    long a, b;

    if (dash == NULL || dash == text || (size_t)(dash - text) >= sizeof(first))
        return ERR_INVALID;
    memcpy(first, text, (size_t)(dash - text));
    first[dash - text] = '\0';
    if (options_parse_int(first, 1, UINT16_MAX, &a) != 0 ||
        options_parse_int(dash + 1, 1, UINT16_MAX, &b) != 0 || a > b)
        return ERR_INVALID;
    *lo = (uint16_t)a;
    *hi = (uint16_t)b;
    return 0;
}

int options_read_secret(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;

    assert(size > 1);
    out[0] = '\0';
    if (fd < 0)
        return ERR_IO;
    while (len < size && (n = read(fd, out + len, size - len)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            (void)close(fd);
            out[0] = '\0';
            return ERR_IO;
        }
        len += (size_t)n;
    }
    (void)close(fd);
    char *newline = memchr(out, '\n', len);
    if (newline != NULL)
        len = (size_t)(newline - out);
    if (len == size) {
        out[0] = '\0';
        return ERR_TOO_LARGE;
    }
    out[len] = '\0';
    /* Nobody means "no password" by pointing at an empty file. */
    return len == 0 ? ERR_INVALID : 0;
}
