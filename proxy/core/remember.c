#include "proxy/core/remember.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { REMEMBER_ARGS_MAX = 64, REMEMBER_CHUNK = 512 };

struct remember_text {
    uint32_t len, n_commands;
    char data[];
};

void remember_free(struct remember *m)
{
    for (int i = 0; i < REMEMBER_SLOTS; i++)
        free(m->slots[i]);
    free(m->queued_select);
    for (int i = 0; i < REMEMBER_SETS; i++)
        names_clear(&m->sets[i]);
    *m = (struct remember){0};
}

static void remember_forget(struct remember *m, enum remember_slot slot)
{
    free(m->slots[slot]);
    m->slots[slot] = NULL;
}

static int remember_put(struct buf *out, const struct resp_arg *args, int n)
{
    char head[32];

    int len = snprintf(head, sizeof(head), "*%d\r\n", n);
    if (buf_append(out, head, (size_t)len))
        return ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        len = snprintf(head, sizeof(head), "$%zu\r\n", args[i].len);
        if (buf_append(out, head, (size_t)len) || buf_append(out, args[i].data, args[i].len) ||
            buf_append(out, "\r\n", 2))
            return ERR_NOMEM;
    }
    return 0;
}

/* The slot holds this command now; or, with `more`, this one after those it held. */
static void remember_set(struct remember *m, enum remember_slot slot, bool more, const struct resp_arg *args,
                         int n)
{
    struct buf text = {0};
    struct remember_text *old = m->slots[slot], *new = NULL;
    uint32_t n_commands = 1;

    assert(n > 0 && n <= REMEMBER_ARGS_MAX);
    if (more && old) {
        n_commands += old->n_commands;
        if (buf_append(&text, old->data, old->len))
            goto out;
    }
    if (remember_put(&text, args, n) || buf_len(&text) > REMEMBER_TEXT_MAX)
        goto out;
    new = malloc(sizeof(*new) + buf_len(&text));
    if (!new)
        goto out;
    *new = (struct remember_text){.len = (uint32_t)buf_len(&text), .n_commands = n_commands};
    memcpy(new->data, buf_at(&text, buf_start(&text)), buf_len(&text));
    free(old);
    m->slots[slot] = new;
out:
    if (!new)
        m->incomplete = true;
    buf_free(&text);
}

static bool remember_arg_is(const struct resp_arg *a, const char *word)
{
    return a->len == strlen(word) && strncasecmp(a->data, word, a->len) == 0;
}

#define REMEMBER_ARG(text)                                                                                   \
    (struct resp_arg)                                                                                        \
    {                                                                                                        \
        .data = (text), .len = strlen(text)                                                                  \
    }

/* HELLO [version [AUTH user password] [SETNAME name]] */
static void remember_hello(struct remember *m, const struct resp_arg *args, int n, uint8_t *resp)
{
    if (n < 2)
        return;
    bool is_3 = args[1].len == 1 && args[1].data[0] == '3';
    *resp = is_3 ? 3 : 2;
    struct resp_arg hello[] = {REMEMBER_ARG("HELLO"), args[1]};
    if (is_3)
        remember_set(m, REMEMBER_HELLO, false, hello, 2);
    else
        remember_forget(m, REMEMBER_HELLO);
    for (int i = 2; i < n; i++) {
        if (remember_arg_is(&args[i], "AUTH") && i + 2 < n) {
            struct resp_arg auth[] = {REMEMBER_ARG("AUTH"), args[i + 1], args[i + 2]};
            remember_set(m, REMEMBER_AUTH, false, auth, 3);
            i += 2;
        } else if (remember_arg_is(&args[i], "SETNAME") && i + 1 < n) {
            struct resp_arg name[] = {REMEMBER_ARG("CLIENT"), REMEMBER_ARG("SETNAME"), args[i + 1]};
            remember_set(m, REMEMBER_NAME, false, name, 3);
            i++;
        }
    }
}

/* CLIENT TRACKING ON … adds prefixes to those of an earlier one. */
static void remember_tracking(struct remember *m, const struct resp_arg *args, int n)
{
    if (n < 3 || !remember_arg_is(&args[2], "ON")) {
        remember_forget(m, REMEMBER_TRACKING);
        return;
    }
    for (int i = 3; i < n; i++)
        if (remember_arg_is(&args[i], "REDIRECT"))
            m->incomplete = true; /* the other connection's id means nothing on the next master */
    remember_set(m, REMEMBER_TRACKING, true, args, n);
}

static void remember_set_info(struct remember *m, const struct resp_arg *args, int n)
{
    if (n == 4)
        remember_set(m, remember_arg_is(&args[2], "LIB-NAME") ? REMEMBER_LIB_NAME : REMEMBER_LIB_VER, false,
                     args, n);
}

static void remember_client_flag(struct remember *m, enum remember_slot slot, const struct resp_arg *args,
                                 int n)
{
    if (n == 3 && remember_arg_is(&args[2], "ON"))
        remember_set(m, slot, false, args, n);
    else
        remember_forget(m, slot);
}

void remember_command(struct remember *m, uint8_t kind, const char *bytes, size_t len, uint8_t *resp)
{
    char scratch[REMEMBER_TEXT_MAX];
    struct resp_arg args[REMEMBER_ARGS_MAX];
    int n = -1;

    assert(request_is_session(kind));
    if (bytes && len <= sizeof(scratch))
        n = resp_request_split(bytes, len, scratch, args, REMEMBER_ARGS_MAX);
    if (n < 1 || n > REMEMBER_ARGS_MAX) {
        m->incomplete = true;
        return;
    }
    switch ((enum request_kind)kind) {
    case REQUEST_AUTH:
        remember_set(m, REMEMBER_AUTH, false, args, n);
        break;
    case REQUEST_HELLO:
        remember_hello(m, args, n, resp);
        break;
    case REQUEST_SELECT:
        if (n == 2 && remember_arg_is(&args[1], "0"))
            remember_forget(m, REMEMBER_SELECT); /* where every connection begins */
        else
            remember_set(m, REMEMBER_SELECT, false, args, n);
        break;
    case REQUEST_SETNAME:
        remember_set(m, REMEMBER_NAME, false, args, n);
        break;
    case REQUEST_SETINFO:
        remember_set_info(m, args, n);
        break;
    case REQUEST_NO_EVICT:
        remember_client_flag(m, REMEMBER_NO_EVICT, args, n);
        break;
    case REQUEST_NO_TOUCH:
        remember_client_flag(m, REMEMBER_NO_TOUCH, args, n);
        break;
    default:
        assert(kind == REQUEST_TRACKING);
        remember_tracking(m, args, n);
        break;
    }
}

void remember_queue_select(struct remember *m, uint32_t at, const char *bytes, size_t len)
{
    m->queued_more = m->queued_select != NULL;
    m->queued_at = (uint8_t)(at < 63 ? at : 63);
    free(m->queued_select);
    m->queued_select = bytes ? malloc(sizeof(*m->queued_select) + len) : NULL;
    if (!m->queued_select) {
        m->incomplete = true;
        return;
    }
    *m->queued_select = (struct remember_text){.len = (uint32_t)len, .n_commands = 1};
    memcpy(m->queued_select->data, bytes, len);
}

void remember_exec(struct remember *m, bool executed, uint64_t errors)
{
    if (!m->queued_select)
        return;
    bool failed = (errors >> m->queued_at) & 1;
    /* Too odd to be followed: an earlier one may have counted, or it is too far behind to know. */
    if (executed && failed && (m->queued_more || m->queued_at == 63))
        m->incomplete = true;
    m->queued_more = false;
    if (executed && !failed) {
        free(m->slots[REMEMBER_SELECT]);
        m->slots[REMEMBER_SELECT] = m->queued_select;
    } else {
        free(m->queued_select);
    }
    m->queued_select = NULL;
}

uint32_t remember_count_of(const struct remember *m, uint8_t kind)
{
    assert(request_is_unsubscribe(kind));
    return m->sets[kind - REQUEST_UNSUBSCRIBE].count;
}

/* Reads "$<len>\r\n<len bytes>\r\n" at *p; a null ($-1, _) gives data NULL. */
static bool remember_bulk(const char **p, const char *end, struct resp_arg *out)
{
    *out = (struct resp_arg){0};
    const char *nl = memchr(*p, '\n', (size_t)(end - *p));
    if (!nl)
        return false;
    char type = **p;
    long len = type == '$' ? strtol(*p + 1, NULL, 10) : -1;
    *p = nl + 1;
    if (type == '_' || (type == '$' && len == -1))
        return true;
    if (type != '$' || len < 0 || len > end - *p - 2)
        return false;
    *out = (struct resp_arg){.data = *p, .len = (size_t)len};
    *p += len + 2;
    return true;
}

bool remember_confirmation(struct remember *m, const char *bytes, size_t len)
{
    static const char *const words[] = {"subscribe",   "psubscribe",   "ssubscribe",
                                        "unsubscribe", "punsubscribe", "sunsubscribe"};
    const char *end = bytes + len, *nl = memchr(bytes, '\n', len);
    struct resp_arg word, name;

    assert(bytes && len > 0);
    if (!nl)
        return false;
    const char *p = nl + 1;
    if (p >= end || !remember_bulk(&p, end, &word) || p >= end || !remember_bulk(&p, end, &name))
        return false;
    for (int i = 0; i < 2 * REMEMBER_SETS; i++) {
        struct names *set = &m->sets[i % REMEMBER_SETS];
        if (!word.data || !remember_arg_is(&word, words[i]))
            continue;
        if (name.data && i >= REMEMBER_SETS) {
            names_remove(set, name.data, name.len);
        } else if (name.data) {
            bool full =
                remember_subscriptions(m) >= REMEMBER_NAMES_MAX ||
                m->sets[0].bytes + m->sets[1].bytes + m->sets[2].bytes + name.len > REMEMBER_NAMES_BYTES_MAX;
            if (full || names_add(set, name.data, name.len))
                m->incomplete = true;
        }
        return true;
    }
    return false;
}

static int remember_write_set(const struct names *set, const char *word, struct buf *out)
{
    uint32_t at = 0;

    for (uint32_t left = set->count; left > 0;) {
        struct resp_arg args[REMEMBER_CHUNK + 1] = {{.data = word, .len = strlen(word)}};
        int n = 1;
        for (const struct name *name; n <= REMEMBER_CHUNK && (name = names_next(set, &at)) != NULL;
             n++, left--)
            args[n] = (struct resp_arg){.data = name->data, .len = name->len};
        assert(n > 1);
        if (remember_put(out, args, n))
            return ERR_NOMEM;
    }
    return 0;
}

static int remember_write_slots(const struct remember *m, int n_slots, struct buf *out)
{
    int replies = 0;

    for (int i = 0; i < n_slots; i++) {
        if (!m->slots[i])
            continue;
        if (buf_append(out, m->slots[i]->data, m->slots[i]->len))
            return ERR_NOMEM;
        replies += (int)m->slots[i]->n_commands;
    }
    return replies;
}

int remember_write_share(const struct remember *m, struct buf *out)
{
    assert(remember_may_share(m));
    return remember_write_slots(m, REMEMBER_SELECT + 1, out);
}

int remember_write(const struct remember *m, struct buf *out)
{
    static const char *const words[REMEMBER_SETS] = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"};
    int replies = remember_write_slots(m, REMEMBER_SLOTS, out);

    if (replies < 0)
        return replies;
    for (int i = 0; i < REMEMBER_SETS; i++) {
        if (remember_write_set(&m->sets[i], words[i], out))
            return ERR_NOMEM;
        replies += (int)m->sets[i].count;
    }
    if (m->monitor) {
        if (buf_append(out, "*1\r\n$7\r\nMONITOR\r\n", 17))
            return ERR_NOMEM;
        replies++;
    }
    if (m->reply_off && buf_append(out, "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n", 36))
        return ERR_NOMEM;
    return replies;
}
