/* Plans, answers to commands, events. Contract in render.h. */
#include "mrctl/json_get.h"
#include "mrctl/render.h"
#include "mrctl/render_text.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

void render_plan(FILE *out, const json_t *plan)
{
    static const char *const counts[] = {"members", "reachable", "countable", "needed", "have"};
    struct line l;
    size_t k;
    json_t *item;
    line_begin(&l, out, "", "   ");
    line_add(&l, "%s", json_get_text(plan, "instance"));
    line_add_words(&l, "%s", json_get_text(plan, "verdict"));
    line_end(&l);
    line_begin(&l, out, "   ", "   ");
    if (json_get_word(plan, "target")[0] != '\0')
        line_add(&l, "next master %s", json_get_word(plan, "target"));
    for (k = 0; k < sizeof counts / sizeof counts[0]; k++)
        if (json_get_int(plan, counts[k]) >= 0)
            line_add(&l, "%s %" PRId64, counts[k], json_get_int(plan, counts[k]));
    line_end(&l);
    json_array_foreach(json_object_get(plan, "lines"), k, item)
    {
        line_begin(&l, out, "   ", "     ");
        line_add_words(&l, "%s", json_is_string(item) ? json_string_value(item) : "-");
        line_end(&l);
    }
}

void render_done(FILE *out, const json_t *root)
{
    struct line l;
    line_begin(&l, out, "", "   ");
    line_add_words(&l, "%s", json_get_text(root, "message"));
    line_end(&l);
}

void render_event(FILE *out, const json_t *event)
{
    char when[RENDER_TIME_MAX];
    const char *instance = json_get_text(event, "instance");
    struct line l;
    line_begin(&l, out, "", "");
    line_add(&l, "%s", render_time(json_get_int(event, "at"), when));
    line_add(&l, "%-5s", json_get_text(event, "level"));
    line_add(&l, "%s", instance[0] != '\0' ? instance : "-");
    l.column = INT_MIN / 2; /* one event is one line, for grep */
    line_add(&l, "%s", json_get_text(event, "text"));
    line_end(&l);
}
