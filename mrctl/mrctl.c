#include "mrctl/mrctl.h"

#include "common/core/topology.h"

#include <stdarg.h>
#include <stdio.h>

int mrctl_fail(enum mrctl_exit code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fflush(stdout); /* keeps the two streams in order where they go to one place */
    (void)fputs("mrctl: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
    return code;
}

const char *mrctl_name(const struct mrctl *m, int argc, char **argv, int k)
{
    if (k >= argc)
        return NULL;
    if (topology_name_check(argv[k]) != 0)
        options_fail(m->spec,
                     "'%s' is not a legal instance name: it must be 1 to %d letters, digits, dots, "
                     "underscores or hyphens",
                     argv[k], TOPOLOGY_NAME_MAX);
    return argv[k];
}

int mrctl_refused(struct mrctl *m, const char *what, int err, const struct api_answer *answer)
{
    switch (err) {
    case 0:
        break;
    case ERR_UNREACHABLE:
        return mrctl_fail(
            MRCTL_NOBODY,
            "%s: no controller answered (%s); name one with --controllers, or ZooKeeper with --zk. "
            "Without --token-file a controller listens on its own host only",
            what, api_why(m->api));
    case ERR_TIMEOUT:
        return mrctl_fail(MRCTL_TIMED_OUT,
                          "%s: no answer in time (%s); it may have been done all the same: look with "
                          "'mrctl topology' before trying again",
                          what, api_why(m->api));
    default:
        return mrctl_fail(
            MRCTL_FAILED,
            "%s: %s (%s); it may have been done all the same: look with 'mrctl topology' before "
            "trying again",
            what, err_text(err), api_why(m->api));
    }
    const char *hint = "";
    if (answer->status == 401)
        hint = "; give the controllers' token with --token-file";
    else if (answer->status == 503)
        hint = "; try again in a moment";
    return mrctl_fail(MRCTL_FAILED, "%s: %s%s", what, api_answer_error(answer), hint);
}

int mrctl_get(struct mrctl *m, const char *what, const char *path, struct api_answer *answer)
{
    int err = api_call(m->api, path, NULL, MRCTL_READ_MS, answer);
    if (err == 0 && answer->status < 400)
        return 0;
    int code = mrctl_refused(m, what, err, answer);
    api_answer_free(answer);
    return code;
}

void mrctl_print(const struct mrctl *m, const struct api_answer *answer,
                 void (*render)(FILE *out, const json_t *root))
{
    if (m->json)
        (void)printf("%s\n", answer->text);
    else
        render(stdout, answer->json);
}
