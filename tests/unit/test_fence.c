/* What is read out of ACL LIST, and what is to be changed then. */
#include "controller/core/fence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A member whose ACL LIST has these lines. */
static struct fence *look(uint64_t epoch, bool keep, const char *const *lines)
{
    struct fence *f = malloc(sizeof(*f));
    struct fence_order order = {.user = "app", .epoch = epoch, .keep = keep};
    assert_non_null(f);
    fence_begin(f, &order);
    for (; *lines; lines++)
        fence_take(f, *lines, strlen(*lines));
    return f;
}

static const char *why = "";
static int end(struct fence *f)
{
    why = "";
    return fence_end(f, &why);
}

/* The words of the ACL SETUSER, joined again. */
static const char *made(struct fence *f)
{
    static char text[FENCE_RULES_MAX];
    const char *words[FENCE_WORDS_MAX];
    int n = fence_make(f, words);
    size_t at = 0;
    assert_in_range(n, 3, FENCE_WORDS_MAX);
    for (int k = 0; k < n; k++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", k ? " " : "", words[k]);
    return text;
}

static void test_an_epochs_user_is_the_templates_twin(void **state)
{
    const char *const lines[] = {"user app off sanitize-payload #ab12 #cd34 ~cart:* &* +@all -@dangerous "
                                 "(~x:* resetchannels -@all +get)",
                                 "user default on nopass ~* &* +@all", NULL};
    struct fence *f = look(7, true, lines);
    (void)state;
    assert_string_equal(f->login, "app-e7");
    assert_true(f->found);
    assert_false(f->open); /* and its twin is on all the same */
    assert_true(fence_must_make(f));
    assert_int_equal(end(f), 0);
    assert_int_equal(f->n_stale, 0);
    assert_string_equal(made(f), "ACL SETUSER app-e7 reset on sanitize-payload #ab12 #cd34 ~cart:* &* +@all "
                                 "-@dangerous (~x:* resetchannels -@all +get)");
    free(f);
}

static void test_what_is_there_already_is_left_alone(void **state)
{
    static const struct {
        const char *template, *twin;
        bool makes, open;
    } cases[] = {
        {"user app on #ab ~* +@all", "user app-e7 on #ab ~* +@all", false, true},
        {"user app off #ab ~* +@all", "user app-e7 on #ab ~* +@all", false, false},
        {"user app on #ab ~* +@all", "user app-e7 off #ab ~* +@all", true,
         true}, /* somebody switched it off */
        {"user app on #cd ~* +@all", "user app-e7 on #ab ~* +@all", true, true}, /* a new password */
        {"user app on #ab ~* +@all -keys", "user app-e7 on #ab ~* +@all", true, true},
        {"user app on #ab ~* +@all", "user app-e7 on", true, true},
    };
    (void)state;
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        const char *const lines[] = {cases[k].twin, cases[k].template, NULL};
        struct fence *f = look(7, true, lines);
        assert_int_equal(fence_must_make(f), cases[k].makes);
        assert_int_equal(f->open, cases[k].open);
        assert_int_equal(f->n_stale, 0);
        free(f);
    }
}

static void test_users_of_older_epochs_go_and_nobody_elses(void **state)
{
    const char *const lines[] = {"user app on #ab ~* +@all",
                                 "user app-e6 on #ab",
                                 "user app-e7 on #ab ~* +@all",
                                 "user app-e on #ab",
                                 "user app-e7x on #ab",
                                 "user application-e6 on #ab",
                                 "user ap-e6 on #ab",
                                 "user app-ex on #ab",
                                 "user APP-e6 on #ab",
                                 "user app-e07 on #ab",
                                 "user app-e1234567890123456789 on #ab",
                                 "nonsense app-e5",
                                 "user",
                                 "",
                                 NULL};
    struct fence *f = look(7, true, lines);
    (void)state;
    assert_int_equal(end(f), 0);
    assert_false(fence_must_make(f));
    assert_int_equal(f->n_stale, 2);
    assert_string_equal(f->stale[0], "app-e6");
    assert_string_equal(f->stale[1], "app-e07");
    assert_false(f->more);
    assert_false(fence_must_cut_template(f)); /* who is logged in as the template: not while it may serve */
    free(f);
}

static void test_where_nobody_is_let_in_a_mark_stays(void **state)
{
    const char *const served[] = {"user app on #ab ~* +@all", "user app-e6 on #ab",
                                  "user app-e7 on #ab ~* +@all", NULL},
                      *const marked[] = {"user app-e7 off resetchannels -@all", NULL}, *const none[] = {NULL};
    struct fence *f = look(7, false, served);
    (void)state;
    assert_int_equal(end(f), 0);
    assert_int_equal(f->n_stale, 2);
    assert_string_equal(f->stale[1],
                        "app-e7"); /* it goes, with who is logged in as it, and comes as a mark */
    assert_true(fence_must_make(f));
    assert_string_equal(made(f), "ACL SETUSER app-e7 reset");
    free(f);
    f = look(7, false, marked);
    assert_int_equal(end(f), 0); /* that needs no template */
    assert_int_equal(f->n_stale, 0);
    assert_false(fence_must_make(f));
    free(f);
    f = look(7, false, none);
    assert_int_equal(end(f), 0);
    assert_true(fence_must_make(f));
    free(f);
    f = look(7, true, marked);
    assert_int_equal(end(f), ERR_NOT_FOUND);
    assert_non_null(strstr(why, "no such ACL user"));
    free(f);
}

static void test_an_order_for_an_older_epoch_is_refused(void **state)
{
    const char *const mark[] = {"user app-e8 off resetchannels -@all", "user app on #ab ~* +@all", NULL};
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        struct fence *f = look(7, keep, mark);
        assert_int_equal(end(f), ERR_DEPOSED);
        assert_non_null(strstr(why, "newer epoch"));
        free(f);
    }
    struct fence *f = look(8, false, mark);
    fence_take_role(f, "# Replication\r\nrole:slave\r\n", 28);
    assert_int_equal(end(f), 0);
    fence_take_role(f, "# Replication\r\nrole:master\r\n", 29);
    assert_int_equal(end(f), ERR_DEPOSED); /* of the same epoch, but it was promoted since it was sealed */
    assert_non_null(strstr(why, "master again"));
    free(f);
    f = look(8, true, mark);
    fence_take_role(f, "# Replication\r\nrole:master\r\n", 29);
    assert_int_equal(end(f), 0);
    assert_true(fence_must_make(f));
    assert_int_equal(f->n_stale, 0);
    free(f);
}

static void test_a_template_that_is_off_is_cut_with_the_epochs_users(void **state)
{
    const char *const off[] = {"user app off #ab ~* +@all", NULL}, *const on[] = {"user app on #ab", NULL},
                      *const none[] = {"user other on", NULL};
    struct fence *f = look(7, false, off);
    (void)state;
    assert_int_equal(end(f), 0);
    assert_true(fence_must_cut_template(f));
    free(f);
    f = look(7, false, on);
    assert_false(fence_must_cut_template(f)); /* its clients may come again anyway */
    free(f);
    f = look(7, false, none);
    assert_false(fence_must_cut_template(f));
    free(f);
    f = look(7, true, off);
    assert_false(fence_must_cut_template(f));
    free(f);
}

static void test_limits(void **state)
{
    char *line = malloc(2 * FENCE_RULES_MAX), name[64];
    const char *const lines[] = {line, NULL};
    (void)state;
    assert_non_null(line);
    size_t at = (size_t)sprintf(line, "user app on");
    while (at < FENCE_RULES_MAX + 100)
        at += (size_t)sprintf(line + at, " ~key:%zu", at);
    struct fence *f = look(7, true, lines);
    assert_int_equal(end(f), ERR_TOO_LARGE);
    assert_non_null(strstr(why, "longer than"));
    free(f);

    at = (size_t)sprintf(line, "user app on"); /* short, but of too many words */
    for (int k = 0; k < FENCE_WORDS_MAX; k++)
        at += (size_t)sprintf(line + at, " ~a");
    f = look(7, true, lines);
    const char *words[FENCE_WORDS_MAX];
    assert_int_equal(end(f), 0);
    assert_int_equal(fence_make(f, words), ERR_TOO_LARGE);
    free(f);

    const char *const login[] = {"user app-e700 on", NULL};
    f = look(700, false, login);
    for (int k = 0; k <= FENCE_STALE_MAX; k++) {
        assert_false(f->more);
        (void)snprintf(name, sizeof(name), "user app-e%d on", k + 100);
        fence_take(f, name, strlen(name));
    }
    assert_int_equal(end(f), 0);
    assert_true(f->more);
    assert_int_equal(f->n_stale, FENCE_STALE_MAX);
    assert_string_equal(f->stale[FENCE_STALE_MAX - 2], "app-e162");
    assert_string_equal(f->stale[FENCE_STALE_MAX - 1], "app-e700"); /* before its mark is made */
    free(f);
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_epochs_user_is_the_templates_twin),
        cmocka_unit_test(test_what_is_there_already_is_left_alone),
        cmocka_unit_test(test_users_of_older_epochs_go_and_nobody_elses),
        cmocka_unit_test(test_where_nobody_is_let_in_a_mark_stays),
        cmocka_unit_test(test_an_order_for_an_older_epoch_is_refused),
        cmocka_unit_test(test_a_template_that_is_off_is_cut_with_the_epochs_users),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
