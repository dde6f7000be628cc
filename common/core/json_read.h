/* Reads fields out of untrusted JSON: the first thing that is off is kept as one sentence. Pure (jansson).
 *
 * A reader carries the first error; every later read does nothing, so that a decoder is a plain list of
 * fields with one check at its end. A field that is absent and not required leaves *out as it was (the
 * default). */
#ifndef MR_COMMON_CORE_JSON_READ_H
#define MR_COMMON_CORE_JSON_READ_H

#include "common/core/topology.h"

#include <jansson.h>

struct json_read {
    int err; /* 0 as long as everything was well-formed */
    char *why;
    size_t why_size;
    const char *where; /* the array or object being read, for messages; NULL: the top */
    int index;         /* element of that array; -1: `where` is an object */
};

enum json_read_need { JSON_READ_OPTIONAL, JSON_READ_REQUIRED };

/* why may be NULL (why_size 0) when nobody wants the sentence. */
void json_read_init(struct json_read *r, char *why, size_t why_size);
/* Parses text into an object whose "v" is 1; the caller owns it (json_decref). NULL: r->err says why. */
json_t *json_read_open(struct json_read *r, const char *text, size_t len, size_t max_len);
/* Notes an error of the field unless there is one already: "members[2].run_id: <text>". */
void json_read_fail(struct json_read *r, int err, const char *key, const char *fmt, ...) MR_PRINTF(4, 5);

/* A string of at most size - 1 bytes. */
void json_read_text(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                    char *out, size_t size);
/* A word to be parsed by the caller, borrowed from the object; NULL when it is absent or an error was noted.
 */
const char *json_read_word(struct json_read *r, const json_t *object, const char *key,
                           enum json_read_need need);
/* A whole number from min to max. */
void json_read_int(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                   int64_t min, int64_t max, int64_t *out);
void json_read_u64(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                   uint64_t *out); /* 0 … INT64_MAX: JSON's whole numbers are signed */
void json_read_u32(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                   uint32_t *out);
void json_read_port(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                    uint16_t *out); /* 1 … 65535 */
void json_read_bool(struct json_read *r, const json_t *object, const char *key, bool *out);
/* "host:port". */
void json_read_address(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                       struct topology_address *out);
/* The words of a policy and of a member, below the key of that name. */
void json_read_durability(struct json_read *r, const json_t *object, enum json_read_need need,
                          enum topology_durability *out);
void json_read_reads(struct json_read *r, const json_t *object, enum json_read_need need,
                     enum topology_reads *out);
void json_read_fence(struct json_read *r, const json_t *object, enum json_read_need need,
                     enum topology_fence *out);
void json_read_priority(struct json_read *r, const json_t *object, enum json_read_need need,
                        enum topology_priority *out);
/* Borrowed; NULL when absent or an error was noted. */
json_t *json_read_object(struct json_read *r, const json_t *object, const char *key);
json_t *json_read_array(struct json_read *r, const json_t *object, const char *key, size_t max_elements);

#endif
