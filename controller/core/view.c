#include "controller/core/view.h"

#include "common/core/json_write.h"
#include "controller/core/failover.h"
#include "controller/core/view_restraint.h"
#include "controller/core/view_timeline.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NOTE_MAX = 200 };

static_assert((int)VIEW_VERDICT_MAX == (int)FAILOVER_TEXT_MAX, "a plan's verdict fits");

/* ---- one member ---------------------------------------------------------------------------------------- */

static bool view_is_master(const struct topology_instance *i, int member)
{
    return topology_address_is_set(&i->master) &&
           topology_address_equal(&i->members[member].address, &i->master);
}

/* The member answers and follows whoever is routed to. */
static bool view_follows(const struct topology_instance *i, const struct health_member *h)
{
    const struct topology_address *route = topology_route(i);
    return h->link == HEALTH_LINK_UP && h->info_known && h->info.role == INFO_ROLE_REPLICA && route != NULL &&
           topology_address_equal(&h->info.master, route);
}

/* It served once, or thinks that it does, and does not follow the new master yet. */
static bool view_is_ousted(const struct topology_instance *i, int member, const struct health_member *h)
{
    if (view_is_master(i, member) || h == NULL)
        return false;
    bool answers = h->link == HEALTH_LINK_UP && h->info_known;
    if (answers && h->info.role == INFO_ROLE_MASTER && i->state == TOPOLOGY_STABLE)
        return true;
    return i->failover.epoch != 0 &&
           topology_address_equal(&i->members[member].address, &i->failover.old_master) &&
           !view_follows(i, h);
}

static const char *view_member_role(const struct topology_instance *i, int member,
                                    const struct health_member *h)
{
    if (view_is_master(i, member))
        return "master";
    return view_is_ousted(i, member, h) ? "ousted" : "replica";
}

static const char *view_member_state(const struct view_instance *v, int member)
{
    if (v->failover == NULL)
        return "unknown";
    switch (v->failover->health[member].link) {
    case HEALTH_LINK_UP:
        if (v->failover->health[member].mute_us != 0)
            return "suspect";
        return v->failover->phase == FAILOVER_CONFIRM && view_is_master(v->record, member) ? "suspect" : "up";
    case HEALTH_LINK_UNKNOWN:
    case HEALTH_LINK_CLOSED:
    case HEALTH_LINK_DENIED:
        return "suspect";
    case HEALTH_LINK_REFUSED:
    case HEALTH_LINK_SILENT:
        return "down";
    }
    assert(!"a link state outside its enum");
    return "unknown";
}

/* In an operator's words, what an error reply means; NULL when it needs none. */
static const char *view_said_words(enum health_said said)
{
    switch (said) {
    case HEALTH_SAID_BUSY:
        return "a script runs for long: BUSY";
    case HEALTH_SAID_MISCONF:
        return "can't save its data and refuses writes: MISCONF";
    case HEALTH_SAID_NOAUTH:
        return "refuses our login: check user and password";
    case HEALTH_SAID_MAXCLIENTS:
        return "takes no further connections: maxclients";
    case HEALTH_SAID_OOM:
        return "is at maxmemory and refuses writes: OOM";
    case HEALTH_SAID_MASTERDOWN:
        return "has lost its master: MASTERDOWN";
    case HEALTH_SAID_OTHER:
        return "answers with an error";
    case HEALTH_SAID_OK:
    case HEALTH_SAID_LOADING: /* its INFO tells */
        break;
    }
    return NULL;
}

/* It was asked and does not answer. */
static void view_mute_note(const struct view_instance *v, const struct health_member *h, char note[NOTE_MAX])
{
    static const char *const knocks[] = {
        [HEALTH_KNOCK_UNKNOWN] = "",
        [HEALTH_KNOCK_ACCEPTED] = ", its host takes connections",
        [HEALTH_KNOCK_REFUSED] = ", its port is closed",
        [HEALTH_KNOCK_NO_ANSWER] = ", its host does not answer",
    };
    int64_t mute_ms = v->now_us > h->mute_us ? (v->now_us - h->mute_us) / 1000 : 0;
    (void)snprintf(note, NOTE_MAX, "silent for %" PRId64 ".%" PRId64 " s%s", mute_ms / 1000,
                   mute_ms / 100 % 10, knocks[h->knock]);
}

/* What is worth an operator's look, "" when nothing is. */
static void view_member_note(const struct view_instance *v, int member, char note[NOTE_MAX])
{
    const struct topology_instance *i = v->record;
    const struct health_member *h = &v->failover->health[member];
    const struct info *info = &h->info;
    const char *known_run_id = i->members[member].run_id;
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    note[0] = '\0';
    if (h->link == HEALTH_LINK_DENIED)
        (void)snprintf(note, NOTE_MAX, "refuses our login or is no Redis: check user and password");
    else if (h->link != HEALTH_LINK_UP)
        (void)snprintf(note, NOTE_MAX, "link %s", health_link_name(h->link));
    else if (h->mute_us != 0)
        view_mute_note(v, h, note);
    else if (view_said_words(h->said) != NULL)
        (void)snprintf(note, NOTE_MAX, "%s", view_said_words(h->said));
    else if (!h->info_known)
        (void)snprintf(note, NOTE_MAX, "waiting for its INFO");
    else if (info->loading)
        (void)snprintf(note, NOTE_MAX, "loading its data");
    else if (known_run_id[0] != '\0' && info->run_id[0] != '\0' && strcmp(known_run_id, info->run_id) != 0)
        (void)snprintf(note, NOTE_MAX, "restarted: its data is not trusted until it has synchronized");
    else if (info->role == INFO_ROLE_REPLICA && info->syncing)
        (void)snprintf(note, NOTE_MAX, "full synchronization under way");
    else if (view_is_ousted(i, member, h) && info->role == INFO_ROLE_MASTER)
        (void)snprintf(note, NOTE_MAX, "calls itself a master: it is being made a replica");
    else if (view_is_master(i, member) && info->role == INFO_ROLE_REPLICA)
        (void)snprintf(note, NOTE_MAX, "answers as a replica");
    else if (info->role == INFO_ROLE_REPLICA && v->failover->members[member].sealed &&
             i->state != TOPOLOGY_STABLE)
        (void)snprintf(note, NOTE_MAX, "sealed");
    else if (info->role == INFO_ROLE_REPLICA && !view_follows(i, h))
        (void)snprintf(note, NOTE_MAX, "follows %s", topology_address_format(&info->master, address));
}

/* Bytes that the member is behind the master; VIEW_UNKNOWN when the two can't be compared. */
static int64_t view_lag_bytes(const struct view_instance *v, int member)
{
    const struct topology_instance *i = v->record;
    int master = topology_member_find(i, &i->master);
    if (master < 0)
        return VIEW_UNKNOWN;
    const struct health_member *m = &v->failover->health[master], *r = &v->failover->health[member];
    if (!m->info_known || !r->info_known || view_is_ousted(i, member, r))
        return VIEW_UNKNOWN;
    /* The two were asked at different moments: a replica may seem to be ahead. */
    return r->info.offset < m->info.offset ? m->info.offset - r->info.offset : 0;
}

/* offset, lag_bytes and link: always there, null when not known. A master's link is the one to us. */
static void view_put_replication(struct json_write *w, json_t *object, const struct view_instance *v,
                                 int member)
{
    const struct topology_instance *i = v->record;
    const struct health_member *h = v->failover != NULL ? &v->failover->health[member] : NULL;
    bool known = h != NULL && h->info_known;
    int64_t lag_bytes = known ? view_lag_bytes(v, member) : VIEW_UNKNOWN;
    json_t *link = json_null();
    if (h != NULL && view_is_master(i, member))
        link = json_string(h->link == HEALTH_LINK_UP ? "up" : "down");
    else if (h != NULL)
        link = json_string(view_follows(i, h) && h->info.master_link_up ? "up" : "down");
    json_write_set(w, object, "offset", known ? json_integer(h->info.offset) : json_null());
    json_write_set(w, object, "lag_bytes", lag_bytes >= 0 ? json_integer(lag_bytes) : json_null());
    json_write_set(w, object, "link", link);
}

static json_t *view_member(struct json_write *w, const struct view_instance *v, int member)
{
    const struct topology_instance *i = v->record;
    const struct topology_member *m = &i->members[member];
    const struct health_member *h = v->failover != NULL ? &v->failover->health[member] : NULL;
    json_t *object = json_write_object(w);
    json_write_address(w, object, "address", &m->address);
    json_write_text(w, object, "role", view_member_role(i, member, h));
    json_write_text(w, object, "state", view_member_state(v, member));
    view_put_replication(w, object, v, member);
    if (topology_address_is_set(&i->candidate) && topology_address_equal(&i->candidate, &m->address))
        json_write_bool(w, object, "candidate", true);
    if (m->priority != TOPOLOGY_NEUTRAL)
        json_write_text(w, object, "priority", topology_priority_name(m->priority));
    if (m->zone[0] != '\0')
        json_write_text(w, object, "zone", m->zone);
    if (m->serves_reads && i->state == TOPOLOGY_STABLE)
        json_write_bool(w, object, "serves_reads", true);
    if (h != NULL) {
        if (h->said != HEALTH_SAID_OK)
            json_write_text(w, object, "said", health_said_name(h->said));
        if (h->mute_us != 0)
            json_write_int(w, object, "mute_ms",
                           v->now_us > h->mute_us ? (v->now_us - h->mute_us) / 1000 : 0);
        char note[NOTE_MAX];
        view_member_note(v, member, note);
        if (note[0] != '\0')
            json_write_note(w, object, "note", note);
    }
    return object;
}

/* ---- one instance -------------------------------------------------------------------------------------- */

static json_t *view_failover(struct json_write *w, const struct topology_failover *f)
{
    json_t *object = json_write_object(w);
    json_write_int(w, object, "at", f->at_ms);
    json_write_text(w, object, "verdict", topology_verdict_name(f->verdict));
    json_write_u64(w, object, "epoch", f->epoch);
    json_write_address(w, object, "old_master", &f->old_master);
    json_write_note(w, object, "evidence", f->evidence);
    view_timeline_write(w, object, &f->timeline);
    if (f->lost_bytes != 0)
        json_write_int(w, object, "lost_bytes", f->lost_bytes);
    return object;
}

static void view_put_failovers(struct json_write *w, json_t *object, const struct topology_instance *i)
{
    bool any = i->failover.epoch != 0, under_way = i->state != TOPOLOGY_STABLE;
    if (under_way && any)
        json_write_set(w, object, "failover", view_failover(w, &i->failover));
    json_write_set(w, object, "last_failover",
                   any && !under_way ? view_failover(w, &i->failover) : json_null());
}

/* For how many acknowledgements, and who of the proxies waits for them: until all do, some writes are async.
 */
static void view_put_strict(struct json_write *w, json_t *object, const struct view_instance *v)
{
    json_write_int(w, object, "acks", v->record->policy.acks);
    if (v->holding != VIEW_UNKNOWN)
        json_write_int(w, object, "holding", v->holding);
    if (v->not_holding != NULL && v->not_holding[0] != '\0')
        json_write_note(w, object, "not_holding", v->not_holding);
}

/* "10.0.0.2:6379: why" of those that have failed, as many as fit. */
static void view_list_unfenced(const struct view_instance *v, char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t k = 0; k < v->record->n_members && at + 1 < size; k++) {
        char address[TOPOLOGY_ADDRESS_MAX + 1];
        const struct failover_fence *m = &v->failover->members[k].fence;
        if (m->failed)
            at += (size_t)snprintf(text + at, size - at, "%s%s: %s", at ? "; " : "",
                                   topology_address_format(&v->record->members[k].address, address), m->why);
    }
}

/* How applications log in at members directly; of a leader also where they can't, or can go around it. */
static void view_put_fence(struct json_write *w, json_t *object, const struct view_instance *v)
{
    const struct topology_instance *i = v->record;
    char login[TOPOLOGY_USER_MAX + 1], failed[256];
    json_t *fence = json_write_object(w);
    json_write_text(w, fence, "mode", topology_fence_name(i->policy.fence));
    json_write_text(w, fence, "template", i->policy.fence_user);
    topology_fence_login(i, login);
    json_write_set(w, fence, "user", login[0] != '\0' ? json_string(login) : json_null());
    if (v->failover != NULL && v->failover->term != 0) {
        uint32_t n_done = 0, n_open = 0;
        for (uint32_t k = 0; k < i->n_members; k++) {
            const struct failover_fence *m = &v->failover->members[k].fence;
            n_done += m->done && m->keep && m->epoch == i->epoch;
            n_open += m->done && m->open;
        }
        json_write_int(w, fence, "members", n_done);
        json_write_bool(w, fence, "template_may_log_in", n_open > 0);
        view_list_unfenced(v, failed, sizeof failed);
        if (failed[0] != '\0')
            json_write_note(w, fence, "failed", failed);
    }
    json_write_set(w, object, "fence", fence);
}

static void view_put_head(struct json_write *w, json_t *object, const struct view_instance *v)
{
    const struct topology_instance *i = v->record;
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    json_write_text(w, object, "name", i->name);
    json_write_int(w, object, "port", i->port);
    json_write_u64(w, object, "epoch", i->epoch);
    json_write_text(w, object, "state", topology_state_name(i->state));
    json_write_text(w, object, "durability", topology_durability_name(i->policy.durability));
    if (topology_is_strict(i))
        view_put_strict(w, object, v);
    json_write_text(w, object, "reads", topology_reads_name(i->policy.reads));
    if (topology_is_fenced(i))
        view_put_fence(w, object, v);
    json_write_set(w, object, "master",
                   topology_address_is_set(&i->master)
                       ? json_string(topology_address_format(&i->master, text))
                       : json_null());
    json_write_int(w, object, "revision", v->revision);
}

static json_t *view_instance_object(struct json_write *w, const struct view_instance *v, int32_t proxies)
{
    const struct topology_instance *i = v->record;
    assert(i->n_members <= TOPOLOGY_MEMBERS_MAX);
    json_t *object = json_write_object(w);
    view_put_head(w, object, v);
    json_write_address(w, object, "candidate", &i->candidate);
    if (v->failover != NULL) {
        json_write_text(w, object, "phase", failover_phase_name(v->failover->phase));
        if (v->failover->waiting[0] != '\0')
            json_write_note(w, object, "waiting", v->failover->waiting);
        if (v->readiness != VIEW_READINESS_UNKNOWN && v->next >= 0 && v->next < (int)i->n_members)
            json_write_address(w, object, "next", &i->members[v->next].address);
    }
    view_restraint_write(w, object, v);
    json_t *members = json_write_array(w);
    for (uint32_t k = 0; k < i->n_members; k++)
        json_write_append(w, members, view_member(w, v, (int)k));
    json_write_set(w, object, "members", members);
    if (proxies != VIEW_UNKNOWN)
        json_write_int(w, object, "proxies", proxies);
    if (v->acked != VIEW_UNKNOWN)
        json_write_int(w, object, "acked", v->acked);
    json_write_ms(w, object, "slowest_ms", v->slowest_us);
    if (v->missing != NULL && v->missing[0] != '\0')
        json_write_note(w, object, "proxies_missing", v->missing);
    view_put_failovers(w, object, i);
    return object;
}

char *view_topology(const struct view_topology *t, size_t *len)
{
    assert(t != NULL && len != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_write_int(&w, root, "revision", t->revision);
    json_write_set(&w, root, "leader", t->leader != NULL ? json_string(t->leader) : json_null());
    json_write_text(&w, root, "source", t->source);
    json_write_text(&w, root, "zookeeper", t->zookeeper_is_up ? "up" : "down");
    if (t->pause != NULL)
        view_pause_write(&w, root, t->pause, t->wall_ms);
    if (t->proxies != VIEW_UNKNOWN)
        json_write_int(&w, root, "proxies", t->proxies);
    json_t *instances = json_write_array(&w);
    for (size_t k = 0; k < t->n_instances; k++)
        json_write_append(&w, instances, view_instance_object(&w, &t->instances[k], t->proxies));
    json_write_set(&w, root, "instances", instances);
    json_t *set_aside = json_write_array(&w);
    for (size_t k = 0; k < t->n_set_aside; k++) {
        json_t *object = json_write_object(&w);
        json_write_note(&w, object, "name", t->set_aside[k].name);
        json_write_note(&w, object, "why", t->set_aside[k].why);
        json_write_append(&w, set_aside, object);
    }
    json_write_set(&w, root, "set_aside", set_aside);
    return json_write_finish_alloc(&w, root, len);
}

char *view_instances(const struct view_topology *t, size_t *len)
{
    assert(t != NULL && len != NULL);
    struct json_write w = {0};
    json_t *root = json_write_object(&w);
    json_t *instances = json_write_array(&w);
    for (size_t k = 0; k < t->n_instances; k++) {
        const struct view_instance *v = &t->instances[k];
        json_t *object = json_write_object(&w);
        view_put_head(&w, object, v);
        json_write_int(&w, object, "members", v->record->n_members);
        int up = 0;
        for (uint32_t m = 0; v->failover != NULL && m < v->record->n_members; m++)
            up += health_is_reachable(&v->failover->health[m]);
        if (v->failover != NULL)
            json_write_int(&w, object, "members_up", up);
        json_write_append(&w, instances, object);
    }
    json_write_set(&w, root, "instances", instances);
    return json_write_finish_alloc(&w, root, len);
}

/* ---- one instance in full ------------------------------------------------------------------------------ */

/* The durable record as the codec writes it: every policy key, member, epoch row. Without the password. */
static json_t *view_record(struct json_write *w, const struct topology_instance *i)
{
    static const char mask[] = "***";
    struct topology_instance shown = *i;
    if (shown.auth.password[0] != '\0')
        memcpy(shown.auth.password, mask, sizeof mask);
    char text[TOPOLOGY_TEXT_MAX];
    ssize_t len = topology_encode_instance(&shown, text, sizeof text);
    if (len < 0) {
        w->err = (int)len;
        return NULL;
    }
    return json_loadb(text, (size_t)len, 0, NULL);
}

static json_t *view_observed(struct json_write *w, const struct view_instance *v, int member)
{
    const struct health_member *h = &v->failover->health[member];
    json_t *object = json_write_object(w);
    json_write_address(w, object, "address", &v->record->members[member].address);
    json_write_text(w, object, "connection", health_link_name(h->link));
    if (!h->info_known)
        return object;
    static const char *const roles[] = {
        [INFO_ROLE_UNKNOWN] = "unknown", [INFO_ROLE_MASTER] = "master", [INFO_ROLE_REPLICA] = "replica"};
    json_write_text(w, object, "says_role", roles[h->info.role]);
    json_write_note(w, object, "run_id", h->info.run_id);
    json_write_note(w, object, "redis_version", h->info.version);
    json_write_note(w, object, "repl_id", h->info.repl_id);
    json_write_address(w, object, "follows", &h->info.master);
    json_write_int(w, object, "replicas_connected", h->info.n_replicas);
    json_write_bool(w, object, "loading", h->info.loading);
    json_write_bool(w, object, "syncing", h->info.syncing);
    return object;
}

char *view_instance(const struct view_instance *v, int32_t proxies, size_t *len)
{
    assert(v != NULL && len != NULL);
    struct json_write w = {0};
    json_t *root = view_instance_object(&w, v, proxies);
    if (v->failover != NULL) {
        json_t *observed = json_write_array(&w);
        for (uint32_t k = 0; k < v->record->n_members; k++)
            json_write_append(&w, observed, view_observed(&w, v, (int)k));
        json_write_set(&w, root, "observed", observed);
        json_write_u64(&w, root, "term", v->failover->term);
    }
    json_write_set(&w, root, "record", view_record(&w, v->record));
    return json_write_finish_alloc(&w, root, len);
}
