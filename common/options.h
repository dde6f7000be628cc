/* Command line and environment, from one table: every option also reads MR_<OPTION> (--zk → MR_ZK).
 *
 * The command line wins over the environment, the environment over the default. --help and --version are
 * built in (printed to stdout, exit 0). Unknown options, missing values and values that don't parse are one
 * clear line on stderr and exit code 2. `tests` compares each table with README. */
#ifndef MR_COMMON_OPTIONS_H
#define MR_COMMON_OPTIONS_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_kind {
    OPTION_TEXT, /* value: const char **, borrowed from argv or the environment */
    OPTION_INT,  /* value: int *, min..max inclusive */
    OPTION_FLAG, /* value: bool *; --name on the command line, 1/0/true/false/yes/no in the environment */
};

struct option_row {
    const char *name; /* "session-timeout-ms" */
    char letter;      /* short form, 0: none */
    enum option_kind kind;
    void *value;      /* holds the default when parsing starts */
    const char *arg;  /* "HOST:PORT[,…]"; NULL for a flag */
    int min, max;     /* OPTION_INT */
    const char *help; /* one line; say the unit */
};

struct options_spec {
    const char *program;           /* "mr-proxy" */
    const char *synopsis;          /* after the program's name in the usage line */
    const char *about;             /* one or more lines */
    const struct option_row *rows; /* closed by a row with name NULL */
    const char *epilogue;          /* printed after the options: commands, exit codes; may be NULL */
};

/* Parses argv; returns the index of the first operand (options may follow operands: argv is permuted so that
 * operands end up last). Exits 0 for --help and --version, 2 on a usage error. */
int options_parse(const struct options_spec *spec, int argc, char **argv);
/* "mr-proxy: <text>" and a pointer to --help on stderr, then exit(2). */
void options_fail(const struct options_spec *spec, const char *fmt, ...) MR_PRINTF(2, 3)
    __attribute__((noreturn));

/* "ADDR:PORT" or "PORT" or "[v6]:PORT" → host (NUL-terminated, default_host when absent) and port (0
 * allowed). */
int options_parse_endpoint(const char *text, const char *default_host, char *host, size_t host_size,
                           uint16_t *port) MR_MUST_CHECK;
/* "6100-6300" → the two ends; ERR_INVALID unless 1 ≤ lo ≤ hi ≤ 65535. */
int options_parse_range(const char *text, uint16_t *lo, uint16_t *hi) MR_MUST_CHECK;
/* Reads a secret from a file: its first line without the newline; ERR_IO, ERR_TOO_LARGE, ERR_INVALID when
 * that line is empty. */
int options_read_secret(const char *path, char *out, size_t size) MR_MUST_CHECK;

#endif
