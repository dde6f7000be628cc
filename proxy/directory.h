/* Who the controllers are and where they publish: /controllers in ZooKeeper, followed by a watch.
 *
 * Callbacks run on the loop, never inside a call of this module. */
#ifndef MR_PROXY_DIRECTORY_H
#define MR_PROXY_DIRECTORY_H

#include "common/core/topology_codec.h"

struct directory;
struct zk_session;

enum { DIRECTORY_MAX = 16 }; /* controllers; more are ignored, by name in the log */

/* The list as it is now; it may be what it was. Borrowed for the call. */
typedef void (*directory_fn)(void *ctx, const struct topology_controller *controllers, size_t n);

int directory_open(struct directory **out, struct zk_session *zk, directory_fn on_list,
                   void *ctx) MR_MUST_CHECK;
/* After zk_session_close(), which ends every callback. */
void directory_close(struct directory *d);
/* Reads the list and follows it. To be called whenever ZooKeeper is connected; fresh: the session is a new
 * one, so the old watch is gone. */
void directory_read(struct directory *d, bool fresh);

#endif
