#include "proxy/instance.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/acks.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/core/histogram.h"
#include "proxy/core/reading.h"
#include "proxy/limits.h"
#include "proxy/listener.h"
#include "proxy/mux.h"
#include "proxy/net.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INSTANCE_TICK_US      ((int64_t)20000)
#define INSTANCE_RETRY_MIN_US ((int64_t)5000)
#define INSTANCE_RETRY_MAX_US ((int64_t)200000)
#define INSTANCE_TELL_US      ((int64_t)10000000)

uint32_t shard_now_ms(const struct shard *shard)
{
    return (uint32_t)(loop_now_us(shard->loop) / 1000);
}

/* Those who are dirty; not the deep ones, which go to `later`, if there is one. */
static void shard_settle_clients(struct shard *shard, struct list *later)
{
    struct list *node;

    while ((node = list_first(&shard->dirty)) != NULL) {
        struct client *c = list_entry(node, struct client, dirty);
        struct instance *i = c->instance;
        list_remove(node);
        if (later && session_is_deep(&c->session)) {
            list_push_back(later, node);
            continue;
        }
        client_settle(c);
        instance_pump(i);
    }
}

void shard_settle(struct shard *shard)
{
    struct list deep, *node;

    /* What one has for itself goes out first: SUBSCRIBE before the PUBLISH that another sent after it. But
     * very much of it comes after what many share. */
    list_init(&deep);
    shard_settle_clients(shard, &deep);
    mux_settle(shard);
    while ((node = list_first(&deep)) != NULL) {
        list_remove(node);
        list_push_back(&shard->dirty, node);
    }
    /* Writing may let more requests through, which are other clients'. */
    do {
        shard_settle_clients(shard, NULL);
        mux_settle(shard);
        acks_settle(shard);
    } while (!list_empty(&shard->dirty));
}

/* ---- connecting
 * -------------------------------------------------------------------------------------------- */

bool instance_may_connect(const struct instance *i)
{
    int64_t now_us = loop_now_us(i->shard->loop);

    return !i->doubt && i->env.pause == SESSION_FLOWS && i->route.state == ROUTE_SERVING &&
           topology_address_is_set(&i->route.master) && i->connecting < INSTANCE_CONNECTING_MAX &&
           now_us >= i->retry_us;
}

static void instance_arm(struct instance *i)
{
    bool muxes = mux_needs_time(i) || acks_need_time(i);
    bool needed = !list_empty(&i->timed) || !list_empty(&i->queue) || muxes;
    int64_t now_us = loop_now_us(i->shard->loop), wait_us = INSTANCE_TICK_US;

    if (!needed) {
        ev_timer_stop(i->shard->ev, &i->timer);
        return;
    }
    if (ev_is_active(&i->timer))
        return;
    if ((muxes || !list_empty(&i->queue)) && i->retry_us > now_us && i->retry_us - now_us < wait_us)
        wait_us = i->retry_us - now_us;
    ev_timer_set(&i->timer, (double)wait_us / 1e6, 0.);
    ev_timer_start(i->shard->ev, &i->timer);
}

void instance_pump(struct instance *i)
{
    struct list *node;

    acks_pump(i);
    mux_pump(i);
    while (instance_may_connect(i) && (node = list_first(&i->queue)) != NULL) {
        struct client *c = list_entry(node, struct client, queue);
        list_remove(node);
        if (!client_connect(c)) {
            list_push_back(&i->queue, node);
            instance_doubt(i);
            break;
        }
        if (list_empty(&c->timed))
            list_push_back(&i->timed, &c->timed);
    }
    instance_arm(i);
}

static void instance_on_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct instance *i = timer->data;
    int64_t now_us = loop_now_us(i->shard->loop);

    (void)ev;
    (void)revents;
    list_for_each(node, &i->timed) client_tick(list_entry(node, struct client, timed), now_us);
    mux_tick(i, now_us);
    acks_tick(i, now_us);
    instance_pump(i);
}

static void instance_hold(struct instance *i)
{
    i->env.held = i->doubt || i->route.state != ROUTE_SERVING;
}

/* Clients that wait would otherwise only learn that there is no master, and nobody why. */
static void instance_tell_refusal(struct instance *i)
{
    int64_t now_us = loop_now_us(i->shard->loop);
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    if (!i->env.refusal)
        return;
    if (i->told_us == 0 || now_us - i->told_us >= INSTANCE_TELL_US) {
        log_warn(
            "event=master.refuses instance=%s master=%s epoch=%llu reason=\"%s\" say=\"requests wait and are "
            "tried again\"",
            i->route.name, topology_address_format(&i->route.master, text),
            (unsigned long long)i->route.epoch, i->env.refusal);
        i->told_us = now_us;
    }
    i->env.refusal = NULL;
}

void instance_doubt(struct instance *i)
{
    instance_tell_refusal(i);
    if (i->doubt || i->route.state != ROUTE_SERVING)
        return;
    i->doubt = true;
    i->failures++;
    scripts_doubt(&i->env.scripts);
    instance_hold(i);
    i->shard->on_broken(i->shard, &i->route);
}

void instance_trust(struct instance *i)
{
    if (!i->doubt)
        i->failures = 0;
}

/* ---- listening
 * ---------------------------------------------------------------------------------------------- */

static void instance_on_accept(void *ctx, int fd)
{
    struct instance *i = ctx;
    char text[LIMITS_TEXT_MAX];

    if (i->share && !limits_enter(i->share, i->shard->n_clients, loop_now_us(i->shard->loop), text)) {
        struct buf_span span[] = {{text, strlen(text)}, {"\r\n", 2}};
        session_count(&i->counts.session.rejected, 1);
        (void)net_write(fd, span, 2);
        close(fd);
        return;
    }
    mux_make_way(i);
    if (client_open(i, fd)) {
        if (i->share)
            limits_leave(i->share);
        log_error("event=client.nomem instance=%s", i->route.name);
    }
}

static void instance_on_listen_failed(void *ctx, int err)
{
    struct instance *i = ctx;

    i->shard->on_listen_failed(i->shard, &i->route, err);
}

static void instance_listen(struct instance *i)
{
    struct listener_config config = {.host = i->shard->bind,
                                     .port = i->route.port,
                                     .ports = i->shard->ports,
                                     .on_accept = instance_on_accept,
                                     .on_failed = instance_on_listen_failed,
                                     .ctx = i};

    listener_close(i->listener);
    i->listener = NULL;
    if (i->shard->draining)
        return;
    i->listener = listener_open(i->shard->ev, &config);
    if (!i->listener)
        instance_on_listen_failed(i, ENOMEM);
}

/* ---- life and routes --------------------------------------------------------------------------------------
 */

static void instance_set_route(struct instance *i, const struct route *route)
{
    i->route = *route;
    i->env.hold_ms = route->hold_ms ? route->hold_ms : (uint32_t)i->shard->hold_ms;
    i->doubt = false;
    instance_hold(i);
    acks_set_policy(i);
}

static void instance_switched(struct instance *i, int64_t posted_us)
{
    uint32_t acks = acks_asked(i);

    if (acks != route_acks(&i->route))
        return; /* out of memory: it must not be believed that they are held */
    if (i->route.state != ROUTE_SERVING || (i->switched >= i->route.epoch && i->switched_acks == acks))
        return;
    i->switched = i->route.epoch;
    i->switched_acks = acks;
    i->shard->on_switched(i->shard, &i->route, loop_clock_us() - posted_us);
}

struct instance *instance_new(void)
{
    struct instance *i = calloc(1, sizeof(*i));

    if (i)
        list_init(&i->node);
    return i;
}

void instance_open(struct instance *i, struct shard *shard, const struct route *route)
{
    i->shard = shard;
    i->readers_changed = 1;
    i->env.route = &i->route;
    i->env.counts = &i->counts.session;
    i->env.clock = &shard->clock;
    i->share = limits_take_share(shard->limits, route->name);
    if (i->share) {
        i->env.limits = limits_data(shard->limits);
        i->env.held_bytes = limits_held_bytes(i->share);
        i->env.unread_bytes = limits_unread_bytes(shard->limits);
    }
    list_init(&i->clients);
    list_init(&i->queue);
    list_init(&i->timed);
    list_init(&i->muxes);
    list_init(&i->window_queue);
    ev_timer_init(&i->timer, instance_on_timer, 0., 0.);
    i->timer.data = i;
    switchover_init(i);
    silence_init(i);
    standby_init(i);
    instance_set_route(i, route);
    instance_listen(i);
}

/* The same master, tried again: not at once when it has just failed twice. */
static void instance_confirmed(struct instance *i)
{
    int64_t wait_us = 0;

    if (i->failures > 1) {
        uint32_t doublings = i->failures - 2 < 6 ? i->failures - 2 : 6;
        wait_us = INSTANCE_RETRY_MIN_US << doublings;
    }
    if (wait_us > INSTANCE_RETRY_MAX_US)
        wait_us = INSTANCE_RETRY_MAX_US;
    i->retry_us = loop_now_us(i->shard->loop) + wait_us;
}

void instance_resume(struct instance *i)
{
    list_for_each(node, &i->clients)
    {
        struct client *c = list_entry(node, struct client, node);
        if (!c->session.work)
            continue;
        session_route_changed(&c->session, shard_now_ms(i->shard));
        client_touch(c);
    }
    instance_pump(i);
}

/* Its own connection leads to where the route doesn't. */
static bool instance_leads_elsewhere(const struct instance *i, const struct client *c)
{
    if (!c->backend || i->route.state != ROUTE_SERVING)
        return false;
    const struct topology_address *to = backend_address(c->backend);
    return c->at_replica ? !reading_is_listed(&i->route, to) : !topology_address_equal(to, &i->route.master);
}

static void instance_switch(struct instance *i)
{
    i->failures = 0;
    i->retry_us = 0;
    i->env.planned = i->planned && i->route.state == ROUTE_SERVING;
    scripts_doubt(&i->env.scripts);
    acks_follow(i);
    if (i->route.state == ROUTE_SERVING)
        mux_switch(i, i->env.planned);
    list_for_each(node, &i->clients)
    {
        struct client *c = list_entry(node, struct client, node);
        bool elsewhere = instance_leads_elsewhere(i, c);
        if (elsewhere && i->env.planned)
            client_read_out(c);
        if (elsewhere)
            client_detach(c);
        else if (c->session.work)
            session_route_changed(&c->session, shard_now_ms(i->shard));
        if (elsewhere || c->session.work)
            client_touch(c);
    }
    acks_followed(i);
    if (i->route.state == ROUTE_SERVING)
        i->planned = i->env.planned = false;
}

void instance_apply(struct instance *i, const struct route *route, int64_t posted_us)
{
    if (route->epoch < i->route.epoch || route->revision < i->route.revision)
        return;
    bool changed = route->epoch != i->route.epoch || route->state != i->route.state ||
                   !topology_address_equal(&route->master, &i->route.master);
    bool confirmed = !changed && route->revision == i->route.revision;
    bool moved = route->port != i->route.port, paused = i->env.pause != SESSION_FLOWS;

    if (switchover_end(i))
        i->planned = route->epoch > i->route.epoch;
    instance_set_route(i, route);
    mux_forgive(i);
    mux_forget_replicas(i);
    if (moved)
        instance_listen(i);
    if (confirmed)
        instance_confirmed(i);
    else
        instance_switch(i);
    if (confirmed && paused)
        instance_resume(i);
    ev_timer_stop(i->shard->ev, &i->timer);
    shard_settle(i->shard);
    instance_pump(i);
    standby_look(i);
    instance_switched(i, posted_us);
}

void instance_drain(struct instance *i)
{
    listener_close(i->listener);
    i->listener = NULL;
    list_for_each(node, &i->clients)
    {
        struct client *c = list_entry(node, struct client, node);
        client_drain(c);
    }
}

void instance_drop(struct instance *i)
{
    acks_close(i);
    mux_close_all(i);
    list_for_each(node, &i->clients)
    {
        struct client *c = list_entry(node, struct client, node);
        session_drop(&c->session);
        list_remove(&c->dirty);
        client_settle(c);
    }
    instance_free(i);
}

void instance_hang_up(struct instance *i)
{
    struct list *node;

    while ((node = list_first(&i->clients)) != NULL)
        client_close(list_entry(node, struct client, node), NULL);
}

void instance_free(struct instance *i)
{
    listener_close(i->listener);
    (void)switchover_end(i);
    instance_hang_up(i);
    mux_free_all(i);
    acks_free(i);
    standby_stop(i);
    ev_timer_stop(i->shard->ev, &i->timer);
    silence_stop(i);
    session_env_free(&i->env);
    list_remove(&i->node);
    if (i->share)
        limits_give_share(i->share);
    free(atomic_load_explicit(&i->counts.session.latency, memory_order_relaxed));
    free(atomic_load_explicit(&i->counts.session.held_time, memory_order_relaxed));
    free(i);
}
