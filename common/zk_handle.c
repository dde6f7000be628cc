#include "common/zk_handle.h"

#include "common/log.h"
#include "common/zk_request.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ZK_HANDLE_RETRY_MS = 1000 }; /* between attempts to resolve the host names */

struct zk_handle_shared {
    pthread_mutex_t lock; /* guards the queue and the loop's address */
    struct list queue;    /* struct zk_item, oldest first */
    bool abandoned;
    struct ev_loop *ev;
    ev_async *async;

    zhandle_t *zh;       /* the thread's: what zookeeper_init returned */
    struct list closing; /* in the thread's list of handles to close */
    struct zk_handle handle;
};

struct zk_handle_thread {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    struct zk_handle_shared *opening;
    struct list closing;
    bool stop, finished;
    int users; /* the thread and the session; the last one frees */
    int timeout_ms;
    char hosts[];
};

static void zk_handle_deadline(struct timespec *ts, int ms)
{
    (void)clock_gettime(CLOCK_MONOTONIC, ts);
    ts->tv_sec += ms / 1000;
    ts->tv_nsec += (long)(ms % 1000) * 1000000;
    if (ts->tv_nsec >= 1000000000) {
        ts->tv_sec++;
        ts->tv_nsec -= 1000000000;
    }
}

/* The library's own lines tell of attempts and retries; ours tell of states. They are for debugging only. */
static void zk_handle_on_log(const char *message)
{
    const char *text = strstr(message, "ZOO_"); /* skips its own date and thread */

    log_debug("event=zk.library say=\"%s\"", text != NULL ? text : message);
}

/* The library's completion thread: the handle's session changed its state. */
static void zk_handle_on_session(zhandle_t *zh, int type, int state, const char *path, void *ctx)
{
    struct zk_handle *handle = ctx;
    struct zk_state_item *s;

    (void)path;
    if (type != ZOO_SESSION_EVENT)
        return;
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        /* Without it the owner would go on believing in a session that is lost. */
        log_error("event=zk.nomem say=\"out of memory when the ZooKeeper session changed; giving up\"");
        abort();
    }
    s->item.kind = ZK_ITEM_STATE;
    s->zh = zh;
    s->state = state;
    s->session_id = zoo_client_id(zh)->client_id;
    s->timeout_ms = zoo_recv_timeout(zh);
    zk_handle_push(handle, &s->item);
}

static void zk_handle_free(struct zk_handle_shared *s)
{
    list_for_each(node, &s->queue)
    {
        struct zk_item *item = list_entry(node, struct zk_item, node);

        list_remove(node);
        if (item->kind == ZK_ITEM_STATE)
            free(item);
    }
    list_for_each(node, &s->handle.requests) zk_request_free_node(node);
    list_for_each(node, &s->handle.ended) zk_request_free_node(node);
    list_for_each(node, &s->handle.watches) free(list_entry(node, struct zk_watch, node));
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Called with the lock held; leaves it for the blocking call. */
static void zk_handle_thread_open(struct zk_handle_thread *t)
{
    struct zk_handle_shared *s = t->opening;
    struct timespec until;

    t->opening = NULL;
    pthread_mutex_unlock(&t->lock);
    s->zh = zookeeper_init2(t->hosts, zk_handle_on_session, t->timeout_ms, NULL, &s->handle,
                            ZOO_NO_LOG_CLIENTENV, zk_handle_on_log);
    if (s->zh == NULL)
        log_warn("event=zk.open_failed hosts=%s errno=%d say=\"a host name does not resolve, or there are no "
                 "descriptors left; trying again\"",
                 t->hosts, errno);
    pthread_mutex_lock(&t->lock);
    if (s->zh != NULL)
        return;
    zk_handle_deadline(&until, ZK_HANDLE_RETRY_MS);
    while (!t->stop && list_empty(&s->closing)) {
        if (pthread_cond_timedwait(&t->changed, &t->lock, &until) == ETIMEDOUT)
            break;
    }
    if (!t->stop && list_empty(&s->closing))
        t->opening = s;
}

static void zk_handle_thread_close(struct zk_handle_thread *t)
{
    struct list *node = list_first(&t->closing);
    struct zk_handle_shared *s = list_entry(node, struct zk_handle_shared, closing);

    list_remove(node);
    pthread_mutex_unlock(&t->lock);
    if (s->zh != NULL)
        (void)zookeeper_close(s->zh);
    zk_handle_free(s);
    pthread_mutex_lock(&t->lock);
}

/* Called with the lock held, which it releases. */
static void zk_handle_thread_leave(struct zk_handle_thread *t)
{
    bool last = --t->users == 0;

    pthread_mutex_unlock(&t->lock);
    if (last) {
        pthread_cond_destroy(&t->changed);
        pthread_mutex_destroy(&t->lock);
        free(t);
    }
}

static void *zk_handle_thread_main(void *p)
{
    struct zk_handle_thread *t = p;

    pthread_mutex_lock(&t->lock);
    for (;;) {
        if (t->opening != NULL) /* first: closing an expired handle must not delay its successor */
            zk_handle_thread_open(t);
        else if (!list_empty(&t->closing))
            zk_handle_thread_close(t);
        else if (t->stop)
            break;
        else
            pthread_cond_wait(&t->changed, &t->lock);
    }
    t->finished = true;
    pthread_cond_broadcast(&t->changed);
    zk_handle_thread_leave(t);
    return NULL;
}

int zk_handle_thread_start(struct zk_handle_thread **out, const char *hosts, int timeout_ms)
{
    struct zk_handle_thread *t = calloc(1, sizeof(*t) + strlen(hosts) + 1);
    pthread_condattr_t clock;
    sigset_t all, before;
    pthread_t id;
    int rc;

    if (t == NULL)
        return ERR_NOMEM;
    memcpy(t->hosts, hosts, strlen(hosts) + 1);
    t->timeout_ms = timeout_ms;
    t->users = 2;
    list_init(&t->closing);
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &clock);
    pthread_condattr_destroy(&clock);
    zoo_set_debug_level(log_enabled(LOG_LEVEL_DEBUG) ? ZOO_LOG_LEVEL_INFO : ZOO_LOG_LEVEL_ERROR);

    /* Signals are the main thread's. The library's threads inherit this mask from ours. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&id, NULL, zk_handle_thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&t->changed);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return ERR_NOMEM;
    }
    pthread_detach(id);
    *out = t;
    return 0;
}

void zk_handle_thread_stop(struct zk_handle_thread *t, int wait_ms)
{
    struct timespec until;

    zk_handle_deadline(&until, wait_ms > 0 ? wait_ms : 0);
    pthread_mutex_lock(&t->lock);
    assert(t->opening == NULL && !t->stop);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    while (!t->finished) {
        if (pthread_cond_timedwait(&t->changed, &t->lock, &until) == ETIMEDOUT)
            break;
    }
    zk_handle_thread_leave(t);
}

struct zk_handle *zk_handle_open(struct zk_handle_thread *t, struct ev_loop *ev, ev_async *async)
{
    struct zk_handle_shared *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    list_init(&s->queue);
    list_init(&s->closing);
    list_init(&s->handle.requests);
    list_init(&s->handle.ended);
    list_init(&s->handle.watches);
    s->handle.shared = s;
    s->ev = ev;
    s->async = async;

    pthread_mutex_lock(&t->lock);
    assert(t->opening == NULL && !t->stop);
    t->opening = s;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return &s->handle;
}

void zk_handle_abandon(struct zk_handle_thread *t, struct zk_handle *handle)
{
    struct zk_handle_shared *s = handle->shared;

    pthread_mutex_lock(&s->lock);
    s->abandoned = true;
    pthread_mutex_unlock(&s->lock);

    pthread_mutex_lock(&t->lock);
    if (t->opening == s)
        t->opening = NULL;
    list_push_back(&t->closing, &s->closing);
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void zk_handle_push(struct zk_handle *handle, struct zk_item *item)
{
    struct zk_handle_shared *s = handle->shared;

    pthread_mutex_lock(&s->lock);
    list_push_back(&s->queue, &item->node);
    if (!s->abandoned)
        ev_async_send(s->ev, s->async); /* under the lock: the loop can't go away meanwhile */
    pthread_mutex_unlock(&s->lock);
}

struct zk_item *zk_handle_pop(struct zk_handle *handle)
{
    struct zk_handle_shared *s = handle->shared;
    struct list *node;

    pthread_mutex_lock(&s->lock);
    assert(!s->abandoned);
    node = list_first(&s->queue);
    if (node != NULL)
        list_remove(node);
    pthread_mutex_unlock(&s->lock);
    return node != NULL ? list_entry(node, struct zk_item, node) : NULL;
}
