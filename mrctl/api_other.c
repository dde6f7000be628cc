/* What isn't a controller is asked without the token, and isn't followed anywhere else. */
#include "mrctl/api_private.h"

#include <stdio.h>
#include <stdlib.h>

enum { API_OTHER_MAX = 16 << 20 };

int api_get_other(struct api *api, const char *address, const char *path, int timeout_ms,
                  struct api_answer *answer)
{
    char url[API_URL_MAX];
    size_t len = 0;
    long status = 0;
    *answer = (struct api_answer){0};
    api->why[0] = '\0';
    (void)snprintf(url, sizeof url, "http://%s%s", address, path);
    FILE *body = open_memstream(&answer->text, &len);
    if (body == NULL)
        return ERR_NOMEM;
    CURL *curl = api->calls;
    curl_easy_reset(curl);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_MAXFILESIZE, (long)API_OTHER_MAX);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "mrctl/" MR_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA,
                           body); /* fwrite() is what it does unless told otherwise */
    CURLcode code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (fclose(body) != 0)
        code = CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && status == 200)
        answer->json =
            json_loadb(answer->text, len, 0, NULL); /* json_is_object() looks at its argument twice */
    if (code != CURLE_OK)
        api_blame(api, "http://%s: %s", address, curl_easy_strerror(code));
    else if (!json_is_object(answer->json))
        api_blame(api, "http://%s: what answered there (HTTP %ld) is no proxy of this version", address,
                  status);
    answer->status = (int)status;
    if (api->why[0] == '\0')
        return 0;
    api_answer_free(answer);
    return ERR_UNREACHABLE;
}
