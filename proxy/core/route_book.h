/* The proxy's control side: which route is true, when to read ZooKeeper again, whom to ask. Pure.
 *
 *   messages, records read, workers' doubts, ticks ──► route_book_step() ──► actions, next deadline
 *
 * A function from events, the time in them, to what the caller must do, in order. Every action carries the
 * number of the row (ROUTE_ROW_LIST) that decided it. While the control plane is silent (no beat for
 * ROUTE_SILENCE_US) the last routes are kept, ZooKeeper is read with watches armed, and doubts are settled
 * by trying again with a back-off.
 *
 * Terms and revisions are ZooKeeper's zxids (czxid of the leader's election node, mzxid of an instance), so
 * they grow over all instances and restarts: the larger one is the newer one. */
#ifndef MR_PROXY_CORE_ROUTE_BOOK_H
#define MR_PROXY_CORE_ROUTE_BOOK_H

#include "common/core/message.h"
#include "proxy/core/route_table.h"

#define ROUTE_SILENCE_US       ((int64_t)1000000) /* four beats */
#define ROUTE_RECONNECT_MAX_US ((int64_t)5000000) /* back-off of reconnects while silent */
#define ROUTE_READ_SPACING_US  ((int64_t)100000)  /* between the beginnings of two re-reads */
#define ROUTE_READ_RETRY_US    ((int64_t)500000)  /* after one that failed */
/* A doubt is settled by the leader's confirmation, or else by trying again after this, doubling. */
#define ROUTE_CONFIRM_SILENT_US     ((int64_t)20000)
#define ROUTE_CONFIRM_SILENT_MAX_US ((int64_t)1000000)
#define ROUTE_CONFIRM_US            ((int64_t)250000)
#define ROUTE_CONFIRM_MAX_US        ((int64_t)2000000)
/* The first hint goes at once, those of doubts that come back after this, doubling. */
#define ROUTE_HINT_US     ((int64_t)20000)
#define ROUTE_HINT_MAX_US ((int64_t)1000000)
/* Without a doubt for so long the back-offs begin anew. */
#define ROUTE_CALM_US ((int64_t)10000000)
/* Between two hints about a master that is silent. */
#define ROUTE_SILENT_HINT_US ((int64_t)1000000)
/* A switchover that asks for more gets that much: requests never wait for ever. */
#define ROUTE_PAUSE_MAX_MS 60000U

/* clang-format off */
#define ROUTE_ROW_LIST(X)                                                                          \
    /* the stream of messages: term and seq */                                                     \
    X(1,  OLD_TERM,     "of a deposed leader: ignored")                                            \
    X(2,  NEW_TERM,     "a new leader: followed; what was missed is read again")                   \
    X(3,  BEAT,         "the leader lives, nothing was missed")                                    \
    X(4,  BEAT_AHEAD,   "a message was missed: read again")                                        \
    X(5,  BEAT_LATE,    "an overtaken beat: the leader lives")                                     \
    X(6,  DUPLICATE,    "seen before: ignored")                                                    \
    X(7,  NEXT,         "next in sequence")                                                        \
    X(8,  GAP,          "messages before it were missed: used, and read again")                    \
    X(9,  VOICE,        "the control plane is back after a silence: read again")                   \
    /* what a route, hold, drop message or a record means */                                       \
    X(10, ADDED,        "an unknown instance: added")                                              \
    X(11, OLDER,        "older than what is known: ignored")                                       \
    X(12, CONFIRMED,    "what is known: confirmed")                                                \
    X(13, CHANGED,      "newer: applied")                                                          \
    X(14, ANEW,         "newer with a lower epoch: deleted and made anew")                         \
    X(15, REPLACED,     "the store has an older record than it had: it was replaced; start anew")  \
    X(16, DROPPED,      "deleted")                                                                 \
    X(17, DROP_OLDER,   "an older deletion: ignored")                                              \
    X(18, HELD,         "nobody may serve: requests wait")                                         \
    /* reading ZooKeeper */                                                                        \
    X(20, MISSING,      "not in the store any more: dropped")                                      \
    X(21, SET_ASIDE,    "its record can't be used: the last route stays")                          \
    X(22, READ_DONE,    "everything was read")                                                     \
    X(23, READ_FAILED,  "reading failed: again later")                                             \
    X(24, STORE_BACK,   "ZooKeeper is back: read again")                                           \
    X(25, STORE_LOST,   "ZooKeeper is away: the last routes stay")                                 \
    X(26, STORE_MOVED,  "a watch fired: read again")                                               \
    X(27, CACHED,       "from the cache file, until something newer is heard")                     \
    X(28, READ_DUE,     "the time to read again has come")                                         \
    /* doubts */                                                                                   \
    X(30, DOUBT,        "a connection broke: the leader is asked")                                 \
    X(31, DOUBT_AGAIN,  "a connection broke again soon: asked after a while")                      \
    X(32, DOUBT_KNOWN,  "known already, or about an older route: ignored")                         \
    X(33, SELF_CONFIRM, "nobody answered: the last route is tried again")                          \
    X(34, HINT_DUE,     "the time to ask again has come")                                          \
    X(35, HINT_SILENT,  "connected, but a reply is overdue: the leader is asked")                  \
    X(36, SILENT_KNOWN, "asked a moment ago, or about an older route: ignored")                    \
    /* the control plane */                                                                        \
    X(40, SILENCE,      "no beat for a second: reconnect, read with watches armed")                \
    X(41, STILL_SILENT, "still no beat: reconnect")                                                \
    X(42, SWITCHED,     "all workers follow the epoch: acknowledged")                              \
    X(43, SWITCHING,    "some workers don't follow the epoch yet, or it is acknowledged")          \
    X(44, ASKED_AGAIN,  "a strict route that all workers follow is told again: acknowledged again") \
    /* planned switchovers */                                                                      \
    X(50, PAUSE,        "a switchover is being prepared: send nothing more, let what is in flight end") \
    X(51, PAUSE_OTHER,  "of an instance or epoch that isn't served now: ignored")                  \
    X(52, PAUSED,       "nothing is in flight in any worker: the leader is told")                  \
    X(53, PAUSING,      "something is in flight yet, or it is over already")                       \
    X(54, PAUSE_OVER,   "no news in time: the route goes on by itself")                            \
    X(55, PAUSE_BROKEN, "a connection broke meanwhile: news comes soon")
/* clang-format on */

#define ROUTE_ROW_ENUM(number, name, text) ROUTE_ROW_##name = (number),
enum route_row { ROUTE_ROW_LIST(ROUTE_ROW_ENUM) };
#undef ROUTE_ROW_ENUM

enum route_event_type {
    ROUTE_EVENT_MESSAGE,     /* message (route, hold, drop, beat; others are ignored) */
    ROUTE_EVENT_RECORD,      /* route, read from ZooKeeper: in a re-read, or after a watch */
    ROUTE_EVENT_BAD_RECORD,  /* name: there, but it can't be used */
    ROUTE_EVENT_CACHED,      /* route, from the cache file */
    ROUTE_EVENT_READ_DONE,   /* the re-read is complete: what it didn't name is gone */
    ROUTE_EVENT_READ_FAILED, /* the re-read ended early */
    ROUTE_EVENT_STORE_UP,    /* ZooKeeper connected */
    ROUTE_EVENT_STORE_LOST,  /* ZooKeeper suspended or expired; a re-read under way has failed with it */
    ROUTE_EVENT_STORE_MOVED, /* a watch fired that only a re-read can answer (instances came or went) */
    ROUTE_EVENT_BROKEN,      /* name, epoch, master: a worker doubts */
    ROUTE_EVENT_SILENT,      /* name, epoch, master: connected, but it doesn't answer a worker */
    ROUTE_EVENT_SWITCHED,    /* name, epoch, acks, took_us: one worker follows the epoch, and holds replies
                                for so many acknowledgements (route_acks()) */
    ROUTE_EVENT_HELD,        /* name, epoch, number: one worker has nothing in flight (ROUTE_ACTION_PAUSE) */
    ROUTE_EVENT_TICK,        /* the deadline has come */
};

struct route_event {
    enum route_event_type type;
    int64_t now_us; /* monotonic, > 0 */
    const struct message *message;
    const struct route *route;
    const char *name;
    uint64_t epoch;
    uint32_t acks;
    const struct topology_address *master;
    int64_t took_us;
    uint64_t number;
    bool of_read; /* RECORD: read after the sync of the re-read under way */
};

enum route_action_type {
    ROUTE_ACTION_APPLY,     /* entry's route to every worker, ends its pause; changed: not merely confirmed */
    ROUTE_ACTION_PAUSE,     /* entry, epoch, number, limit_ms: to every worker */
    ROUTE_ACTION_DROP,      /* name from every worker */
    ROUTE_ACTION_READ,      /* sync, then read every instance; watch: arm watches */
    ROUTE_ACTION_RECONNECT, /* every subscription anew */
    ROUTE_ACTION_FOLLOW,    /* name: id of the leader, hints and acks go to it */
    ROUTE_ACTION_HINT,      /* entry, its route's master */
    ROUTE_ACTION_ACK,       /* entry, epoch, acks, took_us */
    ROUTE_ACTION_HELD,      /* entry, epoch */
};

struct route_action {
    enum route_action_type type;
    enum route_row row;
    bool changed, watch;
    const struct route_entry *entry; /* valid until the next step */
    char name[TOPOLOGY_NAME_MAX + 1];
    uint64_t epoch;
    uint32_t acks;
    int64_t took_us;
    uint64_t number;
    uint32_t limit_ms;
};

struct route_book {
    /* Readable by the caller: */
    struct route_table table;
    bool silent;                        /* no beat for ROUTE_SILENCE_US, or none ever */
    bool store_up;                      /* ZooKeeper connected */
    bool reading;                       /* a re-read is under way */
    uint64_t reads_done;                /* complete ones */
    uint64_t term, seq;                 /* of the newest message; 0: none yet */
    char leader[TOPOLOGY_NAME_MAX + 1]; /* "" unknown */
    struct route_action *actions;       /* of the last step, in the order to be done */
    size_t n_actions;
    enum route_row row; /* the row that the last event met first */
    /* Private: */
    size_t room;
    uint32_t n_workers;
    struct list doubts, pauses;
    uint64_t n_pauses; /* the number of the newest */
    uint64_t read;     /* number of the last re-read that was begun */
    bool want_read, out_of_memory;
    enum route_row read_row;
    int64_t read_at_us; /* earliest beginning of the next re-read */
    int64_t heard_us;   /* last sign of life */
    int64_t reconnect_us, reconnect_step_us;
};

/* n_workers: how many SWITCHED events make an ack. now_us: silence counts from here. */
void route_book_init(struct route_book *b, uint32_t n_workers, int64_t now_us);
void route_book_free(struct route_book *b);
/* Takes the event; b->actions is what to do now. ERR_NOMEM: as much as memory allowed was done, and a re-read
 * will mend it. */
int route_book_step(struct route_book *b, const struct route_event *e) MR_MUST_CHECK;
/* When to send the next TICK, in the events' clock; it may lie in the past. */
int64_t route_book_deadline_us(const struct route_book *b);

const char *route_row_text(enum route_row row); /* for log lines */
const char *route_action_name(enum route_action_type t);

#endif
