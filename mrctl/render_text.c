#include "mrctl/render_text.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

const char *render_time(int64_t unix_ms, char text[RENDER_TIME_MAX])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm utc;
    if (unix_ms < 0 || gmtime_r(&seconds, &utc) == NULL ||
        strftime(text, RENDER_TIME_MAX, "%Y-%m-%d %H:%M:%SZ", &utc) == 0)
        (void)snprintf(text, RENDER_TIME_MAX, "-");
    return text;
}

const char *render_size(int64_t bytes, char text[RENDER_SIZE_MAX])
{
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    if (bytes < 1000) {
        (void)snprintf(text, RENDER_SIZE_MAX, "%" PRId64 " B", bytes);
        return text;
    }
    double value = (double)bytes / 1000;
    size_t unit = 0;
    for (; value >= 1000 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1000;
    (void)snprintf(text, RENDER_SIZE_MAX, "%.1f %s", value, units[unit]);
    return text;
}

void render_timeline(struct line *l, json_t *timeline_ms)
{
    const json_t *total = json_object_get(timeline_ms, "total");
    char text[256] = "";
    size_t len = 0;
    const char *key;
    json_t *span;
    if (json_is_number(total))
        len = (size_t)snprintf(text, sizeof text, "%.1f ms:", json_number_value(total));
    json_object_foreach(timeline_ms, key, span)
    {
        if (!json_is_number(span) || span == total || len >= sizeof text)
            continue;
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s %.1f", len > 0 ? " " : "", key,
                                json_number_value(span));
    }
    line_add(l, "%s", text);
}
