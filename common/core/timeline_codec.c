#include "common/core/timeline_codec.h"

#include <assert.h>

enum { UNKNOWN_US = -1, SPANS = 6 };

static const char *const span_keys[SPANS] = {"detect_us", "commit_us",  "seal_us",
                                             "fence_us",  "promote_us", "publish_us"};

void timeline_codec_clear(struct topology_timeline *t)
{
    *t = (struct topology_timeline){UNKNOWN_US, UNKNOWN_US, UNKNOWN_US, UNKNOWN_US, UNKNOWN_US, UNKNOWN_US};
}

void timeline_codec_write(struct json_write *w, json_t *object, const struct topology_timeline *t)
{
    assert(t != NULL);
    const int64_t spans[SPANS] = {t->detect_us, t->commit_us,  t->seal_us,
                                  t->fence_us,  t->promote_us, t->publish_us};
    json_t *timeline = NULL;
    for (int k = 0; k < SPANS; k++) {
        if (spans[k] < 0)
            continue;
        if (timeline == NULL)
            timeline = json_write_object(w);
        json_write_int(w, timeline, span_keys[k], spans[k]);
    }
    if (timeline != NULL)
        json_write_set(w, object, "timeline", timeline);
}

void timeline_codec_read(struct json_read *r, const json_t *object, struct topology_timeline *out)
{
    assert(out != NULL);
    timeline_codec_clear(out);
    json_t *timeline = json_read_object(r, object, "timeline");
    if (timeline == NULL)
        return;
    int64_t *const spans[SPANS] = {&out->detect_us, &out->commit_us,  &out->seal_us,
                                   &out->fence_us,  &out->promote_us, &out->publish_us};
    const char *where = r->where;
    r->where = "timeline";
    for (int k = 0; k < SPANS; k++)
        json_read_int(r, timeline, span_keys[k], JSON_READ_OPTIONAL, 0, INT64_MAX, spans[k]);
    r->where = where;
}
