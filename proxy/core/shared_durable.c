/* Durability strict, on connections that clients share: which replies are held (durable.h), and their
 * requests with them, in case that they have to be asked again. */
#include "proxy/core/hold.h"
#include "proxy/core/pipeline.h"
#include "proxy/core/request.h"
#include "proxy/core/session.h"
#include "proxy/core/shared_internal.h"
#include "proxy/core/touch.h"

void shared_note_touch(const struct shared_user *u, const struct resp_request *framer, const char *bytes,
                       struct shared_entry *e)
{
    const struct durable *d = u->session->env->durable;

    e->touch = DURABLE_NOTHING;
    if (d && d->on && e->len > 0)
        e->touch = (uint8_t)touch_of(framer, bytes, e->len, &e->slot);
}

void shared_unmark(const struct shared *sh, struct shared_entry *e)
{
    if (e->touch == DURABLE_WRITES)
        durable_unmark_inline(sh->durable, e->slot, sh->batch);
    e->touch = DURABLE_NOTHING;
}

static uint64_t shared_needs(const struct shared *sh, const struct shared_entry *e)
{
    switch ((enum durable_touch)e->touch) {
    case DURABLE_NOTHING:
        return 0;
    case DURABLE_WRITES:
        return durable_write_needs_inline(sh->durable, sh->batch);
    case DURABLE_READS:
        break;
    }
    return touch_read_needs(sh->durable, e->slot, buf_at(&sh->log, sh->at), e->len);
}

bool shared_must_hold(const struct shared *sh)
{
    const struct shared_entry *e = shared_at(sh, sh->head);

    if (!sh->durable || !e->user)
        return false;
    return e->user->session->held.held > 0 || shared_needs(sh, e) > 0;
}

bool shared_hold(struct shared *sh, bool failed, const char *reply, size_t len)
{
    struct shared_entry *e = shared_at(sh, sh->head);
    struct durable *d = sh->durable;
    const uint8_t touch = e->touch;

    if (!d || !e->user)
        return false;
    e->touch = touch_answered(touch, e->slot, failed);
    if (e->touch != touch)
        durable_unmark(d, e->slot, false);
    uint64_t needs = shared_needs(sh, e);
    struct session *s = e->user->session;
    if (needs == 0 && s->held.held == 0)
        return false;
    bool again = e->flags & PIPELINE_REPEAT;
    struct durable_note note = {.arrived_us = e->arrived_us,
                                .held_us = s->env->clock ? s->env->clock->written_us : 0,
                                .flags = e->flags,
                                .kind = e->kind,
                                .touch = e->touch,
                                .slot = e->slot,
                                .repeated = e->repeated,
                                .answer = again                        ? HOLD_SEND
                                          : e->touch == DURABLE_WRITES ? HOLD_UNACKED
                                                                       : HOLD_UNKNOWN};
    struct buf_span request = {again ? buf_at(&sh->log, sh->at) : NULL, again ? e->len : 0};
    if (durable_hold(d, &s->held, needs, &note, request, (struct buf_span){reply, len}))
        session_fail(s, "out of memory");
    return true;
}

/* ---- inline ---------------------------------------------------------------------------------------------
 */

int shared_ask(struct shared *sh, uint64_t batch, const char *text, size_t len)
{
    /* Their replies are looked at one by one, so they aren't plain. Only the sum of the lengths matters. */
    struct shared_entry marker = {.len = (uint32_t)len, .kind = REQUEST_WAIT, .marker = true};
    struct shared_entry wait = {.kind = REQUEST_WAIT, .wait = true};

    assert(sh->batch == 0 && batch > 0);
    if (buf_append(&sh->log, text, len))
        return ERR_NOMEM;
    bool first = shared_push(sh, &marker);
    if (!first || !shared_push(sh, &wait)) {
        sh->tail -= first;
        sh->n_unsent -= first;
        buf_cut(&sh->log, buf_end(&sh->log) - len);
        return ERR_NOMEM;
    }
    sh->batch = batch;
    sh->acks = 0;
    sh->marker_failed = false;
    return 0;
}

void shared_note_bytes(struct shared *sh, const char *data, size_t len)
{
    if (sh->batch == 0 || shared_count(sh) == 0 || !shared_at(sh, sh->head)->wait || sh->reply.type != ':')
        return;
    for (size_t k = 0; k < len; k++)
        if (data[k] >= '0' && data[k] <= '9' && sh->acks < UINT32_MAX / 16)
            sh->acks = sh->acks * 10 + (uint32_t)(data[k] - '0');
}

void shared_note_answer(struct shared *sh, struct shared_step *step)
{
    const struct shared_entry *e = shared_at(sh, sh->head);

    if (sh->reply.type != ':')
        sh->marker_failed |= e->marker || e->wait; /* nothing is known */
    if (!e->wait)
        return;
    step->batch = sh->batch;
    step->acks = sh->acks;
    step->no_acks = sh->marker_failed;
    sh->batch = 0;
}
