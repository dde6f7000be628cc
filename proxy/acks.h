/* Durability strict of one instance in one thread: the connections that ask for acknowledgements, and what
 * becomes of the replies that wait for them (core/durable.h decides; this moves bytes).
 *
 *   replies taken ─► acks_touch() ─(end of turn)─► marker, WAIT ─► ack connection ─► master
 *   clients ◄── client_pass() ◄── core/durable ◄── WAIT's answer ◄──────┘
 *
 * All ack connections are opened together, when the first request comes that touches data, and kept. Requests
 * that touch data are only sent while they are open: so a master that has restarted can't acknowledge for the
 * one before it. Nor is anything read from who is no master any more, or came back as a replica, before the
 * proxy has heard of that: those refuse to WAIT. When one of them breaks, all connections to the master are
 * given up.
 *
 * They say to the master who they are as a client does that has something to say; who must not PUBLISH gets
 * -MRDURABILITY at once. */
#ifndef MR_PROXY_ACKS_H
#define MR_PROXY_ACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ACKS_TEXT_MAX = 256 /* a marker and WAIT */ };

struct buf;
struct instance;
struct shard;

/* The route, with its policy, was set; before anything else is done about it. */
void acks_set_policy(struct instance *i);
/* The instance's connections are about to follow the route. The connections to another master than it says
 * are given up; what is held is released if that was left in order (i->env.planned), and lost otherwise. */
void acks_follow(struct instance *i);
/* They do now. */
void acks_followed(struct instance *i);
/* Requests that touch data may be sent, of a client whose connections are told that first. */
bool acks_let(struct instance *i, const struct buf *key);
/* Requests are about to be written, over a connection that is told that first. The number of an inline batch
 * (durable.h), and in text, of at least ACKS_TEXT_MAX bytes, what is to be written behind them; 0: nothing
 * is. */
uint64_t acks_begin_inline(struct instance *i, const struct buf *key, char *text, size_t *len);
/* So many replicas have it. */
void acks_answered_inline(struct instance *i, uint64_t batch, uint32_t n);
/* It wasn't asked for, or nobody will know: the ack connections ask. refused: nothing more is asked for
 * inline. */
void acks_lost_inline(struct instance *i, uint64_t batch, bool refused);
/* Replies were taken: at the end of the turn it is looked after them. */
void acks_touch(struct instance *i);
/* The end of a turn. */
void acks_settle(struct shard *shard);
/* Connects, if somebody waits for it and it is allowed. */
void acks_pump(struct instance *i);
bool acks_need_time(const struct instance *i);
void acks_tick(struct instance *i, int64_t now_us);
/* For how many acknowledgements replies are held; 0: they aren't. */
uint32_t acks_asked(const struct instance *i);
/* Replies that are held. */
uint64_t acks_held(const struct instance *i);
/* Since when an answer is overdue; 0: none is. */
int64_t acks_silent_since_us(const struct instance *i);
/* The instance goes: what is held is lost. Then, without clients, all of it is freed. */
void acks_close(struct instance *i);
void acks_free(struct instance *i);

#endif
