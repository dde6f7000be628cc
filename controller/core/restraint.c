#include "controller/core/restraint.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

bool restraint_is_paused(const struct topology_pause *p, int64_t wall_ms)
{
    return p && p->owner[0] != '\0' && (p->until_ms == 0 || wall_ms < p->until_ms);
}

int64_t restraint_cooldown_ms(const struct topology_instance *i)
{
    assert(i);
    if (i->cooldown.strikes == 0)
        return 0;
    int64_t length_ms = i->policy.cooldown_ms;
    for (uint32_t k = 1; k < i->cooldown.strikes && length_ms < TOPOLOGY_COOLDOWN_MAX_MS; k++)
        length_ms *= 2;
    return length_ms < TOPOLOGY_COOLDOWN_MAX_MS ? length_ms : TOPOLOGY_COOLDOWN_MAX_MS;
}

/* What is left of the cooldown, milliseconds. */
static int64_t restraint_left_ms(const struct topology_instance *i, int64_t wall_ms)
{
    int64_t elapsed_ms = wall_ms - i->failover.at_ms;
    int64_t left_ms = restraint_cooldown_ms(i) - (elapsed_ms > 0 ? elapsed_ms : 0);
    return elapsed_ms < -RESTRAINT_CLOCK_MS || left_ms < 0 ? 0 : left_ms;
}

static bool restraint_is_cooled(enum topology_verdict verdict)
{
    return verdict == TOPOLOGY_VERDICT_DEAD || verdict == TOPOLOGY_VERDICT_UNREACHABLE ||
           verdict == TOPOLOGY_VERDICT_HUNG || verdict == TOPOLOGY_VERDICT_NONE;
}

static void restraint_say_paused(const struct topology_pause *p, const char *what, struct restraint *out)
{
    out->refused = true;
    out->until_ms = p->until_ms;
    snprintf(out->why, sizeof(out->why), "%s paused by %s%s%s; mrctl resume ends it", what, p->owner,
             p->reason[0] != '\0' ? ": " : "", p->reason);
}

void restraint_judge(const struct topology_instance *i, enum topology_verdict verdict,
                     const struct topology_pause *maintenance, int64_t wall_ms, struct restraint *out)
{
    assert(i && out);
    memset(out, 0, sizeof(*out));
    if (restraint_is_paused(maintenance, wall_ms)) {
        restraint_say_paused(maintenance, "all instances are", out);
        return;
    }
    if (restraint_is_paused(&i->pause, wall_ms)) {
        restraint_say_paused(&i->pause, "it is", out);
        return;
    }
    int64_t left_ms = restraint_left_ms(i, wall_ms);
    if (left_ms == 0 || !restraint_is_cooled(verdict))
        return;
    out->until_ms = wall_ms + left_ms;
    out->bypasses = verdict == TOPOLOGY_VERDICT_DEAD && !i->cooldown.bypassed;
    out->refused = !out->bypasses;
    snprintf(out->why, sizeof(out->why),
             "cooldown after %u failover%s: %lld s left of %lld s%s; mrctl ack ends it", i->cooldown.strikes,
             i->cooldown.strikes == 1 ? "" : "s", (long long)(left_ms + 999) / 1000,
             (long long)restraint_cooldown_ms(i) / 1000,
             i->cooldown.bypassed ? ", bypassed once already" : "");
}

void restraint_count(const struct topology_instance *before, enum topology_verdict verdict, int64_t wall_ms,
                     struct topology_instance *proposed)
{
    assert(before && proposed);
    bool cooling = restraint_left_ms(before, wall_ms) > 0;
    if (!cooling) {
        /* Calm for as long again as the cooldown took: the next one begins anew. */
        bool calm = wall_ms - before->failover.at_ms >= 2 * restraint_cooldown_ms(before);
        proposed->cooldown.strikes = calm ? 1 : before->cooldown.strikes + 1;
        proposed->cooldown.bypassed = false;
        return;
    }
    proposed->cooldown.strikes = before->cooldown.strikes + 1;
    proposed->cooldown.bypassed = before->cooldown.bypassed || verdict == TOPOLOGY_VERDICT_DEAD;
}
