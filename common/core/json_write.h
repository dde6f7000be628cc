/* Builds JSON field by field in a fixed order, so that a value always gives the same text. Pure (jansson).
 *
 * A writer carries the first error (ERR_NOMEM; ERR_INVALID for text that is not UTF-8; ERR_TOO_LARGE for a
 * number beyond INT64_MAX, JSON's whole numbers being signed here); there is one check, at the end. */
#ifndef MR_COMMON_CORE_JSON_WRITE_H
#define MR_COMMON_CORE_JSON_WRITE_H

#include "common/core/topology.h"

#include <jansson.h>
#include <sys/types.h>

struct json_write {
    int err;
};

/* A new value that belongs to nobody yet; NULL, and the error noted, when out of memory. */
json_t *json_write_object(struct json_write *w);
json_t *json_write_array(struct json_write *w);
/* Gives `value` to the object or array, also when that fails. */
void json_write_set(struct json_write *w, json_t *object, const char *key, json_t *value);
void json_write_append(struct json_write *w, json_t *array, json_t *value);

void json_write_int(struct json_write *w, json_t *object, const char *key, int64_t value);
void json_write_u64(struct json_write *w, json_t *object, const char *key, uint64_t value);
void json_write_bool(struct json_write *w, json_t *object, const char *key, bool value);
/* Microseconds as milliseconds with their decimals, for people; nothing when negative (not known). */
void json_write_ms(struct json_write *w, json_t *object, const char *key, int64_t us);
/* Exactly these bytes, or an error. */
void json_write_text(struct json_write *w, json_t *object, const char *key, const char *text);
/* Words for people: bytes that are not ASCII become '?' when the text is not UTF-8 as a whole, so that what a
 * redis-server said can never make a value unreadable. */
void json_write_note(struct json_write *w, json_t *object, const char *key, const char *text);
/* "host:port"; nothing when there is no address. */
void json_write_address(struct json_write *w, json_t *object, const char *key,
                        const struct topology_address *a);

/* The compact text with a NUL; its length or ERR_TOO_LARGE or the noted error. Frees root (NULL allowed). */
ssize_t json_write_finish(struct json_write *w, json_t *root, char *text, size_t size) MR_MUST_CHECK;
/* The same into memory of its own, to be freed with free(); NULL and w->err on failure. Frees root. */
char *json_write_finish_alloc(struct json_write *w, json_t *root, size_t *len);

#endif
