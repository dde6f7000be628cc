/* Private to the monitor: a member, its silence, and the orders to it that are under way. */
#ifndef MR_CONTROLLER_MONITOR_MEMBER_H
#define MR_CONTROLLER_MONITOR_MEMBER_H

#include "common/core/list.h"
#include "controller/monitor.h"

#include <ev.h>

struct redisReply;
struct redis_link;

enum {
    MONITOR_LABEL_MAX = 160,
    MONITOR_TEXT_MAX = 160,
    MONITOR_SAID_MAX = 95,
    MONITOR_SLOT_MS = 10,
    MONITOR_WHEEL = 32, /* slots ahead; more than MONITOR_MUTE_MS takes */
};

struct monitor {
    struct loop *loop;
    struct monitor_config config;
    char client_name[TOPOLOGY_NAME_MAX + 16];
    ev_timer tick;
    struct list *slots; /* n_slots of them: interval_ms in steps of MONITOR_SLOT_MS */
    uint32_t n_slots, next_slot, next_home;
    uint32_t n_members;
    struct list eager; /* whose turn it is to be pinged comes first */
    uint32_t n_eager, credit;
    struct list wheel[MONITOR_WHEEL]; /* who owes an answer, in the slot that looks at it */
    uint32_t wheel_at;
};

/* Who tells how a member is. They disagree: a process that refuses PING may answer INFO. The first that has
 * something to say counts. */
enum monitor_source {
    MONITOR_BY_LOGIN,
    MONITOR_BY_PING,
    MONITOR_BY_INFO,
    MONITOR_BY_MEMORY,
    MONITOR_SOURCES
};

struct monitor_word {
    enum health_said said;
    char text[MONITOR_SAID_MAX + 1];
};

struct monitor_knock {
    ev_io connected;
    ev_timer timer;      /* an attempt's limit, else the pause before the next one */
    int fd;              /* -1: none is under way */
    uint32_t accepted;   /* in a row */
    bool unanswered;     /* before those */
    int64_t answered_us; /* since when they are accepted, after none had been answered; 0: not so */
};

struct monitor_member {
    struct list node; /* in its slot */
    struct monitor *monitor;
    void *owner;
    struct redis_link *link;
    struct topology_auth auth;
    struct topology_address address;
    char label[MONITOR_LABEL_MAX];
    struct info info;                 /* of the current connection */
    bool greeted;                     /* info has the Server section of the current connection */
    bool polling;                     /* an INFO replication is under way */
    bool refusal_logged;              /* INFO was refused on this connection: said once */
    bool every_second;                /* repl-ping-replica-period 1 was accepted on this connection */
    bool period_logged;               /* or refused: said once */
    bool gone;                        /* unwatched: nothing may be said any more */
    uint32_t polls;                   /* on this connection */
    uint32_t min_replicas, max_lag_s; /* of the policy; 0: left as the server has it */
    struct list orders;
    struct list fences;
    /* monitor_silence.c */
    struct list eager; /* in monitor->eager; unlinked: not eager */
    struct list due;   /* in the wheel; unlinked: owes nothing */
    bool pinging;      /* a PING is under way */
    bool connected;    /* the link is up, or was when it went down */
    int64_t mute_us;   /* 0: not mute */
    struct monitor_word words[MONITOR_SOURCES];
    enum health_said told; /* what on_heard said last */
    struct monitor_knock knock;
};

/* Sends argv; the reply comes to fn with the ctx. 0 or an error. */
int monitor_member_send(struct monitor_member *m,
                        void (*fn)(void *ctx, int err, const struct redisReply *reply), void *ctx, int argc,
                        const char *const *argv) MR_MUST_CHECK;
struct loop *monitor_member_loop(const struct monitor_member *m);
/* monitor_settings.c: a new connection; and again what was refused before. */
void monitor_settings_on_up(struct monitor_member *m);
int monitor_settings_set_period(struct monitor_member *m) MR_MUST_CHECK;
/* monitor_orders.c: the member goes away; nobody is called. */
void monitor_orders_forget(struct monitor_member *m);
void monitor_fences_forget(struct monitor_member *m); /* likewise, monitor_fence.c */

/* ---- monitor_silence.c: who answers, and how. Those that may call on_heard() or on_mute() return false when
 * the owner unwatched the member in it: then hands off. ---------------------------------------------------
 */
void monitor_silence_init(struct monitor *m);
void monitor_silence_init_member(struct monitor_member *m);
void monitor_silence_forget(struct monitor_member *m);
/* Every MONITOR_SLOT_MS: pings who is next, looks at who owes an answer. */
void monitor_silence_on_tick(struct monitor *m);
/* PING, unless one is under way or the link is down. */
void monitor_silence_ping(struct monitor_member *m);
/* Something was sent that wants an answer. */
void monitor_silence_on_asked(struct monitor_member *m);
/* A reply came: to an order, or to whatever tells nothing about how it is. */
bool monitor_silence_on_reply(struct monitor_member *m) MR_MUST_CHECK;
/* A reply, or a login, that does tell. text: its words; ignored for HEALTH_SAID_OK. */
bool monitor_silence_on_word(struct monitor_member *m, enum monitor_source by, enum health_said said,
                             const char *text) MR_MUST_CHECK;
bool monitor_silence_on_up(struct monitor_member *m) MR_MUST_CHECK;
/* Before and after the owner hears that the link is down. */
void monitor_silence_before_down(struct monitor_member *m, int reason);
void monitor_silence_after_down(struct monitor_member *m, int reason, const char *text);

/* ---- monitor_knock.c: fresh connections to a mute member ----------------------------------------------- */
void monitor_knock_init(struct monitor_member *m);
void monitor_knock_start(struct monitor_member *m); /* the first result comes in a later turn */
void monitor_knock_stop(struct monitor_member *m);

#endif
