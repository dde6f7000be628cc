#include "proxy/core/large.h"

#include <stdlib.h>
#include <string.h>

struct large_place {
    uint32_t hash; /* its higher bits: the lower ones are the place */
    uint32_t bytes;
};

/* Eight bytes a step (multiply and fold, as wyhash and its like do): requests are short, and there are many.
 */
static uint64_t large_hash(const char *request, size_t len)
{
    const uint64_t odd = 0x9e3779b97f4a7c15U;
    uint64_t h = len * odd;

    while (len > 0) {
        uint64_t word = 0;
        size_t n = len < sizeof(word) ? len : sizeof(word);
        memcpy(&word, request, n);
        h = (h ^ word) * odd;
        h ^= h >> 32;
        request += n;
        len -= n;
    }
    return h;
}

void large_note(struct large *l, const char *request, size_t len, uint64_t bytes, bool is_large)
{
    if (len > LARGE_REQUEST_MAX || (!is_large && !l->places))
        return;
    if (!l->places && !(l->places = calloc(LARGE_PLACES, sizeof(*l->places))))
        return;
    uint64_t h = large_hash(request, len);
    struct large_place *p = &l->places[h % LARGE_PLACES];
    if (is_large)
        *p = (struct large_place){(uint32_t)(h >> 32), bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX};
    else if (p->hash == (uint32_t)(h >> 32))
        p->bytes = 0;
}

uint32_t large_expects(const struct large *l, const char *request, size_t len)
{
    if (!l->places || len > LARGE_REQUEST_MAX)
        return 0;
    uint64_t h = large_hash(request, len);
    const struct large_place *p = &l->places[h % LARGE_PLACES];
    return p->hash == (uint32_t)(h >> 32) ? p->bytes : 0;
}

void large_free(struct large *l)
{
    free(l->places);
    *l = (struct large){NULL};
}
