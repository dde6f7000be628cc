/* The database of shared_model.h, its doors, and what all of the model knows. Included by that only. */
#ifndef MR_TESTS_FUZZ_SHARED_MODEL_DB_H
#define MR_TESTS_FUZZ_SHARED_MODEL_DB_H

#include "common/core/list.h"
#include "common/core/resp.h"
#include "proxy/core/pipeline.h"
#include "proxy/core/session_internal.h"
#include "proxy/core/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_CHECK(c)                                                                                       \
    do {                                                                                                     \
        if (!(c)) {                                                                                          \
            fprintf(stderr, "shared model: line %d: %s\n", __LINE__, #c);                                    \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

enum {
    MODEL_UNREAD = 1500,
    MODEL_TOO_MUCH = 4000,
    MODEL_CLIENTS = 4,
    MODEL_ASKED = 512,
    MODEL_READ = 64 * 1024
};

enum model_kind { MODEL_GET, MODEL_SET, MODEL_MULTI, MODEL_QUEUED, MODEL_EXEC };

struct model_request {
    enum model_kind kind;
    uint32_t id;     /* of the request; EXEC: of its transaction's write */
    bool executed;   /* a SET, by a server */
    bool impossible; /* the client was told that it was not executed */
    bool early;      /* a read that was sent before it knew of it */
    uint64_t number; /* executed as the how-manieth write of all */
};

/* A connection to the database. */
struct model_door {
    bool connected, readonly;
    bool replica;        /* it leads to one: it may be asked reads only */
    const char *refusal; /* what a replica says to all of them; NULL: it answers */
    bool multi, dirty;
    uint32_t queued; /* of the transaction: its only write, or 0 */
    uint32_t queued_by;
    bool waits;      /* a WAIT is under way: nothing more is executed */
    bool may_not;    /* its user may not PUBLISH */
    uint64_t marked; /* writes that had been executed before its last marker */
    struct resp_request framer;
    struct buf to, from, request;
};

/* A shared connection. */
struct model_hub {
    struct shared shared;
    struct model_door door;
    bool draining;
};

enum { MODEL_MASTER, MODEL_REPLICA, MODEL_HUBS };

struct model_client {
    struct session session;
    struct shared_user user;
    struct model_door own;
    struct buf sent, read;
    struct resp_reply framer;
    struct model_request asked[MODEL_ASKED];
    uint32_t n_asked, n_answered;
    uint32_t newest;       /* write that was executed */
    uint32_t acknowledged; /* newest write that was */
    uint32_t in_multi;     /* write of the open transaction; 0: none is open */
    bool over;
    bool cut; /* it left too much unread: that was the last that it hears */
};

/* A WAIT that was sent. */
struct model_wait {
    bool under_way, executed;
    uint64_t at; /* writes that had been executed before its marker */
};

struct model {
    const uint8_t *dice;
    size_t n_dice, at;
    uint32_t now_ms;
    bool next_readonly, still, strict;
    const char *next_refusal;
    struct durable durable;
    struct model_wait waits[DURABLE_CONNS];
    uint64_t inline_batches;
    uint64_t writes, replicated; /* executed; of them, the replica has acknowledged */
    struct route route;
    struct session_env env;
    struct session_limits limits;
    struct session_counts counts;
    struct model_hub hubs[MODEL_HUBS];
    struct model_client clients[MODEL_CLIENTS];
};

static uint32_t model_dice(struct model *m, uint32_t n)
{
    uint8_t byte = m->at < m->n_dice ? m->dice[m->at++] : 0;

    return byte % n;
}

static size_t model_size(struct model *m)
{
    static const size_t sizes[] = {1, 3, 20, 100, 700, 6000, 70000, 1000000};

    return sizes[model_dice(m, 8)];
}

static void model_put(struct buf *b, const char *data, size_t len)
{
    MODEL_CHECK(buf_append(b, data, len) == 0);
}

static void model_puts(struct buf *b, const char *text)
{
    model_put(b, text, strlen(text));
}

static void model_drop(struct buf *b, size_t n)
{
    buf_consume(b, n);
}

/* ---- the database -----------------------------------------------------------------------------------------
 */

static void model_execute(struct model *m, uint32_t by, uint32_t id)
{
    struct model_client *c = &m->clients[by];

    MODEL_CHECK(!m->still);
    MODEL_CHECK(id > c->newest); /* in order, and once */
    for (uint32_t i = 0; i < c->n_asked; i++) {
        struct model_request *r = &c->asked[i];
        if (r->id != id || (r->kind != MODEL_SET && r->kind != MODEL_QUEUED))
            continue;
        MODEL_CHECK(!r->executed && !r->impossible);
        r->executed = true;
        r->number = ++m->writes;
    }
    c->newest = id;
}

static size_t model_reply_size(uint32_t id)
{
    return id % 13 == 0 ? 40000 : id % 7 == 0 ? 20000 : id % 5 == 0 ? 300 : 0;
}

static void model_serve_get(struct model *m, struct model_door *d, uint32_t by, uint32_t id)
{
    static const char pad[40000];
    char text[64], head[32];
    int len = snprintf(text, sizeof(text), "r%u:%u:%u:", by, id, m->clients[by].newest);

    snprintf(head, sizeof(head), "$%zu\r\n", (size_t)len + model_reply_size(id));
    model_puts(&d->from, head);
    model_puts(&d->from, text);
    model_put(&d->from, pad, model_reply_size(id));
    model_puts(&d->from, "\r\n");
}

static void model_serve_set(struct model *m, struct model_door *d, uint32_t by, uint32_t id)
{
    if (d->readonly) {
        d->dirty = d->multi;
        model_puts(&d->from, "-READONLY You can't write against a read only replica.\r\n");
    } else if (d->multi) {
        d->queued = id;
        d->queued_by = by;
        model_puts(&d->from, "+QUEUED\r\n");
    } else {
        model_execute(m, by, id);
        /* Some writes answer at length. */
        if (id % 11 == 0)
            model_serve_get(m, d, by, id);
        else
            model_puts(&d->from, "+OK\r\n");
    }
}

static void model_serve_exec(struct model *m, struct model_door *d)
{
    d->multi = false;
    if (d->dirty) {
        model_puts(&d->from, "-EXECABORT Transaction discarded because of previous errors.\r\n");
        return;
    }
    if (d->queued)
        model_execute(m, d->queued_by, d->queued);
    model_puts(&d->from, d->queued ? "*1\r\n+OK\r\n" : "*0\r\n");
}

/* A marker, or its WAIT, which is answered later. False: it is something else. */
static bool model_serve_ack(struct model *m, struct model_door *d)
{
    if (strcmp(d->framer.word[0], "PUBLISH") == 0) {
        d->marked = d->may_not ? d->marked : m->writes;
        model_puts(&d->from, d->may_not ? "-NOPERM this user has no permissions\r\n" : ":0\r\n");
    } else if (strcmp(d->framer.word[0], "WAIT") == 0) {
        d->waits = !d->readonly;
        if (d->readonly)
            model_puts(&d->from, "-ERR WAIT cannot be used with replica instances.\r\n");
    } else {
        return false;
    }
    MODEL_CHECK(d == &m->hubs[MODEL_MASTER].door && m->strict);
    return true;
}

/* The replicas have all that the WAIT is for, or its time is over. */
static void model_end_wait(struct model *m, struct model_door *d, bool follows)
{
    if (!d->waits)
        return;
    d->waits = false;
    if (follows && d->marked > m->replicated)
        m->replicated = d->marked;
    model_puts(&d->from, d->marked <= m->replicated ? ":1\r\n" : ":0\r\n");
}

static void model_serve(struct model *m, struct model_door *d)
{
    if (model_serve_ack(m, d)) {
        buf_free(&d->request);
        return;
    }
    struct resp_arg args[4];
    size_t len = buf_len(&d->request);
    char *scratch = malloc(len);
    int n = resp_request_split(buf_at(&d->request, buf_start(&d->request)), len, scratch, args, 4);
    unsigned by = 0, id = 0;

    MODEL_CHECK(n > 0 && n <= 3);
    if (n > 1) {
        char key[32] = {0};
        MODEL_CHECK(args[1].len < sizeof(key));
        memcpy(key, args[1].data, args[1].len);
        MODEL_CHECK(sscanf(key, "%u:%u", &by, &id) == 2 && by < MODEL_CLIENTS);
    }
    MODEL_CHECK(!d->replica || strcmp(d->framer.word[0], "GET") == 0);
    if (d->refusal) {
        model_puts(&d->from, d->refusal);
    } else if (strcmp(d->framer.word[0], "GET") == 0) {
        model_serve_get(m, d, by, id);
    } else if (strcmp(d->framer.word[0], "SET") == 0) {
        model_serve_set(m, d, by, id);
    } else if (strcmp(d->framer.word[0], "MULTI") == 0) {
        MODEL_CHECK(d != &m->hubs[MODEL_MASTER].door && !d->multi);
        d->multi = true;
        d->dirty = false;
        d->queued = 0;
        model_puts(&d->from, "+OK\r\n");
    } else {
        MODEL_CHECK(strcmp(d->framer.word[0], "EXEC") == 0 && d->multi);
        model_serve_exec(m, d);
    }
    free(scratch);
    buf_free(&d->request);
}

static void model_server_turn(struct model *m, struct model_door *d, size_t max)
{
    while (max > 0 && buf_len(&d->to) > 0 && !d->waits) {
        size_t len = buf_len(&d->to), used = 0;
        const char *data = buf_at(&d->to, buf_start(&d->to));
        enum resp_result result = resp_request_feed(&d->framer, data, len < max ? len : max, &used);
        MODEL_CHECK(result != RESP_BAD);
        model_put(&d->request, data, used);
        model_drop(&d->to, used);
        max -= used;
        if (result == RESP_END && d->framer.n_args > 0)
            model_serve(m, d);
        else if (result == RESP_END)
            buf_free(&d->request);
    }
}

static void model_shut(struct model_door *d)
{
    buf_free(&d->to);
    buf_free(&d->from);
    buf_free(&d->request);
    *d = (struct model_door){0};
}

#endif
