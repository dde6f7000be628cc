/* What is asked of one instance: orders, settings, and whether a failover would work. */
#include "common/log.h"
#include "common/loop.h"
#include "controller/core/view.h"
#include "controller/engine.h"
#include "controller/http_api_private.h"
#include "controller/http_body.h"
#include "controller/zk_store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool http_api_find(struct http_api *a, struct http_request *r, const char *name, struct engine_view *out)
{
    if (topology_name_check(name) != 0)
        http_answer_error(r, 400, "bad_name", "an instance name is 1 to 64 of A-Z a-z 0-9 . _ -");
    else if (!engine_find(a->engine, name, out))
        http_answer_error(r, 404, "not_found", "there is no instance %s", name);
    else if (out->corrupt)
        http_answer_error(r, 409, "corrupt",
                          "instance %s is set aside: its znode can't be read: %s; repair or "
                          "delete /instances/%s",
                          name, out->corrupt, name);
    else if (!out->failover->has_record)
        http_answer_error(r, 503, "starting", "instance %s is not known here yet: try again", name);
    else
        return true;
    return false;
}

/* ---- what would happen --------------------------------------------------------------------------------- */

/* refuses: a plan that would not work is an error, 409. */
static void http_api_answer_plan(struct http_api *a, struct http_request *r, const struct engine_view *v,
                                 const struct failover_command *command, bool refuses)
{
    struct failover_plan plan;
    size_t len;
    int err = engine_explain(a->engine, v->name, command, &plan);
    if (err != 0) {
        http_answer_error(r, err == ERR_NOT_FOUND ? 404 : 503, err == ERR_NOT_FOUND ? "not_found" : "failed",
                          "instance %s: %s", v->name, err_text(err));
        return;
    }
    bool refused = refuses && !plan.ready;
    char *text = view_plan(&v->failover->record, &plan, refused ? "refused" : NULL, &len);
    if (text)
        http_answer(r, refused ? 409 : 200, NULL, text, len);
    else
        http_answer_error(r, 503, "no_memory", "controller %s is out of memory", a->id);
    free(text);
}

void http_api_get_explain(struct http_api *a, struct http_request *r, const char *name)
{
    struct engine_view v;
    if (http_api_find(a, r, name, &v))
        http_api_answer_plan(a, r, &v, NULL, false);
}

/* ---- orders -------------------------------------------------------------------------------------------- */

static void http_api_command(struct http_api *a, struct http_request *r, const char *name,
                             const struct failover_command *command)
{
    struct http_api_order *order = http_api_order_begin(a, r, name);
    if (order)
        engine_command(a->engine, name, command, http_api_on_ordered, order);
}

/* The leader's memory is what an order is checked against: a standby does not even look. */
static bool http_api_may_order(struct http_api *a, struct http_request *r, const char *name,
                               struct engine_view *v)
{
    if (topology_name_check(name) != 0) /* before it gets into a Location header */
        http_answer_error(r, 400, "bad_name", "an instance name is 1 to 64 of A-Z a-z 0-9 . _ -");
    else if (http_api_must_lead(a, r))
        return http_api_find(a, r, name, v);
    return false;
}

static void http_api_order(struct http_api *a, struct http_request *r, const char *name,
                           enum failover_command_type type)
{
    struct http_body body;
    struct engine_view v;
    char why[512];
    size_t len;
    const char *text = http_request_body(r, &len);
    if (!http_api_may_order(a, r, name, &v))
        return;
    if (http_body_order(type, text, len, loop_wall_ms(), &body, why, sizeof(why)) != 0)
        http_answer_error(r, 400, "bad_request", "%s", why);
    else if (body.dry_run)
        http_api_answer_plan(a, r, &v, &body.command, true);
    else
        http_api_command(a, r, name, &body.command);
}

void http_api_post_switchover(struct http_api *a, struct http_request *r, const char *name)
{
    http_api_order(a, r, name, FAILOVER_COMMAND_SWITCHOVER);
}

void http_api_post_failover(struct http_api *a, struct http_request *r, const char *name)
{
    http_api_order(a, r, name, FAILOVER_COMMAND_FAILOVER);
}

void http_api_post_pause_one(struct http_api *a, struct http_request *r, const char *name)
{
    http_api_order(a, r, name, FAILOVER_COMMAND_PAUSE);
}

void http_api_post_resume_one(struct http_api *a, struct http_request *r, const char *name)
{
    http_api_order(a, r, name, FAILOVER_COMMAND_RESUME);
}

void http_api_post_ack(struct http_api *a, struct http_request *r, const char *name)
{
    http_api_order(a, r, name, FAILOVER_COMMAND_ACK);
}

void http_api_post_forget(struct http_api *a, struct http_request *r, const char *name)
{
    http_api_order(a, r, name, FAILOVER_COMMAND_FORGET);
}

void http_api_patch_instance(struct http_api *a, struct http_request *r, const char *name)
{
    struct http_body body;
    struct engine_view v;
    char why[512];
    size_t len;
    const char *text = http_request_body(r, &len);
    if (!http_api_may_order(a, r, name, &v))
        return;
    if (http_body_set(&v.failover->record, text, len, &body, why, sizeof(why)) != 0)
        http_answer_error(r, 400, "bad_request", "%s", why);
    else
        http_api_command(a, r, name, &body.command);
}

/* Its redis-servers go on as they are; the record, the port and the routes go. */
void http_api_delete_instance(struct http_api *a, struct http_request *r, const char *name)
{
    struct engine_view v;
    if (!http_api_may_order(a, r, name, &v))
        return;
    const struct topology_instance *record = &v.failover->record;
    if (record->state != TOPOLOGY_STABLE || v.failover->phase != FAILOVER_WATCH) {
        http_answer_error(r, 409, "busy", "instance %s is busy (%s, %s): delete it when it is stable", name,
                          topology_state_name(record->state), failover_phase_name(v.failover->phase));
        return;
    }
    struct http_api_order *order = http_api_order_begin(a, r, name);
    if (!order)
        return;
    log_info("event=instance.delete_ordered instance=%s port=%u", name, record->port);
    http_api_order_say(order, "%s: forgotten; port %u is free again, its redis-servers run on, unwatched",
                       name, record->port);
    int err = zk_store_delete(a->store, name, record->port, v.failover->version, http_api_on_stored, order);
    if (err != 0)
        http_api_on_stored(order, err);
}
