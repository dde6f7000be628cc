/* The proxy's ears and mouth on nanomsg: subscribed to every controller, speaking to the leader.
 *
 *   controllers' PUB ──► one SUB link ──► decoded messages        acks, hints ──► one PUSH link ──► leader
 *
 * What can't be decoded is one log line (at most one a second) and nothing else. */
#ifndef MR_PROXY_SUBSCRIBER_H
#define MR_PROXY_SUBSCRIBER_H

#include "common/core/message.h"
#include "common/core/topology_codec.h"

struct loop;
struct nn_link_key;
struct subscriber;

typedef void (*subscriber_fn)(void *ctx, const struct message *message);

int subscriber_open(struct subscriber **out, struct loop *loop, const struct nn_link_key *key,
                    subscriber_fn on_message, void *ctx) MR_MUST_CHECK;
void subscriber_close(struct subscriber *s); /* no callback after this */
/* Connects to those that are new and leaves those that are gone. Copied. */
void subscriber_set_controllers(struct subscriber *s, const struct topology_controller *controllers,
                                size_t n);
/* Every connection anew: a peer that vanished without a FIN leaves a subscriber deaf for good. */
void subscriber_reconnect(struct subscriber *s);
/* Whom to speak to: a controller's id; it may be announced in ZooKeeper later than in its beats. */
void subscriber_follow(struct subscriber *s, const char *leader);
/* To the leader. It may get lost (nobody connected): the sender must not count on it. */
void subscriber_send(struct subscriber *s, const struct message *m);

size_t subscriber_controllers(const struct subscriber *s); /* how many it is subscribed to */
uint64_t subscriber_garbled(const struct subscriber *s);   /* ignored so far: signature, size, content */

#endif
