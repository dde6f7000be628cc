#include "controller/core/view_restraint.h"

#include "controller/core/failover.h"
#include "controller/core/restraint.h"

#include <assert.h>

void view_pause_write(struct json_write *w, json_t *object, const struct topology_pause *p, int64_t wall_ms)
{
    assert(w != NULL && p != NULL);
    if (!restraint_is_paused(p, wall_ms))
        return;
    json_t *pause = json_write_object(w);
    json_write_note(w, pause, "owner", p->owner);
    json_write_note(w, pause, "reason", p->reason);
    json_write_int(w, pause, "since", p->since_ms);
    json_write_set(w, pause, "until", p->until_ms != 0 ? json_integer(p->until_ms) : json_null());
    json_write_set(w, object, "pause", pause);
}

static void view_cooldown_write(struct json_write *w, json_t *object, const struct view_instance *v)
{
    int64_t span_ms = restraint_cooldown_ms(v->record), until_ms = v->record->failover.at_ms + span_ms;
    if (span_ms == 0 || until_ms <= v->wall_ms || v->record->state != TOPOLOGY_STABLE)
        return;
    json_t *cooldown = json_write_object(w);
    json_write_int(w, cooldown, "until", until_ms);
    json_write_int(w, cooldown, "strikes", v->record->cooldown.strikes);
    json_write_bool(w, cooldown, "bypassed", v->record->cooldown.bypassed);
    json_write_set(w, object, "cooldown", cooldown);
}

void view_restraint_write(struct json_write *w, json_t *object, const struct view_instance *v)
{
    assert(v != NULL && v->record->n_members <= TOPOLOGY_MEMBERS_MAX);
    view_pause_write(w, object, &v->record->pause, v->wall_ms);
    view_cooldown_write(w, object, v);
    if (v->readiness == VIEW_READINESS_UNKNOWN || v->failover == NULL)
        return;
    struct readiness r;
    readiness_judge(v->record, v->failover->health, &r);
    json_t *readiness = json_write_object(w);
    json_write_bool(w, readiness, "ready", v->readiness == VIEW_READY);
    json_write_int(w, readiness, "candidates", r.candidates);
    json_write_int(w, readiness, "needed", r.needed);
    json_write_int(w, readiness, "have", r.have);
    if (r.missing[0] != '\0')
        json_write_note(w, readiness, "missing", r.missing);
    json_write_bool(w, readiness, "auto", v->record->policy.auto_failover);
    json_write_note(w, readiness, "verdict", v->verdict);
    json_write_set(w, object, "readiness", readiness);
}
