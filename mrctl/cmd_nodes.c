/* controllers, proxies: who is there. */
#include "mrctl/mrctl.h"
#include "mrctl/render.h"

int cmd_controllers(struct mrctl *m, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct api_answer answer;
    int code = mrctl_get(m, "controllers", "/v1/controllers", &answer);
    if (code != 0)
        return code;
    mrctl_print(m, &answer, render_controllers);
    api_answer_free(&answer);
    return MRCTL_DONE;
}

int cmd_proxies(struct mrctl *m, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    api_prefer_leader(m->api);
    struct api_answer answer;
    int code = mrctl_get(m, "proxies", "/v1/proxies", &answer);
    if (code != 0)
        return code;
    mrctl_print(m, &answer, render_proxies);
    api_answer_free(&answer);
    return MRCTL_DONE;
}
