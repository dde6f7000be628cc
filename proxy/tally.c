#include "proxy/tally.h"

#include "common/loop.h"
#include "proxy/client.h"
#include "proxy/instance.h"
#include "proxy/limits.h"

void tally_memory(struct instance *i, struct tally *t, size_t memory_bytes)
{
    if (t->memory_bytes == memory_bytes)
        return;
    session_count(&i->counts.memory_bytes, (uint64_t)memory_bytes - t->memory_bytes);
    t->memory_bytes = memory_bytes;
}

static void tally_held(struct instance *i, struct tally *t, size_t held_bytes)
{
    uint64_t more = (uint64_t)held_bytes - t->held_bytes; /* may be "negative": it only wraps */

    if (more == 0)
        return;
    session_count(&i->counts.held_bytes, more);
    if (i->share)
        atomic_fetch_add_explicit(limits_held_bytes(i->share), more, memory_order_relaxed);
    t->held_bytes = held_bytes;
}

static void tally_unread(const struct instance *i, struct tally *t, size_t unread_bytes)
{
    uint64_t more = (uint64_t)unread_bytes - t->unread_bytes;

    if (more == 0)
        return;
    atomic_fetch_add_explicit(limits_unread_bytes(i->shard->limits), more, memory_order_relaxed);
    t->unread_bytes = unread_bytes;
}

void tally_replies(struct instance *i, struct tally *t, size_t memory_bytes)
{
    tally_memory(i, t, memory_bytes);
    tally_unread(i, t, memory_bytes);
}

void tally_client(struct client *c)
{
    if (!c->session.work && c->tally.memory_bytes == 0)
        return;
    tally_memory(c->instance, &c->tally, session_memory_bytes(&c->session));
    tally_held(c->instance, &c->tally, session_held_bytes(&c->session));
    tally_unread(c->instance, &c->tally, session_unread_bytes(&c->session));
}

void tally_forget_client(struct client *c)
{
    tally_memory(c->instance, &c->tally, 0);
    tally_held(c->instance, &c->tally, 0);
    tally_unread(c->instance, &c->tally, 0);
}

void tally_arrival(struct shard *shard)
{
    shard->clock.arrived_us = (uint32_t)loop_now_us(shard->loop);
}

void tally_reply(struct shard *shard, ssize_t n)
{
    int64_t turn_us = loop_now_us(shard->loop);

    shard->reply_bytes += n > 0 ? (size_t)n : 0;
    if (shard->stamped_us == turn_us)
        return;
    shard->stamped_us = turn_us;
    shard->clock.written_us = (uint32_t)loop_clock_us();
}
