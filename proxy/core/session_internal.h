/* What the session's own files (session*.c, hold.c) share; nobody else includes this. */
#ifndef MR_PROXY_CORE_SESSION_INTERNAL_H
#define MR_PROXY_CORE_SESSION_INTERNAL_H

#include "common/core/resp.h"
#include "proxy/core/pipeline.h"
#include "proxy/core/remember.h"
#include "proxy/core/request.h"
#include "proxy/core/session.h"

/* Where the reply under way goes. */
enum session_verdict {
    SESSION_UNDECIDED, /* its bytes wait in `stash` until it is known what it is */
    SESSION_FORWARD,
    SESSION_SWALLOW,
    SESSION_HOLD, /* its bytes wait in `stash` until it is complete: then the acknowledgement is awaited */
};

/* Exists only while something is pending. */
struct session_work {
    struct resp_request request;
    struct resp_reply reply;
    struct pipeline pipe;
    struct pipeline returned; /* by a shared connection: they come before those of `pipe` */
    struct buf prologue;      /* to be written before any request */
    struct buf stash;
    struct buf out;              /* for the client */
    struct buf_span in;          /* what session_take_reply_lent() was given; len 0 outside of it */
    struct buf_span lent;        /* of that: for the client, `out` is empty then */
    uint64_t mark;               /* where in `out` the reply under way begins */
    uint32_t prologue_left;      /* replies to the prologue still to come */
    uint32_t scripts_generation; /* of the scripts the prologue loads */
    uint64_t needs;              /* the batch that the reply under way waits for (durable.h) */
    uint32_t n_first;            /* of `returned`: had had their replies */
    uint32_t gates;              /* so many replies have waited in part */
    uint32_t stride;             /* bytes of the body under way since the last stride ended */
    uint8_t verdict;
    bool gated;         /* the reply under way waits in part, and isn't read on */
    bool request_open;  /* the newest entry isn't complete */
    bool reply_open;    /* a reply is under way */
    bool is_push;       /* it isn't the answer to any request */
    bool loads_scripts; /* the prologue is SCRIPT LOADs */
    bool marks;         /* the prologue is the marker before a WAIT */
};

/* NULL (and the session closes) when out of memory. */
struct session_work *session_work(struct session *s);
struct remember *session_memory(struct session *s);
void session_free_work(struct session *s);
/* `out` has all that is for the client; false when out of memory (then the session closes). */
bool session_end_loan(struct session *s);
/* True when these bytes for the client needn't be copied. */
bool session_lend(struct session_work *w, const char *data, size_t len);
/* Judges, answers and sends what can be: after every event. */
void session_advance(struct session *s, uint32_t now_ms);
/* A Lua body was accepted by the master. */
void session_learn_script(struct session *s, uint8_t kind, const char *bytes, size_t len);
/* Gives the backend up: what is in flight is resolved as hold.h says, the shell resets the socket. */
void session_give_up(struct session *s, uint32_t now_ms);
/* e is a WAIT, and the server must first be made to know what it is to wait for. WAIT counts from what its
 * own connection has propagated last: so that one publishes something. */
bool session_awaits_marker(struct session *s, const struct pipeline_entry *e);
/* The request under way, e, is larger than the limit: it is refused. True: and nothing more of it is taken.
 */
bool session_refuse_large(struct session *s, struct pipeline_entry *e);
/* The reply to e on its own connection is complete, and so large: what follows from that for where it asks.
 */
void session_note_size(struct session *s, uint32_t now_ms, const struct pipeline_entry *e, uint64_t bytes);
/* The newest request would have to wait, and too much waits already: it is refused. */
bool session_refuse_held(struct session *s, struct pipeline_entry *e);
/* e is not to be sent over the connection that it has: that one leads to a replica. */
bool session_is_for_master(const struct session *s, const struct pipeline_entry *e);
/* The connection to a replica is of no use any more: nothing is under way there, and the next request is for
 * the master. */
bool session_has_done_reading(struct session *s);
/* READONLY, READWRITE, RESET: where what follows e is read. */
void session_note_reads(struct session *s, struct pipeline_entry *e);
/* It takes its replies, and very many are to come: what it sends besides can wait for them. */
bool session_is_deep_enough(const struct session *s);
/* Replies that a client may leave untaken. */
uint64_t session_reply_max(const struct session *s);
/* Its connection is of no use any more: the server is no master; or has to be told again who speaks. */
bool session_is_done(const struct session *s);
/* Requests that come now aren't sent. */
bool session_waits(const struct session *s);
/* Answers what the proxy itself answers, as far as it is its turn, and forgets what gives no reply. True:
 * there was some. */
bool session_answer(struct session *s);
/* Takes back the part of the reply under way that was put into `out`; false when the client has some of it.
 */
bool session_undo_reply(struct session *s);
/* A request was executed (bytes: its reply, NULL when it gives none): what does that change? */
void session_succeeded(struct session *s, const struct pipeline_entry *e, const char *reply, size_t len);

/* ---- session_login.c ---- */
/* The next unsent request, e: who it logs in as is called otherwise in each epoch of a fenced instance.
 * False: out of memory, the session closes. */
bool session_map_login(struct session *s, const struct pipeline_entry *e);
/* e was accepted: what the client said is remembered, not what the server was told of it. */
void session_remember(struct session *s, struct remember *m, const struct pipeline_entry *e);
/* The reply under way refuses a login that was accepted before. The server may not have been given the
 * epoch's users yet, or be deposed: a few times that is a reason to ask who is master. */
bool session_doubts_login(struct session *s);

/* ---- session_durable.c ---- */
/* The newest entry was classified: what does it touch? */
void session_note_touch(struct session *s, struct pipeline_entry *e);
/* e must not be sent yet: who could acknowledge it isn't connected, or it has to stand alone. */
bool session_awaits_acks(const struct session *s, const struct pipeline_entry *e);
/* e was let through to the server. And: nothing that was is unanswered (all: whatever there is). */
void session_note_sent(struct session *s, const struct pipeline_entry *e);
void session_end_mark(struct session *s, bool all);
/* The reply under way, to e (NULL: it is a push), has to wait; then, once it is complete, it does, or (false)
 * has not to any more. */
bool session_must_hold(struct session *s, const struct pipeline_entry *e);
bool session_hold_reply(struct session *s, struct pipeline_entry *e, const char *reply, size_t len);
/* The connection has changed: what was answered before, and is held, would be answered otherwise now. */
void session_forbid_repeats(struct session *s);
/* What came of it until now: is it too large to be kept? Then it waits in part; true: it may be passed on
 * now. */
bool session_close_gate(struct session *s);
/* Bytes of replies that are held. */
size_t session_kept_bytes(const struct session *s);
/* A request whose reply was held comes back, before all others, in the order of the calls. */
void session_share_insert(struct session *s, const struct pipeline_entry *like, const char *bytes,
                          size_t len);

#endif
