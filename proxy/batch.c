#include "proxy/batch.h"

#include "common/log.h"
#include "proxy/net.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Not answered yet. */
#define BATCH_OPEN ((ssize_t)INT_MIN)

struct batch {
    struct io_uring ring;
    bool is_off; /* the kernel refused what it took before */
};

struct batch *batch_open(int *why)
{
    struct batch *b = calloc(1, sizeof(*b));
    int err = b ? io_uring_queue_init(BATCH_MAX, &b->ring, 0) : -ENOMEM;

    if (err == 0)
        return b;
    *why = -err;
    free(b);
    return NULL;
}

void batch_close(struct batch *b)
{
    if (!b)
        return;
    io_uring_queue_exit(&b->ring);
    free(b);
}

/* What the kernel answered, in the terms of net.h. */
static ssize_t batch_result(int answer)
{
    if (answer == -EAGAIN || answer == -EINTR)
        return ERR_BUSY;
    return answer < 0 ? ERR_CONNECTION : answer;
}

/* Those that are answered by now. */
static int batch_collect(struct batch *b, struct batch_item *items, int n)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    int answered = 0;

    io_uring_for_each_cqe(&b->ring, head, cqe)
    {
        uint64_t k = io_uring_cqe_get_data64(cqe);
        assert(k < (uint64_t)n);
        items[k].result = batch_result(cqe->res);
        answered++;
    }
    io_uring_cq_advance(&b->ring, (unsigned)answered);
    return answered;
}

/* They were told not to wait, so the kernel answers all of them at once; and if ever it doesn't, their memory
 * and sockets must not be touched before it has. */
static void batch_run(struct batch *b, struct batch_item *items, int n)
{
    int submitted = 0, answered = 0, got;

    while (answered < n) {
        got = submitted < n ? io_uring_submit(&b->ring)
                            : io_uring_submit_and_wait(&b->ring, (unsigned)(n - answered));
        submitted += got > 0 ? got : 0;
        answered += batch_collect(b, items, n);
        if (got >= 0 || got == -EINTR)
            continue;
        assert(submitted == answered);
        b->is_off = true;
        log_warn(
            "event=batch.off reason=\"%s\" say=\"io_uring is not used any more: one system call for each "
            "socket\"",
            strerror(-got));
        return;
    }
}

static void batch_one(struct batch_item *item, bool write)
{
    struct buf_span span = {item->data, item->len};

    item->result = write ? net_write(item->fd, &span, 1) : net_read(item->fd, item->data, item->len);
}

static bool batch_all(struct batch *b, struct batch_item *items, int n, bool write)
{
    bool together = b && !b->is_off && n > 1; /* one alone is quicker without */

    assert(n >= 0 && n <= BATCH_MAX);
    for (int k = 0; k < n; k++)
        items[k].result = BATCH_OPEN;
    for (int k = 0; together && k < n; k++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&b->ring);
        const struct batch_item *item = &items[k];
        assert(sqe && item->len > 0);
        if (write)
            io_uring_prep_send(sqe, item->fd, item->data, item->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
            io_uring_prep_recv(sqe, item->fd, item->data, item->len, MSG_DONTWAIT);
        io_uring_sqe_set_data64(sqe, (uint64_t)k);
    }
    if (together)
        batch_run(b, items, n);
    for (int k = 0; k < n; k++)
        if (items[k].result == BATCH_OPEN)
            batch_one(&items[k], write);
    return together && !b->is_off;
}

bool batch_read(struct batch *b, struct batch_item *items, int n)
{
    return batch_all(b, items, n, false);
}

bool batch_write(struct batch *b, struct batch_item *items, int n)
{
    return batch_all(b, items, n, true);
}
