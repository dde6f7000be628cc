/* Small reads or writes of many sockets in one system call, where the kernel has io_uring and lets us use it.
 *
 *   items ──► submission queue ──io_uring_enter()──► each tried at once, none waits ──► items[].result
 *
 * Nothing is ever left under way: the sockets are polled for as before, and what io_uring does is a system
 * call for each of them less. To enter and to leave the kernel can cost half as much as a small send() itself
 * (README, "The data path, beside HAProxy and nutcracker"). Where there is no io_uring
 * (kernel.io_uring_disabled, a container's seccomp profile, --no-io-uring) the same is done one by one. */
#ifndef MR_PROXY_BATCH_H
#define MR_PROXY_BATCH_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct batch;

enum { BATCH_MAX = 32 };

struct batch_item {
    int fd;         /* of a socket that doesn't block */
    char *data;     /* written from: not changed */
    size_t len;     /* > 0 */
    ssize_t result; /* as of net_read() or net_write() */
};

/* One a thread. NULL: there is no io_uring, *why is errno. */
struct batch *batch_open(int *why);
void batch_close(struct batch *b); /* NULL: nothing happens */
/* n of them, up to BATCH_MAX, each of another socket. b NULL: one by one. True: in one system call. */
bool batch_read(struct batch *b, struct batch_item *items, int n);
bool batch_write(struct batch *b, struct batch_item *items, int n);

#endif
