/* The commands: only the leader carries them out. */
#include "common/log.h"
#include "common/loop.h"
#include "controller/adopt.h"
#include "controller/engine.h"
#include "controller/http_api_private.h"
#include "controller/http_body.h"
#include "controller/zk_store.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- on to the leader -----------------------------------------------------------------------------------
 */

struct http_api_redirect {
    struct http_api *api;
    struct http_request *request;
};

static void http_api_on_leader_found(void *ctx, int err, const struct topology_controller *list, size_t n)
{
    struct http_api_redirect *redirect = ctx;
    struct http_request *r = redirect->request;
    const char *leader = zk_store_leader(redirect->api->store);
    char url[512] = "";
    for (size_t k = 0; err == 0 && k < n; k++)
        if (leader[0] != '\0' && strcmp(list[k].id, leader) == 0)
            snprintf(url, sizeof(url), strchr(list[k].host, ':') ? "http://[%s]:%u%s" : "http://%s:%u%s",
                     list[k].host, list[k].http_port, http_request_path(r));
    if (url[0] != '\0')
        http_answer_redirect(r, url);
    else
        http_answer_error(r, 503, "no_leader",
                          "no controller leads at the moment: try again in a few seconds (is ZooKeeper up?)");
    free(redirect);
}

bool http_api_must_lead(struct http_api *a, struct http_request *r)
{
    if (engine_term(a->engine) != 0)
        return true;
    struct http_api_redirect *redirect = calloc(1, sizeof(*redirect));
    if (!redirect) {
        http_answer_error(r, 503, "no_memory", "controller %s is out of memory", a->id);
        return false;
    }
    redirect->api = a;
    redirect->request = r;
    int err = zk_store_read_controllers(a->store, http_api_on_leader_found, redirect);
    if (err != 0)
        http_api_on_leader_found(redirect, err, NULL, 0);
    return false;
}

/* ---- maintenance of all instances -----------------------------------------------------------------------
 */

static void http_api_set_maintenance(struct http_api *a, struct http_request *r,
                                     enum failover_command_type type)
{
    struct http_body body;
    char why[512];
    size_t len;
    const char *text = http_request_body(r, &len);
    if (!http_api_must_lead(a, r))
        return;
    if (http_body_order(type, text, len, loop_wall_ms(), &body, why, sizeof(why)) != 0) {
        http_answer_error(r, 400, "bad_request", "%s", why);
        return;
    }
    struct http_api_order *order = http_api_order_begin(a, r, "");
    if (!order)
        return;
    bool pauses = type == FAILOVER_COMMAND_PAUSE;
    http_api_order_say(order, "%s",
                       pauses
                           ? "all instances are paused: none fails over by itself"
                           : "the pause of all instances is over; those that are paused one by one stay so");
    log_info("event=maintenance.ordered what=%s by=\"%s\" reason=\"%s\"", pauses ? "pause" : "resume",
             body.command.by, body.command.pause.reason);
    int err =
        zk_store_set_maintenance(a->store, pauses ? &body.command.pause : NULL, http_api_on_stored, order);
    if (err != 0)
        http_api_on_stored(order, err);
}

void http_api_post_pause(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    http_api_set_maintenance(a, r, FAILOVER_COMMAND_PAUSE);
}

void http_api_post_resume(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    http_api_set_maintenance(a, r, FAILOVER_COMMAND_RESUME);
}

/* ---- adopt ----------------------------------------------------------------------------------------------
 */

struct http_api_adoption {
    struct http_api *api;
    struct http_request *request;
    struct adopt_request what;
};

static const struct {
    int err, status;
    const char *code;
} adopt_answers[] = {
    {ERR_INVALID, 400, "bad_request"},       {ERR_EXISTS, 409, "exists"},
    {ERR_EXHAUSTED, 409, "ports_exhausted"}, {ERR_REJECTED, 409, "not_adoptable"},
    {ERR_AUTH, 409, "auth_failed"},          {ERR_PROTOCOL, 409, "not_redis"},
    {ERR_REFUSED, 409, "refused"},           {ERR_UNREACHABLE, 409, "unreachable"},
    {ERR_TIMEOUT, 409, "timeout"},           {ERR_CLOSED, 409, "closed"},
    {ERR_DEPOSED, 503, "not_leader"},
};

static void http_api_on_adopted(void *ctx, int err, const char *message, uint16_t port)
{
    struct http_api_adoption *adoption = ctx;
    if (err == 0) {
        char text[TOPOLOGY_NAME_MAX + 64];
        int len = snprintf(text, sizeof(text), "{\"name\":\"%s\",\"port\":%u}", adoption->what.name, port);
        http_answer(adoption->request, 201, NULL, text, (size_t)len);
        free(adoption);
        return;
    }
    int status = 503;
    const char *code = "failed";
    for (size_t k = 0; k < sizeof(adopt_answers) / sizeof(adopt_answers[0]); k++) {
        if (adopt_answers[k].err == err) {
            status = adopt_answers[k].status;
            code = adopt_answers[k].code;
        }
    }
    http_answer_error(adoption->request, status, code, "%s", message);
    free(adoption);
}

/* Copies a text member of the body; false when it is there but no text, or too long. */
static bool http_api_take_text(const json_t *body, const char *key, char *out, size_t size)
{
    const json_t *value = json_object_get(body, key);
    out[0] = '\0';
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || json_string_length(value) >= size ||
        strlen(json_string_value(value)) != json_string_length(value))
        return false;
    memcpy(out, json_string_value(value), json_string_length(value) + 1);
    return true;
}

struct http_api_owner {
    const struct topology_address *address;
    char name[TOPOLOGY_NAME_MAX + 1];
};

static void http_api_find_owner(void *ctx, const struct engine_view *v)
{
    struct http_api_owner *owner = ctx;
    if (v->failover->has_record && topology_member_find(&v->failover->record, owner->address) >= 0)
        snprintf(owner->name, sizeof(owner->name), "%s", v->name);
}

/* Fills `what`; on failure answers the request. */
static bool http_api_parse_adoption(struct http_api *a, struct http_request *r, struct adopt_request *what)
{
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    size_t len;
    const char *body = http_request_body(r, &len);
    json_t *root = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
    bool taken = json_is_object(root) && http_api_take_text(root, "name", what->name, sizeof(what->name)) &&
                 http_api_take_text(root, "adopt", address, sizeof(address)) &&
                 http_api_take_text(root, "user", what->auth.user, sizeof(what->auth.user)) &&
                 http_api_take_text(root, "password", what->auth.password, sizeof(what->auth.password));
    json_decref(root);
    struct engine_view v;
    struct http_api_owner owner = {.address = &what->master};
    if (!taken) {
        http_answer_error(
            r, 400, "bad_request",
            "the body must be {\"name\":…,\"adopt\":\"host:port\"[,\"user\":…][,\"password\":…]}, all texts");
        return false;
    }
    if (topology_name_check(what->name) != 0) {
        http_answer_error(r, 400, "bad_name", "an instance name is 1 to 64 of A-Z a-z 0-9 . _ -");
        return false;
    }
    if (topology_address_parse(address, &what->master) != 0) {
        http_answer_error(r, 400, "bad_address",
                          "\"%s\" is not HOST:PORT with an IP address: instance %s needs its master's",
                          address, what->name);
        return false;
    }
    if (what->auth.user[0] != '\0' && what->auth.password[0] == '\0') {
        http_answer_error(r, 400, "bad_request", "user %s needs a password", what->auth.user);
        return false;
    }
    if (engine_find(a->engine, what->name, &v)) {
        http_answer_error(r, 409, "exists", "instance %s exists already: choose another name", what->name);
        return false;
    }
    engine_each(a->engine, http_api_find_owner, &owner);
    if (owner.name[0] != '\0') {
        http_answer_error(r, 409, "is_member", "%s is a member of instance %s already", address, owner.name);
        return false;
    }
    return true;
}

void http_api_post_instances(struct http_api *a, struct http_request *r, const char *name)
{
    (void)name;
    if (!http_api_must_lead(a, r))
        return;
    struct http_api_adoption *adoption = calloc(1, sizeof(*adoption));
    if (!adoption) {
        http_answer_error(r, 503, "no_memory", "controller %s is out of memory", a->id);
        return;
    }
    adoption->api = a;
    adoption->request = r;
    if (!http_api_parse_adoption(a, r, &adoption->what)) {
        free(adoption);
        return;
    }
    int err = adopt_start(a->adopter, &adoption->what, http_api_on_adopted, adoption);
    if (err != 0)
        http_api_on_adopted(adoption, err, err_text(err), 0);
}
