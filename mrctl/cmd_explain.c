/* explain: would a failover work now? The arithmetic and the reason. */
#include "mrctl/mrctl.h"
#include "mrctl/render.h"

#include <stdio.h>

int cmd_explain(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX], path[MRCTL_PATH_MAX];
    (void)snprintf(what, sizeof what, "explain %s", name);
    (void)snprintf(path, sizeof path, "/v1/instances/%s/explain", name);
    api_prefer_leader(m->api); /* what it sees is what counts */
    struct api_answer answer;
    int code = mrctl_get(m, what, path, &answer);
    if (code != 0)
        return code;
    mrctl_print(m, &answer, render_plan);
    api_answer_free(&answer);
    return MRCTL_DONE;
}
