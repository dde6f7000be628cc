/* Redis processes that are only pretended: replication state and answers, without data and without sockets.
 *
 * Enough of Redis 7.0 for a controller to adopt, watch, seal, promote and re-parent them: PING, AUTH, INFO,
 * ROLE, CLIENT, CONFIG, SELECT, ECHO, MULTI/EXEC/DISCARD, REPLICAOF, SET, GET, PUBLISH, WAIT. A
 * synchronization takes no time, a replica has its master's offset at once. Members of one group know each
 * other by port. */
#ifndef MR_TESTS_LIB_FAKE_REDIS_H
#define MR_TESTS_LIB_FAKE_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAKE_MEMBERS_MAX = 16,
    FAKE_ID_LEN = 40,
    FAKE_QUEUE_MAX = 16,
    FAKE_ARGS_MAX = 8,
    FAKE_HOST_LEN = 45,
    FAKE_USED_MEMORY = 1000000
};

struct fake_member {
    struct fake_group *group;
    int port;
    bool alive;
    bool is_replica;
    char master_host[FAKE_HOST_LEN + 1];
    int master_port;
    char run_id[FAKE_ID_LEN + 1], repl_id[FAKE_ID_LEN + 1], repl_id2[FAKE_ID_LEN + 1];
    int64_t offset, second_offset; /* bytes; second_offset -1: repl_id2 is not valid */
    const char *refusal;           /* what PING answers ("LOADING …"), without the '-'; NULL: PONG */
    int64_t max_memory;            /* bytes, of FAKE_USED_MEMORY used; 0: no limit. Nothing is evicted */
    uint64_t n_pings;              /* since its start */
};

struct fake_group {
    int n;
    struct fake_member members[FAKE_MEMBERS_MAX];
};

/* Bytes to send. Grows; the owner calls fake_text_free(). */
struct fake_text {
    char *data;
    size_t len, size;
};
void fake_text_free(struct fake_text *t);

struct fake_arg {
    const char *data; /* NUL-terminated, borrowed */
    size_t len;
};

/* What one connection remembers: the commands queued by MULTI (owned copies). */
struct fake_session {
    struct fake_member *member;
    bool in_multi;
    int n_queued;
    struct {
        int argc;
        char *argv[FAKE_ARGS_MAX];
    } queue[FAKE_QUEUE_MAX];
};
void fake_session_init(struct fake_session *s, struct fake_member *member);
void fake_session_free(struct fake_session *s);

/* n members on those ports: the first is the master, the others follow it. */
void fake_group_init(struct fake_group *g, const int *ports, int n);
/* The process dies; what follows it keeps its offset and has its link down. */
void fake_member_kill(struct fake_member *m);
/* A plain start: a new incarnation, empty, master. Whoever still follows its port is wiped, as in Redis. */
void fake_member_start(struct fake_member *m);
bool fake_member_link_is_up(const struct fake_member *m);

/* What a command changed, for who watches the group. */
enum fake_change { FAKE_NOTHING, FAKE_PROMOTED, FAKE_FOLLOWS };

/* Executes one command (argc ≥ 1) and appends the answer to `out`. Of an EXEC: the last change in it. */
enum fake_change fake_execute(struct fake_session *s, int argc, const struct fake_arg *argv,
                              struct fake_text *out);

#endif
