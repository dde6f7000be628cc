#include "mrctl/duration.h"
#include "mrctl/line.h"
#include "mrctl/render.h"
#include "mrctl/render_text.h"
#include "tests/lib/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef void (*render_fn)(FILE *out, const json_t *root);

/* Renders JSON text; the result is to be freed. */
static char *rendered(render_fn render, const char *json, size_t len)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    json_t *root = json_loadb(json, len, 0, NULL);
    assert_non_null(root);
    render(out, root);
    json_decref(root);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* No line is wider than a terminal, none ends in blanks. */
static void check_layout(const char *text)
{
    for (const char *p = text; *p != '\0';) {
        size_t len = strcspn(p, "\n");
        char line[1024];
        assert_true(len < sizeof line);
        memcpy(line, p, len);
        line[len] = '\0';
        if (line_columns(line) > LINE_COLUMNS)
            fail_msg("wider than %d columns: %s", LINE_COLUMNS, line);
        if (len > 0 && line[len - 1] == ' ')
            fail_msg("ends in a blank: '%s'", line);
        p += len + (p[len] == '\n');
    }
}

static void check(render_fn render, const char *json_name, const char *text_name)
{
    size_t len;
    char *json = golden_read(json_name, &len);
    char *text = rendered(render, json, len);
    check_layout(text);
    golden_compare(text_name, text, strlen(text));
    free(text);
    free(json);
}

static void test_what_the_controllers_show(void **state)
{
    (void)state;
    check(render_topology, "view_topology.json", "mrctl_topology.txt");
    check(render_topology, "view_topology_promoting.json", "mrctl_topology_promoting.txt");
    check(render_topology, "view_topology_zookeeper.json", "mrctl_topology_zookeeper.txt");
    check(render_topology, "view_topology_restrained.json", "mrctl_topology_restrained.txt");
    check(render_topology, "view_topology_strict.json", "mrctl_topology_strict.txt");
    check(render_topology, "view_topology_fenced.json", "mrctl_topology_fenced.txt");
    check(render_plan, "view_plan.json", "mrctl_explain.txt");
    check(render_instances, "view_instances.json", "mrctl_list.txt");
    check(render_instance, "view_instance.json", "mrctl_show.txt");
    check(render_history, "view_history.json", "mrctl_history.txt");
    check(render_controllers, "view_controllers.json", "mrctl_controllers.txt");
    check(render_proxies, "view_proxies.json", "mrctl_proxies.txt");
    check(render_proxy, "mrctl_proxy.json", "mrctl_proxy.txt");
    check(render_proxy, "mrctl_proxy_alone.json", "mrctl_proxy_alone.txt");
}

static void expect(render_fn render, const char *json, const char *wanted)
{
    char *text = rendered(render, json, strlen(json));
    if (strstr(text, wanted) == NULL)
        fail_msg("%s is not in:\n%s", wanted, text);
    free(text);
}

static void test_nothing_there(void **state)
{
    (void)state;
    expect(render_topology, "{\"leader\":\"c\",\"instances\":[]}", "No instances yet");
    expect(render_topology, "{\"leader\":null,\"source\":\"c\",\"instances\":[]}", "No controller leads");
    expect(render_topology, "{\"leader\":\"c\",\"zookeeper\":\"down\",\"instances\":[]}",
           "ZooKeeper is away");
    expect(render_instances, "{}", "No instances yet");
    expect(render_history, "{\"history\":[]}", "Nothing has happened yet");
    expect(render_controllers, "{}", "No controller");
    expect(render_proxies, "{}", "No proxy");
    expect(render_proxy, "{\"proxy\":{},\"stats\":{}}", "It serves no instance");
}

/* Another version, or something that only looks like a controller. */
static void test_odd_answers_are_shown_as_far_as_they_go(void **state)
{
    (void)state;
    static const render_fn renders[] = {render_topology,    render_instance, render_instances, render_history,
                                        render_controllers, render_proxies,  render_plan,      render_done,
                                        render_event,       render_proxy};
    static const char *const texts[] = {
        "{}",
        "{\"instances\":7,\"history\":\"x\",\"controllers\":{},\"proxies\":null}",
        "{\"instances\":[1,null,\"x\",[],{}],\"history\":[1,{}],\"controllers\":[null,{}],\"proxies\":[[],{}]"
        "}",
        "{\"instances\":[{\"name\":1,\"members\":[3,{\"address\":[]}],\"last_failover\":{\"timeline_ms\":[]}}"
        "],"
        "\"history\":[{\"timeline_ms\":{\"total\":\"x\",\"y\":null},\"at\":-5}],\"set_aside\":[{}]}",
        "{\"history\":[{\"at\":9223372036854775807}],\"proxies\":[{\"behind\":9223372036854775807}]}",
        "{\"lines\":[1,[],{}],\"verdict\":7,\"message\":[],\"text\":{},\"at\":\"x\"}",
        "{\"instances\":[{\"pause\":{},\"cooldown\":{},\"readiness\":{}}],\"pause\":{\"until\":\"x\"}}",
        "{\"record\":[],\"observed\":{},\"members\":{},\"policy\":1}",
    };
    for (size_t k = 0; k < sizeof renders / sizeof renders[0]; k++) {
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
            char *text = rendered(renders[k], texts[t], strlen(texts[t]));
            assert_true(strlen(text) > 0);
            free(text);
        }
    }
}

static void test_control_characters_are_disarmed(void **state)
{
    (void)state;
    static const char json[] = "{\"history\":[{\"instance\":\"a\\u001b[2J\",\"kind\":\"x\","
                               "\"evidence\":\"b\\r\\n\\u0007\\u009bc \\u00e9\"}]}";
    char *text = rendered(render_history, json, strlen(json));
    assert_null(strchr(text, '\033'));
    assert_null(strchr(text, '\r'));
    assert_null(strstr(text, "\xc2\x9b"));
    assert_non_null(strstr(text, "a?[2J"));
    assert_non_null(strstr(text, "b?????c \xc3\xa9"));
    free(text);
}

static void test_long_words_wrap(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    struct line l;
    line_begin(&l, out, "├─ ", "│  ");
    line_add(&l, "%-10s", "first");
    line_add(&l, "%s", "");
    line_add(&l, "%s", "012345678901234567890123456789012345678901234567890123456789012345678901");
    line_add(&l, "%s", "last");
    line_end(&l);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "├─ first\n"
                              "│  012345678901234567890123456789012345678901234567890123456789012345678901\n"
                              "│  last\n");
    free(text);
}

static void test_sentences_wrap_between_words(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    struct line l;
    line_begin(&l, out, "└─ ", "   ");
    line_add(&l, "cart");
    line_add_words(&l, "%s", "");
    line_add_words(&l, "one %s three", "two\033[2J");
    line_add_words(&l, "%s", "stays together although it does not fit here any more, yes");
    line_add_words(
        &l, "%s",
        "is longer than a line of eighty columns and so it is wrapped between the words it has, yes");
    line_end(&l);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text,
                        "└─ cart  one two?[2J three\n"
                        "   stays together although it does not fit here any more, yes  is longer than a\n"
                        "   line of eighty columns and so it is wrapped between the words it has, yes\n");
    free(text);
}

static void test_an_event_is_one_line(void **state)
{
    (void)state;
    static const char json[] =
        "{\"at\":1795384683412,\"instance\":\"cart\",\"level\":\"warn\",\"text\":\"event=failover.begin "
        "instance=cart verdict=DEAD evidence=\\\"connection closed, reconnect refused\\\" row=31\\nx\"}";
    char *text = rendered(render_event, json, strlen(json));
    assert_string_equal(text, "2026-11-22 21:58:03Z  warn   cart  event=failover.begin instance=cart "
                              "verdict=DEAD evidence=\"connection closed, reconnect refused\" row=31?x\n");
    free(text);
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"90s", 90000}, {"15m", 900000}, {"2h", 7200000}, {"1d", 86400000}, {"366d", 31622400000}};
    static const char *const bad[] = {"",    "s",   "0s",   "5",    "-1s",         "1w",
                                      "1 h", "1hh", "367d", "1.5h", "9999999999s", "999999999d"};
    int64_t ms = -1;
    for (size_t k = 0; k < sizeof good / sizeof good[0]; k++) {
        assert_int_equal(duration_parse(good[k].text, &ms), 0);
        assert_int_equal(ms, good[k].ms);
    }
    ms = -1;
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        if (duration_parse(bad[k], &ms) != ERR_INVALID || ms != -1)
            fail_msg("\"%s\" was taken", bad[k]);
}

static void test_sizes_and_times(void **state)
{
    (void)state;
    char size[RENDER_SIZE_MAX], when[RENDER_TIME_MAX];
    assert_string_equal(render_size(0, size), "0 B");
    assert_string_equal(render_size(999, size), "999 B");
    assert_string_equal(render_size(1000, size), "1.0 kB");
    assert_string_equal(render_size(3140000, size), "3.1 MB");
    assert_string_equal(render_size(INT64_MAX, size), "9223372.0 TB");
    assert_string_equal(render_time(0, when), "1970-01-01 00:00:00Z");
    assert_string_equal(render_time(1795384683412, when), "2026-11-22 21:58:03Z");
    assert_string_equal(render_time(-1, when), "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_the_controllers_show),
        cmocka_unit_test(test_nothing_there),
        cmocka_unit_test(test_odd_answers_are_shown_as_far_as_they_go),
        cmocka_unit_test(test_control_characters_are_disarmed),
        cmocka_unit_test(test_long_words_wrap),
        cmocka_unit_test(test_sentences_wrap_between_words),
        cmocka_unit_test(test_an_event_is_one_line),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_sizes_and_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
