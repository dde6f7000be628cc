/* A plan (explain, dry run) as JSON; contract in view.h. */
#include "common/core/json_write.h"
#include "controller/core/failover.h"
#include "controller/core/view.h"

#include <assert.h>

static json_t *view_plan_object(struct json_write *w, const struct topology_instance *record,
                                const struct failover_plan *plan)
{
    json_t *object = json_write_object(w);
    json_write_text(w, object, "instance", record->name);
    json_write_bool(w, object, "ready", plan->ready);
    json_write_note(w, object, "verdict", plan->verdict);
    if (plan->target >= 0 && plan->target < (int)record->n_members)
        json_write_address(w, object, "target", &record->members[plan->target].address);
    json_write_int(w, object, "members", plan->n_members);
    json_write_int(w, object, "reachable", plan->n_reachable);
    json_write_int(w, object, "countable", plan->n_countable);
    json_write_int(w, object, "needed", plan->n_needed);
    json_write_int(w, object, "have", plan->n_have);
    json_t *lines = json_write_array(w);
    for (uint32_t k = 0; k < plan->n_lines; k++) {
        json_t *holder = json_write_object(w); /* a note, which may hold a member's words, is a field's */
        json_write_note(w, holder, "line", plan->lines[k]);
        json_write_append(w, lines, json_incref(json_object_get(holder, "line")));
        json_decref(holder);
    }
    json_write_set(w, object, "lines", lines);
    return object;
}

char *view_plan(const struct topology_instance *record, const struct failover_plan *plan, const char *code,
                size_t *len)
{
    assert(record != NULL && plan != NULL && len != NULL);
    assert(plan->n_lines <= sizeof plan->lines / sizeof plan->lines[0]);
    struct json_write w = {0};
    json_t *object = view_plan_object(&w, record, plan);
    if (code == NULL)
        return json_write_finish_alloc(&w, object, len);
    json_t *root = json_write_object(&w), *error = json_write_object(&w);
    json_write_text(&w, error, "code", code);
    json_write_note(&w, error, "message", plan->verdict);
    json_write_set(&w, root, "error", error);
    json_write_set(&w, root, "plan", object);
    return json_write_finish_alloc(&w, root, len);
}
