/* One client's requests from arrival to answer: their bytes, their states, which reply is whose. Pure.
 *
 *           judged          unsent                        numbers only grow; head ≤ reply ≤ unsent ≤ judged
 *   head      │    reply      │                                                              ≤ tail
 *   ┌─────────▼──────▼────────▼───────────────────┐
 *   │ SENT SENT LOCAL SENT │ READY READY │ HELD … │◄── pipeline_push()
 *   └──▲──────────────────────────────────────────┘
 *      └ answered from here, in order. (A SENT request that the server refused to run is HELD again, so a
 * HELD one may also stand before `unsent`, until pipeline_rewind().)
 *
 * The bytes of a request stay in `log` until it is answered, so that it can be sent again. A LARGE request's
 * bytes are dropped as they are written, and so are those of older ones when more than PIPELINE_COPY_MAX are
 * kept: constant memory, at the price that they can't be repeated. */
#ifndef MR_PROXY_CORE_PIPELINE_H
#define MR_PROXY_CORE_PIPELINE_H

#include "common/core/buf.h"

#include <stdbool.h>

enum {
    PIPELINE_LARGE = 16 * 1024,       /* a request over this many bytes is streamed */
    PIPELINE_COPY_MAX = 1024 * 1024,  /* bytes kept of requests that were sent */
    PIPELINE_DEPTH_MAX = 1024 * 1024, /* requests of one client that wait for their replies */
    PIPELINE_SPANS_MAX = 16,
    PIPELINE_WRITE_MAX = 64 * 1024, /* bytes looked for to be written at once */
};

enum pipeline_state {
    PIPELINE_HELD,     /* unsent, not yet looked at */
    PIPELINE_READY,    /* unsent, may be written */
    PIPELINE_SENT,     /* its last byte was written; replies are due (unless SILENT) */
    PIPELINE_LOCAL,    /* the proxy itself answers, when its turn comes */
    PIPELINE_ANSWERED, /* its reply came, and is held (durable.h) */
};

enum pipeline_flag {
    PIPELINE_COMPLETE = 1,  /* all of its bytes arrived from the client */
    PIPELINE_STREAMED = 2,  /* over PIPELINE_LARGE */
    PIPELINE_REPEAT = 4,    /* may be sent again although it may have been executed */
    PIPELINE_BLOCKING = 8,  /* may wait in Redis for an event */
    PIPELINE_SILENT = 16,   /* Redis sends no reply (CLIENT REPLY OFF, SKIP) */
    PIPELINE_DISCARD = 32,  /* bytes still to come from the client are dropped */
    PIPELINE_SKIPPED = 64,  /* SILENT because of the CLIENT REPLY SKIP before it */
    PIPELINE_LOST = 128,    /* MULTI: its transaction can't be sent again as a whole */
    PIPELINE_SHARE = 256,   /* may go over a connection that several clients share */
    PIPELINE_REPLICA = 512, /* a replica may answer it */
    PIPELINE_BARE = 1024, /* WAIT: goes without its marker, which the server refused as it will refuse this */
    PIPELINE_LIGHT = 2048,   /* REPEAT, and no server is lost by it: it asks for no data (PING) */
    PIPELINE_COUNTED = 4096, /* among the requests that waited for a master */
};

struct pipeline_entry {
    uint64_t start;    /* offset of its first byte in the log */
    uint64_t len;      /* bytes so far */
    uint32_t since_ms; /* when it arrived or, if it was (nearly) sent once, became unsent again for the first
                          time: a master that refuses it again and again must not keep it waiting for ever */
    uint32_t arrived_us; /* session_arrival_us() */
    uint32_t replies;    /* that Redis will send */
    uint32_t answered;   /* of them, came */
    uint32_t swallow;    /* the first that many replies are repetitions: not for the client */
    bool again;          /* became unsent again */
    bool repeated;       /* because its connection was lost while it may have been executed */
    uint8_t kind;        /* enum request_kind */
    uint8_t state;       /* enum pipeline_state */
    uint8_t answer;      /* LOCAL: enum hold_answer; ANSWERED: the same, if the reply is lost */
    uint8_t tx;          /* LOCAL, ANSWERED: enum hold_tx that is open behind it */
    uint8_t touch;       /* enum durable_touch, as far as the instance was strict when it came */
    uint16_t slot;       /* touch.h */
    uint16_t flags;
};

/* All zeroes is an empty pipeline. */
struct pipeline {
    struct pipeline_entry *ring; /* NULL while empty */
    uint32_t size;               /* a power of two */
    uint32_t in_flight;          /* entries that are SENT */
    uint64_t head, reply, unsent, judged, tail;
    uint64_t cursor; /* next byte to write of entry `unsent`; its start when none was written */
    struct buf log;
};

void pipeline_free(struct pipeline *p);
static inline uint64_t pipeline_count(const struct pipeline *p)
{
    return p->tail - p->head;
}
/* Nothing that was let through is under way, or still to be written. */
static inline bool pipeline_is_quiet(const struct pipeline *p)
{
    return p->in_flight == 0 && p->unsent == p->judged;
}
/* The entry with that number, head ≤ seq < tail; valid until the next push. */
struct pipeline_entry *pipeline_at(const struct pipeline *p, uint64_t seq);

/* Appends an entry (HELD, starting at the log's end); NULL when out of memory. */
struct pipeline_entry *pipeline_push(struct pipeline *p, uint32_t now_ms);
/* Adds bytes to the newest entry. ERR_NOMEM. */
int pipeline_feed(struct pipeline *p, const char *data, size_t len) MR_MUST_CHECK;

/* n more bytes of the newest entry, all of whose bytes were written and none is kept, went another way. */
void pipeline_pass(struct pipeline *p, uint64_t n);

/* Appends a complete request that something else had taken: *like says its kind, flags and state, which may
 * be SENT, LOCAL, or HELD: to be sent again after pipeline_rewind(). Only ever into a pipeline that was
 * filled by nothing else. ERR_NOMEM. */
int pipeline_put(struct pipeline *p, const struct pipeline_entry *like, const char *data,
                 size_t len) MR_MUST_CHECK;
/* Moves all entries of `from`, none of which was released, behind those of p. ERR_NOMEM: some are lost. */
int pipeline_join(struct pipeline *p, struct pipeline *from) MR_MUST_CHECK;
/* Removes the newest entry, of which nothing was sent. */
void pipeline_drop_newest(struct pipeline *p);

/* Entry `judged` may be written; or is answered by the proxy. */
void pipeline_release(struct pipeline *p);
void pipeline_settle(struct pipeline *p, uint8_t answer);
/* The oldest HELD entry that isn't judged, or NULL. */
struct pipeline_entry *pipeline_next_judged(struct pipeline *p);

/* What may be written now, oldest first: at most `max` spans, and not many more than PIPELINE_WRITE_MAX
 * bytes; returns how many spans. */
int pipeline_spans(struct pipeline *p, struct buf_span *spans, int max);
/* The first n bytes of pipeline_spans() were written. */
void pipeline_wrote(struct pipeline *p, size_t n);
/* Bytes that wait to be written, those not judged included; and in how many requests. */
uint64_t pipeline_unsent_bytes(const struct pipeline *p);
static inline uint64_t pipeline_unsent_count(const struct pipeline *p)
{
    return p->tail - p->unsent;
}

/* The entry the next reply belongs to, or NULL when none is due. */
struct pipeline_entry *pipeline_next_reply(struct pipeline *p);
/* A SENT entry changes: it is HELD again (to be sent again after pipeline_rewind()), or LOCAL. */
void pipeline_hold_again(struct pipeline *p, struct pipeline_entry *e, uint32_t now_ms);
void pipeline_answer_locally(struct pipeline *p, struct pipeline_entry *e, uint8_t answer);
/* A SENT entry had its reply, which isn't passed on yet. If that is lost, the entry is answered so;
 * HOLD_SEND: it is sent again after pipeline_rewind(). */
void pipeline_answered(struct pipeline *p, struct pipeline_entry *e, uint8_t answer);
/* It is HELD from then on, among the unsent after pipeline_rewind(). */
void pipeline_wait_again(struct pipeline_entry *e, uint32_t now_ms);
/* Other bytes for entry seq, which is HELD and complete, whose bytes are kept, and which is sent again after
 * pipeline_rewind(). ERR_NOMEM: its bytes, and those behind, are lost. */
int pipeline_replace(struct pipeline *p, uint64_t seq, const char *data, size_t len) MR_MUST_CHECK;
/* Nothing is SENT: sending starts again at the oldest HELD or READY entry. A partly written small one starts
 * over; the caller has settled a partly written STREAMED one before. */
void pipeline_rewind(struct pipeline *p, uint32_t now_ms);
/* Removes the head, which has had all its replies. */
void pipeline_pop(struct pipeline *p);

/* The bytes of a complete entry (e->len of them), or NULL when they are not kept any more. */
const char *pipeline_bytes(const struct pipeline *p, const struct pipeline_entry *e);
/* Some bytes of entry `unsent` were written, not all. */
bool pipeline_is_partly_written(const struct pipeline *p);

#endif
