/* A queue of bytes that owns memory only while it holds something, unless told otherwise. Pure.
 *
 * Bytes are appended at the end and consumed at the front; every byte has an absolute offset that never
 * changes (buf_start() is the front's), so that others may keep places in the stream. */
#ifndef MR_COMMON_CORE_BUF_H
#define MR_COMMON_CORE_BUF_H

#include "common/core/err.h"

#include <stddef.h>
#include <stdint.h>

/* All zeroes is an empty buffer. */
struct buf {
    char *data; /* NULL: it owns none */
    size_t head, tail, size;
    uint64_t start; /* absolute offset of data[head] */
};

/* A borrowed range of bytes. */
struct buf_span {
    const char *data;
    size_t len;
};

static inline size_t buf_len(const struct buf *b)
{
    return b->tail - b->head;
}

static inline uint64_t buf_start(const struct buf *b)
{
    return b->start;
}

static inline uint64_t buf_end(const struct buf *b)
{
    return b->start + buf_len(b);
}

/* Copies len bytes to the end; ERR_NOMEM (then nothing was added). */
int buf_append(struct buf *b, const char *data, size_t len) MR_MUST_CHECK;
/* The bytes from absolute offset `at` on; borrowed until the next append, consume, cut or free. */
const char *buf_at(const struct buf *b, uint64_t at);
/* Drops n bytes at the front. */
void buf_consume(struct buf *b, size_t n);
/* The same, but an empty one keeps its memory, until buf_free(): for one that is soon filled again. */
void buf_consume_keep(struct buf *b, size_t n);
/* Moves the offsets of an empty buffer on by n: bytes that went another way. */
void buf_skip(struct buf *b, uint64_t n);
/* Drops everything from absolute offset `at` on. */
void buf_cut(struct buf *b, uint64_t at);
/* Drops everything; offsets go on. */
void buf_free(struct buf *b);

#endif
