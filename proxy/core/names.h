/* A set of binary names (channels, patterns) that keeps the order out of it: add, remove, walk. Pure. */
#ifndef MR_PROXY_CORE_NAMES_H
#define MR_PROXY_CORE_NAMES_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name {
    uint32_t hash, len;
    char data[];
};

/* All zeroes is an empty set. */
struct names {
    struct name **slots; /* open addressing; NULL: free */
    uint32_t size, count;
    size_t bytes; /* of all the names */
};

/* Adds a copy; nothing happens when it is there already. ERR_NOMEM. */
int names_add(struct names *n, const char *data, size_t len) MR_MUST_CHECK;
void names_remove(struct names *n, const char *data, size_t len);
void names_clear(struct names *n);
/* The next name at or after slot *at (which moves on), or NULL at the end. */
const struct name *names_next(const struct names *n, uint32_t *at);
/* FNV-1a. */
uint32_t names_hash(const char *data, size_t len);

#endif
