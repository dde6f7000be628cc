#include "proxy/core/login.h"

#include "common/core/resp.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { LOGIN_TEXT_MAX = 16 * 1024, LOGIN_ARGS_MAX = 16 };

static bool login_is_word(const struct resp_arg *a, const char *word)
{
    return a->len == strlen(word) && strncasecmp(a->data, word, a->len) == 0;
}

/* The fence's user, or <user>-e<digits>. */
static bool login_is_fenced(const struct route *r, const struct resp_arg *user)
{
    size_t at = strlen(r->fence_user);
    if (user->len < at || memcmp(user->data, r->fence_user, at) != 0)
        return false;
    if (user->len == at)
        return true;
    if (user->len < at + 3 || memcmp(user->data + at, "-e", 2) != 0)
        return false;
    for (at += 2; at < user->len; at++)
        if (user->data[at] < '0' || user->data[at] > '9')
            return false;
    return true;
}

/* Which argument is the user; -1: none. */
static int login_user(const struct resp_arg *args, int n)
{
    if (n == 3 && login_is_word(&args[0], "AUTH"))
        return 1;
    if (n < 5 || !login_is_word(&args[0], "HELLO"))
        return -1;
    for (int k = 2; k + 2 < n; k++)
        if (login_is_word(&args[k], "AUTH"))
            return k + 1;
    return -1;
}

static int login_put(struct buf *out, const struct resp_arg *args, int n)
{
    char head[32];
    int len = snprintf(head, sizeof(head), "*%d\r\n", n), err = buf_append(out, head, (size_t)len);
    for (int k = 0; k < n && !err; k++) {
        len = snprintf(head, sizeof(head), "$%zu\r\n", args[k].len);
        err = buf_append(out, head, (size_t)len);
        if (!err)
            err = buf_append(out, args[k].data, args[k].len);
        if (!err)
            err = buf_append(out, "\r\n", 2);
    }
    return err;
}

static bool login_replace(const struct route *r, const char *request, size_t len, const char *user,
                          struct buf *out)
{
    char scratch[LOGIN_TEXT_MAX];
    struct resp_arg args[LOGIN_ARGS_MAX];
    if (!login_is_mapped(r) || len > sizeof(scratch))
        return false;
    int n = resp_request_split(request, len, scratch, args, LOGIN_ARGS_MAX);
    int at = n > 0 && n <= LOGIN_ARGS_MAX ? login_user(args, n) : -1;
    if (at < 0 || !login_is_fenced(r, &args[at]) || login_is_word(&args[at], user))
        return false;
    args[at] = (struct resp_arg){.data = user, .len = strlen(user)};
    if (login_put(out, args, n) == 0)
        return true;
    buf_free(out);
    return false;
}

bool login_to_server(const struct route *r, const char *request, size_t len, struct buf *out)
{
    char user[TOPOLOGY_USER_MAX + 1];
    (void)snprintf(user, sizeof(user), "%s-e%" PRIu64, r->fence_user, r->epoch);
    return login_replace(r, request, len, user, out);
}

bool login_to_client(const struct route *r, const char *request, size_t len, struct buf *out)
{
    return login_replace(r, request, len, r->fence_user, out);
}

int login_write(const struct route *r, const char *text, size_t len, struct buf *out)
{
    struct resp_request framer;
    struct buf login = {0};
    size_t first = 0;
    int err = 0;
    resp_request_init(&framer);
    bool whole = login_is_mapped(r) && resp_request_feed(&framer, text, len, &first) == RESP_END;
    if (whole && login_to_server(r, text, first, &login))
        err = buf_append(out, buf_at(&login, buf_start(&login)), buf_len(&login));
    else
        first = 0;
    if (!err && len > first)
        err = buf_append(out, text + first, len - first);
    buf_free(&login);
    return err;
}

int login_map(const struct route *r, struct buf *text)
{
    struct buf mapped = {0};
    if (!login_is_mapped(r) || buf_len(text) == 0)
        return 0;
    int err = login_write(r, buf_at(text, buf_start(text)), buf_len(text), &mapped);
    if (err) {
        buf_free(&mapped);
        return err;
    }
    buf_free(text);
    *text = mapped;
    return 0;
}
