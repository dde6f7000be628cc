/* Reads a folder of ZooKeeper, once, blocking: what mrctl needs when it has no controller to ask. */
#ifndef MR_MRCTL_ZK_READ_H
#define MR_MRCTL_ZK_READ_H

#include "common/core/topology_codec.h"

/* Calls on_node for every child of the folder ("/controllers"), in the order of their names, within the call.
 * hosts as in zk_session.h. A child that vanishes meanwhile is skipped. ERR_UNREACHABLE: nobody answered
 * within timeout_ms; ERR_INVALID: hosts don't parse; else as in zk_session.h. why gets one sentence. */
typedef void (*zk_read_fn)(void *ctx, const char *name, const char *data, size_t len);
int zk_read_folder(const char *hosts, const char *folder, int timeout_ms, zk_read_fn on_node, void *ctx,
                   char *why, size_t why_size) MR_MUST_CHECK;

#endif
