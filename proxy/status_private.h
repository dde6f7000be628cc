/* What the files of the status pages share; nobody else includes this. */
#ifndef MR_PROXY_STATUS_PRIVATE_H
#define MR_PROXY_STATUS_PRIVATE_H

#include <jansson.h>
#include <stddef.h>

struct control;
struct meter;
struct route;

/* One instance of /v1/stats; NULL: out of memory. */
json_t *status_stats_of(struct control *c, const struct meter *m, const struct route *r);
/* /metrics: Prometheus' text format, *len bytes, the caller's to free(). NULL: out of memory. */
char *status_metrics(struct control *c, size_t *len);

#endif
