/* What view.h is given of an instance that failover_rig.h drives: all is known but what others would have to
 * tell. */
#ifndef MR_TESTS_LIB_VIEW_RIG_H
#define MR_TESTS_LIB_VIEW_RIG_H

#include "controller/core/view.h"
#include "tests/lib/failover_rig.h"

struct view_instance view_rig_instance(const struct rig *b);
/* That instance alone, as the leader tells it; borrowed. */
struct view_topology view_rig_topology(const struct view_instance *v);

#endif
