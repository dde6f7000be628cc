/* Requests without a master: which wait, which are sent again, which are answered by the proxy. Pure.
 *
 * When a connection is lost, in the order of the requests:
 *   not (entirely) written       waits for the next master; a STREAMED one that was begun is cut off
 *   written, repeatable (reads)  waits and is sent again, once; the second time: -MRUNKNOWN
 *   written, no data (PING)      waits and is sent again, whenever that happens
 *   written, may block           -UNBLOCKED, as Redis ends blocked clients at a demotion; but when it has
 *                                taken nothing for certain (a planned switchover, or the server itself said
 *                                -UNBLOCKED) it is sent again with what is left of its time
 *   written, anything else       -MRUNKNOWN
 *   MULTI … without its EXEC     nothing was executed: sent again if MULTI itself is unanswered; otherwise
 *                                the rest is answered +QUEUED here and its EXEC -EXECABORT
 *   MULTI … EXEC all written     EXEC answers -MRUNKNOWN
 *   keys were WATCHed            the next transaction is played here; its EXEC answers null
 *   answered, its reply held     durability strict: a write -MRUNKNOWN, a read is sent again */
#ifndef MR_PROXY_CORE_HOLD_H
#define MR_PROXY_CORE_HOLD_H

#include "common/core/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct session;
struct pipeline_entry;

/* How the transaction that the proxy plays by itself ends. */
enum hold_tx {
    HOLD_TX_NONE, /* none is played */
    HOLD_TX_LOST, /* -EXECABORT: the master changed */
    HOLD_TX_LATE, /* -EXECABORT: MULTI was held too long */
    HOLD_TX_BUSY, /* -EXECABORT: MULTI came while a script ran */
    HOLD_TX_NULL, /* null: the watched keys may have changed */
};

enum hold_answer {
    HOLD_OK,
    HOLD_QUEUED,
    HOLD_NULL,
    HOLD_ABORT_LOST,
    HOLD_ABORT_LATE,
    HOLD_ABORT_BUSY,
    HOLD_BUSY,
    HOLD_UNKNOWN,
    HOLD_TWICE, /* a read that was sent again already */
    HOLD_CUT,
    HOLD_LATE,
    HOLD_NO_ROUTE,
    HOLD_UNBLOCKED,
    HOLD_NESTED_MULTI,
    HOLD_WATCH_IN_MULTI,
    HOLD_PROTOCOL, /* the request is malformed; then the client is closed */
    HOLD_TOO_LARGE,
    HOLD_TOO_LARGE_END, /* then the client is closed */
    HOLD_TOO_MUCH,
    HOLD_UNREAD, /* then, and after the next, the client is closed */
    HOLD_UNREAD_ALL,
    HOLD_QUIT, /* +OK, then the client is closed */
    HOLD_REPLICATION,
    HOLD_UNACKED,     /* executed, but its master was lost before replicas acknowledged it */
    HOLD_SHORT_WRITE, /* executed, but too few replicas acknowledge it */
    HOLD_SHORT_READ,  /* it would tell of such a write */
    HOLD_NO_ACK,      /* WAIT: nobody is known to have it */
    HOLD_NO_ACK_AOF,
    HOLD_HANG_UP, /* no answer, the client is closed */
    HOLD_SEND,    /* none of them: it goes to the master */
};

enum { HOLD_TEXT_MAX = 512 };

/* The transaction that is played where the next request is to be judged. What was judged before may have
 * become unsent since, in front of one that is played already: each request remembers what is open behind it.
 */
enum hold_tx hold_playing(const struct session *s);
/* The answer to the next unsent request, e, if the proxy gives it itself; notes what is played behind it. */
enum hold_answer hold_judge(struct session *s, struct pipeline_entry *e);
/* The same, on a connection of a server that runs a script and so couldn't be told who speaks: what it would
 * answer. */
enum hold_answer hold_judge_busy(struct pipeline_entry *e);
/* The oldest request has been answered: removes it. */
void hold_pop(struct session *s);
/* The connection is lost: settles everything that was sent, and rewinds the pipeline. */
void hold_resolve(struct session *s, uint32_t now_ms);
/* The reply due is that of a blocked command, and it and all that was sent behind it can be sent again. */
bool hold_may_reissue(struct session *s);
/* That command has taken nothing, so nothing behind it was executed either: all wait for the next master. The
 * connection must be given up next. */
void hold_reissue(struct session *s, uint32_t now_ms);
/* The reply to e, which is ANSWERED, is lost with its master: it is answered, or sent again after
 * pipeline_rewind(). */
void hold_unanswer(struct session *s, struct pipeline_entry *e, uint32_t now_ms);
/* Replies that came behind a refused request were swallowed: their requests have had none. */
void hold_forget_drained(struct session *s);
/* It waits for a master: counted once. */
void hold_count(struct session *s, struct pipeline_entry *e);
/* Settles the unsent requests that have waited for hold_ms. */
void hold_expire(struct session *s, uint32_t now_ms);
/* Everything pending is answered with -MRNOROUTE. */
void hold_reject_all(struct session *s);
/* Writes the reply's bytes; returns their number. */
int hold_format(const struct session *s, enum hold_answer answer, char text[HOLD_TEXT_MAX]);
/* After this answer nothing more is sent to the client. */
bool hold_closes(enum hold_answer answer);

#endif
