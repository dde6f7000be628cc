/* Fields of the API's JSON, with a stand-in for what is absent or of another type. */
#ifndef MR_MRCTL_JSON_GET_H
#define MR_MRCTL_JSON_GET_H

#include <jansson.h>
#include <stdint.h>

/* Borrowed; "-" when there is none. */
static inline const char *json_get_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

/* Borrowed; "" when there is none. */
static inline const char *json_get_word(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* -1 when there is none. */
static inline int64_t json_get_int(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

#endif
