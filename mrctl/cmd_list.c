/* list, show: the instances, and one of them in full. */
#include "mrctl/mrctl.h"
#include "mrctl/render.h"

#include <stdio.h>

int cmd_list(struct mrctl *m, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct api_answer answer;
    int code = mrctl_get(m, "list", "/v1/instances", &answer);
    if (code != 0)
        return code;
    mrctl_print(m, &answer, render_instances);
    api_answer_free(&answer);
    return MRCTL_DONE;
}

int cmd_show(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    (void)snprintf(what, sizeof what, "show %s", name);
    (void)snprintf(path, sizeof path, "/v1/instances/%s", name);
    api_prefer_leader(m->api);
    struct api_answer answer;
    int code = mrctl_get(m, what, path, &answer);
    if (code != 0)
        return code;
    mrctl_print(m, &answer, render_instance);
    api_answer_free(&answer);
    return MRCTL_DONE;
}
