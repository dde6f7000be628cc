#include "controller/core/readiness.h"

#include "controller/core/select.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Why it does not count (counts: it does), or can't be master; NULL: it can. */
static const char *readiness_obstacle(const struct topology_instance *i, int member,
                                      const struct health_member *h, bool *counts)
{
    const struct select_member m = {.sealed = true, .info = h->info};
    *counts = false;
    if (h->link != HEALTH_LINK_UP)
        return "down";
    if (h->mute_us != 0)
        return "silent";
    if (!h->info_known)
        return "not heard yet";
    *counts = select_counts(i, member, &m);
    return select_refusal(i, member, &m);
}

void readiness_judge(const struct topology_instance *i, const struct health_member *members,
                     struct readiness *out)
{
    assert(i && members && out && i->n_members <= TOPOLOGY_MEMBERS_MAX);
    size_t at = 0;
    int master = topology_member_find(i, &i->master);
    memset(out, 0, sizeof(*out));
    out->needed = select_needed(i);
    for (int k = 0; k < (int)i->n_members; k++) {
        char address[TOPOLOGY_ADDRESS_MAX + 1];
        bool counts = false;
        if (k == master)
            continue;
        const char *why = readiness_obstacle(i, k, &members[k], &counts);
        out->have += counts;
        out->candidates += why == NULL;
        if (!counts && at < sizeof(out->missing))
            at += (size_t)snprintf(out->missing + at, sizeof(out->missing) - at, "%s%s %s", at ? ", " : "",
                                   topology_address_format(&i->members[k].address, address), why);
    }
    out->ready = out->have >= out->needed && out->candidates > 0;
    if (out->have >= out->needed && !out->ready && at < sizeof(out->missing))
        (void)snprintf(out->missing + at, sizeof(out->missing) - at, "%snobody that counts may be master",
                       at ? ", " : "");
}

enum readiness_news readiness_watch_step(struct readiness_watch *w, bool ready, int64_t now_us)
{
    assert(w && now_us > 0);
    if (ready != w->lost) { /* as it was said */
        w->since_us = 0;
        return READINESS_SAME;
    }
    if (w->since_us == 0)
        w->since_us = now_us;
    if (now_us - w->since_us < (ready ? READINESS_BACK_US : READINESS_LOST_US))
        return READINESS_SAME;
    w->lost = !ready;
    w->since_us = 0;
    return ready ? READINESS_BACK : READINESS_LOST;
}
