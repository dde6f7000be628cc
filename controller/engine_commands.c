/* Operators' orders: each is answered once, by the core or, when the core can't any more, by the engine.
 *
 *   engine_command ─► FAILOVER_ON_COMMAND ─► core ─ ANSWER ─┐
 *                                leadership or record gone ─┴─► answered ─ end of turn ─► done(ctx, err,
 * text)
 */
#include "common/log.h"
#include "common/loop.h"
#include "controller/engine_instance.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct engine_command {
    struct list node; /* in instance->commands, then in engine->answered */
    struct engine *engine;
    uint64_t id;
    enum failover_command_type type;
    char instance[TOPOLOGY_NAME_MAX + 1], by[TOPOLOGY_NAME_MAX + 1];
    engine_command_fn done; /* NULL: it was told already */
    void *ctx;
    int err;
    char text[FAILOVER_TEXT_MAX + 1];
};

static const char *const engine_command_names[] = {
    [FAILOVER_COMMAND_SWITCHOVER] = "switchover",
    [FAILOVER_COMMAND_FAILOVER] = "failover",
    [FAILOVER_COMMAND_PAUSE] = "pause",
    [FAILOVER_COMMAND_RESUME] = "resume",
    [FAILOVER_COMMAND_ACK] = "ack",
    [FAILOVER_COMMAND_SET] = "set",
    [FAILOVER_COMMAND_FORGET] = "forget",
};

static void engine_command_tell(struct engine_command *c)
{
    engine_command_fn done = c->done;
    list_remove(&c->node);
    c->done = NULL;
    if (done)
        done(c->ctx, c->err, c->text);
}

static void engine_on_command_answered(void *ctx)
{
    struct engine_command *c = ctx;
    engine_command_tell(c);
    free(c);
}

/* From here on its answer is certain, and on its way: whoever asked is not called inside his own call. */
static void engine_command_close(struct engine_command *c, int err, const char *text)
{
    struct engine *e = c->engine;
    c->err = err;
    (void)snprintf(c->text, sizeof(c->text), "%s", text);
    engine_say(e, c->instance, err == 0 ? FAILOVER_INFO : FAILOVER_WARN,
               "event=command.answered instance=%s command=%s by=%s result=%s say=\"%s\"", c->instance,
               engine_command_names[c->type], c->by[0] != '\0' ? c->by : "-",
               err == 0 ? "done" : err_name(err), text);
    list_remove(&c->node);
    list_push_back(&e->answered, &c->node);
    engine_later(e, engine_on_command_answered, c);
}

void engine_command_answer(struct engine_instance *i, uint64_t id, int err, const char *text)
{
    list_for_each(node, &i->commands)
    {
        struct engine_command *c = list_entry(node, struct engine_command, node);
        if (c->id != id)
            continue;
        engine_command_close(c, err, text);
        return;
    }
    /* The engine has answered it already, when leadership ended. */
    log_debug("event=command.answered_late instance=%s id=%" PRIu64 " result=%s", i->name, id, err_name(err));
}

void engine_commands_end(struct engine_instance *i, int err, const char *text)
{
    while (!list_empty(&i->commands))
        engine_command_close(list_entry(list_first(&i->commands), struct engine_command, node), err, text);
}

void engine_commands_flush(struct engine *e)
{
    while (!list_empty(&e->answered)) /* freed by the wake-up that is under way for each */
        engine_command_tell(list_entry(list_first(&e->answered), struct engine_command, node));
}

void engine_command(struct engine *e, const char *instance, const struct failover_command *command,
                    engine_command_fn done, void *ctx)
{
    assert(instance && command && done);
    assert((unsigned)command->type < sizeof(engine_command_names) / sizeof(engine_command_names[0]));
    struct engine_instance *i = engine_lookup(e, instance);
    struct engine_command *c = calloc(1, sizeof(*c));
    if (!c) {
        log_error("event=engine.no_memory instance=%s next=\"this controller ends; another one takes over\"",
                  instance);
        abort();
    }
    c->engine = e;
    c->id = ++e->last_command;
    c->type = command->type;
    c->done = done;
    c->ctx = ctx;
    (void)snprintf(c->instance, sizeof(c->instance), "%s", instance);
    (void)snprintf(c->by, sizeof(c->by), "%s", command->by);
    list_init(&c->node);
    if (e->term == 0) {
        engine_command_close(c, ERR_DEPOSED, "this controller does not lead");
    } else if (!i) {
        engine_command_close(c, ERR_NOT_FOUND, "there is no such instance");
    } else if (i->corrupt[0] != '\0' || !i->failover.has_record) {
        engine_command_close(c, ERR_INVALID, "its record in ZooKeeper can't be read; repair or delete it");
    } else {
        struct failover_command copy = *command;
        struct failover_event event = engine_event(i, FAILOVER_ON_COMMAND);
        copy.id = c->id;
        event.command = &copy;
        list_push_back(&i->commands, &c->node);
        engine_step(i, &event);
    }
}

int engine_explain(const struct engine *e, const char *instance, const struct failover_command *command,
                   struct failover_plan *out)
{
    const struct engine_instance *i = engine_lookup(e, instance);
    if (!i)
        return ERR_NOT_FOUND;
    if (i->corrupt[0] != '\0' || !i->failover.has_record)
        return ERR_INVALID;
    failover_explain(&i->failover, command, loop_now_us(e->loop), loop_wall_ms(), &e->outlook.trust,
                     e->maintenance.owner[0] != '\0' ? &e->maintenance : NULL, out);
    return 0;
}
