/* The floor: how short can an outage be when a program only detects, promotes and writes?
 *
 *   client connection ──write──► master      dies: end of file
 *   control connection ────────► replica     REPLICAOF NO ONE, +OK
 *   client connection, open already ──write──► replica
 *
 * No evidence, no agreement, no record, no seal, no other clients: what anything safe adds is measured
 * against this. Orders and answers: tests/lib/writer.h. One promotion for each replica given. */
#include "common/options.h"
#include "tests/lib/writer.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

enum { MEMBERS_MAX = 8, TIMEOUT_MS = 60000, ADDRESS_LEN = 64 };

struct member {
    redisContext *control, *data; /* both open from the start; NULL once used */
};

struct world {
    struct member members[MEMBERS_MAX]; /* the master first, then the replicas in the order of promotion */
    int n, master;                      /* master: index, -1 before the first connection */
};

static bool member_promote(struct member *m)
{
    redisReply *reply = redisCommand(m->control, "REPLICAOF NO ONE");
    const bool ok = reply != NULL && reply->type == REDIS_REPLY_STATUS;
    freeReplyObject(reply);
    return ok;
}

/* The first connection is the master's; each later one belongs to a replica promoted for it. */
static redisContext *floor_on_connect(void *ctx)
{
    struct world *w = ctx;
    while (w->master + 1 < w->n) {
        struct member *next = &w->members[++w->master];
        if (w->master > 0 && !member_promote(next))
            continue;
        redisContext *data = next->data;
        next->data = NULL;
        return data;
    }
    return NULL;
}

static void world_dial(struct world *w, const struct options_spec *spec, const char *address)
{
    char host[ADDRESS_LEN];
    int port = 0;
    if (w->n == MEMBERS_MAX)
        options_fail(spec, "at most %d members", MEMBERS_MAX);
    if (writer_parse_address(address, host, sizeof host, &port) != 0)
        options_fail(spec, "\"%s\" is not HOST:PORT", address);
    struct member *m = &w->members[w->n++];
    m->control = writer_dial(host, port, TIMEOUT_MS);
    m->data = writer_dial(host, port, TIMEOUT_MS);
    if (m->control == NULL || m->data == NULL)
        options_fail(spec, "nothing answers at %s", address);
}

int main(int argc, char **argv)
{
    struct world world = {.master = -1};
    struct writer_config config = {.program = "floor", .connect = floor_on_connect, .ctx = &world};
    const struct option_row rows[] = {
        {"gap-us", 0, OPTION_INT, &config.gap_us, "N", 0, 1000000, "pause between writes, microseconds"},
        {0},
    };
    const struct options_spec spec = {
        .program = "floor",
        .synopsis = "[OPTIONS] MASTER REPLICA…",
        .about = "Writes to a master and, when its connection ends, promotes the next replica by itself.",
        .rows = rows,
        .epilogue =
            "Members are HOST:PORT. Orders are read from stdin: begin, end, verify [HOST:PORT], quit.",
    };
    int operand = options_parse(&spec, argc, argv);
    if (argc - operand < 2)
        options_fail(&spec, "needs a master and at least one replica");
    writer_process_init();
    for (; operand < argc; operand++)
        world_dial(&world, &spec, argv[operand]);
    const int code = writer_run(&config);
    for (int i = 0; i < world.n; i++) {
        redisFree(world.members[i].control);
        redisFree(world.members[i].data);
    }
    return code;
}
