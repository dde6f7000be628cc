#include "common/core/json_write.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void json_write_fail(struct json_write *w, int err)
{
    assert(err < 0);
    if (w->err == 0)
        w->err = err;
}

static json_t *json_write_made(struct json_write *w, json_t *value)
{
    if (value == NULL)
        json_write_fail(w, ERR_NOMEM);
    return value;
}

json_t *json_write_object(struct json_write *w)
{
    return json_write_made(w, json_object());
}

json_t *json_write_array(struct json_write *w)
{
    return json_write_made(w, json_array());
}

void json_write_set(struct json_write *w, json_t *object, const char *key, json_t *value)
{
    assert(key != NULL);
    if (json_object_set_new(object, key, value) != 0)
        json_write_fail(w, ERR_NOMEM);
}

void json_write_append(struct json_write *w, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) != 0)
        json_write_fail(w, ERR_NOMEM);
}

void json_write_int(struct json_write *w, json_t *object, const char *key, int64_t value)
{
    json_write_set(w, object, key, json_integer(value));
}

void json_write_u64(struct json_write *w, json_t *object, const char *key, uint64_t value)
{
    if (value > INT64_MAX)
        json_write_fail(w, ERR_TOO_LARGE);
    else
        json_write_int(w, object, key, (int64_t)value);
}

void json_write_bool(struct json_write *w, json_t *object, const char *key, bool value)
{
    json_write_set(w, object, key, json_boolean(value));
}

void json_write_ms(struct json_write *w, json_t *object, const char *key, int64_t us)
{
    if (us >= 0)
        json_write_set(w, object, key, json_real((double)us / 1000.0));
}

/* json_string() gives NULL for two reasons; which of them decides what the caller is told. */
static bool json_write_is_utf8(const char *text)
{
    json_t *probe = json_string(text);
    json_decref(probe);
    return probe != NULL;
}

void json_write_text(struct json_write *w, json_t *object, const char *key, const char *text)
{
    assert(text != NULL);
    if (!json_write_is_utf8(text))
        json_write_fail(w, ERR_INVALID);
    else
        json_write_set(w, object, key, json_string(text));
}

void json_write_note(struct json_write *w, json_t *object, const char *key, const char *text)
{
    assert(text != NULL);
    if (json_write_is_utf8(text)) {
        json_write_set(w, object, key, json_string(text));
        return;
    }
    char *ascii = strdup(text);
    if (ascii == NULL) {
        json_write_fail(w, ERR_NOMEM);
        return;
    }
    for (char *c = ascii; *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    json_write_set(w, object, key, json_string(ascii));
    free(ascii);
}

void json_write_address(struct json_write *w, json_t *object, const char *key,
                        const struct topology_address *a)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    if (topology_address_is_set(a))
        json_write_text(w, object, key, topology_address_format(a, text));
}

ssize_t json_write_finish(struct json_write *w, json_t *root, char *text, size_t size)
{
    assert(text != NULL && size > 0);
    ssize_t result = w->err;
    if (result == 0) {
        size_t len = json_dumpb(root, text, size, JSON_COMPACT);
        if (len == 0)
            result = ERR_NOMEM;
        else
            result = len < size ? (ssize_t)len : ERR_TOO_LARGE;
    }
    text[result > 0 ? result : 0] = '\0';
    json_decref(root);
    return result;
}

char *json_write_finish_alloc(struct json_write *w, json_t *root, size_t *len)
{
    assert(len != NULL);
    char *text = w->err == 0 ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    if (text == NULL)
        json_write_fail(w, ERR_NOMEM);
    *len = text != NULL ? strlen(text) : 0;
    json_decref(root);
    return text;
}
