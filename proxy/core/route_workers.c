/* What the workers tell the route book: broken connections, a silent master, and how far they have followed.
 */
#include "proxy/core/route_book_internal.h"

#include <assert.h>

/* ---- doubts -------------------------------------------------------------------------------------------- */

static void book_hint(struct route_book *b, struct route_entry *e, enum route_row row)
{
    e->hint_us = 0;
    book_act(b, ROUTE_ACTION_HINT, row)->entry = e;
}

/* What a worker says is about the route as it is now. */
static struct route_entry *book_served(const struct route_book *b, const struct route_event *ev)
{
    struct route_entry *e = route_table_find(&b->table, ev->name);

    assert(ev->master);
    if (!e || e->route.state != ROUTE_SERVING || e->route.epoch != ev->epoch ||
        !topology_address_equal(&e->route.master, ev->master))
        return NULL;
    return e;
}

/* A hint only makes the leader look now. */
void book_on_silent(struct route_book *b, const struct route_event *ev)
{
    struct route_entry *e = book_served(b, ev);

    b->row = ROUTE_ROW_SILENT_KNOWN;
    if (!e || !list_empty(&e->doubt) || !list_empty(&e->pausing) ||
        (e->silent_us != 0 && ev->now_us - e->silent_us < ROUTE_SILENT_HINT_US))
        return;
    e->silent_us = ev->now_us;
    b->row = ROUTE_ROW_HINT_SILENT;
    book_hint(b, e, ROUTE_ROW_HINT_SILENT);
}

void book_on_broken(struct route_book *b, const struct route_event *ev)
{
    struct route_entry *e = book_served(b, ev);

    b->row = ROUTE_ROW_DOUBT_KNOWN;
    if (!e || !list_empty(&e->doubt))
        return;
    if (!list_empty(&e->pausing)) { /* what ends the pause settles the doubt too */
        b->row = ROUTE_ROW_PAUSE_BROKEN;
        return;
    }
    if (ev->now_us - e->doubted_us > ROUTE_CALM_US)
        e->tries = 0;
    e->doubted_us = ev->now_us;
    e->confirm_us = ev->now_us +
                    (b->silent ? book_back_off(ROUTE_CONFIRM_SILENT_US, ROUTE_CONFIRM_SILENT_MAX_US, e->tries)
                               : book_back_off(ROUTE_CONFIRM_US, ROUTE_CONFIRM_MAX_US, e->tries));
    list_push_back(&b->doubts, &e->doubt);
    b->row = e->tries == 0 ? ROUTE_ROW_DOUBT : ROUTE_ROW_DOUBT_AGAIN;
    if (e->tries == 0)
        book_hint(b, e, ROUTE_ROW_DOUBT);
    else
        e->hint_us = ev->now_us + book_back_off(ROUTE_HINT_US, ROUTE_HINT_MAX_US, e->tries - 1);
    e->tries++;
}

void book_settle_doubts(struct route_book *b, int64_t now_us)
{
    list_for_each(node, &b->doubts)
    {
        struct route_entry *e = list_entry(node, struct route_entry, doubt);
        if (e->hint_us != 0 && now_us >= e->hint_us)
            book_hint(b, e, ROUTE_ROW_HINT_DUE);
        if (now_us >= e->confirm_us)
            book_apply(b, e, ROUTE_ROW_SELF_CONFIRM, false);
    }
}

static void book_ack(struct route_book *b, struct route_entry *e, enum route_row row)
{
    struct route_action *a = book_act(b, ROUTE_ACTION_ACK, row);

    a->entry = e;
    a->epoch = e->acked_epoch;
    a->acks = e->acked_acks;
    a->took_us = e->took_us;
}

void book_on_switched(struct route_book *b, const struct route_event *ev)
{
    struct route_entry *e = route_table_find(&b->table, ev->name);

    b->row = ROUTE_ROW_SWITCHING;
    if (!e || ev->epoch != e->route.epoch || ev->acks != route_acks(&e->route) ||
        (e->acked_epoch == ev->epoch && e->acked_acks == ev->acks))
        return;
    if (e->switched_epoch != ev->epoch || e->switched_acks != ev->acks) {
        e->switched_epoch = ev->epoch;
        e->switched_acks = ev->acks;
        e->n_switched = 0;
        e->took_us = 0;
    }
    if (ev->took_us > e->took_us)
        e->took_us = ev->took_us;
    if (++e->n_switched < b->n_workers)
        return;
    b->row = ROUTE_ROW_SWITCHED;
    e->acked_epoch = ev->epoch;
    e->acked_acks = ev->acks;
    e->switched_epoch = 0; /* back and forth within an epoch is counted anew */
    book_ack(b, e, ROUTE_ROW_SWITCHED);
}

/* An acknowledgement may get lost, and a new leader has heard none: it asks until it knows. */
void book_on_told_again(struct route_book *b, struct route_entry *e)
{
    uint32_t acks = route_acks(&e->route);

    if (acks != 0 && e->route.state == ROUTE_SERVING && e->acked_epoch == e->route.epoch &&
        e->acked_acks == acks)
        book_ack(b, e, ROUTE_ROW_ASKED_AGAIN);
}

void book_on_held(struct route_book *b, const struct route_event *ev)
{
    struct route_entry *e = route_table_find(&b->table, ev->name);

    b->row = ROUTE_ROW_PAUSING;
    if (!e || list_empty(&e->pausing) || e->pause != ev->number || ++e->n_held != b->n_workers)
        return;
    b->row = ROUTE_ROW_PAUSED;
    struct route_action *a = book_act(b, ROUTE_ACTION_HELD, ROUTE_ROW_PAUSED);
    a->entry = e;
    a->epoch = e->route.epoch;
}
