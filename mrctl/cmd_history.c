/* history: past failovers and changes, with evidence and timeline. */
#include "mrctl/mrctl.h"
#include "mrctl/render.h"

#include <stdio.h>

/* No history and no such instance are told apart: a typo must not look like peace. */
static int history_check_name(struct mrctl *m, const char *what, const char *name)
{
    char path[MRCTL_PATH_MAX];
    (void)snprintf(path, sizeof path, "/v1/instances/%s", name);
    struct api_answer answer;
    int code = mrctl_get(m, what, path, &answer);
    if (code == 0)
        api_answer_free(&answer);
    return code;
}

int cmd_history(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX] = "history", path[MRCTL_PATH_MAX] = "/v1/history";
    if (name != NULL) {
        (void)snprintf(what, sizeof what, "history %s", name);
        (void)snprintf(path, sizeof path, "/v1/history?instance=%s", name);
    }
    struct api_answer answer;
    int code = mrctl_get(m, what, path, &answer);
    if (code != 0)
        return code;
    if (name != NULL && json_array_size(json_object_get(answer.json, "history")) == 0)
        code = history_check_name(m, what, name);
    if (code == 0)
        mrctl_print(m, &answer, render_history);
    api_answer_free(&answer);
    return code;
}
