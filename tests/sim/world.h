/* The simulated world's clock, event queue, random numbers and trace: all that makes a seed replay exactly.
 */
#ifndef MR_TESTS_SIM_WORLD_H
#define MR_TESTS_SIM_WORLD_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stdint.h>

struct sim;

/* Something that will happen. The numbers and `data` mean what the function that fires it says. */
struct world_event {
    int64_t at_us;
    uint64_t order; /* events of the same microsecond fire in the order they were made */
    void (*fire)(struct sim *s, struct world_event *e);
    int who, target, kind;
    uint32_t gen;    /* of the connection or process it belongs to: it is void when that is gone */
    uint32_t number; /* of the request it answers */
    int64_t x, y, z;
    void *data; /* owned; freed once it has fired, unless the function took it and stored NULL here */
    struct world_event *next;
};

/* What waits for a process that can't take it now, in the order it came. All zero: empty. */
struct world_inbox {
    struct world_event *first, *last;
};

enum { WORLD_FAILURE_MAX = 512 };

struct world {
    int64_t now_us;
    uint64_t order;
    uint64_t random, random_stream;
    struct world_event **heap;
    uint32_t n, room;
    struct world_event *spare;
    uint64_t fired;
    bool tracing;
    char *trace; /* when tracing into memory: the newest lines, a ring of trace_room bytes */
    uint32_t trace_room, trace_at;
    bool trace_wrapped;
    bool failed;
    char invariant[64];
    char failure[WORLD_FAILURE_MAX];
};

/* Starts at time 1 s with an empty queue; storage of an earlier seed is used again. */
void world_reset(struct world *w, uint64_t seed);
void world_free(struct world *w);

/* An event delay_us from now; the caller fills in its fields. Aborts when out of memory. */
struct world_event *world_after(struct world *w, int64_t delay_us,
                                void (*fire)(struct sim *s, struct world_event *e));
struct world_event *world_at(struct world *w, int64_t at_us,
                             void (*fire)(struct sim *s, struct world_event *e));
/* Fires the next event; false when there is none. */
bool world_turn(struct sim *s, struct world *w);
/* Keeps a copy of *e, which fires now; its data goes with it. */
void world_inbox_put(struct world *w, struct world_inbox *inbox, struct world_event *e);
/* Fires what was kept, in its order; what is put in meanwhile waits for the next run. */
void world_inbox_run(struct sim *s, struct world *w, struct world_inbox *inbox);
void world_inbox_clear(struct world *w, struct world_inbox *inbox);
/* Frees an event that is in no queue, with its data. */
void world_dispose(struct world *w, struct world_event *e);

uint32_t world_random(struct world *w);
/* Uniform in [low, high]. */
int64_t world_between(struct world *w, int64_t low, int64_t high);
/* True `permille` times in a thousand. */
bool world_chance(struct world *w, uint32_t permille);

/* One line of the trace; costs nothing unless tracing. */
#define world_trace(w, ...)                                                                                  \
    do {                                                                                                     \
        if ((w)->tracing)                                                                                    \
            world_trace_line((w), __VA_ARGS__);                                                              \
    } while (0)
void world_trace_line(struct world *w, const char *format, ...) MR_PRINTF(2, 3);
/* Prints what the ring holds to stdout, oldest line first. */
void world_trace_print(const struct world *w);
/* The first failure of the seed is kept; the run ends after this event. */
void world_fail(struct world *w, const char *invariant, const char *format, ...) MR_PRINTF(3, 4);

#endif
