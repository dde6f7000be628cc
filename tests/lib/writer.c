#include "tests/lib/writer.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    KINDS_MAX = 12,
    KIND_LEN = 23,
    KEY_LEN = 64,
    ORDER_LEN = 255,
    BATCH = 500,           /* keys of one MGET */
    VERIFY_MS = 60 * 1000, /* a verification's answers; the first may wait for a held route */
};

struct tally {
    int64_t begin_us;
    uint64_t writes;
    int64_t outage_us, outage_begin_us, outage_end_us, second_us;
    uint64_t reconnects;
    int n_kinds;
    struct {
        char name[KIND_LEN + 1];
        uint64_t n;
    } kinds[KINDS_MAX];
};

struct writer {
    const struct writer_config *config;
    redisContext *conn;
    bool connected_once, stopping;
    char prefix[32];
    uint64_t next;     /* number of the next write */
    uint8_t *acked;    /* one bit per write */
    size_t acked_size; /* bytes */
    int64_t last_ok_us;
    struct tally round, total;
    char order[ORDER_LEN + 1]; /* what of the next line has come */
    size_t order_len;
};

int64_t writer_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct redisContext *writer_dial(const char *host, int port, int timeout_ms)
{
    const struct timeval timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000L};
    redisContext *conn = redisConnectWithTimeout(host, port, timeout);
    if (conn == NULL || conn->err != 0 || redisSetTimeout(conn, timeout) != REDIS_OK) {
        redisFree(conn);
        return NULL;
    }
    return conn;
}

int writer_parse_address(const char *text, char *host, int size, int *port)
{
    assert(host != NULL && port != NULL && size > 0);
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || colon - text >= size)
        return ERR_INVALID;
    char *end;
    const long number = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || number < 1 || number > 65535)
        return ERR_INVALID;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    *port = (int)number;
    return 0;
}

void writer_process_init(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1UL);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* ---- the account ----------------------------------------------------------------------------------------
 */

static void tally_error(struct tally *t, const char *text)
{
    const size_t word = strcspn(text, " \r\n");
    const size_t len = word < KIND_LEN ? word : KIND_LEN;
    int i = 0;
    while (i < t->n_kinds && (strncmp(t->kinds[i].name, text, len) != 0 || t->kinds[i].name[len] != '\0'))
        i++;
    if (i == KINDS_MAX) {
        t->kinds[KINDS_MAX - 1].n++; /* more kinds than anybody will read: the last one collects them */
        return;
    }
    if (i == t->n_kinds) {
        t->n_kinds++;
        snprintf(t->kinds[i].name, sizeof t->kinds[i].name, "%.*s", (int)len, text);
    }
    t->kinds[i].n++;
}

static void tally_ok(struct tally *t, int64_t previous_us, int64_t now_us)
{
    assert(previous_us <= now_us);
    t->writes++;
    const int64_t gap_us = now_us - previous_us;
    if (gap_us <= t->outage_us) {
        t->second_us = gap_us > t->second_us ? gap_us : t->second_us;
        return;
    }
    t->second_us = t->outage_us;
    t->outage_us = gap_us;
    t->outage_begin_us = previous_us;
    t->outage_end_us = now_us;
}

static void writer_count_error(struct writer *w, const char *text)
{
    tally_error(&w->round, text);
    tally_error(&w->total, text);
}

static json_t *tally_errors_json(const struct tally *t)
{
    json_t *errors = json_object();
    for (int i = 0; i < t->n_kinds; i++)
        json_object_set_new(errors, t->kinds[i].name, json_integer((json_int_t)t->kinds[i].n));
    return errors;
}

static void print_json(json_t *object)
{
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text != NULL)
        puts(text);
    free(text);
    json_decref(object);
}

static void tally_print(const struct tally *t, const char *event)
{
    print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "event", event, "begin_us",
                         (json_int_t)t->begin_us, "end_us", (json_int_t)writer_now_us(), "writes",
                         (json_int_t)t->writes, "outage_us", (json_int_t)t->outage_us, "outage_begin_us",
                         (json_int_t)t->outage_begin_us, "outage_end_us", (json_int_t)t->outage_end_us,
                         "second_us", (json_int_t)t->second_us, "reconnects", (json_int_t)t->reconnects,
                         "errors", tally_errors_json(t)));
}

/* "outage the client saw: 2.4 ms, errors: 1 (MRUNKNOWN 1), reconnects: 0" */
static void tally_print_text(const struct tally *t)
{
    uint64_t n = 0;
    for (int i = 0; i < t->n_kinds; i++)
        n += t->kinds[i].n;
    printf("outage the client saw: %.1f ms, errors: %llu", (double)t->outage_us / 1000.0,
           (unsigned long long)n);
    for (int i = 0; i < t->n_kinds; i++)
        printf("%s%s %llu%s", i == 0 ? " (" : ", ", t->kinds[i].name, (unsigned long long)t->kinds[i].n,
               i == t->n_kinds - 1 ? ")" : "");
    printf(", reconnects: %llu\n", (unsigned long long)t->reconnects);
}

/* ---- one write ------------------------------------------------------------------------------------------
 */

/* Remembers that write number n was acknowledged; a bench without its record is worthless, so: or exits. */
static void writer_record(struct writer *w, uint64_t n)
{
    if (n / 8 >= w->acked_size) {
        const size_t size = w->acked_size == 0 ? 4096 : w->acked_size * 2;
        uint8_t *grown = realloc(w->acked, size);
        if (grown == NULL) {
            fprintf(stderr, "%s: out of memory after %llu writes\n", w->config->program,
                    (unsigned long long)n);
            exit(1);
        }
        memset(grown + w->acked_size, 0, size - w->acked_size);
        w->acked = grown;
        w->acked_size = size;
    }
    w->acked[n / 8] |= (uint8_t)(1U << (n % 8));
}

static bool writer_was_acked(const struct writer *w, uint64_t n)
{
    return n / 8 < w->acked_size && (w->acked[n / 8] >> (n % 8) & 1) != 0;
}

static void writer_drop(struct writer *w)
{
    redisFree(w->conn);
    w->conn = NULL;
}

static void writer_note_broken(struct writer *w)
{
    const bool timed_out = w->conn->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK);
    writer_count_error(w, w->conn->err == REDIS_ERR_PROTOCOL ? "PROTOCOL" : timed_out ? "TIMEOUT" : "CLOSED");
    writer_drop(w);
}

/* True when the write was acknowledged. */
static bool writer_write(struct writer *w)
{
    char key[KEY_LEN], value[24];
    snprintf(key, sizeof key, "%s:%llu", w->prefix, (unsigned long long)w->next);
    snprintf(value, sizeof value, "%llu", (unsigned long long)w->next);
    const char *argv[] = {"SET", key, value};
    redisReply *reply = redisCommandArgv(w->conn, 3, argv, NULL);
    const uint64_t n = w->next++;
    if (reply == NULL) {
        writer_note_broken(w);
        return false;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        const bool leave = w->config->leave_readonly && strncmp(reply->str, "READONLY", 8) == 0;
        writer_count_error(w, reply->str);
        freeReplyObject(reply);
        if (leave)
            writer_drop(w);
        return false;
    }
    freeReplyObject(reply);
    const int64_t now_us = writer_now_us();
    const int64_t previous_us = w->last_ok_us != 0 ? w->last_ok_us : now_us;
    tally_ok(&w->round, previous_us, now_us);
    tally_ok(&w->total, previous_us, now_us);
    w->last_ok_us = now_us;
    writer_record(w, n);
    return true;
}

static bool writer_connect(struct writer *w)
{
    w->conn = w->config->connect(w->config->ctx);
    if (w->conn == NULL)
        return false;
    if (w->connected_once) {
        w->round.reconnects++;
        w->total.reconnects++;
    }
    w->connected_once = true;
    return true;
}

/* ---- verification ---------------------------------------------------------------------------------------
 */

struct verification {
    uint64_t acknowledged, missing;
    int64_t first_missing; /* number of the write; -1: none */
    char error[128];       /* why it could not be finished; "": it was */
};

static void verify_batch(struct writer *w, redisContext *conn, const uint64_t *numbers, int n,
                         struct verification *v)
{
    char keys[BATCH][KEY_LEN], value[24];
    const char *argv[BATCH + 1] = {"MGET"};
    for (int i = 0; i < n; i++) {
        snprintf(keys[i], sizeof keys[i], "%s:%llu", w->prefix, (unsigned long long)numbers[i]);
        argv[i + 1] = keys[i];
    }
    redisReply *reply = redisCommandArgv(conn, n + 1, argv, NULL);
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != (size_t)n) {
        snprintf(v->error, sizeof v->error, "%s",
                 reply == NULL                      ? conn->errstr
                 : reply->type == REDIS_REPLY_ERROR ? reply->str
                                                    : "not an answer to MGET");
        freeReplyObject(reply);
        return;
    }
    for (int i = 0; i < n; i++) {
        snprintf(value, sizeof value, "%llu", (unsigned long long)numbers[i]);
        const redisReply *got = reply->element[i];
        if (got->type == REDIS_REPLY_STRING && strcmp(got->str, value) == 0)
            continue;
        v->missing++;
        if (v->first_missing < 0)
            v->first_missing = (int64_t)numbers[i];
    }
    freeReplyObject(reply);
}

static void writer_verify(struct writer *w, redisContext *conn, struct verification *v)
{
    *v = (struct verification){.first_missing = -1};
    if (conn == NULL) {
        snprintf(v->error, sizeof v->error, "no connection");
        return;
    }
    uint64_t numbers[BATCH];
    int n = 0;
    for (uint64_t number = 0; number < w->next && v->error[0] == '\0'; number++) {
        if (!writer_was_acked(w, number))
            continue;
        v->acknowledged++;
        numbers[n++] = number;
        if (n == BATCH) {
            verify_batch(w, conn, numbers, n, v);
            n = 0;
        }
    }
    if (n > 0 && v->error[0] == '\0')
        verify_batch(w, conn, numbers, n, v);
}

static void verification_print(const struct verification *v)
{
    print_json(json_pack("{s:s, s:I, s:I, s:I, s:s}", "event", "verified", "acknowledged",
                         (json_int_t)v->acknowledged, "missing", (json_int_t)v->missing, "first_missing",
                         (json_int_t)v->first_missing, "error", v->error));
}

/* ---- orders ---------------------------------------------------------------------------------------------
 */

static void order_verify(struct writer *w, const char *address)
{
    char host[64];
    int port = 0;
    redisContext *conn = NULL;
    if (*address == '\0')
        conn = w->config->connect(w->config->ctx);
    else if (writer_parse_address(address, host, sizeof host, &port) == 0)
        conn = writer_dial(host, port, VERIFY_MS);
    struct verification v;
    writer_verify(w, conn, &v);
    redisFree(conn);
    verification_print(&v);
    w->last_ok_us = writer_now_us(); /* the pause was ours */
}

static void writer_obey(struct writer *w, const char *order)
{
    if (strcmp(order, "begin") == 0) {
        w->round = (struct tally){.begin_us = writer_now_us()};
        print_json(json_pack("{s:s, s:I}", "event", "begun", "at_us", (json_int_t)w->round.begin_us));
    } else if (strcmp(order, "end") == 0) {
        tally_print(&w->round, "round");
    } else if (strncmp(order, "verify", 6) == 0) {
        order_verify(w, order + 6 + strspn(order + 6, " "));
    } else if (strcmp(order, "quit") == 0) {
        w->stopping = true;
    } else {
        fprintf(stderr, "%s: unknown order \"%s\" (begin, end, verify [HOST:PORT], quit)\n",
                w->config->program, order);
    }
}

/* Waits up to the gap for bytes on stdin and takes them in; false when stdin ended. */
static bool writer_listen(struct writer *w, int wait_us)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    const struct timespec wait = {wait_us / 1000000, (wait_us % 1000000) * 1000L};
    if (ppoll(&in, 1, &wait, NULL) <= 0 || w->order_len == ORDER_LEN)
        return true;
    const ssize_t got = read(STDIN_FILENO, w->order + w->order_len, ORDER_LEN - w->order_len);
    if (got <= 0)
        return got < 0 && errno == EINTR;
    w->order_len += (size_t)got;
    return true;
}

/* Obeys the lines that are complete. */
static void writer_obey_lines(struct writer *w)
{
    char *newline;
    while (!w->stopping && (newline = memchr(w->order, '\n', w->order_len)) != NULL) {
        *newline = '\0';
        writer_obey(w, w->order);
        const size_t used = (size_t)(newline - w->order) + 1;
        w->order_len -= used;
        memmove(w->order, newline + 1, w->order_len);
    }
    if (w->order_len == ORDER_LEN)
        w->order_len = 0; /* no order is that long */
}

/* ---- the two ways to run --------------------------------------------------------------------------------
 */

static int writer_serve_orders(struct writer *w)
{
    while (!w->stopping) {
        if (w->conn == NULL && !writer_connect(w)) {
            if (!writer_listen(w, 1000))
                break;
            continue;
        }
        const bool ok = writer_write(w);
        if (w->conn != NULL && w->config->moved != NULL && w->config->moved(w->config->ctx))
            writer_drop(w);
        if (!writer_listen(w, w->config->gap_us))
            break;
        if (ok)
            writer_obey_lines(w);
    }
    tally_print(&w->total, "total");
    return 0;
}

static int writer_serve_seconds(struct writer *w)
{
    const int64_t until_us = writer_now_us() + (int64_t)w->config->seconds * 1000000;
    while (writer_now_us() < until_us) {
        const bool first = w->round.writes == 0;
        if (w->conn == NULL && !writer_connect(w)) {
            usleep(1000);
            continue;
        }
        if (writer_write(w) && first) {
            w->round.begin_us = writer_now_us();
            puts(w->config->json ? "{\"event\":\"begun\"}" : "writing");
        }
        if (w->conn != NULL && w->config->moved != NULL && w->config->moved(w->config->ctx))
            writer_drop(w);
        if (w->config->gap_us > 0)
            usleep((useconds_t)w->config->gap_us);
    }
    struct verification v;
    redisContext *conn = w->config->connect(w->config->ctx);
    writer_verify(w, conn, &v);
    redisFree(conn);
    if (w->config->json) {
        tally_print(&w->round, "round");
        verification_print(&v);
    } else {
        tally_print_text(&w->round);
        printf("acknowledged writes: %llu, missing: %llu%s%s\n", (unsigned long long)v.acknowledged,
               (unsigned long long)v.missing, v.error[0] != '\0' ? "; not verified: " : "", v.error);
    }
    return v.acknowledged > 0 && v.missing == 0 && v.error[0] == '\0' ? 0 : 1;
}

int writer_run(const struct writer_config *config)
{
    assert(config->connect != NULL && config->gap_us >= 0 && config->seconds >= 0);
    struct writer w = {.config = config};
    w.total.begin_us = writer_now_us();
    snprintf(w.prefix, sizeof w.prefix, "bench:%d:%llx", (int)getpid(), (unsigned long long)w.total.begin_us);
    const int code = config->seconds > 0 ? writer_serve_seconds(&w) : writer_serve_orders(&w);
    redisFree(w.conn);
    free(w.acked);
    return code;
}
