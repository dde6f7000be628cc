/* What the files of zk_store share; nobody else includes it.
 *
 *   zk_store.c: session, registration          zk_store_election.c: the election core's actions
 *   zk_store_records.c: instance records       zk_store_watches.c: who is there, maintenance
 *   zk_store_writes.c: fenced multis           zk_store_reads.c: history, controllers, proxies for people */
#ifndef MR_CONTROLLER_ZK_STORE_PRIVATE_H
#define MR_CONTROLLER_ZK_STORE_PRIVATE_H

#include "common/core/list.h"
#include "common/zk_session.h"
#include "controller/zk_store.h"

#include <ev.h>

enum {
    ZK_STORE_PATH_MAX = 192,     /* bytes; the longest is /history/<name>/e_NNNNNNNNNN */
    ZK_STORE_OUTSTANDING = 256,  /* gets under way at once: enough to fill the pipe, not ZooKeeper's queue */
    ZK_STORE_HISTORY_KEPT = 100, /* newest entries kept per instance */
    ZK_STORE_VALUES_WATCHED =
        64 /* registrations whose value is watched, too: more controllers than is sane */
};

/* One pass over /election: who stands, in the core's terms, and their names. */
struct zk_store_candidates {
    bool running, again;
    bool watching; /* this list carries the watch */
    size_t n, pending;
    int err; /* the first failure */
    struct zk_store_candidate {
        struct zk_store *store;
        bool exists;
        struct election_entry entry;
        char id[TOPOLOGY_NAME_MAX + 1];
    } list[ELECTION_ENTRIES_MAX];
};

/* The znode of a dead leader that is being removed. */
struct zk_store_removal {
    bool running;
    char node[ELECTION_NODE_MAX];
    uint64_t czxid;
};

/* /controllers or /proxies: children, and the controllers' values, read again whenever they change. */
struct zk_store_folder {
    struct zk_store *store;
    const char *path;
    bool has_values;        /* the values are told, not only the names */
    bool watched, watching; /* the watch of the children is set; the list under way carries it */
    bool reading, again, retry;
    ev_timer pace;
    int64_t read_us; /* when the last read began */
    size_t n, next;  /* of names */
    char **names;    /* sorted */
    struct topology_controller *values;
    size_t n_values;
    char values_watched[ZK_STORE_VALUES_WATCHED][TOPOLOGY_NAME_MAX + 1]; /* "": free */
    bool value_watching; /* the get under way carries a watch */
    char *told;          /* what was told last, flat; NULL: nothing yet */
    size_t told_len;
};

/* /pause: maintenance of all instances. */
struct zk_store_pause {
    bool watched, watching, reading, again, retry;
    bool in_pass; /* the pass waits for it */
    bool told;
    struct topology_pause last; /* as told */
};

/* A full pass over /instances: sync, list, read each. */
struct zk_store_pass {
    bool running;
    bool listed;    /* the list has come: `pending` is complete */
    int syncs;      /* under way; the pass goes on when the last one is back */
    size_t pending; /* records yet to be read */
};

struct zk_store {
    struct loop *loop;
    struct zk_store_config config; /* hosts and self aren't used from here */
    struct topology_controller self;
    struct zk_session *zk;
    bool connected;
    ev_timer retry; /* takes up again what failed without the connection being lost */
    ev_timer soon;  /* tells the election core of `fit` */
    bool fit;

    struct election election;
    struct zk_store_candidates candidates;
    bool election_watched;           /* a watch on /election's children is set */
    char watched[ELECTION_NODE_MAX]; /* predecessor whose watch is set, "" when none */
    bool election_retry;
    char leader[TOPOLOGY_NAME_MAX + 1];
    uint64_t leader_term; /* 0: nobody is known */
    struct zk_store_removal removal;
    bool fresh; /* LEADER: all records have been read in this term */
    enum election_role told_role;
    uint64_t told_term, told_leader_term;
    char told_leader[TOPOLOGY_NAME_MAX + 1];

    bool registering, register_again, register_retry;
    bool folder_gone;  /* a standing folder is missing; said once */
    bool rival_logged; /* somebody else holds our name; said once */

    void *records;       /* tsearch tree of struct zk_store_record, by name */
    struct list all;     /* every record */
    struct list waiting; /* records to be read, oldest first */
    size_t outstanding;
    bool instances_watched;
    bool listing, list_again;
    bool list_watching;   /* this list carries the watch */
    uint64_t list_serial; /* of the last list that was applied */
    bool pass_retry;
    struct zk_store_pass pass;

    struct zk_store_folder controllers, proxies;
    struct zk_store_pause pause;

    struct list jobs;  /* writes under way */
    struct list reads; /* reads for people under way */
};

/* zk_store.c */
/* Something failed though ZooKeeper is there: try again in half a second. */
void zk_store_retry_later(struct zk_store *s);
/* A list of that standing folder failed, though ZooKeeper is there: says so, and tries again. */
void zk_store_list_failed(struct zk_store *s, const char *folder, int err);
/* Our znode isn't among those of /controllers: makes it again. */
void zk_store_register_again(struct zk_store *s);
/* True for errors after which the next CONNECTED starts everything over. */
bool zk_store_is_lost(int err);

/* zk_store_election.c */
void zk_store_step(struct zk_store *s, const struct election_event *event);
/* Tells the owner of a change of role, term or leader, if there is one. */
void zk_store_tell_role(struct zk_store *s);
/* Path of our own election znode; false when there is none. */
bool zk_store_own_path(const struct zk_store *s, char path[ZK_STORE_PATH_MAX]);

/* zk_store_records.c */
void zk_store_records_pass(struct zk_store *s); /* starts a full pass, or starts it over */
/* Ends the pass if nothing is missing any more: a new leader leads from here. */
void zk_store_records_pass_ended(struct zk_store *s);
void zk_store_records_expired(struct zk_store *s);
void zk_store_records_retry(struct zk_store *s);
void zk_store_records_free(struct zk_store *s);
/* Reads the record, then calls done(ctx, err) once: err is 0 when the owner has been told of what was read.
 */
void zk_store_records_read_new(struct zk_store *s, const char *name, void (*done)(void *ctx, int err),
                               void *ctx);

/* zk_store_watches.c */
void zk_store_watches_init(struct zk_store *s);
void zk_store_watches_stop(struct zk_store *s);
/* Reads all of it, after the sync of a pass; the pass ends no sooner than /pause has been read. */
void zk_store_watches_pass(struct zk_store *s);
void zk_store_watches_expired(struct zk_store *s);
void zk_store_watches_retry(struct zk_store *s);
void zk_store_watches_free(struct zk_store *s);

/* zk_store_writes.c, zk_store_reads.c: free what is under way without calling back. */
void zk_store_writes_free(struct zk_store *s);
void zk_store_reads_free(struct zk_store *s);

#endif
