#include "proxy/core/scripts.h"

#include "proxy/core/names.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct script {
    struct script *next;
    uint32_t hash;
    size_t len;
    char body[];
};

static bool scripts_have(const struct scripts *s, uint32_t hash, const char *body, size_t len)
{
    for (const struct script *i = s->oldest; i; i = i->next)
        if (i->hash == hash && i->len == len && memcmp(i->body, body, len) == 0)
            return true;
    return false;
}

static void scripts_drop_oldest(struct scripts *s)
{
    struct script *old = s->oldest;

    assert(old && s->count > 0);
    s->oldest = old->next;
    if (!s->oldest)
        s->newest = NULL;
    s->count--;
    s->bytes -= old->len;
    free(old);
}

void scripts_add(struct scripts *s, const char *body, size_t len)
{
    uint32_t hash = names_hash(body, len);

    if (len == 0 || len > SCRIPTS_BYTES_MAX || scripts_have(s, hash, body, len))
        return;
    struct script *new = malloc(sizeof(*new) + len);
    if (!new)
        return; /* an EVALSHA may answer -NOSCRIPT later: clients know what to do then */
    *new = (struct script){.hash = hash, .len = len};
    memcpy(new->body, body, len);
    if (s->count == 0)
        s->loaded = true;
    if (s->newest)
        s->newest->next = new;
    else
        s->oldest = new;
    s->newest = new;
    s->count++;
    s->bytes += len;
    while (s->count > SCRIPTS_MAX || s->bytes > SCRIPTS_BYTES_MAX)
        scripts_drop_oldest(s);
}

void scripts_clear(struct scripts *s)
{
    while (s->oldest)
        scripts_drop_oldest(s);
    s->generation++;
}

void scripts_doubt(struct scripts *s)
{
    s->loaded = false;
    s->generation++;
}

int scripts_write(const struct scripts *s, struct buf *out)
{
    int n = 0;

    for (const struct script *i = s->oldest; i; i = i->next, n++) {
        char head[64];
        int len = snprintf(head, sizeof(head), "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%zu\r\n", i->len);
        if (buf_append(out, head, (size_t)len) || buf_append(out, i->body, i->len) ||
            buf_append(out, "\r\n", 2))
            return ERR_NOMEM;
    }
    return n;
}
