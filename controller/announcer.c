/* engine ─ publish/hold/drop ─► number it ─► publisher (child process) ─► proxies
 *                         beat timer ─┘ */
#include "controller/announcer.h"

#include "common/core/message.h"
#include "common/log.h"
#include "common/loop.h"
#include "controller/publisher.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const double beat_s = 0.25;
/* After a restart of the child the proxies reconnect within 10–20 ms and may have missed the announcement
 * that the ring repeats: quick beats show them the gap at once. */
static const double hurry_s = 0.01;
enum { ANNOUNCER_HURRIED_BEATS = 30 };

struct announcer {
    struct loop *loop;
    struct publisher *publisher;
    ev_timer beat;
    unsigned hurried; /* quick beats still to send */
    char id[TOPOLOGY_NAME_MAX + 1];
    uint64_t term, seq, revision;
    uint64_t counted; /* the term that seq counts in; outlives a loss of leadership */
};

static void announcer_send(struct announcer *a, struct message *m)
{
    char text[MESSAGE_TEXT_MAX];
    m->term = a->term;
    m->seq = a->seq;
    ssize_t len = message_encode(m, text, sizeof(text));
    if (len < 0) {
        log_error(
            "event=announcer.too_large instance=%s type=%s reason=\"%s\" next=\"proxies re-read it from "
            "ZooKeeper\"",
            m->instance, message_type_name(m->type), err_text((int)len));
        return;
    }
    int err = publisher_send(a->publisher, text, (size_t)len);
    if (err != 0)
        log_warn("event=announcer.lagging instance=%s type=%s reason=\"%s\" next=\"proxies see the gap and "
                 "re-read\"",
                 m->instance, message_type_name(m->type), err_name(err));
}

static void announcer_beat(struct announcer *a)
{
    struct message m;
    memset(&m, 0, sizeof(m));
    m.type = MESSAGE_BEAT;
    m.revision = a->revision;
    memcpy(m.id, a->id, sizeof(m.id));
    announcer_send(a, &m);
}

static void announcer_on_beat(struct ev_loop *ev, ev_timer *timer, int revents)
{
    (void)revents;
    struct announcer *a = timer->data;
    announcer_beat(a);
    timer->repeat = beat_s;
    if (a->hurried > 0) {
        a->hurried--;
        timer->repeat = hurry_s;
    }
    ev_timer_again(ev, timer);
}

static void announcer_on_restarted(void *ctx)
{
    struct announcer *a = ctx;
    log_warn("event=publisher.restarted restarts=%" PRIu64 " next=\"messages announced again\"",
             publisher_restarts(a->publisher));
    if (a->term == 0)
        return;
    a->hurried = ANNOUNCER_HURRIED_BEATS;
    a->beat.repeat = hurry_s;
    ev_timer_again(loop_ev(a->loop), &a->beat);
}

int announcer_open(struct announcer **out, struct loop *loop, const struct announcer_config *config)
{
    assert(out && loop && config && config->id && config->host);
    struct announcer *a = calloc(1, sizeof(*a));
    if (!a)
        return ERR_NOMEM;
    a->loop = loop;
    strncpy(a->id, config->id, sizeof(a->id) - 1);
    ev_init(&a->beat, announcer_on_beat);
    a->beat.data = a;
    struct publisher_config publisher = {.host = config->host,
                                         .port = config->port,
                                         .key = config->key,
                                         .on_restarted = announcer_on_restarted,
                                         .ctx = a};
    int err = publisher_open(&a->publisher, loop, &publisher);
    if (err != 0) {
        free(a);
        return err;
    }
    *out = a;
    return 0;
}

void announcer_close(struct announcer *a)
{
    if (!a)
        return;
    ev_timer_stop(loop_ev(a->loop), &a->beat);
    publisher_close(a->publisher);
    free(a);
}

uint16_t announcer_port(const struct announcer *a)
{
    return publisher_port(a->publisher);
}

void announcer_lead(struct announcer *a, uint64_t term)
{
    if (term == a->term)
        return;
    a->term = term;
    /* A leader whose connection to ZooKeeper broke and came back leads again in the same term: proxies
     * would take messages numbered from 1 again for late duplicates. */
    if (term != 0 && term != a->counted) {
        a->counted = term;
        a->seq = 0;
    }
    if (term == 0) {
        ev_timer_stop(loop_ev(a->loop), &a->beat);
        return;
    }
    a->hurried = ANNOUNCER_HURRIED_BEATS; /* proxies that wait for a leader learn of it within 10 ms */
    announcer_beat(a);
    a->beat.repeat = hurry_s;
    ev_timer_again(loop_ev(a->loop), &a->beat);
}

static void announcer_number(struct announcer *a, int64_t revision)
{
    a->seq++;
    if (revision > 0 && (uint64_t)revision > a->revision)
        a->revision = (uint64_t)revision;
}

void announcer_publish(struct announcer *a, const struct topology_instance *i, int64_t revision)
{
    struct message m;
    if (a->term == 0)
        return;
    memset(&m, 0, sizeof(m));
    message_from_instance(i, &m);
    m.revision = (uint64_t)revision;
    announcer_number(a, revision);
    announcer_send(a, &m);
}

void announcer_hold(struct announcer *a, const struct topology_instance *i, int64_t revision,
                    int64_t limit_ms)
{
    struct message m;
    assert(limit_ms > 0 && limit_ms <= UINT32_MAX); /* 0 would say that a promotion is under way */
    if (a->term == 0)
        return;
    memset(&m, 0, sizeof(m));
    m.type = MESSAGE_HOLD;
    memcpy(m.instance, i->name, sizeof(m.instance));
    m.port = i->port;
    m.epoch = i->epoch;
    m.revision = (uint64_t)revision;
    m.limit_ms = (uint32_t)limit_ms;
    announcer_number(a, revision);
    announcer_send(a, &m);
}

void announcer_drop(struct announcer *a, const char *instance, uint16_t port, int64_t revision)
{
    struct message m;
    if (a->term == 0)
        return;
    memset(&m, 0, sizeof(m));
    m.type = MESSAGE_DROP;
    strncpy(m.instance, instance, sizeof(m.instance) - 1);
    m.port = port;
    m.revision = (uint64_t)revision;
    announcer_number(a, revision);
    announcer_send(a, &m);
}

uint64_t announcer_seq(const struct announcer *a)
{
    return a->seq;
}

uint64_t announcer_revision(const struct announcer *a)
{
    return a->revision;
}

uint64_t announcer_restarts(const struct announcer *a)
{
    return publisher_restarts(a->publisher);
}
