/* What became of the leader's orders to members, by kind: how many, and how long they took. Pure. */
#ifndef MR_CONTROLLER_CORE_ORDERS_H
#define MR_CONTROLLER_CORE_ORDERS_H

#include "controller/core/failover.h"

enum orders_kind {
    ORDERS_SEAL,
    ORDERS_FENCE,
    ORDERS_PROMOTE,
    ORDERS_REPLICATE,
    ORDERS_PAUSE,
    ORDERS_DONATE,
    ORDERS_KINDS
};

struct orders_count {
    uint64_t done, failed;
    int64_t took_us; /* those that were done, together: order → answer */
};

/* Counts the order that this event answers; any other event is none of ours. */
void orders_note(struct orders_count counts[ORDERS_KINDS], enum failover_event_type answer, int err,
                 int64_t took_us);
const char *orders_name(enum orders_kind kind); /* "seal" */

#endif
