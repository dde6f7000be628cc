/* The simulated system: controllers, ZooKeeper, Redis processes, proxies and the network between them.
 *
 *   faults ──► world (clock, queue, seed) ──► sim_controller ── real cores: election, failover
 *                                             │     ▲
 *                                 commits,    │     │ answers, watches, INFO, broken connections
 *                                 seals, …    ▼     │
 *                                       sim_zk   sim_redis ◄── writes ── sim_proxy ◄── routes
 *                                             └──► invariants (after every change) ◄──┘
 *
 * Everything is a pure function of the seed. Times are microseconds of the virtual clock. */
#ifndef MR_TESTS_SIM_SIM_H
#define MR_TESTS_SIM_SIM_H

#include "common/core/message.h"
#include "controller/core/election.h"
#include "controller/core/failover.h"
#include "controller/core/outlook.h"
#include "proxy/core/route_book.h"
#include "tests/sim/ablations.h"
#include "tests/sim/sim_fence.h"
#include "tests/sim/world.h"

enum {
    SIM_CONTROLLERS = 3,
    SIM_PROXIES = 2,
    SIM_INSTANCES = 2, /* at most */
    SIM_MEMBERS = 4,   /* of an instance, at most */
    SIM_REDISES = SIM_INSTANCES * SIM_MEMBERS,
    SIM_ZK_CLIENTS = SIM_CONTROLLERS + SIM_PROXIES, /* proxies after controllers */
    SIM_PENDING = 24,
    SIM_SESSION_TIMEOUT_US = 2000000,
    SIM_ROWS = 128, /* failover_table rows are numbered below this */
};

/* Places on the network, for delays and cuts. */
enum {
    SIM_PLACE_PROXY = SIM_CONTROLLERS,
    SIM_PLACE_REDIS = SIM_PLACE_PROXY + SIM_PROXIES,
    SIM_PLACE_ZK = SIM_PLACE_REDIS + SIM_REDISES,
    SIM_PLACES = SIM_PLACE_ZK + 1,
};

/* ---- Redis --------------------------------------------------------------------------------------------- */

struct redis_write {
    int64_t end; /* replication offset after it */
    uint32_t id; /* the client's number for the write */
};

/* A data set and where in which replication history it stands. */
struct redis_data {
    uint64_t id, id2;
    int64_t second, offset;
    uint32_t n, room;
    struct redis_write *writes;
};

enum redis_boot { REDIS_BOOT_MASTER, REDIS_BOOT_REPLICA, REDIS_BOOT_ORPHAN };
enum redis_restart { REDIS_SAME, REDIS_OLD, REDIS_EMPTY, REDIS_NO_OFFSET };

struct sim_redis {
    int instance;
    bool exists, alive, loading;
    bool gone;        /* dead, and stays so */
    bool forgotten;   /* it was a member, and is not any more */
    bool tainted;     /* its data came from a restart that no leader has accepted */
    uint32_t process; /* grows with each start; the run_id is made of it */
    enum redis_boot boot;
    int boot_follows; /* BOOT_REPLICA */
    bool is_master;
    int follows;          /* index of the process followed; -1: an address where nobody listens */
    uint32_t link;        /* grows with each attempt to attach; events of older ones are void */
    bool link_up;         /* attached to its master */
    uint32_t attached_to; /* the process it is attached to: another one at that address feeds it nothing */
    bool syncing;         /* a full synchronization is under way */
    bool cached;          /* knows where to continue (Redis' cached master) */
    bool backlog;         /* keeps a backlog: partial synchronization is possible */
    int64_t backlog_from;
    int64_t master_since_us; /* is master and has loaded since then; 0: is not */
    int64_t heard_us, full_sync_us;
    int64_t feed_at[SIM_REDISES]; /* in-order delivery to each replica */
    struct redis_data data, disk;
    uint64_t sealed_epoch; /* last seal applied; 0 once it was given a role again */
    bool off;              /* not alive, and its host is gone: no FIN, no answer to anything */
    int64_t stopped_us;    /* holds its connections but does nothing, since then; 0: runs */
    uint32_t crons;
    uint32_t stops;                   /* grows with each stop */
    int64_t stop_from_us, stop_to_us; /* the last stop that ended */
    struct world_inbox inbox;         /* while it is stopped */
    enum health_said said;            /* how it answers */
    bool pings;                       /* lets its replication pings be set to one a second */
    int64_t paused_until_us;          /* CLIENT PAUSE … WRITE */
    int64_t acked[SIM_REDISES]; /* by replica: the offset that it has acknowledged on its present link */
    struct sim_acl acl;
    bool refuses_acl; /* has no template */
    bool template_off;
    int64_t gap_to_us; /* when its last silence of more than a ping's period as a replica ended */
};

/* ---- ZooKeeper ----------------------------------------------------------------------------------------- */

enum zk_op {
    ZK_OP_GET,
    ZK_OP_COMMIT,
    ZK_OP_NOTE,
    ZK_OP_LIST,
    ZK_OP_ENLIST,
    ZK_OP_EXISTS,
    ZK_OP_REMOVE,
    ZK_OP_PING,
    ZK_OP_CONNECT
};

struct zk_request {
    enum zk_op op;
    int client, instance;
    bool watch;
    bool sync;
    uint64_t czxid; /* COMMIT, NOTE: own election node; EXISTS, REMOVE: the node */
    int32_t version;
    int64_t session;                 /* CONNECT */
    struct topology_instance record; /* COMMIT */
};

struct zk_reply {
    enum zk_op op;
    int err;
    int32_t version;
    int64_t revision;
    size_t n;
    struct election_entry entries[8];
    struct topology_instance record;
};

struct zk_pending {
    uint32_t number; /* 0: free */
    enum zk_op op;
    int instance;
    uint64_t czxid;
};

/* The client library's side of a session. */
struct zk_client {
    bool up, connecting;
    uint32_t connection;
    int64_t session; /* 0: none */
    int64_t heard_us;
    int64_t to_server_at, to_client_at;
    uint32_t numbers;
    struct zk_pending pending[SIM_PENDING];
};

struct zk_node {
    struct topology_instance record;
    int32_t version;
    int64_t revision;
};

struct zk_candidate {
    uint64_t czxid;
    int64_t owner;
    int client;
};

struct zk_session_state {
    int64_t id; /* 0: free */
    int client;
    int64_t heard_us;
    uint32_t connection; /* the client's newest; requests of older ones are dropped */
    bool watches[SIM_INSTANCES];
    uint64_t watched; /* czxid of the election node */
};

struct sim_zk {
    bool up;
    int64_t zxid, sessions_made;
    struct zk_node nodes[SIM_INSTANCES];
    struct zk_candidate candidates[8]; /* by czxid */
    uint32_t n_candidates;
    struct zk_session_state sessions[2 * SIM_ZK_CLIENTS];
    struct zk_client clients[SIM_ZK_CLIENTS];
};

/* ---- controllers --------------------------------------------------------------------------------------- */

enum sim_command {
    SIM_INFO,
    SIM_SEAL,
    SIM_PROMOTE,
    SIM_REPLICATE,
    SIM_PAUSE,
    SIM_UNPAUSE,
    SIM_DONATE,
    SIM_FENCE
};

struct sim_pending {
    uint32_t number; /* 0: free */
    enum sim_command command;
    uint64_t epoch;
    int64_t sent_us;
};

/* A controller's connection to a redis-server. */
struct sim_link {
    bool open; /* the controller knows the member */
    bool up, connecting;
    uint32_t connection;
    uint32_t process; /* it leads to */
    uint64_t client;  /* its CLIENT ID there */
    int64_t to_redis_at, to_controller_at, backoff_us;
    uint32_t numbers;
    struct sim_pending pending[SIM_PENDING];
    int64_t tried_us;  /* when the present attempt to connect began */
    bool mute, silent; /* the monitor said so; the outlook was told so */
    uint32_t silences; /* grows with each silence; knocks of older ones are void */
    uint32_t watches;  /* grows with each opening */
    enum health_said said;
};

/* A survey under way. */
struct sim_survey {
    uint32_t number; /* grows; answers to older ones are void */
    bool open;
    int redis;
    uint32_t asked;
    struct health_votes votes;
};

/* What the proxies answered to a hold, and operators' orders that wait for their answers. */
struct sim_hold {
    bool open;
    uint64_t epoch;
    uint32_t awaited, held; /* a bit each */
};
enum { SIM_ORDERS = 16 };
struct sim_order {
    uint64_t id; /* 0: free */
    int64_t at_us;
};

struct sim_controller {
    bool alive, paused, suspended;
    bool doomed;       /* crashes now: does nothing more */
    int rate_permille; /* of its monotonic clock */
    int64_t paused_us, resumed_us;
    int64_t crashed_us, crashed_from_us; /* the last crash, and resumed_us then */
    struct outlook outlook;
    bool unfit; /* it resigned because of its outlook */
    uint32_t outlook_ticks;
    struct sim_survey surveys[SIM_INSTANCES];
    struct sim_hold holds[SIM_INSTANCES];
    struct sim_order orders[SIM_INSTANCES][SIM_ORDERS];
    uint32_t known_sealed[SIM_INSTANCES]; /* a bit each, when the choice was made */
    uint32_t life;                        /* grows with each start */
    struct election election;
    struct failover failover[SIM_INSTANCES];
    bool known[SIM_INSTANCES];        /* the record was read since the leadership began */
    bool reloading;                   /* LEAD waits for the records */
    uint64_t leading;                 /* term that the failovers were told; 0: none */
    uint64_t seq, seq_term;           /* of published messages; the term they are counted in */
    int64_t to_proxy_at[SIM_PROXIES]; /* in-order delivery */
    uint32_t ticks[SIM_INSTANCES];    /* grows with each deadline; the timers of older ones are void */
    int64_t tick_at[SIM_INSTANCES];
    uint32_t late[SIM_INSTANCES]; /* ticks in a row that left their deadline in the past */
    struct sim_link links[SIM_REDISES];
    struct world_inbox inbox; /* of a paused process */
};

/* ---- proxies ------------------------------------------------------------------------------------------- */

/* The data path of one instance in one proxy. */
struct sim_worker {
    uint64_t epoch;
    int master;            /* -1: requests are held */
    uint32_t acks;         /* replies wait for so many replicas; 0: for none */
    uint32_t process;      /* connected to; 0: not yet */
    bool doubt;            /* nothing is sent until the route is confirmed or replaced */
    uint32_t connection;   /* grows when it is dropped; answers of older ones are not heard */
    uint32_t in_flight;    /* writes on the present connection */
    uint32_t newest;       /* of them */
    uint32_t again;        /* is sent again, though a write never is (ABLATE_RETRY); 0: none */
    int64_t hold_until_us; /* a switchover is prepared: nothing is sent */
    bool held;             /* and nothing is in flight */
    uint64_t hold;         /* number of the hold */
    uint64_t acked_epoch;  /* of the newest acknowledged write, … */
    int acked_redis;       /* … which that process took */
    int64_t acked_us;
};

struct sim_proxy {
    struct route_book book;
    struct sim_worker workers[SIM_INSTANCES];
    int reads_left; /* of the re-read under way */
    bool read_failed;
    uint32_t ticks; /* grows with each deadline; the timers of older ones are void */
    int64_t tick_at;
};

/* ---- all of it ----------------------------------------------------------------------------------------- */

enum sim_story {
    SIM_ONE_FAULT,   /* one fault of one master with a live synced replica: nothing may be lost */
    SIM_RESTRAINT,   /* faults that must never cause a failover */
    SIM_CHAOS,       /* anything, anywhere */
    SIM_REDIS_CHAOS, /* anything, of Redis processes only */
    SIM_HANG,        /* one master is stopped, for shorter or longer than the limit */
    SIM_PARTITION,   /* silence between groups of places, both ways or one way, on and off */
    SIM_SWITCHOVER,  /* planned ones under load, with and without something going wrong meanwhile */
    SIM_STRICT, /* anything, anywhere, of instances that promise: what k replicas have acknowledged stays */
    SIM_STORIES,
};

/* What is remembered of an instance to check the invariants. */
struct sim_witness {
    int candidate[SIM_EPOCHS]; /* committed in that epoch; -1: none */
    int writer[SIM_EPOCHS];    /* that accepted writes of that epoch; -1: none */
    uint64_t committed_epoch;
    uint32_t next_write;
    uint32_t n_acked;
    uint32_t acked[1024];
    uint64_t acked_epoch[1024];
    bool must_survive[1024]; /* by position in acked */
    uint32_t sets;           /* orders to change the policy */
    bool changed;            /* a failover that nobody ordered was committed */
    bool never;              /* and that must not be */
    uint64_t served_epoch;   /* the newest epoch whose master was promoted */
    uint64_t planned_epoch;  /* the newest that a switchover made; 0: none … */
    uint64_t before_planned; /* … the one that was served before it … */
    bool sealed_before;      /* … and its master was sealed */
};

/* Between a controller and a member: could it answer a ping, and if not, since when? */
struct sim_path {
    int64_t quiet_us;       /* 0: it answers */
    int64_t from_us, to_us; /* the last quiet time that ended */
    uint32_t changes;
};

struct sim_stats {
    uint64_t seeds, failures, events, failovers, promotions, writes, refused_commits, takeovers, waiting,
        full_syncs;
    uint64_t rows[SIM_ROWS];
    uint64_t stories[SIM_STORIES];
    uint64_t verdicts[TOPOLOGY_VERDICT_PLANNED + 1]; /* committed intents by their reason */
    uint64_t orders, answers_done, answers_refused;
    uint64_t logins;           /* of applications, at members */
    uint64_t promised, shorts; /* strict writes: acknowledged; not by enough replicas in time */
};

struct sim {
    struct world world;
    uint64_t seed;
    enum sim_story story;
    uint32_t crash_at; /* the leader crashes before this action of a failover or switchover; 0: it does not */
    uint32_t actions;  /* counted since the faults began */
    enum ablation ablation;
    int n_instances;
    int n_members[SIM_INSTANCES];
    bool strict[SIM_INSTANCES]; /* it is, or may become so */
    bool fence[SIM_INSTANCES];  /* it may be fenced */
    struct sim_app apps[SIM_INSTANCES][SIM_APPS];
    struct sim_fencing fencings[SIM_CONTROLLERS][SIM_REDISES];
    bool calm;                             /* faults have stopped */
    bool gone_for_good;                    /* a process was left dead on purpose */
    uint32_t loss_permille, slow_permille; /* of messages lost; of deliveries that take long */
    int64_t info_period_us;
    int64_t cut_until[SIM_PLACES][SIM_PLACES];
    int64_t stale_until_us; /* news of before a cut or a stop may arrive until then */
    int blind;              /* RESTRAINT: the only controller whose view of the members is disturbed */
    uint32_t cuts;          /* so far */
    bool quiet;             /* SWITCHOVER: nothing goes wrong, so nobody may notice anything */
    struct sim_path paths[SIM_CONTROLLERS][SIM_REDISES];
    struct topology_pause maintenance; /* of all instances */
    uint64_t id_epoch[1024];           /* by replication id: the epoch whose promotion made it; 0: none did */
    uint64_t order_ids;
    struct sim_redis redis[SIM_REDISES];
    struct sim_zk zk;
    struct sim_controller controllers[SIM_CONTROLLERS];
    struct sim_proxy proxies[SIM_PROXIES];
    struct sim_witness witness[SIM_INSTANCES];
    uint64_t ids; /* replication ids given out */
    int64_t calm_us, settled_us, checked_us;
    bool done;
    struct sim_stats *stats;
    struct failover_update update; /* of the step under way; too large for the stack to be nice */
};

/* Index of the process at that address; -1: nobody can be there. And back. */
int sim_redis_at(const struct topology_address *a);
void sim_redis_address(int redis, struct topology_address *out);
int sim_redis_index(int instance, int member);

/* When something sent now from one place reaches the other, not before what was sent earlier on the same
 * connection (*last, moved on). */
int64_t sim_network_at(struct sim *s, int from, int to, int64_t *last);
bool sim_network_is_cut(const struct sim *s, int a, int b); /* in one direction at least */
/* Nothing arrives from `from` at `to` until then. */
void sim_network_cut(struct sim *s, int from, int to, int64_t until_us);
/* The controller's own clock, and when in the world's time it shows clock_us. */
int64_t sim_clock_us(const struct sim *s, int controller);
int64_t sim_clock_at_us(const struct sim *s, int controller, int64_t clock_us);
int64_t sim_wall_ms(const struct sim *s);
/* One seed. */
struct sim *sim_new(struct sim_stats *stats);
void sim_free(struct sim *s);
bool sim_run(struct sim *s, uint64_t seed); /* true: it passed */
extern const char *const sim_stories[SIM_STORIES];

/* sim_redis.c */
void sim_redis_create(struct sim *s, int redis, int instance, bool is_master, int follows);
void sim_redis_kill(struct sim *s, int redis);
void sim_redis_switch_off(struct sim *s, int redis); /* host and all */
/* SIGSTOP and SIGCONT. */
void sim_redis_stop(struct sim *s, int redis, bool stopped);
void sim_redis_say(struct sim *s, int redis, enum health_said said);
/* The event is for a process that is stopped now: keeps it until it goes on. */
bool sim_redis_defers(struct sim *s, int redis, struct world_event *e);
void sim_redis_end(struct sim *s, int redis); /* of the seed: frees what it kept */
void sim_redis_start(struct sim *s, int redis, enum redis_restart how);
void sim_redis_save(struct sim *s, int redis); /* a snapshot on disk, for REDIS_OLD */
void sim_redis_info(const struct sim *s, int redis, struct info *out);
void sim_redis_run_id(const struct sim *s, int redis, char out[TOPOLOGY_RUN_ID_LEN + 1]);
/* REPLICAOF: target -1 for 127.0.0.1:1, -2 for NO ONE. 0 or ERR_REPLY (loading). */
int sim_redis_replicaof(struct sim *s, int redis, int target);
/* False when it isn't a master that takes writes. */
bool sim_redis_write(struct sim *s, int redis, uint32_t id);
/* A marker that is propagated: the master's offset after it. */
int64_t sim_redis_mark(struct sim *s, int redis);
bool sim_redis_is_attached(const struct sim *s, int replica, int master);
bool sim_redis_has(const struct redis_data *d, uint32_t id);

/* sim_zk.c: the server and each client's session. */
void sim_zk_create(struct sim *s);
void sim_zk_set_up(struct sim *s, bool up);
void sim_zk_expire(struct sim *s, int client);
void sim_zk_client_start(struct sim *s, int client);
void sim_zk_client_stop(struct sim *s, int client, bool cleanly);
/* Breaks the client's connection; its requests under way may or may not have been, or still be, done. */
void sim_zk_client_break(struct sim *s, int client);
/* False when not connected (no answer comes then). */
bool sim_zk_send(struct sim *s, const struct zk_request *request);
/* An operator changes the instance's policy: a new version, nothing else. */
void sim_zk_touch(struct sim *s, int instance, bool auto_failover);
/* Live sessions: of controllers; of proxies, a bit each. */
uint32_t sim_zk_controllers(const struct sim *s);
uint32_t sim_zk_proxies(const struct sim *s);
/* An operator deletes the leader's election node; its session lives on. */
void sim_zk_delete_leader(struct sim *s);
/* Would the ensemble list the candidate as lowest now? */
bool sim_zk_candidate_leads(const struct sim *s, uint64_t czxid);

/* sim_controller.c: what ZooKeeper and the network tell a controller. */
void sim_controller_start(struct sim *s, int controller);
void sim_controller_end(struct sim *s, int controller); /* of the seed: frees what it kept */
void sim_controller_crash(struct sim *s, int controller);
/* SIGTERM: hands over, then ends. */
void sim_controller_resign(struct sim *s, int controller);
void sim_controller_pause(struct sim *s, int controller, bool paused);
/* Its outlook wants it not to lead, or lets it again. */
void sim_controller_step_down(struct sim *s, int controller, bool down);
void sim_controller_on_session(struct sim *s, int controller, bool up, bool expired);
void sim_controller_on_reply(struct sim *s, int controller, const struct zk_pending *p,
                             const struct zk_reply *reply);
void sim_controller_on_watch(struct sim *s, int controller, int instance); /* -1: the election node */
/* The event belongs to a process that is stopped now: keeps it until it is resumed. */
bool sim_controller_defers(struct sim *s, int controller, struct world_event *e);
void sim_controller_tell(struct sim *s, int controller, int instance, const struct failover_event *event);
/* sim_engine.c: runs the actions of one update. */
void sim_engine_run(struct sim *s, int controller, int instance);
/* A leader is about to do that: its life ends before it does, once (sim.crash_at), or has just ended. */
bool sim_engine_is_doomed(struct sim *s, int controller, const char *what);
/* sim_link.c: the connections of the controllers to the members. */
void sim_link_open(struct sim *s, int controller, int redis);
void sim_link_close_all(struct sim *s, int controller);
void sim_link_nudge(struct sim *s, int controller, int redis);
/* It is a member no more. */
void sim_link_close(struct sim *s, int controller, int redis);
void sim_link_command(struct sim *s, int controller, int redis, enum sim_command command, uint64_t epoch,
                      int target);
/* A place among the orders under way, its number; 0: it can't be sent, which is answered soon. */
uint32_t sim_link_take(struct sim *s, int controller, int redis, enum sim_command command, uint64_t epoch);
/* That order is answered. */
void sim_link_settle(struct sim *s, int controller, int redis, uint32_t number);
/* The answer to that command, on its way back to the controller that asked. */
struct world_event *sim_link_answer(struct sim *s, const struct world_event *command,
                                    void (*on_answer)(struct sim *s, struct world_event *e));
/* CLIENT KILL ID. Is the command one of a connection that was killed? */
void sim_link_kill(struct sim *s, int redis, uint64_t client);
bool sim_link_is_killed(const struct sim *s, const struct world_event *command);
/* What tells a command's event of the connection that it comes over, in z. */
int64_t sim_link_from(const struct sim *s, int controller, int redis);
/* The process at the other end ended: FIN or RST travels, after_us from now. */
void sim_link_on_death(struct sim *s, int redis, int64_t after_us);
/* Tells the controller's core something about the member; false: it doesn't know the member. */
bool sim_link_tell(struct sim *s, int controller, int redis, struct failover_event *event);

/* sim_monitor.c: silence and how members answer, as controller/monitor.h describes it. */
void sim_monitor_create(struct sim *s);
void sim_monitor_refresh(struct sim *s); /* after a change of processes or cuts */
void sim_monitor_on_up(struct sim *s, int controller, int redis);
void sim_monitor_on_down(struct sim *s, int controller, int redis, int reason);
void sim_monitor_on_reply(struct sim *s, int controller, int redis);
void sim_monitor_on_said(struct sim *s, int redis);

/* sim_votes.c: surveys, and the outlook with what follows from it. */
void sim_votes_survey(struct sim *s, int controller, int instance, int redis);
void sim_votes_on_controllers(struct sim *s); /* their number in ZooKeeper changed */
void sim_votes_check(struct sim *s, int controller);
/* What the controller's core is told of trust. */
void sim_votes_trust(const struct sim *s, int controller, struct health_trust *out);

/* sim_operator.c: orders and their answers, holds and who holds. */
void sim_operator_order(struct sim *s, int instance, enum failover_command_type type);
void sim_operator_mend(struct sim *s); /* calm: nothing is paused any more */
void sim_operator_on_answer(struct sim *s, int controller, int instance, const struct failover_action *a);
void sim_operator_on_lost(struct sim *s, int controller); /* leadership: the engine answers */
void sim_operator_hold(struct sim *s, int controller, int instance, const struct failover_action *a);
void sim_operator_on_held(struct sim *s, int proxy, int instance, uint64_t epoch);
/* An order that waits for its answer for long; 0: none. */
uint64_t sim_operator_unanswered(const struct sim *s);

void sim_operator_fence(struct sim *s, int instance, bool on); /* turns it on, or off */

/* sim_strict.c */
struct strict_wait {
    int proxy, instance, redis;
    uint32_t process, connection, write, acks;
    uint64_t epoch;
    int64_t marker, until_us, look_us; /* set by sim_strict_wait() */
};
void sim_strict_wait(struct sim *s, const struct strict_wait *wait); /* → sim_proxy_on_waited() */
void sim_strict_on_applied(struct sim *s, int replica);
void sim_strict_on_attached(struct sim *s, int replica);
/* Would an acknowledgement by so many replicas be a promise, as the record is now? */
bool sim_strict_promises(const struct sim *s, int instance, uint64_t epoch, uint32_t acks);
void sim_strict_on_commit(struct sim *s, int instance, const struct topology_instance *to);
void sim_strict_on_promoted(struct sim *s, int instance, int redis, uint64_t epoch);
/* The newest entry of witness.acked has just been acknowledged. */
void sim_strict_on_ack(struct sim *s, int instance, uint64_t epoch);
bool sim_strict_is_stuck(const struct sim *s, int instance);

/* sim_proxy.c */
void sim_proxy_on_waited(struct sim *s, int proxy, int instance, uint32_t acks, bool done, int redis,
                         uint64_t epoch, uint32_t write, uint32_t connection);
void sim_proxy_start(struct sim *s, int proxy);
void sim_proxy_on_session(struct sim *s, int proxy, bool up);
void sim_proxy_on_reply(struct sim *s, int proxy, const struct zk_pending *p, const struct zk_reply *reply);
void sim_proxy_on_watch(struct sim *s, int proxy, int instance);
/* Sends the message to all proxies. */
void sim_proxy_publish(struct sim *s, int controller, const struct message *m);
/* The process ended: connections of workers to it break. */
void sim_proxy_on_death(struct sim *s, int redis, int64_t after_us);
void sim_proxy_end(struct sim *s, int proxy); /* of the seed: frees what it kept */

/* faults.c, stories.c */
void faults_plan(struct sim *s);
/* A donation begins: a good moment for trouble. */
void faults_on_donation(struct sim *s, int instance, int donor);
/* So is when a round of a FENCE has been sent. */
void faults_on_fencing(struct sim *s, int controller, int redis);

/* invariants.c */
void invariants_create(struct sim *s);
void invariants_on_commit(struct sim *s, const struct zk_request *request, const struct zk_node *before,
                          bool known_to_lead);
void invariants_on_action(struct sim *s, int controller, int instance, const struct failover_action *a);
void invariants_on_write(struct sim *s, int instance, uint64_t epoch, int redis);
void invariants_on_ack(struct sim *s, int proxy, int instance, uint64_t epoch, int redis, uint32_t id,
                       uint32_t acks);
/* A read has shown that write: what was shown is as good as acknowledged by so many. */
void invariants_on_shown(struct sim *s, int instance, uint64_t epoch, uint32_t id, uint32_t acks);
/* The one fault of SIM_ONE_FAULT happens now. */
void invariants_on_fault(struct sim *s, int instance);
/* True when every instance is as it must be in the end; otherwise why not. */
bool invariants_settled(struct sim *s, char *why, size_t why_size);
/* After each event: once calm has begun, is all well, and does it stay so? */
void invariants_watch_end(struct sim *s);

/* invariants_data.c */
void invariants_on_promoted(struct sim *s, int redis, uint64_t epoch); /* the process became master */
void invariants_on_order(struct sim *s, int redis, enum sim_command command, uint64_t epoch);
void invariants_on_publish(struct sim *s, int controller, const struct message *m);
void invariants_check_choice(struct sim *s, const struct zk_request *q,
                             const struct topology_instance *before);
void invariants_check_survivors(struct sim *s, int instance);
void invariants_check_planned(struct sim *s, int instance, uint64_t epoch, uint32_t id);
/* Is it the registered incarnation of its address? */
bool invariants_trusted(const struct sim *s, const struct topology_instance *i, int redis);

/* evidence.c: is the committed intent borne out by what was really so? */
void evidence_check(struct sim *s, int controller, int instance, const struct topology_instance *from,
                    const struct topology_instance *to);

#endif
