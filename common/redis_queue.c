#include "common/redis_queue.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { OUT_FIRST_BYTES = 512, OUT_KEEP_BYTES = 4096 };

static bool reserve(struct redis_queue *q, size_t more)
{
    size_t size = q->out_size ? q->out_size : OUT_FIRST_BYTES;
    char *grown;

    while (size < q->out_len + more)
        size *= 2;
    if (size == q->out_size)
        return true;
    grown = realloc(q->out, size);
    if (!grown)
        return false;
    q->out = grown;
    q->out_size = size;
    return true;
}

static void append(struct redis_queue *q, struct redis_queue_entry *entry)
{
    if (q->last)
        q->last->next = entry;
    else
        q->first = entry;
    q->last = entry;
    if (!q->unsent)
        q->unsent = entry;
}

int redis_queue_push(struct redis_queue *q, redis_reply_fn done, void *ctx, int argc, const char *const *argv)
{
    struct redis_queue_entry *entry = malloc(sizeof *entry);
    char *text = NULL;
    int len = entry ? redisFormatCommandArgv(&text, argc, (const char **)argv, NULL) : -1;

    if (len < 0 || !reserve(q, (size_t)len)) {
        redisFreeCommand(text);
        free(entry);
        return ERR_NOMEM;
    }
    memcpy(q->out + q->out_len, text, (size_t)len);
    q->out_len += (size_t)len;
    redisFreeCommand(text);
    *entry = (struct redis_queue_entry){.done = done, .ctx = ctx};
    append(q, entry);
    return 0;
}

int redis_queue_send(struct redis_queue *q, int fd, int64_t now_us)
{
    assert(now_us > 0);
    for (; q->unsent; q->unsent = q->unsent->next)
        q->unsent->sent_us = now_us;
    while (q->out_sent < q->out_len) {
        ssize_t n = send(fd, q->out + q->out_sent, q->out_len - q->out_sent, MSG_NOSIGNAL);

        if (n >= 0)
            q->out_sent += (size_t)n;
        else if (errno == EWOULDBLOCK)
            return EAGAIN;
        else if (errno != EINTR)
            return errno;
    }
    q->out_len = q->out_sent = 0;
    return 0;
}

bool redis_queue_take(struct redis_queue *q, struct redis_queue_entry *out)
{
    struct redis_queue_entry *entry = q->first;

    if (!entry)
        return false;
    *out = *entry;
    q->first = entry->next;
    if (q->last == entry)
        q->last = NULL;
    if (q->unsent == entry)
        q->unsent = entry->next;
    free(entry);
    return true;
}

void redis_queue_drop_bytes(struct redis_queue *q)
{
    q->out_len = q->out_sent = 0;
    if (q->out_size > OUT_KEEP_BYTES) {
        free(q->out);
        q->out = NULL;
        q->out_size = 0;
    }
}

void redis_queue_clear(struct redis_queue *q)
{
    struct redis_queue_entry entry;

    while (redis_queue_take(q, &entry))
        continue;
    free(q->out);
    *q = (struct redis_queue){0};
}
