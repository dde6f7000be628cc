/* pause, resume: maintenance of one instance or of all; ack: the last failover has been looked at. */
#include "mrctl/duration.h"
#include "mrctl/mrctl.h"

#include <stdio.h>

/* "pause cart" and its path; name NULL: of all instances. */
static void pause_path(const char *command, const char *name, char what[MRCTL_PATH_MAX],
                       char path[MRCTL_PATH_MAX])
{
    if (name != NULL) {
        (void)snprintf(what, MRCTL_PATH_MAX, "%s %s", command, name);
        (void)snprintf(path, MRCTL_PATH_MAX, "/v1/instances/%s/%s", name, command);
    } else {
        (void)snprintf(what, MRCTL_PATH_MAX, "%s", command);
        (void)snprintf(path, MRCTL_PATH_MAX, "/v1/%s", command);
    }
}

int cmd_pause(struct mrctl *m, int argc, char **argv)
{
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    int64_t for_ms = 0;
    pause_path("pause", mrctl_name(m, argc, argv, 0), what, path);
    if (m->duration != NULL && duration_parse(m->duration, &for_ms) != 0)
        options_fail(m->spec, "--for %s: a time like 90s, 15m, 2h or 1d is needed, at most 366d",
                     m->duration);
    json_t *body = mrctl_body();
    bool made = body != NULL;
    if (made && m->reason != NULL)
        made = json_object_set_new(body, "reason", json_string(m->reason)) == 0;
    if (made && for_ms != 0)
        made = json_object_set_new(body, "for_ms", json_integer(for_ms)) == 0;
    if (!made) {
        json_decref(body);
        return mrctl_fail(MRCTL_FAILED, "%s: the reason must be UTF-8 text", what);
    }
    return mrctl_order(m, what, "POST", path, body, MRCTL_COMMAND_MS);
}

int cmd_resume(struct mrctl *m, int argc, char **argv)
{
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    pause_path("resume", mrctl_name(m, argc, argv, 0), what, path);
    return mrctl_order(m, what, "POST", path, mrctl_body(), MRCTL_COMMAND_MS);
}

int cmd_ack(struct mrctl *m, int argc, char **argv)
{
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    pause_path("ack", mrctl_name(m, argc, argv, 0), what, path);
    return mrctl_order(m, what, "POST", path, mrctl_body(), MRCTL_COMMAND_MS);
}
