/* What a client has told its connection, so that the next backend can be told the same. Pure.
 *
 * Only what the server has acknowledged is remembered, as canonical commands; remember_write() puts them in
 * the order in which they make sense: who, which protocol, which database, names, subscriptions. */
#ifndef MR_PROXY_CORE_REMEMBER_H
#define MR_PROXY_CORE_REMEMBER_H

#include "common/core/buf.h"
#include "proxy/core/names.h"
#include "proxy/core/request.h"

enum {
    REMEMBER_NAMES_BYTES_MAX = 1024 * 1024, /* of all subscriptions of one client */
    REMEMBER_NAMES_MAX = 64 * 1024,
    REMEMBER_TEXT_MAX = 16 * 1024, /* of one command */
};

/* The order of sending. */
enum remember_slot {
    REMEMBER_AUTH,
    REMEMBER_HELLO,
    REMEMBER_SELECT,
    REMEMBER_NAME,
    REMEMBER_LIB_NAME,
    REMEMBER_LIB_VER,
    REMEMBER_NO_EVICT,
    REMEMBER_NO_TOUCH,
    REMEMBER_TRACKING,
    REMEMBER_SLOTS
};

enum remember_set { REMEMBER_CHANNELS, REMEMBER_PATTERNS, REMEMBER_SHARDS, REMEMBER_SETS };

struct remember_text; /* length and bytes of the commands of a slot */

/* All zeroes: nothing is remembered. */
struct remember {
    struct remember_text *slots[REMEMBER_SLOTS];
    struct remember_text *queued_select; /* inside of the open transaction: the last one */
    uint8_t queued_at;                   /* which of its commands that is; 63: that one, or a later one */
    bool queued_more;                    /* it isn't the only one */
    struct names sets[REMEMBER_SETS];
    bool monitor;
    bool reply_off;
    bool incomplete; /* something couldn't be remembered: another backend can't be made to look the same */
};

void remember_free(struct remember *m);
static inline uint32_t remember_subscriptions(const struct remember *m)
{
    return m->sets[0].count + m->sets[1].count + m->sets[2].count;
}
static inline bool remember_is_tracking(const struct remember *m)
{
    return m->slots[REMEMBER_TRACKING] != NULL;
}
/* The server pushes to this client without being asked: it must not stay without a backend. */
static inline bool remember_is_pushed_to(const struct remember *m)
{
    return remember_subscriptions(m) > 0 || m->monitor || remember_is_tracking(m);
}

/* Another connection that was told who, which protocol and which database serves this client as well as one
 * of its own. */
static inline bool remember_may_share(const struct remember *m)
{
    return !remember_is_pushed_to(m) && !m->reply_off && !m->incomplete && !m->queued_select &&
           !m->slots[REMEMBER_NO_EVICT] && !m->slots[REMEMBER_NO_TOUCH];
}
/* Appends what such a connection has to be told; returns how many replies that gives, or ERR_NOMEM. */
int remember_write_share(const struct remember *m, struct buf *out);

/* A request of a kind of request_is_session() was answered with success. *resp: 2 or 3, changed by HELLO. */
void remember_command(struct remember *m, uint8_t kind, const char *bytes, size_t len, uint8_t *resp);
/* SELECT was queued in a transaction, as command `at` of it; the transaction ended, with these errors (as
 * resp_reply has them): a SELECT that was among them changed nothing. */
void remember_queue_select(struct remember *m, uint32_t at, const char *bytes, size_t len);
void remember_exec(struct remember *m, bool executed, uint64_t errors);
/* How many subscriptions a request of that kind (request_is_unsubscribe()) would end. */
uint32_t remember_count_of(const struct remember *m, uint8_t kind);
/* A confirmation of (p|s)(un)subscribe: its bytes. False: it isn't a well-formed one. */
bool remember_confirmation(struct remember *m, const char *bytes, size_t len);

/* Appends everything, to be sent before anything else on a new backend; returns how many replies that gives
 * (confirmations of subscriptions included), or ERR_NOMEM. */
int remember_write(const struct remember *m, struct buf *out);

#endif
