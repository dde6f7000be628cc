/* set: an instance's policy, its members' labels; forget: a member; delete: the instance. */
#include "mrctl/address.h"
#include "mrctl/mrctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A policy value as JSON: a whole number, on or off, or a word; the controllers judge it. */
static json_t *set_value(const char *text)
{
    static const char *const yes[] = {"on", "true", "yes"}, *const no[] = {"off", "false", "no"};
    for (size_t k = 0; k < sizeof yes / sizeof yes[0]; k++) {
        if (strcmp(text, yes[k]) == 0)
            return json_true();
        if (strcmp(text, no[k]) == 0)
            return json_false();
    }
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    bool is_number = end != text && *end == '\0' && errno == 0;
    return is_number ? json_integer(number) : json_string(text);
}

/* Adds "key=value" to the object; labels are words whatever they look like. */
static bool set_add(const struct mrctl *m, json_t *object, char *operand, bool is_label)
{
    char *equals = strchr(operand, '=');
    if (equals == operand)
        options_fail(m->spec, "'%s' has no key: key=value is needed", operand);
    *equals = '\0';
    if (json_object_get(object, operand) != NULL)
        options_fail(m->spec, "%s is given twice", operand);
    return json_object_set_new(object, operand, is_label ? json_string(equals + 1) : set_value(equals + 1)) ==
           0;
}

/* The operands after the name: settings of the policy, then of each member that an address names. 0, or an
 * exit code. */
static int set_read(const struct mrctl *m, const char *what, int argc, char **argv, json_t *policy,
                    json_t *members)
{
    json_t *object = policy;
    for (int k = 1; k < argc; k++) {
        struct topology_address address;
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        bool made;
        if (strchr(argv[k], '=') != NULL) {
            made = set_add(m, object, argv[k], object != policy);
        } else {
            int code = address_resolve(m, what, argv[k], &address);
            if (code != 0)
                return code;
            if (k + 1 == argc || strchr(argv[k + 1], '=') == NULL)
                options_fail(m->spec, "what is to be set of %s? priority=… or zone=… is needed", argv[k]);
            object = json_pack("{s:s}", "address", topology_address_format(&address, text));
            made = object != NULL && json_array_append_new(members, object) == 0;
        }
        if (!made)
            return mrctl_fail(MRCTL_FAILED, "%s: '%s' must be UTF-8 text", what, argv[k]);
    }
    return 0;
}

int cmd_set(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    (void)snprintf(what, sizeof what, "set %s", name);
    (void)snprintf(path, sizeof path, "/v1/instances/%s", name);
    json_t *policy = json_object(), *members = json_array(), *body = mrctl_body();
    bool made = policy != NULL && members != NULL && body != NULL;
    int code = made ? set_read(m, what, argc, argv, policy, members)
                    : mrctl_fail(MRCTL_FAILED, "%s: %s", what, err_text(ERR_NOMEM));
    if (code == 0 && json_object_size(policy) > 0)
        made = json_object_set(body, "policy", policy) == 0;
    if (code == 0 && made && json_array_size(members) > 0)
        made = json_object_set(body, "members", members) == 0;
    json_decref(policy);
    json_decref(members);
    if (code == 0 && !made)
        code = mrctl_fail(MRCTL_FAILED, "%s: %s", what, err_text(ERR_NOMEM));
    if (code == 0)
        return mrctl_order(m, what, "PATCH", path, body, MRCTL_COMMAND_MS);
    json_decref(body);
    return code;
}

int cmd_forget(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX], text[TOPOLOGY_ADDRESS_MAX + 1];
    struct topology_address member;
    (void)snprintf(what, sizeof what, "forget %s", name);
    (void)snprintf(path, sizeof path, "/v1/instances/%s/forget", name);
    int code = address_resolve(m, what, argv[1], &member);
    if (code != 0)
        return code;
    json_t *body = mrctl_body();
    if (body == NULL ||
        json_object_set_new(body, "member", json_string(topology_address_format(&member, text))) != 0) {
        json_decref(body);
        return mrctl_fail(MRCTL_FAILED, "%s: %s", what, err_text(ERR_NOMEM));
    }
    return mrctl_order(m, what, "POST", path, body, MRCTL_COMMAND_MS);
}

int cmd_delete(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    (void)snprintf(what, sizeof what, "delete %s", name);
    (void)snprintf(path, sizeof path, "/v1/instances/%s", name);
    return mrctl_order(m, what, "DELETE", path, NULL, MRCTL_COMMAND_MS);
}
