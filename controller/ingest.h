/* What proxies send to the leader: acks ("switched, took 3 ms"), hints ("my connection to that master
 * broke") and, in a switchover, that they hold.
 *
 * A PULL socket; a garbled or unsigned message is one log line (rate-limited) and nothing else. */
#ifndef MR_CONTROLLER_INGEST_H
#define MR_CONTROLLER_INGEST_H

#include "common/nn_link.h"

struct engine;
struct ingest;
struct loop;

int ingest_open(struct ingest **out, struct loop *loop, const char *host, uint16_t port,
                const struct nn_link_key *key, struct engine *engine) MR_MUST_CHECK;
void ingest_close(struct ingest *in);
uint16_t ingest_port(const struct ingest *in);

#endif
