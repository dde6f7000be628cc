/* Durability strict: which replies wait for the replicas' acknowledgement, until when, and what becomes of
 * them when it doesn't come. One an instance and thread. Pure.
 *
 *   request ─► durable_mark() ──────────────────────────────────────────────► master
 *   client ◄── pass ◄─ durable_…_needs() = 0, nothing of it is held ◄─ reply ◄── master
 *                       otherwise durable_hold() ─► ring ─┐
 *   client ◄── durable_step() ◄── the ring's beginning ◄──┘
 *                       ▲
 *   durable_send() ─► marker, WAIT k ─► ack connection ─► durable_acked(): n replicas have all that had been
 *                                                         answered when the marker was sent
 *
 * What is held belongs to the *batch* whose marker comes next: all replies that came before that is sent. Up
 * to DURABLE_CONNS batches are under way at a time; when enough replicas have a later one they have the
 * earlier ones, too. A batch is begun at once when none is under way, else when a fair share of all that is
 * held waits for it: so batches grow with the load, and a lone client doesn't wait for others.
 *
 * Of a client that is alone, marker and WAIT follow its requests on the connection that they take: that saves
 * a way to the master and back, and nobody else waits behind the WAIT. Such a batch is *inline*: it covers
 * the replies that come before its own, which are held for it, not for `next`.
 *
 * Reads are held when they may have seen a write that isn't acknowledged: each write leaves the number of its
 * batch at its key's slot (a hash; of several keys, or when the keys aren't known, at all slots), and its
 * mark while it is under way. A write that too few replicas acknowledged stays unacknowledged: reads of it
 * are held, and fail, until a later batch is. A client's replies keep their order: what comes behind a held
 * one waits behind it.
 *
 * Not covered are reads of writes that went another way: over other proxies, other threads of this one, or
 * straight to the master; nor what clients write who asked for no reply (CLIENT REPLY OFF). */
#ifndef MR_PROXY_CORE_DURABLE_H
#define MR_PROXY_CORE_DURABLE_H

#include "common/core/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* What is sent before a WAIT: that counts from what its own connection has propagated last. */
#define DURABLE_MARKER "*3\r\n$7\r\nPUBLISH\r\n$14\r\n__mr-redis_ack\r\n$0\r\n\r\n"

enum {
    DURABLE_CONNS = 4,              /* ack connections */
    DURABLE_INLINE = DURABLE_CONNS, /* the batch whose marker follows its requests on their own connection */
    DURABLE_SLOTS = 8192,           /* a power of two */
    DURABLE_ANY = DURABLE_SLOTS,    /* instead of a slot: all keys, or nobody knows which */
};

/* What a request does to data. */
enum durable_touch {
    DURABLE_NOTHING,
    DURABLE_READS,
    DURABLE_WRITES,
};

/* What of a client is held; its owner's, zeroed. */
struct durable_user {
    uint32_t held;       /* replies */
    uint32_t held_bytes; /* theirs */
};

/* What comes back with the reply as it was given. */
struct durable_note {
    uint32_t arrived_us; /* when the request came */
    uint32_t held_us;    /* when the reply was held */
    uint16_t flags, slot;
    uint8_t kind, answer;
    uint8_t touch; /* enum durable_touch */
    bool own;      /* the request is still in its client's session */
    bool push;     /* likewise: there is no request */
    bool gate;     /* likewise: the reply is still there, too (session_durable.c) */
    bool repeated;
};

struct durable_entry;

struct durable_batch {
    uint64_t number; /* 0: the connection is free */
    uint32_t acks;   /* that were asked for */
};

/* All zeroes: asynchronous, nothing is held. */
struct durable {
    bool on;          /* the instance is strict */
    bool ready;       /* the ack connections are there; nothing that touches data may be sent before */
    bool due;         /* something waits for the batch `next` */
    uint32_t acks;    /* replicas that must have it */
    uint64_t next;    /* number of the batch whose marker comes next */
    uint64_t acked;   /* enough replicas have that batch, and all before */
    uint64_t settled; /* so many are answered, or will never be */
    struct durable_batch batches[DURABLE_CONNS + 1];
    uint32_t got, wanted; /* of the last short answer */
    /* Writes: the batch of the newest one, and how many are under way. */
    uint64_t *last;    /* of each slot; NULL: none was needed yet */
    uint32_t *marks;   /* likewise */
    uint64_t last_any; /* of those without a slot */
    uint64_t last_all; /* of all */
    uint32_t marks_any, marks_all;
    /* Replies. */
    struct durable_entry *ring;
    uint32_t size; /* a power of two */
    uint64_t head, tail;
    uint64_t gone;      /* those before it are lost with their master */
    uint32_t uncovered; /* those whose batch is `next` */
    struct buf replies, requests;
    size_t used_reply, used_request; /* of the front: given out by durable_step() */
};

void durable_free(struct durable *d);
static inline uint64_t durable_count(const struct durable *d)
{
    return d->tail - d->head;
}
size_t durable_memory_bytes(const struct durable *d);

/* The instance's policy. What is held stays held until its acknowledgement either way. */
void durable_set(struct durable *d, bool strict, uint32_t acks);
/* A request that touches data must wait: who could acknowledge it isn't connected yet. */
static inline bool durable_blocks(const struct durable *d)
{
    return d->on && !d->ready;
}

/* ---- requests -------------------------------------------------------------------------------------------
 */

/* The slot of a key. */
uint16_t durable_slot(const char *key, size_t len);
/* A write to that slot (or DURABLE_ANY) is given to the master; what becomes of it isn't known until
 * durable_unmark(), done: it was executed, or nobody knows. */
void durable_mark(struct durable *d, uint16_t slot);
void durable_unmark(struct durable *d, uint16_t slot, bool done);
/* The same, executed: its reply came on a connection with that inline batch under way (0: none). */
void durable_unmark_inline(struct durable *d, uint16_t slot, uint64_t batch);

/* ---- replies --------------------------------------------------------------------------------------------
 */

/* Which batch must be acknowledged before the reply to a write, or to a read of that slot, that has come now
 * may be passed on; 0: none. */
uint64_t durable_write_needs(const struct durable *d);
/* The same of a reply that came on a connection with that inline batch under way (0: none). */
uint64_t durable_write_needs_inline(const struct durable *d, uint64_t batch);
uint64_t durable_read_needs(const struct durable *d, uint16_t slot);
/* Keeps a reply (copied), and its request if it is to be asked again when the master is lost (len 0: it
 * isn't). needs 0: it only stands behind others of its client. ERR_NOMEM. Not while steps are being taken. */
int durable_hold(struct durable *d, struct durable_user *u, uint64_t needs, const struct durable_note *note,
                 struct buf_span request, struct buf_span reply) MR_MUST_CHECK;
/* The client is gone. */
void durable_leave(struct durable *d, struct durable_user *u);

/* ---- acknowledgements -----------------------------------------------------------------------------------
 */

/* The ack connections are there, to the master that the requests go to from now on. */
void durable_opened(struct durable *d);
/* Others will be opened instead of them: until then nothing more that touches data is sent. */
void durable_block(struct durable *d);
/* A marker and WAIT *acks are to be sent over that ack connection now; -1: nothing is. */
int durable_send(struct durable *d, uint32_t *acks);
/* Its answer came: that many replicas have it. */
void durable_acked(struct durable *d, int conn, uint32_t n);
/* Requests wait to be written to a connection, of one of so many clients. May marker and WAIT *acks follow
 * them there? The number of the inline batch, or 0: they must not. */
uint64_t durable_begin_inline(struct durable *d, uint64_t clients, uint32_t *acks);
/* What was asked for inline is answered; or it never will be, and what it covered is asked for again. */
void durable_acked_inline(struct durable *d, uint64_t batch, uint32_t n);
void durable_lost_inline(struct durable *d, uint64_t batch);
/* The ack connections are gone, perhaps the master with them: all that is held is GONE (durable_step()). */
void durable_lost(struct durable *d);
/* What is held is RELEASED: whoever is master next has all of it. */
void durable_vouch(struct durable *d);
/* The master is another one now, and nothing is held: what was chosen as its data is nobody's risk any more.
 */
void durable_renew(struct durable *d);

enum durable_fate {
    DURABLE_WAITS,    /* nothing is to be done now */
    DURABLE_RELEASED, /* the reply is to be passed on */
    DURABLE_SHORT,    /* the reply is to be replaced: d->got of d->wanted replicas have it */
    DURABLE_GONE,     /* the reply must not be passed on: its master is lost */
};

struct durable_step {
    enum durable_fate fate;
    struct durable_user *user; /* NULL: gone */
    struct durable_note note;
    struct buf_span request,
        reply; /* valid until durable_end_steps(): what came side by side is side by side */
};

/* What becomes of the oldest reply that is held, in the order in which they were; called until it is WAITS.
 */
void durable_step(struct durable *d, struct durable_step *out);
/* The bytes that the steps gave are not needed any more. */
void durable_end_steps(struct durable *d);

#endif
