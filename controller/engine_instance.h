/* Private to the engine: one instance, its core, its members' monitors, what is under way for it.
 *
 *   engine.c: registry, records, life      engine_actions.c: actions out      engine_members.c: monitor in
 *   engine_trust.c: do we trust our eyes, surveys      engine_proxies.c: who switched, who holds
 *   engine_commands.c: operators' orders      engine_strict.c: who holds replies of a strict instance */
#ifndef MR_CONTROLLER_ENGINE_INSTANCE_H
#define MR_CONTROLLER_ENGINE_INSTANCE_H

#include "common/core/list.h"
#include "controller/core/orders.h"
#include "controller/core/outlook.h"
#include "controller/core/promise.h"
#include "controller/engine.h"
#include "controller/engine_proxies.h"
#include "controller/monitor.h"

#include <ev.h>

struct engine_instance;

/* A monitored member; `owner` of the monitor's callbacks. */
struct engine_member {
    struct engine_instance *instance;
    struct topology_address address;
    struct monitor_member *monitor;
    bool silent; /* as the outlook has counted it */
};

/* Who brings an order's outcome; it holds a pointer to the order until then. */
enum engine_bearer {
    ENGINE_BY_MONITOR, /* says nothing any more once the member isn't watched */
    ENGINE_BY_STORE,   /* always calls back, unless it is closed */
    ENGINE_BY_LOOP,    /* loop_wake(): always calls back */
    ENGINE_BY_VOTERS,  /* names instance and member, knows no order */
};

/* An action that is answered later. */
struct engine_order {
    struct list node;                   /* in instance->orders */
    struct engine_instance *instance;   /* NULL: it has gone meanwhile */
    const struct engine_member *member; /* BY_MONITOR: whose */
    struct topology_address about;      /* port 0: no member */
    enum engine_bearer bearer;
    enum failover_event_type answer;
    uint64_t epoch;
    int64_t asked_us;
    int err; /* BY_LOOP: what to answer */
};

/* A switchover's hold. */
struct engine_hold {
    struct list node; /* in engine->holding while active */
    bool active, told;
    uint64_t epoch;        /* in the messages */
    uint64_t answer_epoch; /* in the events */
    struct engine_set held;
    uint32_t told_held, told_awaited;
};

/* A strict instance, while this controller leads. */
struct engine_strict {
    struct list node; /* in engine->strict while on */
    bool on;
    uint32_t acks; /* that the proxies are to hold for */
    uint64_t term; /* in which it was looked at last */
    struct engine_set held;
    struct promise promise;
    struct engine_holding shown;
};

struct engine_instance {
    struct engine *engine;
    struct failover failover;
    char name[TOPOLOGY_NAME_MAX + 1];
    char corrupt[TOPOLOGY_EVIDENCE_MAX + 1]; /* "": its znode was readable */
    struct engine_member *members[TOPOLOGY_MEMBERS_MAX];
    uint32_t n_members;
    struct list orders;
    struct orders_count counts[ORDERS_KINDS]; /* of those that were answered */
    struct list commands;                     /* of operators, that the core has not answered yet */
    ev_timer deadline;
    struct engine_acks acks;
    struct engine_set acked;
    struct engine_hold hold;
    struct engine_strict strict;
};

struct engine {
    struct loop *loop;
    struct engine_config config;
    struct monitor *monitor;
    struct zk_store *store;
    struct voters *voters;
    void *by_name; /* tsearch tree of struct engine_instance, by name */
    uint32_t count;
    uint64_t term;
    int64_t revision;
    struct outlook outlook;
    ev_timer outlook_deadline;
    bool unfit;      /* on_unfit(false) was said last */
    bool distrusted; /* as it was logged last */
    struct topology_pause maintenance;
    struct engine_proxies proxies;
    struct list holding; /* instances in a switchover */
    struct list strict;  /* instances whose proxies hold replies */
    ev_timer strict_timer;
    struct list answered; /* commands whose answer is on its way */
    struct list orphans;  /* the store's orders of instances that have gone */
    uint64_t last_command;
};

/* ---- engine.c ---- */
struct engine_instance *engine_lookup(const struct engine *e, const char *name);
/* An event of this turn about no member, with what every event carries. */
struct failover_event engine_event(const struct engine_instance *i, enum failover_event_type type);
/* Runs one event through the instance's core and carries out what it says. Never inside engine_run(). */
void engine_step(struct engine_instance *i, struct failover_event *event);
/* loop_wake(), or the end: a lost wake-up would leave a core waiting for ever. */
void engine_later(struct engine *e, void (*fn)(void *ctx), void *ctx);
/* Logs one line and hands it to on_event. instance may be "". */
void engine_say(const struct engine *e, const char *instance, enum failover_level level, const char *fmt, ...)
    MR_PRINTF(4, 5);
/* Something that is shown has changed. */
void engine_note_change(struct engine_instance *i);
/* Calls fn for all instances. */
void engine_each_instance(const struct engine *e, void (*fn)(void *ctx, struct engine_instance *i),
                          void *ctx);

/* ---- engine_actions.c ---- */
void engine_run(struct engine_instance *i, const struct failover_event *event,
                struct failover_update *update);
struct engine_order *engine_order_new(struct engine_instance *i, enum engine_bearer bearer,
                                      enum failover_event_type answer, const struct failover_action *a);
void engine_order_free(struct engine_order *o);
/* Frees the order and steps its event; outcome: err and what belongs to it, the rest is filled in. */
void engine_order_answer(struct engine_order *o, const struct failover_event *outcome);
void engine_orders_forget(struct engine_instance *i, const struct engine_member *member); /* NULL: all */

/* ---- engine_members.c ---- */
int engine_members_open(struct engine *e) MR_MUST_CHECK; /* the monitor */
void engine_members_sync(struct engine_instance *i);     /* watch whom the record names */
void engine_members_drop(struct engine_instance *i);     /* all */

/* ---- engine_trust.c ---- */
void engine_trust_open(struct engine *e);
void engine_trust_close(struct engine *e);
/* The outlook was told something: is leadership still (again) ours to have? */
void engine_trust_weigh(struct engine *e);
void engine_survey(struct engine_instance *i, const struct failover_action *a);

/* ---- engine_proxies.c ---- */
/* The route of this epoch goes out: from here on "0 switched" means that nobody has yet. */
void engine_acks_begin(struct engine_instance *i, uint64_t epoch);
/* Brings the counts and names of i->acks up to date. */
void engine_acks_count(struct engine_instance *i);
void engine_hold_begin(struct engine_instance *i, const struct failover_action *a);
void engine_hold_end(struct engine_instance *i); /* also when there is none */
void engine_proxies_close(struct engine *e);
/* Names of registered ones that are not in `in`, as many as fit; returns text. */
const char *engine_proxies_missing(const struct engine_proxies *t, const struct engine_set *in,
                                   char text[ENGINE_MISSING_MAX + 1]);

/* ---- engine_strict.c ---- */
void engine_strict_open(struct engine *e);
void engine_strict_close(struct engine *e);
/* Record or leadership may have changed. */
void engine_strict_sync(struct engine_instance *i);
void engine_strict_end(struct engine_instance *i); /* also when it is not on */
/* That proxy holds replies for so many acknowledgements now; 0: for none. */
void engine_strict_ack(struct engine_instance *i, const struct engine_proxy *p, uint64_t epoch,
                       uint32_t acks);
/* Brings i->strict.shown up to date. */
void engine_strict_count(struct engine_instance *i);

/* ---- engine_commands.c ---- */
/* The core's answer. */
void engine_command_answer(struct engine_instance *i, uint64_t id, int err, const char *text);
/* The core won't answer any more: all of the instance's get this one. */
void engine_commands_end(struct engine_instance *i, int err, const char *text);
/* Those whose answer is on its way get it now. */
void engine_commands_flush(struct engine *e);

#endif
