#include "tests/lib/route_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS ((int64_t)1000)

static const char *const A = ROUTE_WORLD_A;

struct topology_address route_world_address(const char *text)
{
    struct topology_address a = {0};
    if (text)
        assert_int_equal(topology_address_parse(text, &a), 0);
    return a;
}

/* "apply cart 10.0.0.1:6379 e1 r10 row 13; read watch row 40;": a confirmation is "confirm". */
static void render_action(const struct route_action *a, char *text, size_t size)
{
    char where[TOPOLOGY_ADDRESS_MAX + 1], what[200] = "";
    const struct route *r = a->entry ? &a->entry->route : NULL;

    switch (a->type) {
    case ROUTE_ACTION_APPLY:
        snprintf(what, sizeof(what), "%s %s %s%s e%u r%u", a->changed ? "apply" : "confirm", r->name,
                 r->state == ROUTE_HELD ? "held " : "", topology_address_format(&r->master, where),
                 (unsigned)r->epoch, (unsigned)r->revision);
        break;
    case ROUTE_ACTION_PAUSE:
        snprintf(what, sizeof(what), "pause %s e%u #%u %ums", r->name, (unsigned)a->epoch,
                 (unsigned)a->number, (unsigned)a->limit_ms);
        break;
    case ROUTE_ACTION_HELD:
        snprintf(what, sizeof(what), "held %s e%u", r->name, (unsigned)a->epoch);
        break;
    case ROUTE_ACTION_DROP:
    case ROUTE_ACTION_FOLLOW:
        snprintf(what, sizeof(what), "%s %s", route_action_name(a->type), a->name);
        break;
    case ROUTE_ACTION_READ:
        snprintf(what, sizeof(what), a->watch ? "read watch" : "read");
        break;
    case ROUTE_ACTION_RECONNECT:
        snprintf(what, sizeof(what), "reconnect");
        break;
    case ROUTE_ACTION_HINT:
        snprintf(what, sizeof(what), "hint %s %s", r->name, topology_address_format(&r->master, where));
        break;
    case ROUTE_ACTION_ACK:
        snprintf(what, sizeof(what), "ack %s e%u %uus", r->name, (unsigned)a->epoch, (unsigned)a->took_us);
        if (a->acks != 0)
            snprintf(what + strlen(what), sizeof(what) - strlen(what), " acks %u", a->acks);
        break;
    }
    snprintf(text, size, "%s row %d; ", what, (int)a->row);
}

const char *route_world_step(struct route_world *w, struct route_event e)
{
    size_t len = 0;

    e.now_us = w->now;
    assert_int_equal(route_book_step(&w->b, &e), 0);
    w->text[0] = '\0';
    for (size_t i = 0; i < w->b.n_actions; i++) {
        render_action(&w->b.actions[i], w->text + len, sizeof(w->text) - len);
        len += strlen(w->text + len);
    }
    return w->text;
}

const char *route_world_tick(struct route_world *w, int64_t us)
{
    w->now += us;
    return route_world_step(w, (struct route_event){.type = ROUTE_EVENT_TICK});
}

/* Lets time pass up to the deadline; it must be in the future. */
const char *route_world_wake(struct route_world *w)
{
    int64_t at = route_book_deadline_us(&w->b);
    assert_true(at >= w->now);
    w->now = at;
    return route_world_step(w, (struct route_event){.type = ROUTE_EVENT_TICK});
}

const char *route_world_simple(struct route_world *w, enum route_event_type type)
{
    return route_world_step(w, (struct route_event){.type = type});
}

const char *route_world_beat(struct route_world *w, uint64_t term, uint64_t seq)
{
    struct message m = {.type = MESSAGE_BEAT, .term = term, .seq = seq, .id = "ctl-1"};
    return route_world_step(w, (struct route_event){.type = ROUTE_EVENT_MESSAGE, .message = &m});
}

const char *route_world_message(struct route_world *w, enum message_type type, uint64_t term, uint64_t seq,
                                const char *name, uint64_t epoch, uint64_t revision, const char *master)
{
    struct message m = {.type = type,
                        .term = term,
                        .seq = seq,
                        .port = 6100,
                        .epoch = epoch,
                        .revision = revision,
                        .master = route_world_address(master),
                        .durability = w->acks ? TOPOLOGY_STRICT : TOPOLOGY_ASYNC,
                        .acks = w->acks ? w->acks : 1};
    snprintf(m.instance, sizeof(m.instance), "%s", name);
    return route_world_step(w, (struct route_event){.type = ROUTE_EVENT_MESSAGE, .message = &m});
}

struct route route_world_make_route(const char *name, uint64_t epoch, uint64_t revision, const char *master)
{
    struct route r = {
        .port = 6100, .epoch = epoch, .revision = revision, .master = route_world_address(master), .acks = 1};
    snprintf(r.name, sizeof(r.name), "%s", name);
    r.state = master ? ROUTE_SERVING : ROUTE_HELD;
    return r;
}

const char *route_world_record(struct route_world *w, const char *name, uint64_t epoch, uint64_t revision,
                               const char *master)
{
    struct route r = route_world_make_route(name, epoch, revision, master);
    return route_world_step(
        w, (struct route_event){.type = ROUTE_EVENT_RECORD, .route = &r, .of_read = w->b.reading});
}

const char *route_world_broken(struct route_world *w, const char *name, uint64_t epoch, const char *master)
{
    struct topology_address a = route_world_address(master);
    return route_world_step(
        w, (struct route_event){.type = ROUTE_EVENT_BROKEN, .name = name, .epoch = epoch, .master = &a});
}

const char *route_world_switched(struct route_world *w, const char *name, uint64_t epoch, int64_t took_us)
{
    return route_world_step(
        w,
        (struct route_event){
            .type = ROUTE_EVENT_SWITCHED, .name = name, .epoch = epoch, .acks = w->acks, .took_us = took_us});
}

int route_world_setup(void **state)
{
    struct route_world *w = calloc(1, sizeof(*w));
    if (!w)
        return -1;
    w->now = 5000000;
    route_book_init(&w->b, 2, w->now);
    *state = w;
    return 0;
}

int route_world_teardown(void **state)
{
    struct route_world *w = *state;
    route_book_free(&w->b);
    free(w);
    return 0;
}

/* ZooKeeper connected, "cart" on A with epoch 1 at revision 10, leader ctl-1 of term 7 at seq 3. */
void route_world_settle(struct route_world *w)
{
    assert_string_equal(route_world_simple(w, ROUTE_EVENT_STORE_UP), "read row 28; ");
    assert_string_equal(route_world_record(w, "cart", 1, 10, A), "apply cart 10.0.0.1:6379 e1 r10 row 10; ");
    assert_string_equal(route_world_simple(w, ROUTE_EVENT_READ_DONE), "");
    w->now += 200 * MS;
    assert_string_equal(route_world_beat(w, 7, 3), "follow ctl-1 row 2; read row 2; ");
    assert_string_equal(route_world_record(w, "cart", 1, 10, A), "");
    assert_string_equal(route_world_simple(w, ROUTE_EVENT_READ_DONE), "");
    w->now += 200 * MS;
    assert_string_equal(route_world_beat(w, 7, 3), "");
}
