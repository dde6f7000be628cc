#include "proxy/ports.h"

#include "proxy/net.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

struct ports {
    pthread_mutex_t mutex;
    uint16_t
        n_listening[UINT16_MAX + 1]; /* sockets of this process; memory that isn't touched costs nothing */
};

struct ports *ports_create(void)
{
    struct ports *p = calloc(1, sizeof(*p));

    if (p && pthread_mutex_init(&p->mutex, NULL) != 0) {
        free(p);
        return NULL;
    }
    return p;
}

void ports_free(struct ports *p)
{
    if (p)
        (void)pthread_mutex_destroy(&p->mutex);
    free(p);
}

static int ports_fail(int fd)
{
    int saved = errno;

    if (fd >= 0)
        close(fd);
    errno = saved;
    return -1;
}

/* A socket that is bound. */
static int ports_bind(const char *host, uint16_t port, bool shared)
{
    struct sockaddr_storage address;
    socklen_t len;
    int on = 1;

    if (net_address(host, port, &address, &len)) {
        errno = EINVAL;
        return -1;
    }
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        (!shared || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
        bind(fd, (const struct sockaddr *)&address, len) == 0)
        return fd;
    return ports_fail(fd);
}

static int ports_open(const char *host, uint16_t port, bool shared, int backlog)
{
    int fd = ports_bind(host, port, shared);

    return fd >= 0 && listen(fd, backlog) == 0 ? fd : ports_fail(fd);
}

/* Ours until it is closed, or until this process ends, however it does: no file is left behind. An abstract
 * name belongs to the network namespace, as the port does. */
static int ports_lock(uint16_t port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "mr-proxy listens on %u", (unsigned)port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && bind(fd, (const struct sockaddr *)&name,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) == 0)
        return fd;
    return ports_fail(fd);
}

/* The first one of this process. Between the look and listen() no other proxy looks. */
static int ports_open_first(const char *host, uint16_t port, int backlog)
{
    int lock = ports_lock(port), fd = -1;

    if (lock < 0)
        return -1;
    /* Without SO_REUSEPORT, so whoever listens there is in the way. */
    int look = ports_bind(host, port, false);
    if (look >= 0) {
        close(look);
        fd = ports_open(host, port, true, backlog);
    }
    (void)ports_fail(lock); /* errno stays */
    return fd;
}

int ports_listen(struct ports *p, const char *host, uint16_t port, int backlog)
{
    int fd;

    if (!p)
        return ports_open(host, port, false, backlog);
    (void)pthread_mutex_lock(&p->mutex);
    if (p->n_listening[port] == 0)
        fd = ports_open_first(host, port, backlog);
    else
        fd = ports_open(host, port, true, backlog);
    p->n_listening[port] += fd >= 0;
    (void)pthread_mutex_unlock(&p->mutex);
    return fd;
}

void ports_leave(struct ports *p, uint16_t port, int fd)
{
    if (!p) {
        close(fd);
        return;
    }
    (void)pthread_mutex_lock(&p->mutex);
    assert(p->n_listening[port] > 0);
    p->n_listening[port]--;
    close(fd);
    (void)pthread_mutex_unlock(&p->mutex);
}
