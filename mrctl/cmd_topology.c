/* topology: the tree, once or whenever something changes; straight from ZooKeeper when no controller answers.
 */
#include "controller/core/view.h"
#include "mrctl/json_get.h"
#include "mrctl/mrctl.h"
#include "mrctl/render.h"
#include "mrctl/zk_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TOPOLOGY_ZK_TIMEOUT_MS = 4000, TOPOLOGY_RETRY_MS = 1000 };

/* ---- from ZooKeeper ---------------------------------------------------------------------------------------
 */

struct topology_folder {
    struct view_instance *instances;
    struct view_set_aside *set_aside;
    size_t n_instances, n_set_aside;
    void **owned; /* what the two arrays point to */
    size_t n_owned;
    int err;
};

static bool folder_grow(struct topology_folder *f, void **array, size_t n, size_t size)
{
    void *grown = realloc(*array, (n + 1) * size);
    if (grown == NULL)
        f->err = ERR_NOMEM;
    else
        *array = grown;
    return grown != NULL;
}

/* A copy that lives as long as the folder; NULL when out of memory. */
static void *folder_keep(struct topology_folder *f, const void *data, size_t size)
{
    void *copy = malloc(size);
    if (copy == NULL || !folder_grow(f, (void **)&f->owned, f->n_owned, sizeof *f->owned)) {
        f->err = ERR_NOMEM;
        free(copy);
        return NULL;
    }
    memcpy(copy, data, size);
    f->owned[f->n_owned++] = copy;
    return copy;
}

static void folder_set_aside(struct topology_folder *f, const char *name, const char *why)
{
    const struct view_set_aside s = {.name = folder_keep(f, name, strlen(name) + 1),
                                     .why = folder_keep(f, why, strlen(why) + 1)};
    if (f->err == 0 && folder_grow(f, (void **)&f->set_aside, f->n_set_aside, sizeof s))
        f->set_aside[f->n_set_aside++] = s;
}

static void folder_on_node(void *ctx, const char *name, const char *data, size_t len)
{
    struct topology_folder *f = ctx;
    struct topology_instance record;
    char why[200];
    if (f->err != 0)
        return;
    int err = topology_decode_instance(data, len, &record, why, sizeof why);
    if (err == 0 && strcmp(record.name, name) != 0) {
        err = ERR_INVALID;
        (void)snprintf(why, sizeof why, "it holds the instance %s", record.name);
    }
    if (err != 0) {
        folder_set_aside(f, name, why);
        return;
    }
    const struct view_instance v = {.record = folder_keep(f, &record, sizeof record),
                                    .acked = VIEW_UNKNOWN,
                                    .slowest_us = VIEW_UNKNOWN,
                                    .holding = VIEW_UNKNOWN,
                                    .wall_ms = (int64_t)time(NULL) * 1000,
                                    .next = -1};
    if (f->err == 0 && folder_grow(f, (void **)&f->instances, f->n_instances, sizeof v))
        f->instances[f->n_instances++] = v;
}

static void folder_free(struct topology_folder *f)
{
    for (size_t k = 0; k < f->n_owned; k++)
        free(f->owned[k]);
    free(f->owned);
    free(f->instances);
    free(f->set_aside);
}

/* The same JSON as a controller's, with the members' state unknown; NULL and why. */
static char *topology_from_zookeeper(const char *hosts, char *why, size_t why_size)
{
    struct topology_folder f = {0};
    char *text = NULL;
    size_t len;
    int err = zk_read_folder(hosts, "/instances", TOPOLOGY_ZK_TIMEOUT_MS, folder_on_node, &f, why, why_size);
    if (err == 0 && f.err == 0) {
        const struct view_topology t = {
            .source = "zookeeper",
            .zookeeper_is_up = true,
            .proxies = VIEW_UNKNOWN,
            .instances = f.instances,
            .n_instances = f.n_instances,
            .set_aside = f.set_aside,
            .n_set_aside = f.n_set_aside,
        };
        text = view_topology(&t, &len);
    }
    if (text == NULL && err == 0)
        (void)snprintf(why, why_size, "%s", err_text(ERR_NOMEM));
    folder_free(&f);
    return text;
}

/* ---- one picture
 * ------------------------------------------------------------------------------------------- */

struct topology_watch {
    struct mrctl *m;
    const char *name; /* NULL: all */
    char what[MRCTL_PATH_MAX];
    bool drawn, is_terminal, from_zookeeper;
    int code; /* of the last picture */
};

/* A standby's picture is good, the leader's is newer: it takes its place when it can be had. */
static void topology_ask_leader(struct topology_watch *t, struct api_answer *answer)
{
    const char *leader = json_get_word(answer->json, "leader");
    if (leader[0] == '\0' || strcmp(json_get_word(answer->json, "source"), leader) == 0)
        return;
    struct api_answer newer;
    api_prefer_leader(t->m->api);
    if (api_call(t->m->api, "/v1/topology", NULL, MRCTL_READ_MS, &newer) == 0 && newer.status == 200) {
        api_answer_free(answer);
        *answer = newer;
    } else {
        api_answer_free(&newer);
    }
}

/* Asks a controller, or else ZooKeeper; 0 or an exit code (it was said why). */
static int topology_ask(struct topology_watch *t, struct api_answer *answer)
{
    struct mrctl *m = t->m;
    int err = api_call(m->api, "/v1/topology", NULL, MRCTL_READ_MS, answer);
    t->from_zookeeper = false;
    if (err != ERR_UNREACHABLE || m->zk == NULL) {
        if (err == 0 && answer->status < 400) {
            topology_ask_leader(t, answer);
            return 0;
        }
        int code = mrctl_refused(m, t->what, err, answer);
        api_answer_free(answer);
        return code;
    }
    char why[400];
    char *text = topology_from_zookeeper(m->zk, why, sizeof why);
    if (text == NULL)
        return mrctl_fail(MRCTL_NOBODY, "%s: no controller answered (%s), and neither did %s", t->what,
                          api_why(m->api), why);
    *answer = (struct api_answer){.status = 200, .text = text, .json = json_loads(text, 0, NULL)};
    t->from_zookeeper = true;
    (void)mrctl_fail(
        MRCTL_DONE,
        "no controller answered (%s): this is what ZooKeeper has on record, the members' state is "
        "not known",
        api_why(m->api));
    return MRCTL_DONE;
}

/* Leaves only the elements of that name in the array. */
static size_t topology_keep(json_t *array, const char *name)
{
    for (size_t k = json_array_size(array); k-- > 0;)
        if (strcmp(json_get_word(json_array_get(array, k), "name"), name) != 0)
            (void)json_array_remove(array, k);
    return json_array_size(array);
}

/* Narrows the answer to the one instance; its text follows. */
static int topology_narrow(struct topology_watch *t, struct api_answer *answer)
{
    json_t *set_aside = json_object_get(answer->json, "set_aside");
    size_t found = topology_keep(json_object_get(answer->json, "instances"), t->name);
    if (found == 0 && topology_keep(set_aside, t->name) > 0)
        return mrctl_fail(MRCTL_FAILED, "%s: it is set aside, its znode can't be read: %s", t->what,
                          json_get_text(json_array_get(set_aside, 0), "why"));
    if (found == 0)
        return mrctl_fail(MRCTL_FAILED,
                          "%s: there is no instance %s; 'mrctl list' names those that are there", t->what,
                          t->name);
    (void)topology_keep(set_aside, t->name);
    char *text = json_dumps(answer->json, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (text == NULL)
        return mrctl_fail(MRCTL_FAILED, "%s: %s", t->what, err_text(ERR_NOMEM));
    free(answer->text);
    answer->text = text;
    return 0;
}

static int topology_draw(struct topology_watch *t)
{
    struct api_answer answer;
    int code = topology_ask(t, &answer);
    if (code != 0)
        return code;
    if (t->name != NULL)
        code = topology_narrow(t, &answer);
    if (code == 0) {
        /* A terminal shows the newest picture; a file or pipe gets one after the other. */
        if (t->m->watch && !t->m->json && t->is_terminal)
            (void)fputs("\033[H\033[2J", stdout);
        else if (!t->m->json && t->drawn)
            (void)fputc('\n', stdout);
        mrctl_print(t->m, &answer, render_topology);
        (void)fflush(stdout);
        t->drawn = true;
    }
    api_answer_free(&answer);
    return code;
}

/* ---- -w
 * ------------------------------------------------------------------------------------------------------ */

/* Goes on unless the instance is gone or nobody reads our output any more. */
static bool topology_on_change(void *ctx)
{
    struct topology_watch *t = ctx;
    t->code = topology_draw(t);
    return t->code != MRCTL_FAILED && !ferror(stdout);
}

static int topology_follow(struct topology_watch *t)
{
    bool told = false;
    while (true) {
        int err = api_follow(t->m->api, "/v1/events", topology_on_change, t);
        if (err == 0)
            return t->code;
        /* Between two controllers, or without any: what ZooKeeper has is shown, once, while we try on. */
        if (err == ERR_UNREACHABLE && !told) {
            int code = topology_draw(t);
            if (code == MRCTL_FAILED || (code != 0 && !t->drawn))
                return code;
        }
        told = err == ERR_UNREACHABLE;
        const struct timespec pause = {.tv_sec = TOPOLOGY_RETRY_MS / 1000};
        (void)nanosleep(&pause, NULL);
    }
}

int cmd_topology(struct mrctl *m, int argc, char **argv)
{
    struct topology_watch t = {.m = m,
                               .name = mrctl_name(m, argc, argv, 0),
                               .what = "topology",
                               .is_terminal = isatty(STDOUT_FILENO) != 0};
    if (t.name != NULL)
        (void)snprintf(t.what, sizeof t.what, "topology %s", t.name);
    return m->watch ? topology_follow(&t) : topology_draw(&t);
}
