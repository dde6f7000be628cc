#include "controller/core/reader.h"

#include <assert.h>
#include <string.h>

static const int64_t mute_us = 1000 * 1000; /* a shorter silence (a fork, a script) is forgotten */
static const int64_t mute_distrusted_us = 5000 * 1000;
static const int64_t wait_first_us = 1000 * 1000, wait_last_us = 60000 * 1000;
/* One that has served for so long begins anew. */
static const int64_t calm_us = 60000 * 1000;

enum reader_fitness reader_judge(const struct topology_instance *i, const struct health_member *members,
                                 int member, bool serves, bool distrusted, int64_t now_us)
{
    assert(i && members && member >= 0 && member < (int)i->n_members);
    const struct topology_member *m = &i->members[member];
    const struct health_member *h = &members[member];
    int master = topology_member_find(i, &i->master);

    if (i->state != TOPOLOGY_STABLE || member == master)
        return READER_UNFIT;
    if (h->link == HEALTH_LINK_UNKNOWN || (h->link == HEALTH_LINK_UP && !h->info_known))
        return READER_UNKNOWN;
    if (h->mute_us != 0)
        return now_us - h->mute_us < (distrusted ? mute_distrusted_us : mute_us) ? READER_UNKNOWN
                                                                                 : READER_UNFIT;
    if (h->link != HEALTH_LINK_UP)
        return READER_UNFIT;
    const struct info *info = &h->info;
    bool is_known = m->run_id[0] != '\0' && strcmp(m->run_id, info->run_id) == 0;
    bool is_fed = info->role == INFO_ROLE_REPLICA && topology_address_equal(&info->master, &i->master) &&
                  info->master_link_up && !info->syncing && !info->loading;
    if (!is_known || !is_fed || h->said == HEALTH_SAID_LOADING || h->said == HEALTH_SAID_MASTERDOWN)
        return READER_UNFIT;
    if (i->policy.max_lag_bytes == 0)
        return READER_FIT;
    if (h->behind_bytes < 0)
        return READER_UNKNOWN;
    uint64_t limit_bytes = serves ? i->policy.max_lag_bytes : i->policy.max_lag_bytes / 2;
    return (uint64_t)h->behind_bytes <= limit_bytes ? READER_FIT : READER_UNFIT;
}

static void reader_fall(struct reader_watch *w, int64_t now_us)
{
    int64_t wait_us = w->wait_us > 0 ? w->wait_us : wait_first_us;

    if (w->since_us != 0)
        w->wait_us = now_us - w->since_us >= calm_us ? wait_first_us
                     : wait_us * 2 < wait_last_us    ? wait_us * 2
                                                     : wait_last_us;
    w->fit_us = w->since_us = 0;
}

bool reader_watch_step(struct reader_watch *w, enum reader_fitness now, bool serves, int64_t now_us)
{
    assert(w && now_us > 0);
    int64_t wait_us = w->wait_us > 0 ? w->wait_us : wait_first_us;

    w->is_leaving = w->is_leaving && serves;
    if (serves && w->since_us == 0 && !w->is_leaving)
        w->since_us = now_us; /* another leader let it */
    if (now == READER_UNKNOWN)
        return serves;
    if (now == READER_UNFIT) {
        reader_fall(w, now_us);
        w->is_leaving = serves;
        return false;
    }
    w->is_leaving = false;
    if (w->fit_us == 0)
        w->fit_us = now_us;
    return serves || now_us - w->fit_us >= wait_us;
}
