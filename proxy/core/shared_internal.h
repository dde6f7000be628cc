/* What the files of shared connections (shared*.c) share; nobody else includes this. */
#ifndef MR_PROXY_CORE_SHARED_INTERNAL_H
#define MR_PROXY_CORE_SHARED_INTERNAL_H

#include "proxy/core/shared.h"

#include <assert.h>

struct shared_entry {
    struct shared_user *user; /* NULL: its reply is swallowed */
    uint32_t len;
    uint32_t since_ms; /* as pipeline.h has it, if `again` */
    uint32_t arrived_us;
    uint16_t flags; /* of enum pipeline_flag */
    uint16_t slot;  /* touch.h */
    uint8_t kind;   /* enum request_kind */
    uint8_t touch;  /* enum durable_touch; WRITES: it is marked */
    bool again : 1, repeated : 1;
    bool prologue : 1; /* an error as its reply breaks the connection */
    bool marker : 1;   /* of an inline batch */
    bool wait : 1;     /* … and its WAIT */
};

static inline struct shared_entry *shared_at(const struct shared *sh, uint64_t seq)
{
    assert(seq >= sh->head && seq < sh->tail);
    return &sh->ring[seq & (sh->size - 1)];
}

/* ---- shared.c ---- */
/* Another entry, whose bytes are in the log; false: out of memory. */
bool shared_push(struct shared *sh, const struct shared_entry *e);

/* ---- shared_durable.c ---- */
/* What it touches is looked up: of a request that is taken now. */
void shared_note_touch(const struct shared_user *u, const struct resp_request *framer, const char *bytes,
                       struct shared_entry *e);
/* Bytes of the reply under way to the head. */
void shared_note_bytes(struct shared *sh, const char *data, size_t len);
/* The head is answered: perhaps a marker, or its WAIT. */
void shared_note_answer(struct shared *sh, struct shared_step *step);
/* e will have no reply any more that is looked at. */
void shared_unmark(const struct shared *sh, struct shared_entry *e);
/* The reply to the head, of which the first bytes have come, would have to be held. */
bool shared_must_hold(const struct shared *sh);
/* The reply to the head is complete. True: it is held, the client gets nothing now. failed: it is an error.
 */
bool shared_hold(struct shared *sh, bool failed, const char *reply, size_t len);

#endif
