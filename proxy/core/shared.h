/* A connection that many clients share: whose requests were put on it, in which order; whose is each reply.
 * Pure.
 *
 *   client A ─┐  shared_take()    ┌───────────── log ────────────┐  shared_span()
 *   client B ─┼─────────────────► │ A1 A2 B1 │ A3 C1 │           │ ───────────────► server
 *   client C ─┘                   └──────────────────────────────┘
 *                                  head  └ written         └ tail
 *   clients ◄── shared_step ◄── shared_take_reply() ◄───────────────────────────── server
 *
 * Only whole requests that depend on nothing but the server's data get here. Their bytes stay until they are
 * answered; when the connection is lost, or the server turns out to be no master, each goes back to the
 * session of its client (session_share_return()), which knows what to do. A client whose request was refused,
 * or whose reply is too large for all to wait for, is *diverted*: what it has behind that one goes back too,
 * so that its order holds. */
#ifndef MR_PROXY_CORE_SHARED_H
#define MR_PROXY_CORE_SHARED_H

#include "common/core/buf.h"
#include "common/core/resp.h"

#include <stdbool.h>

struct session;
struct shared;
struct shared_entry;

enum {
    SHARED_REQUEST_MAX = 16 * 1024, /* bytes */
    SHARED_REPLY_MAX = 16 * 1024,   /* a larger one moves its client to a connection of its own, if it can be
                                       asked for again; else it is streamed */
    SHARED_CROWD_MIN =
        256 * 1024,        /* a reply of which so much is to be dropped: who comes now needn't wait for it */
    SHARED_USER_MAX = 128, /* requests of one client; more at once need a connection of its own */
    SHARED_USER_BYTES = 128 * 1024,   /* and bytes of them */
    SHARED_DEPTH_MAX = 32 * 1024,     /* requests of all */
    SHARED_LOG_MAX = 8 * 1024 * 1024, /* bytes of them */
    SHARED_KEEP_MAX = 4 * 1024,       /* bytes of memory that an empty one keeps for good */
    SHARED_UNSENT_MAX = 1024 * 1024,  /* bytes that the server hasn't taken */
    /* shared_is_due(), measured with 50 clients: to write costs as much as 20 small requests, … */
    SHARED_BATCH_BYTES = 32 * 1024, /* … and the server reads half of that at once */
    SHARED_START_REQUESTS = 64,
};

/* A client, as the shared connections see it; the caller's, zeroed but for its session. */
struct shared_user {
    struct session *session;
    struct shared *on; /* where its requests are; NULL: nowhere */
    uint32_t pending;  /* how many */
    uint32_t bytes;    /* of them */
    bool diverted;
    uint64_t lost_epoch; /* of the connection that was lost; 0: none was */
};

/* All zeroes is an empty one. */
struct shared {
    struct shared_entry *ring;
    uint32_t size; /* a power of two */
    uint64_t head, tail;
    uint64_t rested_at; /* the tail, when shared_rest() was last called */
    uint64_t at;        /* offset in the log of the head's first byte */
    uint64_t written;   /* up to which offset the server has been sent the log */
    uint32_t n_unsent;  /* requests since it had been sent all of it */
    struct buf log;
    struct resp_reply reply;
    struct buf stash;        /* of the reply under way */
    bool stash_is_done;      /* it was given out as a whole */
    bool streaming;          /* the reply under way is given out as it comes */
    bool swallowing;         /* the reply under way is dropped: it is asked for again elsewhere */
    uint64_t n_answered;     /* ever */
    struct durable *durable; /* of who uses it; NULL: none */
    uint64_t batch;          /* whose marker and WAIT are on their way (durable.h: inline); 0: none */
    uint32_t acks;           /* what WAIT answers, as far as it is here */
    bool marker_failed;
    bool replica; /* it leads to one: takes only what replicas may answer; shared_free() keeps it */
};

enum shared_what {
    SHARED_NOTHING, /* all bytes are used; what is incomplete is kept */
    SHARED_PASS,    /* pass `data` on to `user` (only valid until the next call), then shared_settle() it */
    SHARED_REFUSED, /* the server is no master, or no replica that can be asked: take no more requests, make
                       no new connection to it */
    SHARED_BROKEN,  /* it does not speak the protocol, or hangs up: shared_break(), with `unsent` */
};

struct shared_step {
    enum shared_what what;
    struct shared_user *user;
    const char *data;
    size_t len;
    bool part;      /* of a large reply; more of it, or its end, follows */
    bool unsent;    /* BROKEN: nothing that is pending was executed */
    uint64_t batch; /* besides: that inline batch is answered, … */
    uint32_t acks;  /* … so many replicas have it */
    bool no_acks;   /* … or it wasn't asked for after all */
};

void shared_free(struct shared *sh);
static inline uint64_t shared_count(const struct shared *sh)
{
    return sh->tail - sh->head;
}
bool shared_has_room(const struct shared *sh);
/* A large reply, and perhaps more of them, is to be dropped: better take no more requests here. */
bool shared_is_crowded(const struct shared *sh);
/* What its buffers take. It keeps them for what comes next, … */
size_t shared_memory_bytes(const struct shared *sh);
/* … until shared_rest() is called twice and nothing came: not so if it has little, or is in use. */
bool shared_may_rest(const struct shared *sh);
void shared_rest(struct shared *sh);

/* What the server is to be told first: n commands, whose replies are swallowed. It is done when
 * shared_count() is 0 again; a refusal is SHARED_BROKEN with `unsent`. ERR_NOMEM. */
int shared_begin(struct shared *sh, const char *data, size_t len, uint32_t n) MR_MUST_CHECK;
/* A PING, whose reply is swallowed: once shared_has_answered(its number) the server has had a turn since. 0:
 * it takes none now. */
uint64_t shared_echo(struct shared *sh);
static inline bool shared_has_answered(const struct shared *sh, uint64_t echo)
{
    return sh->head >= echo;
}
/* Takes the requests that `data` begins with, as far as they may be shared: whole ones, up to one that needs
 * a connection of its own, or a limit. Returns how many bytes were taken. The user's session must have no
 * request, and what it has on a shared connection must be on this one. */
size_t shared_take(struct shared *sh, struct shared_user *u, uint32_t now_ms, const char *data, size_t len);
/* The same for the requests that wait in its session. Returns how many were taken. */
unsigned shared_take_waiting(struct shared *sh, struct shared_user *u);
/* Does `data` begin with a whole request that may be shared? */
bool shared_may_take(const char *data, size_t len);

/* Behind everything that was taken follow a marker and WAIT, which is `text`, for that inline batch; none is
 * on its way here. ERR_NOMEM. */
int shared_ask(struct shared *sh, uint64_t batch, const char *text, size_t len) MR_MUST_CHECK;
/* What is to be written; len 0: nothing. */
struct buf_span shared_span(const struct shared *sh);
void shared_wrote(struct shared *sh, size_t n);
/* There is so much to be written that it should not wait for the end of the turn: the server, which has
 * nothing else to do, would stand still meanwhile; or a full batch, which gains nothing by more. beside: the
 * server has this thread's processor, so it stands still either way, and would take that in the middle of the
 * turn (50 clients, 16 SETs of 3 bytes at a time: 5 to 10 % slower). */
bool shared_is_due(const struct shared *sh, bool beside);

/* The server sent *len bytes at *data: moves both on, and says what to do next. */
void shared_take_reply(struct shared *sh, uint32_t now_ms, const char **data, size_t *len,
                       struct shared_step *step);
/* The master is lost, and replies of this user's that were held with it (session_take_step()): what it has on
 * a connection goes the same way. */
void shared_lost(struct shared_user *u, uint64_t epoch);
/* The user has been given everything that it was to get so far, what was held included. */
void shared_settle(struct shared_user *u, uint32_t now_ms);

/* The user doesn't take its replies, and was just given a whole one: what can be is asked for again on a
 * connection of its own, which can be left unread. What can't be (somebody writes) is still given to it,
 * until it is too much; then it is cut off. */
void shared_overflow(struct shared_user *u, uint32_t now_ms);

/* The connection is gone: everything goes back to the sessions. unsent: and none of it was executed. Then
 * shared_take_back() gives one user after the other that had something here, its session ready to go on, and
 * NULL at the end, when all is empty. epoch: of the connection. */
void shared_break(struct shared *sh, uint32_t now_ms, bool unsent);
struct shared_user *shared_take_back(struct shared *sh, uint32_t now_ms, uint64_t epoch);
/* The client is gone: replies that come for it are swallowed. */
void shared_leave(struct shared_user *u);

#endif
