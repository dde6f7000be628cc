/* The server of session_model.h, and what all of the model knows. Included by that only. */
#ifndef MR_TESTS_FUZZ_SESSION_MODEL_SERVER_H
#define MR_TESTS_FUZZ_SESSION_MODEL_SERVER_H

#include "common/core/resp.h"
#include "proxy/core/hold.h"
#include "proxy/core/pipeline.h"
#include "proxy/core/session_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_CHECK(c)                                                                                       \
    do {                                                                                                     \
        if (!(c)) {                                                                                          \
            fprintf(stderr, "session model: line %d: %s\n", __LINE__, #c);                                   \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

enum { MODEL_IDS = 4096, MODEL_REPLY_MAX = 64 * 1024 };

enum model_kind {
    MODEL_GET,
    MODEL_SET,
    MODEL_SELECT,
    MODEL_MULTI,
    MODEL_QUEUED,
    MODEL_EXEC,
    MODEL_SUBSCRIBE,
    MODEL_READS,
};

struct model_request {
    enum model_kind kind;
    uint32_t id;    /* GET, SET: number; SELECT: database; EXEC: number of the transaction's first write */
    uint32_t n;     /* EXEC: commands in it; SUBSCRIBE: confirmations still to come */
    uint64_t epoch; /* of the newest connection when it was asked */
};

/* The server's side of one connection. */
struct model_server {
    bool connected, readonly, multi, tx_dirty, subscribed;
    bool replica; /* it may be asked reads only, … */
    bool loading; /* … and refuses them */
    uint32_t db, tx_id, tx_n;
    struct resp_request framer;
    struct buf bytes; /* of the request under way */
};

struct model {
    const uint8_t *dice;
    size_t n_dice, at;
    uint32_t now_ms;
    bool next_readonly, over, strict;
    struct durable durable;
    bool asked_acks[DURABLE_CONNS];
    uint64_t acked_writes, writes; /* that the replica is known to have; executed */
    uint64_t sent_at[DURABLE_CONNS];
    bool held; /* a switchover was told that nothing is in flight: no write may be executed */

    struct route route;
    struct session_env env;
    struct session_counts counts;
    struct session session;
    struct model_server server;
    struct buf sent, to_server, from_server, read;
    struct resp_reply framer;

    struct model_request asked[MODEL_IDS * 2];
    uint32_t n_asked, n_answered, last_id;
    uint32_t db; /* that the client has selected */
    bool in_multi;
    uint32_t tx_id, tx_n;
    uint8_t executed[MODEL_IDS];  /* by a server, how often */
    uint64_t number[MODEL_IDS];   /* as the how-manieth of all */
    uint8_t forbidden[MODEL_IDS]; /* the client was told that it was not executed */
};

static uint32_t model_dice(struct model *m, uint32_t n)
{
    uint8_t byte = m->at < m->n_dice ? m->dice[m->at++] : 0;

    return byte % n;
}

static size_t model_size(struct model *m, size_t max)
{
    static const size_t sizes[] = {1, 2, 7, 30, 400, 5000, 70000, 1000000};
    size_t n = sizes[model_dice(m, 8)];

    return n < max ? n : max;
}

static void model_put(struct buf *b, const char *data, size_t len)
{
    MODEL_CHECK(buf_append(b, data, len) == 0);
}

static void model_puts(struct buf *b, const char *text)
{
    model_put(b, text, strlen(text));
}

/* ---- the server -------------------------------------------------------------------------------------------
 */

static size_t model_reply_size(uint32_t id)
{
    return id % 17 == 0 ? 30000 : id % 5 == 0 ? 300 : 0;
}

static void model_serve_get(struct model *m, uint32_t id)
{
    static const char pad[30000];
    char text[64], head[32];
    int len = snprintf(text, sizeof(text), "r%u:%u:", id, m->server.db);

    snprintf(head, sizeof(head), "$%zu\r\n", (size_t)len + model_reply_size(id));
    model_puts(&m->from_server, head);
    model_puts(&m->from_server, text);
    model_put(&m->from_server, pad, model_reply_size(id));
    model_puts(&m->from_server, "\r\n");
}

static void model_execute(struct model *m, uint32_t id)
{
    MODEL_CHECK(id < MODEL_IDS);
    MODEL_CHECK(m->executed[id] == 0);
    MODEL_CHECK(!m->forbidden[id]);
    MODEL_CHECK(!m->held);
    m->executed[id]++;
    m->number[id] = ++m->writes;
}

static void model_serve_exec(struct model *m)
{
    struct model_server *s = &m->server;
    char text[64];

    s->multi = false;
    if (s->tx_dirty) {
        model_puts(&m->from_server, "-EXECABORT Transaction discarded because of previous errors.\r\n");
        return;
    }
    snprintf(text, sizeof(text), "*%u\r\n", s->tx_n);
    model_puts(&m->from_server, text);
    for (uint32_t i = 0; i < s->tx_n; i++) {
        model_execute(m, s->tx_id + i);
        model_puts(&m->from_server, "+OK\r\n");
    }
}

static void model_serve_set(struct model *m, uint32_t id)
{
    struct model_server *s = &m->server;

    if (s->readonly) {
        s->tx_dirty = s->multi;
        model_puts(&m->from_server, "-READONLY You can't write against a read only replica.\r\n");
    } else if (s->multi) {
        s->tx_id = s->tx_n == 0 ? id : s->tx_id;
        MODEL_CHECK(id == s->tx_id + s->tx_n);
        s->tx_n++;
        model_puts(&m->from_server, "+QUEUED\r\n");
    } else {
        model_execute(m, id);
        model_puts(&m->from_server, "+OK\r\n");
    }
}

static void model_serve_subscribe(struct model *m, const struct resp_arg *args, int n)
{
    char text[128];

    m->server.subscribed = true;
    for (int i = 1; i < n; i++) {
        snprintf(text, sizeof(text), "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%.*s\r\n:%d\r\n", args[i].len,
                 (int)args[i].len, args[i].data, i);
        model_puts(&m->from_server, text);
    }
}

static void model_serve(struct model *m)
{
    struct model_server *s = &m->server;
    size_t len = buf_len(&s->bytes);
    char *scratch = malloc(len);
    struct resp_arg args[64];
    int n = resp_request_split(buf_at(&s->bytes, buf_start(&s->bytes)), len, scratch, args, 64);

    MODEL_CHECK(n > 0 && n <= 64); /* nothing that is not a request gets here */
    uint32_t id = 0;               /* of a key or channel: one letter, then digits */
    for (size_t i = 1; n > 1 && i < args[1].len; i++)
        id = id * 10 + (uint32_t)(args[1].data[i] - '0');
    const char *word = s->framer.word[0];
    MODEL_CHECK(!s->replica || strcmp(word, "GET") == 0 || strcmp(word, "SELECT") == 0);
    if (s->loading) {
        model_puts(&m->from_server, "-LOADING Redis is loading the dataset in memory\r\n");
    } else if (strcmp(word, "GET") == 0) {
        model_serve_get(m, id);
    } else if (strcmp(word, "SET") == 0) {
        model_serve_set(m, id);
    } else if (strcmp(word, "SELECT") == 0) {
        s->db = (uint32_t)(args[1].data[0] - '0');
        model_puts(&m->from_server, "+OK\r\n");
    } else if (strcmp(word, "MULTI") == 0) {
        MODEL_CHECK(!s->multi);
        s->multi = true;
        s->tx_dirty = false;
        s->tx_n = 0;
        model_puts(&m->from_server, "+OK\r\n");
    } else if (strcmp(word, "EXEC") == 0) {
        MODEL_CHECK(s->multi);
        model_serve_exec(m);
    } else {
        MODEL_CHECK(strcmp(word, "SUBSCRIBE") == 0);
        model_serve_subscribe(m, args, n);
    }
    free(scratch);
    buf_free(&s->bytes);
}

static void model_server_turn(struct model *m, size_t max)
{
    while (max > 0 && buf_len(&m->to_server) > 0) {
        size_t len = buf_len(&m->to_server), used = 0;
        const char *data = buf_at(&m->to_server, buf_start(&m->to_server));
        len = len < max ? len : max;
        enum resp_result result = resp_request_feed(&m->server.framer, data, len, &used);
        MODEL_CHECK(result != RESP_BAD);
        model_put(&m->server.bytes, data, used);
        buf_consume(&m->to_server, used);
        max -= used;
        if (result == RESP_END)
            model_serve(m);
    }
}

static void model_disconnect(struct model *m)
{
    buf_free(&m->to_server);
    buf_free(&m->from_server);
    buf_free(&m->server.bytes);
    m->server = (struct model_server){0};
}

#endif
