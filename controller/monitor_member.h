/* Private to the monitor: a member and the orders to it that are under way. */
#ifndef MR_CONTROLLER_MONITOR_MEMBER_H
#define MR_CONTROLLER_MONITOR_MEMBER_H

#include "common/core/list.h"
#include "controller/monitor.h"

struct redisReply;
struct redis_link;

enum { MONITOR_LABEL_MAX = 160, MONITOR_TEXT_MAX = 160 };

struct monitor_member {
    struct list node; /* in its slot */
    struct monitor *monitor;
    void *owner;
    struct redis_link *link;
    struct topology_auth auth;
    char label[MONITOR_LABEL_MAX];
    struct info info;    /* of the current connection */
    bool greeted;        /* info has the Server section of the current connection */
    bool polling;        /* an INFO replication is under way */
    bool refusal_logged; /* INFO was refused on this connection: said once */
    struct list orders;
};

/* Sends argv; the reply comes to fn with the member. 0 or an error. */
int monitor_member_send(struct monitor_member *m,
                        void (*fn)(void *ctx, int err, const struct redisReply *reply), void *ctx, int argc,
                        const char *const *argv) MR_MUST_CHECK;
struct loop *monitor_member_loop(const struct monitor_member *m);
/* monitor_orders.c: the member goes away; nobody is called. */
void monitor_orders_forget(struct monitor_member *m);

#endif
