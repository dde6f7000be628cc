/* The last routes in a file, so that a proxy serves after a restart while ZooKeeper is away.
 *
 * One line of header, then one route a line, as the message that would announce it; no credentials. Written
 * to FILE.tmp with mode 0600, synced and renamed, by a thread of its own: a slow disk never holds up a
 * failover. Changes within CACHE_FILE_DELAY_MS are written together. */
#ifndef MR_PROXY_CACHE_FILE_H
#define MR_PROXY_CACHE_FILE_H

#include "proxy/core/route.h"

struct cache_file;
struct loop;
struct route_table;

enum { CACHE_FILE_DELAY_MS = 200, CACHE_FILE_MAX = 64 * 1024 * 1024 };

/* path, table: borrowed. */
int cache_file_open(struct cache_file **out, struct loop *loop, const char *path,
                    const struct route_table *table) MR_MUST_CHECK;
/* The table changed: write it soon. */
void cache_file_touch(struct cache_file *c);
/* Writes what is not written yet (this may block), then frees. */
void cache_file_close(struct cache_file *c);

/* Reads every route of the file, or none: ERR_NOT_FOUND (no such file), ERR_INVALID, ERR_VERSION,
 * ERR_TOO_LARGE, ERR_IO, ERR_NOMEM, with one sentence in why. *routes is the caller's to free(). */
int cache_file_read(const char *path, struct route **routes, size_t *n, char *why,
                    size_t why_size) MR_MUST_CHECK;

#endif
