#include "controller/core/view_timeline.h"

#include <assert.h>

void view_timeline_write(struct json_write *w, json_t *object, const struct topology_timeline *t)
{
    assert(w != NULL && t != NULL);
    const struct {
        const char *key;
        int64_t us;
        bool optional; /* that it isn't known means that there was none */
    } spans[] = {
        {"detect", t->detect_us, false}, {"seal", t->seal_us, false},       {"commit", t->commit_us, false},
        {"fence", t->fence_us, true},    {"promote", t->promote_us, false}, {"publish", t->publish_us, false},
    };
    json_t *timeline = json_write_object(w);
    int64_t total_us = 0;
    bool all_known = true;
    for (size_t k = 0; k < sizeof spans / sizeof spans[0]; k++) {
        json_write_ms(w, timeline, spans[k].key, spans[k].us);
        all_known = all_known && (spans[k].us >= 0 || spans[k].optional);
        total_us += spans[k].us >= 0 ? spans[k].us : 0;
    }
    if (all_known)
        json_write_ms(w, timeline, "total", total_us);
    json_write_set(w, object, "timeline_ms", timeline);
}
