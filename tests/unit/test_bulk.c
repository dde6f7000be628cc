/* Bytes from one socket to another: in pieces, so many a call, and what can't be written comes back. */
#include "proxy/bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { MUCH = 2 * BULK_PIECES * BULK_PIECE };

/* from[0] ─► from[1] ─bulk─► to[0] ─► to[1] */
struct ways {
    struct bulk bulk;
    int from[2], to[2];
    char *sent, *got;
    size_t n_sent, n_got;
    char rest[BULK_PIECE];
};

static void not_blocking(const int fds[2])
{
    for (int i = 0; i < 2; i++)
        assert_int_equal(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
}

static int set_up(void **state)
{
    struct ways *w = calloc(1, sizeof(*w));
    int size = MUCH;

    assert_non_null(w);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, w->from), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, w->to), 0);
    assert_int_equal(setsockopt(w->from[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    not_blocking(w->from);
    not_blocking(w->to);
    w->sent = malloc(MUCH);
    w->got = malloc(MUCH);
    assert_true(w->sent && w->got);
    for (size_t i = 0; i < MUCH; i++)
        w->sent[i] = (char)(i * 7 + i / 253);
    bulk_open(&w->bulk);
    assert_true(w->bulk.is_open);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct ways *w = *state;

    bulk_close(&w->bulk);
    assert_false(w->bulk.is_open);
    for (int i = 0; i < 2; i++) {
        close(w->from[i]);
        close(w->to[i]);
    }
    free(w->sent);
    free(w->got);
    free(w);
    return 0;
}

/* As much of n bytes as there is room for. */
static size_t sends(struct ways *w, size_t n)
{
    ssize_t wrote = write(w->from[0], w->sent + w->n_sent, n);

    assert_true(wrote > 0);
    w->n_sent += (size_t)wrote;
    return (size_t)wrote;
}

/* All that has arrived. */
static void receives(struct ways *w)
{
    ssize_t n;

    while ((n = read(w->to[1], w->got + w->n_got, MUCH - w->n_got)) > 0)
        w->n_got += (size_t)n;
}

static void test_all_that_is_there_goes_in_pieces(void **state)
{
    struct ways *w = *state;
    size_t n_rest = 1, n = sends(w, BULK_PIECE + 1000);

    assert_int_equal(bulk_pass(&w->bulk, w->from[1], w->to[0], MUCH, 10000, w->rest, &n_rest), n);
    assert_int_equal(n_rest, 0);
    receives(w);
    assert_int_equal(w->n_got, n);
    assert_memory_equal(w->got, w->sent, n);
    assert_int_equal(bulk_pass(&w->bulk, w->from[1], w->to[0], MUCH, 10000, w->rest, &n_rest), ERR_BUSY);
    assert_int_equal(n_rest, 0);
}

static void test_no_more_than_is_asked_for(void **state)
{
    struct ways *w = *state;
    size_t n_rest;

    (void)sends(w, 40000);
    assert_int_equal(bulk_pass(&w->bulk, w->from[1], w->to[0], 12345, 10000, w->rest, &n_rest), 12345);
    assert_int_equal(n_rest, 0);
    assert_int_equal(bulk_pass(&w->bulk, w->from[1], w->to[0], MUCH, 1000, w->rest, &n_rest),
                     BULK_PIECES * 1000);
}

static void test_what_finds_no_room_comes_back(void **state)
{
    struct ways *w = *state;
    size_t n_rest = 0, n_kept = 0;

    /* Nobody reads, so there is an end of the room. */
    for (int i = 0; n_rest == 0; i++) {
        assert_in_range(i, 0, 1000);
        (void)sends(w, BULK_PIECE);
        ssize_t n = bulk_pass(&w->bulk, w->from[1], w->to[0], MUCH, BULK_PIECE, w->rest, &n_rest);
        assert_true(n > 0 && n_rest <= (size_t)n);
        n_kept += (size_t)n - n_rest;
    }
    receives(w);
    assert_int_equal(w->n_got, n_kept);
    assert_memory_equal(w->got, w->sent, n_kept);
    assert_memory_equal(w->rest, w->sent + n_kept, n_rest);
    assert_int_equal(read(w->bulk.out, w->rest, 1),
                     -1); /* the pipe is empty: the next use of it begins anew */
    assert_int_equal(errno, EAGAIN);
}

static void test_ends_are_told_when_all_has_gone(void **state)
{
    struct ways *w = *state;
    size_t n_rest;

    (void)sends(w, 5000);
    assert_int_equal(shutdown(w->from[0], SHUT_WR), 0);
    assert_int_equal(bulk_pass(&w->bulk, w->from[1], w->to[0], MUCH, BULK_PIECE, w->rest, &n_rest), 5000);
    assert_int_equal(bulk_pass(&w->bulk, w->from[1], w->to[0], MUCH, BULK_PIECE, w->rest, &n_rest), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_that_is_there_goes_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_more_than_is_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_finds_no_room_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends_are_told_when_all_has_gone, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
