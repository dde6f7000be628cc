/* When an automatic failover is not wanted although its verdict stands: maintenance and cooldown. Pure.
 *
 * Rules: design safety.md §7. Times are wall clock (Unix milliseconds), because they outlive controllers; a
 * clock that went back by more than RESTRAINT_CLOCK_MS ends a cooldown rather than prolonging it. RESTARTED
 * and DEMOTED are not cooled down: the registered data is not at that address any more, and every moment of
 * waiting makes replicas copy what is there. */
#ifndef MR_CONTROLLER_CORE_RESTRAINT_H
#define MR_CONTROLLER_CORE_RESTRAINT_H

#include "common/core/topology.h"

enum { RESTRAINT_CLOCK_MS = 5000 };

struct restraint {
    bool refused;
    bool bypasses;    /* not refused, because a DEAD verdict may bypass the cooldown once */
    int64_t until_ms; /* when it ends by itself; 0: it does not, or there is none */
    char why[256];    /* "" when there is none */
};

/* maintenance: of all instances; NULL: none. */
void restraint_judge(const struct topology_instance *i, enum topology_verdict verdict,
                     const struct topology_pause *maintenance, int64_t wall_ms, struct restraint *out);
/* Counts an unplanned failover that begins now in proposed->cooldown. before: the record until now. */
void restraint_count(const struct topology_instance *before, enum topology_verdict verdict, int64_t wall_ms,
                     struct topology_instance *proposed);
/* Length of the present cooldown; 0: none. */
int64_t restraint_cooldown_ms(const struct topology_instance *i);
/* In force now? */
bool restraint_is_paused(const struct topology_pause *p, int64_t wall_ms);

#endif
