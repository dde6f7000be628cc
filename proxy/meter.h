/* What the instances have done of late: requests a second over the last 10 s, latencies over the last 10 to
 * 20 s. Looks at the workers' counters once a second, on the control loop. */
#ifndef MR_PROXY_METER_H
#define MR_PROXY_METER_H

#include "common/core/err.h"

#include <stdint.h>

struct control;
struct loop;
struct meter;

struct meter_reading {
    double requests_per_s;
    uint64_t p50_us, p99_us, p999_us;  /* 0: nothing was answered */
    uint64_t held_p50_us, held_p99_us; /* until replicas had acknowledged; 0: nothing was held */
};

int meter_open(struct meter **out, struct loop *loop, struct control *control) MR_MUST_CHECK;
void meter_close(struct meter *m); /* NULL is allowed; before control_close() */
/* All zeroes for an instance that isn't known, or only since the last second. */
void meter_read(const struct meter *m, const char *instance, struct meter_reading *out);

#endif
