/* A route book under test: events in, rendered actions out; the test says what time it is. */
#ifndef MR_TESTS_LIB_ROUTE_WORLD_H
#define MR_TESTS_LIB_ROUTE_WORLD_H

#include "proxy/core/route_book.h"

#define ROUTE_WORLD_A "10.0.0.1:6379"

struct route_world {
    struct route_book b;
    int64_t now;
    uint32_t acks;   /* of the routes that are told and of what workers say: 0: async */
    char text[4096]; /* the last step's actions */
};

/* For cmocka: *state is a new world with two workers; and its end. */
int route_world_setup(void **state);
int route_world_teardown(void **state);
/* ZooKeeper connected, "cart" on ROUTE_WORLD_A with epoch 1 at revision 10, leader ctl-1 of term 7 at seq 3.
 */
void route_world_settle(struct route_world *w);

struct topology_address route_world_address(const char *text); /* NULL: none */
struct route route_world_make_route(const char *name, uint64_t epoch, uint64_t revision, const char *master);

/* One event each. They return the actions as text, valid until the next one:
 * "apply cart 10.0.0.1:6379 e1 r10 row 13; read watch row 40; " ("confirm" when nothing changes). */
const char *route_world_step(struct route_world *w, struct route_event e);
const char *route_world_tick(struct route_world *w, int64_t us); /* that much later */
const char *route_world_wake(struct route_world *w);             /* at the deadline */
const char *route_world_simple(struct route_world *w, enum route_event_type type);
const char *route_world_beat(struct route_world *w, uint64_t term, uint64_t seq);
const char *route_world_message(struct route_world *w, enum message_type type, uint64_t term, uint64_t seq,
                                const char *name, uint64_t epoch, uint64_t revision, const char *master);
/* Of the re-read under way, or else of a watch. master NULL: held. */
const char *route_world_record(struct route_world *w, const char *name, uint64_t epoch, uint64_t revision,
                               const char *master);
const char *route_world_broken(struct route_world *w, const char *name, uint64_t epoch, const char *master);
const char *route_world_switched(struct route_world *w, const char *name, uint64_t epoch, int64_t took_us);

#endif
