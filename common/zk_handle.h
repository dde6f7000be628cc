/* One libzookeeper handle (one ZooKeeper session), and the thread that opens and closes handles.
 * Private to zk_session.c and zk_request.c.
 *
 *   library's threads ──zk_handle_push()──► queue ──ev_async──► loop's thread ──zk_handle_pop()──► callbacks
 *
 * zookeeper_init resolves names and zookeeper_close joins threads: both may block for seconds, so a thread of
 * our own does them. A handle belongs to the loop's thread until it is abandoned, then to that thread, which
 * frees it with all its requests and watches once the library can't touch them any more. */
#ifndef MR_COMMON_ZK_HANDLE_H
#define MR_COMMON_ZK_HANDLE_H

#include "common/core/list.h"
#include "common/zk_session.h"

#include <ev.h>
#include <zookeeper/zookeeper.h>

struct zk_handle_thread;
struct zk_handle;

enum zk_item_kind { ZK_ITEM_STATE, ZK_ITEM_REQUEST, ZK_ITEM_WATCH };

/* What travels from the library's threads to the loop; the first member of its owner. */
struct zk_item {
    struct list node;
    enum zk_item_kind kind;
};

/* A change of the session's state, with what can be asked of the handle only at that moment. */
struct zk_state_item {
    struct zk_item item;
    zhandle_t *zh;
    int state; /* ZOO_…_STATE */
    int64_t session_id;
    int timeout_ms;
};

/* Lives in its handle's `watches` until it has fired or its request has failed. fn NULL: nobody cares. */
struct zk_watch {
    struct zk_item item;
    struct list node;
    struct zk_handle *handle;
    zk_watch_fn fn;
    void *ctx;
    char path[]; /* as the caller wrote it: without the chroot */
};

struct zk_handle {
    zhandle_t *zh;        /* set once the library has told us that it is connected */
    struct list requests; /* struct zk_request: no answer yet */
    struct list ended;    /* struct zk_request: the caller was told an error, the library hasn't answered */
    struct list watches;  /* struct zk_watch */
    struct zk_handle_shared *shared;
};

/* hosts: without a chroot; copied. ERR_NOMEM. */
int zk_handle_thread_start(struct zk_handle_thread **out, const char *hosts, int timeout_ms) MR_MUST_CHECK;
/* Every handle has been abandoned. Waits at most wait_ms until all are closed; what lasts longer is finished
 * and freed behind the caller's back. */
void zk_handle_thread_stop(struct zk_handle_thread *thread, int wait_ms);

/* Starts opening a handle; `async` is sent whenever there is something to pop. NULL: out of memory. */
struct zk_handle *zk_handle_open(struct zk_handle_thread *thread, struct ev_loop *ev, ev_async *async);
/* Never touches `async` again once it returns; closes and frees the handle on the thread. */
void zk_handle_abandon(struct zk_handle_thread *thread, struct zk_handle *handle);

/* Library's threads: hands an item over. A handle that was abandoned meanwhile keeps it until it is freed. */
void zk_handle_push(struct zk_handle *handle, struct zk_item *item);
/* Loop's thread: the oldest item, or NULL. State items become the caller's to free. */
struct zk_item *zk_handle_pop(struct zk_handle *handle);

#endif
