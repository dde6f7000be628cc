/* INFO text → struct info.
 *
 *   "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\n…"
 *      line by line ──► key:value ──► one row of `keys` ──► field
 */
#include "controller/core/info.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { INFO_VALUE_MAX = 255 };

/* What a parse collects before the fields that depend on each other are put together. */
struct info_draft {
    struct info *out;
    bool replication_seen;
    bool host_known;
    int64_t master_offset;  /* master_repl_offset; -1: not said */
    int64_t replica_offset; /* slave_repl_offset; -1: not said */
    int64_t uncounted;      /* mem_not_counted_for_evict: buffers of replicas and of the log */
};

void info_init(struct info *out)
{
    assert(out);
    memset(out, 0, sizeof(*out));
    out->second_offset = -1;
    out->master_last_io_s = out->sync_io_s = -1;
    out->replica_priority = 100;
}

static void info_copy(char *to, size_t size, const char *value)
{
    size_t len = strlen(value);
    if (len >= size)
        len = size - 1;
    memcpy(to, value, len);
    to[len] = '\0';
}

static int64_t info_number(const char *value, int64_t otherwise)
{
    char *end;
    long long n = strtoll(value, &end, 10);
    return end == value ? otherwise : (int64_t)n;
}

static void info_on_role(struct info_draft *d, const char *value)
{
    d->replication_seen = true;
    if (strcmp(value, "master") == 0)
        d->out->role = INFO_ROLE_MASTER;
    else if (strcmp(value, "slave") == 0)
        d->out->role = INFO_ROLE_REPLICA;
    else
        d->out->role = INFO_ROLE_UNKNOWN;
}

static void info_on_run_id(struct info_draft *d, const char *value)
{
    info_copy(d->out->run_id, sizeof(d->out->run_id), value);
}

static void info_on_version(struct info_draft *d, const char *value)
{
    info_copy(d->out->version, sizeof(d->out->version), value);
}

static void info_on_loading(struct info_draft *d, const char *value)
{
    d->out->loading = strcmp(value, "1") == 0;
}

static void info_on_syncing(struct info_draft *d, const char *value)
{
    d->out->syncing = strcmp(value, "1") == 0;
}

static void info_on_sync_io(struct info_draft *d, const char *value)
{
    d->out->sync_io_s = (int)strtol(value, NULL, 10);
}

static void info_on_repl_id(struct info_draft *d, const char *value)
{
    info_copy(d->out->repl_id, sizeof(d->out->repl_id), value);
}

static void info_on_repl_id2(struct info_draft *d, const char *value)
{
    info_copy(d->out->repl_id2, sizeof(d->out->repl_id2), value);
}

static void info_on_master_offset(struct info_draft *d, const char *value)
{
    d->master_offset = info_number(value, -1);
}

static void info_on_replica_offset(struct info_draft *d, const char *value)
{
    d->replica_offset = info_number(value, -1);
}

static void info_on_second_offset(struct info_draft *d, const char *value)
{
    d->out->second_offset = info_number(value, -1);
}

static void info_on_master_host(struct info_draft *d, const char *value)
{
    /* A host name can't be compared with a member's address: it counts as "somebody else". */
    char text[TOPOLOGY_ADDRESS_MAX + 8];
    struct topology_address probe;
    size_t len = strlen(value);
    if (len > TOPOLOGY_HOST_MAX)
        return;
    bool v6 = strchr(value, ':') != NULL;
    size_t at = 0;
    if (v6)
        text[at++] = '[';
    memcpy(text + at, value, len);
    at += len;
    if (v6)
        text[at++] = ']';
    memcpy(text + at, ":1", 3);
    if (topology_address_parse(text, &probe) == 0) {
        info_copy(d->out->master.host, sizeof(d->out->master.host), probe.host);
        d->host_known = true;
    }
}

static void info_on_master_port(struct info_draft *d, const char *value)
{
    int64_t port = info_number(value, 0);
    d->out->master.port = port > 0 && port <= 65535 ? (uint16_t)port : 0;
}

static void info_on_link(struct info_draft *d, const char *value)
{
    d->out->master_link_up = strcmp(value, "up") == 0;
}

static void info_on_last_io(struct info_draft *d, const char *value)
{
    d->out->master_last_io_s = (int)info_number(value, -1);
}

static void info_on_used_memory(struct info_draft *d, const char *value)
{
    d->out->used_memory = info_number(value, 0);
}

static void info_on_max_memory(struct info_draft *d, const char *value)
{
    d->out->max_memory = info_number(value, 0);
}

static void info_on_memory_policy(struct info_draft *d, const char *value)
{
    d->out->evicts = strcmp(value, "noeviction") != 0;
}

static void info_on_uncounted(struct info_draft *d, const char *value)
{
    d->uncounted = info_number(value, 0);
}

static void info_on_priority(struct info_draft *d, const char *value)
{
    d->out->replica_priority = (int)info_number(value, 100);
}

static const struct {
    const char *key;
    void (*take)(struct info_draft *d, const char *value);
} keys[] = {
    {"role", info_on_role},
    {"run_id", info_on_run_id},
    {"redis_version", info_on_version},
    {"loading", info_on_loading},
    {"master_sync_in_progress", info_on_syncing},
    {"master_sync_last_io_seconds_ago", info_on_sync_io},
    {"master_replid", info_on_repl_id},
    {"master_replid2", info_on_repl_id2},
    {"master_repl_offset", info_on_master_offset},
    {"slave_repl_offset", info_on_replica_offset},
    {"second_repl_offset", info_on_second_offset},
    {"master_host", info_on_master_host},
    {"master_port", info_on_master_port},
    {"master_link_status", info_on_link},
    {"master_last_io_seconds_ago", info_on_last_io},
    {"slave_priority", info_on_priority},
    {"used_memory", info_on_used_memory},
    {"maxmemory", info_on_max_memory},
    {"maxmemory_policy", info_on_memory_policy},
    {"mem_not_counted_for_evict", info_on_uncounted},
};

bool info_is_out_of_memory(const struct info *info)
{
    assert(info);
    return info->role == INFO_ROLE_MASTER && info->max_memory > 0 && !info->evicts &&
           info->used_memory >= info->max_memory;
}

/* The value of `name` in "ip=…,port=…,state=…,offset=…": copied to out, "" when absent. */
static void info_field(const char *list, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    out[0] = '\0';
    for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        if (strncmp(p, name, name_len) != 0 || p[name_len] != '=')
            continue;
        const char *value = p + name_len + 1;
        size_t len = strcspn(value, ",");
        if (len >= size)
            return;
        memcpy(out, value, len);
        out[len] = '\0';
        return;
    }
}

/* slave0:ip=10.0.0.2,port=6379,state=online,offset=1204,lag=0 */
static void info_take_replica(struct info *out, const char *value)
{
    char ip[TOPOLOGY_HOST_MAX + 1], port[8], state[24], offset[24], text[TOPOLOGY_ADDRESS_MAX + 16];
    if (out->n_replicas >= TOPOLOGY_MEMBERS_MAX)
        return;
    info_field(value, "ip", ip, sizeof(ip));
    info_field(value, "port", port, sizeof(port));
    info_field(value, "state", state, sizeof(state));
    info_field(value, "offset", offset, sizeof(offset));
    bool v6 = strchr(ip, ':') != NULL;
    size_t at = 0;
    if (v6)
        text[at++] = '[';
    memcpy(text + at, ip, strlen(ip));
    at += strlen(ip);
    if (v6)
        text[at++] = ']';
    text[at++] = ':';
    memcpy(text + at, port, strlen(port) + 1);
    struct info_replica *r = &out->replicas[out->n_replicas];
    if (topology_address_parse(text, &r->address) != 0)
        return;
    r->offset = info_number(offset, 0);
    r->online = strcmp(state, "online") == 0;
    out->n_replicas++;
}

static bool info_is_replica_key(const char *key)
{
    return strncmp(key, "slave", 5) == 0 && key[5] >= '0' && key[5] <= '9';
}

static void info_take(struct info_draft *d, const char *key, const char *value)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (strcmp(keys[i].key, key) == 0) {
            keys[i].take(d, value);
            return;
        }
    }
    if (info_is_replica_key(key))
        info_take_replica(d->out, value);
}

/* Puts together what more than one line tells, once the Replication section has been read. */
static void info_finish(struct info_draft *d)
{
    struct info *out = d->out;
    out->used_memory -= d->uncounted < out->used_memory ? d->uncounted : out->used_memory;
    if (!d->replication_seen)
        return;
    if (out->role == INFO_ROLE_REPLICA) {
        /* Redis says slave_repl_offset:1 while it has neither a master nor a cached one (a full
         * synchronization that was cut short); its own count of the applied stream goes on in
         * master_repl_offset. */
        out->offset = d->replica_offset > d->master_offset ? d->replica_offset : d->master_offset;
        if (!d->host_known)
            memset(&out->master, 0, sizeof(out->master));
    } else {
        out->offset = d->master_offset;
        memset(&out->master, 0, sizeof(out->master));
        out->master_link_up = false;
        out->syncing = false;
        out->sync_io_s = -1;
        out->master_last_io_s = -1;
    }
    if (out->offset < 0)
        out->offset = 0;
}

int info_parse(const char *text, size_t len, struct info *out)
{
    assert(text && out);
    struct info_draft d = {.out = out, .master_offset = -1, .replica_offset = -1};
    bool any = false;
    const char *end = text + len;
    for (const char *line = text; line < end;) {
        const char *eol = memchr(line, '\n', (size_t)(end - line));
        const char *stop = eol ? eol : end;
        size_t line_len = (size_t)(stop - line);
        if (line_len > 0 && line[line_len - 1] == '\r')
            stop = line + --line_len;
        const char *colon = memchr(line, ':', line_len);
        if (line_len >= 13 && memcmp(line, "# Replication", 13) == 0)
            out->n_replicas = 0;
        if (colon && *line != '#' && colon - line <= 64 && stop - colon - 1 <= INFO_VALUE_MAX) {
            char key[65], value[INFO_VALUE_MAX + 1];
            memcpy(key, line, (size_t)(colon - line));
            key[colon - line] = '\0';
            memcpy(value, colon + 1, (size_t)(stop - colon - 1));
            value[stop - colon - 1] = '\0';
            info_take(&d, key, value);
            any = true;
        }
        line = eol ? eol + 1 : end;
    }
    if (!any)
        return ERR_INVALID;
    info_finish(&d);
    return 0;
}
