/* What one client of the differential test says: random commands, of which it knows how many replies they
 * give.
 *
 * Every command answers the same on any fresh server of that version: keys have the client's prefix, nothing
 * depends on time, chance or the order of a hash table. What depends on other clients (PUBLISH to those who
 * listen, a push to who is blocked) has functions of its own, so that its moment can be chosen. */
#ifndef MR_TESTS_DIFFERENTIAL_SPEAKER_H
#define MR_TESTS_DIFFERENTIAL_SPEAKER_H

#include "common/core/buf.h"
#include "tests/differential/dice.h"

enum speaker_sort { SPEAKER_CHANNELS, SPEAKER_PATTERNS, SPEAKER_SHARDS, SPEAKER_SORTS };

/* The state of its connection, as Redis has it. */
struct speaker {
    unsigned id;
    struct dice *dice;
    unsigned resp; /* 2 or 3 */
    bool multi;
    bool tracking;                     /* it may be told at any time what others, or it, changed */
    uint8_t subscribed[SPEAKER_SORTS]; /* bit sets */
    /* What it is saying now: */
    struct buf *out;
    unsigned replies; /* that it gives, all pushes that confirm something included; invalidations aren't */
    uint64_t commands;
    bool refused; /* MULTI was */
    bool ends;    /* the server closes the connection then */
};

void speaker_init(struct speaker *s, unsigned id, struct dice *dice);
/* The connection is new. */
void speaker_reset(struct speaker *s);
/* What follows is appended to `out`, and counted anew. */
void speaker_begin(struct speaker *s, struct buf *out);

/* About n commands. */
void speaker_say(struct speaker *s, unsigned n);
/* What makes the server hang up: QUIT, or what it can't read. */
void speaker_say_last(struct speaker *s);
/* Forgets the state of its connection. Before it is closed: the server might otherwise count its
 * subscriptions a little longer behind a proxy. */
void speaker_say_reset(struct speaker *s);
/* A command that answers at once, whatever the state; for knowing that nothing else comes. */
void speaker_say_ping(struct speaker *s);

/* May it say ordinary commands that are executed at once? */
bool speaker_is_free(const struct speaker *s);
/* Publishes; *sort, *channel: where to. Only when it is free. */
void speaker_publish(struct speaker *s, enum speaker_sort *sort, unsigned *channel);
/* How many messages that gives this client. */
unsigned speaker_hears(const struct speaker *s, enum speaker_sort sort, unsigned channel);

/* The same, and nothing of what others do concerns it. */
bool speaker_may_block(const struct speaker *s);
/* Empties what it is going to wait for; then one command that blocks until speaker_release() of another
 * client, which may also come first. `how` is any number, the same for both. Only when it is free. */
void speaker_prepare_block(struct speaker *s);
void speaker_block(struct speaker *s, unsigned how);
void speaker_release(struct speaker *s, unsigned blocked_id, unsigned how);

#endif
