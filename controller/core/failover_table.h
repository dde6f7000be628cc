/* The rows of the failover procedure: which evidence moves an instance from which phase to which. Pure.
 *
 * First matching row wins; a row's effect may add actions; after a move the new phase's ON_ENTER rows are
 * asked, so that evidence that is there already is acted on at once. failover.c runs it; failover_effects.c
 * holds guards and effects. */
#ifndef MR_CONTROLLER_CORE_FAILOVER_TABLE_H
#define MR_CONTROLLER_CORE_FAILOVER_TABLE_H

#include "controller/core/failover.h"

/* What a row waits for: several event types mean the same to a phase. */
enum failover_trigger {
    FAILOVER_AT_ENTER,     /* the phase has just been entered, or its evidence changed */
    FAILOVER_AT_COMMITTED, /* the commit under way succeeded */
    FAILOVER_AT_FAILED,    /* it failed, or its outcome is unknown */
    FAILOVER_AT_SEALED,
    FAILOVER_AT_PROMOTED,
    FAILOVER_AT_REPLICATING,
    FAILOVER_AT_RECORD, /* the durable record was (re)read, or leadership began */
    FAILOVER_AT_LOST,   /* leadership ended */
    FAILOVER_AT_COMMAND,
    FAILOVER_AT_PAUSED,
    FAILOVER_AT_DONATING,
    FAILOVER_AT_FENCED, /* the order that turns a fence on waits for it */
};

/* Of a row that serves several phases and leaves none of them. */
#define FAILOVER_STAY FAILOVER_PHASES

struct failover_row {
    uint32_t number;
    uint32_t phases; /* bit set of enum failover_phase */
    enum failover_trigger at;
    bool (*guard)(const struct failover *f, const struct failover_event *event); /* NULL: always */
    void (*effect)(struct failover *f, const struct failover_event *event, struct failover_update *out);
    enum failover_phase next; /* may be the same phase */
    const char *condition;    /* the guard in words */
    const char *does;         /* the effect in words */
};

extern const struct failover_row failover_table[];
extern const uint32_t failover_table_rows;

const char *failover_trigger_name(enum failover_trigger t);
/* One line of the dump (ARCHITECTURE.md, tests/golden): "31 | CONFIRM | evidence | … | … | INTENT". */
void failover_row_format(const struct failover_row *row, char *text, size_t size);

/* ---- failover_absorb.c ---- */
/* Takes the event in; false when nothing is to be decided about it. */
bool failover_absorb(struct failover *f, const struct failover_event *event);
bool failover_is_committing(const struct failover *f);

/* ---- failover.c, for effects ---- */
/* Answers the order under way, if there is one, and forgets it. */
void failover_answer(struct failover *f, struct failover_update *out, int err, const char *fmt, ...)
    MR_PRINTF(4, 5);
struct failover_action *failover_add(struct failover_update *out, enum failover_action_type type, int member,
                                     uint64_t epoch);
void failover_report(struct failover *f, struct failover_update *out, enum failover_level level,
                     const char *fmt, ...) MR_PRINTF(4, 5);

/* Tells the proxies about `route` (copied). */
void failover_publish(struct failover *f, struct failover_update *out, const struct topology_instance *route);
/* Commits f->proposed, with update.history when has_history. */
void failover_commit(struct failover *f, struct failover_update *out, bool has_history);

/* ---- failover_effects.c, failover_promote.c ---- */
extern const struct topology_timeline failover_timeline_unknown;

#define FAILOVER_GUARD(name) bool name(const struct failover *f, const struct failover_event *event)
#define FAILOVER_EFFECT(name)                                                                                \
    void name(struct failover *f, const struct failover_event *event, struct failover_update *out)

FAILOVER_GUARD(failover_is_stable);
FAILOVER_GUARD(failover_is_sealing);
FAILOVER_GUARD(failover_is_promoting);
FAILOVER_GUARD(failover_is_suspect);
FAILOVER_GUARD(failover_is_healthy);
FAILOVER_GUARD(failover_has_verdict);
FAILOVER_GUARD(failover_has_verdict_but_off);
FAILOVER_GUARD(failover_has_verdict_but_restrained);
FAILOVER_GUARD(failover_is_degraded_anew);
FAILOVER_GUARD(failover_has_nameless_donor);
FAILOVER_GUARD(failover_has_donor);
FAILOVER_GUARD(failover_has_donated);
FAILOVER_GUARD(failover_is_donor_lost);
FAILOVER_GUARD(failover_may_switch);
FAILOVER_GUARD(failover_may_force);
FAILOVER_GUARD(failover_may_force_on);
FAILOVER_GUARD(failover_may_set);
FAILOVER_GUARD(failover_may_fence);
FAILOVER_GUARD(failover_is_fence_tried);
FAILOVER_GUARD(failover_is_fence_refused);
FAILOVER_GUARD(failover_is_fence_hopeless);
FAILOVER_GUARD(failover_all_hold);
FAILOVER_GUARD(failover_is_paused);
FAILOVER_GUARD(failover_has_caught_up);
FAILOVER_GUARD(failover_cannot_switch);
FAILOVER_GUARD(failover_has_choice);
FAILOVER_GUARD(failover_is_promoted);
FAILOVER_GUARD(failover_is_candidate_lost);
FAILOVER_GUARD(failover_has_membership_fact);
FAILOVER_GUARD(failover_has_other_readers);

FAILOVER_EFFECT(failover_do_nothing);
FAILOVER_EFFECT(failover_do_watch);
FAILOVER_EFFECT(failover_do_tend);
FAILOVER_EFFECT(failover_do_suspect);
FAILOVER_EFFECT(failover_do_clear);
FAILOVER_EFFECT(failover_do_probe);
FAILOVER_EFFECT(failover_do_report_off);
FAILOVER_EFFECT(failover_do_report_restrained);
FAILOVER_EFFECT(failover_do_report_degraded);
FAILOVER_EFFECT(failover_do_name_donor);
FAILOVER_EFFECT(failover_do_donate);
FAILOVER_EFFECT(failover_do_feed);
FAILOVER_EFFECT(failover_do_await_recipient);
FAILOVER_EFFECT(failover_do_end_donation);
FAILOVER_EFFECT(failover_do_abandon_donation);
FAILOVER_EFFECT(failover_do_hold);
FAILOVER_EFFECT(failover_do_await_holders);
FAILOVER_EFFECT(failover_do_pause_master);
FAILOVER_EFFECT(failover_do_probe_target);
FAILOVER_EFFECT(failover_do_await_target);
FAILOVER_EFFECT(failover_do_commit_switch);
FAILOVER_EFFECT(failover_do_roll_back);
FAILOVER_EFFECT(failover_do_force);
FAILOVER_EFFECT(failover_do_force_on);
FAILOVER_EFFECT(failover_do_commit_policy);
FAILOVER_EFFECT(failover_do_try_fence);
FAILOVER_EFFECT(failover_do_commit_fence);
FAILOVER_EFFECT(failover_do_refuse_fence);
FAILOVER_EFFECT(failover_do_policy_committed);
FAILOVER_EFFECT(failover_do_refuse);
FAILOVER_EFFECT(failover_do_commit_intent);
FAILOVER_EFFECT(failover_do_restart_intent);
FAILOVER_EFFECT(failover_do_begin_seal);
FAILOVER_EFFECT(failover_do_resume_seal);
FAILOVER_EFFECT(failover_do_seal);
FAILOVER_EFFECT(failover_do_commit_choice);
FAILOVER_EFFECT(failover_do_promote);
FAILOVER_EFFECT(failover_do_resume_promote);
FAILOVER_EFFECT(failover_do_await_candidate);
FAILOVER_EFFECT(failover_do_finish);
FAILOVER_EFFECT(failover_do_end);
FAILOVER_EFFECT(failover_do_commit_fact);
FAILOVER_EFFECT(failover_do_commit_readers);
FAILOVER_EFFECT(failover_do_fact_committed);
FAILOVER_EFFECT(failover_do_rejoin);
FAILOVER_EFFECT(failover_do_replicated);
FAILOVER_EFFECT(failover_do_reload);
FAILOVER_EFFECT(failover_do_stop);

/* The event's trust, or that of a controller that has no reason to doubt itself. */
const struct health_trust *failover_trust(const struct failover_event *event);
/* Who would be promoted with what is known now; nothing is changed. */
void failover_choose(const struct failover *f, int64_t now_us, struct select_result *choice);
/* Holds the proxies and seals everybody who can be reached: the old master too, if it is back. */
void failover_seal_all(struct failover *f, const struct failover_event *event, struct failover_update *out);
void failover_seal_member(struct failover *f, int64_t now_us, struct failover_update *out, int member);
/* The member as it may be chosen now. */
struct select_member failover_as_candidate(const struct failover *f, int member);
/* f->proposed becomes the committed intent of a failover with that verdict. */
void failover_propose_intent(struct failover *f, const struct failover_event *event,
                             enum topology_verdict verdict, const char *evidence);
/* Remembers the order of the event; its answer is owed from here on. */
void failover_take_order(struct failover *f, const struct failover_event *event);

/* ---- failover_readers.c ---- */
/* Takes what the event has changed in who may serve reads. */
void failover_observe_readers(struct failover *f, const struct failover_event *event);

/* ---- failover_strict.c: what durability asks of members, operators and history ---- */
/* Takes from an INFO of `member` who has reached the master's offset, and who is attached to it. */
void failover_note_reach(struct failover *f, int member, int64_t now_us);
/* Other members that are, for certain, in step with the master since since_us: their own INFO has reached an
 * offset that the master's INFO told then or later. */
uint32_t failover_survivors(const struct failover *f, int without, int64_t since_us);
/* May the policy become that of `to`? 0, or ERR_REJECTED and a sentence in why. */
int failover_check_durability(const struct topology_instance *from, const struct topology_instance *to,
                              char *why, size_t why_size) MR_MUST_CHECK;
/* Something that whoever has set it should know; "" when there is nothing. Returns text. */
const char *failover_durability_note(const struct topology_instance *from, const struct topology_instance *to,
                                     char *text, size_t size);
/* Takes the member out of *p; ERR_NOT_FOUND, or ERR_REJECTED, and a sentence in why. */
int failover_propose_forget(const struct failover *f, const struct topology_address *target,
                            struct topology_instance *p, char *why, size_t why_size) MR_MUST_CHECK;
/* What is lost by the order to take the loss, as far as it is known, into p->failover. */
void failover_note_loss(const struct failover *f, const struct select_result *choice,
                        struct topology_instance *p);
/* Says so when a failover would not find enough members any more, or does again. */
void failover_observe_readiness(struct failover *f, const struct failover_event *event,
                                struct failover_update *out);

/* ---- failover_operator.c ---- */
/* 0 when the order is a change of policy that may be made now, then *p is what it makes of the record;
 * otherwise why not. */
int failover_propose_policy(const struct failover *f, const struct failover_event *event,
                            struct topology_instance *p, char *why, size_t why_size) MR_MUST_CHECK;

/* ---- failover_fence.c: which users of which epoch there are on whom ---- */
void failover_absorb_fenced(struct failover *f, const struct failover_event *event);
/* Sends whom it concerns a FENCE; says what has failed. After each step of a leader. */
void failover_tend_fences(struct failover *f, const struct failover_event *event,
                          struct failover_update *out);
/* What is known of ACLs is not any more: all are looked at again. */
void failover_forget_fences(struct failover *f);
/* The member's ACL isn't as it should be yet, and there is hope that it soon will be. */
bool failover_awaits_fence(const struct failover *f, int member);
/* May the fence become that of `to`? 0, or ERR_REJECTED and a sentence in why. */
int failover_check_fence(const struct failover *f, const struct topology_instance *to, char *why,
                         size_t why_size) MR_MUST_CHECK;
/* Something that whoever has turned it on should know; "" when there is nothing. Returns text. */
const char *failover_fence_note(const struct failover *f, const struct topology_instance *to, char *text,
                                size_t size);
/* The record is another one now: what was to be set is not, the operator is told. */
void failover_drop_setting(struct failover *f, struct failover_update *out);

/* ---- failover_repair.c: what a STABLE instance needs to become whole again ---- */
/* The first membership fact the znode lacks: a replica's new incarnation, a replica nobody registered. False:
 * none. Fills proposed and history as the commit needs them; either may be NULL. */
bool failover_find_fact(const struct failover *f, const struct failover_event *event,
                        struct topology_instance *proposed, struct topology_history *history);
/* The master is the registered incarnation and says that it is master. */
bool failover_master_is_well(const struct failover *f, int master);
bool failover_follows(const struct failover *f, const struct health_member *h);
/* It wrote a history of its own, or may have, and has not been sealed yet: no REPLICATE before its SEAL is
 * answered, or nobody would know what it had more. */
bool failover_is_stray(const struct failover *f, int member);
/* Seals strays and re-points replicas that follow somebody else; returns the time of the next try, 0: none
 * needed. */
int64_t failover_tend_members(struct failover *f, const struct failover_event *event,
                              struct failover_update *out);
/* The epoch table has a row with that replication id. */
bool failover_has_row(const struct topology_instance *i, const char *repl_id);
/* The table keeps rows of promotions that came to nothing only as long as there is room. */
void failover_make_room(struct topology_instance *p);
/* Bytes the member wrote beyond the point where the present history branched off its own; 0 when unknown. */
int64_t failover_divergent_bytes(const struct topology_instance *i, const struct info *info);

#endif
