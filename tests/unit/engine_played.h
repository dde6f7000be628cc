/* The engine with everything around it played: the core (scripted), the monitor, the store, the announcer and
 * the voters; what each is told is rendered into one trail, in order.
 *
 * Included once by each test_engine*.c: these definitions take the places of the real modules, which the
 * linker then leaves in their archives. */
#ifndef MR_TESTS_UNIT_ENGINE_PLAYED_H
#define MR_TESTS_UNIT_ENGINE_PLAYED_H

#include "common/loop.h"
#include "controller/announcer.h"
#include "controller/core/outlook.h"
#include "controller/engine.h"
#include "controller/monitor.h"
#include "controller/voters.h"
#include "controller/zk_store.h"
#include "tests/lib/wait.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WATCHED_MAX = 8, SCRIPT_MAX = 4, TRAIL_MAX = 4096, NEVER = -1 };

struct monitor_member {
    void *owner; /* NULL: free */
    struct topology_address address;
    bool eager;
    uint32_t min_replicas;
};

static struct {
    struct loop *loop;
    struct engine *engine;
    monitor_fenced_fn fenced;
    char trail[TRAIL_MAX];
    char said[TRAIL_MAX]; /* of on_event: the first words of each line */
    int fit;              /* on_unfit said last; NEVER */

    /* What the core does at the next event of that type. */
    int on;
    enum failover_phase phase;
    uint32_t n_actions;
    struct failover_action actions[SCRIPT_MAX];

    struct monitor_config monitor;
    struct monitor_member watched[WATCHED_MAX];
    bool watch_fails;
    monitor_done_fn order_done;
    void *order_ctx;

    zk_store_commit_fn commit_done;
    void *commit_ctx;
    int commit_err;

    int survey_err;
} play;

static void trail(const char *fmt, ...) MR_PRINTF(1, 2);
static void trail(const char *fmt, ...)
{
    size_t len = strlen(play.trail);
    va_list ap;

    va_start(ap, fmt);
    len += (size_t)vsnprintf(play.trail + len, sizeof(play.trail) - len, fmt, ap);
    va_end(ap);
    assert_true(len + 1 < sizeof(play.trail));
    memcpy(play.trail + len, ";", 2);
}

/* Compares, and begins a new trail. */
#define assert_trail(expected)                                                                               \
    do {                                                                                                     \
        assert_string_equal(play.trail, expected);                                                           \
        play.trail[0] = '\0';                                                                                \
    } while (0)

/* ---- the core -------------------------------------------------------------------------------------------
 */

static const char *const event_names[FAILOVER_EVENTS] = {
    "RECORD",   "LEAD",        "COMMITTED", "COMMIT_FAILED", "LINK_UP", "LINK_DOWN", "INFO",  "SEALED",
    "PROMOTED", "REPLICATING", "HINT",      "TICK",          "MUTE",    "HEARD",     "KNOCK", "PINGS",
    "SURVEYED", "HELD",        "PAUSED",    "DONATING",      "FENCED",  "COMMAND",
};

const char *failover_event_name(enum failover_event_type t)
{
    return event_names[t];
}

void failover_init(struct failover *f)
{
    memset(f, 0, sizeof(*f));
}

int64_t failover_deadline_us(const struct failover *f)
{
    return f->deadline_us;
}

void failover_explain(const struct failover *f, const struct failover_command *command, int64_t now_us,
                      int64_t wall_ms, const struct health_trust *trust,
                      const struct topology_pause *maintenance, struct failover_plan *out)
{
    memset(out, 0, sizeof(*out));
    out->ready =
        f->has_record && command == NULL && now_us > 0 && wall_ms > 0 && trust && maintenance == NULL;
}

static void core_render(const struct failover_event *e)
{
    char more[128] = "";

    switch (e->type) {
    case FAILOVER_ON_LEAD:
        (void)snprintf(more, sizeof(more), " %" PRIu64, e->term);
        break;
    case FAILOVER_ON_HELD:
        (void)snprintf(more, sizeof(more), " %u/%u not %s", e->n_held, e->n_awaited, e->text);
        break;
    case FAILOVER_ON_SURVEYED:
        (void)snprintf(more, sizeof(more), " %u of %u", e->votes->n, e->votes->n_controllers);
        break;
    case FAILOVER_ON_COMMIT_FAILED:
    case FAILOVER_ON_PAUSED:
    case FAILOVER_ON_SEALED:
        (void)snprintf(more, sizeof(more), " %s epoch %" PRIu64, e->err ? err_name(e->err) : "ok", e->epoch);
        break;
    case FAILOVER_ON_FENCED:
        (void)snprintf(more, sizeof(more), " %s epoch %" PRIu64 " %s%s", e->err ? err_name(e->err) : "ok",
                       e->epoch, e->open ? "open" : "", e->text);
        break;
    default:
        break;
    }
    trail("%s%s%s%s", event_names[e->type], more, e->trust->distrusted ? " distrusted" : "",
          e->maintenance ? " maintenance" : "");
}

void failover_step(struct failover *f, const struct failover_event *event, struct failover_update *out)
{
    memset(out, 0, sizeof(*out));
    core_render(event);
    if (event->type == FAILOVER_ON_LEAD)
        f->term = event->term;
    if (event->type == FAILOVER_ON_RECORD) {
        f->has_record = true;
        f->record = f->route = *event->record;
        f->version = event->version;
        f->revision = event->revision;
    }
    if (play.on != (int)event->type)
        return;
    play.on = NEVER;
    f->phase = play.phase;
    out->n = play.n_actions;
    memcpy(out->actions, play.actions, sizeof(play.actions));
    for (uint32_t k = 0; k < out->n; k++)
        if (event->command && out->actions[k].type == FAILOVER_DO_ANSWER && out->actions[k].command == 0)
            out->actions[k].command = event->command->id;
    out->n_reports = 1;
    (void)snprintf(out->reports[0].text, sizeof(out->reports[0].text), "event=played.report text=1");
}

/* At the next event of that type the core goes to that phase and wants that done. */
static struct failover_action *script(enum failover_event_type on, enum failover_phase phase,
                                      enum failover_action_type type)
{
    if (play.on == NEVER)
        play.n_actions = 0;
    assert_true(play.n_actions < SCRIPT_MAX);
    play.on = (int)on;
    play.phase = phase;
    struct failover_action *a = &play.actions[play.n_actions++];
    *a = (struct failover_action){.type = type, .epoch = 7, .limit_ms = 700};
    return a;
}

/* ---- monitor --------------------------------------------------------------------------------------------
 */

int monitor_open(struct monitor **out, struct loop *loop, const struct monitor_config *config)
{
    assert_non_null(loop);
    play.monitor = *config;
    *out = (struct monitor *)&play;
    return 0;
}

void monitor_close(struct monitor *m)
{
    assert_ptr_equal(m, &play);
    for (int k = 0; k < WATCHED_MAX; k++)
        assert_null(play.watched[k].owner);
}

int monitor_watch(struct monitor *m, const char *label, const struct topology_address *address,
                  const struct topology_auth *auth, void *owner, struct monitor_member **out)
{
    int k = 0;

    assert_true(m && label && auth && owner);
    if (play.watch_fails)
        return ERR_NOMEM;
    while (play.watched[k].owner)
        k++;
    assert_true(k < WATCHED_MAX);
    play.watched[k] = (struct monitor_member){.owner = owner, .address = *address};
    *out = &play.watched[k];
    return 0;
}

void monitor_unwatch(struct monitor_member *member)
{
    member->owner = NULL;
}

void monitor_set_eager(struct monitor_member *member, bool eager)
{
    member->eager = eager;
}

void monitor_set_min_replicas(struct monitor_member *member, uint32_t min_replicas, uint32_t max_lag_s)
{
    (void)max_lag_s;
    member->min_replicas = min_replicas;
}

static void monitor_order(const char *what, const struct monitor_member *m, monitor_done_fn done, void *ctx)
{
    trail("%s %u", what, m->address.port);
    play.order_done = done;
    play.order_ctx = ctx;
}

void monitor_probe(struct monitor_member *member)
{
    monitor_order("probe", member, NULL, NULL);
}

void monitor_seal(struct monitor_member *member, monitor_done_fn done, void *ctx)
{
    monitor_order("seal", member, done, ctx);
}

void monitor_promote(struct monitor_member *member, monitor_done_fn done, void *ctx)
{
    monitor_order("promote", member, done, ctx);
}

void monitor_replicate(struct monitor_member *member, const struct topology_address *target,
                       monitor_done_fn done, void *ctx)
{
    assert_non_null(target);
    monitor_order("replicate", member, done, ctx);
}

void monitor_pause(struct monitor_member *member, int64_t limit_ms, monitor_done_fn done, void *ctx)
{
    assert_int_equal(limit_ms, 700);
    monitor_order("pause", member, done, ctx);
}

void monitor_unpause(struct monitor_member *member)
{
    monitor_order("unpause", member, NULL, NULL);
}

void monitor_donate(struct monitor_member *member, int64_t limit_ms, monitor_done_fn done, void *ctx)
{
    assert_int_equal(limit_ms, 700);
    monitor_order("donate", member, done, ctx);
}

void monitor_fence(struct monitor_member *member, const struct fence_order *order, monitor_fenced_fn done,
                   void *ctx)
{
    trail("fence %u %s-e%" PRIu64, member->address.port, order->keep ? order->user : "not", order->epoch);
    play.fenced = done;
    play.order_ctx = ctx;
}

static inline struct monitor_member *watched(uint16_t port)
{
    for (int k = 0; k < WATCHED_MAX; k++)
        if (play.watched[k].owner && play.watched[k].address.port == port)
            return &play.watched[k];
    fail_msg("nobody watches port %u", port);
    return NULL;
}

/* ---- announcer, store, voters ---------------------------------------------------------------------------
 */

void announcer_lead(struct announcer *a, uint64_t term)
{
    assert_ptr_equal(a, &play);
    trail("announce %" PRIu64, term);
}

void announcer_publish(struct announcer *a, const struct topology_instance *i, int64_t revision)
{
    assert_true(a && revision > 0);
    trail("publish %" PRIu64, i->epoch);
}

void announcer_hold(struct announcer *a, const struct topology_instance *i, int64_t revision,
                    int64_t limit_ms)
{
    assert_true(a && revision > 0);
    trail("hold %" PRIu64 " for %" PRId64, i->epoch, limit_ms);
}

void announcer_drop(struct announcer *a, const char *instance, uint16_t port, int64_t revision)
{
    assert_true(a && port > 0 && revision > 0);
    trail("drop %s", instance);
}

int zk_store_commit(struct zk_store *s, const struct topology_instance *record, int32_t version,
                    const struct topology_history *history, zk_store_commit_fn done, void *ctx)
{
    assert_true(s && record);
    trail("commit at %d%s", version, history ? " with history" : "");
    play.commit_done = done;
    play.commit_ctx = ctx;
    return play.commit_err;
}

int zk_store_append_history(struct zk_store *s, const char *name, const struct topology_history *history)
{
    assert_true(s && history);
    trail("history of %s", name);
    return 0;
}

void zk_store_reload(struct zk_store *s, const char *name)
{
    assert_non_null(s);
    trail("reload %s", name);
}

int voters_survey(struct voters *v, const char *instance, const struct topology_address *member)
{
    assert_non_null(v);
    trail("survey %s %u", instance, member->port);
    return play.survey_err;
}

/* ---- scene ----------------------------------------------------------------------------------------------
 */

static void on_event(void *ctx, const char *instance, enum failover_level level, const char *text)
{
    size_t len = strlen(play.said);

    (void)ctx;
    assert_true(level <= FAILOVER_ERROR);
    assert_int_equal(strncmp(text, "event=", 6), 0);
    (void)snprintf(play.said + len, sizeof(play.said) - len, "%s:%.*s;", instance,
                   (int)strcspn(text + 6, " "), text + 6);
}

static void on_unfit(void *ctx, bool may_lead)
{
    (void)ctx;
    play.fit = may_lead;
}

static struct topology_instance instance_of(uint16_t first, uint32_t n, uint64_t epoch)
{
    struct topology_instance i = {.name = "shop", .port = 6100, .epoch = epoch, .n_members = n};

    for (uint32_t k = 0; k < n; k++) {
        i.members[k].address = (struct topology_address){.host = "10.0.0.1", .port = (uint16_t)(first + k)};
    }
    i.master = i.members[0].address;
    return i;
}

static inline void read_record(const struct topology_instance *i, int64_t revision)
{
    engine_on_record(play.engine, i, (int32_t)revision, revision);
}

static inline int open_scene(void **state)
{
    (void)state;
    memset(&play, 0, sizeof(play));
    play.on = play.fit = NEVER;
    play.loop = loop_create(false);
    struct engine_config config = {.client_name = "x",
                                   .announcer = (struct announcer *)&play,
                                   .on_event = on_event,
                                   .on_unfit = on_unfit};
    assert_int_equal(engine_open(&play.engine, play.loop, &config), 0);
    engine_set_store(play.engine, (struct zk_store *)&play);
    struct topology_instance shop = instance_of(1, 3, 5);
    read_record(&shop, 10);
    engine_on_lead(play.engine, 42);
    assert_trail("RECORD;announce 42;LEAD 42;");
    return 0;
}

static inline int close_scene(void **state)
{
    (void)state;
    engine_close(play.engine);
    loop_destroy(play.loop);
    return 0;
}

static inline bool turned(void *ctx)
{
    return (*(int *)ctx)-- <= 0;
}

/* What was left for the end of the turn is done. */
static inline void turn(void)
{
    int turns = 3;

    assert_true(wait_until(play.loop, turned, &turns, WAIT_MS));
}

#endif
