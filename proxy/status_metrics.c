/* GET /metrics: the counters of all instances in Prometheus' text format (version 0.0.4). */
#include "proxy/control.h"
#include "proxy/core/histogram.h"
#include "proxy/status_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Of the histogram's: from 32 us to 17 s, each twice as long. */
enum { METRICS_OCTAVE_MIN = 5, METRICS_OCTAVE_MAX = 24 };

struct metrics_family {
    const char *name, *type, *help;
    size_t offset; /* of a uint64_t in struct worker_stats */
};

#define METRICS_OF(field) offsetof(struct worker_stats, field)

static const struct metrics_family metrics_families[] = {
    {"clients", "gauge", "Clients connected now.", METRICS_OF(clients)},
    {"clients_accepted_total", "counter", "Clients accepted.", METRICS_OF(accepted)},
    {"requests_total", "counter", "Requests that a master, or a replica, answered.", METRICS_OF(requests)},
    {"held_total", "counter", "Requests that waited for a master.", METRICS_OF(held)},
    {"replayed_total", "counter", "Reads sent again after their master was lost.", METRICS_OF(replayed)},
    {"unknown_total", "counter", "Requests answered with MRUNKNOWN.", METRICS_OF(unknown)},
    {"rejected_total", "counter", "Requests and clients answered with MRHOLD, MRNOROUTE or MRLIMIT.",
     METRICS_OF(rejected)},
    {"ack_batches_total", "counter", "WAITs for replicas' acknowledgements that were answered.",
     METRICS_OF(batches)},
    {"unacknowledged_total", "counter", "Requests answered with MRDURABILITY.", METRICS_OF(shorts)},
    {"received_bytes_total", "counter", "Bytes that came from clients.", METRICS_OF(received_bytes)},
    {"sent_bytes_total", "counter", "Bytes that were written to clients.", METRICS_OF(sent_bytes)},
    {"batched_reads_total", "counter", "Reads of clients that shared a system call with others.",
     METRICS_OF(batched_reads)},
    {"batched_writes_total", "counter", "Writes to clients that shared a system call with others.",
     METRICS_OF(batched_writes)},
    {"master_connections", "gauge", "Connections to the master now.", METRICS_OF(masters)},
    {"replica_reads_total", "counter", "Requests that a replica answered; in requests_total, too.",
     METRICS_OF(replica_reads)},
    {"replica_connections", "gauge", "Connections to replicas that clients read from now.",
     METRICS_OF(replicas)},
    {"buffer_bytes", "gauge", "Memory in buffers of clients and connections now.", METRICS_OF(memory_bytes)},
    {"held_bytes", "gauge", "Bytes of requests that wait to be sent to a master now.",
     METRICS_OF(held_bytes)},
};

enum { METRICS_FAMILIES = sizeof(metrics_families) / sizeof(metrics_families[0]) };

static void metrics_head(FILE *out, const char *name, const char *type, const char *help)
{
    (void)fprintf(out, "# HELP mr_proxy_%s %s\n# TYPE mr_proxy_%s %s\n", name, help, name, type);
}

static void metrics_counters(FILE *out, struct control *c)
{
    const struct route_table *t = &control_book(c)->table;
    struct worker_stats *stats = calloc(t->n + 1, sizeof(*stats));

    if (!stats)
        return;
    for (size_t i = 0; i < t->n; i++)
        control_read_stats(c, t->entries[i]->route.name, &stats[i]);
    for (size_t k = 0; k < METRICS_FAMILIES; k++) {
        const struct metrics_family *f = &metrics_families[k];
        metrics_head(out, f->name, f->type, f->help);
        for (size_t i = 0; i < t->n; i++)
            (void)fprintf(out, "mr_proxy_%s{instance=\"%s\"} %" PRIu64 "\n", f->name,
                          t->entries[i]->route.name,
                          *(const uint64_t *)(const void *)((const char *)&stats[i] + f->offset));
    }
    free(stats);
}

static void metrics_histogram(FILE *out, const char *name, const char *instance,
                              const struct histogram_sum *h)
{
    uint64_t total = histogram_total(h);

    for (unsigned k = METRICS_OCTAVE_MIN; k <= METRICS_OCTAVE_MAX; k++)
        (void)fprintf(out, "%s_bucket{instance=\"%s\",le=\"%.6f\"} %" PRIu64 "\n", name, instance,
                      (double)(1U << k) / 1e6, histogram_below(h, k));
    (void)fprintf(out, "%s_bucket{instance=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, instance, total);
    (void)fprintf(out, "%s_sum{instance=\"%s\"} %.6f\n", name, instance, (double)h->sum_us / 1e6);
    (void)fprintf(out, "%s_count{instance=\"%s\"} %" PRIu64 "\n", name, instance, total);
}

char *status_metrics(struct control *c, size_t *len)
{
    const struct route_book *b = control_book(c);
    const struct route_table *t = &b->table;
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    if (!out)
        return NULL;
    metrics_head(out, "info", "gauge", "This proxy.");
    (void)fprintf(out, "mr_proxy_info{id=\"%s\",version=\"%s\"} 1\n", control_configured(c)->id, MR_VERSION);
    metrics_head(out, "zookeeper_connected", "gauge", "1 while ZooKeeper can be reached.");
    (void)fprintf(out, "mr_proxy_zookeeper_connected %d\n", b->store_up);
    metrics_head(out, "controllers_heard", "gauge", "1 while a controller is heard.");
    (void)fprintf(out, "mr_proxy_controllers_heard %d\n", !b->silent);
    metrics_head(out, "serving", "gauge", "1 while the master is known, 0 while requests wait for one.");
    for (size_t i = 0; i < t->n; i++)
        (void)fprintf(out, "mr_proxy_serving{instance=\"%s\"} %d\n", t->entries[i]->route.name,
                      t->entries[i]->route.state == ROUTE_SERVING);
    metrics_head(out, "epoch", "gauge", "Epoch of the route: it grows with each promotion.");
    for (size_t i = 0; i < t->n; i++)
        (void)fprintf(out, "mr_proxy_epoch{instance=\"%s\"} %" PRIu64 "\n", t->entries[i]->route.name,
                      t->entries[i]->route.epoch);
    metrics_counters(out, c);
    metrics_head(out, "request_duration_seconds", "histogram",
                 "From a request's arrival at the proxy to its reply; blocking commands don't count.");
    for (size_t i = 0; i < t->n; i++) {
        struct histogram_sum h;
        control_read_latency(c, t->entries[i]->route.name, &h);
        metrics_histogram(out, "mr_proxy_request_duration_seconds", t->entries[i]->route.name, &h);
    }
    metrics_head(out, "ack_duration_seconds", "histogram",
                 "How long replies of a strict instance were held until replicas had acknowledged.");
    for (size_t i = 0; i < t->n; i++) {
        struct histogram_sum h;
        control_read_held_time(c, t->entries[i]->route.name, &h);
        metrics_histogram(out, "mr_proxy_ack_duration_seconds", t->entries[i]->route.name, &h);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
