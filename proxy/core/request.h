/* What a request means for its connection: does it change it, how many replies, may it be sent twice? Pure.
 */
#ifndef MR_PROXY_CORE_REQUEST_H
#define MR_PROXY_CORE_REQUEST_H

#include "common/core/resp.h"
#include "proxy/core/pipeline.h"

enum request_kind {
    REQUEST_PLAIN,
    REQUEST_MULTI,
    REQUEST_EXEC,
    REQUEST_DISCARD,
    REQUEST_WATCH,
    REQUEST_UNWATCH,
    REQUEST_SUBSCRIBE, /* the three of each in the order channels, patterns, shard channels */
    REQUEST_PSUBSCRIBE,
    REQUEST_SSUBSCRIBE,
    REQUEST_UNSUBSCRIBE,
    REQUEST_PUNSUBSCRIBE,
    REQUEST_SUNSUBSCRIBE,
    REQUEST_MONITOR,
    REQUEST_QUIT,
    REQUEST_RESET,
    REQUEST_AUTH,
    REQUEST_HELLO,
    REQUEST_SELECT,
    REQUEST_SETNAME,
    REQUEST_SETINFO,
    REQUEST_NO_EVICT,
    REQUEST_NO_TOUCH,
    REQUEST_TRACKING,
    REQUEST_REPLY_ON,
    REQUEST_REPLY_OFF,
    REQUEST_REPLY_SKIP,
    REQUEST_EVAL,
    REQUEST_EVALSHA,
    REQUEST_SCRIPT_LOAD,
    REQUEST_SCRIPT_FLUSH,
    REQUEST_WAIT,        /* takes as long as replicas take, perhaps for ever */
    REQUEST_WAITAOF,     /* likewise */
    REQUEST_KILL,        /* SCRIPT KILL and what else a server takes from anybody while a script runs */
    REQUEST_REPLICATION, /* SYNC, PSYNC: turn the connection into something that isn't requests and replies */
    REQUEST_READONLY,    /* this client reads from replicas, as far as there are any, … */
    REQUEST_READWRITE,   /* … from the master, whatever the instance's policy; the proxy answers both */
    REQUEST_HTTP,        /* POST, Host: a browser was tricked into talking to us; Redis hangs up too */
};

struct request_class {
    uint8_t kind;
    bool repeatable;  /* may be sent again although it may have been executed */
    bool light;       /* of those: it asks for no data (PING), so no server is lost by it */
    bool blocking;    /* may wait in Redis for an event */
    bool shareable;   /* see request_share() */
    bool replica;     /* a replica may answer it */
    uint32_t replies; /* 0: as many as there are subscriptions (UNSUBSCRIBE of everything) */
};

/* Classifies a framed request. bytes is all of it, or NULL when it is too long to be kept (then a third
 * argument isn't looked at). */
void request_classify(const struct resp_request *r, const char *bytes, size_t len, struct request_class *out);

/* May it go over a connection that several clients share? It must neither depend on the connection, nor
 * change it, nor hold it up. Then kind, repeatable, light and replica are set as by request_classify(). */
bool request_share(const struct resp_request *r, struct request_class *out);

/* What of it is kept as flags of its pipeline_entry. */
static inline uint16_t request_flags(const struct request_class *class)
{
    return (class->repeatable ? PIPELINE_REPEAT : 0) | (class->light ? PIPELINE_LIGHT : 0) |
           (class->replica ? PIPELINE_REPLICA : 0);
}
static inline bool request_is_subscribe(uint8_t kind)
{
    return kind >= REQUEST_SUBSCRIBE && kind <= REQUEST_SSUBSCRIBE;
}
static inline bool request_is_unsubscribe(uint8_t kind)
{
    return kind >= REQUEST_UNSUBSCRIBE && kind <= REQUEST_SUNSUBSCRIBE;
}
static inline bool request_is_reads(uint8_t kind)
{
    return kind == REQUEST_READONLY || kind == REQUEST_READWRITE;
}
static inline bool request_is_wait(uint8_t kind)
{
    return kind == REQUEST_WAIT || kind == REQUEST_WAITAOF;
}
/* Changes the connection, so that the next backend has to be told too. */
static inline bool request_is_session(uint8_t kind)
{
    return kind >= REQUEST_AUTH && kind <= REQUEST_TRACKING;
}

#endif
