/* The proxy's HTTP pages: GET /health (200 while it is useful), GET /v1/routes, GET /v1/stats (JSON), GET
 * /metrics (Prometheus). */
#ifndef MR_PROXY_STATUS_H
#define MR_PROXY_STATUS_H

#include "common/core/err.h"

#include <stdint.h>

struct control;
struct loop;
struct status;

/* host: IP literal; port 0: choose one. Errors as http_server_open(). */
int status_open(struct status **out, struct loop *loop, const char *host, uint16_t port,
                struct control *control) MR_MUST_CHECK;
void status_close(struct status *s); /* before control_close() */
uint16_t status_port(const struct status *s);

#endif
