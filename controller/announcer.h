/* What the leader tells the proxies: routes, holds, drops and beats, in one numbered stream.
 *
 * seq counts the route, hold and drop messages of a term; a beat every 250 ms repeats the newest one, so that
 * a proxy that missed a message knows it within a beat. While not leading nothing is sent. */
#ifndef MR_CONTROLLER_ANNOUNCER_H
#define MR_CONTROLLER_ANNOUNCER_H

#include "common/core/topology.h"
#include "common/nn_link.h"

struct announcer;
struct loop;

struct announcer_config {
    const char *id;   /* of this controller; copied */
    const char *host; /* to bind; copied */
    uint16_t port;    /* 0: choose one */
    const struct nn_link_key *key;
};

/* Starts the publisher child: call it before anything of the process has used nanomsg. Errors as
 * publisher_open(). */
int announcer_open(struct announcer **out, struct loop *loop,
                   const struct announcer_config *config) MR_MUST_CHECK;
void announcer_close(struct announcer *a);
uint16_t announcer_port(const struct announcer *a);

/* term ≠ 0: a new numbering starts and beats go out at once; 0: silence. */
void announcer_lead(struct announcer *a, uint64_t term);
/* The route of an instance, or a hold while nobody may serve. revision: mzxid of the record it comes from. */
void announcer_publish(struct announcer *a, const struct topology_instance *i, int64_t revision);
/* A switchover begins: hold what clients send, for limit_ms at most, and say so (MESSAGE_HELD). The present
 * master goes on serving what is in flight. Repeat it freely: a proxy that holds already answers again. */
void announcer_hold(struct announcer *a, const struct topology_instance *i, int64_t revision,
                    int64_t limit_ms);
void announcer_drop(struct announcer *a, const char *instance, uint16_t port, int64_t revision);

uint64_t announcer_seq(const struct announcer *a);      /* newest one sent in this term */
uint64_t announcer_revision(const struct announcer *a); /* newest one published by this process */
uint64_t announcer_restarts(const struct announcer *a); /* of the publisher child */

#endif
