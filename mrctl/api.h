/* mrctl's side of the controllers' HTTP API (libcurl, blocking).
 *
 *   --controllers, then those that ZooKeeper names (--zk) ──► one after the other until one answers
 *                                                             └─► 307 ──► the leader (body and token again)
 *
 * Any controller answers reads. A command is sent to the next controller only when it surely was not sent to
 * the one before. Not thread-safe. */
#ifndef MR_MRCTL_API_H
#define MR_MRCTL_API_H

#include "common/core/err.h"

#include <jansson.h>
#include <stdbool.h>

struct api;

enum { API_URLS_MAX = 16, API_WHY_MAX = 1024 };

struct api_config {
    const char *controllers; /* "URL,…"; NULL: none given */
    const char *zk;          /* "h1:2181,…/chroot"; NULL: none given */
    const char *token;       /* NULL: none */
};

struct api_answer {
    int status;   /* HTTP */
    char *text;   /* the body as it came */
    json_t *json; /* parsed: an object */
};

/* Strings are borrowed for as long as the API is open. With neither controllers nor zk
 * http://127.0.0.1:7700 is asked. ERR_INVALID: api_why() names the URL that is none; ERR_NOMEM: *out is NULL.
 */
int api_open(struct api **out, const struct api_config *config) MR_MUST_CHECK;
void api_close(struct api *api); /* NULL allowed */

/* 0: somebody answered, whatever the status; the answer is the caller's (api_answer_free).
 * ERR_UNREACHABLE: no controller could be asked. ERR_TIMEOUT, ERR_CONNECTION: the command was sent and its
 * outcome is unknown. body NULL: a GET, else a POST. timeout_ms: for each controller asked. */
int api_call(struct api *api, const char *path, const char *body, int timeout_ms,
             struct api_answer *answer) MR_MUST_CHECK;
/* The same with any method; body NULL: none. Anything but GET is a command. */
int api_send(struct api *api, const char *method, const char *path, const char *body, int timeout_ms,
             struct api_answer *answer) MR_MUST_CHECK;
/* GET path of something else than a controller, at "host:port": the token isn't sent there. 0: HTTP 200 and
 * an object, the caller's; ERR_UNREACHABLE: none such, api_why() says why; ERR_NOMEM. */
int api_get_other(struct api *api, const char *address, const char *path, int timeout_ms,
                  struct api_answer *answer) MR_MUST_CHECK;
/* From now on the leader is asked first, when a controller can say who leads: what the others know of members
 * and proxies may be a second old. */
void api_prefer_leader(struct api *api);
void api_answer_free(struct api_answer *answer); /* a zeroed one is fine */
/* What api_answer.json says went wrong ("message" of its error), never NULL. */
const char *api_answer_error(const struct api_answer *answer);

/* Follows Server-Sent Events until on_change says false (→ 0) or the stream ends (→ ERR_CLOSED, or
 * ERR_UNREACHABLE when nobody could be asked). on_change runs when the stream is open and after each burst of
 * events; it may use api_call(). */
int api_follow(struct api *api, const char *path, bool (*on_change)(void *ctx), void *ctx) MR_MUST_CHECK;

/* Reads the events themselves: on_event gets each one's name and data (NULL: it was no JSON object;
 * borrowed), and first "open" with NULL. It ends as api_follow() does. */
typedef bool (*api_event_fn)(void *ctx, const char *name, const json_t *data);
int api_events(struct api *api, const char *path, api_event_fn on_event, void *ctx) MR_MUST_CHECK;

/* One sentence about the last failure: whom it asked, what happened. */
const char *api_why(const struct api *api);

#endif
