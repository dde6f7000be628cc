/* One client's conversation with whoever is master: bytes in, bytes and wishes out. Pure, no sockets.
 *
 *   client bytes ──► session_take_request() ─► pipeline ─► session_request_spans() ──► backend
 *   client bytes ◄── session_reply_span() ◄─ pairing ◄─ session_take_reply() ◄──────── backend
 *                     routes, breaks, time ─► hold.h: what of it waits, is sent again, or is answered here
 *
 * The shell tells what happened, moves the bytes, and then looks at what the session wants: a backend, the
 * backend closed, the client closed, reading paused. A session that has nothing pending owns no buffer. */
#ifndef MR_PROXY_CORE_SESSION_H
#define MR_PROXY_CORE_SESSION_H

#include "common/core/buf.h"
#include "proxy/core/durable.h"
#include "proxy/core/large.h"
#include "proxy/core/route.h"
#include "proxy/core/scripts.h"

#include <stdatomic.h>

enum {
    SESSION_OUT_MAX = 64 * 1024,  /* replies the client hasn't taken: then its backend isn't read */
    SESSION_READ_MAX = 80 * 1024, /* bytes of replies read at once: a value of 64 KB with what is around it */
    SESSION_OUT_LIMIT = 16 * 1024 * 1024, /* the proxy's own answers among them: then it isn't read either */
    SESSION_OUT_TIGHT = 16 * 1024,        /* instead of both, while those who don't read hold too much */
    SESSION_DEEP_READ = 4 * 1024,     /* bytes read in a turn of one that sends very many requests at once */
    SESSION_DEEP_MAX = 512,           /* requests of one on their way: the others are left in its socket */
    SESSION_SEEN_END = 32 * 1024,     /* of a large body: what comes before may pass unseen */
    SESSION_STRIDE = 128 * 1024,      /* of a very large one at once: session_ends_stride() */
    SESSION_STRIDE_END = 1024 * 1024, /* its end needs no strides; a body that is all end has none */
    SESSION_SMALL_REPLY = 64,         /* and of its replies, if they have fewer bytes: thousands of them */
    SESSION_UNSENT_MAX = 256 * 1024,  /* bytes the backend hasn't taken: then the client isn't read */
    SESSION_HELD_MAX = 1024 * 1024,   /* the same while there is no backend */
    SESSION_HELD_EACH = 64,           /* a request that waits counts as so many bytes more */
    SESSION_DRAIN_MS = 1000,          /* longest wait for the replies behind a refused request */
    SESSION_OWN_MS = 1000,            /* so long after it needed one a client keeps a connection of its own */
};

struct histogram;

/* Counters of an instance in one thread: written by that thread only, read by any. */
struct session_counts {
    atomic_uint_least64_t requests, held, replayed, unknown, rejected;
    atomic_uint_least64_t replica_reads;   /* of the requests: a replica answered */
    atomic_uint_least64_t batches;         /* WAITs that were answered (durable.h) */
    atomic_uint_least64_t shorts;          /* -MRDURABILITY given */
    _Atomic(struct histogram *) latency;   /* NULL: nothing was answered yet; freed by who owns the counts */
    _Atomic(struct histogram *) held_time; /* likewise: how long replies were held */
};

/* Microseconds of a clock that only goes on, wrapping; set by the shell, once a turn or less often. */
struct session_clock {
    uint32_t arrived_us; /* when the requests came that are being taken now */
    uint32_t written_us; /* when the replies go out that are being taken now */
};

/* Beyond them the client is answered with -MRLIMIT. */
struct session_limits {
    uint64_t request_bytes; /* of one request */
    uint64_t held_bytes;    /* of all that wait, of the instance in all threads; 0: no limit */
    uint64_t reply_bytes;  /* that a client hasn't taken: then it isn't read, without any answer; but one that
                              others can't wait for is closed */
    uint64_t unread_bytes; /* in buffers of clients that don't take their replies, of all; 0: no limit. Then
                              less is kept for each of them */
};

/* A planned switchover: what may still be sent to the present master. */
enum session_pause {
    SESSION_FLOWS,     /* none is under way: everything */
    SESSION_FINISHING, /* what transactions that were begun lack, up to their EXEC; all else waits */
    SESSION_STILL,     /* nothing; what has been sent may still be answered */
};

/* What the sessions of one instance in one thread share; outlives them. */
struct session_env {
    const struct route *route; /* the current one; never NULL */
    uint32_t hold_ms;
    bool held;     /* nobody may be connected to now: requests that come wait */
    uint8_t pause; /* enum session_pause; session_route_changed() once it flows again */
    /* The master that is being left did nothing after it had been paused: a command that is blocked there has
     * taken nothing, and is sent to the next one. */
    bool planned;
    struct durable *durable; /* NULL: the instance has never been strict */
    uint32_t ack_ms;         /* how long replicas are waited for, then */
    const char *refusal; /* why the master last refused to serve (static text), until the shell has told it */
    char refused[256];   /* text of the newest session_fail() that quotes a server */
    struct scripts scripts;
    struct large large;
    struct session_counts *counts;
    const struct session_clock *clock;         /* NULL: latencies aren't measured */
    const struct session_limits *limits;       /* NULL: none */
    const atomic_uint_least64_t *held_bytes;   /* of the instance in all threads now; not NULL with limits */
    const atomic_uint_least64_t *unread_bytes; /* of all instances in all threads now; not NULL with limits */
};

/* What was learnt of scripts and of replies. */
void session_env_free(struct session_env *env);

enum session_link {
    SESSION_DETACHED, /* no backend */
    SESSION_PROLOGUE, /* connected; what was remembered is being told to it */
    SESSION_READY,    /* requests may be sent */
    SESSION_DRAINING, /* it refused a request (it is no master): only replies still due are awaited */
};

/* What the client itself has said about where it reads. */
enum session_reads {
    SESSION_READS_POLICY, /* nothing: as the instance's policy has it */
    SESSION_READS_REPLICA,
    SESSION_READS_MASTER,
};

enum session_action {
    SESSION_DETACH = 1, /* reset the backend's connection: it was given up */
    SESSION_DOUBT = 2,  /* the master of the route doesn't behave as one */
    SESSION_CLOSE = 4,  /* close the client now, what it was to get included */
};

struct pipeline_entry;
struct resp_reply;
struct session_work;
struct remember;

struct session {
    struct session_env *env;
    struct session_work *work; /* NULL while nothing is pending */
    struct remember *memory;   /* NULL: nothing to re-create */
    const char *reason;        /* why SESSION_CLOSE; static text */
    uint64_t epoch;            /* of the backend's connection */
    uint64_t lost_epoch;       /* of the last one that was lost */
    uint32_t since_ms;         /* detached or draining since */
    uint32_t n_queued;         /* commands of the open transaction */
    struct durable_user held;  /* its replies that wait for acknowledgements */
    uint16_t mark;             /* slot of the writes that are under way on its own connection, if `marked` */
    uint16_t tx_slot;          /* where it does that */
    uint8_t tx_touch;          /* enum durable_touch: what the transaction does that is open */
    uint32_t own_ms;           /* when it last needed a connection of its own, if `own` */
    uint8_t link;              /* enum session_link */
    uint8_t tx;                /* enum hold_tx that is open before the oldest request: hold_playing() */
    uint8_t resp;              /* 2 or 3 */
    uint8_t reads;             /* enum session_reads */
    uint8_t actions;           /* enum session_action, not yet taken */
    bool multi : 1;            /* the server has a transaction open */
    bool watched : 1;          /* the server watches keys */
    bool watch_lost : 1;       /* keys were watched on a connection that is gone: EXEC answers null */
    bool in_multi : 1;         /* as the requests have it: replies to come may still say otherwise */
    bool silent : 1;           /* CLIENT REPLY OFF, as the requests have it */
    bool skip : 1;             /* CLIENT REPLY SKIP was the last request */
    bool input_over : 1;       /* no more requests are taken */
    bool closing : 1;          /* the client is closed as soon as its replies are written */
    bool eof : 1;              /* the client has closed its side */
    bool tx_sent : 1;          /* MULTI was let through to the server, its EXEC or DISCARD was not */
    bool own : 1;              /* see session_may_share() */
    bool guessed : 1;          /* that */
    bool behind : 1;           /* a shared connection has requests of this client that come before all here */
    bool unmarked : 1;   /* it wrote over another connection than its present one: WAIT would not know */
    bool unmarkable : 1; /* it may not PUBLISH: WAIT can't be made to know */
    bool marked : 1;
    bool on_replica : 1; /* its own connection leads to a replica */
    bool busy : 1;       /* the server runs a script, and didn't take what its connection is told first */
    uint8_t login_doubts : 2; /* how often in a row the master refused who it had logged in as */
    bool nested : 1;          /* a SUBSCRIBE inside of MULTI: what isn't a reply must be told by its word */
};

/* Adds to a counter that only this thread writes. */
void session_count(atomic_uint_least64_t *counter, uint64_t n);
/* Now, as a request's arrival; and: a request that arrived then is answered now. */
uint32_t session_arrival_us(const struct session_env *env);
void session_measure(const struct session_env *env, uint32_t arrived_us);
/* A reply that was held then is released now. */
void session_measure_held(const struct session_env *env, uint32_t held_us);

void session_init(struct session *s, struct session_env *env, uint32_t now_ms);
void session_free(struct session *s);

/* ---- what happened ----------------------------------------------------------------------------------- */
/* The client sent bytes (all are taken). */
void session_take_request(struct session *s, uint32_t now_ms, const char *data, size_t len);
/* The client closed its side, or its connection broke. */
void session_client_left(struct session *s);
/* A backend is connected, to the master of env->route. */
void session_attached(struct session *s, uint32_t now_ms);
/* The same, to a replica: it is given up (SESSION_DETACH) as soon as something is to be sent that only the
 * master can be asked. */
void session_attached_to_replica(struct session *s, uint32_t now_ms);
/* The backend sent bytes (all are taken). */
void session_take_reply(struct session *s, uint32_t now_ms, const char *data, size_t len);
/* The same, but what is for the client, and can be written at once, isn't copied: it is returned, a part of
 * data. session_lent_wrote() must follow, with how much of it was written. */
struct buf_span session_take_reply_lent(struct session *s, uint32_t now_ms, const char *data, size_t len);
void session_lent_wrote(struct session *s, size_t n);
/* The backend's connection is gone: it broke, or the route leads elsewhere now. */
void session_detached(struct session *s, uint32_t now_ms);
/* env->route changed, but the backend stays: what a held route kept back is sent. */
void session_route_changed(struct session *s, uint32_t now_ms);
/* Time has passed: requests that waited too long are answered. */
void session_expire(struct session *s, uint32_t now_ms);
/* The instance is gone: what is pending is answered with -MRNOROUTE, then the client is closed. */
void session_drop(struct session *s);
/* The proxy ends: no new requests; the client is closed when it has its replies. */
void session_drain(struct session *s);

/* env->durable is on from now on: what hasn't been sent yet is held. */
void session_becomes_strict(struct session *s);
/* Of that step: before its reply comes what the session answers itself, or what has no answer. What steps
 * gave before must have been passed on first. */
bool session_answers_before(const struct session *s, const struct durable_step *step);
/* A step of env->durable is about this session's oldest held reply. Returns what its client is to be given: a
 * part of the step, or of `text` (HOLD_TEXT_MAX bytes); len 0: nothing. Then follows shared_settle(). epoch:
 * of the master that the reply came from. */
struct buf_span session_take_step(struct session *s, uint32_t now_ms, const struct durable_step *step,
                                  uint64_t epoch, char *text);
/* An answer of the proxy's own comes before what else is held: the step's bytes are to be passed on, and the
 * session to go on (session_route_changed()), before the next step is taken. */
bool session_interjects(const struct session *s);

/* ---- bytes out ------------------------------------------------------------------------------------------
 */
int session_request_spans(struct session *s, struct buf_span *spans, int max);
void session_request_wrote(struct session *s, uint32_t now_ms, size_t n);
struct buf_span session_reply_span(const struct session *s); /* len 0: nothing */
void session_reply_wrote(struct session *s, size_t n);

/* Large bodies needn't be seen here: how many of the bytes that the backend (the client) sends next may go
 * straight to the client (the backend); 0: none, or not worth it. And: n of them did. */
uint64_t session_reply_unseen(const struct session *s);
void session_reply_passed(struct session *s, uint64_t n);
uint64_t session_request_unseen(const struct session *s);
void session_request_passed(struct session *s, uint64_t n);
/* Asked after that: so much of a very large body went that others should have their turn before it goes on.
 */
bool session_ends_stride(struct session *s);

/* ---- what it wants --------------------------------------------------------------------------------------
 */
/* The actions since the last call, and forgets them. */
unsigned session_take_actions(struct session *s);
/* It has something to say to a master, or has to be subscribed: connect one (once it may). */
bool session_wants_backend(struct session *s);
bool session_reads_client(const struct session *s);
/* How many bytes of its backend can be taken now; 0: it isn't to be read. */
size_t session_backend_room(const struct session *s);
/* What it writes next is answered as soon as the server comes to it, and nothing before it is under way or
 * left to be taken (window.h). */
bool session_asks_anew(const struct session *s);
/* How large the reply to that will likely be (large.h); 0: nobody knows. */
uint32_t session_expects(const struct session *s);
/* Nothing is under way to its backend, or waits to be written to it. */
bool session_asks_nothing(const struct session *s);
/* It doesn't take its replies: nobody else should have to wait for it, nor more memory be spent on it. */
bool session_is_slow(const struct session *s);
/* What it has sent, or begun to send, isn't settled yet: a switchover waits for it. What is blocked in Redis
 * isn't in flight, nor (once the pause is SESSION_STILL) what the client would have to go on with, nor WAIT.
 */
bool session_is_in_flight(struct session *s);
/* A reply is due now: a master that works would give it soon. */
bool session_awaits_reply(struct session *s);
/* All that was asked is answered and written, and the client is to be closed. */
bool session_is_over(const struct session *s);
/* What its buffers take; of that: bytes of requests that wait to be sent to a master; and: all of it, if it
 * doesn't take its replies. */
size_t session_memory_bytes(const struct session *s);
size_t session_held_bytes(const struct session *s);
size_t session_unread_bytes(const struct session *s);
/* Nothing is pending and nothing is owned but what it remembers. */
bool session_is_idle(const struct session *s);
/* True when session_expire() will have something to do: *at_ms says when. */
bool session_deadline(struct session *s, uint32_t *at_ms);

/* ---- requests that go over a connection which it shares with others (core/shared.h) ---------------------
 */
/* The client has no state that a shared connection lacks, and needed none of its own lately. */
bool session_may_share(const struct session *s, uint32_t now_ms);
/* It needs a connection of its own for a while: its requests or replies are large, or very many at once. */
void session_need_own(struct session *s, uint32_t now_ms);
/* The same: the reply to this request is large, and the next one is likely as large. bytes: of the reply. */
void session_had_large(struct session *s, uint32_t now_ms, const char *request, size_t len, uint64_t bytes);
/* The same, if the reply to this request will likely be large; it shares again after a small one. True: so.
 */
bool session_expects_large(struct session *s, uint32_t now_ms, const char *request, size_t len);
/* So many of its requests wait here that the others are to have their turn more often. */
bool session_is_deep(const struct session *s);
/* No request is here, not even the beginning of one (replies may be). */
bool session_has_no_request(const struct session *s);
/* Only the beginning of a request is here: how many of these bytes complete it; 0: none, or not all of it. */
size_t session_rest_of_request(const struct session *s, const char *data, size_t len);
/* The next request may be passed on: its entry, with *bytes, until session_passed(); else NULL. */
const struct pipeline_entry *session_next_shared(struct session *s, const char **bytes);
void session_passed(struct session *s);
/* Its requests would all go over a shared connection, beginning with the next one. */
bool session_wants_shared(struct session *s, uint32_t now_ms);
/* It has a connection of its own, and nothing there that a shared one lacks. */
bool session_is_parked(const struct session *s);
/* Gives up its connection without losing anything: false when it isn't idle. The shell closes it. */
bool session_leave_own(struct session *s);

/* What replicas may answer is to be asked of one, and there is one. */
bool session_reads_replica(const struct session *s);
/* The next request is such a one, and the client has no state: a connection of its own may lead to a replica.
 */
bool session_may_attach_to_replica(struct session *s);
/* A replica says what a master would not have said: ask that one. */
bool session_is_replica_refusal(const struct resp_reply *r);

/* A shared connection took requests of this client; one that may write. */
void session_share_begin(struct session *s);
void session_wrote_shared(struct session *s);
/* One of them comes back, oldest first, in the state in which it is: SENT (its outcome is unknown), HELD (it
 * was not executed, or may be executed again), LOCAL. */
void session_share_return(struct session *s, const struct pipeline_entry *like, const char *bytes,
                          size_t len);
/* It is slow, and its replies there can't be asked for again: has it gone beyond what is kept of them? */
bool session_has_too_much(const struct session *s);
/* Then: it is told so instead of its next reply, and closed once it has read that. Nothing of it may be on a
 * shared connection any more. */
void session_cut(struct session *s);
/* None is left there. epoch: of that connection, if it was lost, else 0. */
void session_share_end(struct session *s, uint32_t now_ms, uint64_t epoch);
/* The client can't be served any longer. reason, for the log: static text, or env->refused. */
void session_fail(struct session *s, const char *reason);
/* The server says that it did nothing, because it is no master now. */
bool session_is_refusal(const struct resp_reply *r);
/* It takes no further connections: it may be our turn later. */
bool session_is_full(const struct resp_reply *r);
/* Bytes for the client, behind all that it was given before. */
void session_emit(struct session *s, const char *data, size_t len);
/* Its request of that kind was answered with success. */
void session_share_learn(struct session *s, uint8_t kind, const char *bytes, size_t len);

#endif
