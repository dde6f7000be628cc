/* Evidence → verdict. One function per row of the design's table; health_judge asks them in order. */
#include "controller/core/health.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const char *health_link_name(enum health_link l)
{
    switch (l) {
    case HEALTH_LINK_UNKNOWN:
        return "unknown";
    case HEALTH_LINK_UP:
        return "up";
    case HEALTH_LINK_CLOSED:
        return "closed";
    case HEALTH_LINK_REFUSED:
        return "refused";
    case HEALTH_LINK_SILENT:
        return "silent";
    case HEALTH_LINK_DENIED:
        return "denied";
    }
    return "?";
}

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

static void health_ask_witnesses(const struct topology_instance *i, const struct health_member *members,
                                 int master, int64_t since_us, struct health_witnesses *out)
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
        if (m->link != HEALTH_LINK_UP)
            continue;
        out->reachable++;
        if (!m->info_known || m->info_at_us < since_us)
            out->pending++;
        else if (m->info.role == INFO_ROLE_REPLICA && m->info.master_link_up &&
                 topology_address_equal(&m->info.master, &i->members[master].address))
            out->up++;
        else
            out->down++;
    }
}

static void health_judge_refused(const struct topology_instance *i, const struct health_member *members,
                                 int master, int64_t since_us, struct health_judgement *out)
{
    struct health_witnesses w;
    health_ask_witnesses(i, members, master, since_us, &w);
    out->suspect = true;
    if (w.pending == 0 && w.up == 0 && members[master].tried_at_us >= since_us)
        out->verdict = TOPOLOGY_VERDICT_DEAD;
    snprintf(
        out->evidence, sizeof(out->evidence),
        "connection to the master closed and the reconnect refused; replicas reached %u: link down at %u, "
        "up at %u, not answered yet %u",
        w.reachable, w.down, w.up, w.pending);
}

void health_judge(const struct topology_instance *i, const struct health_member *members,
                  const struct health_votes *votes, const struct health_trust *trust, int64_t since_us,
                  int64_t now_us, struct health_judgement *out)
{
    assert(i && members && out && votes && trust && now_us >= since_us);
    memset(out, 0, sizeof(*out));
    int master = topology_member_find(i, &i->master);
    if (i->state != TOPOLOGY_STABLE || master < 0)
        return;
    const struct topology_member *registered = &i->members[master];
    const struct health_member *m = &members[master];
    /* What was heard before the suspicion may be older than the record: a new leader asks again. */
    bool fresh = m->info_at_us >= since_us;
    if (health_is_restarted(registered, m)) {
        out->suspect = true;
        out->verdict = fresh ? TOPOLOGY_VERDICT_RESTARTED : TOPOLOGY_VERDICT_NONE;
        snprintf(out->evidence, sizeof(out->evidence), "the master's run_id changed from %.8s to %.8s%s",
                 registered->run_id, m->info.run_id, m->info.loading ? " and it is loading" : "");
        return;
    }
    if (health_is_demoted(m)) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        out->suspect = true;
        out->verdict = fresh && health_is_after_promotion(i, m, since_us) ? TOPOLOGY_VERDICT_DEMOTED
                                                                          : TOPOLOGY_VERDICT_NONE;
        snprintf(out->evidence, sizeof(out->evidence), "the master answers as a replica of %s",
                 topology_address_format(&m->info.master, text));
        return;
    }
    if (m->link == HEALTH_LINK_REFUSED) {
        health_judge_refused(i, members, master, since_us, out);
        return;
    }
    out->suspect = m->link != HEALTH_LINK_UP || !m->info_known;
    if (out->suspect)
        snprintf(out->evidence, sizeof(out->evidence), "connection to the master is %s",
                 m->link == HEALTH_LINK_UP ? "new and has not answered yet" : health_link_name(m->link));
}
