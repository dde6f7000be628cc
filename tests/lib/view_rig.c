#include "tests/lib/view_rig.h"

struct view_instance view_rig_instance(const struct rig *b)
{
    return (struct view_instance){.record = &b->f.record,
                                  .failover = &b->f,
                                  .revision = 4294967400,
                                  .acked = VIEW_UNKNOWN,
                                  .slowest_us = VIEW_UNKNOWN,
                                  .holding = VIEW_UNKNOWN,
                                  .now_us = b->now_us,
                                  .wall_ms = b->wall_ms,
                                  .readiness = VIEW_READINESS_UNKNOWN,
                                  .next = -1};
}

struct view_topology view_rig_topology(const struct view_instance *v)
{
    return (struct view_topology){.revision = 4294967401,
                                  .leader = "ctl-1",
                                  .source = "ctl-1",
                                  .zookeeper_is_up = true,
                                  .proxies = VIEW_UNKNOWN,
                                  .leads = true,
                                  .instances = v,
                                  .n_instances = 1};
}
