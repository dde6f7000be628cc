#include "controller/core/outlook.h"

#include <assert.h>
#include <string.h>

void outlook_init(struct outlook *o)
{
    assert(o);
    memset(o, 0, sizeof(*o));
    o->trust.n_controllers = 1;
}

/* The rule itself: more than half of all members are silent. A single one of two is not "most". */
static void outlook_weigh(struct outlook *o, int64_t now_us)
{
    assert(o->n_silent <= o->n_members);
    bool bad = o->n_silent * 2 > o->n_members;
    if (bad == o->trust.distrusted)
        return;
    o->trust.distrusted = bad;
    o->distrusted_us = bad ? now_us : 0;
    o->outvoted = false;
    if (!bad)
        o->resigned = false;
}

void outlook_on_member(struct outlook *o, int delta, bool silent, int64_t now_us)
{
    assert(delta == 1 || delta == -1);
    assert(delta == 1 || o->n_members > 0);
    o->n_members = delta > 0 ? o->n_members + 1 : o->n_members - 1;
    if (silent) {
        assert(delta == 1 || o->n_silent > 0);
        o->n_silent = delta > 0 ? o->n_silent + 1 : o->n_silent - 1;
    }
    outlook_weigh(o, now_us);
}

void outlook_on_silence(struct outlook *o, bool silent, int64_t now_us)
{
    assert(silent || o->n_silent > 0);
    o->n_silent = silent ? o->n_silent + 1 : o->n_silent - 1;
    outlook_weigh(o, now_us);
}

void outlook_on_lag(struct outlook *o, int64_t lag_us, int64_t now_us)
{
    assert(lag_us >= 0);
    if (lag_us >= OUTLOOK_LAG_US && now_us > o->trust.since_us)
        o->trust.since_us = now_us;
}

void outlook_on_controllers(struct outlook *o, uint32_t n_controllers)
{
    o->trust.n_controllers = n_controllers > 0 ? n_controllers : 1;
}

void outlook_on_votes(struct outlook *o, const struct health_votes *votes)
{
    assert(votes);
    bool any_sees_it = false;
    for (uint32_t k = 0; k < votes->n; k++)
        any_sees_it =
            any_sees_it || (votes->views[k].kind == HEALTH_VIEW_ANSWERS && !votes->views[k].distrusted);
    o->outvoted = votes->n_controllers >= 2 && (any_sees_it || votes->n == 0);
}

bool outlook_resigns(struct outlook *o, bool leading, int64_t now_us)
{
    if (!leading || o->resigned || !o->trust.distrusted || !o->outvoted ||
        now_us - o->distrusted_us < OUTLOOK_RESIGN_US)
        return false;
    o->resigned = true;
    o->resigned_us = now_us;
    return true;
}

bool outlook_may_lead(const struct outlook *o, int64_t now_us)
{
    return !o->resigned || now_us - o->resigned_us >= OUTLOOK_RETURN_US;
}

int64_t outlook_deadline_us(const struct outlook *o)
{
    if (o->resigned)
        return o->resigned_us + OUTLOOK_RETURN_US;
    return o->trust.distrusted && o->outvoted ? o->distrusted_us + OUTLOOK_RESIGN_US : 0;
}
