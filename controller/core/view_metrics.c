/* GET /metrics: what is shown of the instances in Prometheus' text format (0.0.4); contract in view.h. */
#include "controller/core/failover.h"
#include "controller/core/orders.h"
#include "controller/core/view.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct metrics {
    char *text; /* NULL: out of memory */
    size_t len, room;
};

static void MR_PRINTF(2, 3) metrics_add(struct metrics *m, const char *fmt, ...)
{
    enum { LINE_MAX_BYTES = 320 };
    if (m->text != NULL && m->room - m->len < LINE_MAX_BYTES) {
        char *grown = realloc(m->text, m->room * 2 + LINE_MAX_BYTES);
        if (grown == NULL)
            free(m->text);
        m->text = grown;
        m->room = m->room * 2 + LINE_MAX_BYTES;
    }
    if (m->text == NULL)
        return;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(m->text + m->len, LINE_MAX_BYTES, fmt, args);
    va_end(args);
    assert(n >= 0 && n < LINE_MAX_BYTES);
    m->len += (size_t)n;
}

static void metrics_head_of(struct metrics *m, const char *name, const char *type, const char *help)
{
    metrics_add(m, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void metrics_head(struct metrics *m, const char *name, const char *help)
{
    metrics_head_of(m, name, "gauge", help);
}

/* ---- values of one instance; -1: it has none ----------------------------------------------------------- */

static int64_t metrics_epoch(const struct view_instance *v)
{
    return (int64_t)v->record->epoch;
}

static int64_t metrics_stable(const struct view_instance *v)
{
    return v->record->state == TOPOLOGY_STABLE;
}

static int64_t metrics_members(const struct view_instance *v)
{
    return v->record->n_members;
}

static int64_t metrics_members_up(const struct view_instance *v)
{
    int64_t n = 0;
    for (uint32_t k = 0; v->failover != NULL && k < v->record->n_members; k++)
        n += health_is_reachable(&v->failover->health[k]);
    return v->failover != NULL ? n : -1;
}

static int64_t metrics_acks(const struct view_instance *v)
{
    return topology_is_strict(v->record) ? v->record->policy.acks : 0;
}

static int64_t metrics_holding(const struct view_instance *v)
{
    return topology_is_strict(v->record) ? v->holding : -1;
}

static int64_t metrics_ready(const struct view_instance *v)
{
    return v->readiness == VIEW_READINESS_UNKNOWN ? -1 : v->readiness == VIEW_READY;
}

static int64_t metrics_needed(const struct view_instance *v)
{
    struct readiness r;
    if (v->failover == NULL)
        return -1;
    readiness_judge(v->record, v->failover->health, &r);
    return r.needed;
}

static int64_t metrics_have(const struct view_instance *v)
{
    struct readiness r;
    if (v->failover == NULL)
        return -1;
    readiness_judge(v->record, v->failover->health, &r);
    return r.have;
}

/* Only who leads knows. */
static int64_t metrics_not_fenced(const struct view_instance *v)
{
    int64_t n = 0;
    if (v->failover == NULL || v->failover->term == 0 || !topology_is_fenced(v->record))
        return -1;
    for (uint32_t k = 0; k < v->record->n_members; k++)
        n += v->failover->members[k].fence.failed;
    return n;
}

static const struct {
    const char *name, *help;
    int64_t (*of)(const struct view_instance *v);
} metrics_families[] = {
    {"mr_instance_stable", "A master serves; 0: a failover is under way.", metrics_stable},
    {"mr_instance_epoch", "Promotions so far.", metrics_epoch},
    {"mr_instance_members", "Registered members.", metrics_members},
    {"mr_instance_members_up", "Members that answer this controller.", metrics_members_up},
    {"mr_instance_failover_ready", "Would a failover work if the master were lost now?", metrics_ready},
    {"mr_instance_failover_needed", "Members beside the master that a failover needs.", metrics_needed},
    {"mr_instance_failover_have", "Members beside the master whose data counts.", metrics_have},
    {"mr_instance_strict_acks", "Replicas that acknowledge a write; 0: async.", metrics_acks},
    {"mr_instance_proxies_holding", "Proxies that hold replies until the acknowledgements are there.",
     metrics_holding},
    {"mr_instance_members_not_fenced", "Members that refused to have their ACL changed.", metrics_not_fenced},
};

/* ---- orders to members: those of a kind that was ever given ---------------------------------------------
 */

static void metrics_add_orders(struct metrics *m, const struct view_topology *t, const char *name,
                               void (*add)(struct metrics *m, const char *name, const char *labels,
                                           const struct orders_count *count))
{
    char labels[TOPOLOGY_NAME_MAX + 48];
    for (size_t i = 0; i < t->n_instances; i++) {
        const struct orders_count *counts = t->instances[i].orders;
        for (int k = 0; counts != NULL && k < ORDERS_KINDS; k++) {
            if (counts[k].done + counts[k].failed == 0)
                continue;
            (void)snprintf(labels, sizeof labels, "instance=\"%s\",order=\"%s\"",
                           t->instances[i].record->name, orders_name((enum orders_kind)k));
            add(m, name, labels, &counts[k]);
        }
    }
}

static void metrics_add_results(struct metrics *m, const char *name, const char *labels,
                                const struct orders_count *count)
{
    metrics_add(m, "%s{%s,result=\"done\"} %" PRIu64 "\n", name, labels, count->done);
    metrics_add(m, "%s{%s,result=\"failed\"} %" PRIu64 "\n", name, labels, count->failed);
}

static void metrics_add_duration(struct metrics *m, const char *name, const char *labels,
                                 const struct orders_count *count)
{
    metrics_add(m, "%s_sum{%s} %" PRId64 ".%06" PRId64 "\n", name, labels, count->took_us / 1000000,
                count->took_us % 1000000);
    metrics_add(m, "%s_count{%s} %" PRIu64 "\n", name, labels, count->done);
}

static void metrics_orders(struct metrics *m, const struct view_topology *t)
{
    static const char total[] = "mr_instance_orders_total", took[] = "mr_instance_order_duration_seconds";
    metrics_head_of(m, total, "counter", "Orders to members since this controller started.");
    metrics_add_orders(m, t, total, metrics_add_results);
    metrics_head_of(m, took, "summary", "From such an order to its answer, of those that were done.");
    metrics_add_orders(m, t, took, metrics_add_duration);
}

char *view_metrics(const struct view_topology *t, size_t *len)
{
    assert(t != NULL && len != NULL);
    struct metrics m = {.text = malloc(4096), .room = 4096};
    metrics_head(&m, "mr_controller_leads", "This controller leads.");
    metrics_add(&m, "mr_controller_leads %d\n", t->leads);
    metrics_head(&m, "mr_controller_zookeeper_up", "ZooKeeper answers this controller.");
    metrics_add(&m, "mr_controller_zookeeper_up %d\n", t->zookeeper_is_up);
    metrics_head(&m, "mr_controller_set_aside", "Instances whose znode can't be read.");
    metrics_add(&m, "mr_controller_set_aside %zu\n", t->n_set_aside);
    if (t->proxies != VIEW_UNKNOWN) {
        metrics_head(&m, "mr_controller_proxies", "Registered proxies.");
        metrics_add(&m, "mr_controller_proxies %" PRId32 "\n", t->proxies);
    }
    for (size_t f = 0; f < sizeof metrics_families / sizeof metrics_families[0]; f++) {
        metrics_head(&m, metrics_families[f].name, metrics_families[f].help);
        for (size_t k = 0; k < t->n_instances; k++) {
            int64_t value = metrics_families[f].of(&t->instances[k]);
            if (value >= 0)
                metrics_add(&m, "%s{instance=\"%s\"} %" PRId64 "\n", metrics_families[f].name,
                            t->instances[k].record->name, value);
        }
    }
    metrics_orders(&m, t);
    *len = m.text != NULL ? m.len : 0;
    return m.text;
}
