/* Shared by api.c (exchanges) and api_events.c (streams). */
#ifndef MR_MRCTL_API_PRIVATE_H
#define MR_MRCTL_API_PRIVATE_H

#include "mrctl/api.h"

#include <curl/curl.h>

enum { API_URL_MAX = 256 };

struct api {
    struct api_config config;
    CURL *calls, *stream; /* two: a call may be made while the stream is being read */
    struct curl_slist *headers;
    size_t n_urls, current; /* current: the one that answered last is asked first */
    char urls[API_URLS_MAX][API_URL_MAX];
    size_t n_given; /* the first ones came from --controllers; the others are ZooKeeper's */
    char why[API_WHY_MAX];
};

/* Appends one more reason to why: all controllers that were asked are named. */
void api_blame(struct api *api, const char *fmt, ...) MR_PRINTF(2, 3);
void api_blame_curl(struct api *api, CURL *curl, CURLcode code);
/* Sets up a request to urls[url]. */
void api_prepare(struct api *api, CURL *curl, size_t url, const char *path);
/* Asks ZooKeeper who the controllers are now; false when it can't say or names nobody. */
bool api_discover(struct api *api);

#endif
