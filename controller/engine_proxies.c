/* Who is there, who has switched, who holds.
 *
 *   /proxies ─ list ─► registered ─┐
 *   ingest ─ ACK ─► acked ─────────┼─► "47 of 48 hosts switched, missing: host-7"
 *   ingest ─ HELD ─► held ─────────┴─► FAILOVER_ON_HELD, for an instance in a switchover
 */
#include "controller/engine_proxies.h"

#include "common/log.h"
#include "common/loop.h"
#include "controller/announcer.h"
#include "controller/engine_instance.h"

#include <assert.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sets -----------------------------------------------------------------------------------------------
 */

static bool engine_set_has(const struct engine_set *s, uint32_t slot)
{
    return slot / 64 < s->n_words && (s->words[slot / 64] >> (slot % 64) & 1) != 0;
}

bool engine_set_add(struct engine_set *s, uint32_t slot)
{
    assert(slot < ENGINE_PROXIES_MAX);
    if (engine_set_has(s, slot))
        return false;
    if (slot / 64 >= s->n_words) {
        uint32_t n = slot / 64 + 1;
        uint64_t *grown = realloc(s->words, n * sizeof(*grown));
        if (!grown)
            return false;
        memset(grown + s->n_words, 0, (n - s->n_words) * sizeof(*grown));
        s->words = grown;
        s->n_words = n;
    }
    s->words[slot / 64] |= (uint64_t)1 << (slot % 64);
    return true;
}

void engine_set_remove(struct engine_set *s, uint32_t slot)
{
    if (slot / 64 < s->n_words)
        s->words[slot / 64] &= ~((uint64_t)1 << (slot % 64));
}

void engine_set_clear(struct engine_set *s)
{
    free(s->words);
    *s = (struct engine_set){0};
}

uint32_t engine_set_common(const struct engine_set *a, const struct engine_set *b)
{
    uint32_t n = 0, n_words = a->n_words < b->n_words ? a->n_words : b->n_words;
    for (uint32_t k = 0; k < n_words; k++)
        n += (uint32_t)__builtin_popcountll(a->words[k] & b->words[k]);
    return n;
}

/* ---- the table ------------------------------------------------------------------------------------------
 */

static int engine_proxies_compare(const void *a, const void *b)
{
    const struct engine_proxy *x = a, *y = b;
    return strcmp(x->id, y->id);
}

static bool engine_proxies_grow(struct engine_proxies *t)
{
    uint32_t n = t->n_slots == 0 ? 64 : t->n_slots * 2;
    struct engine_proxy **grown =
        n <= ENGINE_PROXIES_MAX ? realloc(t->slots, n * sizeof(struct engine_proxy *)) : NULL;
    if (!grown)
        return false;
    for (uint32_t k = t->n_slots; k < n; k++)
        grown[k] = NULL;
    t->slots = grown;
    t->n_slots = n;
    return true;
}

static struct engine_proxy *engine_proxies_put(struct engine_proxies *t, const char *id)
{
    uint32_t slot = t->first_free;
    while (slot < t->n_slots && t->slots[slot])
        slot++;
    if (slot == t->n_slots && !engine_proxies_grow(t))
        return NULL;
    struct engine_proxy *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    memcpy(p->id, id, strlen(id) + 1);
    p->slot = slot;
    p->list_no = t->list_no;
    if (!tsearch(p, &t->by_id, engine_proxies_compare)) {
        free(p);
        return NULL;
    }
    t->slots[slot] = p;
    t->first_free = slot + 1;
    return p;
}

/* Of that name, a new one when it is unknown; NULL: there are too many, or no memory. */
static struct engine_proxy *engine_proxies_take(struct engine_proxies *t, const char *id)
{
    struct engine_proxy key;
    if (strlen(id) > TOPOLOGY_NAME_MAX)
        return NULL;
    memcpy(key.id, id, strlen(id) + 1);
    struct engine_proxy *const *found = tfind(&key, &t->by_id, engine_proxies_compare);
    struct engine_proxy *p = found ? *found : engine_proxies_put(t, id);
    if (!p && !t->full_logged) {
        t->full_logged = true;
        log_error("event=proxies.too_many limit=%d proxy=%s next=\"its acknowledgements are not counted; it "
                  "is routed as all are\"",
                  ENGINE_PROXIES_MAX, id);
    }
    return p;
}

const char *engine_proxies_missing(const struct engine_proxies *t, const struct engine_set *in,
                                   char text[ENGINE_MISSING_MAX + 1])
{
    enum { ROOM_FOR_MORE = 24 }; /* " and 4294967295 more" */
    size_t len = 0;
    uint32_t left_out = 0;
    text[0] = '\0';
    for (uint32_t k = 0; k < t->registered.n_words; k++) {
        uint64_t word = t->registered.words[k] & ~(k < in->n_words ? in->words[k] : 0);
        for (; word != 0; word &= word - 1) {
            const char *id = t->slots[k * 64 + (uint32_t)__builtin_ctzll(word)]->id;
            if (left_out > 0 || len + strlen(id) + 2 + ROOM_FOR_MORE > ENGINE_MISSING_MAX)
                left_out++;
            else
                len += (size_t)snprintf(text + len, ENGINE_MISSING_MAX + 1 - len, "%s%s", len > 0 ? ", " : "",
                                        id);
        }
    }
    if (left_out > 0)
        (void)snprintf(text + len, ENGINE_MISSING_MAX + 1 - len, " and %u more", left_out);
    return text;
}

/* ---- acks -----------------------------------------------------------------------------------------------
 */

void engine_acks_begin(struct engine_instance *i, uint64_t epoch)
{
    if (epoch <= i->acks.epoch)
        return;
    engine_set_clear(&i->acked);
    memset(&i->acks, 0, sizeof(i->acks));
    i->acks.epoch = epoch;
}

void engine_acks_count(struct engine_instance *i)
{
    const struct engine_proxies *t = &i->engine->proxies;
    i->acks.n = engine_set_common(&i->acked, &t->registered);
    i->acks.n_registered = t->n_registered;
    i->acks.missing[0] = '\0';
    if (i->acks.epoch != 0)
        (void)engine_proxies_missing(t, &i->acked, i->acks.missing);
}

void engine_on_ack(struct engine *e, const char *proxy, const char *instance, uint64_t epoch, uint32_t acks,
                   int64_t took_us)
{
    struct engine_instance *i = engine_lookup(e, instance);
    bool counts = i && epoch != 0 && epoch == i->acks.epoch; /* no older one, nor another leader's */
    const struct engine_proxy *p =
        counts || (i && i->strict.on) ? engine_proxies_take(&e->proxies, proxy) : NULL;
    if (!p)
        return;
    engine_strict_ack(i, p, epoch, acks);
    if (!counts || !engine_set_add(&i->acked, p->slot))
        return;
    if (took_us >= i->acks.slowest_us) {
        i->acks.slowest_us = took_us;
        memcpy(i->acks.slowest_id, p->id, sizeof(p->id));
    }
    log_debug("event=proxy.switched instance=%s proxy=%s epoch=%" PRIu64 " took_us=%" PRId64, instance, proxy,
              epoch, took_us);
}

struct engine_behind {
    uint32_t slot;
    int32_t known, behind;
};

static void engine_count_behind(void *ctx, struct engine_instance *i)
{
    struct engine_behind *b = ctx;
    if (i->acks.epoch == 0)
        return;
    b->known++;
    b->behind += engine_set_has(&i->acked, b->slot) ? 0 : 1;
}

int32_t engine_proxy_behind(struct engine *e, const char *proxy)
{
    struct engine_behind b = {0};
    struct engine_proxy key;
    if (e->term == 0 || strlen(proxy) > TOPOLOGY_NAME_MAX)
        return -1;
    memcpy(key.id, proxy, strlen(proxy) + 1);
    struct engine_proxy *const *found = tfind(&key, &e->proxies.by_id, engine_proxies_compare);
    if (!found)
        return -1;
    b.slot = (*found)->slot;
    engine_each_instance(e, engine_count_behind, &b);
    return b.known == 0 ? -1 : b.behind;
}

/* ---- holds ----------------------------------------------------------------------------------------------
 */

/* Tells the core who holds, if that is news. */
static void engine_hold_tell(struct engine_instance *i)
{
    struct engine_proxies *t = &i->engine->proxies;
    struct engine_hold *h = &i->hold;
    char missing[ENGINE_MISSING_MAX + 1];
    if (t->list_no == 0)
        return; /* "nobody is awaited" would be a guess: the list is on its way, or the core's limit ends it
                 */
    struct failover_event event = engine_event(i, FAILOVER_ON_HELD);
    event.epoch = h->answer_epoch;
    event.n_held = engine_set_common(&h->held, &t->registered);
    event.n_awaited = t->n_registered;
    event.text = engine_proxies_missing(t, &h->held, missing);
    if (h->told && event.n_held == h->told_held && event.n_awaited == h->told_awaited)
        return;
    h->told = true;
    h->told_held = event.n_held;
    h->told_awaited = event.n_awaited;
    engine_step(i, &event);
}

static void engine_on_hold_begun(void *ctx)
{
    struct engine_order *o = ctx;
    struct engine_instance *i = o->instance;
    engine_order_free(o);
    if (i && i->hold.active)
        engine_hold_tell(i);
}

void engine_hold_begin(struct engine_instance *i, const struct failover_action *a)
{
    struct engine *e = i->engine;
    const struct failover *f = &i->failover;
    struct engine_hold *h = &i->hold;
    if (!h->active) {
        h->active = true;
        list_push_back(&e->holding, &h->node);
        engine_set_clear(&h->held);
    } else if (h->epoch != f->record.epoch) {
        engine_set_clear(&h->held);
    }
    h->epoch = f->record.epoch;
    h->answer_epoch = a->epoch;
    h->told = false;
    announcer_hold(e->config.announcer, &f->record, f->revision, a->limit_ms);
    engine_later(e, engine_on_hold_begun, engine_order_new(i, ENGINE_BY_LOOP, FAILOVER_ON_HELD, a));
}

void engine_hold_end(struct engine_instance *i)
{
    struct engine_hold *h = &i->hold;
    if (!h->active)
        return;
    h->active = false;
    list_remove(&h->node);
    engine_set_clear(&h->held);
}

void engine_on_held(struct engine *e, const char *proxy, const char *instance, uint64_t epoch)
{
    struct engine_instance *i = engine_lookup(e, instance);
    if (!i || !i->hold.active || epoch != i->hold.epoch)
        return; /* late: that switchover is over */
    const struct engine_proxy *p = engine_proxies_take(&e->proxies, proxy);
    if (p && engine_set_add(&i->hold.held, p->slot))
        engine_hold_tell(i);
}

/* ---- who is there ---------------------------------------------------------------------------------------
 */

static void engine_proxies_forget_bits(void *ctx, struct engine_instance *i)
{
    const struct engine_set *gone = ctx;
    for (uint32_t k = 0; k < gone->n_words; k++) {
        if (k < i->acked.n_words)
            i->acked.words[k] &= ~gone->words[k];
        if (k < i->hold.held.n_words)
            i->hold.held.words[k] &= ~gone->words[k];
        if (k < i->strict.held.n_words)
            i->strict.held.words[k] &= ~gone->words[k];
    }
}

static void engine_proxies_enter(struct engine_proxies *t, const char *id)
{
    struct engine_proxy *p = engine_proxies_take(t, id);
    if (!p)
        return;
    p->list_no = t->list_no;
    if (p->registered || !engine_set_add(&t->registered, p->slot))
        return;
    p->registered = true;
    t->n_registered++;
}

/* Whether its slot may be given away. One that has spoken before its znode was seen is kept for one list: the
 * list may have been read before it registered. */
static bool engine_proxies_is_gone(const struct engine_proxies *t, const struct engine_proxy *p)
{
    return p->registered ? p->list_no < t->list_no : p->list_no + 1 < t->list_no;
}

static void engine_proxies_sweep(struct engine *e)
{
    struct engine_proxies *t = &e->proxies;
    struct engine_set gone = {0};
    bool any = false;
    for (uint32_t k = 0; k < t->n_slots; k++) {
        struct engine_proxy *p = t->slots[k];
        if (!p || !engine_proxies_is_gone(t, p) || !engine_set_add(&gone, k))
            continue;
        if (p->registered) {
            engine_set_remove(&t->registered, k);
            t->n_registered--;
        }
        tdelete(p, &t->by_id, engine_proxies_compare);
        t->slots[k] = NULL;
        if (k < t->first_free)
            t->first_free = k;
        free(p);
        any = true;
    }
    if (any) { /* nobody may inherit what the former owner of the slot has said */
        t->full_logged = false;
        engine_each_instance(e, engine_proxies_forget_bits, &gone);
    }
    engine_set_clear(&gone);
}

void engine_on_proxies(struct engine *e, const char *const *ids, size_t n)
{
    e->proxies.list_no++;
    for (size_t k = 0; k < n; k++)
        engine_proxies_enter(&e->proxies, ids[k]);
    engine_proxies_sweep(e);
    log_debug("event=proxies.listed n=%u", e->proxies.n_registered);
    list_for_each(node, &e->holding) engine_hold_tell(list_entry(node, struct engine_instance, hold.node));
}

void engine_proxies_close(struct engine *e)
{
    struct engine_proxies *t = &e->proxies;
    for (uint32_t k = 0; k < t->n_slots; k++) {
        if (!t->slots[k])
            continue;
        tdelete(t->slots[k], &t->by_id, engine_proxies_compare);
        free(t->slots[k]);
    }
    free(t->slots);
    engine_set_clear(&t->registered);
    *t = (struct engine_proxies){0};
}
