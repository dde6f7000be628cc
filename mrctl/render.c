/* Topology: the tree and one instance in full; tables are render_tables.c's. */
#include "mrctl/render.h"

#include "mrctl/json_get.h"
#include "mrctl/line.h"
#include "mrctl/render_text.h"

#include <inttypes.h>
#include <string.h>

/* ---- one member ---------------------------------------------------------------------------------------- */

static void render_member(FILE *out, const json_t *instance, const json_t *member, int width, bool is_last)
{
    /* Which replicas could serve reads matters to who wants them to. */
    const char *policy = json_get_word(instance, "reads");
    bool reads = policy[0] != '\0' && strcmp(policy, "master") != 0 &&
                 json_is_true(json_object_get(member, "serves_reads"));
    const char *address = json_get_text(member, "address"), *role = json_get_text(member, "role");
    struct line l;
    line_begin(&l, out, is_last ? "└─ " : "├─ ", is_last ? "      " : "│     ");
    line_add(&l, "%-*s", width, address);
    line_add(&l, "%-7s", role);
    line_add(&l, "%-7s", json_get_text(member, "state"));
    int64_t offset = json_get_int(member, "offset"), lag_bytes = json_get_int(member, "lag_bytes");
    if (offset >= 0)
        line_add(&l, "offset %" PRId64, offset);
    if (strcmp(role, "master") != 0) {
        char size[RENDER_SIZE_MAX];
        if (lag_bytes >= 0)
            line_add(&l, "lag %s", render_size(lag_bytes, size));
        /* Of a member that is down it goes without saying. */
        if (strcmp(json_get_word(member, "state"), "down") != 0 &&
            json_is_string(json_object_get(member, "link")))
            line_add(&l, "link %s", json_get_text(member, "link"));
    }
    if (json_is_true(json_object_get(member, "candidate")))
        line_add(&l, "candidate");
    if (strcmp(address, json_get_word(instance, "next")) == 0)
        line_add(&l, "next");
    line_add(&l, "%s", json_get_word(member, "priority"));
    if (json_get_word(member, "zone")[0] != '\0')
        line_add(&l, "zone %s", json_get_word(member, "zone"));
    if (reads)
        line_add(&l, "reads");
    if (json_get_word(member, "note")[0] != '\0')
        line_add_words(&l, "(%s)", json_get_word(member, "note"));
    line_end(&l);
}

/* ---- one instance -------------------------------------------------------------------------------------- */

/* Begins a row below the members; the last one of a tree closes it. */
static void render_row(struct line *l, FILE *out, int *rows_left)
{
    bool is_last = --*rows_left == 0;
    line_begin(l, out, is_last ? "└─ " : "├─ ", is_last ? "   " : "│  ");
}

static void render_proxies_line(FILE *out, const json_t *instance, int *rows_left)
{
    int64_t proxies = json_get_int(instance, "proxies"), acked = json_get_int(instance, "acked");
    const json_t *slowest_ms = json_object_get(instance, "slowest_ms");
    char slowest[48] = "";
    struct line l;
    if (proxies < 0)
        return;
    if (json_is_number(slowest_ms))
        (void)snprintf(slowest, sizeof slowest, ", slowest %.1f ms", json_number_value(slowest_ms));
    render_row(&l, out, rows_left);
    if (acked >= 0)
        line_add(&l, "proxies on the epoch: %" PRId64 " of %" PRId64 " hosts%s", acked, proxies, slowest);
    else
        line_add(&l, "proxies: %" PRId64 " hosts", proxies);
    if (acked >= 0 && json_get_word(instance, "proxies_missing")[0] != '\0')
        line_add_words(&l, "missing: %s", json_get_word(instance, "proxies_missing"));
    line_end(&l);
}

/* A strict instance's is arithmetic. */
static void render_readiness(FILE *out, const json_t *readiness, bool strict, int *rows_left)
{
    int64_t candidates = json_get_int(readiness, "candidates");
    struct line l;
    render_row(&l, out, rows_left);
    int64_t needed = json_get_int(readiness, "needed"), have = json_get_int(readiness, "have");
    if (strict && needed > 0 && json_is_true(json_object_get(readiness, "ready")))
        line_add(&l, "failover: READY (%" PRId64 "/%" PRId64 " needed)", have, needed);
    else if (strict && needed > 0 && have < needed)
        line_add_words(&l, "failover: NOT READY (%" PRId64 "/%" PRId64 " needed: %s)", have, needed,
                       json_get_text(readiness, "missing"));
    else if (json_is_true(json_object_get(readiness, "ready")))
        line_add(&l, "failover: READY (%" PRId64 " candidate%s)", candidates, candidates == 1 ? "" : "s");
    else
        line_add_words(&l, "failover: %s", json_get_text(readiness, "verdict"));
    if (json_is_false(json_object_get(readiness, "auto")))
        line_add(&l, "auto_failover is off: by order only");
    line_end(&l);
}

/* Maintenance, of one instance or of all. */
static void render_pause(struct line *l, const json_t *pause)
{
    char when[RENDER_TIME_MAX];
    int64_t until_ms = json_get_int(pause, "until");
    line_add(l, "paused by %s", json_get_text(pause, "owner"));
    line_add(l, "since %s", render_time(json_get_int(pause, "since"), when));
    if (until_ms >= 0)
        line_add(l, "until %s", render_time(until_ms, when));
    else
        line_add(l, "until resumed");
    if (json_get_word(pause, "reason")[0] != '\0')
        line_add_words(l, "(%s)", json_get_word(pause, "reason"));
    line_end(l);
}

static void render_cooldown(FILE *out, const json_t *instance, const json_t *cooldown, int *rows_left)
{
    char when[RENDER_TIME_MAX];
    int64_t strikes = json_get_int(cooldown, "strikes");
    struct line l;
    render_row(&l, out, rows_left);
    line_add(&l, "cooldown until %s", render_time(json_get_int(cooldown, "until"), when));
    if (strikes > 1)
        line_add(&l, "%" PRId64 " failovers in a row", strikes);
    if (json_is_true(json_object_get(cooldown, "bypassed")))
        line_add(&l, "bypassed once");
    line_add(&l, "'mrctl ack %s' ends it", json_get_text(instance, "name"));
    line_end(&l);
}

static void render_failover(FILE *out, const char *title, const json_t *failover, int *rows_left)
{
    struct line l;
    char when[RENDER_TIME_MAX];
    render_row(&l, out, rows_left);
    line_add(&l, "%s %s", title, render_time(json_get_int(failover, "at"), when));
    line_add(&l, "%s", json_get_text(failover, "verdict"));
    line_add(&l, "epoch %" PRId64, json_get_int(failover, "epoch"));
    if (json_get_word(failover, "old_master")[0] != '\0')
        line_add(&l, "from %s", json_get_word(failover, "old_master"));
    render_timeline(&l, json_object_get(failover, "timeline_ms"));
    if (json_get_int(failover, "lost_bytes") > 0) {
        char size[RENDER_SIZE_MAX];
        line_add(&l, "at least %s lost", render_size(json_get_int(failover, "lost_bytes"), size));
    }
    line_add_words(&l, "%s", json_get_word(failover, "evidence"));
    line_end(&l);
}

static int render_address_width(const json_t *members)
{
    int width = 0;
    size_t k;
    json_t *member;
    json_array_foreach(members, k, member)
    {
        int columns = line_columns(json_get_text(member, "address"));
        width = columns > width ? columns : width;
    }
    return width;
}

/* What is told below the members, and in which order. */
static void render_rows(FILE *out, const json_t *instance, int rows_left)
{
    const json_t *readiness = json_object_get(instance, "readiness");
    const json_t *pause = json_object_get(instance, "pause");
    const json_t *cooldown = json_object_get(instance, "cooldown");
    const json_t *under_way = json_object_get(instance, "failover");
    const json_t *last = json_object_get(instance, "last_failover");
    if (json_is_object(readiness))
        render_readiness(out, readiness, strcmp(json_get_word(instance, "durability"), "strict") == 0,
                         &rows_left);
    if (json_is_object(pause)) {
        struct line l;
        render_row(&l, out, &rows_left);
        render_pause(&l, pause);
    }
    if (json_is_object(cooldown))
        render_cooldown(out, instance, cooldown, &rows_left);
    render_proxies_line(out, instance, &rows_left);
    if (json_is_object(under_way))
        render_failover(out, "failover since", under_way, &rows_left);
    else if (json_is_object(last))
        render_failover(out, "last failover", last, &rows_left);
}

static int render_count_rows(const json_t *instance)
{
    static const char *const keys[] = {"readiness", "pause", "cooldown"};
    int rows = json_get_int(instance, "proxies") >= 0;
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++)
        rows += json_is_object(json_object_get(instance, keys[k]));
    return rows + (json_is_object(json_object_get(instance, "failover")) ||
                   json_is_object(json_object_get(instance, "last_failover")));
}

/* "strict (2 of 3 proxies hold)": some acknowledge without waiting yet. */
static void render_durability(struct line *l, const json_t *instance)
{
    int64_t acks = json_get_int(instance, "acks"), holding = json_get_int(instance, "holding");
    int64_t proxies = json_get_int(instance, "proxies");
    if (acks > 1)
        line_add(l, "%s, acks %" PRId64, json_get_text(instance, "durability"), acks);
    else
        line_add(l, "%s", json_get_text(instance, "durability"));
    if (holding >= 0 && proxies >= 0 && holding < proxies)
        line_add_words(l, "(%" PRId64 " of %" PRId64 " proxies hold, not %s)", holding, proxies,
                       json_get_text(instance, "not_holding"));
}

/* As whom applications log in at members, and what is amiss with that. */
static void render_fence(struct line *l, const json_t *fence)
{
    if (!json_is_object(fence))
        return;
    const char *user = json_get_word(fence, "user"), *failed = json_get_word(fence, "failed");
    line_add(l, "direct logins: %s", user[0] != '\0' ? user : "nobody's until it is promoted");
    if (failed[0] != '\0')
        line_add_words(l, "not fenced: %s", failed);
    if (json_is_true(json_object_get(fence, "template_may_log_in")))
        line_add_words(l, "%s itself can log in, past the fence", json_get_text(fence, "template"));
}

static void render_tree(FILE *out, const json_t *instance)
{
    const json_t *members = json_object_get(instance, "members");
    int rows = render_count_rows(instance);
    struct line l;
    line_begin(&l, out, "", "   ");
    line_add(&l, "%s", json_get_text(instance, "name"));
    line_add(&l, "127.0.0.1:%" PRId64, json_get_int(instance, "port"));
    line_add(&l, "epoch %" PRId64, json_get_int(instance, "epoch"));
    line_add(&l, "%s", json_get_text(instance, "state"));
    render_durability(&l, instance);
    if (json_get_word(instance, "reads")[0] != '\0' &&
        strcmp(json_get_word(instance, "reads"), "master") != 0)
        line_add(&l, "reads %s", json_get_word(instance, "reads"));
    render_fence(&l, json_object_get(instance, "fence"));
    if (json_get_word(instance, "waiting")[0] != '\0')
        line_add_words(&l, "waiting: %s", json_get_word(instance, "waiting"));
    line_end(&l);
    int width = render_address_width(members);
    size_t k, n = json_array_size(members);
    json_t *member;
    json_array_foreach(members, k, member)
    {
        render_member(out, instance, member, width, k + 1 == n && rows == 0);
    }
    render_rows(out, instance, rows);
}

void render_topology(FILE *out, const json_t *topology)
{
    const json_t *instances = json_object_get(topology, "instances");
    const json_t *set_aside = json_object_get(topology, "set_aside");
    size_t k;
    json_t *item;
    if (strcmp(json_get_word(topology, "zookeeper"), "down") == 0)
        (void)fputs("ZooKeeper is away: this may be old, and no failover is possible until it is back.\n",
                    out);
    if (json_is_null(json_object_get(topology, "leader")) &&
        strcmp(json_get_word(topology, "source"), "zookeeper") != 0)
        (void)fputs("No controller leads now: no failover is possible until one does.\n", out);
    if (json_is_object(json_object_get(topology, "pause"))) {
        struct line l;
        line_begin(&l, out, "", "   ");
        line_add(&l, "All instances:");
        render_pause(&l, json_object_get(topology, "pause"));
        (void)fputc('\n', out);
    }
    json_array_foreach(instances, k, item)
    {
        if (k > 0)
            (void)fputc('\n', out);
        render_tree(out, item);
    }
    json_array_foreach(set_aside, k, item)
    {
        struct line l;
        line_begin(&l, out, "", "   ");
        line_add(&l, "%s", json_get_text(item, "name"));
        line_add(&l, "set aside, its znode can't be read: %s", json_get_text(item, "why"));
        line_end(&l);
    }
    if (json_array_size(instances) == 0 && json_array_size(set_aside) == 0)
        (void)fputs("No instances yet: mrctl adopt NAME HOST:PORT takes one in.\n", out);
}

/* ---- everything about one ------------------------------------------------------------------------------ */

/* "key value" of each field, wrapped. */
static void render_fields(FILE *out, const char *title, json_t *object)
{
    struct line l;
    const char *key;
    json_t *value;
    line_begin(&l, out, title, "            ");
    json_object_foreach(object, key, value)
    {
        if (json_is_string(value) && json_string_value(value)[0] != '\0')
            line_add(&l, "%s %s", key, json_string_value(value));
        else if (json_is_integer(value))
            line_add(&l, "%s %" JSON_INTEGER_FORMAT, key, json_integer_value(value));
        else if (json_is_boolean(value))
            line_add(&l, "%s %s", key, json_is_true(value) ? "yes" : "no");
    }
    line_end(&l);
}

void render_instance(FILE *out, const json_t *instance)
{
    const json_t *record = json_object_get(instance, "record");
    size_t k;
    json_t *item;
    render_tree(out, instance);
    if (json_is_object(json_object_get(record, "policy")))
        render_fields(out, "\npolicy    ", json_object_get(record, "policy"));
    if (json_is_object(json_object_get(record, "auth")))
        render_fields(out, "login     ", json_object_get(record, "auth"));
    json_array_foreach(json_object_get(record, "epochs"), k, item)
    {
        render_fields(out, k == 0 ? "\nepochs    " : "          ", item);
    }
    json_array_foreach(json_object_get(instance, "observed"), k, item)
    {
        render_fields(out, k == 0 ? "\nobserved  " : "          ", item);
    }
}
