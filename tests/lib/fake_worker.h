/* A pretended worker in place of proxy/worker.c: what the control side tells it is what a test asserts.
 * Included by one file of a program, which then is linked without the real one. */
#ifndef MR_TESTS_LIB_FAKE_WORKER_H
#define MR_TESTS_LIB_FAKE_WORKER_H

#include "common/loop.h"
#include "proxy/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROUTES_MAX = 2100 };

struct worker {
    struct worker_config config;
    struct route routes[ROUTES_MAX]; /* port 0: dropped */
    size_t n;
    unsigned applied;
    /* The last worker_pause(). */
    char paused[TOPOLOGY_NAME_MAX + 1];
    uint64_t pause_epoch, pause_number;
    uint32_t pause_limit_ms;
};

static struct worker *fake; /* the only one */

int worker_start(struct worker **out, const struct worker_config *config)
{
    fake = calloc(1, sizeof(*fake));
    assert_non_null(fake);
    fake->config = *config;
    *out = fake;
    return 0;
}

static struct route *fake_find(const char *name)
{
    for (size_t i = 0; i < fake->n; i++)
        if (!strcmp(fake->routes[i].name, name) && fake->routes[i].port != 0)
            return &fake->routes[i];
    return NULL;
}

void worker_apply(struct worker *w, const struct route *r)
{
    struct route *known = fake_find(r->name);
    if (!known) {
        assert_true(w->n < ROUTES_MAX);
        known = &w->routes[w->n++];
    }
    *known = *r;
    w->applied++;
}

void worker_pause(struct worker *w, const char *instance, uint64_t epoch, uint64_t number, uint32_t limit_ms)
{
    snprintf(w->paused, sizeof(w->paused), "%s", instance);
    w->pause_epoch = epoch;
    w->pause_number = number;
    w->pause_limit_ms = limit_ms;
}

void worker_drop(struct worker *w, const char *instance)
{
    (void)w;
    struct route *r = fake_find(instance);
    assert_non_null(r);
    r->port = 0;
}

void worker_drain(struct worker *w, int limit_ms, void (*on_done)(void *ctx), void *ctx)
{
    (void)limit_ms;
    assert_int_equal(loop_wake(w->config.control, on_done, ctx), 0);
}

void worker_stop(struct worker *w)
{
    free(w);
    fake = NULL;
}

void worker_read_latency(struct worker *w, const char *instance, struct histogram_sum *out)
{
    (void)w;
    (void)instance;
    (void)out;
}

void worker_read_held_time(struct worker *w, const char *instance, struct histogram_sum *out)
{
    worker_read_latency(w, instance, out);
}

void worker_read_stats(struct worker *w, const char *instance, struct worker_stats *out)
{
    (void)w;
    (void)instance;
    *out = (struct worker_stats){.clients = 1};
}

#endif
