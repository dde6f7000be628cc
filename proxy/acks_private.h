/* What the files of a strict instance's acknowledgements (acks*.c) know of each other; nobody else includes
 * this.
 *
 *   acks.c: what becomes of held replies, policies, routes, the turn's end
 *   acks_conn.c: the connections, and who they are */
#ifndef MR_PROXY_ACKS_PRIVATE_H
#define MR_PROXY_ACKS_PRIVATE_H

#include "common/core/list.h"
#include "common/core/resp.h"
#include "proxy/acks.h"
#include "proxy/core/durable.h"
#include "proxy/instance.h"
#include "proxy/tally.h"

enum { ACKS_REFUSED_MAX = 8 /* keys that are remembered as refused */ };

struct ack_conn {
    struct acks *acks;
    struct backend *backend;
    struct resp_reply reply;
    char number[24]; /* of the reply under way, when it is an integer */
    uint32_t number_len;
    uint32_t before; /* replies that come before the one that counts */
    int64_t sent_us; /* 0: nothing is due */
    bool ready;      /* it may PUBLISH and WAIT, and a master answers */
};

struct acks {
    struct instance *instance;
    struct durable durable;
    struct list dirty; /* of shard->acks */
    struct ack_conn conns[DURABLE_CONNS];
    struct topology_address master;
    uint64_t epoch;
    bool open;  /* connected, or connecting */
    bool fresh; /* open, but not all of them have been ready yet: nothing was sent that they are to confirm */
    bool wanted;         /* refused, but somebody came who hasn't been asked yet */
    bool inline_refused; /* PUBLISH or WAIT failed, though their user is the same: not again */
    bool refused;        /* nobody who was asked may PUBLISH: nothing is acknowledged */
    struct buf key;      /* what the connections are told first */
    uint32_t key_replies;
    uint32_t refused_keys[ACKS_REFUSED_MAX], n_refused;
    int64_t opened_us, looked_us, refused_us;
    struct tally tally;
};

int64_t acks_now_us(const struct acks *a);

/* ---- acks.c ---- */
/* The connections are closed; what is held stays. */
void acks_close_conns(struct acks *a);
/* All connections to the master are given up, and what is held is lost: no request that was sent before
 * counts with the acknowledgements of later connections. */
void acks_give_up(struct acks *a);
/* The same, of connections that broke. doubt: the master is to be looked after. */
void acks_lose(struct acks *a, const char *reason, bool doubt);

/* ---- acks_conn.c ---- */
/* Connects, as who the key says. */
void acks_connect(struct acks *a);
/* Asks; the answer that counts comes behind that many others. False: the connections are gone. */
bool acks_write(struct acks *a, struct ack_conn *conn, const char *data, size_t len, uint32_t before);
/* Its connections are told that first. */
bool acks_is_key(const struct acks *a, const struct buf *key);
/* Somebody who has something to say, and may perhaps PUBLISH: its key is taken. *refused: there are only such
 * as were refused. */
bool acks_find_key(struct acks *a, bool *refused);
/* While nobody may PUBLISH: is it time to look for somebody else? */
bool acks_may_look(struct acks *a);

#endif
