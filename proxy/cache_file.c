/*   touch ─► timer ─► text of the whole table ─► writer thread: write, fsync, rename ─► ev_async ─► written
 *              ▲                                                                                      │
 *              └──────────────────────────── touched again meanwhile ◄────────────────────────────────┘ */
#include "proxy/cache_file.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/core/route_table.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER "mr-proxy routes, version "

enum { VERSION = 1 };

struct cache_file {
    struct loop *loop;
    const char *path;
    const struct route_table *table;
    ev_timer delay;
    ev_async written;
    bool touched; /* not handed to the writer yet */
    bool writing; /* the writer thread runs */
    pthread_t writer;
    /* The writer's while it runs: */
    char *text;
    size_t len;
    int failed; /* errno of the last write; 0: fine */
};

/* ---- writing ------------------------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* The rename is durable only once its folder is; if that fails the old file is as good. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash && slash != path ? strndup(path, (size_t)(slash - path)) : strdup(slash ? "/" : ".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

/* Returns 0 or an errno. */
static int replace_file(const char *path, const char *text, size_t len)
{
    char *temporary = NULL;

    if (asprintf(&temporary, "%s.tmp", path) < 0)
        return ENOMEM;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int err = fd < 0 ? errno : 0;
    if (fd >= 0) {
        if (fchmod(fd, 0600) != 0 || write_all(fd, text, len) != 0 || fsync(fd) != 0)
            err = errno;
        if (close(fd) != 0 && err == 0)
            err = errno;
        if (err == 0 && rename(temporary, path) != 0)
            err = errno;
        if (err == 0)
            sync_folder(path);
        else
            (void)unlink(temporary);
    }
    free(temporary);
    return err;
}

static void *cache_file_write(void *ctx)
{
    struct cache_file *c = ctx;

    c->failed = replace_file(c->path, c->text, c->len);
    ev_async_send(loop_ev(c->loop), &c->written);
    return NULL;
}

/* The whole table as text in c->text; false: out of memory. */
static bool cache_file_render(struct cache_file *c)
{
    FILE *f = open_memstream(&c->text, &c->len);

    if (!f)
        return false;
    fprintf(f, HEADER "%d, %zu lines\n", VERSION, c->table->n);
    for (size_t i = 0; i < c->table->n; i++) {
        char line[MESSAGE_TEXT_MAX];
        struct message m;
        route_to_message(&c->table->entries[i]->route, &m);
        ssize_t len = message_encode(&m, line, sizeof(line));
        assert(len > 0);
        fprintf(f, "%s\n", line);
    }
    bool ok = !ferror(f);
    return fclose(f) == 0 && ok;
}

static void cache_file_report(const struct cache_file *c)
{
    if (c->failed != 0)
        log_warn("event=cache_file.not_written file=\"%s\" reason=\"%s\" say=\"after a restart without "
                 "ZooKeeper this proxy would serve older routes; mend it or change --cache-file\"",
                 c->path, strerror(c->failed));
    else
        log_debug("event=cache_file.written file=\"%s\" bytes=%zu", c->path, c->len);
}

static void cache_file_on_delay(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct cache_file *c = w->data;

    (void)ev;
    (void)revents;
    assert(!c->writing && c->touched);
    c->touched = false;
    if (!cache_file_render(c)) {
        c->failed = ENOMEM;
        cache_file_report(c);
        return;
    }
    c->writing = true;
    int err = pthread_create(&c->writer, NULL, cache_file_write, c);
    if (err == 0) /* from now on the writer's: text, len, failed */
        return;
    c->writing = false;
    c->failed = err;
    cache_file_report(c);
    free(c->text);
    c->text = NULL;
}

static void cache_file_arm(struct cache_file *c)
{
    if (c->writing || ev_is_active(&c->delay))
        return;
    ev_timer_set(&c->delay, CACHE_FILE_DELAY_MS / 1e3, 0);
    ev_timer_start(loop_ev(c->loop), &c->delay);
}

static void cache_file_join(struct cache_file *c)
{
    assert(c->writing);
    pthread_join(c->writer, NULL);
    c->writing = false;
    cache_file_report(c);
    free(c->text);
    c->text = NULL;
}

static void cache_file_on_written(struct ev_loop *ev, ev_async *w, int revents)
{
    struct cache_file *c = w->data;

    (void)ev;
    (void)revents;
    if (!c->writing)
        return;
    cache_file_join(c);
    if (c->touched)
        cache_file_arm(c);
}

void cache_file_touch(struct cache_file *c)
{
    c->touched = true;
    cache_file_arm(c);
}

int cache_file_open(struct cache_file **out, struct loop *loop, const char *path,
                    const struct route_table *table)
{
    struct cache_file *c = calloc(1, sizeof(*c));

    assert(loop && path && table);
    if (!c)
        return ERR_NOMEM;
    c->loop = loop;
    c->path = path;
    c->table = table;
    ev_timer_init(&c->delay, cache_file_on_delay, 0, 0);
    c->delay.data = c;
    ev_async_init(&c->written, cache_file_on_written);
    c->written.data = c;
    ev_async_start(loop_ev(loop), &c->written);
    *out = c;
    return 0;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

struct reader {
    struct route *routes;
    size_t n, expected;
    char *why;
    size_t why_size;
};

static int MR_PRINTF(3, 4) reader_fail(struct reader *r, int err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(r->why, r->why_size, fmt, args);
    va_end(args);
    return err;
}

static int read_header(struct reader *r, const char *line)
{
    int version = 0, end = 0;

    if (sscanf(line, HEADER "%9d, %9zu lines\n%n", &version, &r->expected, &end) < 2)
        return reader_fail(r, ERR_INVALID, "it does not begin with \"" HEADER "%d\"", VERSION);
    if (version > VERSION)
        return reader_fail(r, ERR_VERSION, "it was written by a newer proxy (version %d)", version);
    if (version < 1 || end == 0)
        return reader_fail(r, ERR_INVALID, "its first line is malformed");
    if (r->expected > CACHE_FILE_MAX / 64) /* more than fit the largest file */
        return reader_fail(r, ERR_TOO_LARGE, "it announces %zu routes", r->expected);
    r->routes = calloc(r->expected + 1, sizeof(*r->routes));
    return r->routes ? 0 : reader_fail(r, ERR_NOMEM, "out of memory");
}

static int read_route(struct reader *r, const char *line, size_t len)
{
    struct message m;

    if (r->n == r->expected)
        return reader_fail(r, ERR_INVALID, "it has more lines than its first line says");
    int err = message_decode(line, len, &m);
    if (err != 0 || (m.type != MESSAGE_ROUTE && m.type != MESSAGE_HOLD) || m.port == 0)
        return reader_fail(r, ERR_INVALID, "line %zu is not a route", r->n + 2);
    route_from_message(&m, NULL, &r->routes[r->n++]);
    return 0;
}

static int read_lines(struct reader *r, FILE *f)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t len = getline(&line, &room, f);
    int err = read_header(r, len > 0 ? line : "");

    while (err == 0 && (len = getline(&line, &room, f)) > 0)
        err = read_route(r, line, (size_t)len - (line[len - 1] == '\n' ? 1 : 0));
    if (err == 0 && ferror(f))
        err = reader_fail(r, ERR_IO, "%s", strerror(errno));
    if (err == 0 && r->n != r->expected)
        err =
            reader_fail(r, ERR_INVALID, "it has %zu lines less than its first line says", r->expected - r->n);
    free(line);
    return err;
}

int cache_file_read(const char *path, struct route **routes, size_t *n, char *why, size_t why_size)
{
    struct reader r = {.why = why, .why_size = why_size};
    struct stat st;

    *routes = NULL;
    *n = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return reader_fail(&r, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", strerror(errno));
    int err = 0;
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode))
        err = reader_fail(&r, ERR_IO, "it is no regular file");
    else if (st.st_size > CACHE_FILE_MAX)
        err = reader_fail(&r, ERR_TOO_LARGE, "it has %lld bytes", (long long)st.st_size);
    else
        err = read_lines(&r, f);
    fclose(f);
    if (err != 0) {
        free(r.routes);
        return err;
    }
    *routes = r.routes;
    *n = r.n;
    return 0;
}

void cache_file_close(struct cache_file *c)
{
    if (!c)
        return;
    ev_timer_stop(loop_ev(c->loop), &c->delay);
    if (c->writing)
        cache_file_join(c);
    ev_async_stop(loop_ev(c->loop), &c->written);
    if (c->touched && cache_file_render(c)) {
        c->failed = replace_file(c->path, c->text, c->len);
        cache_file_report(c);
        free(c->text);
    }
    free(c);
}
