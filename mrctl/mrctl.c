#include "mrctl/mrctl.h"

#include "common/core/topology.h"
#include "mrctl/json_get.h"
#include "mrctl/render.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ---- commands ------------------------------------------------------------------------------------------ */

json_t *mrctl_body(void)
{
    char host[256] = "", by[512];
    // NOLINTNEXTLINE(concurrency-mt-unsafe): there are no threads here
    const char *user = getenv("USER");
    if (user == NULL || user[0] == '\0') {
        const struct passwd *entry = getpwuid(getuid()); // NOLINT(concurrency-mt-unsafe)
        user = entry != NULL ? entry->pw_name : "unknown";
    }
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(by, sizeof by, "%.200s@%s", user, host);
    by[TOPOLOGY_NAME_MAX] = '\0'; /* as much as is recorded */
    for (char *c = by; *c != '\0'; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
    return json_pack("{s:s}", "by", by);
}

static void mrctl_show_order(const struct mrctl *m, const struct api_answer *answer, const json_t *plan)
{
    if (m->json)
        (void)printf("%s\n", answer->text);
    else if (json_is_string(json_object_get(plan, "verdict")))
        render_plan(stdout, plan);
    else if (answer->status < 300)
        render_done(stdout, answer->json);
    (void)fflush(stdout);
}

int mrctl_order(struct mrctl *m, const char *what, const char *method, const char *path, json_t *body,
                int timeout_ms)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    bool is_lost = body != NULL && text == NULL;
    json_decref(body);
    if (is_lost)
        return mrctl_fail(MRCTL_FAILED, "%s: %s", what, err_text(ERR_NOMEM));
    struct api_answer answer;
    int err = api_send(m->api, method, path, text, timeout_ms, &answer);
    free(text);
    int code = MRCTL_DONE;
    if (err == 0 && answer.status < 300) {
        mrctl_show_order(m, &answer, answer.json);
    } else {
        /* A dry run that was refused has its arithmetic with it. */
        const json_t *plan = json_object_get(answer.json, "plan");
        if (err == 0 && json_is_object(plan))
            mrctl_show_order(m, &answer, plan);
        code = mrctl_refused(m, what, err, &answer);
    }
    api_answer_free(&answer);
    return code;
}
