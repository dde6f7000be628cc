#include "proxy/core/names.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_SIZE_MIN = 4 };

uint32_t names_hash(const char *data, size_t len)
{
    uint32_t h = 2166136261U;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)data[i]) * 16777619U;
    return h;
}

/* The slot that holds the name, or the free one where it belongs. */
static uint32_t names_slot(const struct names *n, uint32_t hash, const char *data, size_t len)
{
    assert(n->size > n->count);
    uint32_t i = hash & (n->size - 1);
    while (n->slots[i] && (n->slots[i]->hash != hash || n->slots[i]->len != len ||
                           (len > 0 && memcmp(n->slots[i]->data, data, len) != 0)))
        i = (i + 1) & (n->size - 1);
    return i;
}

static int names_grow(struct names *n)
{
    struct names bigger = {.size = n->size ? n->size * 2 : NAMES_SIZE_MIN, .bytes = n->bytes};

    bigger.slots = calloc(bigger.size, sizeof(struct name *));
    if (!bigger.slots)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < n->size; i++) {
        struct name *name = n->slots[i];
        if (!name)
            continue;
        bigger.slots[names_slot(&bigger, name->hash, name->data, name->len)] = name;
        bigger.count++;
    }
    free(n->slots);
    *n = bigger;
    return 0;
}

int names_add(struct names *n, const char *data, size_t len)
{
    assert(len <= UINT32_MAX);
    if (n->count + 1 > n->size / 4 * 3) {
        int err = names_grow(n);
        if (err)
            return err;
    }
    uint32_t hash = names_hash(data, len), i = names_slot(n, hash, data, len);
    if (n->slots[i])
        return 0;
    struct name *name = malloc(sizeof(*name) + len);
    if (!name)
        return ERR_NOMEM;
    name->hash = hash;
    name->len = (uint32_t)len;
    memcpy(name->data, data, len);
    n->slots[i] = name;
    n->count++;
    n->bytes += len;
    return 0;
}

void names_remove(struct names *n, const char *data, size_t len)
{
    if (n->count == 0)
        return;
    uint32_t mask = n->size - 1, i = names_slot(n, names_hash(data, len), data, len);
    if (!n->slots[i])
        return;
    n->bytes -= n->slots[i]->len;
    n->count--;
    free(n->slots[i]);
    n->slots[i] = NULL;
    if (n->count == 0) {
        names_clear(n);
        return;
    }
    /* Those behind it that were pushed on by it move up, so that a search never stops too early. */
    for (uint32_t j = (i + 1) & mask; n->slots[j]; j = (j + 1) & mask) {
        uint32_t home = n->slots[j]->hash & mask;
        if (((j - home) & mask) < ((j - i) & mask))
            continue;
        n->slots[i] = n->slots[j];
        n->slots[j] = NULL;
        i = j;
    }
}

void names_clear(struct names *n)
{
    for (uint32_t i = 0; i < n->size; i++)
        free(n->slots[i]);
    free(n->slots);
    *n = (struct names){0};
}

const struct name *names_next(const struct names *n, uint32_t *at)
{
    while (*at < n->size) {
        const struct name *name = n->slots[(*at)++];
        if (name)
            return name;
    }
    return NULL;
}
