/* Evidence about the members of one instance, as this controller sees it, and the verdict it supports. Pure.
 *
 * Rules: design safety.md §2. A verdict needs all of its evidence; anything less is SUSPECT and only probes.
 */
#ifndef MR_CONTROLLER_CORE_HEALTH_H
#define MR_CONTROLLER_CORE_HEALTH_H

#include "controller/core/info.h"

enum health_link {
    HEALTH_LINK_UNKNOWN, /* no attempt has ended yet */
    HEALTH_LINK_UP,
    HEALTH_LINK_CLOSED,  /* FIN or RST on the established connection; the reconnect's result is not in yet */
    HEALTH_LINK_REFUSED, /* the last attempt was refused: nobody listens */
    HEALTH_LINK_SILENT,  /* connect or reply deadline passed, or no route */
    HEALTH_LINK_DENIED,  /* it answers, but refuses our login or does not speak Redis: alive, an operator's
                            problem */
};

/* One member; facts only. */
struct health_member {
    enum health_link link;
    int64_t link_at_us;  /* when `link` took its value */
    int64_t tried_at_us; /* when the last attempt to connect ended, or the connection broke */
    bool
        info_known; /* `info` holds an answer of the current connection (kept, for display, after it broke) */
    int64_t info_at_us; /* when the last INFO arrived; 0: never */
    struct info info;
};

struct health_judgement {
    enum topology_verdict verdict; /* NONE: healthy or not yet provable */
    bool suspect;                  /* some of the evidence is there: probe harder */
    char evidence[TOPOLOGY_EVIDENCE_MAX + 1];
};

/* Judges the master of a STABLE instance. members[k] belongs to i->members[k]. since_us: when the suspicion
 * began; only what was heard at or after it counts for a verdict. */
void health_judge(const struct topology_instance *i, const struct health_member *members, int64_t since_us,
                  struct health_judgement *out);

const char *health_link_name(enum health_link l); /* "up", "closed", … */

#endif
