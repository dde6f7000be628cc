/* How do the other controllers see a member? Surveys over nanomsg, with a short deadline.
 *
 *   engine ─ SURVEY ─► voters ─ SURVEYOR ─► every other controller's RESPONDENT ─► its engine_view() ─► VOTE
 *                         └─ all have answered, a majority is sure, or time is up ─► on_votes ─► engine
 *
 * One RESPONDENT socket listens (vote port); one raw SURVEYOR socket is connected to all others and carries
 * the surveys of all instances: several can be under way, told apart by the number in `seq`. Those of one
 * turn travel as lines of one frame, and are asked again while an answer is missing. A garbled or unsigned
 * message, or one from a controller that is not registered, is a counter and a rate-limited log line, nothing
 * else; a late answer is nothing at all. */
#ifndef MR_CONTROLLER_VOTERS_H
#define MR_CONTROLLER_VOTERS_H

#include "common/core/topology_codec.h"
#include "common/nn_link.h"
#include "controller/core/health.h"

struct loop;
struct voters;

enum { VOTERS_DEADLINE_MS = 100, VOTERS_UNDER_WAY_MAX = 4096 };

struct voters_config {
    const char *id;   /* of this controller; copied */
    const char *host; /* to bind; copied */
    uint16_t port;    /* 0: choose one */
    const struct nn_link_key *key;
    /* How we see that member; UNKNOWN when we don't watch it. */
    void (*view)(void *ctx, const char *instance, const struct topology_address *member,
                 struct health_view *out);
    /* Exactly once for each voters_survey(), never inside the call. Borrowed. n_controllers is filled in. */
    void (*on_votes)(void *ctx, const char *instance, const struct topology_address *member,
                     const struct health_votes *votes);
    void *ctx;
};

int voters_open(struct voters **out, struct loop *loop, const struct voters_config *config) MR_MUST_CHECK;
void voters_close(struct voters *v); /* no callback after this */
uint16_t voters_port(const struct voters *v);
uint64_t voters_ignored(const struct voters *v); /* lines of messages that were none of ours, so far */

/* The registered controllers (this one is recognised by its id and left out): connects and disconnects. */
void voters_set_peers(struct voters *v, const struct topology_controller *list, size_t n);
/* Asks all peers; a survey of the same member that is under way is not repeated. ERR_BUSY: too many. Without
 * peers the answer comes at the end of the turn. */
int voters_survey(struct voters *v, const char *instance,
                  const struct topology_address *member) MR_MUST_CHECK;

#endif
