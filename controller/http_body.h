/* Bodies of the API's commands as what the engine takes. Every key must be known, of its type and in its
 * range, or nothing is done.
 *
 * No I/O. An empty body is {}. On failure: ERR_INVALID and one sentence that names the key and what it may
 * be. Texts that go into records and logs hold no control characters; quotes and backslashes become
 * apostrophes. */
#ifndef MR_CONTROLLER_HTTP_BODY_H
#define MR_CONTROLLER_HTTP_BODY_H

#include "controller/core/failover.h"

enum {
    HTTP_BODY_LIMIT_MIN_MS = 100,
    HTTP_BODY_LIMIT_MAX_MS = 60000, /* of a switchover: clients wait as long */
};

struct http_body {
    struct failover_command command;
    bool dry_run; /* SWITCHOVER, FAILOVER */
};

/* Any command but SET: {"to","limit_ms","dry_run","allow_data_loss","reason","for_ms","member","by"}, each
 * where it means something. wall_ms: Unix time, from which a pause counts. */
int http_body_order(enum failover_command_type type, const char *text, size_t len, int64_t wall_ms,
                    struct http_body *out, char *why, size_t why_size) MR_MUST_CHECK;
/* SET: {"policy":{…},"members":[{"address",…}],"by"} laid over what the record has. */
int http_body_set(const struct topology_instance *record, const char *text, size_t len, struct http_body *out,
                  char *why, size_t why_size) MR_MUST_CHECK;

#endif
