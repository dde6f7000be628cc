/* What does a Sentinel-aware client see when its master dies? As good a client as there can be.
 *
 *   every Sentinel ──get-master-addr-by-name, every 10 ms while there is no master──► address
 *   one Sentinel   ──SUBSCRIBE +switch-master──► address, the moment it is announced
 *   address ──connect, ROLE says master──► write
 *
 * A broken connection is given up at once, so that what it measures is Sentinel's time and not its own; a
 * silent one after --timeout-ms. With --poll-ms it does without the subscription and asks instead, as many
 * clients do. Orders and answers: tests/lib/writer.h. */
#include "common/options.h"
#include "tests/lib/writer.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENTINELS_MAX = 8, HOST_LEN = 64, ASK_EVERY_MS = 10, SENTINEL_TIMEOUT_MS = 200 };

struct address {
    char host[HOST_LEN];
    int port; /* 0: none */
};

struct sentinel {
    struct address address;
    redisContext *ask; /* NULL: not connected */
};

struct world {
    const char *name; /* of the master, as the Sentinels know it */
    struct sentinel sentinels[SENTINELS_MAX];
    int n;
    redisContext *subscription; /* NULL: none */
    int subscribed_to;          /* index; the next one is tried when it breaks */
    struct address current;     /* whom we write to */
    struct address announced;   /* by +switch-master, or found out by asking; not tried yet */
    int timeout_ms;             /* of the connection to the master */
    int poll_ms;                /* > 0: asks so often, no subscription */
    int64_t asked_us;           /* when it last did */
};

static bool address_equal(const struct address *a, const struct address *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* ---- the subscription -----------------------------------------------------------------------------------
 */

static void world_subscribe(struct world *w)
{
    if (w->subscription != NULL || w->poll_ms > 0)
        return;
    w->subscribed_to = (w->subscribed_to + 1) % w->n;
    const struct address *at = &w->sentinels[w->subscribed_to].address;
    redisContext *conn = writer_dial(at->host, at->port, SENTINEL_TIMEOUT_MS);
    redisReply *reply = conn != NULL ? redisCommand(conn, "SUBSCRIBE +switch-master") : NULL;
    if (reply == NULL) {
        redisFree(conn);
        return;
    }
    freeReplyObject(reply);
    w->subscription = conn;
}

/* Message: "<name> <old host> <old port> <new host> <new port>". */
static void world_on_message(struct world *w, const redisReply *reply)
{
    char name[128], old_host[HOST_LEN];
    struct address to;
    int old_port;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[2]->type != REDIS_REPLY_STRING)
        return;
    if (sscanf(reply->element[2]->str, "%127s %63s %d %63s %d", name, old_host, &old_port, to.host,
               &to.port) == 5 &&
        strcmp(name, w->name) == 0 && !address_equal(&to, &w->current))
        w->announced = to;
}

/* Takes in what the subscription says, waiting up to wait_ms for it. */
static void world_listen(struct world *w, int wait_ms)
{
    struct pollfd in = {.fd = w->subscription != NULL ? w->subscription->fd : -1, .events = POLLIN};
    if (poll(&in, 1, wait_ms) <= 0)
        return;
    void *reply = NULL;
    bool good = redisBufferRead(w->subscription) == REDIS_OK;
    while (good && (good = redisGetReplyFromReader(w->subscription, &reply) == REDIS_OK) && reply != NULL) {
        world_on_message(w, reply);
        freeReplyObject(reply);
    }
    if (!good) {
        redisFree(w->subscription);
        w->subscription = NULL;
    }
}

/* ---- the address, the connection ------------------------------------------------------------------------
 */

static bool sentinel_ask(struct sentinel *s, const char *name, struct address *out)
{
    if (s->ask == NULL)
        s->ask = writer_dial(s->address.host, s->address.port, SENTINEL_TIMEOUT_MS);
    if (s->ask == NULL)
        return false;
    redisReply *reply = redisCommand(s->ask, "SENTINEL get-master-addr-by-name %s", name);
    if (reply == NULL) {
        redisFree(s->ask);
        s->ask = NULL;
        return false;
    }
    const bool known = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2;
    if (known) {
        snprintf(out->host, sizeof out->host, "%s", reply->element[0]->str);
        out->port = (int)strtol(reply->element[1]->str, NULL, 10);
    }
    freeReplyObject(reply);
    return known;
}

/* A connection to that address if it is a master's. */
static redisContext *world_dial(struct world *w, const struct address *to)
{
    redisContext *conn = writer_dial(to->host, to->port, w->timeout_ms);
    if (conn == NULL)
        return NULL;
    redisReply *role = redisCommand(conn, "ROLE");
    const bool is_master = role != NULL && role->type == REDIS_REPLY_ARRAY && role->elements > 0 &&
                           strcmp(role->element[0]->str, "master") == 0;
    freeReplyObject(role);
    if (!is_master) {
        redisFree(conn);
        return NULL;
    }
    w->current = *to;
    return conn;
}

static redisContext *world_dial_announced(struct world *w)
{
    if (w->announced.port == 0)
        return NULL;
    const struct address to = w->announced;
    w->announced.port = 0;
    return world_dial(w, &to);
}

static redisContext *sentinel_client_on_connect(void *ctx)
{
    struct world *w = ctx;
    world_subscribe(w);
    redisContext *conn = world_dial_announced(w);
    struct address asked[SENTINELS_MAX];
    for (int i = 0, n = 0; i < w->n && conn == NULL; i++) {
        if (!sentinel_ask(&w->sentinels[i], w->name, &asked[n]))
            continue;
        bool tried = false;
        for (int j = 0; j < n; j++)
            tried = tried || address_equal(&asked[j], &asked[n]);
        if (!tried)
            conn = world_dial(w, &asked[n++]);
    }
    if (conn != NULL)
        return conn;
    world_listen(w, ASK_EVERY_MS);
    return world_dial_announced(w);
}

/* The first Sentinel that answers is asked, when it is time again. */
static void world_poll(struct world *w)
{
    const int64_t now_us = writer_now_us();
    if (now_us - w->asked_us < (int64_t)w->poll_ms * 1000)
        return;
    w->asked_us = now_us;
    struct address named;
    for (int i = 0; i < w->n; i++) {
        if (!sentinel_ask(&w->sentinels[i], w->name, &named))
            continue;
        if (!address_equal(&named, &w->current))
            w->announced = named;
        return;
    }
}

static bool sentinel_client_on_moved(void *ctx)
{
    struct world *w = ctx;
    if (w->poll_ms > 0)
        world_poll(w);
    else
        world_listen(w, 0);
    return w->announced.port != 0 && !address_equal(&w->announced, &w->current);
}

int main(int argc, char **argv)
{
    struct world world = {.name = "mymaster", .subscribed_to = -1, .timeout_ms = 60000};
    struct writer_config config = {.program = "sentinel_client",
                                   .leave_readonly = true,
                                   .connect = sentinel_client_on_connect,
                                   .moved = sentinel_client_on_moved,
                                   .ctx = &world};
    const struct option_row rows[] = {
        {"name", 0, OPTION_TEXT, &world.name, "NAME", 0, 0, "the master's name, as the Sentinels know it"},
        {"gap-us", 0, OPTION_INT, &config.gap_us, "N", 0, 1000000, "pause between writes, microseconds"},
        {"timeout-ms", 0, OPTION_INT, &world.timeout_ms, "N", 1, 600000,
         "give a silent connection up after that"},
        {"poll-ms", 0, OPTION_INT, &world.poll_ms, "N", 0, 60000,
         "ask the Sentinels so often instead of subscribing"},
        {0},
    };
    const struct options_spec spec = {
        .program = "sentinel_client",
        .synopsis = "[OPTIONS] SENTINEL…",
        .about = "Writes to the master that the Sentinels name and measures its outages.",
        .rows = rows,
        .epilogue =
            "Sentinels are HOST:PORT. Orders are read from stdin: begin, end, verify [HOST:PORT], quit.",
    };
    int operand = options_parse(&spec, argc, argv);
    if (operand == argc || argc - operand > SENTINELS_MAX)
        options_fail(&spec, "needs 1 to %d Sentinels", SENTINELS_MAX);
    for (; operand < argc; operand++) {
        struct address *at = &world.sentinels[world.n++].address;
        if (writer_parse_address(argv[operand], at->host, sizeof at->host, &at->port) != 0)
            options_fail(&spec, "\"%s\" is not HOST:PORT", argv[operand]);
    }
    writer_process_init();
    const int code = writer_run(&config);
    for (int i = 0; i < world.n; i++)
        redisFree(world.sentinels[i].ask);
    redisFree(world.subscription);
    return code;
}
