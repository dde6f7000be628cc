/* A failover's timeline ⇄ its JSON object, shared by the codecs of instances and of history. Pure. */
#ifndef MR_COMMON_CORE_TIMELINE_CODEC_H
#define MR_COMMON_CORE_TIMELINE_CODEC_H

#include "common/core/json_read.h"
#include "common/core/json_write.h"

/* Every span unknown. */
void timeline_codec_clear(struct topology_timeline *t);
/* Sets object's "timeline" to the known spans; no field when none is known. */
void timeline_codec_write(struct json_write *w, json_t *object, const struct topology_timeline *t);
/* Reads object's "timeline"; spans that are not there are unknown. */
void timeline_codec_read(struct json_read *r, const json_t *object, struct topology_timeline *out);

#endif
