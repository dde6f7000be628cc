#include "tests/lib/served.h"

#include "tests/lib/wait.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

long served_calls(const struct redis_server *s, const char *command)
{
    redisReply *info = redis_server_command(s, "INFO commandstats");
    char field[64];

    (void)snprintf(field, sizeof(field), "cmdstat_%s:calls=", command);
    const char *at = info && info->str ? strstr(info->str, field) : NULL;
    long n = at ? strtol(at + strlen(field), NULL, 10) : 0;
    freeReplyObject(info);
    return n;
}

struct served {
    struct redis_server *by;
    redisContext *client;
};

/* One more read: did that server answer it? */
static bool served_is_by(void *ctx)
{
    const struct served *s = ctx;
    long before = served_calls(s->by, "get");

    (void)proxy_rig_ask(s->client, "GET k");
    return served_calls(s->by, "get") == before + 1;
}

void served_wait_by(struct proxy_rig *r, redisContext *c, struct redis_server *by)
{
    struct served s = {by, c};

    assert_true(wait_until(r->loop, served_is_by, &s, WAIT_MS));
}

static bool served_is_in_step(void *ctx)
{
    const struct proxy_rig *r = ctx;
    char offset[32];

    (void)snprintf(offset, sizeof(offset), "%s", redis_server_info(r->master, "master_repl_offset"));
    return strcmp(redis_server_info(r->replica, "slave_repl_offset"), offset) == 0;
}

void served_wait_in_step(struct proxy_rig *r)
{
    assert_true(wait_until(r->loop, served_is_in_step, r, WAIT_MS));
}
