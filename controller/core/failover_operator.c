/* What operators order: forced failover, policy, pause, resume, ack; and the refusal of what does not fit. */
#include "controller/core/failover_table.h"
#include "controller/core/restraint.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const char *failover_by(const struct failover_event *event)
{
    return event->command->by[0] != '\0' ? event->command->by : "somebody";
}

/* ---- forced failover ------------------------------------------------------------------------------------
 */

FAILOVER_GUARD(failover_may_force)
{
    struct failover_plan plan;
    if (event->command->type != FAILOVER_COMMAND_FAILOVER)
        return false;
    failover_explain(f, event->command, event->now_us, event->wall_ms, event->trust, event->maintenance,
                     &plan);
    return plan.ready;
}

FAILOVER_EFFECT(failover_do_force)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1], evidence[TOPOLOGY_EVIDENCE_MAX + 1];
    const struct failover_command *c = event->command;
    bool named = topology_address_is_set(&c->target);
    failover_take_order(f, event);
    f->timeline = failover_timeline_unknown;
    snprintf(evidence, sizeof(evidence), "ordered by %s%s%s%s", failover_by(event), named ? ", to " : "",
             named ? topology_address_format(&c->target, text) : "",
             c->data_loss_allowed ? ", loss of data allowed" : "");
    failover_propose_intent(f, event, TOPOLOGY_VERDICT_MANUAL, evidence);
    f->proposed.failover.target = c->target;
    f->proposed.failover.data_loss_allowed = c->data_loss_allowed;
    failover_report(f, out, FAILOVER_WARN, "event=failover.ordered instance=%s epoch=%llu evidence=\"%s\"",
                    f->record.name, (unsigned long long)f->proposed.epoch, evidence);
    failover_commit(f, out, false);
}

/* A failover waits because nobody may be promoted, and the operator takes the loss. */
FAILOVER_GUARD(failover_may_force_on)
{
    (void)f;
    return event->command->type == FAILOVER_COMMAND_FAILOVER && event->command->data_loss_allowed;
}

FAILOVER_EFFECT(failover_do_force_on)
{
    struct topology_instance *p = &f->proposed;
    failover_answer(f, out, ERR_BUSY, "replaced by an order of %s that takes the loss of data",
                    failover_by(event)); /* the one that has been waiting, if any */
    failover_take_order(f, event);
    *p = f->record;
    p->epoch++;
    p->failover.epoch = p->epoch;
    p->failover.data_loss_allowed = true;
    p->failover.target = event->command->target;
    if (topology_address_is_set(&p->failover.target))
        p->failover.verdict = TOPOLOGY_VERDICT_MANUAL;
    size_t at = strlen(p->failover.evidence);
    snprintf(p->failover.evidence + at, sizeof(p->failover.evidence) - at, "; loss of data allowed by %s",
             failover_by(event));
    f->commit_at_us = event->now_us;
    failover_report(
        f, out, FAILOVER_ERROR,
        "event=failover.loss_allowed instance=%s epoch=%llu by=%s next=\"sealing and choosing again\"",
        p->name, (unsigned long long)p->epoch, failover_by(event));
    failover_commit(f, out, false);
}

/* ---- policy ---------------------------------------------------------------------------------------------
 */

int failover_propose_policy(const struct failover *f, const struct failover_event *event,
                            struct topology_instance *p, char *why, size_t why_size)
{
    const struct failover_command *c = event->command;
    *p = f->record;
    switch (c->type) {
    case FAILOVER_COMMAND_PAUSE:
        p->pause = c->pause;
        break;
    case FAILOVER_COMMAND_RESUME:
        memset(&p->pause, 0, sizeof(p->pause));
        break;
    case FAILOVER_COMMAND_ACK:
        memset(&p->cooldown, 0, sizeof(p->cooldown));
        break;
    case FAILOVER_COMMAND_SET:
        p->policy = c->policy;
        for (uint32_t k = 0; k < c->n_labels; k++) {
            char text[TOPOLOGY_ADDRESS_MAX + 1];
            int member = topology_member_find(p, &c->labels[k].address);
            if (member < 0) {
                snprintf(why, why_size, "%s is not a member of %s",
                         topology_address_format(&c->labels[k].address, text), p->name);
                return ERR_NOT_FOUND;
            }
            p->members[member].priority = c->labels[k].priority;
            memcpy(p->members[member].zone, c->labels[k].zone, sizeof(p->members[member].zone));
        }
        break;
    case FAILOVER_COMMAND_FORGET: {
        int err = failover_propose_forget(f, &c->target, p, why, why_size);
        if (err != 0)
            return err;
        break;
    }
    default:
        return ERR_INVALID;
    }
    int err = c->type == FAILOVER_COMMAND_SET ? failover_check_durability(&f->record, p, why, why_size) : 0;
    if (err == 0 && c->type == FAILOVER_COMMAND_SET)
        err = failover_check_fence(f, p, why, why_size);
    return err != 0 ? err : topology_check(p, why, why_size);
}

static bool failover_is_policy(enum failover_command_type type)
{
    return type == FAILOVER_COMMAND_PAUSE || type == FAILOVER_COMMAND_RESUME ||
           type == FAILOVER_COMMAND_ACK || type == FAILOVER_COMMAND_SET || type == FAILOVER_COMMAND_FORGET;
}

FAILOVER_GUARD(failover_may_set)
{
    struct topology_instance p;
    char why[FAILOVER_TEXT_MAX];
    return failover_is_policy(event->command->type) &&
           failover_propose_policy(f, event, &p, why, sizeof(why)) == 0 &&
           topology_is_fenced(&f->record) == topology_is_fenced(&p); /* else that is tried first */
}

/* "cooldown_ms 60000 -> 0, 10.0.0.2:6379 priority prefer", as far as there is room. */
static void failover_say_change(const struct topology_instance *a, const struct topology_instance *b,
                                char *text, size_t size)
{
    const struct {
        const char *key;
        uint64_t from, to;
    } keys[] = {
        {"acks", a->policy.acks, b->policy.acks},
        {"unreachable_after_ms", a->policy.unreachable_after_ms, b->policy.unreachable_after_ms},
        {"hung_after_ms", a->policy.hung_after_ms, b->policy.hung_after_ms},
        {"cooldown_ms", a->policy.cooldown_ms, b->policy.cooldown_ms},
        {"min_replicas_to_write", a->policy.min_replicas_to_write, b->policy.min_replicas_to_write},
        {"min_replicas_max_lag", a->policy.min_replicas_max_lag, b->policy.min_replicas_max_lag},
        {"max_lag_bytes", a->policy.max_lag_bytes, b->policy.max_lag_bytes},
        {"hold_ms", a->policy.hold_ms, b->policy.hold_ms},
        {"auto_failover", a->policy.auto_failover, b->policy.auto_failover},
    };
    size_t at = 0;
    text[0] = '\0';
    if (a->policy.durability != b->policy.durability)
        at += (size_t)snprintf(text, size, "durability %s -> %s",
                               topology_durability_name(a->policy.durability),
                               topology_durability_name(b->policy.durability));
    if (a->policy.reads != b->policy.reads)
        at += (size_t)snprintf(text + at, size - at, "%sreads %s -> %s", at ? ", " : "",
                               topology_reads_name(a->policy.reads), topology_reads_name(b->policy.reads));
    if (a->policy.fence != b->policy.fence || strcmp(a->policy.fence_user, b->policy.fence_user) != 0)
        at += (size_t)snprintf(text + at, size - at, "%sfence %s -> %s, fence_user %s", at ? ", " : "",
                               topology_fence_name(a->policy.fence), topology_fence_name(b->policy.fence),
                               b->policy.fence_user[0] ? b->policy.fence_user : "-");
    for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]) && at < size; k++)
        if (keys[k].from != keys[k].to)
            at += (size_t)snprintf(text + at, size - at, "%s%s %llu -> %llu", at ? ", " : "", keys[k].key,
                                   (unsigned long long)keys[k].from, (unsigned long long)keys[k].to);
    for (uint32_t k = 0; a->n_members == b->n_members && k < b->n_members && at < size; k++) {
        char address[TOPOLOGY_ADDRESS_MAX + 1];
        const struct topology_member *x = &a->members[k], *y = &b->members[k];
        if (x->priority != y->priority || strcmp(x->zone, y->zone) != 0)
            at += (size_t)snprintf(text + at, size - at, "%s%s priority %s zone %s", at ? ", " : "",
                                   topology_address_format(&y->address, address),
                                   topology_priority_name(y->priority), y->zone[0] ? y->zone : "-");
    }
    if (text[0] == '\0')
        snprintf(text, size, "nothing");
}

/* Says it, and what should be known about it. The end of a promise is told before it is true: no proxy may go
 * on promising what the record doesn't hold any more. */
static void failover_tell_change(struct failover *f, struct failover_update *out, const char *what,
                                 const char *evidence)
{
    char note[200];
    failover_report(f, out, FAILOVER_INFO, "event=policy.changed instance=%s what=\"%s\"", f->record.name,
                    evidence);
    failover_durability_note(&f->record, &f->proposed, note, sizeof(note));
    bool durable = note[0] != '\0';
    if (!durable)
        failover_fence_note(f, &f->proposed, note, sizeof(note));
    if (note[0] != '\0')
        failover_report(f, out, FAILOVER_WARN, "event=%s.note instance=%s note=\"%s\"",
                        durable ? "durability" : "fence", f->record.name, note);
    snprintf(f->order.what, sizeof(f->order.what), "%s%s%s", what, note[0] != '\0' ? "; note: " : "", note);
    f->untold = topology_is_strict(&f->record) && f->proposed.policy.durability == TOPOLOGY_ASYNC;
    if (f->untold)
        failover_publish(f, out, &f->proposed);
}

FAILOVER_EFFECT(failover_do_commit_policy)
{
    static const char *const words[] = {
        [FAILOVER_COMMAND_PAUSE] = "paused",
        [FAILOVER_COMMAND_RESUME] = "resumed",
        [FAILOVER_COMMAND_ACK] = "failovers acknowledged, cooldown ended",
        [FAILOVER_COMMAND_SET] = "policy changed",
        [FAILOVER_COMMAND_FORGET] = "forgotten",
    };
    char why[FAILOVER_TEXT_MAX];
    int err = failover_propose_policy(f, event, &f->proposed, why, sizeof(why));
    assert(err == 0);
    (void)err;
    if (f->order.id == 0) /* else it was taken when the fence was tried */
        failover_take_order(f, event);
    const char *what = words[event->command->type];
    struct topology_history *h = &out->history;
    memset(h, 0, sizeof(*h));
    bool forgets = event->command->type == FAILOVER_COMMAND_FORGET;
    h->kind = forgets ? TOPOLOGY_HISTORY_MEMBER : TOPOLOGY_HISTORY_POLICY;
    h->at_ms = event->wall_ms;
    h->epoch = f->record.epoch;
    h->term = f->term;
    h->row = out->row;
    h->from = forgets ? event->command->target : f->record.master;
    char details[160] = "";
    if (event->command->type == FAILOVER_COMMAND_PAUSE)
        snprintf(details, sizeof(details), "%s", event->command->pause.reason);
    else if (event->command->type == FAILOVER_COMMAND_SET)
        failover_say_change(&f->record, &f->proposed, details, sizeof(details));
    else if (forgets)
        topology_address_format(&event->command->target, details);
    snprintf(h->evidence, sizeof(h->evidence), "%s by %s%s%s", what, failover_by(event),
             details[0] ? ": " : "", details);
    failover_tell_change(f, out, what, h->evidence);
    failover_commit(f, out, true);
}

FAILOVER_EFFECT(failover_do_policy_committed)
{
    (void)event;
    f->untold = false;
    f->suspect_at_us = 0; /* what is wrong, if anything, is found again at once */
    failover_publish(f, out, &f->record);
    failover_answer(f, out, 0, "%s: %s", f->record.name, f->order.what);
}

/* ---- refusal --------------------------------------------------------------------------------------------
 */

FAILOVER_EFFECT(failover_do_refuse)
{
    const struct failover_command *c = event->command;
    struct failover_order under_way = f->order;
    struct topology_instance p;
    struct failover_plan plan;
    char why[FAILOVER_TEXT_MAX] = "";
    int err = ERR_BUSY;
    memset(&f->order, 0, sizeof(f->order));
    f->order.id = c->id;
    if (f->term == 0) {
        failover_answer(f, out, ERR_DEPOSED, "this controller does not lead");
    } else if (under_way.id != 0 || failover_is_committing(f)) {
        failover_answer(f, out, ERR_BUSY, "another change of %s is under way (%s): try again", f->record.name,
                        failover_phase_name(f->phase));
    } else if (failover_is_policy(c->type) && f->record.state == TOPOLOGY_STABLE && f->has_record) {
        err = failover_propose_policy(f, event, &p, why, sizeof(why));
        failover_answer(f, out, err != 0 ? ERR_REJECTED : ERR_BUSY, "%s", err != 0 ? why : "try again");
    } else if (failover_is_policy(c->type)) {
        failover_answer(f, out, ERR_BUSY, "a failover of %s is under way (%s): try again when it is stable",
                        f->record.name, topology_state_name(f->record.state));
    } else {
        failover_explain(f, c, event->now_us, event->wall_ms, event->trust, event->maintenance, &plan);
        failover_answer(f, out, ERR_REJECTED, "%s", plan.verdict);
    }
    f->order = under_way;
}
