/* A failover's timeline as people read it: milliseconds with decimals. Pure. */
#ifndef MR_CONTROLLER_CORE_VIEW_TIMELINE_H
#define MR_CONTROLLER_CORE_VIEW_TIMELINE_H

#include "common/core/json_write.h"

/* Sets object's "timeline_ms" to the known spans, and to their "total" when all are known. */
void view_timeline_write(struct json_write *w, json_t *object, const struct topology_timeline *t);

#endif
