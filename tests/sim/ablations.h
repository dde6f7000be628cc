/* Safety rules that can be switched off in the simulator, to prove that each one is needed and that the
 * invariants would notice its absence.
 *
 * Nothing in the cores changes: what they see, or what becomes of what they order, does. */
#ifndef MR_TESTS_SIM_ABLATIONS_H
#define MR_TESTS_SIM_ABLATIONS_H

#include "controller/core/failover.h"
#include "tests/sim/world.h"

/* X(NAME, word of --ablate, the rule that is gone) */
/* clang-format off */
#define ABLATION_LIST(X)                                                                                     \
    X(SEAL, "seal", "a SEAL is answered, but the member stays where it is")                                  \
    X(LINEAGE, "lineage", "all replication ids look alike: choosing goes by length only")                    \
    X(RUN_ID, "run-id", "a restarted process looks like the one before it: its data is trusted")             \
    X(FENCE, "fence", "a commit does not check the leader's own election node")                              \
    X(VERSION, "version", "a commit does not check the record's version")                                    \
    X(INTENT, "intent", "members are sealed before the intent is committed")                                 \
    X(CHOICE, "choice", "the candidate is promoted before the choice is committed")                          \
    X(ROUTE, "route", "the new route is published before the choice is committed")                           \
    X(MAJORITY, "majority", "the other controllers' votes are forged: they always agree")                    \
    X(DISTRUST, "distrust", "a controller that sees most members silent goes on trusting its eyes")          \
    X(STALL, "stall", "a controller that stood still counts that time as a member's silence")                \
    X(WITNESS, "witness", "replicas are not believed when they still hear their master")                     \
    X(PATIENCE, "patience", "a silence counts as ten seconds from its beginning")                            \
    X(RESTRAINT, "restraint", "the wall clock runs so fast that pauses and cooldowns are over at once")       \
    X(DRAIN, "drain", "a switchover's target always looks as if it had everything")                          \
    X(PAUSE, "pause", "the old master's writes go on in a switchover, and proxies don't hold")               \
    X(RESET, "reset", "a proxy keeps its connection to the old master and believes late answers")            \
    X(QUORUM, "quorum", "a strict instance's failover needs one countable member, as an async one's does")    \
    X(DROP, "forget", "a strict instance's dead master is a member no more once another one is promoted")     \
    X(UNREGISTERED, "unregistered", "replicas that are attached but not registered stay so")                  \
    X(REACH, "reach", "a replica counts as in step with its master as soon as its link is up")               \
    X(HOLD, "hold", "a strict instance's proxies pass replies to writes on at once")                         \
    X(MARKER, "marker", "WAIT goes without a marker: it counts who has what its connection wrote, nothing")  \
    X(SHOW, "show", "reads of what isn't acknowledged yet are answered at once")                             \
    X(RETRY, "retry", "a proxy sends a write of unknown outcome again")                                     \
    X(ACL, "acl", "a FENCE is answered, but the member's ACL stays as it is")                                \
    X(ACL_OTHERS, "acl-others", "a FENCE takes no other epoch's user away, and cuts nobody")                 \
    X(ACL_NEWER, "acl-newer", "a deposed controller's late FENCE is carried out: it sees no newer mark")     \
    X(ACL_CUT, "acl-cut", "the connection that an older mark names isn't cut: what it has sent still comes")  \
    X(ACL_WAIT, "acl-wait", "a candidate counts as fenced before it is")
/* clang-format on */

#define ABLATION_ENUM(name, word, rule) ABLATE_##name,
enum ablation { ABLATE_NOTHING, ABLATION_LIST(ABLATION_ENUM) ABLATIONS };
#undef ABLATION_ENUM

struct sim;

const char *ablation_word(enum ablation a);
const char *ablation_rule(enum ablation a);
/* "seal" → ABLATE_SEAL; ERR_INVALID. */
int ablation_parse(const char *word, enum ablation *out) MR_MUST_CHECK;

/* What a member says reaches a core through this. sealed: in the answer to a SEAL. */
void ablations_change_info(const struct sim *s, int redis, bool sealed, struct info *info);
void ablations_change_votes(const struct sim *s, struct health_votes *votes);
void ablations_change_trust(const struct sim *s, struct health_trust *trust);
/* What a core knows, before and after it handles an event. */
void ablations_before_step(const struct sim *s, struct failover *f);
void ablations_after_step(const struct sim *s, const struct failover_event *event, struct failover *f);
/* The record that is about to be committed. */
void ablations_change_commit(const struct sim *s, const struct topology_instance *before,
                             struct topology_instance *record);
/* The wall clock as a core is told it. */
int64_t ablations_wall_ms(const struct sim *s);

#endif
