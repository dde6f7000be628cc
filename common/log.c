#include "common/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 2048, LOG_WHO_MAX = 96 };

static const char *const log_names[] = {"error", "warn", "info", "debug"};

/* The level may be read by any thread; the name is written once, before there are threads. */
static _Atomic int log_level_now = LOG_LEVEL_INFO;
static char log_who[LOG_WHO_MAX] = "mr";

void log_init(const char *program, const char *id, enum log_level level)
{
    if (id != NULL && id[0] != '\0')
        (void)snprintf(log_who, sizeof(log_who), "%s[%s]", program, id);
    else
        (void)snprintf(log_who, sizeof(log_who), "%s", program);
    atomic_store(&log_level_now, (int)level);
}

int log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(log_names) / sizeof(log_names[0]); i++) {
        if (strcmp(text, log_names[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return ERR_INVALID;
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

/* Writes "2026-11-22T21:58:03.412Z warn controller[ctl-1] "; returns its length. */
static size_t log_head(char *line, size_t size, enum log_level level)
{
    struct timespec ts;
    struct tm tm;
    size_t len;
    int n;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    len = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
    n = snprintf(line + len, size - len, ".%03dZ %s %s ", (int)(ts.tv_nsec / 1000000), log_names[level],
                 log_who);
    return len + (n < 0 ? 0 : (size_t)n);
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char line[LOG_LINE_MAX];
    size_t head, len;
    va_list ap;
    int n;

    if (!log_enabled(level))
        return;
    head = log_head(line, sizeof(line), level);
    va_start(ap, fmt);
    n = vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap); /* - 1: room for the newline */
    va_end(ap);
    len = head + (n < 0 ? 0 : (size_t)n);
    if (len > sizeof(line) - 2) {
        len = sizeof(line) - 2;
        line[len - 1] = line[len - 2] = line[len - 3] = '.'; /* cut off, and seen to be */
    }
    /* Values come from the network too: one of them must not be able to forge a line. */
    for (size_t i = head; i < len; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    line[len++] = '\n';
    /* One write(2) a line keeps lines of several threads whole; a full or closed stderr is nobody's fault. */
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
}
