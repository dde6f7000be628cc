#include "proxy/core/hold.h"

#include "proxy/core/blocked.h"
#include "proxy/core/session_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static bool hold_has_answer(const struct pipeline_entry *e)
{
    return e->state == PIPELINE_LOCAL || e->state == PIPELINE_ANSWERED;
}

enum hold_tx hold_playing(const struct session *s)
{
    const struct pipeline *p = s->work ? &s->work->pipe : NULL;

    if (!p || p->judged == p->head)
        return (enum hold_tx)s->tx;
    const struct pipeline_entry *before = pipeline_at(p, p->judged - 1);
    return hold_has_answer(before) ? (enum hold_tx)before->tx : HOLD_TX_NONE;
}

void hold_pop(struct session *s)
{
    struct pipeline *p = &s->work->pipe;
    const struct pipeline_entry *e = pipeline_at(p, p->head);

    s->tx = hold_has_answer(e) ? e->tx : HOLD_TX_NONE;
    pipeline_pop(p);
}

static enum hold_answer hold_end_tx(struct session *s, struct pipeline_entry *e, enum hold_tx tx)
{
    static const enum hold_answer ends[] = {[HOLD_TX_LOST] = HOLD_ABORT_LOST,
                                            [HOLD_TX_LATE] = HOLD_ABORT_LATE,
                                            [HOLD_TX_BUSY] = HOLD_ABORT_BUSY,
                                            [HOLD_TX_NULL] = HOLD_NULL};

    assert(tx != HOLD_TX_NONE);
    e->tx = HOLD_TX_NONE;
    s->watch_lost = false;
    return e->kind == REQUEST_EXEC ? ends[tx] : HOLD_OK;
}

/* The played transaction begins with e, its MULTI. */
static enum hold_answer hold_begin_tx(struct pipeline_entry *e, enum hold_tx tx)
{
    e->tx = (uint8_t)tx;
    return HOLD_OK;
}

enum hold_answer hold_judge(struct session *s, struct pipeline_entry *e)
{
    enum hold_tx tx = hold_playing(s);
    bool in_tx = tx != HOLD_TX_NONE;

    e->tx = (uint8_t)tx;
    switch ((enum request_kind)e->kind) {
    case REQUEST_QUIT:
        return HOLD_QUIT;
    case REQUEST_WAIT:
    case REQUEST_WAITAOF:
        if (in_tx)
            return HOLD_QUEUED;
        if (!s->unmarkable || s->unmarked)
            return HOLD_SEND;
        return e->kind == REQUEST_WAIT ? HOLD_NO_ACK : HOLD_NO_ACK_AOF;
    case REQUEST_READONLY:
    case REQUEST_READWRITE:
        return in_tx ? HOLD_QUEUED : HOLD_OK;
    case REQUEST_HTTP:
        return HOLD_HANG_UP;
    case REQUEST_REPLICATION:
        return HOLD_REPLICATION;
    case REQUEST_RESET:
        s->watch_lost = false;
        return HOLD_SEND;
    case REQUEST_EXEC:
    case REQUEST_DISCARD:
        return in_tx ? hold_end_tx(s, e, tx) : HOLD_SEND;
    case REQUEST_MULTI:
        if (in_tx)
            return HOLD_NESTED_MULTI;
        if (e->flags & PIPELINE_LOST)
            return hold_begin_tx(e, HOLD_TX_LOST);
        return s->watch_lost ? hold_begin_tx(e, HOLD_TX_NULL) : HOLD_SEND;
    case REQUEST_WATCH:
        return in_tx ? HOLD_WATCH_IN_MULTI : HOLD_SEND;
    case REQUEST_UNWATCH:
        s->watch_lost = s->watch_lost && in_tx;
        return in_tx ? HOLD_QUEUED : HOLD_SEND;
    default:
        return in_tx ? HOLD_QUEUED : HOLD_SEND;
    }
}

enum hold_answer hold_judge_busy(struct pipeline_entry *e)
{
    if (e->kind == REQUEST_KILL)
        return HOLD_SEND;
    /* Redis takes MULTI then, and refuses what comes behind it: none of it is executed. */
    return e->kind == REQUEST_MULTI ? hold_begin_tx(e, HOLD_TX_BUSY) : HOLD_BUSY;
}

static void hold_answer_with(struct session *s, struct pipeline_entry *e, enum hold_answer answer)
{
    if (answer == HOLD_UNKNOWN || answer == HOLD_TWICE || answer == HOLD_CUT || answer == HOLD_UNACKED)
        session_count(&s->env->counts->unknown, 1);
    else if (answer == HOLD_LATE || answer == HOLD_NO_ROUTE)
        session_count(&s->env->counts->rejected, 1);
    if (!(e->flags & PIPELINE_COMPLETE))
        e->flags |= PIPELINE_DISCARD;
    pipeline_answer_locally(&s->work->pipe, e, (uint8_t)answer);
}

void hold_count(struct session *s, struct pipeline_entry *e)
{
    if (!(e->flags & PIPELINE_COUNTED))
        session_count(&s->env->counts->held, 1);
    e->flags |= PIPELINE_COUNTED;
}

/* Sent again on the next connection; replies that the client has had already are swallowed then. */
static void hold_repeat(struct session *s, struct pipeline_entry *e, uint32_t now_ms)
{
    e->flags &= (uint16_t)~PIPELINE_BARE;
    if (e->replies == 0)
        e->answered = 0; /* UNSUBSCRIBE of all that is left: none of its replies is a repetition */
    e->swallow = e->answered > e->swallow ? e->answered : e->swallow;
    e->answered = 0;
    session_count(&s->env->counts->replayed, 1);
    pipeline_hold_again(&s->work->pipe, e, now_ms);
}

enum hold_tx_fate {
    HOLD_TX_REPEAT, /* nothing was executed, all bytes are kept: sent again as if it had never been */
    HOLD_TX_LOSE,   /* nothing was executed, but not all bytes are kept */
    HOLD_TX_CLOSED, /* its end was sent: all of it is settled at once */
};

/* A transaction begins at `seq` that was sent, its MULTI unanswered. */
static enum hold_tx_fate hold_tx_fate(const struct pipeline *p, uint64_t seq)
{
    enum hold_tx_fate fate = HOLD_TX_REPEAT;

    for (uint64_t i = seq; i < p->unsent; i++) {
        const struct pipeline_entry *e = pipeline_at(p, i);
        if (e->kind == REQUEST_EXEC)
            return HOLD_TX_CLOSED;
        if (!pipeline_bytes(p, e))
            fate = HOLD_TX_LOSE;
        if (e->kind == REQUEST_DISCARD)
            return fate == HOLD_TX_LOSE ? HOLD_TX_CLOSED : fate;
    }
    if (pipeline_is_partly_written(p) && pipeline_at(p, p->unsent)->start < buf_start(&p->log))
        return HOLD_TX_LOSE;
    return fate;
}

/* The sent request e inside of a transaction that is lost; *open says whether it still is one behind e. */
static enum hold_answer hold_in_tx(const struct pipeline_entry *e, bool *open, bool *watched)
{
    switch ((enum request_kind)e->kind) {
    case REQUEST_EXEC:
        *open = *watched = false;
        return HOLD_UNKNOWN;
    case REQUEST_DISCARD:
        *open = *watched = false;
        return HOLD_OK;
    case REQUEST_MULTI:
        return HOLD_NESTED_MULTI;
    case REQUEST_WATCH:
        return HOLD_WATCH_IN_MULTI;
    default:
        return HOLD_QUEUED;
    }
}

/* Returns the number of entries behind seq that are repeated with it. */
static void hold_repeat_tx(struct session *s, uint64_t *seq, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;

    for (; *seq < p->unsent; ++*seq) {
        struct pipeline_entry *e = pipeline_at(p, *seq);
        if (e->state == PIPELINE_SENT)
            hold_repeat(s, e, now_ms);
        if (e->kind == REQUEST_DISCARD)
            return;
    }
}

/* A read goes to a second master, not to a third: it may be what the first two died of (memory, a bug), and
 * would take all of them along. */
static bool hold_was_repeated(const struct pipeline_entry *e)
{
    bool reads = e->kind == REQUEST_PLAIN || e->kind == REQUEST_EVAL || e->kind == REQUEST_EVALSHA;

    return reads && (e->flags & PIPELINE_REPEAT) && !(e->flags & PIPELINE_LIGHT) && e->repeated;
}

static bool hold_may_repeat(const struct session *s, const struct pipeline_entry *e)
{
    return (e->flags & PIPELINE_REPEAT) && pipeline_bytes(&s->work->pipe, e) && !hold_was_repeated(e);
}

/* Why it isn't. */
static enum hold_answer hold_unrepeated(const struct pipeline_entry *e)
{
    return hold_was_repeated(e) ? HOLD_TWICE : HOLD_UNKNOWN;
}

static void hold_resolve_plain(struct session *s, struct pipeline_entry *e, uint32_t now_ms)
{
    if (e->flags & PIPELINE_SILENT)
        hold_answer_with(s, e, HOLD_UNKNOWN);
    else if (e->flags & PIPELINE_BLOCKING)
        hold_answer_with(s, e, HOLD_UNBLOCKED);
    else if (!hold_may_repeat(s, e))
        hold_answer_with(s, e, hold_unrepeated(e));
    else {
        hold_repeat(s, e, now_ms);
        e->repeated = true;
    }
}

/* The request that was being written: a small one starts over, a large one whose beginning isn't kept can't.
 */
static void hold_resolve_begun(struct session *s, bool open)
{
    struct pipeline *p = &s->work->pipe;

    if (!pipeline_is_partly_written(p))
        return;
    struct pipeline_entry *e = pipeline_at(p, p->unsent);
    if (e->start >= buf_start(&p->log))
        return;
    hold_answer_with(s, e, open ? HOLD_QUEUED : HOLD_CUT);
    e->tx = open ? HOLD_TX_LOST : HOLD_TX_NONE;
}

/* The CLIENT REPLY SKIP before an unsent request took effect on the lost connection: the request will be
 * answered, and that is swallowed. */
static void hold_resolve_skipped(struct pipeline *p)
{
    for (uint64_t seq = p->unsent; seq < p->tail; seq++) {
        struct pipeline_entry *e = pipeline_at(p, seq);
        bool told = seq > p->head && pipeline_at(p, seq - 1)->state == PIPELINE_HELD;
        if (e->state != PIPELINE_HELD || !(e->flags & PIPELINE_SKIPPED) || told)
            continue;
        e->flags &= (uint16_t)~PIPELINE_SILENT;
        e->swallow = e->replies;
    }
}

/* What came for the connection that is lost, and was not written to it any more, waits, too. What was before
 * counts as sent again. */
static void hold_count_unsent(struct session *s)
{
    const struct pipeline *p = &s->work->pipe;

    for (uint64_t seq = p->unsent; seq < p->tail; seq++) {
        struct pipeline_entry *e = pipeline_at(p, seq);
        if (!e->again && (e->state == PIPELINE_HELD || e->state == PIPELINE_READY))
            hold_count(s, e);
    }
}

/* MULTI was sent, its reply has not come; *seq is its number, then that of the last one settled with it.
 * Returns whether the transaction is open behind it. */
static bool hold_resolve_multi(struct session *s, uint64_t *seq, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;
    struct pipeline_entry *e = pipeline_at(p, *seq);

    switch (hold_tx_fate(p, *seq)) {
    case HOLD_TX_REPEAT:
        hold_repeat_tx(s, seq, now_ms);
        return false;
    case HOLD_TX_LOSE:
        e->flags |= PIPELINE_LOST; /* played here, when it is its turn */
        pipeline_hold_again(p, e, now_ms);
        return true;
    case HOLD_TX_CLOSED:
        break;
    }
    hold_answer_with(s, e, HOLD_OK);
    return true;
}

bool hold_may_reissue(struct session *s)
{
    struct pipeline *p = &s->work->pipe;
    const struct pipeline_entry *due = pipeline_next_reply(p);

    if (!due || !(due->flags & PIPELINE_BLOCKING))
        return false;
    for (uint64_t seq = p->reply; seq < p->unsent; seq++)
        if (!pipeline_bytes(p, pipeline_at(p, seq)))
            return false;
    return !pipeline_is_partly_written(p) || pipeline_at(p, p->unsent)->start >= buf_start(&p->log);
}

/* How long it has been blocked counts. */
static int hold_shorten(struct pipeline *p, uint64_t seq, uint32_t now_ms)
{
    const struct pipeline_entry *e = pipeline_at(p, seq);
    struct buf rest = {0};
    int err = blocked_shorten(pipeline_bytes(p, e), e->len, now_ms - e->since_ms, &rest);

    if (!err && buf_len(&rest) > 0)
        err = pipeline_replace(p, seq, buf_at(&rest, buf_start(&rest)), buf_len(&rest));
    buf_free(&rest);
    return err;
}

void hold_reissue(struct session *s, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;
    uint64_t blocked = p->reply;
    uint32_t since_ms = pipeline_at(p, blocked)->since_ms;

    assert(hold_may_reissue(s));
    for (uint64_t seq = blocked; seq < p->unsent; seq++)
        if (pipeline_at(p, seq)->state == PIPELINE_SENT)
            hold_repeat(s, pipeline_at(p, seq), now_ms);
    pipeline_at(p, blocked)->since_ms = since_ms;
    if (hold_shorten(p, blocked, now_ms))
        session_fail(s, "out of memory");
    pipeline_at(p, blocked)->since_ms = now_ms;
}

/* The MULTI that was answered last, if its reply is held, or was; the tail when there is none. */
static uint64_t hold_answered_multi(const struct pipeline *p)
{
    for (uint64_t seq = p->unsent; seq > p->head; seq--) {
        const struct pipeline_entry *e = pipeline_at(p, seq - 1);
        if (e->kind == REQUEST_MULTI && hold_has_answer(e) && e->answer == HOLD_OK)
            return seq - 1;
    }
    return p->tail;
}

void hold_resolve(struct session *s, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;
    uint64_t multi = hold_answered_multi(p);
    bool open = s->multi && multi == p->tail, watched = s->watched;

    if (s->env->planned && hold_may_reissue(s))
        hold_reissue(s, now_ms);
    for (uint64_t seq = p->head; seq < p->unsent; seq++) {
        struct pipeline_entry *e = pipeline_at(p, seq);
        bool sent = e->state == PIPELINE_SENT;
        open = open || (s->multi && seq == multi);
        if (sent && open)
            hold_answer_with(s, e, hold_in_tx(e, &open, &watched));
        else if (sent && e->kind == REQUEST_MULTI)
            open = hold_resolve_multi(s, &seq, now_ms);
        else if (sent)
            hold_resolve_plain(s, e, now_ms);
        if (open)
            e->tx = HOLD_TX_LOST;
        else if (sent)
            e->tx = HOLD_TX_NONE;
    }
    hold_resolve_begun(s, open);
    hold_count_unsent(s);
    if (s->multi && multi == p->tail)
        s->tx = HOLD_TX_LOST;
    if (watched)
        s->watch_lost = true;
    pipeline_rewind(p, now_ms);
    hold_resolve_skipped(p);
}

void hold_unanswer(struct session *s, struct pipeline_entry *e, uint32_t now_ms)
{
    enum hold_answer answer = e->answer;

    assert(e->state == PIPELINE_ANSWERED);
    if (answer != HOLD_SEND || !hold_may_repeat(s, e)) {
        hold_answer_with(s, e, answer == HOLD_SEND ? hold_unrepeated(e) : answer);
        return;
    }
    session_count(&s->env->counts->replayed, 1);
    e->answered = 0;
    e->repeated = true;
    pipeline_wait_again(e, now_ms);
}

void hold_forget_drained(struct session *s)
{
    struct pipeline *p = &s->work->pipe;

    for (uint64_t seq = p->head; seq < p->unsent; seq++)
        if (pipeline_at(p, seq)->state == PIPELINE_SENT)
            pipeline_at(p, seq)->answered = 0;
}

void hold_expire(struct session *s, uint32_t now_ms)
{
    struct pipeline *p = &s->work->pipe;
    struct pipeline_entry *e;

    while ((e = pipeline_next_judged(p)) != NULL) {
        if (!(e->flags & (PIPELINE_COMPLETE | PIPELINE_STREAMED)))
            return;
        enum hold_answer answer = hold_judge(s, e);
        if (answer == HOLD_SEND && now_ms - e->since_ms < s->env->hold_ms)
            return;
        if (answer == HOLD_SEND && e->kind == REQUEST_MULTI) {
            /* What follows must not be executed outside of its transaction. */
            answer = hold_begin_tx(e, HOLD_TX_LATE);
        }
        hold_answer_with(s, e, answer == HOLD_SEND ? HOLD_LATE : answer);
    }
}

void hold_reject_all(struct session *s)
{
    struct pipeline *p = &s->work->pipe;

    for (uint64_t seq = p->head; seq < p->tail; seq++) {
        struct pipeline_entry *e = pipeline_at(p, seq);
        if (e->state == PIPELINE_LOCAL)
            continue;
        hold_answer_with(s, e, HOLD_NO_ROUTE);
        e->flags |= PIPELINE_COMPLETE;
        e->tx = HOLD_TX_NONE;
    }
    s->tx = HOLD_TX_NONE;
    pipeline_rewind(p, 0);
}

static int hold_format_limit(const struct session *s, enum hold_answer answer, char text[HOLD_TEXT_MAX])
{
    const struct session_limits *l = s->env->limits;
    const char *name = s->env->route->name;

    switch (answer) {
    case HOLD_TOO_LARGE:
    case HOLD_TOO_LARGE_END:
        return snprintf(text, HOLD_TEXT_MAX,
                        "-MRLIMIT a request to instance %s may have %llu bytes at most "
                        "(--max-request-bytes of mr-proxy); it was not executed\r\n",
                        name, (unsigned long long)l->request_bytes);
    case HOLD_TOO_MUCH:
        return snprintf(text, HOLD_TEXT_MAX,
                        "-MRLIMIT requests of %llu bytes wait for the master of instance %s already "
                        "(--max-held-bytes of mr-proxy); it was not executed; send it again later\r\n",
                        (unsigned long long)l->held_bytes, name);
    case HOLD_UNREAD:
        return snprintf(
            text, HOLD_TEXT_MAX,
            "-MRLIMIT a client of instance %s left %llu bytes of replies unread "
            "(--max-reply-bytes of mr-proxy): this reply and the next ones were thrown away; what "
            "they are to may have been executed\r\n",
            name, (unsigned long long)session_reply_max(s));
    default:
        assert(answer == HOLD_UNREAD_ALL);
        return snprintf(
            text, HOLD_TEXT_MAX,
            "-MRLIMIT clients that don't read their replies, as this one of instance %s, fill %llu "
            "bytes (--max-unread-bytes of mr-proxy): this reply and the next ones were thrown "
            "away; what they are to may have been executed\r\n",
            name, (unsigned long long)l->unread_bytes);
    }
}

static int hold_format_acks(const struct session *s, enum hold_answer answer, char text[HOLD_TEXT_MAX])
{
    const struct durable *d = s->env->durable;
    const struct route *r = s->env->route;

    switch (answer) {
    case HOLD_UNACKED:
        return snprintf(
            text, HOLD_TEXT_MAX,
            "-MRUNKNOWN executed on the master of instance %s, which was lost before %u replicas had "
            "acknowledged it (epoch %llu): it may be lost, too; check before you send it again\r\n",
            r->name, d->acks, (unsigned long long)s->lost_epoch);
    case HOLD_SHORT_WRITE:
        return snprintf(text, HOLD_TEXT_MAX,
                        "-MRDURABILITY applied on the master of instance %s, but only %u of %u replicas "
                        "acknowledged it within %u ms (epoch %llu): others may see it, and it is lost if the "
                        "master is; check before you send it again\r\n",
                        r->name, d->got, d->wanted, s->env->ack_ms, (unsigned long long)r->epoch);
    default:
        assert(answer == HOLD_SHORT_READ);
        return snprintf(
            text, HOLD_TEXT_MAX,
            "-MRDURABILITY what this read would tell is applied on the master of instance %s, but only "
            "%u of %u replicas acknowledged it within %u ms (epoch %llu); ask again later\r\n",
            r->name, d->got, d->wanted, s->env->ack_ms, (unsigned long long)r->epoch);
    }
}

static int hold_format_route(const struct session *s, enum hold_answer answer, char text[HOLD_TEXT_MAX])
{
    const struct route *r = s->env->route;

    switch (answer) {
    case HOLD_UNKNOWN:
        return snprintf(text, HOLD_TEXT_MAX,
                        "-MRUNKNOWN the connection to the master of instance %s was lost after this was sent "
                        "(epoch %llu): it may have been executed or not; check before you send it again\r\n",
                        r->name, (unsigned long long)s->lost_epoch);
    case HOLD_TWICE:
        return snprintf(
            text, HOLD_TEXT_MAX,
            "-MRUNKNOWN two connections to the master of instance %s were lost while this was "
            "under way (epoch %llu): it only reads, but is not tried a third time, because it may "
            "be what they were lost by\r\n",
            r->name, (unsigned long long)s->lost_epoch);
    case HOLD_CUT:
        return snprintf(text, HOLD_TEXT_MAX,
                        "-MRUNKNOWN the connection to the master of instance %s was lost while this large "
                        "request was being sent (epoch %llu): it was not executed; send it again\r\n",
                        r->name, (unsigned long long)s->lost_epoch);
    case HOLD_LATE:
        return snprintf(text, HOLD_TEXT_MAX,
                        "-MRHOLD held longer than %u ms: instance %s has no master (epoch %llu); it was not "
                        "executed; send it again later\r\n",
                        s->env->hold_ms, r->name, (unsigned long long)r->epoch);
    case HOLD_ABORT_LATE:
        return snprintf(
            text, HOLD_TEXT_MAX,
            "-EXECABORT Transaction discarded because of: held longer than %u ms, instance %s has "
            "no master (Mr-Redis, epoch %llu)\r\n",
            s->env->hold_ms, r->name, (unsigned long long)r->epoch);
    case HOLD_ABORT_LOST:
        return snprintf(text, HOLD_TEXT_MAX,
                        "-EXECABORT Transaction discarded because of: the master of instance %s changed "
                        "(Mr-Redis, epoch %llu)\r\n",
                        r->name, (unsigned long long)r->epoch);
    default:
        assert(answer == HOLD_NO_ROUTE);
        return snprintf(text, HOLD_TEXT_MAX,
                        "-MRNOROUTE instance %s is not served here any more: it was deleted, or its port "
                        "changed; see mrctl list\r\n",
                        r->name);
    }
}

int hold_format(const struct session *s, enum hold_answer answer, char text[HOLD_TEXT_MAX])
{
    static const char *const fixed[] = {
        [HOLD_OK] = "+OK\r\n",
        [HOLD_QUIT] = "+OK\r\n",
        [HOLD_QUEUED] = "+QUEUED\r\n",
        [HOLD_UNBLOCKED] =
            ("-UNBLOCKED force unblock from blocking operation, instance state changed (master "
             "-> replica?)\r\n"),
        [HOLD_BUSY] = ("-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN "
                       "NOSAVE.\r\n"),
        [HOLD_ABORT_BUSY] = "-EXECABORT Transaction discarded because of previous errors.\r\n",
        [HOLD_NESTED_MULTI] = "-ERR MULTI calls can not be nested\r\n",
        [HOLD_WATCH_IN_MULTI] = "-ERR WATCH inside MULTI is not allowed\r\n",
        [HOLD_REPLICATION] = "-ERR replication can't go through mr-proxy: connect to the member itself\r\n",
        [HOLD_NO_ACK] = ":0\r\n",
        [HOLD_NO_ACK_AOF] =
            ("-NOPERM this user may not PUBLISH to __mr-redis_ack, without which WAITAOF doesn't "
             "know what to wait for (mr-proxy)\r\n"),
        [HOLD_HANG_UP] = "",
        [HOLD_SEND] = NULL,
    };

    assert(answer < HOLD_SEND);
    if (fixed[answer])
        return snprintf(text, HOLD_TEXT_MAX, "%s", fixed[answer]);
    if (answer == HOLD_NULL)
        return snprintf(text, HOLD_TEXT_MAX, "%s", s->resp == 3 ? "_\r\n" : "*-1\r\n");
    if (answer == HOLD_PROTOCOL)
        return snprintf(text, HOLD_TEXT_MAX, "-ERR %s\r\n", s->work->request.problem);
    if (answer >= HOLD_TOO_LARGE && answer <= HOLD_UNREAD_ALL)
        return hold_format_limit(s, answer, text);
    if (answer >= HOLD_UNACKED && answer <= HOLD_SHORT_READ)
        return hold_format_acks(s, answer, text);
    return hold_format_route(s, answer, text);
}

bool hold_closes(enum hold_answer answer)
{
    return answer == HOLD_PROTOCOL || answer == HOLD_TOO_LARGE_END || answer == HOLD_QUIT ||
           answer == HOLD_HANG_UP;
}
