/* One call to libzookeeper and its answer on the way back to the loop. Private to zk_session.c.
 *
 * Paths here are full (the chroot is in them). Each function returns 0 and the request sits in its handle's
 * list until it is delivered, or it returns a code and nothing was begun. */
#ifndef MR_COMMON_ZK_REQUEST_H
#define MR_COMMON_ZK_REQUEST_H

#include "common/zk_handle.h"

struct zk_request;

enum zk_request_kind {
    ZK_REQUEST_GET,
    ZK_REQUEST_EXISTS,
    ZK_REQUEST_CHILDREN,
    ZK_REQUEST_CREATE,
    ZK_REQUEST_SET,
    ZK_REQUEST_DELETE,
    ZK_REQUEST_MULTI,
    ZK_REQUEST_SYNC,
};

/* The caller's callback; which one follows from the kind. */
union zk_done {
    zk_done_fn done; /* DELETE, SYNC */
    zk_stat_fn stat; /* EXISTS, SET */
    zk_path_fn path; /* CREATE */
    zk_data_fn data;
    zk_children_fn children;
    zk_multi_fn multi;
};

struct zk_call {
    enum zk_request_kind kind;
    const char *path; /* full */
    const char *data; /* CREATE, SET */
    size_t len;
    int32_t version;      /* SET, DELETE */
    int flags;            /* CREATE: ZK_EPHEMERAL | ZK_SEQUENTIAL */
    size_t prefix_len;    /* bytes of the chroot, cut off paths that come back */
    zk_watch_fn watch;    /* GET, EXISTS, CHILDREN; may be NULL */
    const char *ops_root; /* MULTI: the chroot, put in front of each op's path */
    const struct zk_op *ops;
    size_t n_ops;
    union zk_done done;
    void *ctx;
};

int zk_request_send(struct zk_handle *handle, const struct zk_call *call) MR_MUST_CHECK;
/* Loop's thread, with an item popped from the handle: calls back (unless it was ended) and frees it. */
void zk_request_deliver(struct zk_item *item);
/* Loop's thread: tells the caller of a request without an answer that it failed with err. */
void zk_request_end(struct zk_request *request, int err);
/* The oldest request without an answer, or NULL. */
struct zk_request *zk_request_first(struct zk_handle *handle);
/* Frees without calling anybody back. */
void zk_request_free_node(struct list *node);

/* Fires a watch that was popped from the handle, and frees it. */
void zk_request_deliver_watch(struct zk_watch *watch);

/* libzookeeper's code as one of ours. */
int zk_request_error(int rc);

#endif
