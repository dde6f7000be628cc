/* switchover, failover: another member becomes master; --dry-run: would it? */
#include "mrctl/address.h"
#include "mrctl/mrctl.h"

#include <stdio.h>

enum { ORDERS_SLACK_MS = 2000 };

/* The body both have in common; 0 or an exit code. */
static int orders_body(const struct mrctl *m, const char *what, json_t **out)
{
    struct topology_address to;
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    int code = m->to != NULL ? address_resolve(m, what, m->to, &to) : 0;
    if (code != 0)
        return code;
    json_t *body = mrctl_body();
    bool made = body != NULL;
    if (made && m->to != NULL)
        made = json_object_set_new(body, "to", json_string(topology_address_format(&to, text))) == 0;
    if (made && m->dry_run)
        made = json_object_set_new(body, "dry_run", json_true()) == 0;
    *out = body;
    if (made)
        return 0;
    json_decref(body);
    return mrctl_fail(MRCTL_FAILED, "%s: %s", what, err_text(ERR_NOMEM));
}

int cmd_switchover(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    json_t *body;
    (void)snprintf(what, sizeof what, "switchover %s", name);
    (void)snprintf(path, sizeof path, "/v1/instances/%s/switchover", name);
    int code = orders_body(m, what, &body);
    if (code != 0)
        return code;
    if (json_object_set_new(body, "limit_ms", json_integer(m->limit_ms)) != 0) {
        json_decref(body);
        return mrctl_fail(MRCTL_FAILED, "%s: %s", what, err_text(ERR_NOMEM));
    }
    return mrctl_order(m, what, "POST", path, body, m->limit_ms + ORDERS_SLACK_MS);
}

int cmd_failover(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    json_t *body;
    (void)snprintf(what, sizeof what, "failover %s", name);
    (void)snprintf(path, sizeof path, "/v1/instances/%s/failover", name);
    int code = orders_body(m, what, &body);
    if (code != 0)
        return code;
    if (m->allow_data_loss && json_object_set_new(body, "allow_data_loss", json_true()) != 0) {
        json_decref(body);
        return mrctl_fail(MRCTL_FAILED, "%s: %s", what, err_text(ERR_NOMEM));
    }
    return mrctl_order(m, what, "POST", path, body, MRCTL_COMMAND_MS);
}
