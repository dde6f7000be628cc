/* Commands on their way to a redis-server: their bytes, and in which order whose replies are awaited.
 *
 *   redis_queue_push ─► out ─► redis_queue_send ─► socket        replies ─► redis_queue_take ─► done(ctx) */
#ifndef MR_COMMON_REDIS_QUEUE_H
#define MR_COMMON_REDIS_QUEUE_H

#include "common/redis_link.h"

#include <stddef.h>
#include <stdint.h>

struct redis_queue_entry {
    struct redis_queue_entry *next;
    redis_reply_fn done; /* may be NULL */
    void *ctx;
    int64_t sent_us; /* when it was handed to the kernel; 0: not yet */
};

/* All zeros is an empty queue. */
struct redis_queue {
    struct redis_queue_entry *first, *last; /* unanswered, oldest first */
    struct redis_queue_entry *unsent;       /* the first of them with sent_us 0 */
    char *out;
    size_t out_len, out_sent, out_size;
};

/* ERR_NOMEM; then nothing was queued. */
int redis_queue_push(struct redis_queue *q, redis_reply_fn done, void *ctx, int argc,
                     const char *const *argv) MR_MUST_CHECK;
/* Writes what it can. 0: all is sent; EAGAIN: the rest waits for the socket; otherwise the socket's errno.
 * Whatever was waiting counts as sent at now_us: its deadline runs. */
int redis_queue_send(struct redis_queue *q, int fd, int64_t now_us) MR_MUST_CHECK;
/* Takes the oldest unanswered command out; false when there is none. */
bool redis_queue_take(struct redis_queue *q, struct redis_queue_entry *out);
/* Forgets the unsent bytes (the commands stay unanswered); gives a large buffer back. */
void redis_queue_drop_bytes(struct redis_queue *q);
/* Forgets everything and frees. */
void redis_queue_clear(struct redis_queue *q);

#endif
