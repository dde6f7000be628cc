/* Evidence → verdict. One function per row of the design's table; health_judge asks them in order. */
#include "controller/core/health.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Limits of the evidence, microseconds. */
static const int64_t quiet_us = 1200 * 1000; /* a replica whose master pings every second hears by then */
static const int64_t quiet_unset_us =
    11000 * 1000; /* the same with Redis' own repl-ping-replica-period, 10 */
/* What comes right after a silence was asked before it, perhaps of a process that is dead since. */
static const int64_t echo_us = 50 * 1000;
static const int64_t witness_age_us = 400 * 1000; /* a replica's word about silence is as old at most */
static const int64_t survey_lead_us = 200 * 1000; /* the others are asked so long before the limit */
static const int64_t survey_age_us = 1000 * 1000; /* their answers count for so long */
static const int64_t first_knock_us = 500 * 1000; /* a silence's first knock has ended by then */
static const int64_t vote_slack_us = 500 * 1000;  /* they noticed the silence so much later at most */

/* RESTARTED: another process answers at the master's address; what it holds is not the registered data. */
static bool health_is_restarted(const struct topology_member *registered, const struct health_member *master)
{
    return master->link == HEALTH_LINK_UP && master->info_known && registered->run_id[0] != '\0' &&
           master->info.run_id[0] != '\0' && strcmp(registered->run_id, master->info.run_id) != 0;
}

/* DEMOTED: the same process, but it answers as a replica: sealed late by a deposed leader, or re-pointed by
 * hand. */
static bool health_is_demoted(const struct health_member *master)
{
    return master->link == HEALTH_LINK_UP && master->info_known && master->info.role == INFO_ROLE_REPLICA;
}

/* An answer of a sealed member that was on its way when another leader promoted it looks like DEMOTED. It is
 * later than the promotion when it carries the replication id that the promotion made, or comes after this.
 */
static const int64_t demoted_for_us = 1000 * 1000;

static bool health_is_after_promotion(const struct topology_instance *i, const struct health_member *master,
                                      int64_t since_us)
{
    const struct topology_epoch *last = i->n_epochs ? &i->epochs[i->n_epochs - 1] : NULL;
    bool named = last && last->repl_id[0] != '\0' && strcmp(last->repl_id, master->info.repl_id) == 0;
    return named || master->info_at_us >= since_us + demoted_for_us;
}

/* What the replicas say about their master since the suspicion began. */
struct health_witnesses {
    uint32_t reachable, down, up, pending;
};

static int64_t health_later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Since when its silence counts. That of a process whose host was away begins with the host's return: the
 * first knock that is accepted after a time of unanswered ones says nothing about the process yet. */
static int64_t health_silent_since(const struct health_member *m, const struct health_trust *trust)
{
    int64_t since_us = health_later(m->mute_us, trust->since_us);
    return m->accepted_us != 0 ? health_later(since_us, m->accepted_us - first_knock_us) : since_us;
}

/* Does the replica still hear from its master? Its link alone says so only after repl-timeout (a minute);
 * its offset stops growing with the master's last ping. */
static bool health_is_fed(const struct topology_instance *i, const struct health_member *replica,
                          const struct health_member *master, bool judge_quiet)
{
    if (replica->info.role != INFO_ROLE_REPLICA || !topology_address_equal(&replica->info.master, &i->master))
        return false;
    if (replica->info.syncing && replica->info.sync_io_s >= 0 && replica->info.sync_io_s < 2)
        return true; /* its link is not "up" before the data has come, but the data comes */
    if (!replica->info.master_link_up)
        return false;
    if (!judge_quiet)
        return true;
    return replica->info_at_us - replica->fed_us < (master->pings ? quiet_us : quiet_unset_us);
}

/* judge_quiet: a link that is up but carries nothing counts as down (the master is silent to us too). */
static void health_ask_witnesses(const struct topology_instance *i, const struct health_member *members,
                                 int master, int64_t since_us, bool judge_quiet, struct health_witnesses *out)
{
    memset(out, 0, sizeof(*out));
    for (int k = 0; k < (int)i->n_members; k++) {
        const struct health_member *m = &members[k];
        if (k == master)
            continue;
        if (m->link == HEALTH_LINK_UNKNOWN || m->link == HEALTH_LINK_CLOSED) {
            out->pending++; /* its attempt ends within the connect deadline: not waiting would drop a witness
                             */
            continue;
        }
        if (!health_is_reachable(m))
            continue;
        out->reachable++;
        if (!m->info_known || m->info_at_us < since_us)
            out->pending++;
        else if (health_is_fed(i, m, &members[master], judge_quiet))
            out->up++;
        else
            out->down++;
    }
}

static void health_judge_refused(const struct topology_instance *i, const struct health_member *members,
                                 int master, int64_t since_us, struct health_judgement *out)
{
    struct health_witnesses w;
    health_ask_witnesses(i, members, master, since_us, false, &w);
    out->suspect = true;
    if (w.pending == 0 && w.up == 0 && members[master].tried_at_us >= since_us)
        out->verdict = TOPOLOGY_VERDICT_DEAD;
    snprintf(
        out->evidence, sizeof(out->evidence),
        "connection to the master closed and the reconnect refused; replicas reached %u: link down at %u, "
        "up at %u, not answered yet %u",
        w.reachable, w.down, w.up, w.pending);
}

/* ---- silence: UNREACHABLE and HUNG ----------------------------------------------------------------------
 */

/* How the controllers stand on it. */
struct health_count {
    uint32_t n, agree, deny, doubtful; /* doubtful: they see it too, but don't trust their own view */
    bool fresh;
};

static bool health_view_agrees(const struct health_view *v, int64_t limit_us)
{
    if (v->kind == HEALTH_VIEW_REFUSED)
        return true;
    return (v->kind == HEALTH_VIEW_HUNG || v->kind == HEALTH_VIEW_UNREACHABLE) &&
           v->silent_us >= limit_us - vote_slack_us;
}

static void health_count_votes(const struct health_votes *votes, const struct health_trust *trust,
                               int64_t since_us, int64_t now_us, int64_t limit_us, struct health_count *out)
{
    memset(out, 0, sizeof(*out));
    out->n = trust->n_controllers > 0 ? trust->n_controllers : 1;
    *(trust->distrusted ? &out->doubtful : &out->agree) = 1;
    out->fresh = out->n == 1;
    if (votes->asked_us < since_us || votes->asked_us == 0 || votes->asked_us < now_us - survey_age_us)
        return;
    out->fresh = true;
    if (votes->n_controllers > out->n)
        out->n = votes->n_controllers;
    for (uint32_t k = 0; k < votes->n; k++) {
        const struct health_view *v = &votes->views[k];
        if (v->kind == HEALTH_VIEW_ANSWERS)
            out->deny++;
        else if (health_view_agrees(v, limit_us))
            (*(v->distrusted ? &out->doubtful : &out->agree))++;
    }
}

/* A majority of those who trust their own eyes; or, where more than half of everything is gone, all of them,
 * three at least: then it is no single controller's network. */
static bool health_is_agreed(const struct health_count *c)
{
    return c->fresh && (c->agree * 2 > c->n || (c->n >= 3 && c->agree + c->doubtful == c->n));
}

static void health_set_again(struct health_judgement *out, int64_t at_us, int64_t now_us)
{
    if (at_us > now_us && (out->again_us == 0 || at_us < out->again_us))
        out->again_us = at_us;
}

static void health_judge_silent(const struct topology_instance *i, const struct health_member *members,
                                const struct health_votes *votes, const struct health_trust *trust,
                                int master, int64_t since_us, int64_t now_us, struct health_judgement *out)
{
    const struct health_member *m = &members[master];
    bool is_hung = m->knock == HEALTH_KNOCK_ACCEPTED;
    int64_t limit_us = (int64_t)(is_hung ? i->policy.hung_after_ms : i->policy.unreachable_after_ms) * 1000;
    int64_t began_us = health_silent_since(m, trust);
    int64_t silent_us = now_us - began_us;
    /* One lost SYN is no proof of an unreachable host: a whole series over half of the limit is. */
    bool is_proven = is_hung || (m->knock == HEALTH_KNOCK_NO_ANSWER && m->knocks >= 2 &&
                                 now_us - m->unanswered_us >= limit_us / 2);
    struct health_witnesses w;
    struct health_count c;
    health_ask_witnesses(i, members, master, health_later(since_us, now_us - witness_age_us), true, &w);
    health_count_votes(votes, trust, since_us, now_us, limit_us, &c);
    out->suspect = true;
    out->wants_votes = c.n > 1 && silent_us >= limit_us - survey_lead_us;
    health_set_again(out, began_us + limit_us - survey_lead_us, now_us);
    health_set_again(out, began_us + limit_us, now_us);
    if (is_proven && silent_us >= limit_us && w.reachable > 0 && w.pending == 0 && w.up == 0 &&
        health_is_agreed(&c))
        out->verdict = is_hung ? TOPOLOGY_VERDICT_HUNG : TOPOLOGY_VERDICT_UNREACHABLE;
    snprintf(out->evidence, sizeof(out->evidence),
             "no answer for %lld ms (limit %lld); new connections %s; replicas reached %u: silent at %u, fed "
             "at %u, not answered yet %u; controllers %u: agree %u, deny %u, in doubt %u",
             (long long)silent_us / 1000, (long long)limit_us / 1000,
             is_hung                              ? "are accepted"
             : m->knock == HEALTH_KNOCK_NO_ANSWER ? "are not answered"
             : m->knock == HEALTH_KNOCK_REFUSED   ? "are refused"
                                                  : "not tried yet",
             w.reachable, w.down, w.up, w.pending, c.n, c.agree, c.deny, c.doubtful);
}

void health_view(const struct health_member *m, const struct health_trust *trust, int64_t now_us,
                 struct health_view *out)
{
    assert(m && trust && out);
    memset(out, 0, sizeof(*out));
    out->distrusted = trust->distrusted;
    if (m->mute_us != 0 && m->link != HEALTH_LINK_REFUSED) {
        out->silent_us = health_later(0, now_us - health_silent_since(m, trust));
        out->kind = m->knock == HEALTH_KNOCK_ACCEPTED    ? HEALTH_VIEW_HUNG
                    : m->knock == HEALTH_KNOCK_NO_ANSWER ? HEALTH_VIEW_UNREACHABLE
                    : m->knock == HEALTH_KNOCK_REFUSED   ? HEALTH_VIEW_REFUSED
                                                         : HEALTH_VIEW_UNKNOWN;
    } else if (m->link == HEALTH_LINK_UP || m->link == HEALTH_LINK_DENIED) {
        out->kind = HEALTH_VIEW_ANSWERS;
    } else if (m->link == HEALTH_LINK_REFUSED) {
        out->kind = HEALTH_VIEW_REFUSED;
    }
}

/* ---- the judgement --------------------------------------------------------------------------------------
 */

static bool health_judge_identity(const struct topology_instance *i, const struct health_member *m,
                                  int master, int64_t since_us, struct health_judgement *out)
{
    const struct topology_member *registered = &i->members[master];
    /* What was heard before the suspicion may be older than the record: a new leader asks again. */
    bool fresh = m->info_at_us >= since_us && (m->heard_us == 0 || m->info_at_us >= m->heard_us + echo_us);
    if (health_is_restarted(registered, m)) {
        out->suspect = true;
        out->verdict = fresh ? TOPOLOGY_VERDICT_RESTARTED : TOPOLOGY_VERDICT_NONE;
        snprintf(out->evidence, sizeof(out->evidence), "the master's run_id changed from %.8s to %.8s%s",
                 registered->run_id, m->info.run_id, m->info.loading ? " and it is loading" : "");
        return true;
    }
    if (health_is_demoted(m)) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        out->suspect = true;
        out->verdict = fresh && health_is_after_promotion(i, m, since_us) ? TOPOLOGY_VERDICT_DEMOTED
                                                                          : TOPOLOGY_VERDICT_NONE;
        snprintf(out->evidence, sizeof(out->evidence), "the master answers as a replica of %s",
                 topology_address_format(&m->info.master, text));
        return true;
    }
    return false;
}

void health_judge(const struct topology_instance *i, const struct health_member *members,
                  const struct health_votes *votes, const struct health_trust *trust, int64_t since_us,
                  int64_t now_us, struct health_judgement *out)
{
    assert(i && members && votes && trust && out);
    assert(now_us >= since_us);
    memset(out, 0, sizeof(*out));
    int master = topology_member_find(i, &i->master);
    if (i->state != TOPOLOGY_STABLE || master < 0)
        return;
    const struct health_member *m = &members[master];
    /* Nothing heard in a turn that began late proves anything (safety.md §2). */
    if (trust->since_us != 0)
        since_us = health_later(since_us, trust->since_us + 1);
    if (health_judge_identity(i, m, master, since_us, out))
        return;
    if (m->link == HEALTH_LINK_REFUSED) {
        health_judge_refused(i, members, master, since_us, out);
        return;
    }
    if (m->mute_us != 0) {
        health_judge_silent(i, members, votes, trust, master, since_us, now_us, out);
        return;
    }
    out->suspect = m->link != HEALTH_LINK_UP || !m->info_known;
    if (out->suspect)
        snprintf(out->evidence, sizeof(out->evidence), "connection to the master is %s",
                 m->link == HEALTH_LINK_UP ? "new and has not answered yet" : health_link_name(m->link));
}
