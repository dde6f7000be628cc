/* The proxy's instances by name, in order: what the route book knows about each. Pure.
 *
 * Entries stay where they are until they are removed: pointers to them may be kept till then. */
#ifndef MR_PROXY_CORE_ROUTE_TABLE_H
#define MR_PROXY_CORE_ROUTE_TABLE_H

#include "common/core/list.h"
#include "proxy/core/route.h"

struct route_entry {
    struct route route;
    uint64_t read; /* number of the re-read that was under way, or the last one, when it was last heard of */
    /* A worker's connection broke and nobody has confirmed the route since. */
    struct list doubt;                       /* linked: in doubt */
    uint32_t tries;                          /* doubts in a row */
    int64_t doubted_us, confirm_us, hint_us; /* last doubt; when to confirm; when to hint, 0: never */
    int64_t silent_us; /* last hint that was sent because the master is silent; 0: never */
    /* A planned switchover of the route's epoch is being prepared. */
    struct list pausing; /* linked: it is */
    uint64_t pause;      /* its number */
    uint32_t n_held;     /* workers that have nothing in flight */
    int64_t pause_until_us;
    /* Which epoch the workers have told us they follow. */
    uint64_t switched_epoch, acked_epoch;
    uint32_t switched_acks, acked_acks; /* … and for how many acknowledgements they hold replies */
    uint32_t n_switched;
    int64_t took_us;
};

struct route_table {
    struct route_entry **entries; /* sorted by name */
    size_t n, room;
};

void route_table_init(struct route_table *t);
void route_table_free(struct route_table *t); /* the entries too */
struct route_entry *route_table_find(const struct route_table *t, const char *name);
/* A new, zeroed entry with that name, which isn't in the table yet; NULL: out of memory. */
struct route_entry *route_table_add(struct route_table *t, const char *name);
/* Removes and frees it. */
void route_table_remove(struct route_table *t, struct route_entry *e);

#endif
