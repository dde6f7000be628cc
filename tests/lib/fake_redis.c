#include "tests/lib/fake_redis.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum { SET_BYTES = 64 }; /* what a SET adds to the replication stream */

/* ---- bytes to send --------------------------------------------------------------------------------------
 */

static void text_reserve(struct fake_text *t, size_t more)
{
    if (t->len + more <= t->size)
        return;
    t->size = (t->len + more) * 2;
    t->data = realloc(t->data, t->size);
    assert(t->data != NULL);
}

static void text_add(struct fake_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void text_add(struct fake_text *t, const char *fmt, ...)
{
    va_list args;
    text_reserve(t, 256);
    va_start(args, fmt);
    const int len = vsnprintf(t->data + t->len, t->size - t->len, fmt, args);
    va_end(args);
    assert(len >= 0);
    if ((size_t)len >= t->size - t->len) {
        text_reserve(t, (size_t)len + 1);
        va_start(args, fmt);
        vsnprintf(t->data + t->len, t->size - t->len, fmt, args);
        va_end(args);
    }
    t->len += (size_t)len;
}

static void text_add_bulk(struct fake_text *t, const char *data, size_t len)
{
    text_add(t, "$%zu\r\n", len);
    text_reserve(t, len + 2);
    memcpy(t->data + t->len, data, len);
    memcpy(t->data + t->len + len, "\r\n", 2);
    t->len += len + 2;
}

void fake_text_free(struct fake_text *t)
{
    free(t->data);
    *t = (struct fake_text){0};
}

/* ---- replication ----------------------------------------------------------------------------------------
 */

static void random_id(char id[FAKE_ID_LEN + 1])
{
    unsigned char bytes[FAKE_ID_LEN / 2];
    const ssize_t got = getrandom(bytes, sizeof bytes, 0);
    assert(got == (ssize_t)sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(id + i * 2, 3, "%02x", bytes[i]);
}

static void id_zero(char id[FAKE_ID_LEN + 1])
{
    memset(id, '0', FAKE_ID_LEN);
    id[FAKE_ID_LEN] = '\0';
}

/* Whom m follows, if that process lives and is of this group. */
static struct fake_member *member_master(const struct fake_member *m)
{
    if (!m->is_replica)
        return NULL;
    for (int i = 0; i < m->group->n; i++) {
        struct fake_member *other = &m->group->members[i];
        if (other != m && other->alive && other->port == m->master_port)
            return other;
    }
    return NULL;
}

/* A replica serves its own replicas only while it has a master itself; a ring serves nobody. */
bool fake_member_link_is_up(const struct fake_member *m)
{
    const struct fake_member *at = m;
    for (int depth = 0; depth <= m->group->n; depth++) {
        at = member_master(at);
        if (at == NULL)
            return false;
        if (!at->is_replica)
            return m->alive;
    }
    return false;
}

/* Everybody whose link is up has the history of its master. */
static void group_synchronize(struct fake_group *g)
{
    for (int pass = 0; pass < g->n; pass++) /* a chain is at most that deep */
        for (int i = 0; i < g->n; i++) {
            struct fake_member *m = &g->members[i];
            const struct fake_member *master = member_master(m);
            if (master == NULL || !fake_member_link_is_up(m))
                continue;
            memcpy(m->repl_id, master->repl_id, sizeof m->repl_id);
            memcpy(m->repl_id2, master->repl_id2, sizeof m->repl_id2);
            m->offset = master->offset;
            m->second_offset = master->second_offset;
        }
}

static void member_become_master(struct fake_member *m)
{
    m->is_replica = false;
    m->master_host[0] = '\0';
    m->master_port = 0;
}

static void member_follow(struct fake_member *m, const char *host, int port)
{
    m->is_replica = true;
    snprintf(m->master_host, sizeof m->master_host, "%s", host);
    m->master_port = port;
}

void fake_member_start(struct fake_member *m)
{
    assert(!m->alive);
    m->alive = true;
    m->offset = 0;
    m->second_offset = -1;
    random_id(m->run_id);
    random_id(m->repl_id);
    id_zero(m->repl_id2);
    member_become_master(m);
    group_synchronize(m->group);
}

void fake_member_kill(struct fake_member *m)
{
    assert(m->alive);
    m->alive = false;
}

void fake_group_init(struct fake_group *g, const int *ports, int n)
{
    assert(n >= 1 && n <= FAKE_MEMBERS_MAX);
    *g = (struct fake_group){.n = n};
    for (int i = 0; i < n; i++) {
        g->members[i].group = g;
        g->members[i].port = ports[i];
        fake_member_start(&g->members[i]);
        if (i > 0)
            member_follow(&g->members[i], "127.0.0.1", ports[0]);
    }
    group_synchronize(g);
}

/* ---- commands -------------------------------------------------------------------------------------------
 */

static enum fake_change fake_on_ok(struct fake_session *s, int argc, const struct fake_arg *argv,
                                   struct fake_text *out)
{
    (void)s, (void)argc, (void)argv;
    text_add(out, "+OK\r\n");
    return FAKE_NOTHING;
}

static enum fake_change fake_on_ping(struct fake_session *s, int argc, const struct fake_arg *argv,
                                     struct fake_text *out)
{
    s->member->n_pings++;
    if (s->member->refusal)
        text_add(out, "-%s\r\n", s->member->refusal);
    else if (argc > 1)
        text_add_bulk(out, argv[1].data, argv[1].len);
    else
        text_add(out, "+PONG\r\n");
    return FAKE_NOTHING;
}

static enum fake_change fake_on_echo(struct fake_session *s, int argc, const struct fake_arg *argv,
                                     struct fake_text *out)
{
    (void)s, (void)argc;
    text_add_bulk(out, argv[1].data, argv[1].len);
    return FAKE_NOTHING;
}

static enum fake_change fake_on_config(struct fake_session *s, int argc, const struct fake_arg *argv,
                                       struct fake_text *out)
{
    (void)s;
    text_add(out, argc > 1 && strcasecmp(argv[1].data, "get") == 0 ? "*0\r\n" : "+OK\r\n");
    return FAKE_NOTHING;
}

static enum fake_change fake_on_get(struct fake_session *s, int argc, const struct fake_arg *argv,
                                    struct fake_text *out)
{
    (void)s, (void)argc, (void)argv;
    text_add(out, "$-1\r\n");
    return FAKE_NOTHING;
}

static enum fake_change fake_on_set(struct fake_session *s, int argc, const struct fake_arg *argv,
                                    struct fake_text *out)
{
    (void)argc, (void)argv;
    if (s->member->is_replica) {
        text_add(out, "-READONLY You can't write against a read only replica.\r\n");
        return FAKE_NOTHING;
    }
    s->member->offset += SET_BYTES;
    group_synchronize(s->member->group);
    text_add(out, "+OK\r\n");
    return FAKE_NOTHING;
}

static int followers(const struct fake_member *m, const struct fake_member *list[FAKE_MEMBERS_MAX])
{
    int n = 0;
    for (int i = 0; i < m->group->n; i++) {
        const struct fake_member *other = &m->group->members[i];
        if (member_master(other) == m && fake_member_link_is_up(other))
            list[n++] = other;
    }
    return n;
}

static enum fake_change fake_on_publish(struct fake_session *s, int argc, const struct fake_arg *argv,
                                        struct fake_text *out)
{
    (void)s, (void)argc, (void)argv;
    text_add(out, ":0\r\n");
    return FAKE_NOTHING;
}

static enum fake_change fake_on_wait(struct fake_session *s, int argc, const struct fake_arg *argv,
                                     struct fake_text *out)
{
    (void)argc, (void)argv;
    const struct fake_member *list[FAKE_MEMBERS_MAX];
    text_add(out, ":%d\r\n", followers(s->member, list));
    return FAKE_NOTHING;
}

static enum fake_change fake_on_role(struct fake_session *s, int argc, const struct fake_arg *argv,
                                     struct fake_text *out)
{
    (void)argc, (void)argv;
    const struct fake_member *m = s->member;
    if (m->is_replica) {
        text_add(out, "*5\r\n$5\r\nslave\r\n");
        text_add_bulk(out, m->master_host, strlen(m->master_host));
        text_add(out, ":%d\r\n", m->master_port);
        text_add(out, fake_member_link_is_up(m) ? "$9\r\nconnected\r\n" : "$7\r\nconnect\r\n");
        text_add(out, ":%lld\r\n", (long long)m->offset);
        return FAKE_NOTHING;
    }
    const struct fake_member *list[FAKE_MEMBERS_MAX];
    const int n = followers(m, list);
    text_add(out, "*3\r\n$6\r\nmaster\r\n:%lld\r\n*%d\r\n", (long long)m->offset, n);
    for (int i = 0; i < n; i++) {
        char port[8], offset[24];
        snprintf(port, sizeof port, "%d", list[i]->port);
        snprintf(offset, sizeof offset, "%lld", (long long)list[i]->offset);
        text_add(out, "*3\r\n$9\r\n127.0.0.1\r\n");
        text_add_bulk(out, port, strlen(port));
        text_add_bulk(out, offset, strlen(offset));
    }
    return FAKE_NOTHING;
}

static void info_replication(const struct fake_member *m, struct fake_text *t)
{
    const struct fake_member *list[FAKE_MEMBERS_MAX];
    const int n = followers(m, list);
    text_add(t, "# Replication\r\nrole:%s\r\n", m->is_replica ? "slave" : "master");
    if (m->is_replica) {
        const bool up = fake_member_link_is_up(m);
        text_add(t, "master_host:%s\r\nmaster_port:%d\r\nmaster_link_status:%s\r\n", m->master_host,
                 m->master_port, up ? "up" : "down");
        text_add(t, "master_last_io_seconds_ago:%d\r\nmaster_sync_in_progress:0\r\n", up ? 0 : -1);
        text_add(t, "slave_read_repl_offset:%lld\r\nslave_repl_offset:%lld\r\n", (long long)m->offset,
                 (long long)m->offset);
        text_add(t, "slave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\n");
    }
    text_add(t, "connected_slaves:%d\r\n", n);
    for (int i = 0; i < n; i++)
        text_add(t, "slave%d:ip=127.0.0.1,port=%d,state=online,offset=%lld,lag=0\r\n", i, list[i]->port,
                 (long long)list[i]->offset);
    text_add(t, "master_failover_state:no-failover\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\n", m->repl_id,
             m->repl_id2);
    text_add(t, "master_repl_offset:%lld\r\nsecond_repl_offset:%lld\r\n", (long long)m->offset,
             (long long)m->second_offset);
    text_add(t, "repl_backlog_active:1\r\nrepl_backlog_size:1048576\r\n");
}

static bool wants_section(int argc, const struct fake_arg *argv, const char *section)
{
    for (int i = 1; i < argc; i++)
        if (strcasecmp(argv[i].data, section) == 0 || strcasecmp(argv[i].data, "all") == 0 ||
            strcasecmp(argv[i].data, "default") == 0 || strcasecmp(argv[i].data, "everything") == 0)
            return true;
    return argc == 1;
}

static enum fake_change fake_on_info(struct fake_session *s, int argc, const struct fake_arg *argv,
                                     struct fake_text *out)
{
    struct fake_text t = {0};
    if (wants_section(argc, argv, "server"))
        text_add(&t,
                 "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:%s\r\ntcp_port:%d\r\n",
                 s->member->run_id, s->member->port);
    if (wants_section(argc, argv, "memory"))
        text_add(&t,
                 "%s# Memory\r\nused_memory:%d\r\nmaxmemory:%lld\r\nmaxmemory_policy:noeviction\r\n"
                 "mem_not_counted_for_evict:0\r\n",
                 t.len > 0 ? "\r\n" : "", FAKE_USED_MEMORY, (long long)s->member->max_memory);
    if (wants_section(argc, argv, "persistence"))
        text_add(&t, "%s# Persistence\r\nloading:0\r\n", t.len > 0 ? "\r\n" : "");
    if (wants_section(argc, argv, "replication")) {
        if (t.len > 0)
            text_add(&t, "\r\n");
        info_replication(s->member, &t);
    }
    text_add_bulk(out, t.data != NULL ? t.data : "", t.len);
    fake_text_free(&t);
    return FAKE_NOTHING;
}

static enum fake_change fake_on_replicaof(struct fake_session *s, int argc, const struct fake_arg *argv,
                                          struct fake_text *out)
{
    struct fake_member *m = s->member;
    (void)argc;
    if (strcasecmp(argv[1].data, "no") == 0 && strcasecmp(argv[2].data, "one") == 0) {
        text_add(out, "+OK\r\n");
        if (!m->is_replica)
            return FAKE_NOTHING;
        memcpy(m->repl_id2, m->repl_id, sizeof m->repl_id2);
        m->second_offset = m->offset + 1;
        random_id(m->repl_id);
        member_become_master(m);
        group_synchronize(m->group);
        return FAKE_PROMOTED;
    }
    const long port = strtol(argv[2].data, NULL, 10);
    if (port < 1 || port > 65535) {
        text_add(out, "-ERR Invalid master port\r\n");
        return FAKE_NOTHING;
    }
    if (m->is_replica && m->master_port == port && strcmp(m->master_host, argv[1].data) == 0) {
        text_add(out, "+OK Already connected to specified master\r\n");
        return FAKE_NOTHING;
    }
    member_follow(m, argv[1].data, (int)port);
    group_synchronize(m->group);
    text_add(out, "+OK\r\n");
    return FAKE_FOLLOWS;
}

static const struct {
    const char *name;
    int args_min; /* the name counted, as Redis' arity */
    enum fake_change (*run)(struct fake_session *s, int argc, const struct fake_arg *argv,
                            struct fake_text *out);
} commands[] = {
    {"ping", 1, fake_on_ping},       {"info", 1, fake_on_info},           {"auth", 2, fake_on_ok},
    {"client", 2, fake_on_ok},       {"config", 2, fake_on_config},       {"select", 2, fake_on_ok},
    {"echo", 2, fake_on_echo},       {"role", 1, fake_on_role},           {"set", 3, fake_on_set},
    {"get", 2, fake_on_get},         {"replicaof", 3, fake_on_replicaof}, {"slaveof", 3, fake_on_replicaof},
    {"publish", 3, fake_on_publish}, {"wait", 3, fake_on_wait},
};

/* ---- sessions -------------------------------------------------------------------------------------------
 */

void fake_session_init(struct fake_session *s, struct fake_member *member)
{
    *s = (struct fake_session){.member = member};
}

void fake_session_free(struct fake_session *s)
{
    for (int i = 0; i < s->n_queued; i++)
        for (int j = 0; j < s->queue[i].argc; j++)
            free(s->queue[i].argv[j]);
    fake_session_init(s, s->member);
}

static enum fake_change session_run(struct fake_session *s, int argc, const struct fake_arg *argv,
                                    struct fake_text *out)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcasecmp(argv[0].data, commands[i].name) != 0)
            continue;
        if (argc >= commands[i].args_min)
            return commands[i].run(s, argc, argv, out);
        text_add(out, "-ERR wrong number of arguments for '%s' command\r\n", commands[i].name);
        return FAKE_NOTHING;
    }
    text_add(out, "-ERR unknown command '%.64s', with args beginning with: \r\n", argv[0].data);
    return FAKE_NOTHING;
}

static void session_queue(struct fake_session *s, int argc, const struct fake_arg *argv,
                          struct fake_text *out)
{
    if (s->n_queued == FAKE_QUEUE_MAX || argc > FAKE_ARGS_MAX) {
        text_add(out, "-ERR too long for this pretended Redis\r\n");
        return;
    }
    s->queue[s->n_queued].argc = argc;
    for (int i = 0; i < argc; i++) {
        s->queue[s->n_queued].argv[i] = strndup(argv[i].data, argv[i].len);
        assert(s->queue[s->n_queued].argv[i] != NULL);
    }
    s->n_queued++;
    text_add(out, "+QUEUED\r\n");
}

static enum fake_change session_exec(struct fake_session *s, struct fake_text *out)
{
    enum fake_change change = FAKE_NOTHING;
    text_add(out, "*%d\r\n", s->n_queued);
    for (int i = 0; i < s->n_queued; i++) {
        struct fake_arg argv[FAKE_ARGS_MAX];
        assert(s->queue[i].argc >= 1);
        for (int j = 0; j < s->queue[i].argc; j++)
            argv[j] = (struct fake_arg){s->queue[i].argv[j], strlen(s->queue[i].argv[j])};
        const enum fake_change one = session_run(s, s->queue[i].argc, argv, out);
        change = one != FAKE_NOTHING ? one : change;
    }
    return change;
}

enum fake_change fake_execute(struct fake_session *s, int argc, const struct fake_arg *argv,
                              struct fake_text *out)
{
    assert(argc >= 1 && s->member != NULL);
    enum fake_change change = FAKE_NOTHING;
    if (strcasecmp(argv[0].data, "multi") == 0) {
        text_add(out, s->in_multi ? "-ERR MULTI calls can not be nested\r\n" : "+OK\r\n");
        s->in_multi = true;
    } else if (strcasecmp(argv[0].data, "exec") == 0) {
        if (!s->in_multi)
            text_add(out, "-ERR EXEC without MULTI\r\n");
        else
            change = session_exec(s, out);
        fake_session_free(s);
    } else if (strcasecmp(argv[0].data, "discard") == 0) {
        text_add(out, s->in_multi ? "+OK\r\n" : "-ERR DISCARD without MULTI\r\n");
        fake_session_free(s);
    } else if (s->in_multi) {
        session_queue(s, argc, argv, out);
    } else {
        change = session_run(s, argc, argv, out);
    }
    return change;
}
