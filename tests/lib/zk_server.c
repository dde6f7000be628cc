#include "tests/lib/zk_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { ZK_SERVER_START_MS = 60000, ZK_SERVER_ATTEMPTS = 5 };

struct zk_server {
    pid_t pid; /* 0: not running */
    uint16_t port;
    int id;             /* in its ensemble, from 1; 0: it stands alone */
    char ensemble[256]; /* configuration lines */
    char dir[64];
    char hosts[32];
};

static struct sockaddr_in zk_server_address(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

uint16_t zk_server_free_port(void)
{
    struct sockaddr_in a = zk_server_address(0);
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(close(fd), 0);
    return ntohs(a.sin_port);
}

static void zk_server_configure(const struct zk_server *s)
{
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/zoo.cfg", s->dir);
    f = fopen(path, "we");
    assert_non_null(f);
    (void)fprintf(f,
                  "tickTime=100\ndataDir=%s/data\nclientPort=%u\nclientPortAddress=127.0.0.1\n"
                  "maxClientCnxns=0\nmaxSessionTimeout=60000\nadmin.enableServer=false\n"
                  "4lw.commands.whitelist=*\n%s",
                  s->dir, s->port, s->ensemble);
    assert_int_equal(fclose(f), 0);
}

static void zk_server_exec(const struct zk_server *s)
{
    char config[128], log[128];
    int fd;

    (void)snprintf(config, sizeof(config), "%s/zoo.cfg", s->dir);
    (void)snprintf(log, sizeof(log), "%s/log", s->dir);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a crashed test leaves no server behind */
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    (void)execlp("java", "java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
                 "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar",
                 "org.apache.zookeeper.server.quorum.QuorumPeerMain", config, (char *)NULL);
    _exit(127);
}

/* Asks "srvr"; true once the answer says in which mode the server is. */
static bool zk_server_answers(const struct zk_server *s)
{
    struct sockaddr_in a = zk_server_address(s->port);
    struct timeval limit = {.tv_sec = 2};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[2048];
    size_t len = 0;
    ssize_t n;

    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && send(fd, "srvr", 4, MSG_NOSIGNAL) == 4) {
        while (len < sizeof(text) - 1 && (n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
            len += (size_t)n;
    }
    text[len] = '\0';
    (void)close(fd);
    return strstr(text, "Mode:") != NULL;
}

static void zk_server_fork(struct zk_server *s)
{
    zk_server_configure(s);
    (void)fflush(NULL);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0)
        zk_server_exec(s);
}

/* False when the process ended by itself: somebody else got the port first. */
static bool zk_server_serves(struct zk_server *s)
{
    int waited_ms = 0;

    while (!zk_server_answers(s)) {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            s->pid = 0;
            return false;
        }
        assert_true(waited_ms < ZK_SERVER_START_MS);
        (void)poll(NULL, 0, 20);
        waited_ms += 20;
    }
    return true;
}

static bool zk_server_launch(struct zk_server *s)
{
    zk_server_fork(s);
    return zk_server_serves(s);
}

static struct zk_server *zk_server_make(void)
{
    struct zk_server *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    (void)snprintf(s->dir, sizeof(s->dir), "%s/mr-test-zk-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(s->dir));
    return s;
}

struct zk_server *zk_server_start(void)
{
    struct zk_server *s = zk_server_make();

    for (int i = 0;; i++) {
        s->port = zk_server_free_port();
        if (zk_server_launch(s))
            break;
        assert_true(i < ZK_SERVER_ATTEMPTS);
    }
    (void)snprintf(s->hosts, sizeof(s->hosts), "127.0.0.1:%u", s->port);
    return s;
}

static void zk_server_write_id(const struct zk_server *s)
{
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/data", s->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/data/myid", s->dir);
    f = fopen(path, "we");
    assert_non_null(f);
    (void)fprintf(f, "%d\n", s->id);
    assert_int_equal(fclose(f), 0);
}

void zk_server_start_ensemble(struct zk_server *servers[ZK_SERVER_ENSEMBLE])
{
    char lines[256];
    int len = snprintf(lines, sizeof(lines), "initLimit=50\nsyncLimit=10\n");

    for (int i = 0; i < ZK_SERVER_ENSEMBLE; i++)
        len += snprintf(lines + len, sizeof(lines) - (size_t)len, "server.%d=127.0.0.1:%u:%u\n", i + 1,
                        zk_server_free_port(), zk_server_free_port());
    for (int i = 0; i < ZK_SERVER_ENSEMBLE; i++) {
        struct zk_server *s = servers[i] = zk_server_make();

        s->id = i + 1;
        s->port = zk_server_free_port();
        (void)snprintf(s->hosts, sizeof(s->hosts), "127.0.0.1:%u", s->port);
        memcpy(s->ensemble, lines, sizeof(lines));
        zk_server_write_id(s);
        zk_server_fork(s);
    }
    for (int i = 0; i < ZK_SERVER_ENSEMBLE; i++)
        assert_true(zk_server_serves(servers[i])); /* each needs the others to serve */
}

void zk_server_kill(struct zk_server *s)
{
    assert_true(s->pid > 0);
    assert_int_equal(kill(s->pid, SIGKILL), 0);
    assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
    s->pid = 0;
}

void zk_server_suspend(struct zk_server *s)
{
    assert_true(s->pid > 0);
    assert_int_equal(kill(s->pid, SIGSTOP), 0);
}

void zk_server_resume(struct zk_server *s)
{
    assert_true(s->pid > 0);
    assert_int_equal(kill(s->pid, SIGCONT), 0);
}

void zk_server_relaunch(struct zk_server *s)
{
    assert_int_equal(s->pid, 0);
    zk_server_fork(s);
}

void zk_server_restart(struct zk_server *s)
{
    assert_int_equal(s->pid, 0);
    assert_true(zk_server_launch(s));
}

static void zk_server_remove(const struct zk_server *s, const char *what)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf '%s%s'", s->dir, what);
    assert_int_equal(system(command), 0); // NOLINT: the path was made by mkdtemp
}

void zk_server_restart_empty(struct zk_server *s)
{
    zk_server_remove(s, "/data");
    zk_server_restart(s);
}

void zk_server_stop(struct zk_server *s)
{
    if (s == NULL)
        return;
    if (s->pid > 0)
        zk_server_kill(s);
    zk_server_remove(s, "");
    free(s);
}

const char *zk_server_hosts(const struct zk_server *s)
{
    return s->hosts;
}

uint16_t zk_server_port(const struct zk_server *s)
{
    return s->port;
}
