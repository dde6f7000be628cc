/* Why an instance would not fail over by itself now: pause, cooldown, readiness, as JSON fields. Pure. */
#ifndef MR_CONTROLLER_CORE_VIEW_RESTRAINT_H
#define MR_CONTROLLER_CORE_VIEW_RESTRAINT_H

#include "common/core/json_write.h"
#include "controller/core/view.h"

/* Sets object's "pause" while it lasts at wall_ms (0: unknown, then it lasts). */
void view_pause_write(struct json_write *w, json_t *object, const struct topology_pause *p, int64_t wall_ms);
/* Sets object's "pause", "cooldown" and "readiness", each only where there is one. */
void view_restraint_write(struct json_write *w, json_t *object, const struct view_instance *v);

#endif
