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

static bool is_number(const char *text)
{
    return *text != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* Nobody's but epochs' users and marks. */
static void check_command(const struct fence_command *c)
{
    MUST(c->argc >= 2 && c->argc <= FENCE_WORDS_MAX);
    bool deletes = strcmp(c->argv[1], "DELUSER") == 0, makes = strcmp(c->argv[1], "SETUSER") == 0;
    for (int k = 2; k < (deletes ? c->argc : makes ? 3 : 0); k++) {
        bool mark = strncmp(c->argv[k], "mr-fence-", 9) == 0;
        MUST(mark || (strncmp(c->argv[k], "app-e", 5) == 0 && is_number(c->argv[k] + 5)));
    }
    if (strcmp(c->argv[1], "KILL") == 0)
        MUST(strcmp(c->argv[2], "ID") == 0 ? is_number(c->argv[3]) : strcmp(c->argv[3], "app") == 0);
    MUST(!makes || strcmp(c->argv[3], "reset") == 0);
}

/* The text is what each ACL LIST says. */
static void read_list(const char *begin, size_t len, bool keep)
{
    static struct fence f;
    static struct fence_command c;
    const struct fence_order order = {.user = "app", .epoch = 7, .term = 9, .keep = keep};
    const char *end = begin + len;
    int rounds = 0;
    fence_begin(&f, &order);
    do {
        bool lists = false;
        while (fence_command(&f, &c)) {
            check_command(&c);
            lists |= c.answer == FENCE_ANSWER_LIST;
            if (c.answer == FENCE_ANSWER_ID)
                fence_take_id(&f, 5);
        }
        for (const char *text = begin; lists && text < end;) {
            const char *nl = memchr(text, '\n', (size_t)(end - text));
            size_t n = nl ? (size_t)(nl - text) : (size_t)(end - text);
            fence_take(&f, text, n);
            text += n + 1;
        }
        MUST(f.n_stale <= FENCE_STALE_MAX && f.n_marks <= FENCE_MARKS_MAX);
    } while (fence_next(&f) && ++rounds < 8);
    MUST(f.round != FENCE_END || (f.err == 0) == (f.why[0] == '\0'));
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
