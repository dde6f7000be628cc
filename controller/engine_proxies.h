/* Private to the engine: a name table of the proxies, and sets of them.
 *
 * A proxy has a slot, so that "who has switched" is one bit per proxy and instance. Slots are given again
 * once no set has the bit any more. */
#ifndef MR_CONTROLLER_ENGINE_PROXIES_H
#define MR_CONTROLLER_ENGINE_PROXIES_H

#include "common/core/topology.h"

enum { ENGINE_PROXIES_MAX = 16384 };

/* {0} is empty. */
struct engine_set {
    uint64_t *words;
    uint32_t n_words;
};

struct engine_proxy {
    char id[TOPOLOGY_NAME_MAX + 1];
    uint32_t slot;
    bool registered;  /* else it has spoken, but its znode was not seen (yet) */
    uint64_t list_no; /* the last list that had it; of a stranger: the last one before it spoke */
};

struct engine_proxies {
    void *by_id;                  /* tsearch tree of struct engine_proxy */
    struct engine_proxy **slots;  /* NULL: free */
    uint32_t n_slots, first_free; /* none below first_free is free */
    uint32_t n_registered;
    struct engine_set registered;
    uint64_t list_no; /* lists read so far; 0: nobody knows who is there */
    bool full_logged;
};

/* True when it is new there. Out of memory it is not put in: like a message that got lost. */
bool engine_set_add(struct engine_set *s, uint32_t slot);
void engine_set_remove(struct engine_set *s, uint32_t slot);
void engine_set_clear(struct engine_set *s); /* empty again, its memory is freed */
/* How many are in both. */
uint32_t engine_set_common(const struct engine_set *a, const struct engine_set *b);

#endif
