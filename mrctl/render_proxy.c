/* One proxy: what the controllers know of it, and what it says of its instances. Contract in render.h. */
#include "mrctl/json_get.h"
#include "mrctl/render.h"
#include "mrctl/render_table.h"
#include "mrctl/render_text.h"

#include <inttypes.h>

static void render_span(const json_t *item, const char *key, char cell[CELL_MAX])
{
    int64_t us = json_get_int(item, key);
    if (us <= 0)
        (void)snprintf(cell, CELL_MAX, "-");
    else if (us < 1000)
        (void)snprintf(cell, CELL_MAX, "%" PRId64 " us", us);
    else if (us < 1000000)
        (void)snprintf(cell, CELL_MAX, "%.1f ms", (double)us / 1e3);
    else
        (void)snprintf(cell, CELL_MAX, "%.1f s", (double)us / 1e6);
}

static void render_bytes(const json_t *item, const char *key, char cell[CELL_MAX])
{
    char size[RENDER_SIZE_MAX];
    int64_t bytes = json_get_int(item, key);
    (void)snprintf(cell, CELL_MAX, "%s", bytes < 0 ? "-" : render_size(bytes, size));
}

static void render_flow_row(const json_t *item, char cells[COLUMNS_MAX][CELL_MAX])
{
    const json_t *rate = json_object_get(item, "requests_per_s");
    render_word(item, "name", cells[0]);
    render_number(item, "epoch", cells[1]);
    render_number(item, "clients", cells[2]);
    if (json_is_number(rate))
        (void)snprintf(cells[3], CELL_MAX, "%.1f", json_number_value(rate));
    else
        (void)snprintf(cells[3], CELL_MAX, "-");
    render_span(item, "p50_us", cells[4]);
    render_span(item, "p99_us", cells[5]);
    render_span(item, "p999_us", cells[6]);
    render_bytes(item, "memory_bytes", cells[7]);
}

static void render_sum_row(const json_t *item, char cells[COLUMNS_MAX][CELL_MAX])
{
    render_word(item, "name", cells[0]);
    render_number(item, "requests", cells[1]);
    render_number(item, "held", cells[2]);
    render_number(item, "replayed", cells[3]);
    render_number(item, "unknown", cells[4]);
    render_number(item, "rejected", cells[5]);
    render_number(item, "replica_reads", cells[6]);
    render_bytes(item, "received_bytes", cells[7]);
    render_bytes(item, "sent_bytes", cells[8]);
}

static void render_acks_row(const json_t *item, char cells[COLUMNS_MAX][CELL_MAX])
{
    render_word(item, "name", cells[0]);
    render_number(item, "ack_batches", cells[1]);
    render_number(item, "unacknowledged", cells[2]);
    render_span(item, "ack_p50_us", cells[3]);
    render_span(item, "ack_p99_us", cells[4]);
}

/* Of the instances that are strict, or were. */
static void render_acks(FILE *out, const json_t *items)
{
    static const char *const columns[] = {"INSTANCE", "BATCHES", "TOO FEW", "P50", "P99", NULL};
    json_t *strict = json_array();
    const json_t *item;
    size_t k;

    json_array_foreach(items, k, item)
    {
        bool asks = json_get_int(item, "ack_batches") > 0 || json_get_int(item, "unacknowledged") > 0;
        if (asks)
            (void)json_array_append_new(strict, json_deep_copy(item));
    }
    if (json_array_size(strict) > 0) {
        (void)fputs("\nReplies held until replicas had acknowledged (strict):\n", out);
        render_table(out, strict, columns, render_acks_row);
    }
    json_decref(strict);
}

void render_proxy(FILE *out, const json_t *root)
{
    static const char *const flow[] = {"INSTANCE", "EPOCH", "CLIENTS", "REQ/S", "P50",
                                       "P99",      "P99.9", "MEMORY",  NULL};
    static const char *const sums[] = {"INSTANCE", "REQUESTS", "HELD", "REPLAYED", "UNKNOWN",
                                       "REJECTED", "REPLICAS", "IN",   "OUT",      NULL};
    const json_t *stats = json_object_get(root, "stats");
    const json_t *items = json_object_get(stats, "instances");
    json_t *known = json_pack("{s:[O?]}", "proxies", json_object_get(root, "proxy"));
    render_proxies(out, known);
    json_decref(known);
    if (!json_is_object(stats))
        return;
    if (json_array_size(items) == 0) {
        (void)fputs("\nIt serves no instance.\n", out);
        return;
    }
    (void)fputs("\nNow, and how long requests took (the last 10 to 20 seconds):\n", out);
    render_table(out, items, flow, render_flow_row);
    (void)fputs("\nSince it began:\n", out);
    render_table(out, items, sums, render_sum_row);
    render_acks(out, items);
}
