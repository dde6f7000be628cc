#include "proxy/core/blocked.h"

#include "common/core/resp.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BLOCKED_LIMIT_LEN_MAX = 24 };

static bool arg_is(const struct resp_arg *a, const char *word)
{
    return a->len == strlen(word) && strncasecmp(a->data, word, a->len) == 0;
}

/* The argument that says how long; 0: none. *unit_ms: what it counts. */
static int blocked_limit_at(const struct resp_arg *args, int n, double *unit_ms)
{
    *unit_ms = 1000;
    if (arg_is(&args[0], "BLMPOP") || arg_is(&args[0], "BZMPOP"))
        return n > 1 ? 1 : 0;
    if (!arg_is(&args[0], "XREAD") && !arg_is(&args[0], "XREADGROUP"))
        return n - 1;
    *unit_ms = 1;
    for (int i = 1; i + 1 < n && !arg_is(&args[i], "STREAMS"); i++)
        if (arg_is(&args[i], "BLOCK"))
            return i + 1;
    return 0;
}

/* The limit in milliseconds; 0: none, or not a plain number. */
static uint64_t blocked_limit_ms(const struct resp_arg *a, double unit_ms)
{
    char text[BLOCKED_LIMIT_LEN_MAX + 1];
    char *end = NULL;

    if (a->len == 0 || a->len > BLOCKED_LIMIT_LEN_MAX)
        return 0;
    memcpy(text, a->data, a->len);
    text[a->len] = '\0';
    if (strspn(text, "0123456789.") != a->len)
        return 0;
    double value = strtod(text, &end);
    return *end == '\0' && value < 1e12 ? (uint64_t)(value * unit_ms) : 0;
}

static int append_arg(struct buf *out, const char *data, size_t len)
{
    char head[32];
    int n = snprintf(head, sizeof(head), "$%zu\r\n", len);
    int err = buf_append(out, head, (size_t)n);

    if (!err)
        err = buf_append(out, data, len);
    return err ? err : buf_append(out, "\r\n", 2);
}

static int blocked_write(const struct resp_arg *args, int n, int at, const char *limit, struct buf *out)
{
    char head[32];
    int len = snprintf(head, sizeof(head), "*%d\r\n", n);
    int err = buf_append(out, head, (size_t)len);

    for (int i = 0; i < n && !err; i++)
        err = i == at ? append_arg(out, limit, strlen(limit)) : append_arg(out, args[i].data, args[i].len);
    return err;
}

static int blocked_shorten_args(const struct resp_arg *args, int n, uint32_t waited_ms, struct buf *out)
{
    double unit_ms;
    char limit[32];
    int at = blocked_limit_at(args, n, &unit_ms);
    uint64_t ms = at > 0 ? blocked_limit_ms(&args[at], unit_ms) : 0;

    if (ms == 0)
        return 0;
    uint64_t left_ms = ms > waited_ms ? ms - waited_ms : 1;
    if (unit_ms > 1)
        (void)snprintf(limit, sizeof(limit), "%llu.%03u", (unsigned long long)(left_ms / 1000),
                       (unsigned)(left_ms % 1000));
    else
        (void)snprintf(limit, sizeof(limit), "%llu", (unsigned long long)left_ms);
    return blocked_write(args, n, at, limit, out);
}

int blocked_shorten(const char *bytes, size_t len, uint32_t waited_ms, struct buf *out)
{
    char *scratch = malloc(len + 1);
    struct resp_arg *args = NULL;
    int err = ERR_NOMEM, n = scratch ? resp_request_split(bytes, len, scratch, NULL, 0) : 0;

    if (!scratch)
        goto out;
    err = 0;
    if (n <= 0)
        goto out;
    args = calloc((size_t)n, sizeof(*args));
    err = ERR_NOMEM;
    if (!args)
        goto out;
    n = resp_request_split(bytes, len, scratch, args, n);
    err = n > 0 ? blocked_shorten_args(args, n, waited_ms, out) : 0;
out:
    free(args);
    free(scratch);
    return err;
}
