/* GET /v1/stats: what each instance's clients get, and what it takes. */
#include "proxy/control.h"
#include "proxy/meter.h"
#include "proxy/status_private.h"

json_t *status_stats_of(struct control *c, const struct meter *m, const struct route *r)
{
    struct worker_stats w;
    struct meter_reading rate;

    control_read_stats(c, r->name, &w);
    meter_read(m, r->name, &rate);
    /* A tenth of a request a second is enough, and reads better. */
    double per_s = (double)(int64_t)(rate.requests_per_s * 10 + 0.5) / 10;
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:I, s:I, s:I, s:I, s:I, s:I}",
        "name", r->name, "epoch", (json_int_t)r->epoch, "clients", (json_int_t)w.clients, "requests",
        (json_int_t)w.requests, "requests_per_s", per_s, "p50_us", (json_int_t)rate.p50_us, "p99_us",
        (json_int_t)rate.p99_us, "p999_us", (json_int_t)rate.p999_us, "held", (json_int_t)w.held, "replayed",
        (json_int_t)w.replayed, "unknown", (json_int_t)w.unknown, "rejected", (json_int_t)w.rejected,
        "received_bytes", (json_int_t)w.received_bytes, "sent_bytes", (json_int_t)w.sent_bytes,
        "master_connections", (json_int_t)w.masters, "memory_bytes", (json_int_t)w.memory_bytes, "held_bytes",
        (json_int_t)w.held_bytes, "replica_reads", (json_int_t)w.replica_reads, "replica_connections",
        (json_int_t)w.replicas, "ack_batches", (json_int_t)w.batches, "unacknowledged", (json_int_t)w.shorts,
        "ack_p50_us", (json_int_t)rate.held_p50_us, "ack_p99_us", (json_int_t)rate.held_p99_us);
}
