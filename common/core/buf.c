#include "common/core/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_SIZE_MIN = 128 };

static int buf_grow(struct buf *b, size_t more)
{
    size_t len = buf_len(b), size = b->size ? b->size : BUF_SIZE_MIN;

    /* Moving is cheap as long as it is at most as much as was consumed: amortized, each byte moves once. */
    if (b->head >= len && b->size >= len + more) {
        memmove(b->data, b->data + b->head, len);
        b->head = 0;
        b->tail = len;
        return 0;
    }
    /* One that is too full to be moved would soon be so again. */
    while (size < len + more || (b->head > 0 && size == b->size))
        size *= 2;
    char *data = malloc(size);
    if (!data)
        return ERR_NOMEM;
    if (len > 0)
        memcpy(data, b->data + b->head, len);
    free(b->data);
    b->data = data;
    b->size = size;
    b->head = 0;
    b->tail = len;
    return 0;
}

int buf_append(struct buf *b, const char *data, size_t len)
{
    assert(b->head <= b->tail && b->tail <= b->size);
    assert(data || len == 0);
    if (len == 0)
        return 0;
    if (b->size - b->tail < len) {
        int err = buf_grow(b, len);
        if (err)
            return err;
    }
    memcpy(b->data + b->tail, data, len);
    b->tail += len;
    return 0;
}

const char *buf_at(const struct buf *b, uint64_t at)
{
    assert(at >= b->start && at <= buf_end(b));
    assert(b->data);
    return b->data + b->head + (at - b->start);
}

void buf_consume(struct buf *b, size_t n)
{
    buf_consume_keep(b, n);
    if (buf_len(b) == 0)
        buf_free(b);
}

void buf_consume_keep(struct buf *b, size_t n)
{
    assert(n <= buf_len(b));
    b->head += n;
    b->start += n;
    if (b->head == b->tail)
        b->head = b->tail = 0;
}

void buf_skip(struct buf *b, uint64_t n)
{
    assert(buf_len(b) == 0);
    b->start += n;
}

void buf_cut(struct buf *b, uint64_t at)
{
    assert(at >= b->start && at <= buf_end(b));
    b->tail = b->head + (size_t)(at - b->start);
    if (b->head == b->tail)
        buf_free(b);
}

void buf_free(struct buf *b)
{
    uint64_t start = buf_end(b);

    free(b->data);
    *b = (struct buf){.start = start};
}
