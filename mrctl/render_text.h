/* Times, sizes and timelines in words. */
#ifndef MR_MRCTL_RENDER_TEXT_H
#define MR_MRCTL_RENDER_TEXT_H

#include "mrctl/line.h"

#include <jansson.h>
#include <stdint.h>

enum { RENDER_TIME_MAX = 32, RENDER_SIZE_MAX = 24 };

/* "2026-11-22 21:58:03Z", "-" when negative; returns text. */
const char *render_time(int64_t unix_ms, char text[RENDER_TIME_MAX]);
/* "214 B", "3.1 MB"; returns text. */
const char *render_size(int64_t bytes, char text[RENDER_SIZE_MAX]);
/* Adds "3.8 ms: detect 0.8, seal 0.3, …" of a timeline_ms object; nothing when it is empty. */
void render_timeline(struct line *l, json_t *timeline_ms);

#endif
