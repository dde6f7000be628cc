/* Lists as tables: instances, history, controllers, proxies. Contract in render.h. */
#include "mrctl/json_get.h"
#include "mrctl/render.h"
#include "mrctl/render_table.h"
#include "mrctl/render_text.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

void render_number(const json_t *item, const char *key, char cell[CELL_MAX])
{
    int64_t value = json_get_int(item, key);
    if (value >= 0)
        (void)snprintf(cell, CELL_MAX, "%" PRId64, value);
    else
        (void)snprintf(cell, CELL_MAX, "-");
}

void render_word(const json_t *item, const char *key, char cell[CELL_MAX])
{
    (void)snprintf(cell, CELL_MAX, "%s", json_get_text(item, key));
}

/* Every column is as wide as its widest cell; the last one is not padded. */
void render_table(FILE *out, const json_t *items, const char *const *titles, render_row_fn row)
{
    int widths[COLUMNS_MAX] = {0};
    size_t columns = 0, k;
    json_t *item;
    char cells[COLUMNS_MAX][CELL_MAX];
    for (; titles[columns] != NULL; columns++)
        widths[columns] = line_columns(titles[columns]);
    assert(columns <= COLUMNS_MAX);
    json_array_foreach(items, k, item)
    {
        row(item, cells);
        for (size_t c = 0; c < columns; c++) {
            int width = line_columns(cells[c]);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    struct line l;
    line_begin(&l, out, "", "    ");
    for (size_t c = 0; c < columns; c++)
        line_add(&l, "%-*s", c + 1 < columns ? widths[c] : 0, titles[c]);
    line_end(&l);
    json_array_foreach(items, k, item)
    {
        row(item, cells);
        line_begin(&l, out, "", "    ");
        for (size_t c = 0; c < columns; c++)
            line_add(&l, "%-*s", c + 1 < columns ? widths[c] : 0, cells[c]);
        line_end(&l);
    }
}

static void render_instance_row(const json_t *item, char cells[COLUMNS_MAX][CELL_MAX])
{
    char members[CELL_MAX], up[CELL_MAX];
    render_word(item, "name", cells[0]);
    render_number(item, "port", cells[1]);
    render_word(item, "state", cells[2]);
    render_number(item, "epoch", cells[3]);
    render_number(item, "members", members);
    render_number(item, "members_up", up);
    (void)snprintf(cells[4], CELL_MAX, "%.20s/%.20s", up, members);
    render_word(item, "durability", cells[5]);
    render_word(item, "master", cells[6]);
}

void render_instances(FILE *out, const json_t *root)
{
    static const char *const titles[] = {"NAME", "PORT",       "STATE",  "EPOCH",
                                         "UP",   "DURABILITY", "MASTER", NULL};
    const json_t *items = json_object_get(root, "instances");
    if (json_array_size(items) == 0)
        (void)fputs("No instances yet: mrctl adopt NAME HOST:PORT takes one in.\n", out);
    else
        render_table(out, items, titles, render_instance_row);
}

static void render_controller_row(const json_t *item, char cells[COLUMNS_MAX][CELL_MAX])
{
    char port[CELL_MAX], when[RENDER_TIME_MAX];
    const char *host = json_get_text(item, "host");
    bool is_v6 = strchr(host, ':') != NULL;
    render_word(item, "id", cells[0]);
    render_word(item, "role", cells[1]);
    render_number(item, "http_port", port);
    (void)snprintf(cells[2], CELL_MAX, "http://%s%.45s%s:%.6s", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
                   port);
    render_word(item, "version", cells[3]);
    (void)snprintf(cells[4], CELL_MAX, "%s", render_time(json_get_int(item, "started"), when));
}

void render_controllers(FILE *out, const json_t *root)
{
    static const char *const titles[] = {"ID", "ROLE", "HTTP", "VERSION", "STARTED", NULL};
    const json_t *items = json_object_get(root, "controllers");
    if (json_array_size(items) == 0)
        (void)fputs("No controller is registered in ZooKeeper.\n", out);
    else
        render_table(out, items, titles, render_controller_row);
}

static void render_proxy_row(const json_t *item, char cells[COLUMNS_MAX][CELL_MAX])
{
    char when[RENDER_TIME_MAX];
    int64_t behind = json_get_int(item, "behind");
    render_word(item, "id", cells[0]);
    render_word(item, "bind", cells[1]);
    render_number(item, "threads", cells[2]);
    render_word(item, "version", cells[3]);
    (void)snprintf(cells[4], CELL_MAX, "%s", render_time(json_get_int(item, "started"), when));
    if (behind <= 0)
        (void)snprintf(cells[5], CELL_MAX, behind == 0 ? "newest" : "-");
    else
        (void)snprintf(cells[5], CELL_MAX, "behind on %" PRId64, behind);
}

void render_proxies(FILE *out, const json_t *root)
{
    static const char *const titles[] = {"ID", "BIND", "THREADS", "VERSION", "STARTED", "EPOCHS", NULL};
    const json_t *items = json_object_get(root, "proxies");
    if (json_array_size(items) == 0)
        (void)fputs("No proxy is registered in ZooKeeper.\n", out);
    else
        render_table(out, items, titles, render_proxy_row);
}

/* What a history entry is called: the planned ones have a word of their own. */
static const char *render_kind(const json_t *item)
{
    const char *kind = json_get_text(item, "kind");
    bool is_planned = strcmp(json_get_word(item, "verdict"), "PLANNED") == 0;
    if (strcmp(kind, "failover") == 0 && is_planned)
        return "switchover";
    return strcmp(kind, "rollback") == 0 ? "switchover rolled back" : kind;
}

static void render_history_entry(FILE *out, const json_t *item)
{
    char when[RENDER_TIME_MAX], size[RENDER_SIZE_MAX];
    const char *from = json_get_word(item, "from"), *to = json_get_word(item, "to");
    const char *verdict = json_get_word(item, "verdict");
    struct line l;
    line_begin(&l, out, "", "    ");
    line_add(&l, "%s", render_time(json_get_int(item, "at"), when));
    line_add(&l, "%s", json_get_text(item, "instance"));
    line_add(&l, "epoch %" PRId64, json_get_int(item, "epoch"));
    line_add(&l, "%s", render_kind(item));
    line_add(&l, "%s", strcmp(verdict, "PLANNED") == 0 ? "" : verdict);
    line_add(&l, "%s%s%s", from, from[0] != '\0' && to[0] != '\0' ? " → " : "", to);
    render_timeline(&l, json_object_get(item, "timeline_ms"));
    int64_t lost_bytes = json_get_int(item, "lost_bytes");
    if (lost_bytes > 0)
        line_add(&l, "%s that the new history lacks", render_size(lost_bytes, size));
    line_add_words(&l, "%s", json_get_word(item, "evidence"));
    line_end(&l);
}

void render_history(FILE *out, const json_t *root)
{
    const json_t *items = json_object_get(root, "history");
    size_t k;
    json_t *item;
    json_array_foreach(items, k, item)
    {
        render_history_entry(out, item);
    }
    if (json_array_size(items) == 0)
        (void)fputs("Nothing has happened yet.\n", out);
}
