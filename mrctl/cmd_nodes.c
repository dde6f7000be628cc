/* controllers, proxies: who is there; and what one proxy says of itself. */
#include "mrctl/json_get.h"
#include "mrctl/mrctl.h"
#include "mrctl/render.h"

#include <stdlib.h>
#include <string.h>

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

enum { NODES_PROXY_MS = 1500, NODES_WHY_MAX = API_WHY_MAX + 256 };

static json_t *nodes_find(const json_t *root, const char *id)
{
    size_t k;
    json_t *item;
    json_array_foreach(json_object_get(root, "proxies"), k, item)
    {
        if (strcmp(json_get_word(item, "id"), id) == 0)
            return item;
    }
    return NULL;
}

/* Its /v1/stats; NULL: why says what kept it from being read. */
static json_t *nodes_ask_proxy(struct mrctl *m, const json_t *proxy, const char *id, char why[NODES_WHY_MAX])
{
    const char *http = json_get_word(proxy, "http");
    struct api_answer answer;
    if (http[0] == '\0') {
        (void)snprintf(why, NODES_WHY_MAX, "it has not said where its HTTP pages are: an older version?");
        return NULL;
    }
    int err = api_get_other(m->api, http, "/v1/stats", NODES_PROXY_MS, &answer);
    if (err != 0) {
        (void)snprintf(why, NODES_WHY_MAX, "%s; its --http is where it can be asked from",
                       err == ERR_UNREACHABLE ? api_why(m->api) : err_text(err));
        return NULL;
    }
    json_t *stats = json_incref(answer.json);
    api_answer_free(&answer);
    if (strcmp(json_get_word(stats, "id"), id) == 0)
        return stats;
    /* A loopback address means another host's proxy there than here. */
    (void)snprintf(why, NODES_WHY_MAX,
                   "at http://%s of this host %.64s answers; ask on its own host, or see its "
                   "--http",
                   http, json_get_text(stats, "id"));
    json_decref(stats);
    return NULL;
}

static int nodes_show_proxy(struct mrctl *m, const char *id, const json_t *list)
{
    char why[NODES_WHY_MAX] = "";
    json_t *proxy = nodes_find(list, id);
    if (proxy == NULL)
        return mrctl_fail(MRCTL_FAILED,
                          "proxies %s: no proxy of that name is registered; see 'mrctl proxies'", id);
    json_t *stats = nodes_ask_proxy(m, proxy, id, why);
    json_t *root = json_pack("{s:O, s:o?}", "proxy", proxy, "stats", stats);
    if (root != NULL && m->json && json_dumpf(root, stdout, JSON_COMPACT) == 0)
        (void)putchar('\n');
    else if (root != NULL && !m->json)
        render_proxy(stdout, root);
    json_decref(root);
    if (root == NULL)
        return mrctl_fail(MRCTL_FAILED, "proxies %s: %s", id, err_text(ERR_NOMEM));
    if (why[0] == '\0')
        return MRCTL_DONE;
    return mrctl_fail(MRCTL_NOBODY,
                      "proxies %s: the proxy itself can't be asked (%s); this is what the controllers "
                      "know of it",
                      id, why);
}

int cmd_proxies(struct mrctl *m, int argc, char **argv)
{
    const char *name = mrctl_name(m, argc, argv, 0);
    api_prefer_leader(m->api);
    struct api_answer answer;
    int code = mrctl_get(m, "proxies", "/v1/proxies", &answer);
    if (code != 0)
        return code;
    if (name != NULL)
        code = nodes_show_proxy(m, name, answer.json);
    else
        mrctl_print(m, &answer, render_proxies);
    api_answer_free(&answer);
    return code;
}
