/* Topology values ⇄ the JSON kept in ZooKeeper (and in a proxy's cache file). Pure.
 *
 * Every value carries "v":1; a reader ignores unknown fields and refuses a larger v (ERR_VERSION).
 * Texts are golden-file tested (tests/golden/). All encoders write a NUL-terminated text and return its
 * length, ERR_TOO_LARGE when it doesn't fit `size`, or ERR_INVALID for a value that no decoder would take
 * (topology_check() fails, a password that is not UTF-8). All decoders take untrusted bytes, never abort, and
 * on failure return ERR_INVALID/ERR_VERSION with one sentence in why. */
#ifndef MR_COMMON_CORE_TOPOLOGY_CODEC_H
#define MR_COMMON_CORE_TOPOLOGY_CODEC_H

#include "common/core/topology.h"

#include <sys/types.h>

enum { TOPOLOGY_TEXT_MAX = 32768 }; /* bytes; the largest legal instance or history value fits */

ssize_t topology_encode_instance(const struct topology_instance *i, char *text, size_t size) MR_MUST_CHECK;
int topology_decode_instance(const char *text, size_t len, struct topology_instance *out, char *why,
                             size_t why_size) MR_MUST_CHECK;

ssize_t topology_encode_history(const struct topology_history *h, char *text, size_t size) MR_MUST_CHECK;
int topology_decode_history(const char *text, size_t len, struct topology_history *out, char *why,
                            size_t why_size) MR_MUST_CHECK;

/* What a controller publishes about itself in /controllers/<id>. */
struct topology_controller {
    char id[TOPOLOGY_NAME_MAX + 1];
    char host[TOPOLOGY_HOST_MAX + 1];
    uint16_t pub_port, ingest_port, http_port;
    uint16_t vote_port; /* 0: it takes part in no surveys; then the field is left out */
    char version[16];
    int64_t started_ms; /* Unix milliseconds */
};
ssize_t topology_encode_controller(const struct topology_controller *c, char *text,
                                   size_t size) MR_MUST_CHECK;
int topology_decode_controller(const char *text, size_t len, struct topology_controller *out, char *why,
                               size_t why_size) MR_MUST_CHECK;

enum { TOPOLOGY_HTTP_MAX = TOPOLOGY_NAME_MAX + 8 }; /* "name:port" or "[address]:port" */

/* What a proxy publishes about itself in /proxies/<host>. */
struct topology_proxy {
    char id[TOPOLOGY_NAME_MAX + 1];
    char version[16];
    char bind[TOPOLOGY_HOST_MAX + 1];
    uint32_t threads;
    int64_t started_ms;               /* Unix milliseconds */
    char http[TOPOLOGY_HTTP_MAX + 1]; /* where its HTTP pages are; "": not said */
};
ssize_t topology_encode_proxy(const struct topology_proxy *p, char *text, size_t size) MR_MUST_CHECK;
int topology_decode_proxy(const char *text, size_t len, struct topology_proxy *out, char *why,
                          size_t why_size) MR_MUST_CHECK;

#endif
