/* Clock, event queue (a binary heap), random numbers (PCG-XSH-RR 32, by its published definition), trace. */
#include "tests/sim/world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORLD_START_US = 1000000, WORLD_LINE_MAX = 512 };

void world_reset(struct world *w, uint64_t seed)
{
    assert(w);
    for (uint32_t i = 0; i < w->n; i++)
        world_dispose(w, w->heap[i]);
    w->n = 0;
    w->now_us = WORLD_START_US;
    w->order = 0;
    w->fired = 0;
    w->trace_at = 0;
    w->trace_wrapped = false;
    w->failed = false;
    w->random = 0;
    w->random_stream = (seed << 1) | 1;
    (void)world_random(w);
    w->random += seed * UINT64_C(0x9E3779B97F4A7C15);
    (void)world_random(w);
}

void world_free(struct world *w)
{
    assert(w);
    for (uint32_t i = 0; i < w->n; i++)
        world_dispose(w, w->heap[i]);
    free(w->heap);
    while (w->spare) {
        struct world_event *e = w->spare;
        w->spare = e->next;
        free(e);
    }
    free(w->trace);
}

uint32_t world_random(struct world *w)
{
    uint64_t old = w->random;
    w->random = old * UINT64_C(6364136223846793005) + w->random_stream;
    uint32_t shifted = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t rotate = (uint32_t)(old >> 59);
    return (shifted >> rotate) | (shifted << ((32 - rotate) & 31));
}

int64_t world_between(struct world *w, int64_t low, int64_t high)
{
    assert(low <= high && high - low < UINT32_MAX);
    return low + (int64_t)(((uint64_t)world_random(w) * (uint64_t)(high - low + 1)) >> 32);
}

bool world_chance(struct world *w, uint32_t permille)
{
    return world_between(w, 0, 999) < (int64_t)permille;
}

static bool world_before(const struct world_event *a, const struct world_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void world_push(struct world *w, struct world_event *e)
{
    if (w->n == w->room) {
        w->room = w->room ? 2 * w->room : 256;
        struct world_event **heap = (struct world_event **)realloc((void *)w->heap, w->room * sizeof(*heap));
        if (!heap)
            abort();
        w->heap = heap;
    }
    uint32_t i = w->n++;
    while (i > 0 && world_before(e, w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
}

static struct world_event *world_pop(struct world *w)
{
    if (w->n == 0)
        return NULL;
    struct world_event *top = w->heap[0];
    struct world_event *last = w->heap[--w->n];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= w->n)
            break;
        if (child + 1 < w->n && world_before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!world_before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->n > 0)
        w->heap[i] = last;
    return top;
}

static struct world_event *world_take(struct world *w)
{
    struct world_event *e = w->spare;
    if (e)
        w->spare = e->next;
    else
        e = (struct world_event *)malloc(sizeof(*e));
    if (!e)
        abort();
    return e;
}

void world_inbox_put(struct world *w, struct world_inbox *inbox, struct world_event *e)
{
    struct world_event *kept = world_take(w);
    *kept = *e;
    kept->next = NULL;
    e->data = NULL;
    if (inbox->last)
        inbox->last->next = kept;
    else
        inbox->first = kept;
    inbox->last = kept;
}

void world_inbox_run(struct sim *s, struct world *w, struct world_inbox *inbox)
{
    struct world_event *e = inbox->first;
    *inbox = (struct world_inbox){NULL, NULL};
    while (e) {
        struct world_event *next = e->next;
        e->fire(s, e);
        world_dispose(w, e);
        e = next;
    }
}

void world_inbox_clear(struct world *w, struct world_inbox *inbox)
{
    while (inbox->first) {
        struct world_event *e = inbox->first;
        inbox->first = e->next;
        world_dispose(w, e);
    }
    inbox->last = NULL;
}

struct world_event *world_at(struct world *w, int64_t at_us,
                             void (*fire)(struct sim *s, struct world_event *e))
{
    struct world_event *e = world_take(w);
    *e = (struct world_event){
        .at_us = at_us < w->now_us ? w->now_us : at_us, .order = w->order++, .fire = fire};
    world_push(w, e);
    return e;
}

struct world_event *world_after(struct world *w, int64_t delay_us,
                                void (*fire)(struct sim *s, struct world_event *e))
{
    assert(delay_us >= 0);
    return world_at(w, w->now_us + delay_us, fire);
}

void world_dispose(struct world *w, struct world_event *e)
{
    free(e->data);
    e->data = NULL;
    e->next = w->spare;
    w->spare = e;
}

bool world_turn(struct sim *s, struct world *w)
{
    struct world_event *e = world_pop(w);
    if (!e)
        return false;
    assert(e->at_us >= w->now_us);
    w->now_us = e->at_us;
    w->fired++;
    e->fire(s, e);
    world_dispose(w, e);
    return true;
}

static void world_trace_put(struct world *w, const char *line, uint32_t len)
{
    if (w->trace_room == 0) {
        (void)fwrite(line, 1, len, stdout);
        return;
    }
    for (uint32_t i = 0; i < len; i++) {
        w->trace[w->trace_at++] = line[i];
        if (w->trace_at == w->trace_room) {
            w->trace_at = 0;
            w->trace_wrapped = true;
        }
    }
}

void world_trace_line(struct world *w, const char *format, ...)
{
    char line[WORLD_LINE_MAX];
    int n = snprintf(line, sizeof(line), "%9.6f ", (double)(w->now_us - WORLD_START_US) / 1e6);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, args);
    va_end(args);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > sizeof(line) - 2)
        len = sizeof(line) - 2;
    line[len++] = '\n';
    world_trace_put(w, line, (uint32_t)len);
}

void world_trace_print(const struct world *w)
{
    if (w->trace_wrapped) {
        const char *rest = w->trace + w->trace_at;
        const char *line = memchr(rest, '\n', w->trace_room - w->trace_at);
        if (line)
            (void)fwrite(line + 1, 1, w->trace_room - (size_t)(line + 1 - w->trace), stdout);
    }
    (void)fwrite(w->trace, 1, w->trace_at, stdout);
}

void world_fail(struct world *w, const char *invariant, const char *format, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    (void)snprintf(w->invariant, sizeof(w->invariant), "%s", invariant);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(w->failure, sizeof(w->failure), format, args);
    va_end(args);
    world_trace(w, "FAILED %s: %s", w->invariant, w->failure);
}
