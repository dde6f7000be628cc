/* Would it work now? The same comparator and the same rules, asked without doing anything. */
#include "controller/core/failover_table.h"
#include "controller/core/restraint.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void MR_PRINTF(2, 3) plan_line(struct failover_plan *plan, const char *fmt, ...)
{
    if (plan->n_lines == sizeof(plan->lines) / sizeof(plan->lines[0]))
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(plan->lines[plan->n_lines++], FAILOVER_TEXT_MAX + 1, fmt, args);
    va_end(args);
}

static void MR_PRINTF(3, 4) plan_conclude(struct failover_plan *plan, bool ready, const char *fmt, ...)
{
    size_t at = (size_t)snprintf(plan->verdict, sizeof(plan->verdict), "%s: ", ready ? "READY" : "NOT READY");
    va_list args;
    va_start(args, fmt);
    vsnprintf(plan->verdict + at, sizeof(plan->verdict) - at, fmt, args);
    va_end(args);
    plan->ready = ready;
}

/* As if everybody who answers now had been sealed with what was last heard of it. */
static void plan_fill(const struct failover *f, int without, struct select_member *members,
                      struct failover_plan *plan)
{
    for (int k = 0; k < (int)f->record.n_members; k++) {
        const struct health_member *h = &f->health[k];
        bool reachable = health_is_reachable(h);
        members[k].info = h->info;
        members[k].sealed = k != without && reachable && h->info_known;
        members[k].may_return = !reachable;
        plan->n_reachable += reachable;
    }
    plan->n_members = f->record.n_members;
}

static void plan_say_members(const struct failover *f, const struct topology_instance *record,
                             const struct select_member *members, struct failover_plan *plan)
{
    int master = topology_member_find(&f->record, &f->record.master);
    for (int k = 0; k < (int)record->n_members; k++) {
        char text[TOPOLOGY_ADDRESS_MAX + 1], lag[64] = "";
        struct select_member heard = members[k];
        const struct health_member *h = &f->health[k];
        heard.sealed = h->info_known && health_is_reachable(h);
        const char *why = select_refusal(record, k, &heard);
        plan->n_countable += heard.sealed && select_lineage(record, &h->info) != 0 &&
                             strcmp(record->members[k].run_id, h->info.run_id) == 0 && !h->info.syncing &&
                             !h->info.loading;
        if (k != master && master >= 0 && f->health[master].info_known && h->info_known)
            snprintf(lag, sizeof(lag), ", %lld bytes behind",
                     (long long)(f->health[master].info.offset > h->info.offset
                                     ? f->health[master].info.offset - h->info.offset
                                     : 0));
        plan_line(plan, "%s: %s, offset %lld%s, %s",
                  topology_address_format(&record->members[k].address, text),
                  k == master ? "master" : "replica", (long long)h->info.offset, lag,
                  why ? why : "its data counts");
    }
}

/* The arithmetic of a strict instance. */
static void plan_say_quorum(const struct topology_instance *record, const struct select_result *choice,
                            struct failover_plan *plan)
{
    plan->n_needed = choice->needed;
    plan->n_have = choice->have;
    if (!topology_is_strict(record))
        return;
    bool enough = choice->have >= choice->needed;
    plan_line(plan, "durability strict: needs %u of %u registered members (%u - acks %u), has %u%s",
              choice->needed, record->n_members, record->n_members, record->policy.acks, choice->have,
              !enough && record->failover.data_loss_allowed ? "; loss of data is allowed" : "");
    if (!enough && !record->failover.data_loss_allowed)
        plan_line(
            plan,
            "mrctl failover %s --allow-data-loss would promote the best of those that are left: what was "
            "acknowledged may be lost",
            record->name);
}

static void plan_say_restraint(const struct failover *f, int64_t wall_ms,
                               const struct topology_pause *maintenance, struct failover_plan *plan)
{
    struct restraint r;
    restraint_judge(&f->record, TOPOLOGY_VERDICT_NONE, maintenance, wall_ms, &r);
    if (!f->record.policy.auto_failover)
        plan_line(plan, "auto_failover is off: nobody is promoted without an order");
    if (r.refused)
        plan_line(plan, "restraint: %s%s", r.why,
                  f->record.cooldown.strikes && !f->record.cooldown.bypassed && !f->record.pause.owner[0]
                      ? " (a DEAD verdict may bypass it once)"
                      : "");
}

static bool plan_names_wrong_target(const struct failover *f, const struct failover_command *c,
                                    const struct select_member *members, struct failover_plan *plan)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    int target = topology_member_find(&f->record, &c->target);
    if (!topology_address_is_set(&c->target))
        return false;
    topology_address_format(&c->target, text);
    const char *why = target < 0 ? "is not a member"
                      : topology_address_equal(&c->target, &f->record.master)
                          ? "is the master already"
                          : select_refusal(&f->record, target, &members[target]);
    if (!why)
        return false;
    plan_conclude(plan, false, "%s can't become master: %s", text, why);
    return true;
}

/* A planned one also needs both ends in step, and nothing else going on. */
static void plan_check_switch(const struct failover *f, struct failover_plan *plan)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    int master = topology_member_find(&f->record, &f->record.master);
    const struct health_member *m = master >= 0 ? &f->health[master] : NULL;
    const struct health_member *t = &f->health[plan->target];
    topology_address_format(&f->record.members[plan->target].address, text);
    if (f->record.state != TOPOLOGY_STABLE || (f->phase != FAILOVER_WATCH && f->phase != FAILOVER_IDLE))
        plan_conclude(plan, false, "it is busy (%s): try again when it is stable",
                      failover_phase_name(f->phase));
    else if (!m || !health_is_reachable(m) || !m->info_known || m->info.role != INFO_ROLE_MASTER)
        plan_conclude(plan, false,
                      "the master does not answer: a switchover needs it; mrctl failover does not");
    else if (!t->info.master_link_up || t->info.syncing)
        plan_conclude(plan, false, "%s is not linked to the master: wait until it is", text);
    else
        plan_line(plan, "steps: hold at the proxies, CLIENT PAUSE, equal offsets, seal, promote %s, publish",
                  text);
}

static void plan_choose(const struct failover *f, const struct failover_command *c,
                        struct failover_plan *plan)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    struct select_member members[TOPOLOGY_MEMBERS_MAX];
    struct select_result choice;
    struct topology_instance record = f->record;
    int master = topology_member_find(&record, &record.master);
    if (master >= 0)
        record.failover.old_master = record.master;
    record.failover.verdict = c ? TOPOLOGY_VERDICT_MANUAL : TOPOLOGY_VERDICT_DEAD;
    record.failover.data_loss_allowed = c && c->data_loss_allowed;
    memset(&record.failover.target, 0, sizeof(record.failover.target));
    if (c)
        record.failover.target = c->target;
    plan_fill(f, c ? -1 : master, members, plan);
    plan_say_members(f, &record, members, plan);
    if (c && !record.failover.data_loss_allowed && plan_names_wrong_target(f, c, members, plan))
        return;
    select_choose(&record, members, NULL, &choice);
    plan_say_quorum(&record, &choice, plan);
    if (choice.chosen < 0 || (c && choice.chosen == master)) {
        plan_conclude(plan, false, "nobody %smay be promoted: %s", choice.chosen >= 0 ? "else " : "",
                      choice.chosen >= 0 ? "the master is the only one whose data counts" : choice.reason);
        return;
    }
    plan->target = choice.chosen;
    topology_address_format(&record.members[choice.chosen].address, text);
    if (choice.donor >= 0 && !(c && c->type == FAILOVER_COMMAND_SWITCHOVER)) {
        char donor[TOPOLOGY_ADDRESS_MAX + 1];
        plan_line(plan, "%s is ahead and must not be master: %s catches up from it first",
                  topology_address_format(&record.members[choice.donor].address, donor), text);
    }
    plan_conclude(plan, true, "%s would become master (%s)", text, choice.reason);
}

/* Fences delay or forbid nothing; but who can't log in afterwards should be known before. */
static void plan_say_fence(const struct failover *f, struct failover_plan *plan)
{
    char login[TOPOLOGY_USER_MAX + 1], address[TOPOLOGY_ADDRESS_MAX + 1];
    if (!topology_is_fenced(&f->record))
        return;
    topology_fence_login(&f->record, login);
    plan_line(plan,
              "fence acl: applications that connect to members log in as %s; a failover makes that %s-e%llu",
              login[0] != '\0' ? login : "nobody", f->record.policy.fence_user,
              (unsigned long long)f->record.epoch + 1);
    for (int k = 0; k < (int)f->record.n_members; k++)
        if (f->members[k].fence.failed)
            plan_line(plan, "%s can't be fenced: %s",
                      topology_address_format(&f->record.members[k].address, address),
                      f->members[k].fence.why);
}

void failover_explain(const struct failover *f, const struct failover_command *command, int64_t now_us,
                      int64_t wall_ms, const struct health_trust *trust,
                      const struct topology_pause *maintenance, struct failover_plan *out)
{
    assert(f && out);
    (void)now_us;
    memset(out, 0, sizeof(*out));
    out->target = -1;
    if (!f->has_record) {
        plan_conclude(out, false, "its record has not been read yet");
        return;
    }
    bool forced = command && (command->type == FAILOVER_COMMAND_FAILOVER ||
                              command->type == FAILOVER_COMMAND_SWITCHOVER);
    plan_choose(f, forced ? command : NULL, out);
    plan_say_restraint(f, wall_ms, maintenance, out);
    plan_say_fence(f, out);
    if (trust && trust->distrusted)
        plan_line(
            out, "this controller sees more than half of all members silent and does not trust its own view");
    if (f->waiting[0] != '\0')
        plan_line(out, "now: %s", f->waiting);
    if (forced && command->type == FAILOVER_COMMAND_SWITCHOVER && out->ready)
        plan_check_switch(f, out);
    else if (forced && out->ready && f->record.state != TOPOLOGY_STABLE && !command->data_loss_allowed)
        plan_conclude(out, false, "a failover is under way already (%s)", failover_phase_name(f->phase));
}
