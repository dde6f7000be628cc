#include "mrctl/api.h"

#include "mrctl/api_private.h"
#include "mrctl/json_get.h"
#include "mrctl/zk_read.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    API_CONNECT_TIMEOUT_MS = 1500,
    API_ZK_TIMEOUT_MS = 4000,
    API_REDIRECTS_MAX = 3,
    API_TEXT_MAX = 64 << 20,
};

/* A body that grows up to a limit. */
struct api_text {
    char *data;
    size_t len;
    bool too_large;
};

const char *api_why(const struct api *api)
{
    return api->why;
}

void api_blame(struct api *api, const char *fmt, ...)
{
    size_t len = strlen(api->why);
    if (len > 0 && len + 3 < sizeof api->why) {
        memcpy(api->why + len, "; ", 3);
        len += 2;
    }
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(api->why + len, sizeof api->why - len, fmt, args);
    va_end(args);
}

/* ---- whom to ask --------------------------------------------------------------------------------------- */

static int api_add_url(struct api *api, const char *text, size_t len)
{
    while (len > 0 && text[len - 1] == '/')
        len--;
    bool has_scheme = len > 7 && memcmp(text, "http://", 7) == 0;
    has_scheme = has_scheme || (len > 8 && memcmp(text, "https://", 8) == 0);
    char url[API_URL_MAX];
    int n = snprintf(url, sizeof url, "%s%.*s", has_scheme ? "" : "http://", (int)len, text);
    CURLU *parsed = curl_url();
    bool is_url = parsed != NULL && len > 0 && n > 0 && (size_t)n < sizeof url &&
                  curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK;
    curl_url_cleanup(parsed);
    if (!is_url) {
        api_blame(api, "'%.*s' is not a controller's address like http://10.0.0.1:7700", (int)len, text);
        return ERR_INVALID;
    }
    for (size_t k = 0; k < api->n_urls; k++)
        if (strcmp(api->urls[k], url) == 0)
            return 0;
    if (api->n_urls == API_URLS_MAX)
        return 0;
    memcpy(api->urls[api->n_urls++], url, (size_t)n + 1);
    return 0;
}

static int api_add_given(struct api *api, const char *list)
{
    for (const char *p = list; *p != '\0';) {
        size_t len = strcspn(p, ",");
        int err = api_add_url(api, p, len);
        if (err != 0)
            return err;
        p += len;
        p += *p == ',';
    }
    if (api->n_urls > 0)
        return 0;
    api_blame(api, "no controller is named in '%s'", list);
    return ERR_INVALID;
}

/* Where a controller's HTTP server is. */
static void api_format_url(const char *host, uint16_t port, char url[TOPOLOGY_ADDRESS_MAX + 1])
{
    struct topology_address a = {.port = port};
    (void)snprintf(a.host, sizeof a.host, "%s", host);
    topology_address_format(&a, url);
}

static void api_on_controller(void *ctx, const char *name, const char *data, size_t len)
{
    struct api *api = ctx;
    struct topology_controller c;
    char why[160];
    if (topology_decode_controller(data, len, &c, why, sizeof why) != 0) {
        api_blame(api, "controller %s registered itself unreadably (%s)", name, why);
        return;
    }
    char url[TOPOLOGY_ADDRESS_MAX + 1];
    api_format_url(c.host, c.http_port, url);
    (void)api_add_url(api, url, strlen(url));
}

bool api_discover(struct api *api)
{
    char why[256];
    if (api->config.zk == NULL)
        return false;
    api->n_urls = api->n_given;
    api->current = 0;
    int err = zk_read_folder(api->config.zk, "/controllers", API_ZK_TIMEOUT_MS, api_on_controller, api, why,
                             sizeof why);
    if (err != 0)
        api_blame(api, "%s", why);
    else if (api->n_urls == api->n_given)
        api_blame(api, "no controller is registered in ZooKeeper at %s", api->config.zk);
    return api->n_urls > api->n_given;
}

/* ---- one exchange -------------------------------------------------------------------------------------- */

static size_t api_on_data(char *data, size_t size, size_t n, void *ctx)
{
    struct api_text *text = ctx;
    size_t len = size * n;
    if (text->len + len > API_TEXT_MAX) {
        text->too_large = true;
        return 0; /* ends the exchange */
    }
    char *grown = realloc(text->data, text->len + len + 1);
    if (grown == NULL)
        return 0;
    memcpy(grown + text->len, data, len);
    text->data = grown;
    text->len += len;
    grown[text->len] = '\0';
    return len;
}

void api_prepare(struct api *api, CURL *curl, size_t url, const char *path)
{
    char whole[2 * API_URL_MAX];
    int n = snprintf(whole, sizeof whole, "%s%s", api->urls[url], path);
    assert(n > 0 && (size_t)n < sizeof whole);
    curl_easy_reset(curl);
    (void)curl_easy_setopt(curl, CURLOPT_URL, whole);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)API_CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "mrctl/" MR_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, api->headers);
    /* A standby sends commands on to the leader, which needs the token as well: 307 keeps method and body,
     * and without this the token would be dropped on the way to another host. */
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)API_REDIRECTS_MAX);
    (void)curl_easy_setopt(curl, CURLOPT_UNRESTRICTED_AUTH, 1L);
}

void api_blame_curl(struct api *api, CURL *curl, CURLcode code)
{
    char *url = NULL;
    (void)curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &url);
    int len = url != NULL ? (int)strlen(url) : 0;
    const char *path = url != NULL ? strstr(url, "/v1/") : NULL;
    if (path != NULL)
        len = (int)(path - url);
    api_blame(api, "%.*s: %s", len, url != NULL ? url : "", curl_easy_strerror(code));
}

/* The request can't have reached a controller. */
static bool api_was_not_sent(CURL *curl, CURLcode code)
{
    long sent = 0;
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        return true;
    (void)curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &sent);
    return sent == 0;
}

struct api_request {
    const char *method, *path, *body;
    int timeout_ms;
};

static bool api_is_read(const struct api_request *q)
{
    return strcmp(q->method, "GET") == 0;
}

/* Asks one controller. 0: an answer, which takes the place of an earlier one; ERR_UNREACHABLE: ask the next
 * one; else as api_call(). */
static int api_ask(struct api *api, size_t url, const struct api_request *q, struct api_answer *answer)
{
    CURL *curl = api->calls;
    struct api_text text = {0};
    api_prepare(api, curl, url, q->path);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, api_on_data);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &text);
    if (q->body != NULL)
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, q->body);
    if (strcmp(q->method, q->body != NULL ? "POST" : "GET") != 0)
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, q->method);
    CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) {
        free(text.data);
        api_blame_curl(api, curl, code);
        if (api_is_read(q) || api_was_not_sent(curl, code))
            return ERR_UNREACHABLE;
        return code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_CONNECTION;
    }
    long status = 0;
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *json = text.data != NULL ? json_loadb(text.data, text.len, 0, NULL) : NULL;
    if (!json_is_object(json)) {
        json_decref(json);
        free(text.data);
        api_blame(api, "%s: what answered there (HTTP %ld) is not a controller", api->urls[url], status);
        return ERR_UNREACHABLE;
    }
    free(answer->text);
    json_decref(answer->json);
    answer->status = (int)status;
    answer->text = text.data;
    answer->json = json;
    return 0;
}

/* It has no leader to send us to (yet): another one may know better. Of a command it must be certain that it
 * was not begun: it would be done twice. */
static bool api_is_not_the_last_word(const struct api_request *q, const struct api_answer *answer)
{
    const char *code = json_get_word(json_object_get(answer->json, "error"), "code");
    return answer->status == 503 &&
           (api_is_read(q) || strcmp(code, "no_leader") == 0 || strcmp(code, "starting") == 0);
}

/* Asks those that are known, from the one that answered last. */
static int api_ask_known(struct api *api, size_t from, const struct api_request *q, struct api_answer *answer)
{
    size_t n = api->n_urls - from;
    size_t first = api->current >= from ? api->current - from : 0;
    int err = ERR_UNREACHABLE;
    for (size_t k = 0; k < n && err == ERR_UNREACHABLE; k++) {
        size_t url = from + (first + k) % n;
        err = api_ask(api, url, q, answer);
        if (err != 0)
            continue;
        api->current = url;
        if (api_is_not_the_last_word(q, answer) && k + 1 < n)
            err = ERR_UNREACHABLE;
    }
    return err;
}

int api_send(struct api *api, const char *method, const char *path, const char *body, int timeout_ms,
             struct api_answer *answer)
{
    assert(path[0] == '/' && timeout_ms > 0);
    const struct api_request q = {.method = method, .path = path, .body = body, .timeout_ms = timeout_ms};
    *answer = (struct api_answer){0};
    api->why[0] = '\0';
    int err = api_ask_known(api, 0, &q, answer);
    if (err == ERR_UNREACHABLE && answer->json == NULL && api_discover(api))
        err = api_ask_known(api, api->n_given, &q, answer);
    if (err == ERR_UNREACHABLE && answer->json != NULL)
        return 0; /* all that answered said 503: that is the answer */
    return err;
}

int api_call(struct api *api, const char *path, const char *body, int timeout_ms, struct api_answer *answer)
{
    return api_send(api, body != NULL ? "POST" : "GET", path, body, timeout_ms, answer);
}

void api_prefer_leader(struct api *api)
{
    struct api_answer answer;
    size_t k;
    json_t *item;
    if (api_call(api, "/v1/controllers", NULL, API_CONNECT_TIMEOUT_MS, &answer) != 0)
        return;
    json_array_foreach(json_object_get(answer.json, "controllers"), k, item)
    {
        int64_t port = json_get_int(item, "http_port");
        if (strcmp(json_get_word(item, "role"), "leader") != 0 || port < 1 || port > UINT16_MAX)
            continue;
        char address[TOPOLOGY_ADDRESS_MAX + 1], url[API_URL_MAX];
        api_format_url(json_get_word(item, "host"), (uint16_t)port, address);
        (void)api_add_url(api, address, strlen(address));
        (void)snprintf(url, sizeof url, "http://%s", address);
        for (size_t u = 0; u < api->n_urls; u++)
            if (strcmp(api->urls[u], url) == 0)
                api->current = u;
    }
    api_answer_free(&answer);
}

void api_answer_free(struct api_answer *answer)
{
    free(answer->text);
    json_decref(answer->json);
    *answer = (struct api_answer){0};
}

const char *api_answer_error(const struct api_answer *answer)
{
    const json_t *error = json_object_get(answer->json, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    return message != NULL ? message : "the controller did not say why";
}

/* ---- open and close ------------------------------------------------------------------------------------ */

static int api_add_header(struct api *api, const char *line)
{
    struct curl_slist *headers = curl_slist_append(api->headers, line);
    if (headers == NULL)
        return ERR_NOMEM;
    api->headers = headers;
    return 0;
}

static int api_prepare_headers(struct api *api)
{
    int err = api_add_header(api, "Content-Type: application/json");
    if (err == 0)
        err = api_add_header(api, "Expect:"); /* no pause for "100 Continue" */
    if (err == 0 && api->config.token != NULL) {
        char line[1200];
        int n = snprintf(line, sizeof line, "Authorization: Bearer %s", api->config.token);
        err = (size_t)n < sizeof line ? api_add_header(api, line) : ERR_INVALID;
    }
    return err;
}

int api_open(struct api **out, const struct api_config *config)
{
    assert(out != NULL && config != NULL);
    *out = NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return ERR_NOMEM;
    struct api *api = calloc(1, sizeof *api);
    if (api == NULL)
        return ERR_NOMEM;
    api->config = *config;
    api->calls = curl_easy_init();
    api->stream = curl_easy_init();
    int err = api->calls != NULL && api->stream != NULL ? api_prepare_headers(api) : ERR_NOMEM;
    if (err != 0) {
        api_close(api);
        return ERR_NOMEM;
    }
    *out = api;
    if (config->controllers != NULL)
        err = api_add_given(api, config->controllers);
    else if (config->zk == NULL)
        err = api_add_given(api, "http://127.0.0.1:7700");
    api->n_given = api->n_urls;
    return err;
}

void api_close(struct api *api)
{
    if (api == NULL)
        return;
    curl_easy_cleanup(api->calls);
    curl_easy_cleanup(api->stream);
    curl_slist_free_all(api->headers);
    curl_global_cleanup();
    free(api);
}
