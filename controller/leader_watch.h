/* Does the leader's process still live? One TCP connection to it, so that its end is an event.
 *
 *   leader's process ends ─ FIN, RST ─► connect again ─ refused ─► on_gone ─► zk_store_leader_gone ─► next
 * leader
 *
 * Without it a standby waits for ZooKeeper to time the dead leader's session out. Only a refused connection
 * after one that stood in the same term counts: the host answers, and nobody listens there any more. A leader
 * that is stopped or can't be reached is the session's matter. The connection goes to the leader's vote port,
 * which is open to the other controllers wherever HTTP is bound to; to its HTTP port when it has none. */
#ifndef MR_CONTROLLER_LEADER_WATCH_H
#define MR_CONTROLLER_LEADER_WATCH_H

#include "common/core/topology_codec.h"

struct loop;
struct leader_watch;

/* The leader of that id and term refuses connections; again at each attempt, ten times a second, until
 * another leader is set. From the loop, never inside a call of this module. */
typedef void (*leader_watch_fn)(void *ctx, const char *id, uint64_t term);

/* ERR_NOMEM. */
int leader_watch_open(struct leader_watch **out, struct loop *loop, leader_watch_fn on_gone,
                      void *ctx) MR_MUST_CHECK;
void leader_watch_close(struct leader_watch *w); /* no callback after this */

/* Whom to watch: the id and term of the leader as zk_store tells them to a standby; "" and 0 while we lead or
 * nobody is known. Nothing happens until that controller is registered. */
void leader_watch_set_leader(struct leader_watch *w, const char *id, uint64_t term);
/* The registered controllers: where to find it. Copied. ERR_NOMEM: what was known stays. */
int leader_watch_set_controllers(struct leader_watch *w, const struct topology_controller *list,
                                 size_t n) MR_MUST_CHECK;

#endif
