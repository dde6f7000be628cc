/* A maintenance pause ⇄ its JSON: in an instance's znode, and alone in /pause for all of them. Pure. */
#ifndef MR_COMMON_CORE_PAUSE_CODEC_H
#define MR_COMMON_CORE_PAUSE_CODEC_H

#include "common/core/json_read.h"
#include "common/core/json_write.h"

#include <sys/types.h>

/* Sets object's "pause". */
void pause_codec_write(struct json_write *w, json_t *object, const struct topology_pause *p);
/* Reads object's "pause"; without one *out is left as it is. */
void pause_codec_read(struct json_read *r, const json_t *object, struct topology_pause *out);

/* The znode /pause: {"v":1,"pause":{…}}; returns and errors as topology_codec.h. An owner of "" (nobody
 * pauses) has no "pause". */
ssize_t topology_encode_pause(const struct topology_pause *p, char *text, size_t size) MR_MUST_CHECK;
int topology_decode_pause(const char *text, size_t len, struct topology_pause *out, char *why,
                          size_t why_size) MR_MUST_CHECK;

#endif
