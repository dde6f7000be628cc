/* One command as text with placeholders, made into bytes: RESP or inline.
 *
 * Placeholders: %k a key of the client, %k0 its first one, %v a value, %b a large one, %n an integer, %f a
 * number, %p an offset, %d a database, %l a hash's field, %s a script of the client, %h its hash,
 * %r how many replicas WAIT waits for. */
#ifndef MR_TESTS_DIFFERENTIAL_PHRASE_H
#define MR_TESTS_DIFFERENTIAL_PHRASE_H

#include "common/core/buf.h"
#include "tests/differential/dice.h"

enum { PHRASE_MAX = 256 };

/* A random command that gives one reply and leaves the connection as it is (but for its database and name).
 */
const char *phrase_pick(struct dice *dice);
/* The servers have replicas: how many of them WAIT tells nobody can foresee, so it is told nonsense. */
void phrase_expect_replicas(void);
/* Appends it, said by client `id`. is_inline: as a line, if it has no large value. */
void phrase_append(struct buf *out, struct dice *dice, unsigned id, const char *words, bool is_inline);

#endif
