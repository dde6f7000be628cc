/* The API's JSON as text for people, readable at 80 columns. No I/O but the given stream. */
#ifndef MR_MRCTL_RENDER_H
#define MR_MRCTL_RENDER_H

#include <jansson.h>
#include <stdio.h>

/* Each takes the root object of its GET request (controller/core/view.h writes them). What is absent or of
 * another type is shown as "-": a newer or older controller may answer. */
void render_topology(FILE *out, const json_t *topology); /* /v1/topology */
void render_instance(FILE *out, const json_t *instance); /* /v1/instances/NAME */
void render_instances(FILE *out, const json_t *root);    /* /v1/instances */
void render_history(FILE *out, const json_t *root);      /* /v1/history */
void render_controllers(FILE *out, const json_t *root);  /* /v1/controllers */
void render_proxies(FILE *out, const json_t *root);      /* /v1/proxies */
/* {"proxy":…, one of /v1/proxies, "stats":…, its /v1/stats, or null} */
void render_proxy(FILE *out, const json_t *root);
void render_plan(FILE *out, const json_t *plan);   /* …/explain, and dry runs */
void render_done(FILE *out, const json_t *root);   /* a command's answer */
void render_event(FILE *out, const json_t *event); /* one "report" of /v1/events, on one line */

#endif
