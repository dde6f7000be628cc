/* events: what the leader decided and noticed of late; -f: and what it does from now on. */
#include "mrctl/json_get.h"
#include "mrctl/mrctl.h"
#include "mrctl/render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EVENTS_RECENT = 200, EVENTS_RECENT_FOLLOWED = 10, EVENTS_RETRY_MS = 1000 };

struct events_follower {
    struct mrctl *m;
    int64_t newest_ms; /* of what was printed… */
    int64_t known_ms;  /* …before this stream, which begins with what may have been printed already */
    bool is_live;      /* what comes now is new */
    bool moved;        /* somebody else leads now */
    bool is_first;     /* the present stream is the first one */
};

static void events_print(struct events_follower *f, const json_t *event)
{
    int64_t at_ms = json_get_int(event, "at");
    if (!f->is_live && at_ms <= f->known_ms)
        return;
    f->newest_ms = at_ms > f->newest_ms ? at_ms : f->newest_ms;
    if (f->m->json) {
        char *text = json_dumps(event, JSON_COMPACT);
        (void)printf("%s\n", text != NULL ? text : "{}");
        free(text);
    } else {
        render_event(stdout, event);
    }
    (void)fflush(stdout);
}

static bool events_on_event(void *ctx, const char *name, const json_t *data)
{
    struct events_follower *f = ctx;
    if (strcmp(name, "report") == 0 && data != NULL)
        events_print(f, data);
    else if (strcmp(name, "leader") == 0)
        f->moved = true;
    f->is_live = f->is_live || strcmp(name, "live") == 0;
    bool ends = f->moved || (strcmp(name, "live") == 0 && !f->m->follow);
    return !ends && !ferror(stdout);
}

/* No events and no such instance are told apart. */
static int events_check_name(struct mrctl *m, const char *what, const char *name)
{
    char path[MRCTL_PATH_MAX];
    (void)snprintf(path, sizeof path, "/v1/instances/%s", name);
    struct api_answer answer;
    int code = mrctl_get(m, what, path, &answer);
    if (code == 0)
        api_answer_free(&answer);
    return code;
}

int cmd_events(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX] = "events", path[2 * MRCTL_PATH_MAX];
    struct events_follower f = {.m = m, .newest_ms = -1, .is_first = true};
    int n = snprintf(path, sizeof path, "/v1/events?recent=%d",
                     m->follow ? EVENTS_RECENT_FOLLOWED : EVENTS_RECENT);
    if (name != NULL) {
        (void)snprintf(what, sizeof what, "events %s", name);
        (void)snprintf(path + n, sizeof path - (size_t)n, "&instance=%s", name);
        int code = events_check_name(m, what, name);
        if (code != 0)
            return code;
    }
    while (true) {
        f.moved = f.is_live = false;
        f.known_ms = f.newest_ms;
        api_prefer_leader(m->api); /* it is the one that decides */
        int err = api_events(m->api, path, events_on_event, &f);
        if (err == 0 && !f.moved)
            return MRCTL_DONE;
        if (err != 0 && (!m->follow || (err == ERR_UNREACHABLE && f.is_first)))
            return mrctl_refused(m, what, err, NULL);
        f.is_first = false;
        const struct timespec pause = {.tv_sec = EVENTS_RETRY_MS / 1000};
        (void)nanosleep(&pause, NULL);
    }
}
