/* One persistent, supervised connection to a redis-server: connect and reply deadlines, login, reconnect.
 *
 * States: CONNECTING → (AUTH, CLIENT SETNAME) → UP → DOWN → CONNECTING … A broken connection (FIN/RST) is
 * reported in the turn it is seen, and the first reconnect starts at once, so that a refusal (the process is
 * gone) is known within a millisecond; later ones back off from reconnect_min_ms to reconnect_max_ms.
 * TCP_NODELAY, keepalive and TCP_USER_TIMEOUT are set. Callbacks never run inside a call of this module. */
#ifndef MR_COMMON_REDIS_LINK_H
#define MR_COMMON_REDIS_LINK_H

#include "common/core/err.h"
#include "common/core/topology.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct redisReply;
struct redis_link;

struct redis_link_config {
    struct topology_address address;
    struct topology_auth auth; /* both "": no AUTH */
    const char *client_name;   /* CLIENT SETNAME; NULL: none. Copied */
    int connect_timeout_ms;    /* per attempt */
    int reply_timeout_ms;      /* oldest unanswered command; 0: none. Passing it breaks the connection */
    int reconnect_min_ms, reconnect_max_ms;
    void (*on_up)(void *ctx); /* connected and logged in */
    /* Also called for each failed attempt (attempts are what tell REFUSED from silence).
     * reason: ERR_CLOSED (FIN or RST on an established connection), ERR_REFUSED, ERR_UNREACHABLE,
     * ERR_TIMEOUT (connect or reply), ERR_AUTH (login refused, or "ERR max number of clients reached"),
     * ERR_PROTOCOL (not a Redis), ERR_IO. text: the system's or the server's own words, borrowed. */
    void (*on_down)(void *ctx, int reason, const char *text);
    void *ctx;
};

/* Starts connecting. ERR_INVALID, ERR_NOMEM. */
int redis_link_open(struct redis_link **out, struct loop *loop,
                    const struct redis_link_config *config) MR_MUST_CHECK;
/* No callback after this, replies to commands under way included. Safe inside a callback of this link. */
void redis_link_close(struct redis_link *link);

bool redis_link_is_up(const struct redis_link *link);
/* Reconnect now instead of at the end of the back-off (somebody hinted that it is worth it). */
void redis_link_nudge(struct redis_link *link);
/* Gives the connection, or the attempt, up (ERR_TIMEOUT, with `why` as its text; kept by reference) and
 * connects at once: the peer answers new connections, so waiting for TCP to repeat itself would take longer.
 * An answer that arrives first keeps it. Back-off: as redis_link_nudge(). */
void redis_link_renew(struct redis_link *link, const char *why);

/* Up: since when the oldest unanswered command is on its way (now, when it leaves at the end of this turn);
 * 0: all is answered, or the link isn't up. Monotonic microseconds, as the next. */
int64_t redis_link_waiting_us(const struct redis_link *link);
/* When the newest attempt to connect began; 0: none yet. */
int64_t redis_link_tried_us(const struct redis_link *link);

/* err 0: reply is borrowed for the call (it may be an error reply: REDIS_REPLY_ERROR).
 * Otherwise reply is NULL: ERR_CLOSED, ERR_TIMEOUT, …: the connection broke, the outcome is unknown. */
typedef void (*redis_reply_fn)(void *ctx, int err, const struct redisReply *reply);

/* Sends argv (argc strings); ERR_CONNECTION while not up, ERR_NOMEM (the connection is given up, and nothing
 * of this turn is sent, so that no half pipeline is); then no callback. Written at the end of the turn
 * with what else is queued. done may be NULL. */
int redis_link_command(struct redis_link *link, redis_reply_fn done, void *ctx, int argc,
                       const char *const *argv) MR_MUST_CHECK;

#endif
