#include "tests/lib/redis_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SERVERS_MAX = 16, ARGS_MAX = 40, START_TRIES = 5, START_POLLS = 4000, POLL_US = 5000 };

static struct redis_server *servers[SERVERS_MAX];

static void fail(const char *what)
{
    (void)fprintf(stderr, "redis_server: %s: %s\n", what, strerror(errno));
    exit(1); /* not abort(): the other servers and folders go with stop_all() */
}

/* A socket bound to a port of the kernel's choice. SO_REUSEADDR lets a redis-server listen there all the same
 * (it sets it too), while the kernel gives the port to nobody else. */
static int reserve(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int on = 1;
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&a, len) != 0 || getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        fail("free port");
    *port = ntohs(a.sin_port);
    return fd;
}

uint16_t redis_server_free_port(void)
{
    uint16_t port;

    close(reserve(&port));
    return port;
}

static void run(const struct redis_server *s, const char *const *extra)
{
    char port[8];
    const char *argv[ARGS_MAX] = {"redis-server",
                                  "--port",
                                  port,
                                  "--bind",
                                  "127.0.0.1",
                                  "--dir",
                                  s->dir,
                                  "--save",
                                  "",
                                  "--appendonly",
                                  "no",
                                  "--repl-diskless-sync-delay",
                                  "0",
                                  "--logfile",
                                  "log"};
    size_t n = 15;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)snprintf(port, sizeof port, "%d", s->address.port);
    for (size_t i = 0; extra && extra[i] && n < ARGS_MAX - 1; i++)
        argv[n++] = extra[i];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a crashed test leaves no server behind */
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

static bool is_answering(const struct redis_server *s)
{
    redisReply *reply = redis_server_command(s, "PING");
    bool yes = reply != NULL;

    freeReplyObject(reply);
    return yes;
}

/* False when the process ended instead (somebody took the port meanwhile). */
static bool start(struct redis_server *s, const char *const *extra)
{
    const struct timespec pause = {.tv_nsec = POLL_US * 1000L};

    s->pid = fork();
    if (s->pid < 0)
        fail("fork");
    if (s->pid == 0)
        run(s, extra);
    for (int i = 0; i < START_POLLS; i++) {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            s->pid = 0;
            return false;
        }
        if (is_answering(s))
            return true;
        (void)nanosleep(&pause, NULL);
    }
    fail("redis-server does not answer");
    return false;
}

static void stop_all(void)
{
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (servers[i])
            redis_server_stop(servers[i]);
}

struct redis_server *redis_server_start(const char *const *extra)
{
    static bool registered;
    struct redis_server *s = calloc(1, sizeof *s);
    size_t slot = 0;

    if (!registered)
        (void)atexit(stop_all);
    registered = true;
    while (slot < SERVERS_MAX && servers[slot])
        slot++;
    if (!s || slot == SERVERS_MAX)
        fail("too many servers");
    (void)snprintf(s->dir, sizeof s->dir, "%s/mr-redis-test.XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(s->dir))
        fail(s->dir);
    servers[slot] = s;
    (void)snprintf(s->address.host, sizeof s->address.host, "127.0.0.1");
    for (int i = 0; i < START_TRIES; i++) {
        s->reserved = reserve(&s->address.port);
        if (start(s, extra))
            return s;
        close(s->reserved);
    }
    fail("redis-server does not start");
    return NULL;
}

void redis_server_restart(struct redis_server *s, const char *const *extra)
{
    if (s->pid)
        redis_server_kill(s, SIGTERM);
    if (!start(s, extra))
        fail("redis-server does not start again");
}

void redis_server_suspend(const struct redis_server *s)
{
    if (s->pid == 0 || kill(s->pid, SIGSTOP) != 0)
        fail("redis-server can't be suspended");
}

void redis_server_resume(const struct redis_server *s)
{
    if (s->pid == 0 || kill(s->pid, SIGCONT) != 0)
        fail("redis-server can't be resumed");
}

void redis_server_kill(struct redis_server *s, int signum)
{
    if (s->pid == 0)
        return;
    (void)kill(s->pid, signum);
    while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    s->pid = 0;
}

static int on_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void redis_server_stop(struct redis_server *s)
{
    redis_server_kill(s, SIGKILL);
    close(s->reserved);
    (void)nftw(s->dir, on_entry, 8, FTW_DEPTH | FTW_PHYS);
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (servers[i] == s)
            servers[i] = NULL;
    free(s);
}

static redisReply *command(const struct redis_server *s, const char *fmt, va_list ap)
{
    const struct timeval limit = {.tv_sec = 5};
    redisContext *c = redisConnectWithTimeout(s->address.host, s->address.port, limit);
    redisReply *reply = NULL;

    if (c && !c->err && redisSetTimeout(c, limit) == REDIS_OK)
        reply = redisvCommand(c, fmt, ap);
    redisFree(c);
    return reply;
}

redisReply *redis_server_command(const struct redis_server *s, const char *fmt, ...)
{
    va_list ap;
    redisReply *reply;

    va_start(ap, fmt);
    reply = command(s, fmt, ap);
    va_end(ap);
    return reply;
}

void redis_server_do(const struct redis_server *s, const char *fmt, ...)
{
    va_list ap;
    redisReply *reply;

    va_start(ap, fmt);
    reply = command(s, fmt, ap);
    va_end(ap);
    if (!reply || reply->type == REDIS_REPLY_ERROR) {
        errno = EPROTO;
        fail(reply ? reply->str : fmt);
    }
    freeReplyObject(reply);
}

const char *redis_server_info(const struct redis_server *s, const char *field)
{
    static char value[128];
    redisReply *reply = redis_server_command(s, "INFO");
    const char *at = reply && reply->type == REDIS_REPLY_STRING ? reply->str : "";
    size_t len = strlen(field);

    value[0] = '\0';
    while (*at) {
        size_t line = strcspn(at, "\r\n");

        if (line > len && strncmp(at, field, len) == 0 && at[len] == ':') {
            (void)snprintf(value, sizeof value, "%.*s", (int)(line - len - 1), at + len + 1);
            break;
        }
        at += line;
        at += strspn(at, "\r\n");
    }
    freeReplyObject(reply);
    return value;
}

const char *redis_server_config(const struct redis_server *s, const char *setting)
{
    static char value[128];
    redisReply *reply = redis_server_command(s, "CONFIG GET %s", setting);

    value[0] = '\0';
    if (reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2)
        (void)snprintf(value, sizeof value, "%s", reply->element[1]->str);
    freeReplyObject(reply);
    return value;
}
