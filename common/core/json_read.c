#include "common/core/json_read.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void json_read_init(struct json_read *r, char *why, size_t why_size)
{
    assert(why != NULL || why_size == 0);
    *r = (struct json_read){.why = why, .why_size = why_size, .index = -1};
    if (why_size > 0)
        why[0] = '\0';
}

void json_read_fail(struct json_read *r, int err, const char *key, const char *fmt, ...)
{
    assert(err < 0);
    if (r->err != 0)
        return;
    r->err = err;
    char text[192];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (r->why_size == 0)
        return;
    const char *dot = r->where != NULL && key[0] != '\0' ? "." : "";
    const char *colon = r->where != NULL || key[0] != '\0' ? ": " : "";
    char index[16] = "";
    if (r->where != NULL && r->index >= 0)
        (void)snprintf(index, sizeof index, "[%d]", r->index);
    (void)snprintf(r->why, r->why_size, "%s%s%s%s%s%s", r->where != NULL ? r->where : "", index, dot, key,
                   colon, text);
}

json_t *json_read_open(struct json_read *r, const char *text, size_t len, size_t max_len)
{
    assert(text != NULL || len == 0);
    if (len > max_len) {
        json_read_fail(r, ERR_INVALID, "", "is %zu bytes long, at most %zu are allowed", len, max_len);
        return NULL;
    }
    json_error_t error;
    json_t *root = json_loadb(text != NULL ? text : "", len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        json_read_fail(r, ERR_INVALID, "", "not JSON at byte %d: %.100s", error.position, error.text);
        return NULL;
    }
    if (!json_is_object(root))
        json_read_fail(r, ERR_INVALID, "", "a JSON object is needed");
    int64_t version = 0;
    json_read_int(r, root, "v", JSON_READ_REQUIRED, 1, INT64_MAX, &version);
    if (version > 1)
        json_read_fail(r, ERR_VERSION, "v",
                       "version %" PRId64 " was written by a newer program, this one knows 1", version);
    if (r->err != 0) {
        json_decref(root);
        return NULL;
    }
    return root;
}

/* The field, or NULL when there is nothing to read (any more). */
static json_t *json_read_field(struct json_read *r, const json_t *object, const char *key,
                               enum json_read_need need)
{
    assert(key != NULL);
    if (r->err != 0)
        return NULL;
    json_t *field = json_object_get(object, key);
    if (field == NULL && need == JSON_READ_REQUIRED)
        json_read_fail(r, ERR_INVALID, key, "is missing");
    return field;
}

const char *json_read_word(struct json_read *r, const json_t *object, const char *key,
                           enum json_read_need need)
{
    const json_t *field = json_read_field(r, object, key, need);
    if (field == NULL)
        return NULL;
    if (!json_is_string(field)) {
        json_read_fail(r, ERR_INVALID, key, "must be a string");
        return NULL;
    }
    return json_string_value(field);
}

void json_read_text(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                    char *out, size_t size)
{
    assert(out != NULL && size > 0);
    const char *word = json_read_word(r, object, key, need);
    if (word == NULL)
        return;
    size_t len = strlen(word);
    if (len >= size) {
        json_read_fail(r, ERR_INVALID, key, "is %zu bytes long, at most %zu are allowed", len, size - 1);
        return;
    }
    memcpy(out, word, len + 1);
}

void json_read_int(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                   int64_t min, int64_t max, int64_t *out)
{
    assert(min <= max);
    const json_t *field = json_read_field(r, object, key, need);
    if (field == NULL)
        return;
    if (!json_is_integer(field) || json_integer_value(field) < min || json_integer_value(field) > max) {
        json_read_fail(r, ERR_INVALID, key, "must be a whole number from %" PRId64 " to %" PRId64, min, max);
        return;
    }
    *out = json_integer_value(field);
}

void json_read_u64(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                   uint64_t *out)
{
    assert(*out <= INT64_MAX);
    int64_t value = (int64_t)*out;
    json_read_int(r, object, key, need, 0, INT64_MAX, &value);
    *out = (uint64_t)value;
}

void json_read_u32(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                   uint32_t *out)
{
    int64_t value = *out;
    json_read_int(r, object, key, need, 0, UINT32_MAX, &value);
    *out = (uint32_t)value;
}

void json_read_port(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                    uint16_t *out)
{
    int64_t value = *out;
    json_read_int(r, object, key, need, 1, UINT16_MAX, &value);
    *out = (uint16_t)value;
}

void json_read_bool(struct json_read *r, const json_t *object, const char *key, bool *out)
{
    const json_t *field = json_read_field(r, object, key, JSON_READ_OPTIONAL);
    if (field == NULL)
        return;
    if (json_is_boolean(field))
        *out = json_is_true(field);
    else
        json_read_fail(r, ERR_INVALID, key, "must be true or false");
}

void json_read_address(struct json_read *r, const json_t *object, const char *key, enum json_read_need need,
                       struct topology_address *out)
{
    const char *word = json_read_word(r, object, key, need);
    if (word != NULL && topology_address_parse(word, out) != 0)
        json_read_fail(r, ERR_INVALID, key, "\"%.60s\" is not an address like 10.0.0.1:6379", word);
}

#define JSON_READ_WORDS(kind, words)                                                                         \
    void json_read_##kind(struct json_read *r, const json_t *object, enum json_read_need need,               \
                          enum topology_##kind *out)                                                         \
    {                                                                                                        \
        const char *word = json_read_word(r, object, #kind, need);                                           \
        if (word != NULL && topology_##kind##_parse(word, out) != 0)                                         \
            json_read_fail(r, ERR_INVALID, #kind, "must be " words);                                         \
    }
JSON_READ_WORDS(durability, "async or strict")
JSON_READ_WORDS(reads, "master, replica or nearest")
JSON_READ_WORDS(fence, "none or acl")
JSON_READ_WORDS(priority, "prefer, neutral, prefer_not or must_not")

json_t *json_read_object(struct json_read *r, const json_t *object, const char *key)
{
    json_t *field = json_read_field(r, object, key, JSON_READ_OPTIONAL);
    if (field != NULL && !json_is_object(field)) {
        json_read_fail(r, ERR_INVALID, key, "must be an object");
        return NULL;
    }
    return field;
}

json_t *json_read_array(struct json_read *r, const json_t *object, const char *key, size_t max_elements)
{
    json_t *field = json_read_field(r, object, key, JSON_READ_OPTIONAL);
    if (field == NULL)
        return NULL;
    if (!json_is_array(field)) {
        json_read_fail(r, ERR_INVALID, key, "must be an array");
        return NULL;
    }
    if (json_array_size(field) > max_elements) {
        json_read_fail(r, ERR_INVALID, key, "has %zu elements, at most %zu are allowed",
                       json_array_size(field), max_elements);
        return NULL;
    }
    return field;
}
