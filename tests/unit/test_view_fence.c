/* What is shown of a fenced instance: as whom to log in, where that isn't possible, how to go around it. */
#include "tests/lib/golden.h"
#include "tests/lib/view_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The master lets the template in; one replica is fenced, the other one can't be. */
static struct rig *fenced(void)
{
    struct rig *b = rig_watching(3);
    struct topology_policy *policy = &b->f.record.policy;
    policy->fence = TOPOLOGY_FENCE_ACL;
    strcpy(policy->fence_user, "app");
    for (int k = 0; k < 3; k++)
        b->f.members[k].fence =
            (struct failover_fence){.keep = true, .epoch = 1, .done = k < 2, .open = k == 0};
    b->f.members[2].fence.failed = true;
    strcpy(b->f.members[2].fence.why, "it has no such ACL user as fence_user names");
    return b;
}

static void test_a_fenced_instance(void **state)
{
    struct rig *b = fenced();
    struct view_instance v = view_rig_instance(b);
    struct view_topology t = view_rig_topology(&v);
    size_t len;
    (void)state;
    char *text = view_topology(&t, &len);
    assert_non_null(text);
    golden_compare("view_topology_fenced.json", text, len);
    free(text);
    free(b);
}

static const char *user_of(const char *text)
{
    static char user[TOPOLOGY_USER_MAX + 1];
    json_t *root = json_loads(text, 0, NULL);
    const json_t *fence = json_object_get(json_array_get(json_object_get(root, "instances"), 0), "fence");
    const char *word = json_string_value(json_object_get(fence, "user"));
    assert_true(json_is_object(fence));
    (void)snprintf(user, sizeof(user), "%s", word ? word : "nobody");
    json_decref(root);
    return user;
}

static void test_who_logs_in_when(void **state)
{
    struct rig *b = fenced();
    struct view_instance v = view_rig_instance(b);
    struct view_topology t = view_rig_topology(&v);
    size_t len;
    (void)state;
    v.failover = NULL; /* from ZooKeeper alone, or by a standby */
    char *text = view_topology(&t, &len);
    assert_string_equal(user_of(text), "app-e1");
    assert_null(strstr(text, "template_may_log_in"));
    free(text);
    b->f.record.state = TOPOLOGY_SEALING;
    text = view_topology(&t, &len);
    assert_string_equal(user_of(text), "nobody");
    free(text);
    b->f.record.policy.fence = TOPOLOGY_FENCE_NONE;
    text = view_topology(&t, &len);
    assert_null(strstr(text, "\"fence\""));
    free(text);
    free(b);
}

/* Those whose ACL can't be changed are counted, by the leader, as long as the instance is fenced. */
static void test_metrics(void **state)
{
    static const char counted[] = "mr_instance_members_not_fenced{instance=\"cart\"} 1\n";
    struct rig *b = fenced();
    struct view_instance v = view_rig_instance(b);
    struct view_topology t = view_rig_topology(&v);
    size_t len;
    (void)state;
    for (int k = 0; k < 3; k++) {
        b->f.term = k == 1 ? 0 : 77;
        b->f.record.policy.fence = k == 2 ? TOPOLOGY_FENCE_NONE : TOPOLOGY_FENCE_ACL;
        char *text = view_metrics(&t, &len);
        assert_non_null(text);
        assert_int_equal(strstr(text, counted) != NULL, k == 0);
        assert_int_equal(strstr(text, "mr_instance_members_not_fenced{") != NULL, k == 0);
        free(text);
    }
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fenced_instance),
        cmocka_unit_test(test_who_logs_in_when),
        cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
