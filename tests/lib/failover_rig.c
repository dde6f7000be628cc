#include "tests/lib/failover_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const run_ids[] = {RIG_ID("a"), RIG_ID("b"), RIG_ID("c")};

struct topology_instance rig_sample(uint32_t n_members)
{
    struct topology_instance i;
    memset(&i, 0, sizeof(i));
    snprintf(i.name, sizeof(i.name), "cart");
    i.port = 6101;
    i.epoch = 1;
    topology_policy_default(&i.policy);
    for (uint32_t k = 0; k < n_members; k++) {
        struct topology_member *m = &i.members[i.n_members++];
        snprintf(m->address.host, sizeof(m->address.host), "10.0.0.%u", k + 1);
        m->address.port = 6379;
        snprintf(m->run_id, sizeof(m->run_id), "%s", run_ids[k]);
        m->serves_reads = k > 0; /* else a replica that is well for a second would be committed as one */
    }
    i.master = i.members[0].address;
    struct topology_epoch row = {.epoch = 1};
    snprintf(row.repl_id, sizeof(row.repl_id), "%s", RIG_REPL_1);
    topology_epoch_append(&i, &row);
    return i;
}

void rig_step(struct rig *b, struct failover_event event)
{
    event.now_us = b->now_us;
    event.wall_ms = b->wall_ms;
    event.trust = &b->trust;
    event.maintenance = b->maintenance;
    failover_step(&b->f, &event, &b->update);
}

/* "COMMIT SEAL:1 SEAL:2 PUBLISH", reports left out. */
const char *rig_actions(const struct rig *b)
{
    static char text[512];
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t k = 0; k < b->update.n; k++) {
        const struct failover_action *a = &b->update.actions[k];
        if (a->type == FAILOVER_DO_REPORT)
            continue;
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? " " : "",
                               failover_action_name(a->type));
        if (a->member >= 0 && a->type != FAILOVER_DO_HISTORY)
            at += (size_t)snprintf(text + at, sizeof(text) - at, ":%d", a->member);
    }
    return text;
}

void rig_pass(struct rig *b, int64_t us)
{
    int64_t end_us = b->now_us + us;
    for (;;) {
        int64_t at_us = failover_deadline_us(&b->f);
        if (at_us == 0 || at_us > end_us)
            break;
        int64_t before_us = b->now_us;
        b->now_us = at_us > b->now_us ? at_us : b->now_us + 1;
        b->wall_ms += (b->now_us - before_us) / 1000;
        rig_step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
    }
    b->wall_ms += (end_us - b->now_us) / 1000;
    b->now_us = end_us;
}

void rig_mute(struct rig *b, int member, int64_t since_us)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_MUTE, .member = member, .at_us = since_us});
}

void rig_knock(struct rig *b, int member, enum health_knock knock)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_KNOCK, .member = member, .knock = knock});
}

void rig_vote(struct rig *b, uint32_t n, enum health_view_kind kind, int64_t silent_us)
{
    struct health_votes votes = {.asked_us = b->now_us, .n_controllers = b->trust.n_controllers, .n = n};
    for (uint32_t k = 0; k < n; k++)
        votes.views[k] = (struct health_view){.kind = kind, .silent_us = silent_us};
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SURVEYED, .votes = &votes});
}

int rig_answered(const struct rig *b)
{
    for (uint32_t k = 0; k < b->update.n; k++)
        if (b->update.actions[k].type == FAILOVER_DO_ANSWER)
            return b->update.actions[k].err;
    return 1;
}

int rig_order(struct rig *b, struct failover_command command)
{
    command.id = 9;
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_COMMAND, .command = &command});
    return rig_answered(b);
}

void rig_link_up(struct rig *b, int member)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_LINK_UP, .member = member});
}

void rig_link_down(struct rig *b, int member, int err)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_LINK_DOWN, .member = member, .err = err});
}

struct info rig_master_info(int member, int64_t offset)
{
    struct info info;
    info_init(&info);
    info.role = INFO_ROLE_MASTER;
    snprintf(info.run_id, sizeof(info.run_id), "%s", run_ids[member]);
    snprintf(info.repl_id, sizeof(info.repl_id), "%s", RIG_REPL_1);
    info.offset = offset;
    return info;
}

struct info rig_replica_info(const struct rig *b, int member, int64_t offset, bool up)
{
    struct info info = rig_master_info(member, offset);
    info.role = INFO_ROLE_REPLICA;
    info.master = b->f.record.members[0].address;
    info.master_link_up = up;
    return info;
}

struct info rig_sealed_info(int member, int64_t offset)
{
    struct info info = rig_master_info(member, offset);
    info.role = INFO_ROLE_REPLICA;
    snprintf(info.master.host, sizeof(info.master.host), "127.0.0.1");
    info.master.port = 1;
    return info;
}

void rig_tell(struct rig *b, int member, struct info info)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_INFO, .member = member, .info = &info});
}

void rig_committed(struct rig *b)
{
    rig_step(b, (struct failover_event){
                    .type = FAILOVER_ON_COMMITTED, .version = ++b->version, .revision = ++b->revision});
}

void rig_sealed(struct rig *b, int member, int64_t offset)
{
    struct info info = rig_sealed_info(member, offset);
    rig_step(b, (struct failover_event){
                    .type = FAILOVER_ON_SEALED, .member = member, .epoch = b->f.record.epoch, .info = &info});
}

void rig_promoted(struct rig *b, int member, int64_t offset)
{
    struct info info = rig_master_info(member, offset);
    snprintf(info.repl_id, sizeof(info.repl_id), "%s", RIG_REPL_2);
    snprintf(info.repl_id2, sizeof(info.repl_id2), "%s", RIG_REPL_1);
    info.second_offset = offset + 1;
    rig_step(b,
             (struct failover_event){
                 .type = FAILOVER_ON_PROMOTED, .member = member, .epoch = b->f.record.epoch, .info = &info});
}

void rig_lead(struct rig *b, uint64_t term)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_LEAD, .term = term});
}

void rig_read_record(struct rig *b, const struct topology_instance *record)
{
    b->revision += 10;
    rig_step(
        b, (struct failover_event){
               .type = FAILOVER_ON_RECORD, .record = record, .version = b->version, .revision = b->revision});
}

/* A leader that watches a healthy instance of n members. */
struct rig *rig_watching(uint32_t n)
{
    struct rig *b = calloc(1, sizeof(*b));
    struct topology_instance i = rig_sample(n);
    assert_non_null(b);
    failover_init(&b->f);
    b->now_us = 1000000;
    b->wall_ms = 1700000000000;
    b->trust.n_controllers = 1;
    rig_read_record(b, &i);
    assert_int_equal(b->f.phase, FAILOVER_IDLE);
    for (uint32_t k = 0; k < n; k++) {
        rig_link_up(b, (int)k);
        rig_tell(b, (int)k, k == 0 ? rig_master_info(0, 100) : rig_replica_info(b, (int)k, 100, true));
    }
    rig_lead(b, 7);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_string_equal(rig_actions(b), "");
    return b;
}

void rig_kill_master(struct rig *b)
{
    b->now_us += 1000;
    rig_link_down(b, 0, ERR_CLOSED);
    rig_link_down(b, 0, ERR_REFUSED);
    for (int k = 1; k < (int)b->f.record.n_members; k++)
        rig_tell(b, k, rig_replica_info(b, k, 100, false));
}

const char *rig_answer(const struct rig *b)
{
    for (uint32_t k = 0; k < b->update.n; k++)
        if (b->update.actions[k].type == FAILOVER_DO_ANSWER)
            return b->update.reports[b->update.actions[k].report].text;
    return "";
}

bool rig_reports(const struct rig *b, const char *text)
{
    for (uint32_t k = 0; k < b->update.n_reports; k++)
        if (strstr(b->update.reports[k].text, text))
            return true;
    return false;
}
