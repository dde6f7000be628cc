/*   MESSAGE ─► stream rules (term, seq) ─► book_use ─┐
 *   RECORD, CACHED ──────────────────────────────────┴─► route rules (revision, epoch) ─► APPLY, DROP
 *   BROKEN ─► doubt ─► HINT … leader's confirmation or our own after a back-off ─► APPLY
 *   HOLD with a limit ─► PAUSE … HELD by every worker ─► HELD; the next route, or the limit ─► APPLY
 *   everything that may have been missed ─► want_read ─► READ (spaced, once ZooKeeper is there) */
#include "proxy/core/route_book_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROW_TEXT(number, name, text)                                                                         \
    case ROUTE_ROW_##name:                                                                                   \
        return text;

const char *route_row_text(enum route_row row)
{
    switch (row) {
        ROUTE_ROW_LIST(ROW_TEXT)
    }
    return "?";
}

const char *route_action_name(enum route_action_type t)
{
    static const char *const names[] = {"apply",  "pause", "drop", "read", "reconnect",
                                        "follow", "hint",  "ack",  "held"};
    assert((size_t)t < sizeof(names) / sizeof(names[0]));
    return names[t];
}

void route_book_init(struct route_book *b, uint32_t n_workers, int64_t now_us)
{
    assert(b && n_workers > 0 && now_us > 0);
    memset(b, 0, sizeof(*b));
    route_table_init(&b->table);
    list_init(&b->doubts);
    list_init(&b->pauses);
    b->n_workers = n_workers;
    b->heard_us = now_us;
    b->reconnect_step_us = ROUTE_SILENCE_US;
    b->want_read = true;
    b->read_row = ROUTE_ROW_READ_DUE;
    b->read_at_us = now_us;
}

void route_book_free(struct route_book *b)
{
    route_table_free(&b->table);
    free(b->actions);
    memset(b, 0, sizeof(*b));
}

/* ---- actions ------------------------------------------------------------------------------------------- */

struct route_action *book_act(struct route_book *b, enum route_action_type type, enum route_row row)
{
    static struct route_action lost; /* never read: the step says ERR_NOMEM */

    if (b->n_actions == b->room) {
        size_t room = b->room ? 2 * b->room : 16;
        struct route_action *grown = reallocarray(b->actions, room, sizeof(*grown));
        if (!grown) {
            b->out_of_memory = true;
            return &lost;
        }
        b->actions = grown;
        b->room = room;
    }
    struct route_action *a = &b->actions[b->n_actions++];
    memset(a, 0, sizeof(*a));
    a->type = type;
    a->row = row;
    return a;
}

void book_apply(struct route_book *b, struct route_entry *e, enum route_row row, bool changed)
{
    struct route_action *a = book_act(b, ROUTE_ACTION_APPLY, row);

    a->entry = e;
    a->changed = changed;
    list_remove(&e->doubt);
    list_remove(&e->pausing);
    if (changed)
        e->tries = 0;
}

static void book_drop(struct route_book *b, struct route_entry *e, enum route_row row)
{
    struct route_action *a = book_act(b, ROUTE_ACTION_DROP, row);

    memcpy(a->name, e->route.name, sizeof(a->name));
    a->changed = true;
    route_table_remove(&b->table, e);
}

static void book_want_read(struct route_book *b, enum route_row row)
{
    if (!b->want_read)
        b->read_row = row;
    b->want_read = true;
}

/* Begins a re-read when one is wanted, possible and due. */
static void book_read_if_due(struct route_book *b, int64_t now_us)
{
    if (!b->want_read || b->reading || !b->store_up || now_us < b->read_at_us)
        return;
    b->want_read = false;
    b->reading = true;
    b->read++;
    b->read_at_us = now_us + ROUTE_READ_SPACING_US;
    book_act(b, ROUTE_ACTION_READ, b->read_row)->watch = b->silent;
}

/* ---- the rules about one instance ---------------------------------------------------------------------- */

static void book_add(struct route_book *b, const struct route *r, enum route_row row)
{
    struct route_entry *e = route_table_add(&b->table, r->name);

    if (!e) {
        b->out_of_memory = true;
        book_want_read(b, row);
        return;
    }
    e->route = *r;
    e->read = row == ROUTE_ROW_CACHED ? 0 : b->read;
    book_apply(b, e, row, true);
}

static bool book_same_readers(const struct route *a, const struct route *b)
{
    if (a->reads != b->reads || a->n_readers != b->n_readers)
        return false;
    for (uint32_t i = 0; i < a->n_readers; i++)
        if (!topology_address_equal(&a->readers[i].address, &b->readers[i].address) ||
            strcmp(a->readers[i].zone, b->readers[i].zone) != 0)
            return false;
    return true;
}

/* Everything that routing depends on, the revision excepted. */
static bool book_same_route(const struct route *a, const struct route *b)
{
    if (a->port != b->port || a->state != b->state || a->epoch != b->epoch ||
        !topology_address_equal(&a->master, &b->master) || a->n_replicas != b->n_replicas ||
        a->durability != b->durability || a->acks != b->acks || a->hold_ms != b->hold_ms ||
        strcmp(a->fence_user, b->fence_user) != 0 || !book_same_readers(a, b))
        return false;
    for (uint32_t i = 0; i < a->n_replicas; i++)
        if (!topology_address_equal(&a->replicas[i], &b->replicas[i]))
            return false;
    return true;
}

/* The instance was deleted and made anew, or the whole store was: nothing is kept of the old one. */
static enum route_row book_replace(struct route_book *b, struct route_entry *e, const struct route *r,
                                   enum route_row row)
{
    book_drop(b, e, row);
    book_add(b, r, row);
    return row;
}

enum source { FROM_MESSAGE, FROM_WATCH, FROM_READ };

/* `r` is what the source says about its instance now. */
static enum route_row book_use(struct route_book *b, const struct route *r, enum source source)
{
    struct route_entry *e = route_table_find(&b->table, r->name);

    if (!e) {
        book_add(b, r, ROUTE_ROW_ADDED);
        return ROUTE_ROW_ADDED;
    }
    const struct route *known = &e->route;
    if (r->revision < known->revision) {
        /* A re-read begins with a sync, so it returns nothing older than what was known when it began. */
        if (source != FROM_READ || !b->reading || e->read >= b->read)
            return ROUTE_ROW_OLDER;
        b->term = b->seq = 0; /* a new store's zxids begin anew, and so do the terms */
        return book_replace(b, e, r, ROUTE_ROW_REPLACED);
    }
    e->read = b->read;
    if (r->epoch < known->epoch)
        return r->revision > known->revision ? book_replace(b, e, r, ROUTE_ROW_ANEW) : ROUTE_ROW_OLDER;
    bool same = book_same_route(known, r);
    if (same && source != FROM_MESSAGE && r->revision == known->revision)
        return ROUTE_ROW_CONFIRMED; /* read again, not asserted again: a doubt stays */
    enum route_row row = same                     ? ROUTE_ROW_CONFIRMED
                         : r->state == ROUTE_HELD ? ROUTE_ROW_HELD
                                                  : ROUTE_ROW_CHANGED;
    e->route = *r;
    book_apply(b, e, row, !same);
    if (same && source == FROM_MESSAGE)
        book_on_told_again(b, e);
    return row;
}

static enum route_row book_drop_message(struct route_book *b, const struct message *m)
{
    struct route_entry *e = route_table_find(&b->table, m->instance);

    /* A re-read under way may have read it before it was deleted. */
    if (b->reading || (e && m->revision < e->route.revision))
        book_want_read(b, ROUTE_ROW_DROPPED);
    if (!e)
        return ROUTE_ROW_DROPPED;
    if (m->revision < e->route.revision)
        return ROUTE_ROW_DROP_OLDER;
    book_drop(b, e, ROUTE_ROW_DROPPED);
    return ROUTE_ROW_DROPPED;
}

/* A planned switchover. The present route stays; whatever is heard of the instance next ends the pause. */
static enum route_row book_pause(struct route_book *b, const struct message *m, int64_t now_us)
{
    struct route_entry *e = route_table_find(&b->table, m->instance);

    if (!e || e->route.state != ROUTE_SERVING || m->epoch != e->route.epoch ||
        m->revision < e->route.revision)
        return ROUTE_ROW_PAUSE_OTHER;
    /* Reading again what the message was about is no news. */
    e->route.revision = m->revision;
    e->read = b->read;
    e->pause = ++b->n_pauses;
    e->n_held = 0;
    struct route_action *a = book_act(b, ROUTE_ACTION_PAUSE, ROUTE_ROW_PAUSE);
    a->entry = e;
    a->epoch = m->epoch;
    a->number = e->pause;
    a->limit_ms = m->limit_ms < ROUTE_PAUSE_MAX_MS ? m->limit_ms : ROUTE_PAUSE_MAX_MS;
    e->pause_until_us = now_us + (int64_t)a->limit_ms * 1000;
    list_remove(&e->pausing);
    list_push_back(&b->pauses, &e->pausing);
    list_remove(&e->doubt); /* confirming by itself would end the pause; what ends it settles the doubt */
    return ROUTE_ROW_PAUSE;
}

static void book_use_message(struct route_book *b, const struct message *m, int64_t now_us)
{
    struct route r;

    if (m->type == MESSAGE_HOLD && m->limit_ms > 0) {
        b->row = book_pause(b, m, now_us);
        return;
    }
    if (m->type == MESSAGE_DROP) {
        book_drop_message(b, m);
    } else if (m->type == MESSAGE_ROUTE || m->type == MESSAGE_HOLD) {
        const struct route_entry *e = route_table_find(&b->table, m->instance);
        route_from_message(m, e ? &e->route : NULL, &r);
        book_use(b, &r, FROM_MESSAGE);
    }
}

/* ---- the stream of messages ---------------------------------------------------------------------------- */

enum sign { LESS = 1, SAME = 2, NEXT = 4, MORE = 8, ANY = 15 };

/* First match wins. `use`: what the message says about its instance counts. */
static const struct stream_rule {
    enum route_row row;
    unsigned term, seq;
    bool beat, other; /* which kinds of message the row is about */
    bool alive, use, read;
} stream_rules[] = {
    /* row                  term  seq          beat   other  alive  use    read */
    {ROUTE_ROW_OLD_TERM, LESS, ANY, true, true, false, false, false},
    {ROUTE_ROW_NEW_TERM, MORE, ANY, true, true, true, true, true},
    {ROUTE_ROW_BEAT, SAME, SAME, true, false, true, false, false},
    {ROUTE_ROW_BEAT_AHEAD, SAME, NEXT | MORE, true, false, true, false, true},
    {ROUTE_ROW_BEAT_LATE, SAME, LESS, true, false, true, false, false},
    {ROUTE_ROW_DUPLICATE, SAME, LESS | SAME, false, true, false, false, false},
    {ROUTE_ROW_NEXT, SAME, NEXT, false, true, true, true, false},
    {ROUTE_ROW_GAP, SAME, MORE, false, true, true, true, true},
};

static unsigned sign_of(uint64_t a, uint64_t b)
{
    if (a == b)
        return SAME;
    return a < b ? LESS : MORE;
}

static unsigned sign_of_seq(uint64_t a, uint64_t b)
{
    return a == b + 1 ? NEXT : sign_of(a, b);
}

static const struct stream_rule *book_stream_rule(const struct route_book *b, const struct message *m)
{
    unsigned term = sign_of(m->term, b->term), seq = sign_of_seq(m->seq, b->seq);
    bool beat = m->type == MESSAGE_BEAT;

    for (size_t i = 0; i < sizeof(stream_rules) / sizeof(stream_rules[0]); i++) {
        const struct stream_rule *r = &stream_rules[i];
        if ((r->term & term) && (r->seq & seq) && (beat ? r->beat : r->other))
            return r;
    }
    assert(!"a message that meets no row");
    return &stream_rules[0];
}

/* A sign of life of the leader. */
static void book_heard(struct route_book *b, int64_t now_us)
{
    b->heard_us = now_us;
    b->reconnect_step_us = ROUTE_SILENCE_US;
    if (!b->silent)
        return;
    b->silent = false;
    book_want_read(b, ROUTE_ROW_VOICE);
}

static void book_on_message(struct route_book *b, const struct message *m, int64_t now_us)
{
    assert(m);
    if (m->type > MESSAGE_BEAT) /* proxies' own, and what controllers ask each other */
        return;
    const struct stream_rule *rule = book_stream_rule(b, m);
    b->row = rule->row;
    if (rule->alive)
        book_heard(b, now_us);
    if (rule->read)
        book_want_read(b, rule->row);
    if (rule->row == ROUTE_ROW_NEW_TERM) {
        b->term = m->term;
        b->leader[0] = '\0';
        b->seq = m->seq;
    }
    if (m->seq > b->seq && rule->alive)
        b->seq = m->seq;
    if (m->type == MESSAGE_BEAT && rule->alive && strcmp(b->leader, m->id) != 0) {
        memcpy(b->leader, m->id, sizeof(b->leader));
        memcpy(book_act(b, ROUTE_ACTION_FOLLOW, rule->row)->name, m->id, sizeof(b->leader));
    }
    if (rule->use)
        book_use_message(b, m, now_us);
}

/* ---- reading ZooKeeper --------------------------------------------------------------------------------- */

static void book_on_read_done(struct route_book *b)
{
    assert(b->reading);
    b->reading = false;
    b->reads_done++;
    b->row = ROUTE_ROW_READ_DONE;
    for (size_t i = b->table.n; i-- > 0;)
        if (b->table.entries[i]->read < b->read)
            book_drop(b, b->table.entries[i], ROUTE_ROW_MISSING);
}

static void book_on_read_failed(struct route_book *b, int64_t now_us)
{
    b->reading = false;
    b->row = ROUTE_ROW_READ_FAILED;
    book_want_read(b, ROUTE_ROW_READ_FAILED);
    b->read_at_us = now_us + ROUTE_READ_RETRY_US;
}

static void book_on_store(struct route_book *b, bool up, int64_t now_us)
{
    b->row = up ? ROUTE_ROW_STORE_BACK : ROUTE_ROW_STORE_LOST;
    b->store_up = up;
    if (b->reading) /* its calls end with the connection */
        book_on_read_failed(b, now_us);
    if (up) {
        book_want_read(b, ROUTE_ROW_STORE_BACK);
        b->read_at_us = now_us;
    }
}

static void book_on_cached(struct route_book *b, const struct route *r)
{
    assert(r);
    b->row = ROUTE_ROW_CACHED;
    if (!route_table_find(&b->table, r->name))
        book_add(b, r, ROUTE_ROW_CACHED);
}

static void book_on_bad_record(struct route_book *b, const char *name)
{
    struct route_entry *e = route_table_find(&b->table, name);

    b->row = ROUTE_ROW_SET_ASIDE;
    if (e)
        e->read = b->read;
}

/* ---- time ---------------------------------------------------------------------------------------------- */

int64_t book_back_off(int64_t first_us, int64_t max_us, uint32_t tries)
{
    int64_t us = tries < 20 ? first_us << tries : max_us;
    return us < max_us ? us : max_us;
}

static void book_check_silence(struct route_book *b, int64_t now_us)
{
    if (!b->silent) {
        if (now_us - b->heard_us < ROUTE_SILENCE_US)
            return;
        b->silent = true;
        b->reconnect_step_us = ROUTE_SILENCE_US;
        b->row = ROUTE_ROW_SILENCE;
        book_act(b, ROUTE_ACTION_RECONNECT, ROUTE_ROW_SILENCE);
        book_want_read(b, ROUTE_ROW_SILENCE);
    } else if (now_us >= b->reconnect_us) {
        b->row = ROUTE_ROW_STILL_SILENT;
        book_act(b, ROUTE_ACTION_RECONNECT, ROUTE_ROW_STILL_SILENT);
        b->reconnect_step_us = book_back_off(b->reconnect_step_us, ROUTE_RECONNECT_MAX_US, 1);
    } else {
        return;
    }
    b->reconnect_us = now_us + b->reconnect_step_us;
}

static void book_end_pauses(struct route_book *b, int64_t now_us)
{
    list_for_each(node, &b->pauses)
    {
        struct route_entry *e = list_entry(node, struct route_entry, pausing);
        if (now_us >= e->pause_until_us)
            book_apply(b, e, ROUTE_ROW_PAUSE_OVER, false);
    }
}

static void book_dispatch(struct route_book *b, const struct route_event *e)
{
    switch (e->type) {
    case ROUTE_EVENT_MESSAGE:
        book_on_message(b, e->message, e->now_us);
        break;
    case ROUTE_EVENT_RECORD:
        b->row = book_use(b, e->route, e->of_read ? FROM_READ : FROM_WATCH);
        break;
    case ROUTE_EVENT_BAD_RECORD:
        book_on_bad_record(b, e->name);
        break;
    case ROUTE_EVENT_CACHED:
        book_on_cached(b, e->route);
        break;
    case ROUTE_EVENT_READ_DONE:
        book_on_read_done(b);
        break;
    case ROUTE_EVENT_READ_FAILED:
        book_on_read_failed(b, e->now_us);
        break;
    case ROUTE_EVENT_STORE_UP:
    case ROUTE_EVENT_STORE_LOST:
        book_on_store(b, e->type == ROUTE_EVENT_STORE_UP, e->now_us);
        break;
    case ROUTE_EVENT_STORE_MOVED:
        b->row = ROUTE_ROW_STORE_MOVED;
        book_want_read(b, ROUTE_ROW_STORE_MOVED);
        break;
    case ROUTE_EVENT_BROKEN:
        book_on_broken(b, e);
        break;
    case ROUTE_EVENT_SILENT:
        book_on_silent(b, e);
        break;
    case ROUTE_EVENT_SWITCHED:
        book_on_switched(b, e);
        break;
    case ROUTE_EVENT_HELD:
        book_on_held(b, e);
        break;
    case ROUTE_EVENT_TICK:
        b->row = ROUTE_ROW_READ_DUE;
        break;
    }
}

int route_book_step(struct route_book *b, const struct route_event *e)
{
    assert(b && e && e->now_us > 0);
    b->n_actions = 0;
    b->out_of_memory = false;
    book_dispatch(b, e);
    book_check_silence(b, e->now_us);
    book_settle_doubts(b, e->now_us);
    book_end_pauses(b, e->now_us);
    book_read_if_due(b, e->now_us);
    return b->out_of_memory ? ERR_NOMEM : 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t route_book_deadline_us(const struct route_book *b)
{
    int64_t at = b->silent ? b->reconnect_us : b->heard_us + ROUTE_SILENCE_US;

    if (b->want_read && !b->reading && b->store_up)
        at = earlier(at, b->read_at_us);
    list_for_each(node, &b->doubts)
    {
        const struct route_entry *e = list_entry(node, const struct route_entry, doubt);
        at = earlier(at, e->confirm_us);
        if (e->hint_us != 0)
            at = earlier(at, e->hint_us);
    }
    list_for_each(node, &b->pauses) at =
        earlier(at, list_entry(node, const struct route_entry, pausing)->pause_until_us);
    assert(at > 0);
    return at;
}
