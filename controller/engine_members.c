/* What the monitor sees of an instance's members: into the core, and counted for the outlook first. */
#include "common/log.h"
#include "common/loop.h"
#include "controller/engine_instance.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- events in ------------------------------------------------------------------------------------------
 */

static struct failover_event engine_member_event(const struct engine_member *m, enum failover_event_type type)
{
    struct failover_event event = engine_event(m->instance, type);
    event.member = topology_member_find(&m->instance->failover.record, &m->address);
    return event;
}

/* Before the core hears of it: the event that makes it "most of them" must not be believed any more. */
static void engine_member_silence(struct engine_member *m, bool silent)
{
    struct engine *e = m->instance->engine;
    if (m->silent == silent)
        return;
    m->silent = silent;
    outlook_on_silence(&e->outlook, silent, loop_now_us(e->loop));
    engine_trust_weigh(e);
}

static void engine_on_link_up(void *owner)
{
    struct engine_member *m = owner;
    engine_member_silence(m, false);
    struct failover_event event = engine_member_event(m, FAILOVER_ON_LINK_UP);
    engine_step(m->instance, &event);
    engine_note_change(m->instance);
}

static void engine_on_link_down(void *owner, int err, const char *text)
{
    struct engine_member *m = owner;
    struct engine_instance *i = m->instance;
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    engine_member_silence(m, err == ERR_TIMEOUT || err == ERR_UNREACHABLE);
    struct failover_event event = engine_member_event(m, FAILOVER_ON_LINK_DOWN);
    event.err = err;
    enum health_link before = i->failover.health[event.member].link;
    engine_step(i, &event);
    if (before == i->failover.health[event.member].link)
        return; /* every attempt reports; say it once */
    engine_note_change(i);
    bool denied = err == ERR_AUTH || err == ERR_PROTOCOL;
    engine_say(i->engine, i->name, denied ? FAILOVER_ERROR : FAILOVER_WARN,
               "event=member.link_down instance=%s member=%s reason=%s say=\"%s\"%s", i->name,
               topology_address_format(&m->address, address), err_name(err), text ? text : "",
               err == ERR_AUTH       ? " next=\"check the instance's user and password\""
               : err == ERR_PROTOCOL ? " next=\"is that port a redis-server?\""
                                     : "");
}

static void engine_on_info(void *owner, const struct info *info)
{
    struct engine_member *m = owner;
    struct failover_event event = engine_member_event(m, FAILOVER_ON_INFO);
    event.info = info;
    engine_step(m->instance, &event);
}

static void engine_on_mute(void *owner, int64_t since_us)
{
    struct engine_member *m = owner;
    struct engine_instance *i = m->instance;
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    engine_member_silence(m, true);
    struct failover_event event = engine_member_event(m, FAILOVER_ON_MUTE);
    event.at_us = since_us;
    engine_say(i->engine, i->name, FAILOVER_WARN,
               "event=member.mute instance=%s member=%s since_ms=%" PRId64 " next=\"its address is tried\"",
               i->name, topology_address_format(&m->address, address), (event.now_us - since_us) / 1000);
    engine_step(i, &event);
    engine_note_change(i);
}

static void engine_on_heard(void *owner, enum health_said said, const char *text)
{
    struct engine_member *m = owner;
    struct engine_instance *i = m->instance;
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    engine_member_silence(m, false);
    struct failover_event event = engine_member_event(m, FAILOVER_ON_HEARD);
    event.said = said;
    engine_say(i->engine, i->name, said == HEALTH_SAID_OK ? FAILOVER_INFO : FAILOVER_WARN,
               "event=member.heard instance=%s member=%s said=%s say=\"%s\"%s", i->name,
               topology_address_format(&m->address, address), health_said_name(said), text ? text : "",
               said == HEALTH_SAID_NOAUTH ? " next=\"check the instance's user and password\"" : "");
    engine_step(i, &event);
    engine_note_change(i);
}

static void engine_on_knock(void *owner, enum health_knock how)
{
    struct failover_event event = engine_member_event(owner, FAILOVER_ON_KNOCK);
    event.knock = how;
    engine_step(((struct engine_member *)owner)->instance, &event);
}

static void engine_on_pings(void *owner, bool every_second)
{
    struct failover_event event = engine_member_event(owner, FAILOVER_ON_PINGS);
    event.err = every_second ? 0 : ERR_REPLY;
    engine_step(((struct engine_member *)owner)->instance, &event);
}

int engine_members_open(struct engine *e)
{
    struct monitor_config monitor = {
        .client_name = e->config.client_name,
        .on_link_up = engine_on_link_up,
        .on_link_down = engine_on_link_down,
        .on_info = engine_on_info,
        .on_mute = engine_on_mute,
        .on_heard = engine_on_heard,
        .on_knock = engine_on_knock,
        .on_pings = engine_on_pings,
    };
    return monitor_open(&e->monitor, e->loop, &monitor);
}

/* ---- members follow the record --------------------------------------------------------------------------
 */

static void engine_member_drop(struct engine_instance *i, uint32_t k)
{
    struct engine *e = i->engine;
    struct engine_member *m = i->members[k];
    engine_orders_forget(i, m);
    monitor_unwatch(m->monitor);
    outlook_on_member(&e->outlook, -1, m->silent, loop_now_us(e->loop));
    free(m);
    i->members[k] = i->members[--i->n_members];
}

static void engine_member_add(struct engine_instance *i, const struct topology_address *address)
{
    char label[TOPOLOGY_NAME_MAX + TOPOLOGY_ADDRESS_MAX + 2], text[TOPOLOGY_ADDRESS_MAX + 1];
    struct engine *e = i->engine;
    struct engine_member *m = calloc(1, sizeof(*m));
    (void)snprintf(label, sizeof(label), "%s %s", i->name, topology_address_format(address, text));
    int err = ERR_NOMEM;
    if (m) {
        m->instance = i;
        m->address = *address;
        err = monitor_watch(e->monitor, label, address, &i->failover.record.auth, m, &m->monitor);
    }
    if (err != 0) {
        engine_say(e, i->name, FAILOVER_ERROR,
                   "event=member.unwatched instance=%s member=%s reason=\"%s\" next=\"free memory or "
                   "descriptors and restart this controller\"",
                   i->name, text, err_text(err));
        free(m);
        return;
    }
    i->members[i->n_members++] = m;
    outlook_on_member(&e->outlook, 1, false, loop_now_us(e->loop));
}

void engine_members_sync(struct engine_instance *i)
{
    const struct topology_instance *record = &i->failover.record;
    const struct topology_address *route = topology_route(record);
    for (uint32_t k = i->n_members; k-- > 0;)
        if (topology_member_find(record, &i->members[k]->address) < 0)
            engine_member_drop(i, k);
    for (uint32_t k = 0; k < record->n_members; k++) {
        bool known = false;
        for (uint32_t j = 0; j < i->n_members && !known; j++)
            known = topology_address_equal(&i->members[j]->address, &record->members[k].address);
        if (!known)
            engine_member_add(i, &record->members[k].address);
    }
    for (uint32_t k = 0; k < i->n_members; k++) {
        monitor_set_eager(i->members[k]->monitor,
                          route && topology_address_equal(route, &i->members[k]->address));
        monitor_set_min_replicas(i->members[k]->monitor, record->policy.min_replicas_to_write,
                                 record->policy.min_replicas_max_lag);
    }
    engine_trust_weigh(i->engine);
}

void engine_members_drop(struct engine_instance *i)
{
    while (i->n_members > 0)
        engine_member_drop(i, i->n_members - 1);
    engine_trust_weigh(i->engine);
}
