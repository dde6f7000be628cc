/*   each second: counters of all instances ─► requests[second % 11]     rate: newest − oldest
 *   each tenth:  histograms ─► older, newer                             quantiles: now − older */
#include "proxy/meter.h"

#include "common/loop.h"
#include "proxy/control.h"
#include "proxy/core/histogram.h"

#include <stdlib.h>
#include <string.h>

#define METER_TICK_US ((int64_t)1000000)
enum { METER_SECONDS = 10 };

/* What came since `older` was read, 10 to 20 s ago. */
struct meter_window {
    struct histogram_sum older, newer;
};

struct meter_entry {
    char name[TOPOLOGY_NAME_MAX + 1];
    uint64_t requests[METER_SECONDS + 1]; /* a ring */
    int64_t at_us[METER_SECONDS + 1];     /* when each was read */
    uint32_t n;                           /* readings ever */
    struct meter_window latency, held_time;
};

struct meter {
    struct loop *loop;
    struct control *control;
    ev_timer timer;
    struct meter_entry **entries; /* sorted by name, as the route table */
    size_t n;
};

static struct meter_entry *meter_find(const struct meter *m, const char *name)
{
    size_t from = 0, to = m->n;

    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = strcmp(m->entries[middle]->name, name);
        if (order == 0)
            return m->entries[middle];
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

/* Counters begin at zero with the instance: so does its rate, a tick before it is first looked at. */
static void meter_begin(struct meter *m, struct meter_entry *e)
{
    e->requests[0] = 0;
    e->at_us[0] = loop_now_us(m->loop) - METER_TICK_US;
    e->n = 1;
    memset(&e->latency, 0, sizeof(e->latency));
    memset(&e->held_time, 0, sizeof(e->held_time));
}

static void meter_look(struct meter *m, struct meter_entry *e)
{
    struct worker_stats now;

    control_read_stats(m->control, e->name, &now);
    /* One that was deleted and made again begins again. */
    if (e->n == 0 || now.requests < e->requests[(e->n - 1) % (METER_SECONDS + 1)])
        meter_begin(m, e);
    uint32_t at = e->n % (METER_SECONDS + 1);
    e->requests[at] = now.requests;
    e->at_us[at] = loop_now_us(m->loop);
    if (e->n++ % METER_SECONDS != 0)
        return;
    e->latency.older = e->latency.newer;
    control_read_latency(m->control, e->name, &e->latency.newer);
    e->held_time.older = e->held_time.newer;
    control_read_held_time(m->control, e->name, &e->held_time.newer);
}

/* The entries follow the route table: new ones are made, those of deleted instances go. */
static void meter_follow(struct meter *m)
{
    const struct route_table *t = &control_book(m->control)->table;
    struct meter_entry **entries = calloc(t->n + 1, sizeof(struct meter_entry *));
    size_t n = 0, old = 0;

    if (!entries)
        return;
    for (size_t i = 0; i < t->n; i++) {
        const char *name = t->entries[i]->route.name;
        for (; old < m->n && strcmp(m->entries[old]->name, name) < 0; old++)
            free(m->entries[old]);
        bool known = old < m->n && strcmp(m->entries[old]->name, name) == 0;
        struct meter_entry *e = known ? m->entries[old++] : calloc(1, sizeof(*e));
        if (!e)
            continue;
        memcpy(e->name, name, sizeof(e->name));
        entries[n++] = e;
    }
    for (; old < m->n; old++)
        free(m->entries[old]);
    free(m->entries);
    m->entries = entries;
    m->n = n;
}

static void meter_on_tick(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct meter *m = timer->data;

    (void)ev;
    (void)revents;
    meter_follow(m);
    for (size_t i = 0; i < m->n; i++)
        meter_look(m, m->entries[i]);
}

int meter_open(struct meter **out, struct loop *loop, struct control *control)
{
    struct meter *m = calloc(1, sizeof(*m));

    if (!m)
        return ERR_NOMEM;
    m->loop = loop;
    m->control = control;
    ev_timer_init(&m->timer, meter_on_tick, METER_TICK_US / 1e6, METER_TICK_US / 1e6);
    m->timer.data = m;
    ev_timer_start(loop_ev(loop), &m->timer);
    *out = m;
    return 0;
}

void meter_close(struct meter *m)
{
    if (!m)
        return;
    ev_timer_stop(loop_ev(m->loop), &m->timer);
    for (size_t i = 0; i < m->n; i++)
        free(m->entries[i]);
    free(m->entries);
    free(m);
}

void meter_read(const struct meter *m, const char *instance, struct meter_reading *out)
{
    const struct meter_entry *e = meter_find(m, instance);
    struct histogram_sum now;

    *out = (struct meter_reading){0};
    if (!e || e->n == 0)
        return;
    uint32_t newest = (e->n - 1) % (METER_SECONDS + 1);
    uint32_t oldest = e->n > METER_SECONDS ? e->n % (METER_SECONDS + 1) : 0;
    if (e->at_us[newest] > e->at_us[oldest])
        out->requests_per_s = (double)(e->requests[newest] - e->requests[oldest]) * 1e6 /
                              (double)(e->at_us[newest] - e->at_us[oldest]);
    control_read_latency(m->control, e->name, &now);
    if (!histogram_is_later(&now, &e->latency.older))
        return; /* deleted and made again since */
    histogram_subtract(&now, &e->latency.older);
    out->p50_us = histogram_quantile_us(&now, 500);
    out->p99_us = histogram_quantile_us(&now, 990);
    out->p999_us = histogram_quantile_us(&now, 999);
    control_read_held_time(m->control, e->name, &now);
    if (!histogram_is_later(&now, &e->held_time.older))
        return;
    histogram_subtract(&now, &e->held_time.older);
    out->held_p50_us = histogram_quantile_us(&now, 500);
    out->held_p99_us = histogram_quantile_us(&now, 990);
}
