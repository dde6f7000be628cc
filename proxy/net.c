#include "proxy/net.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    NET_KEEPALIVE_S = 5,
    NET_KEEPALIVE_INTERVAL_S = 2,
    NET_KEEPALIVE_PROBES = 3,
    NET_SPANS_MAX = 16,
    NET_UNSENT_BYTES = 16 * 1024
};

int net_address(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *len = sizeof(*v4);
        return 0;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *len = sizeof(*v6);
        return 0;
    }
    return ERR_INVALID;
}

static void net_set(int fd, int level, int option, int value)
{
    /* A hint to the kernel: when it is refused the connection still works. */
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

void net_tune(int fd)
{
    net_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    net_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    net_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, NET_KEEPALIVE_S);
    net_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, NET_KEEPALIVE_INTERVAL_S);
    net_set(fd, IPPROTO_TCP, TCP_KEEPCNT, NET_KEEPALIVE_PROBES);
}

void net_keep_little(int fd)
{
    net_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NET_UNSENT_BYTES);
}

/* Both ends have the same IP address. */
static bool net_is_here(int fd)
{
    struct sockaddr_storage us = {0}, them = {0};
    socklen_t us_len = sizeof(us), them_len = sizeof(them);

    if (getsockname(fd, (struct sockaddr *)&us, &us_len) != 0 ||
        getpeername(fd, (struct sockaddr *)&them, &them_len) != 0 || us.ss_family != them.ss_family)
        return false;
    if (us.ss_family == AF_INET)
        return ((struct sockaddr_in *)&us)->sin_addr.s_addr == ((struct sockaddr_in *)&them)->sin_addr.s_addr;
    return us.ss_family == AF_INET6 &&
           memcmp(&((struct sockaddr_in6 *)&us)->sin6_addr, &((struct sockaddr_in6 *)&them)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

int net_processor(int fd)
{
    int processor = -1;
    socklen_t len = sizeof(processor);

    if (!net_is_here(fd) || getsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &processor, &len) != 0)
        return -1;
    return processor;
}

static ssize_t net_error(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? ERR_BUSY : ERR_CONNECTION;
}

ssize_t net_read(int fd, char *to, size_t size)
{
    ssize_t n = recv(fd, to, size, 0);

    return n >= 0 ? n : net_error();
}

ssize_t net_write(int fd, const struct buf_span *spans, int n)
{
    struct iovec iov[NET_SPANS_MAX];
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)n};

    assert(n > 0 && n <= NET_SPANS_MAX);
    for (int i = 0; i < n; i++)
        iov[i] = (struct iovec){.iov_base = (void *)spans[i].data, .iov_len = spans[i].len};
    ssize_t wrote =
        n == 1 ? send(fd, spans[0].data, spans[0].len, MSG_NOSIGNAL) : sendmsg(fd, &message, MSG_NOSIGNAL);
    return wrote >= 0 ? wrote : net_error();
}

void net_watch(struct ev_loop *ev, ev_io *io, int events)
{
    int now = ev_is_active(io) ? io->events & (EV_READ | EV_WRITE) : 0;

    if (now == events)
        return;
    ev_io_stop(ev, io);
    if (events == 0)
        return;
    ev_io_set(io, io->fd, events);
    ev_io_start(ev, io);
}
