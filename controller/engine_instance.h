/* Private to the engine: one instance, its core, its members' monitors, its orders under way. */
#ifndef MR_CONTROLLER_ENGINE_INSTANCE_H
#define MR_CONTROLLER_ENGINE_INSTANCE_H

#include "common/core/list.h"
#include "controller/engine.h"
#include "controller/monitor.h"

#include <ev.h>

struct engine_instance;

/* A monitored member; `owner` of the monitor's callbacks. */
struct engine_member {
    struct engine_instance *instance;
    struct topology_address address;
    struct monitor_member *monitor;
};

/* An action that is answered later: by the monitor, by the store, or (when it could not be sent) by the loop.
 */
struct engine_order {
    struct list node;                 /* in instance->orders */
    struct engine_instance *instance; /* NULL: the instance has gone meanwhile */
    struct engine_member *member;     /* NULL: a commit */
    enum failover_event_type answer;
    uint64_t epoch;
    int err;
};

struct engine_instance {
    struct engine *engine;
    struct failover failover;
    char name[TOPOLOGY_NAME_MAX + 1];
    char corrupt[TOPOLOGY_EVIDENCE_MAX + 1]; /* "": its znode was readable */
    struct engine_member *members[TOPOLOGY_MEMBERS_MAX];
    uint32_t n_members;
    struct list orders;
    ev_timer deadline;
    struct engine_acks acks;
};

struct engine {
    struct loop *loop;
    struct engine_config config;
    struct monitor *monitor;
    struct zk_store *store;
    void *by_name; /* tsearch tree of struct engine_instance, by name */
    uint32_t count;
    uint64_t term;
    int64_t revision;
};

/* Runs one event through the instance's core and carries out what it says. */
void engine_step(struct engine_instance *i, struct failover_event *event);
/* engine_actions.c: carries out one update. */
void engine_run(struct engine_instance *i, const struct failover_event *event,
                struct failover_update *update);
void engine_orders_forget(struct engine_instance *i, const struct engine_member *member); /* NULL: all */

#endif
