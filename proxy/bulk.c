#include "proxy/bulk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { BULK_PIPE_SIZE = 1024 * 1024 }; /* counted in pages, most of which are used for a part only */

void bulk_open(struct bulk *b)
{
    int fds[2];

    b->is_open = pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0;
    if (!b->is_open)
        return;
    b->out = fds[0];
    b->in = fds[1];
    (void)fcntl(b->in, F_SETPIPE_SZ, BULK_PIPE_SIZE); /* a smaller one takes less at once */
}

void bulk_close(struct bulk *b)
{
    if (!b->is_open)
        return;
    close(b->in);
    close(b->out);
    b->is_open = false;
}

/* One piece, at most max bytes. */
static ssize_t bulk_pass_piece(const struct bulk *b, int from, int to, size_t max, char *rest, size_t *n_rest)
{
    ssize_t n = splice(from, NULL, b->in, NULL, max, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    size_t left;

    *n_rest = 0;
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? ERR_BUSY : ERR_CONNECTION;
    for (left = (size_t)n; left > 0;) {
        ssize_t wrote = splice(b->out, NULL, to, NULL, left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (wrote <= 0)
            break;
        left -= (size_t)wrote;
    }
    while (*n_rest < left) {
        ssize_t got = read(b->out, rest + *n_rest, left - *n_rest);
        assert(got > 0 || errno == EINTR); /* it is in the pipe */
        *n_rest += got > 0 ? (size_t)got : 0;
    }
    return n;
}

ssize_t bulk_pass(const struct bulk *b, int from, int to, size_t max, size_t piece, char *rest,
                  size_t *n_rest)
{
    size_t total = 0;
    ssize_t n = 1;

    assert(piece > 0 && piece <= BULK_PIECE);
    *n_rest = 0;
    for (int i = 0; i < BULK_PIECES && total < max && n > 0 && *n_rest == 0; i++) {
        n = bulk_pass_piece(b, from, to, max - total < piece ? max - total : piece, rest, n_rest);
        total += n > 0 ? (size_t)n : 0;
    }
    return total > 0 ? (ssize_t)total : n; /* of an end or error the next call tells again */
}
