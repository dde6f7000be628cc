/* Keeps /proxies/<id> in ZooKeeper for as long as this proxy lives, whoever deletes it: an ephemeral znode
 * that says who it is. */
#ifndef MR_PROXY_REGISTRATION_H
#define MR_PROXY_REGISTRATION_H

#include "common/core/topology_codec.h"

struct registration;
struct zk_session;

/* self is copied. ERR_TOO_LARGE, ERR_NOMEM. */
int registration_open(struct registration **out, struct zk_session *zk,
                      const struct topology_proxy *self) MR_MUST_CHECK;
/* It is something else (by the same id) that is to be said from the next registration on. */
void registration_describe(struct registration *r, const struct topology_proxy *self);
/* After zk_session_close(), which ends every callback. */
void registration_close(struct registration *r);
/* ZooKeeper is connected; fresh: with a new session, which has no ephemerals. */
void registration_renew(struct registration *r, bool fresh);
bool registration_is_done(const struct registration *r);

#endif
