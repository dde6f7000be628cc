#include "proxy/limits.h"

#include "common/core/list.h"
#include "common/core/topology.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMITS_SECOND_US ((int64_t)1000000)

struct limits {
    struct limits_config config;
    atomic_uint clients;
    atomic_uint_least64_t unread_bytes;
    pthread_mutex_t lock; /* guards the list and what says so below */
    struct list shares;
};

struct limits_share {
    struct list node;
    struct limits *limits;
    char name[TOPOLOGY_NAME_MAX + 1];
    unsigned refs;        /* guarded by the lock */
    int64_t allowance_us; /* guarded by the lock: a connection costs its part of a second */
    int64_t allowed_us;   /* guarded by the lock: when that was reckoned */
    atomic_uint clients;
    atomic_uint_least64_t held_bytes;
};

static bool limits_parse_number(const char **text, uint32_t *out)
{
    char *end;

    if (**text < '0' || **text > '9')
        return false;
    unsigned long long n = strtoull(*text, &end, 10);
    *text = end;
    *out = (uint32_t)n;
    return n <= INT_MAX;
}

int limits_parse_clients(const char *text, struct limits_config *out)
{
    uint32_t total, instance = 0;

    if (!limits_parse_number(&text, &total))
        return ERR_INVALID;
    if (*text == ':') {
        text++;
        if (!limits_parse_number(&text, &instance))
            return ERR_INVALID;
    }
    if (*text != '\0')
        return ERR_INVALID;
    out->clients = total;
    out->clients_instance = instance;
    return 0;
}

struct limits *limits_open(const struct limits_config *config)
{
    struct limits *l = calloc(1, sizeof(*l));

    assert(config->data.request_bytes > 0 && config->data.reply_bytes > 0);
    if (!l)
        return NULL;
    l->config = *config;
    list_init(&l->shares);
    if (pthread_mutex_init(&l->lock, NULL) != 0) {
        free(l);
        return NULL;
    }
    return l;
}

void limits_close(struct limits *l)
{
    if (!l)
        return;
    assert(list_empty(&l->shares));
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
}

const struct session_limits *limits_data(const struct limits *l)
{
    return &l->config.data;
}

/* ---- shares ---------------------------------------------------------------------------------------------
 */

static struct limits_share *limits_find(struct limits *l, const char *instance)
{
    list_for_each(node, &l->shares)
    {
        struct limits_share *s = list_entry(node, struct limits_share, node);
        if (strcmp(s->name, instance) == 0)
            return s;
    }
    return NULL;
}

struct limits_share *limits_take_share(struct limits *l, const char *instance)
{
    (void)pthread_mutex_lock(&l->lock);
    struct limits_share *s = limits_find(l, instance);
    if (!s && (s = calloc(1, sizeof(*s))) != NULL) {
        s->limits = l;
        s->allowance_us = LIMITS_SECOND_US;
        (void)snprintf(s->name, sizeof(s->name), "%s", instance);
        list_init(&s->node);
        list_push_back(&l->shares, &s->node);
    }
    if (s)
        s->refs++;
    (void)pthread_mutex_unlock(&l->lock);
    return s;
}

void limits_give_share(struct limits_share *s)
{
    struct limits *l = s->limits;

    (void)pthread_mutex_lock(&l->lock);
    assert(s->refs > 0);
    if (--s->refs == 0) {
        list_remove(&s->node);
        free(s);
    }
    (void)pthread_mutex_unlock(&l->lock);
}

atomic_uint_least64_t *limits_held_bytes(struct limits_share *s)
{
    return &s->held_bytes;
}

atomic_uint_least64_t *limits_unread_bytes(struct limits *l)
{
    return &l->unread_bytes;
}

/* ---- clients --------------------------------------------------------------------------------------------
 */

/* One more, unless there are max (0: any number) already. */
static bool limits_count(atomic_uint *clients, uint32_t max)
{
    if (atomic_fetch_add_explicit(clients, 1, memory_order_relaxed) < max || max == 0)
        return true;
    atomic_fetch_sub_explicit(clients, 1, memory_order_relaxed);
    return false;
}

/* A second's worth may come at once, and no more is saved up. */
static bool limits_is_too_fast(struct limits_share *s, int64_t now_us)
{
    int64_t cost_us = LIMITS_SECOND_US / s->limits->config.connects_per_s;
    bool too_fast;

    (void)pthread_mutex_lock(&s->limits->lock);
    if (s->allowed_us > 0 && now_us > s->allowed_us)
        s->allowance_us += now_us - s->allowed_us;
    if (now_us > s->allowed_us)
        s->allowed_us = now_us;
    if (s->allowance_us > LIMITS_SECOND_US)
        s->allowance_us = LIMITS_SECOND_US;
    too_fast = s->allowance_us < cost_us;
    s->allowance_us -= too_fast ? 0 : cost_us;
    (void)pthread_mutex_unlock(&s->limits->lock);
    return too_fast;
}

bool limits_enter(struct limits_share *s, uint32_t of_thread, int64_t now_us, char text[LIMITS_TEXT_MAX])
{
    struct limits *l = s->limits;
    const struct limits_config *c = &l->config;

    if (c->connects_per_s > 0 && limits_is_too_fast(s, now_us)) {
        (void)snprintf(text, LIMITS_TEXT_MAX,
                       "-MRLIMIT instance %s takes %u new connections a second here (--max-connects-per-s of "
                       "mr-proxy); keep them open, or connect again later",
                       s->name, c->connects_per_s);
        return false;
    }
    if (c->clients == 0 && of_thread >= LIMITS_CLIENTS_A_THREAD) {
        (void)snprintf(text, LIMITS_TEXT_MAX,
                       "-MRLIMIT this proxy serves %d clients a thread at most (--max-clients of mr-proxy)",
                       LIMITS_CLIENTS_A_THREAD);
        return false;
    }
    if (!limits_count(&s->clients, c->clients_instance)) {
        (void)snprintf(text, LIMITS_TEXT_MAX,
                       "-MRLIMIT this proxy serves %u clients of instance %s at most (--max-clients of "
                       "mr-proxy)",
                       c->clients_instance, s->name);
        return false;
    }
    if (!limits_count(&l->clients, c->clients)) {
        atomic_fetch_sub_explicit(&s->clients, 1, memory_order_relaxed);
        (void)snprintf(text, LIMITS_TEXT_MAX,
                       "-MRLIMIT this proxy serves %u clients at most (--max-clients of mr-proxy)",
                       c->clients);
        return false;
    }
    return true;
}

void limits_leave(struct limits_share *s)
{
    atomic_fetch_sub_explicit(&s->clients, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->limits->clients, 1, memory_order_relaxed);
}
