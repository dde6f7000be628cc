/* What the controllers show of themselves: the JSON of the HTTP API's GET requests. Pure (jansson).
 *
 * Input is borrowed. Every function returns compact JSON in memory of its own, to be freed with free(), and
 * its length; NULL only when out of memory. Times are Unix milliseconds; what is not known is null where the
 * design's interfaces name the field, and has no field otherwise. Passwords are never in it.
 *
 *   struct failover (a controller's memory) ──┐
 *   struct topology_instance (ZooKeeper) ─────┴─► view ─► HTTP API ─► mrctl, dashboard
 *
 * From the record alone the members' state is "unknown". */
#ifndef MR_CONTROLLER_CORE_VIEW_H
#define MR_CONTROLLER_CORE_VIEW_H

#include "common/core/topology_codec.h"

struct failover;
struct failover_plan;
struct orders_count;

enum { VIEW_UNKNOWN = -1, VIEW_VERDICT_MAX = 480 };

/* Would a failover that nobody ordered work now? From failover_explain(). */
enum view_readiness { VIEW_READINESS_UNKNOWN, VIEW_READY, VIEW_NOT_READY };

struct view_instance {
    const struct topology_instance *record;
    const struct failover *failover; /* NULL: only the record is known */
    int64_t revision;                /* mzxid of its znode */
    int32_t acked;                   /* proxies that said they switched to record->epoch; VIEW_UNKNOWN */
    int64_t slowest_us;              /* the slowest of them; VIEW_UNKNOWN */
    const char *missing;     /* who of them has not: "host-7 and 3 more"; "" or NULL: nobody is known */
    int32_t holding;         /* strict: proxies that hold replies for record->policy.acks; VIEW_UNKNOWN */
    const char *not_holding; /* who doesn't, as `missing` */
    const struct orders_count *orders; /* ORDERS_KINDS of them; NULL: not known */
    int64_t now_us;                    /* monotonic, of the clock in `failover` */
    int64_t wall_ms;                   /* Unix; 0: unknown, then nothing in the record counts as over */
    enum view_readiness readiness;
    int next;                           /* member that would become master; -1: nobody, or not known */
    char verdict[VIEW_VERDICT_MAX + 1]; /* "READY: …" or "NOT READY: …" */
};

/* An instance whose znode can't be read: named, and left alone. */
struct view_set_aside {
    const char *name, *why;
};

struct view_topology {
    int64_t revision;                   /* of the newest change known */
    const char *leader;                 /* the leader's id; NULL: nobody leads, as far as is known */
    const char *source;                 /* who says so: a controller's id, or "zookeeper" */
    bool zookeeper_is_up;               /* false: what is shown may be old, and nothing can be changed */
    const struct topology_pause *pause; /* of all instances; NULL: none */
    int64_t wall_ms;                    /* as in view_instance */
    int32_t proxies;                    /* registered; VIEW_UNKNOWN */
    bool leads;                         /* who says so leads */
    const struct view_instance *instances;
    size_t n_instances;
    const struct view_set_aside *set_aside;
    size_t n_set_aside;
};

/* GET /v1/topology: every instance with its members. */
char *view_topology(const struct view_topology *t, size_t *len) MR_MUST_CHECK;
/* GET /v1/instances: one short object each. */
char *view_instances(const struct view_topology *t, size_t *len) MR_MUST_CHECK;
/* GET /v1/instances/NAME: everything; a password is shown as "***". */
char *view_instance(const struct view_instance *i, int32_t proxies, size_t *len) MR_MUST_CHECK;

/* GET /metrics: the same for Prometheus (text format 0.0.4). */
char *view_metrics(const struct view_topology *t, size_t *len) MR_MUST_CHECK;

/* What failover_explain() found out. code NULL: {"instance":…,"ready":…,"verdict":…,"lines":[…],…}, the
 * answer to GET …/explain and to a dry run. Else the refusal of one:
 * {"error":{"code":…,"message":…},"plan":{…}}. */
char *view_plan(const struct topology_instance *record, const struct failover_plan *plan, const char *code,
                size_t *len) MR_MUST_CHECK;

struct view_history {
    const char *instance;
    const struct topology_history *entry;
};
/* GET /v1/history, in the given order. */
char *view_history(const struct view_history *entries, size_t n, size_t *len) MR_MUST_CHECK;

struct view_controller {
    const struct topology_controller *controller;
    bool leads;
};
/* GET /v1/controllers. */
char *view_controllers(const struct view_controller *controllers, size_t n, size_t *len) MR_MUST_CHECK;

struct view_proxy {
    const struct topology_proxy *proxy;
    int32_t behind; /* instances whose newest epoch it has not acknowledged; VIEW_UNKNOWN */
};
/* GET /v1/proxies. */
char *view_proxies(const struct view_proxy *proxies, size_t n, size_t *len) MR_MUST_CHECK;

#endif
