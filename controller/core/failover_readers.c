/* Who may serve reads, as a part of the record: so that a proxy that reads ZooKeeper again knows it too.
 *
 *   evidence ─► reader.h, member by member ─► differs from the record? ─► commit ─► route */
#include "controller/core/failover_table.h"

#include <assert.h>
#include <stdio.h>

void failover_observe_readers(struct failover *f, const struct failover_event *event)
{
    bool distrusted = failover_trust(event)->distrusted;
    for (int k = 0; f->has_record && k < (int)f->record.n_members; k++) {
        struct failover_member *m = &f->members[k];
        bool serves = f->record.members[k].serves_reads;
        enum reader_fitness fitness =
            reader_judge(&f->record, f->health, k, serves, distrusted, event->now_us);
        m->may_serve = reader_watch_step(&m->reader, fitness, serves, event->now_us);
    }
}

FAILOVER_GUARD(failover_has_other_readers)
{
    (void)event;
    for (uint32_t k = 0; k < f->record.n_members; k++)
        if (f->members[k].may_serve != f->record.members[k].serves_reads)
            return true;
    return false;
}

FAILOVER_EFFECT(failover_do_commit_readers)
{
    char what[200] = "";
    size_t at = 0;
    (void)event;
    f->proposed = f->record;
    for (uint32_t k = 0; k < f->record.n_members; k++) {
        struct topology_member *m = &f->proposed.members[k];
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        if (f->members[k].may_serve == m->serves_reads)
            continue;
        m->serves_reads = f->members[k].may_serve;
        if (at < sizeof(what))
            at += (size_t)snprintf(what + at, sizeof(what) - at, "%s%s %s", at ? ", " : "",
                                   m->serves_reads ? "more" : "less",
                                   topology_address_format(&m->address, text));
    }
    failover_report(f, out, FAILOVER_INFO, "event=readers.changed instance=%s what=\"%s\"", f->record.name,
                    what);
    failover_commit(f, out, false); /* no history: it comes and goes */
}
