/* What the proxy takes at most, of one instance and altogether, counted over all threads.
 *
 * The only memory that data-path threads share; touched when a client comes or goes, and when the bytes that
 * wait for a master or for a client that doesn't read change, not by requests that flow. */
#ifndef MR_PROXY_LIMITS_H
#define MR_PROXY_LIMITS_H

#include "common/core/err.h"
#include "proxy/core/session.h"

#include <stdbool.h>
#include <stdint.h>

struct limits;
struct limits_share; /* what the threads that serve one instance have in common */

enum {
    LIMITS_CLIENTS_A_THREAD = 10000, /* unless --max-clients says otherwise */
    LIMITS_TEXT_MAX = 256,
    LIMITS_REQUEST_BYTES = 513 * 1024 * 1024, /* Redis' proto-max-bulk-len and something around it */
    LIMITS_REQUEST_BYTES_MIN = 64 * 1024,
    LIMITS_HELD_BYTES = 256 * 1024 * 1024,
    LIMITS_UNREAD_BYTES = 128 * 1024 * 1024,
};

struct limits_config {
    uint32_t clients;           /* in total; 0: LIMITS_CLIENTS_A_THREAD */
    uint32_t clients_instance;  /* of one instance; 0: no limit of its own */
    uint32_t connects_per_s;    /* to one instance; 0: no limit */
    struct session_limits data; /* request_bytes and reply_bytes > 0 */
};

/* "TOTAL" or "TOTAL:INSTANCE" → the two numbers; ERR_INVALID. */
int limits_parse_clients(const char *text, struct limits_config *out) MR_MUST_CHECK;

/* NULL: out of memory. The config is copied. */
struct limits *limits_open(const struct limits_config *config);
/* Once every share was given back. NULL is allowed. */
void limits_close(struct limits *l);
const struct session_limits *limits_data(const struct limits *l);

/* From any thread: the share of that instance, the same one for all that hold it. NULL: out of memory. */
struct limits_share *limits_take_share(struct limits *l, const char *instance);
void limits_give_share(struct limits_share *s);

/* From any thread. A client comes; of_thread: how many the thread has already. True: it counts, until
 * limits_leave(). False: text has the error for it, without the line's end. */
bool limits_enter(struct limits_share *s, uint32_t of_thread, int64_t now_us, char text[LIMITS_TEXT_MAX]);
void limits_leave(struct limits_share *s);
/* Bytes that wait for a master: of all the instance's clients. */
atomic_uint_least64_t *limits_held_bytes(struct limits_share *s);
/* Bytes in buffers of clients that don't take their replies: of all instances. */
atomic_uint_least64_t *limits_unread_bytes(struct limits *l);

#endif
