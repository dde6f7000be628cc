/* adopt: takes over an existing master; its replicas are discovered by the controllers. */
#include "common/core/topology.h"
#include "mrctl/address.h"
#include "mrctl/json_get.h"
#include "mrctl/mrctl.h"
#include "mrctl/render.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ADOPT_PAUSE_MS = 50 };

/* ---- the request ----------------------------------------------------------------------------------------
 */

/* The request's body, to be freed; NULL: it was said why, *code is the exit code. */
static char *adopt_body(const struct mrctl *m, const char *what, const char *name,
                        const struct topology_address *address, int *code)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1], password[TOPOLOGY_PASSWORD_MAX + 1] = "";
    *code = MRCTL_FAILED;
    if (m->password_file != NULL && options_read_secret(m->password_file, password, sizeof password) != 0) {
        (void)mrctl_fail(MRCTL_FAILED, "%s: no password of 1 to %d bytes can be read from %s", what,
                         TOPOLOGY_PASSWORD_MAX, m->password_file);
        return NULL;
    }
    json_t *object = json_pack("{s:s, s:s}", "name", name, "adopt", topology_address_format(address, text));
    bool made = object != NULL;
    if (made && m->user != NULL)
        made = json_object_set_new(object, "user", json_string(m->user)) == 0;
    if (made && password[0] != '\0')
        made = json_object_set_new(object, "password", json_string(password)) == 0;
    char *body = made ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    explicit_bzero(password, sizeof password);
    if (body == NULL)
        (void)mrctl_fail(MRCTL_FAILED, "%s: user and password must be UTF-8 text", what);
    return body;
}

/* ---- --wait -----------------------------------------------------------------------------------------------
 */

/* The element of the array whose "address" that is; NULL when there is none. */
static const json_t *adopt_by_address(const json_t *array, const char *address)
{
    size_t k;
    json_t *item;
    json_array_foreach(array, k, item)
    {
        if (strcmp(json_get_word(item, "address"), address) == 0)
            return item;
    }
    return NULL;
}

/* Stable, its master seen, and every replica that the master has is a member whose link is up. What is
 * missing goes to `missing`. */
static bool adopt_is_ready(const json_t *instance, char *missing, size_t size)
{
    const char *master = json_get_word(instance, "master");
    const json_t *members = json_object_get(instance, "members");
    const json_t *observed = adopt_by_address(json_object_get(instance, "observed"), master);
    int64_t connected = json_get_int(observed, "replicas_connected");
    size_t k;
    json_t *member;
    if (strcmp(json_get_word(instance, "state"), "stable") != 0) {
        (void)snprintf(missing, size, "it is %s", json_get_text(instance, "state"));
        return false;
    }
    if (connected < 0) {
        (void)snprintf(missing, size, "its master %s has not been heard yet", master);
        return false;
    }
    json_array_foreach(members, k, member)
    {
        if (strcmp(json_get_word(member, "link"), "up") == 0 &&
            strcmp(json_get_word(member, "state"), "up") == 0)
            continue;
        (void)snprintf(missing, size, "%s %s is not linked yet: %s", json_get_text(member, "role"),
                       json_get_text(member, "address"), json_get_text(member, "note"));
        return false;
    }
    if ((int64_t)json_array_size(members) - 1 < connected &&
        json_array_size(members) < TOPOLOGY_MEMBERS_MAX) {
        (void)snprintf(missing, size, "%zu of the master's %" PRId64 " replicas are members yet",
                       json_array_size(members) - 1, connected);
        return false;
    }
    return true;
}

static int64_t adopt_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Asks until the instance is ready. A standby may not know it yet, and a leader may be changing: neither ends
 * the wait. */
static int adopt_wait(struct mrctl *m, const char *what, const char *name)
{
    char path[MRCTL_PATH_MAX], missing[256] = "nobody knows it yet";
    int64_t deadline_ms = adopt_now_ms() + m->wait_ms;
    (void)snprintf(path, sizeof path, "/v1/instances/%s", name);
    while (true) {
        struct api_answer answer;
        int err = api_call(m->api, path, NULL, MRCTL_READ_MS, &answer);
        bool ready = err == 0 && answer.status == 200 && adopt_is_ready(answer.json, missing, sizeof missing);
        if (err != 0)
            (void)snprintf(missing, sizeof missing, "no controller answers (%.160s)", api_why(m->api));
        if (ready)
            mrctl_print(m, &answer, render_instance);
        api_answer_free(&answer);
        if (ready)
            return MRCTL_DONE;
        if (adopt_now_ms() >= deadline_ms)
            return mrctl_fail(MRCTL_TIMED_OUT,
                              "%s: adopted, but not ready within %d ms: %s; look with 'mrctl show %s'", what,
                              m->wait_ms, missing, name);
        const struct timespec pause = {.tv_nsec = ADOPT_PAUSE_MS * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
}

int cmd_adopt(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    char what[MRCTL_PATH_MAX];
    (void)snprintf(what, sizeof what, "adopt %s", name);
    struct topology_address address;
    int code = address_resolve(m, what, argv[1], &address);
    if (code != 0)
        return code;
    char *body = adopt_body(m, what, name, &address, &code);
    if (body == NULL)
        return code;
    struct api_answer answer;
    int err = api_call(m->api, "/v1/instances", body, MRCTL_COMMAND_MS, &answer);
    explicit_bzero(body, strlen(body));
    free(body);
    if (err != 0 || answer.status >= 300) {
        code = mrctl_refused(m, what, err, &answer);
        api_answer_free(&answer);
        return code;
    }
    int64_t port = json_get_int(answer.json, "port");
    if (m->json && !m->wait)
        (void)printf("%s\n", answer.text);
    else if (!m->json && port > 0)
        (void)printf("adopted %s: clients reach it at 127.0.0.1:%" PRId64 " on every host with a proxy\n",
                     name, port);
    else if (!m->json)
        (void)printf("adopted %s\n", name);
    (void)fflush(stdout);
    api_answer_free(&answer);
    return m->wait ? adopt_wait(m, what, name) : MRCTL_DONE;
}
