/* Reads every instance record from ZooKeeper, many at a time, without ever holding up the loop.
 *
 *   read: sync ─► children of /instances ─► up to SNAPSHOT_WINDOW gets in flight ─► done
 *   with watches: each record and the list are watched; a record that changed is read again by itself
 *
 * A record that can't be used is reported by name and costs nothing else. Callbacks run on the loop, never
 * inside a call of this module. */
#ifndef MR_PROXY_SNAPSHOT_H
#define MR_PROXY_SNAPSHOT_H

#include "common/core/topology.h"

struct snapshot;
struct zk_session;

enum { SNAPSHOT_WINDOW = 128 };

struct snapshot_config {
    struct zk_session *zk; /* borrowed */
    /* revision: the record's mzxid. of_read: part of the read under way, so no older than its sync; else a
     * watch fired. */
    void (*on_record)(void *ctx, const struct topology_instance *instance, uint64_t revision, bool of_read);
    void (*on_bad)(void *ctx, const char *name, const char *why);
    /* The read is over; err 0: it was complete. */
    void (*on_done)(void *ctx, int err);
    /* The list of instances changed; told once per read with watches. */
    void (*on_moved)(void *ctx);
    void *ctx;
};

int snapshot_open(struct snapshot **out, const struct snapshot_config *config) MR_MUST_CHECK;
/* After zk_session_close(), which ends every callback. */
void snapshot_close(struct snapshot *s);
/* Begins a read; one that is under way is forgotten (no on_done for it). Without watch, those still armed
 * are not followed any more. ERR_CONNECTION, ERR_NOMEM. */
int snapshot_read(struct snapshot *s, bool watch) MR_MUST_CHECK;
/* Forgets the read under way, if any: the connection is lost. */
void snapshot_cancel(struct snapshot *s);
/* The session is a new one: the old one's watches are gone. */
void snapshot_forget_watches(struct snapshot *s);

#endif
