/* ACL LIST and a client's login, both from outside, as arbitrary bytes: no crash, nothing of another user is
 * taken away, and what a login is changed to changes no further. */
#include "controller/core/fence.h"
#include "proxy/core/login.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void read_list(const char *text, size_t len, bool keep)
{
    static struct fence f;
    const struct fence_order order = {.user = "app", .epoch = 7, .keep = keep};
    const char *words[FENCE_WORDS_MAX], *why = NULL, *end = text + len;
    fence_begin(&f, &order);
    fence_take_role(&f, text, len / 2);
    while (text < end) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        size_t n = nl ? (size_t)(nl - text) : (size_t)(end - text);
        fence_take(&f, text, n);
        text += n + 1;
    }
    int err = fence_end(&f, &why);
    MUST((err == 0) == (why == NULL));
    MUST(f.n_stale <= FENCE_STALE_MAX);
    for (uint32_t k = 0; k < f.n_stale; k++)
        MUST(strncmp(f.stale[k], "app-e", 5) == 0 && strlen(f.stale[k]) > 5 &&
             strspn(f.stale[k] + 5, "0123456789") == strlen(f.stale[k] + 5));
    if (err != 0 || !fence_must_make(&f))
        return;
    int n = fence_make(&f, words);
    MUST(n == ERR_TOO_LARGE || (n >= 4 && n <= FENCE_WORDS_MAX));
    MUST(n < 0 || (strcmp(words[2], "app-e7") == 0 && strcmp(words[3], "reset") == 0));
}

static void log_in(const char *text, size_t len)
{
    const struct route route = {.epoch = 7, .fence_user = "app"};
    struct buf out = {0}, again = {0}, back = {0};
    if (login_to_server(&route, text, len, &out)) {
        const char *told = buf_at(&out, buf_start(&out));
        MUST(!login_to_server(&route, told, buf_len(&out), &again));
        MUST(login_to_client(&route, told, buf_len(&out), &back));
    }
    buf_free(&out);
    buf_free(&back);
    MUST(login_write(&route, text, len, &out) == 0);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    read_list(text, size, true);
    read_list(text, size, false);
    if (size > 0)
        log_in(text, size);
    return 0;
}
