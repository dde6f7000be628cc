/* The executor of the failover cores: the only caller of failover_step().
 *
 *   zk_store ─ records, role ───────┐                     ┌─► zk_store (commits, history)
 *   monitor ─ links, INFO, silence ─┤                     ├─► monitor (seal, promote, pause, probe, …)
 *   voters ─ votes ─────────────────┼─► failover_step ─► actions ─► voters (surveys)
 *   ingest ─ hints, acks, held ─────┤                     ├─► announcer (routes, holds)
 *   http_api ─ operators' orders ───┘                     └─► the operator's answer
 *
 * One struct failover per instance, found by name in O(log n); an event touches only its own instance. It
 * decides nothing: it runs an update's actions in their order and hands their outcomes back as events. */
#ifndef MR_CONTROLLER_ENGINE_H
#define MR_CONTROLLER_ENGINE_H

#include "controller/core/failover.h"

struct announcer;
struct engine;
struct voters;
struct loop;
struct orders_count;
struct zk_store;

enum { ENGINE_MISSING_MAX = 255 }; /* bytes */

struct engine_config {
    const char *client_name; /* CLIENT SETNAME on the members: "mr-controller-<id>" */
    struct announcer *announcer;
    /* Something that /v1/topology shows has changed; instance is its name. */
    void (*on_change)(void *ctx, const char *instance, int64_t revision);
    /* One line of what was decided or noticed (as it is logged), for GET /v1/events. instance may be "". */
    void (*on_event)(void *ctx, const char *instance, enum failover_level level, const char *text);
    /* This controller should not lead now (outlook.h); may: it may again. */
    void (*on_unfit)(void *ctx, bool may_lead);
    void *ctx;
};

int engine_open(struct engine **out, struct loop *loop, const struct engine_config *config) MR_MUST_CHECK;
/* The store calls back into the engine and the engine commits through it: they are introduced to each other
 * here. */
void engine_set_store(struct engine *e, struct zk_store *store);
/* The store has been closed before. Waiting commands are answered first; no
 * callback after this. */
void engine_close(struct engine *e);

/* From the store. */
void engine_on_record(struct engine *e, const struct topology_instance *record, int32_t version,
                      int64_t revision);
void engine_on_removed(struct engine *e, const char *name);
void engine_on_corrupt(struct engine *e, const char *name, const char *why);
/* term ≠ 0: we lead, and every record has been re-read; 0: we don't. */
void engine_on_lead(struct engine *e, uint64_t term);

/* Surveys go through it; NULL: there are no others. */
void engine_set_voters(struct engine *e, struct voters *voters);
/* From voters: how we see that member, and the answers to a survey of ours. */
void engine_view(const struct engine *e, const char *instance, const struct topology_address *member,
                 struct health_view *out);
void engine_on_votes(struct engine *e, const char *instance, const struct topology_address *member,
                     const struct health_votes *votes);
/* From ZooKeeper: who is registered (whole lists), and what maintenance is on for all (NULL or owner "":
 * none). All copied. */
void engine_on_controllers(struct engine *e, uint32_t n); /* this one included */
void engine_on_proxies(struct engine *e, const char *const *ids, size_t n);
void engine_on_maintenance(struct engine *e, const struct topology_pause *pause);
/* A turn of the loop began lag_us late. */
void engine_on_lag(struct engine *e, int64_t lag_us);

/* An operator's order to the leader. done is called exactly once, never inside the call, perhaps seconds
 * later: err 0 or ERR_REJECTED (a rule refuses), ERR_TIMEOUT (rolled back), ERR_NOT_FOUND, ERR_DEPOSED (also
 * by engine_close()), ERR_INVALID (its record can't be read), ERR_BUSY, …; text: one sentence for the
 * operator, borrowed. command is copied, its id is the engine's. */
typedef void (*engine_command_fn)(void *ctx, int err, const char *text);
void engine_command(struct engine *e, const char *instance, const struct failover_command *command,
                    engine_command_fn done, void *ctx);
/* Would it work now (command NULL: an automatic failover)? The plan, the arithmetic, the refusal; nothing is
 * done. ERR_NOT_FOUND; ERR_INVALID: its record can't be read. */
int engine_explain(const struct engine *e, const char *instance, const struct failover_command *command,
                   struct failover_plan *out) MR_MUST_CHECK;

/* From the proxies. */
void engine_on_hint(struct engine *e, const char *instance, uint64_t epoch);
void engine_on_ack(struct engine *e, const char *proxy, const char *instance, uint64_t epoch, uint32_t acks,
                   int64_t took_us);
/* Instances whose newest epoch it has not acknowledged, among those that this leader has published; -1: not
 * known here. O(instances). */
int32_t engine_proxy_behind(struct engine *e, const char *proxy);
/* It holds the instance for a switchover; nothing of it is in flight. */
void engine_on_held(struct engine *e, const char *proxy, const char *instance, uint64_t epoch);

/* What the proxies have reported about the newest epoch that this controller published: epoch 0 when another
 * one did, and the proxies told that one. */
struct engine_acks {
    uint64_t epoch;
    uint32_t n;            /* registered proxies that switched to it */
    uint32_t n_registered; /* all that are there now */
    int64_t slowest_us;    /* from the message's arrival to the last connection switched */
    char slowest_id[TOPOLOGY_NAME_MAX + 1];
    char missing[ENGINE_MISSING_MAX + 1]; /* who has not: "host-7, host-9 and 3 more"; "": nobody */
};

/* Of a strict instance: the registered proxies that hold replies until policy.acks replicas have
 * acknowledged. */
struct engine_holding {
    uint32_t n;
    char missing[ENGINE_MISSING_MAX + 1]; /* who doesn't */
};

/* One instance as the views need it; borrowed until the loop's turn ends. */
struct engine_view {
    const struct failover *failover;
    const struct engine_acks *acks;
    const struct orders_count *orders;   /* ORDERS_KINDS of them, since the instance was first seen */
    const struct engine_holding *strict; /* NULL: it isn't, or this controller doesn't lead */
    const char *corrupt; /* NULL, or why its znode could not be read (failover then shows the last good
                            record, if any) */
    const char *name;
};
uint64_t engine_term(const struct engine *e); /* 0: not leading */
uint32_t engine_count(const struct engine *e);
int64_t engine_revision(const struct engine *e); /* the newest record's mzxid */
bool engine_find(const struct engine *e, const char *name, struct engine_view *out);
/* In order of names. */
void engine_each(const struct engine *e, void (*fn)(void *ctx, const struct engine_view *view), void *ctx);

#endif
