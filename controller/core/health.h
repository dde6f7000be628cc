/* Evidence about the members of one instance, as this controller sees it, and the verdict it supports. Pure.
 *
 *   own links, INFO ─┐
 *   PING, knocks ────┼─► struct health_member ─► health_judge() ─► verdict, or what is missing for one
 *   other controllers┘   (health_view() is what one controller answers another)
 *
 * Rules: design safety.md §2. A verdict needs all of its evidence; anything less is SUSPECT and only probes.
 */
#ifndef MR_CONTROLLER_CORE_HEALTH_H
#define MR_CONTROLLER_CORE_HEALTH_H

#include "controller/core/info.h"

/* The control connection. */
enum health_link {
    HEALTH_LINK_UNKNOWN, /* no attempt has ended yet */
    HEALTH_LINK_UP,
    HEALTH_LINK_CLOSED,  /* FIN or RST on the established connection; the reconnect's result is not in yet */
    HEALTH_LINK_REFUSED, /* the last attempt was refused: nobody listens */
    HEALTH_LINK_SILENT,  /* connect or reply deadline passed, or no route */
    HEALTH_LINK_DENIED,  /* it answers, but refuses our login or does not speak Redis: alive, an operator's
                            problem */
};

/* A fresh TCP connection to a mute member, closed at once: is there a kernel, is there a listener? */
enum health_knock {
    HEALTH_KNOCK_UNKNOWN,   /* none has ended in this silence */
    HEALTH_KNOCK_ACCEPTED,  /* the kernel accepted it: the host is there, the process holds its port */
    HEALTH_KNOCK_REFUSED,   /* the host is there, nobody listens */
    HEALTH_KNOCK_NO_ANSWER, /* time-out or no route */
};

/* How it answers. Every answer is a sign of life. */
enum health_said {
    HEALTH_SAID_OK,
    HEALTH_SAID_LOADING,
    HEALTH_SAID_BUSY,    /* a script or function runs for long */
    HEALTH_SAID_MISCONF, /* it can't persist and refuses writes */
    HEALTH_SAID_MASTERDOWN,
    HEALTH_SAID_NOAUTH,     /* NOAUTH, WRONGPASS, NOPERM: an operator's problem */
    HEALTH_SAID_MAXCLIENTS, /* it takes no further connections */
    HEALTH_SAID_OOM,        /* used_memory is at maxmemory and nothing may be evicted */
    HEALTH_SAID_OTHER,      /* another error */
};

/* One member; facts only. Times are monotonic microseconds of this controller. */
struct health_member {
    enum health_link link;
    int64_t link_at_us;  /* when `link` took its value */
    int64_t tried_at_us; /* when the last attempt to connect ended, or the connection broke */
    bool
        info_known; /* `info` holds an answer of the current connection (kept, for display, after it broke) */
    int64_t info_at_us; /* when the last INFO arrived; 0: never */
    struct info info;
    int64_t mute_us; /* since then nothing was answered though it was asked; 0: it answers, or there is no
                        silence to speak of (refused, closed) */
    int64_t
        heard_us; /* when an answer last ended a silence: what comes with it was asked long ago; 0: never */
    enum health_knock knock;
    uint32_t knocks;       /* ended in this silence */
    int64_t unanswered_us; /* when the first of the present series of NO_ANSWER knocks ended; 0: none */
    int64_t accepted_us; /* the same of ACCEPTED ones: a host that came back a moment ago does not hang yet */
    enum health_said said;
    int64_t said_us; /* when it began to say so */
    int64_t fed_us;  /* a replica: when its offset was last seen to grow, or was seen first; 0: never seen */
    /* A replica: what it lacked, in its last INFO, of what the master was known to have by then; -1: not
     * known. The master's later words don't count: what was written since would look like a lag. */
    int64_t behind_bytes;
    bool pings; /* as a master it pings its replicas every second (repl-ping-replica-period 1) */
};

/* What a controller answers when another one asks how it sees a member. */
enum health_view_kind {
    HEALTH_VIEW_UNKNOWN, /* it doesn't watch it, or has no result yet */
    HEALTH_VIEW_ANSWERS,
    HEALTH_VIEW_REFUSED,
    HEALTH_VIEW_HUNG,        /* mute, but knocks are accepted */
    HEALTH_VIEW_UNREACHABLE, /* mute, and knocks are not answered */
};
struct health_view {
    enum health_view_kind kind;
    int64_t silent_us; /* HUNG, UNREACHABLE: for how long */
    bool distrusted;   /* it doesn't trust its own view now (outlook.h) */
};

/* The answers to one survey. */
struct health_votes {
    int64_t asked_us;       /* when the survey was sent; 0: there was none */
    uint32_t n_controllers; /* registered ones, this one included */
    uint32_t n;             /* answers of others */
    struct health_view views[TOPOLOGY_MEMBERS_MAX];
};

/* What is true of this controller as a whole: outlook.h. */
struct health_trust {
    int64_t since_us; /* silence before this does not count: the loop stood still, or the network was away */
    bool distrusted;  /* more than half of all members went silent at once: our own view counts for nothing */
    uint32_t n_controllers; /* registered ones, this one included; at least 1 */
};

struct health_judgement {
    enum topology_verdict verdict; /* NONE: healthy or not yet provable */
    bool suspect;                  /* some of the evidence is there: probe harder */
    bool wants_votes;              /* the other controllers' views would complete it */
    int64_t again_us;              /* when time alone may change the judgement; 0: never */
    char evidence[TOPOLOGY_EVIDENCE_MAX + 1];
};

/* Judges the master of a STABLE instance. members[k] belongs to i->members[k]. since_us: when the suspicion
 * began; only what was heard at or after it counts for a verdict. votes: of the newest survey. */
void health_judge(const struct topology_instance *i, const struct health_member *members,
                  const struct health_votes *votes, const struct health_trust *trust, int64_t since_us,
                  int64_t now_us, struct health_judgement *out);

/* How this controller sees one member. */
void health_view(const struct health_member *m, const struct health_trust *trust, int64_t now_us,
                 struct health_view *out);

/* Connected, and not mute: an order to it can be expected to be answered. */
static inline bool health_is_reachable(const struct health_member *m)
{
    return m->link == HEALTH_LINK_UP && m->mute_us == 0;
}

const char *health_link_name(enum health_link l);      /* "up", "closed", … */
const char *health_said_name(enum health_said s);      /* "OK", "BUSY", … */
const char *health_view_name(enum health_view_kind k); /* "answers", "hung", … */
/* "hung" → HEALTH_VIEW_HUNG; ERR_INVALID. */
int health_view_parse(const char *text, enum health_view_kind *out) MR_MUST_CHECK;
/* From the words of an error reply: "BUSY Redis is busy …" → HEALTH_SAID_BUSY. */
enum health_said health_said_of(const char *text);

#endif
