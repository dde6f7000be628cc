/* The failover procedure of one instance: events in, actions out. Pure.
 *
 *   record, links, INFO ──► absorb ──► failover_table (first matching row) ──► actions, next phase, deadline
 *
 * Every controller feeds one `struct failover` per instance; only a leader's ones act. The rules are
 * the design's safety.md §2–4; the rows are failover_table.c. Time is in the events (monotonic microseconds).
 * Unknown (phase, event) pairs are harmless for what comes from the network and abort for our own bugs.
 *
 * The executor (controller/engine.c, tests/sim) runs an update's actions in their order and reports each
 * COMMIT, SEAL, PROMOTE, REPLICATE and FENCE with exactly one event, failures too. It alone can time PUBLISH:
 * it may fill in timeline.publish_us of update.history and f->proposed between the PUBLISH and the COMMIT of
 * one update. */
#ifndef MR_CONTROLLER_CORE_FAILOVER_H
#define MR_CONTROLLER_CORE_FAILOVER_H

#include "controller/core/fence.h"
#include "controller/core/health.h"
#include "controller/core/reader.h"
#include "controller/core/readiness.h"
#include "controller/core/select.h"

enum failover_phase {
    FAILOVER_IDLE,    /* no record yet, or not leading: observes only */
    FAILOVER_WATCH,   /* STABLE; nothing is wrong with the master as far as is known */
    FAILOVER_CONFIRM, /* the master is suspect: evidence is being gathered */
    FAILOVER_INTENT,  /* commit of SEALING under way */
    FAILOVER_SEAL,    /* SEALING committed; seals under way, or nobody may be promoted yet */
    FAILOVER_CHOICE,  /* commit of PROMOTING under way */
    FAILOVER_PROMOTE, /* PROMOTING committed; REPLICAOF NO ONE under way */
    FAILOVER_FINISH,  /* route published; commit of STABLE under way */
    FAILOVER_REPAIR,  /* STABLE; commit of a membership fact under way */
    FAILOVER_RELOAD,  /* a commit's outcome is unknown or it lost a race: waiting for the record */
    FAILOVER_DONOR,   /* SEALING: the chosen one catches up from a member that must not be master */
    FAILOVER_HOLD,    /* switchover: the proxies are told to hold; waiting for their acknowledgements */
    FAILOVER_DRAIN,  /* switchover: the master's writes are paused; waiting for the target to have them all */
    FAILOVER_POLICY, /* STABLE; commit of what an operator set is under way */
    FAILOVER_FENCE,  /* STABLE; the fence is turned on or off: the master's ACL is tried before that is
                        committed */
    FAILOVER_PHASES,
};

enum failover_event_type {
    FAILOVER_ON_RECORD, /* the znode was read: record, version, revision */
    FAILOVER_ON_LEAD, /* term ≠ 0: we lead from now on (the records were read after a sync); 0: not any more
                       */
    FAILOVER_ON_COMMITTED,     /* version, revision */
    FAILOVER_ON_COMMIT_FAILED, /* err */
    FAILOVER_ON_LINK_UP,       /* member */
    FAILOVER_ON_LINK_DOWN,     /* member, err: why (redis_link.h) */
    FAILOVER_ON_INFO,          /* member, info */
    FAILOVER_ON_SEALED,        /* member, epoch, err, info (of the member once sealed) */
    FAILOVER_ON_PROMOTED,      /* member, epoch, err, info */
    FAILOVER_ON_REPLICATING,   /* member, epoch, err */
    FAILOVER_ON_HINT,          /* a proxy lost its connection to the master: epoch */
    FAILOVER_ON_TICK,          /* the deadline passed */
    FAILOVER_ON_MUTE,          /* member, at_us: it was asked then, and nothing has been answered since */
    FAILOVER_ON_HEARD,         /* member, said: it answers (again), or otherwise than before */
    FAILOVER_ON_KNOCK,         /* member, knock: how a fresh connection to the mute member went */
    FAILOVER_ON_PINGS,         /* member, err 0: its replication pings come every second; else they may not */
    FAILOVER_ON_SURVEYED,      /* votes: what the other controllers see */
    FAILOVER_ON_HELD,     /* epoch, n_held, n_awaited, text: proxies that hold; names of those that don't */
    FAILOVER_ON_PAUSED,   /* member, epoch, err, info: the master's writes are paused; its state then */
    FAILOVER_ON_DONATING, /* member, epoch, err, info: it lets others replicate from it, writes paused */
    FAILOVER_ON_FENCED,   /* member, epoch, err, text, open: its ACL is as the FENCE wanted it */
    FAILOVER_ON_COMMAND,  /* command: answered by exactly one DO_ANSWER, perhaps much later */
    FAILOVER_EVENTS,
};

enum failover_command_type {
    FAILOVER_COMMAND_SWITCHOVER, /* target (port 0: whoever is best), limit_ms */
    FAILOVER_COMMAND_FAILOVER,   /* target, data_loss_allowed */
    FAILOVER_COMMAND_PAUSE,      /* pause */
    FAILOVER_COMMAND_RESUME,
    FAILOVER_COMMAND_ACK,
    FAILOVER_COMMAND_SET,    /* policy, labels */
    FAILOVER_COMMAND_FORGET, /* target: is a member no more */
};

/* What an operator orders. */
struct failover_command {
    enum failover_command_type type;
    uint64_t id;                    /* repeated in the DO_ANSWER */
    char by[TOPOLOGY_NAME_MAX + 1]; /* who, for history; "" unknown */
    struct topology_address target;
    bool data_loss_allowed;
    int64_t limit_ms; /* SWITCHOVER: rolled back when it takes longer; 0: 5000 */
    struct topology_pause pause;
    struct topology_policy policy;
    uint32_t n_labels; /* SET: members whose priority and zone become these; address tells whose */
    struct topology_member labels[TOPOLOGY_MEMBERS_MAX];
};

struct failover_event {
    enum failover_event_type type;
    int64_t now_us;
    int64_t wall_ms; /* Unix milliseconds, for history only; decides nothing */
    int member;      /* index into the record's members */
    int err;         /* 0 or an err_code */
    uint64_t epoch;  /* of the action this answers */
    uint64_t term;
    int32_t version;
    int64_t revision;
    const struct info *info;                /* borrowed */
    const struct topology_instance *record; /* borrowed */
    int64_t at_us;
    enum health_said said;
    enum health_knock knock;
    uint32_t n_held, n_awaited;
    const char *text;                         /* borrowed */
    bool open;                                /* FENCED: the template itself may log in */
    const struct health_votes *votes;         /* borrowed */
    const struct failover_command *command;   /* borrowed */
    const struct health_trust *trust;         /* borrowed; NULL: all is well, one controller */
    const struct topology_pause *maintenance; /* of all instances; borrowed; NULL: none */
};

enum failover_action_type {
    FAILOVER_DO_COMMIT, /* multi{check own election znode, set f->proposed at f->version[, create history]} */
    FAILOVER_DO_HISTORY,   /* multi{check own election znode, create history}; no event comes back */
    FAILOVER_DO_PROBE,     /* member: INFO replication now; when its link is down, reconnect now */
    FAILOVER_DO_SEAL,      /* member: MULTI; REPLICAOF 127.0.0.1 1; INFO replication; EXEC → SEALED */
    FAILOVER_DO_PROMOTE,   /* member: MULTI; REPLICAOF NO ONE; INFO replication; EXEC → PROMOTED */
    FAILOVER_DO_REPLICATE, /* member: REPLICAOF target (masterauth first) → REPLICATING */
    FAILOVER_DO_PUBLISH,   /* f->route: the route, or a hold when it has no master */
    FAILOVER_DO_RELOAD,    /* read the znode again → RECORD */
    FAILOVER_DO_REPORT,    /* log reports[report] */
    FAILOVER_DO_SURVEY,    /* member: ask the other controllers how they see it → SURVEYED */
    FAILOVER_DO_HOLD, /* tell the proxies to hold for limit_ms at most → HELD, each time one has answered */
    FAILOVER_DO_PAUSE,   /* member, limit_ms: CLIENT PAUSE … WRITE; INFO replication → PAUSED */
    FAILOVER_DO_UNPAUSE, /* member: CLIENT UNPAUSE; no event comes back */
    FAILOVER_DO_DONATE,  /* member, limit_ms: CLIENT PAUSE … WRITE; REPLICAOF NO ONE; INFO → DONATING */
    FAILOVER_DO_FENCE,   /* member, fence: its ACL lets nobody of another epoch in → FENCED */
    FAILOVER_DO_ANSWER,  /* command id, err, reports[report].text: the operator's answer */
};

enum failover_level { FAILOVER_INFO, FAILOVER_WARN, FAILOVER_ERROR };

enum { FAILOVER_ACTIONS_MAX = 4 * TOPOLOGY_MEMBERS_MAX, FAILOVER_REPORTS_MAX = 5, FAILOVER_TEXT_MAX = 480 };

struct failover_report {
    enum failover_level level;
    uint32_t row;                     /* of the decision, in failover_table */
    char text[FAILOVER_TEXT_MAX + 1]; /* key=value pairs, event=... first */
};

struct failover_action {
    enum failover_action_type type;
    int member;                     /* PROBE, SEAL, PROMOTE, REPLICATE */
    uint64_t epoch;                 /* to be repeated in the answering event */
    struct topology_address target; /* REPLICATE */
    bool has_history;               /* COMMIT, HISTORY: update.history goes with it */
    uint32_t report;                /* REPORT, ANSWER: index into update.reports */
    int64_t limit_ms;               /* HOLD, PAUSE, DONATE */
    uint64_t command;               /* ANSWER: its id */
    struct fence_order fence;       /* FENCE */
    int err;                        /* ANSWER: 0 done; ERR_REJECTED refused; ERR_TIMEOUT rolled back; … */
};

struct failover_update {
    uint32_t n;
    struct failover_action actions[FAILOVER_ACTIONS_MAX];
    struct topology_history history; /* at most one an update */
    uint32_t row;                    /* number of the last row that matched; 0: none */
    uint64_t taken;                  /* bit k: failover_table[k] was taken in this step */
    uint32_t n_reports;
    struct failover_report reports[FAILOVER_REPORTS_MAX];
};

/* What is known of a member's ACL: of which epoch the users there are. */
struct failover_fence {
    bool pending;   /* FENCE sent, no answer yet */
    bool keep;      /* of the newest FENCE: for the epoch's user; else for nobody's, … */
    uint64_t epoch; /* … and its epoch */
    bool done;      /* it was answered with success, on the present connection; */
    bool failed;    /* or refused, which `why` tells */
    bool said;      /* that was reported */
    bool open;      /* applications may log in as the template there: the fence can be gone around */
    int64_t at_us;  /* when it was answered */
    char why[TOPOLOGY_REASON_MAX + 1];
};

/* What the core remembers of a member beside its health. */
struct failover_member {
    bool seal_pending;      /* SEAL sent, no answer yet */
    bool sealed;            /* answered, for `seal_epoch`, on the current connection */
    bool seal_failed;       /* answered with an error (loading, ...): tried again at retry_at_us */
    uint64_t seal_epoch;    /* of the newest SEAL sent, … */
    int64_t seal_at_us;     /* … and when */
    bool replicate_pending; /* REPLICATE sent, no answer yet */
    int64_t retry_at_us;    /* no further SEAL or REPLICATE before */
    struct reader_watch reader;
    bool may_serve; /* reads, by what is known of it */
    /* Below the present master, by INFO alone: */
    int64_t reached_us; /* its own offset has reached what the master's INFO of then said; 0: of none */
    /* The master's first INFO in a row that doesn't list it as a replica; 0: the last one does, or there was
     * none. */
    int64_t apart_us;
    struct failover_fence fence;
};

/* An operator's order under way. */
struct failover_order {
    uint64_t id; /* 0: none */
    enum failover_command_type type;
    struct topology_address target;       /* SWITCHOVER: who becomes master */
    char what[TOPOLOGY_EVIDENCE_MAX + 1]; /* in words, for history */
    int64_t began_us;
    int64_t limit_us;      /* SWITCHOVER: not committed by then: rolled back */
    int64_t hold_limit_us; /* for proxies to say that they hold */
    uint32_t n_held, n_awaited;
    bool counted; /* n_held and n_awaited are known */
    char missing[TOPOLOGY_EVIDENCE_MAX + 1];
    bool paused; /* the master's writes are paused since … */
    int64_t paused_us;
    int64_t offset; /* … this offset */
};

struct failover {
    enum failover_phase phase;
    uint64_t term; /* 0: not leading */
    bool has_record;
    struct topology_instance record;   /* as last read or committed */
    int32_t version;                   /* its znode version, for compare-and-set */
    int64_t revision;                  /* its mzxid */
    struct topology_instance proposed; /* being committed */
    struct topology_instance route;    /* what PUBLISH tells */
    struct health_member health[TOPOLOGY_MEMBERS_MAX];
    struct failover_member members[TOPOLOGY_MEMBERS_MAX];
    struct health_votes votes;                       /* of the newest survey about the master */
    bool surveying;                                  /* a survey is under way */
    int64_t suspect_at_us;                           /* when the suspicion began; 0: none */
    int64_t phase_at_us;                             /* when the phase was entered */
    int64_t commit_at_us, seal_at_us, promote_at_us; /* starts of the timed spans */
    struct topology_timeline timeline;               /* of the failover under way */
    int64_t deadline_us;                             /* 0: none */
    int64_t probe_at_us;                             /* CONFIRM: no further probes before */
    uint32_t probes;                                 /* sent in this CONFIRM, for the pace */
    bool promote_pending;                            /* PROMOTE sent, no answer yet */
    bool hinted; /* a proxy doubts its route: confirm it once the master has answered a fresh probe */
    int64_t hinted_at_us;
    char waiting[FAILOVER_TEXT_MAX + 1]; /* why nobody is promoted yet; "" when nothing is amiss */
    struct failover_order order;
    struct failover_command setting;   /* FENCE: what is to be set */
    struct select_donation donation;   /* in this epoch */
    struct topology_address donor;     /* DONOR: who gives, … */
    struct topology_address recipient; /* … and who catches up, … */
    bool fed;                          /* … once it was pointed at the donor */
    int64_t donor_at_us;
    enum health_said degraded; /* of the master, as last reported; OK: it was not, or not any more */
    struct readiness_watch readiness;
    bool untold; /* the route was told before a commit whose outcome is unknown: it is told again from the
                    record */
};

/* A fresh one in IDLE that knows nothing. */
void failover_init(struct failover *f);
/* Handles one event. *out is overwritten. */
void failover_step(struct failover *f, const struct failover_event *event, struct failover_update *out);
/* When to send FAILOVER_ON_TICK, monotonic microseconds; 0: not needed. */
int64_t failover_deadline_us(const struct failover *f);

/* What a command would do now, or (NULL) what an automatic failover would: explain, --dry-run, topology. */
struct failover_plan {
    bool ready; /* it would succeed as far as can be known */
    int target; /* member that would become master; -1: nobody */
    uint32_t n_members, n_reachable, n_countable;
    uint32_t n_needed, n_have; /* of select.h: members whose data must, and would, be known to be there */
    char verdict[FAILOVER_TEXT_MAX + 1]; /* one sentence: "READY: …" or "NOT READY: …, do …" */
    uint32_t n_lines;                    /* the arithmetic, a line each: members, restraint, steps */
    char lines[2 * TOPOLOGY_MEMBERS_MAX + 13][FAILOVER_TEXT_MAX + 1];
};
void failover_explain(const struct failover *f, const struct failover_command *command, int64_t now_us,
                      int64_t wall_ms, const struct health_trust *trust,
                      const struct topology_pause *maintenance, struct failover_plan *out);

const char *failover_phase_name(enum failover_phase p);
const char *failover_event_name(enum failover_event_type t);
const char *failover_action_name(enum failover_action_type t);

#endif
