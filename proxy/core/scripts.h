/* Lua bodies that clients of one instance have loaded, so that a new master can be given them. Pure.
 *
 * A promoted replica knows the data but not the script cache: EVALSHA would answer -NOSCRIPT. The first
 * EVALSHA that a session sends to a master that isn't known to have the bodies waits for SCRIPT LOADs. */
#ifndef MR_PROXY_CORE_SCRIPTS_H
#define MR_PROXY_CORE_SCRIPTS_H

#include "common/core/buf.h"

#include <stdbool.h>

enum {
    SCRIPTS_MAX = 128,              /* the oldest goes when there are more */
    SCRIPTS_BYTES_MAX = 256 * 1024, /* or when they are larger together */
};

struct script;

/* All zeroes is empty. */
struct scripts {
    struct script *oldest, *newest;
    uint32_t count;
    size_t bytes;
    uint32_t generation; /* changes when bodies were added or the master came into doubt */
    bool loaded;         /* the current master has all of them */
};

/* A body was accepted by the current master. */
void scripts_add(struct scripts *s, const char *body, size_t len);
void scripts_clear(struct scripts *s);
/* The master may be another one, or a restarted one. */
void scripts_doubt(struct scripts *s);
static inline bool scripts_are_due(const struct scripts *s)
{
    return s->count > 0 && !s->loaded;
}
/* Appends one SCRIPT LOAD per body; returns how many replies that will give, or ERR_NOMEM. */
int scripts_write(const struct scripts *s, struct buf *out);

#endif
