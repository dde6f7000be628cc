/* Server-Sent Events: as "something has changed" (api_follow), or one by one (api_events). */
#include "mrctl/api_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    API_SILENCE_S = 20, /* a stream has a comment every few seconds; without any its controller is gone */
    API_LINE_MAX = 64 * 1024,
    API_EVENT_NAME_MAX = 31,
};

struct api_events {
    bool (*on_change)(void *ctx); /* api_follow() */
    api_event_fn on_event;        /* api_events() */
    void *ctx;
    CURL *curl;
    struct timespec heard; /* monotonic: when the last byte came */
    bool opened, stopped;
    char *line; /* the one being received, API_LINE_MAX bytes; what is longer is cut */
    size_t line_len;
    char name[API_EVENT_NAME_MAX + 1];
    json_t *data;
};

/* Ends the stream of a controller that has gone without a word. (curl's own speed limit counts bytes a
 * second, and a comment every few seconds is less than one.) */
static int api_on_progress(void *ctx, curl_off_t dl_total, curl_off_t dl_now, curl_off_t ul_total,
                           curl_off_t ul_now)
{
    (void)dl_total;
    (void)dl_now;
    (void)ul_total;
    (void)ul_now;
    const struct api_events *events = ctx;
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - events->heard.tv_sec > API_SILENCE_S;
}

/* What changed doesn't matter, the caller reads it anew: a burst in one piece is one call. Comments (lines
 * that start with a colon) keep the stream alive and mean nothing, but for the first, which says that it is
 * open. */
static size_t api_on_events(char *data, size_t size, size_t n, void *ctx)
{
    struct api_events *events = ctx;
    size_t len = size * n;
    long status = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &events->heard);
    (void)curl_easy_getinfo(events->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return len;
    bool is_comment = len > 0 && data[0] == ':' && memmem(data, len, "\nevent:", 7) == NULL &&
                      memmem(data, len, "\ndata:", 6) == NULL;
    if (events->opened && (is_comment || len == 0 || (len == 1 && data[0] == '\n')))
        return len;
    events->opened = true;
    if (events->on_change(events->ctx))
        return len;
    events->stopped = true;
    return 0;
}

/* A whole line: a field of the event, or (empty) its end. */
static bool api_take_line(struct api_events *events)
{
    const char *line = events->line;
    bool goes_on = true;
    if (strncmp(line, "event: ", 7) == 0) {
        size_t len = strnlen(line + 7, API_EVENT_NAME_MAX);
        memcpy(events->name, line + 7, len);
        events->name[len] = '\0';
    } else if (strncmp(line, "data: ", 6) == 0) {
        json_decref(events->data);
        events->data = json_loads(line + 6, 0, NULL);
    } else if (line[0] == '\0' && events->name[0] != '\0') {
        goes_on =
            events->on_event(events->ctx, events->name, json_is_object(events->data) ? events->data : NULL);
        json_decref(events->data);
        events->data = NULL;
        events->name[0] = '\0';
    }
    return goes_on;
}

static size_t api_on_lines(char *data, size_t size, size_t n, void *ctx)
{
    struct api_events *events = ctx;
    size_t len = size * n;
    long status = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &events->heard);
    (void)curl_easy_getinfo(events->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return len;
    if (!events->opened) {
        events->opened = true;
        events->stopped = !events->on_event(events->ctx, "open", NULL);
    }
    for (size_t k = 0; k < len && !events->stopped; k++) {
        if (data[k] != '\n') {
            if (events->line_len + 1 < API_LINE_MAX)
                events->line[events->line_len++] = data[k];
            continue;
        }
        events->line[events->line_len] = '\0';
        events->line_len = 0;
        events->stopped = !api_take_line(events);
    }
    return events->stopped ? 0 : len;
}

/* Follows the first of the known ones that has events, from the one that answered last. */
static int api_follow_known(struct api *api, const char *path, struct api_events *events)
{
    for (size_t k = 0; k < api->n_urls; k++) {
        size_t url = (api->current + k) % api->n_urls;
        api_prepare(api, api->stream, url, path);
        (void)curl_easy_setopt(api->stream, CURLOPT_WRITEFUNCTION,
                               events->on_event != NULL ? api_on_lines : api_on_events);
        (void)curl_easy_setopt(api->stream, CURLOPT_WRITEDATA, events);
        (void)curl_easy_setopt(api->stream, CURLOPT_NOPROGRESS, 0L);
        (void)curl_easy_setopt(api->stream, CURLOPT_XFERINFOFUNCTION, api_on_progress);
        (void)curl_easy_setopt(api->stream, CURLOPT_XFERINFODATA, events);
        (void)clock_gettime(CLOCK_MONOTONIC, &events->heard);
        CURLcode code = curl_easy_perform(api->stream);
        if (events->stopped)
            return 0;
        if (events->opened)
            return ERR_CLOSED;
        if (code != CURLE_OK)
            api_blame_curl(api, api->stream, code);
        else
            api_blame(api, "%s: has no events to follow", api->urls[url]);
    }
    return ERR_UNREACHABLE;
}

static int api_stream(struct api *api, const char *path, struct api_events *events)
{
    assert(path[0] == '/');
    events->curl = api->stream;
    api->why[0] = '\0';
    int err = api_follow_known(api, path, events);
    /* A restarted controller may have other ports: ZooKeeper knows them. */
    if (err == ERR_UNREACHABLE && api_discover(api))
        err = api_follow_known(api, path, events);
    return err;
}

int api_follow(struct api *api, const char *path, bool (*on_change)(void *ctx), void *ctx)
{
    assert(on_change != NULL);
    struct api_events events = {.on_change = on_change, .ctx = ctx};
    return api_stream(api, path, &events);
}

int api_events(struct api *api, const char *path, api_event_fn on_event, void *ctx)
{
    assert(on_event != NULL);
    struct api_events events = {.on_event = on_event, .ctx = ctx, .line = malloc(API_LINE_MAX)};
    if (events.line == NULL) {
        api->why[0] = '\0';
        api_blame(api, "%s", err_text(ERR_NOMEM));
        return ERR_NOMEM;
    }
    int err = api_stream(api, path, &events);
    json_decref(events.data);
    free(events.line);
    return err;
}
