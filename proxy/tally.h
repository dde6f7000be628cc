/* Keeps an instance's counters of bytes and memory up to date, by the differences. */
#ifndef MR_PROXY_TALLY_H
#define MR_PROXY_TALLY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct client;
struct instance;
struct shard;

/* What a client, or a connection that clients share, was counted with. */
struct tally {
    size_t memory_bytes, held_bytes, unread_bytes;
};

/* The client's buffers may have changed; or it goes. */
void tally_client(struct client *c);
void tally_forget_client(struct client *c);
/* Something of the instance takes that much memory now. */
void tally_memory(struct instance *i, struct tally *t, size_t memory_bytes);
/* The same of replies that are held: as unread ones they use up what all of those may take. */
void tally_replies(struct instance *i, struct tally *t, size_t memory_bytes);
/* Requests come in, replies go out: what their latency is reckoned from. The clock is read once a turn. */
void tally_arrival(struct shard *shard);
/* n: bytes that came; none or less: nothing did. */
void tally_reply(struct shard *shard, ssize_t n);

#endif
