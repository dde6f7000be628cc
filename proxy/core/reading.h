/* Which replica a client reads from: those of the proxy's zone first when the instance says so, else any.
 * Pure.
 *
 * Clients are spread by their numbers, so one stays where it is as long as the same replicas can be had: what
 * it has read once it doesn't read an older state of. */
#ifndef MR_PROXY_CORE_READING_H
#define MR_PROXY_CORE_READING_H

#include "proxy/core/route.h"

#define READING_RETRY_MIN_US ((int64_t)20000)
#define READING_RETRY_MAX_US ((int64_t)2000000)

/* Index into r->readers, or -1: the master serves. zone: the proxy's own, "" when it has none. number: the
 * client's. avoid: bit k: not r->readers[k] (its connection broke a moment ago). */
int reading_choose(const struct route *r, const char *zone, uint32_t number, uint32_t avoid);
/* The route lets clients read from there. */
bool reading_is_listed(const struct route *r, const struct topology_address *a);
/* How long a replica is left alone after so many failures in a row, at least 1. */
int64_t reading_retry_us(uint32_t failures);

#endif
