/* Levelled key=value log lines to stderr (journald, Mesos sandbox). Thread-safe: one write(2) a line.
 *
 *   log_warn("event=link.down instance=%s member=%s reason=%s", name, address, err_name(code));
 *   → 2026-11-22T21:58:03.412Z warn controller[ctl-1] event=link.down instance=cart member=10.0.0.3:6379 …
 * The text starts with event=<module>.<what>; a value with blanks goes in double quotes: say="…". */
#ifndef MR_COMMON_LOG_H
#define MR_COMMON_LOG_H

#include "common/core/err.h"

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* program is printed in every line ("controller", "proxy"), id in its brackets; both are copied. */
void log_init(const char *program, const char *id, enum log_level level);
int log_level_parse(const char *text, enum log_level *out) MR_MUST_CHECK; /* error, warn, info, debug */
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *fmt, ...) MR_PRINTF(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                       \
    do {                                                                                                     \
        if (log_enabled(LOG_LEVEL_DEBUG))                                                                    \
            log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                          \
    } while (0)

#endif
