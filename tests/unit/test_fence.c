/* What is read out of ACL LIST, and what is to be changed then, in which rounds. */
#include "controller/core/fence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TERM = 9, CONNECTION = 5 };
#define MARK "user mr-fence-9-5 off resetchannels -@all"

/* The round's commands: "CLIENT ID; ACL LIST". */
static const char *commands(struct fence *f)
{
    static char text[2 * FENCE_RULES_MAX];
    struct fence_command c;
    size_t at = 0;
    text[0] = '\0';
    while (fence_command(f, &c)) {
        assert_in_range(c.argc, 2, FENCE_WORDS_MAX);
        bool lists = strcmp(c.argv[1], "LIST") == 0, asks = strcmp(c.argv[1], "ID") == 0;
        assert_int_equal(c.answer, lists ? FENCE_ANSWER_LIST : asks ? FENCE_ANSWER_ID : FENCE_ANSWER_DONE);
        for (int k = 0; k < c.argc; k++)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", k ? " " : at ? "; " : "", c.argv[k]);
    }
    return text;
}

static void take(struct fence *f, const char *const *lines)
{
    for (; *lines; lines++)
        fence_take(f, *lines, strlen(*lines));
}

/* An order whose first list is awaited. */
static struct fence *ordered(uint64_t epoch, bool keep)
{
    struct fence *f = malloc(sizeof(*f));
    struct fence_order order = {.user = "app", .epoch = epoch, .term = TERM, .keep = keep};
    assert_non_null(f);
    fence_begin(f, &order);
    assert_string_equal(commands(f), "CLIENT ID; ACL LIST");
    fence_take_id(f, CONNECTION);
    return f;
}

/* A member whose ACL LIST has these lines, and our mark. */
static struct fence *look(uint64_t epoch, bool keep, const char *const *lines)
{
    struct fence *f = ordered(epoch, keep);
    fence_take(f, MARK, sizeof(MARK) - 1);
    take(f, lines);
    return f;
}

static void assert_ended(struct fence *f, int err)
{
    assert_false(fence_next(f));
    assert_int_equal(f->round, FENCE_END);
    assert_int_equal(f->err, err);
    assert_string_equal(commands(f), "");
}

/* Everything that is to be changed, and that it is done then. */
static void assert_changes(struct fence *f, const char *wanted)
{
    assert_true(fence_next(f));
    assert_string_equal(commands(f), wanted);
    assert_ended(f, 0);
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
    assert_changes(f, "ACL SETUSER app-e7 reset on sanitize-payload #ab12 #cd34 ~cart:* &* +@all -@dangerous "
                      "(~x:* resetchannels -@all +get)");
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
        assert_int_equal(fence_next(f), cases[k].makes);
        assert_int_equal(f->open, cases[k].open);
        assert_int_equal(strncmp(commands(f), "ACL SETUSER app-e7 reset on #", cases[k].makes ? 29 : 0), 0);
        assert_int_equal(f->n_stale, 0);
        free(f);
    }
}

static void test_users_of_other_epochs_go_and_nobody_elses(void **state)
{
    const char *const lines[] = {"user app on #ab ~* +@all",
                                 "user app-e6 on #ab",
                                 "user app-e7 on #ab ~* +@all",
                                 "user app-e12 off resetchannels -@all", /* it was adopted anew since */
                                 "user app-e on #ab",
                                 "user app-e7x on #ab",
                                 "user application-e6 on #ab",
                                 "user ap-e6 on #ab",
                                 "user app-ex on #ab",
                                 "user APP-e6 on #ab",
                                 "user app-e07 on #ab",
                                 "user app-e12345678901234567890 on #ab",
                                 "user app-e123456789012345678901 on #ab",
                                 "user mr-fence- on",
                                 "user mr-fence-8 on",
                                 "user mr-fence-8- on",
                                 "user mr-fence-8-x on",
                                 "user mr-fence-8-4x on",
                                 "user mr-fence-99999999999999999999-1 on",
                                 "nonsense app-e5",
                                 "user",
                                 "",
                                 NULL};
    struct fence *f = look(7, true, lines);
    (void)state;
    assert_changes(f, "ACL DELUSER app-e6 app-e12 app-e07 app-e12345678901234567890");
    free(f);
}

static void test_nobody_is_let_in(void **state)
{
    const char *const served[] = {"user app on #ab ~* +@all", "user app-e6 on #ab",
                                  "user app-e7 on #ab ~* +@all", NULL},
                      *const none[] = {NULL};
    struct fence *f = look(7, false, served);
    (void)state;
    assert_changes(f, "ACL DELUSER app-e6 app-e7"); /* with who is logged in as it */
    free(f);
    f = look(7, false, none);
    assert_ended(f, 0); /* that needs no template */
    free(f);
    f = look(7, true, none);
    assert_ended(f, ERR_NOT_FOUND);
    assert_non_null(strstr(f->why, "no such ACL user"));
    free(f);
}

/* Before anything is changed, and also if nothing is to be. */
static void test_a_mark_is_left_first_and_looked_again(void **state)
{
    const char *const before[] = {"user app on #ab ~* +@all", NULL}, *const after[] = {
                                                                         "user app on #cd ~* +@all", MARK,
                                                                         NULL};
    (void)state;
    struct fence *f = ordered(7, true);
    take(f, before);
    assert_true(fence_next(f));
    assert_string_equal(commands(f), "ACL SETUSER mr-fence-9-5 reset; ACL LIST");
    take(f, after);
    assert_changes(f, "ACL SETUSER app-e7 reset on #cd ~* +@all"); /* by the newer list */
    free(f);
    f = ordered(7, false);
    assert_true(fence_next(f));
    assert_string_equal(commands(f), "ACL SETUSER mr-fence-9-5 reset; ACL LIST");
    take(f, after);
    assert_ended(f, 0);
    free(f);
    f = ordered(7, true);
    assert_true(fence_next(f));
    (void)commands(f);
    take(f, before); /* somebody took it away in that moment */
    assert_ended(f, ERR_DEPOSED);
    free(f);
}

static void test_who_finds_a_newer_mark_changes_nothing(void **state)
{
    static const struct {
        const char *mark;
        bool newer;
    } cases[] = {
        {"user mr-fence-10-1 off", true}, /* of a leader after us */
        {"user mr-fence-9-6 off", true},  /* our own, over a newer connection */
        {"user mr-fence-4294967296-1 off", true}, {"user mr-fence-8-4294967296 off", false},
        {"user mr-fence-9-4 off", false},
    };
    (void)state;
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        for (int marked = 0; marked < 2; marked++) {
            const char *const lines[] = {"user app on #ab ~* +@all", "user app-e6 on", cases[k].mark,
                                         marked ? MARK : NULL, NULL};
            struct fence *f = ordered(7, true);
            take(f, lines);
            if (cases[k].newer) {
                assert_ended(f, ERR_DEPOSED);
                assert_non_null(strstr(f->why, "newer leader"));
            } else {
                assert_true(fence_next(f));
            }
            free(f);
        }
    }
}

static void test_older_connections_are_cut_and_it_is_looked_again(void **state)
{
    const char *const first[] = {"user app on #ab ~* +@all", "user mr-fence-8-3 off", "user mr-fence-9-4 off",
                                 NULL},
                      *const second[] = {"user app on #ab ~* +@all", "user app-e6 on",
                                         "user mr-fence-7-2 off", MARK, NULL},
                      *const third[] = {"user app on #ab ~* +@all", "user app-e6 on", MARK, NULL};
    struct fence *f = look(7, true, first);
    (void)state;
    assert_true(fence_next(f));
    assert_string_equal(commands(f), "CLIENT KILL ID 3; CLIENT KILL ID 4; "
                                     "ACL DELUSER mr-fence-8-3 mr-fence-9-4; ACL LIST");
    take(f, second); /* one of the two had sent app-e6; and another mark came late */
    assert_true(fence_next(f));
    assert_string_equal(commands(f), "CLIENT KILL ID 2; ACL DELUSER mr-fence-7-2; ACL LIST");
    take(f, third);
    assert_changes(f, "ACL DELUSER app-e6; ACL SETUSER app-e7 reset on #ab ~* +@all");
    free(f);
}

static void test_a_template_that_is_off_is_cut_with_the_epochs_users(void **state)
{
    const char *const off[] = {"user app off #ab ~* +@all", "user app-e7 on #ab ~* +@all", NULL},
                      *const on[] = {"user app on #ab", NULL}, *const none[] = {"user other on", NULL};
    struct fence *f = look(7, false, off);
    (void)state;
    assert_changes(f, "ACL DELUSER app-e7; CLIENT KILL USER app");
    free(f);
    f = look(7, false, on);
    assert_ended(f, 0); /* its clients may come again anyway */
    free(f);
    f = look(7, false, none);
    assert_ended(f, 0);
    free(f);
    f = look(7, true, off);
    assert_ended(f, 0);
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
    assert_ended(f, ERR_TOO_LARGE);
    assert_non_null(strstr(f->why, "longer than"));
    free(f);

    at = (size_t)sprintf(line, "user app on");
    for (int k = 0; k < FENCE_WORDS_MAX - 5; k++)
        at += (size_t)sprintf(line + at, " ~a");
    f = look(7, true, lines);
    assert_true(fence_next(f));
    assert_int_equal(strlen(commands(f)), strlen("ACL SETUSER app-e7 reset on") + 3 * (FENCE_WORDS_MAX - 5));
    free(f);
    (void)sprintf(line + at, " ~a"); /* short, but of too many words */
    f = look(7, true, lines);
    assert_ended(f, ERR_TOO_LARGE);
    free(f);

    const char *const login[] = {"user app-e700 on", NULL};
    f = look(700, false, login);
    for (int k = 0; k <= FENCE_STALE_MAX; k++) {
        assert_false(f->more);
        (void)snprintf(name, sizeof(name), "user app-e%d on", k + 100);
        fence_take(f, name, strlen(name));
    }
    assert_true(fence_next(f));
    assert_true(f->more);
    assert_int_equal(f->n_stale, FENCE_STALE_MAX);
    assert_string_equal(f->stale[FENCE_STALE_MAX - 2], "app-e162");
    assert_string_equal(f->stale[FENCE_STALE_MAX - 1], "app-e700");
    (void)commands(f);
    assert_true(fence_next(f)); /* the others after another look */
    assert_string_equal(commands(f), "CLIENT ID; ACL LIST");
    free(f);

    f = look(7, true, login);
    for (int k = 0; k < 2 * FENCE_MARKS_MAX; k++) {
        (void)snprintf(name, sizeof(name), "user mr-fence-8-%d off", k);
        fence_take(f, name, strlen(name));
    }
    assert_int_equal(f->n_marks, FENCE_MARKS_MAX);
    assert_true(fence_next(f));
    assert_non_null(strstr(commands(f), "CLIENT KILL ID 15; ACL DELUSER mr-fence-8-0 "));
    free(f);
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_epochs_user_is_the_templates_twin),
        cmocka_unit_test(test_what_is_there_already_is_left_alone),
        cmocka_unit_test(test_users_of_other_epochs_go_and_nobody_elses),
        cmocka_unit_test(test_nobody_is_let_in),
        cmocka_unit_test(test_a_mark_is_left_first_and_looked_again),
        cmocka_unit_test(test_who_finds_a_newer_mark_changes_nothing),
        cmocka_unit_test(test_older_connections_are_cut_and_it_is_looked_again),
        cmocka_unit_test(test_a_template_that_is_off_is_cut_with_the_epochs_users),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
