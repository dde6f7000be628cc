/* Who answers what a client reads through the proxy: for tests with real redis-servers. */
#ifndef MR_TESTS_LIB_SERVED_H
#define MR_TESTS_LIB_SERVED_H

#include "tests/lib/proxy_rig.h"

/* How often the server has executed that command (lower case). */
long served_calls(const struct redis_server *s, const char *command);
/* GETs "k" again and again, until it is that server that answers: until its connection is there the master
 * serves.
 */
void served_wait_by(struct proxy_rig *r, struct redisContext *c, struct redis_server *by);
/* The replica has all that the master has. */
void served_wait_in_step(struct proxy_rig *r);

#endif
