/* The engine: what operators order, who switched, who holds. */
#include "tests/unit/engine_played.h"

static struct {
    int calls, err;
    char text[FAILOVER_TEXT_MAX + 1];
} answer;

static void on_answer(void *ctx, int err, const char *text)
{
    assert_ptr_equal(ctx, &answer);
    answer.calls++;
    answer.err = err;
    (void)snprintf(answer.text, sizeof(answer.text), "%s", text);
}

static void order(const char *instance)
{
    struct failover_command command = {.type = FAILOVER_COMMAND_SWITCHOVER, .by = "ann"};

    memset(&answer, 0, sizeof(answer));
    engine_command(play.engine, instance, &command, on_answer, &answer);
    assert_int_equal(answer.calls, 0); /* never inside the call */
}

static void assert_answered(int err)
{
    turn();
    assert_int_equal(answer.calls, 1);
    assert_int_equal(answer.err, err);
    assert_true(answer.text[0] != '\0');
}

/* ---- operators ------------------------------------------------------------------------------------------
 */

static void test_the_core_answers_at_once_or_later(void **state)
{
    (void)state;
    script(FAILOVER_ON_COMMAND, FAILOVER_WATCH, FAILOVER_DO_ANSWER)->err = ERR_REJECTED;
    order("shop");
    assert_answered(ERR_REJECTED);
    assert_string_equal(answer.text, "event=played.report text=1");
    order("shop");
    turn();
    assert_int_equal(answer.calls, 0);
    script(FAILOVER_ON_HINT, FAILOVER_WATCH, FAILOVER_DO_ANSWER)->command = 1; /* answered long ago */
    engine_on_hint(play.engine, "shop", 5);
    turn();
    assert_int_equal(answer.calls, 0);
    script(FAILOVER_ON_HINT, FAILOVER_WATCH, FAILOVER_DO_ANSWER)->command = 2;
    engine_on_hint(play.engine, "shop", 5);
    assert_int_equal(answer.calls, 0);
    assert_answered(0);
    assert_trail("COMMAND;COMMAND;HINT;HINT;");
    assert_non_null(strstr(play.said, "shop:command.answered;"));
}

static void test_the_engine_answers_when_the_core_cannot(void **state)
{
    struct topology_instance shop = instance_of(1, 3, 5);

    (void)state;
    order("cart");
    assert_answered(ERR_NOT_FOUND);
    order("shop");
    engine_on_lead(play.engine, 0);
    assert_answered(ERR_DEPOSED);
    order("shop");
    assert_answered(ERR_DEPOSED);
    order("cart");
    assert_answered(ERR_DEPOSED);
    engine_on_lead(play.engine, 43);
    order("shop");
    engine_on_lead(play.engine, 44); /* the core has forgotten what was ordered in another term */
    assert_answered(ERR_DEPOSED);
    order("shop");
    engine_on_corrupt(play.engine, "shop", "not JSON");
    assert_answered(ERR_INVALID);
    order("shop");
    assert_answered(ERR_INVALID);
    read_record(&shop, 11);
    order("shop");
    engine_on_removed(play.engine, "shop");
    assert_answered(ERR_NOT_FOUND);
    turn();
    assert_int_equal(answer.calls, 1);
}

static void test_closing_answers_what_waits_and_what_is_on_its_way(void **state)
{
    (void)state;
    order("shop");
    engine_close(play.engine);
    assert_int_equal(answer.calls, 1);
    assert_int_equal(answer.err, ERR_DEPOSED);
    loop_destroy(play.loop);
    assert_int_equal(answer.calls, 1);

    (void)open_scene(state);
    script(FAILOVER_ON_COMMAND, FAILOVER_WATCH, FAILOVER_DO_ANSWER)->err = ERR_BUSY;
    order("shop");
    engine_close(play.engine);
    assert_int_equal(answer.calls, 1);
    assert_int_equal(answer.err, ERR_BUSY);
    loop_destroy(play.loop); /* the wake-up that was under way frees it, and tells nobody again */
    assert_int_equal(answer.calls, 1);
    (void)open_scene(state);
}

/* ---- holds ----------------------------------------------------------------------------------------------
 */

static const char *const three[] = {"host-1", "host-2", "host-3"};

static void hold(void)
{
    script(FAILOVER_ON_HINT, FAILOVER_HOLD, FAILOVER_DO_HOLD)->member = -1;
    engine_on_hint(play.engine, "shop", 5);
}

static void test_the_core_hears_who_holds_at_once_and_at_each_change(void **state)
{
    (void)state;
    engine_on_proxies(play.engine, three, 3);
    engine_on_held(play.engine, "host-1", "shop", 5); /* there is no switchover */
    hold();
    assert_trail("HINT;hold 5 for 700;"); /* not inside the update */
    turn();
    assert_trail("HELD 0/3 not host-1, host-2, host-3;");
    engine_on_held(play.engine, "host-2", "shop", 4); /* of another epoch */
    engine_on_held(play.engine, "host-2", "cart", 5);
    engine_on_held(play.engine, "host-2", "shop", 5);
    engine_on_held(play.engine, "host-2", "shop", 5);
    assert_trail("HELD 1/3 not host-1, host-3;");
    engine_on_held(play.engine, "host-9", "shop", 5); /* nobody of that name is registered … */
    const char *const with_nine[] = {"host-9", "host-1", "host-2"};
    engine_on_proxies(play.engine, with_nine, 3); /* … yet; and host-3 left */
    engine_on_proxies(play.engine, with_nine, 3);
    assert_trail("HELD 2/3 not host-1;");
    hold(); /* the core repeats it: nobody who holds is forgotten */
    turn();
    assert_trail("HINT;hold 5 for 700;HELD 2/3 not host-1;");
    script(FAILOVER_ON_HELD, FAILOVER_DRAIN, FAILOVER_DO_PAUSE);
    engine_on_held(play.engine, "host-1", "shop", 5);
    engine_on_proxies(play.engine, three, 3);
    assert_trail("HELD 3/3 not ;pause 1;HELD 2/3 not host-3;");
    script(FAILOVER_ON_HINT, FAILOVER_INTENT, FAILOVER_DO_COMMIT);
    engine_on_hint(play.engine, "shop", 5);
    engine_on_held(play.engine, "host-3", "shop", 5); /* too late to matter */
    engine_on_proxies(play.engine, NULL, 0);
    assert_trail("HINT;commit at 10;");
}

static void test_who_is_awaited_is_known_before_it_is_told(void **state)
{
    (void)state;
    hold();
    turn();
    assert_trail("HINT;hold 5 for 700;"); /* the list of proxies is on its way */
    engine_on_proxies(play.engine, NULL, 0);
    assert_trail("HELD 0/0 not ;");
    hold();
    script(FAILOVER_ON_LEAD, FAILOVER_IDLE, FAILOVER_DO_REPORT);
    engine_on_lead(play.engine, 0); /* before it was told */
    turn();
    assert_trail("HINT;hold 5 for 700;announce 0;LEAD 0;");
    engine_on_lead(play.engine, 50);
    hold();
    engine_on_removed(play.engine, "shop");
    turn();
    assert_trail("announce 50;LEAD 50;HINT;hold 5 for 700;drop shop;");
}

/* ---- acknowledgements -----------------------------------------------------------------------------------
 */

static const struct engine_acks *acks(void)
{
    struct engine_view view;

    assert_true(engine_find(play.engine, "shop", &view));
    return view.acks;
}

static void publish(uint64_t epoch)
{
    struct topology_instance shop = instance_of(1, 3, epoch);

    script(FAILOVER_ON_RECORD, FAILOVER_FINISH, FAILOVER_DO_PUBLISH);
    read_record(&shop, (int64_t)epoch + 100);
    play.trail[0] = '\0';
}

static void test_who_switched_is_counted_once_and_who_is_missing_is_named(void **state)
{
    (void)state;
    engine_on_proxies(play.engine, three, 3);
    engine_on_ack(play.engine, "host-1", "shop", 5, 0, 900); /* another leader published that one */
    assert_int_equal(acks()->epoch, 0);
    assert_int_equal(acks()->n, 0);
    assert_int_equal(acks()->n_registered, 3);
    assert_string_equal(acks()->missing, "");
    publish(6);
    assert_string_equal(acks()->missing, "host-1, host-2, host-3");
    engine_on_ack(play.engine, "host-1", "shop", 6, 0, 900);
    engine_on_ack(play.engine, "host-1", "shop", 6, 0, 90000);
    engine_on_ack(play.engine, "host-3", "shop", 6, 0, 400);
    engine_on_ack(play.engine, "host-2", "shop", 5, 0, 400); /* an older one */
    assert_int_equal(acks()->epoch, 6);
    assert_int_equal(acks()->n, 2);
    assert_int_equal(acks()->slowest_us, 900);
    assert_string_equal(acks()->slowest_id, "host-1");
    assert_string_equal(acks()->missing, "host-2");
    publish(6); /* confirmed: nobody is forgotten */
    assert_int_equal(acks()->n, 2);
    publish(7);
    assert_int_equal(acks()->n, 0);
    assert_int_equal(acks()->slowest_us, 0);
}

static void test_nobody_inherits_what_another_proxy_said(void **state)
{
    const char *const two[] = {"host-2", "host-3"}, *const other[] = {"host-2", "host-3", "host-4"};

    (void)state;
    engine_on_proxies(play.engine, three, 3);
    publish(6);
    for (int k = 0; k < 3; k++)
        engine_on_ack(play.engine, three[k], "shop", 6, 0, 100);
    assert_int_equal(acks()->n, 3);
    engine_on_proxies(play.engine, two, 2);
    assert_int_equal(acks()->n, 2);
    assert_int_equal(acks()->n_registered, 2);
    engine_on_proxies(play.engine, other, 3);
    assert_int_equal(acks()->n, 2);
    assert_string_equal(acks()->missing, "host-4");
    engine_on_ack(play.engine, "host-5", "shop", 6, 0, 100); /* speaks before its znode is seen, … */
    engine_on_proxies(play.engine, other, 3);
    assert_int_equal(acks()->n, 2);
    const char *const five[] = {"host-5"};
    engine_on_proxies(play.engine, five, 1); /* … and counts once it is */
    assert_int_equal(acks()->n, 1);
    assert_string_equal(acks()->missing, "");
    engine_on_ack(play.engine, "host-6", "shop", 6, 0, 100);
    engine_on_proxies(play.engine, five, 1);
    engine_on_proxies(play.engine, five, 1); /* a stranger that never came is not kept for ever */
    const char *const six[] = {"host-6"};
    engine_on_proxies(play.engine, six, 1);
    assert_string_equal(acks()->missing, "host-6");
}

static void test_the_names_of_many_are_bounded(void **state)
{
    enum { MANY = 1000 };
    static char names[MANY][TOPOLOGY_NAME_MAX + 1];
    static const char *ids[MANY];

    (void)state;
    for (int k = 0; k < MANY; k++) {
        (void)snprintf(names[k], sizeof(names[k]), "a-host-with-a-rather-long-name-%04d", k);
        ids[k] = names[k];
    }
    engine_on_proxies(play.engine, ids, MANY);
    publish(6);
    engine_on_ack(play.engine, ids[0], "shop", 6, 0, 100);
    assert_int_equal(acks()->n, 1);
    assert_int_equal(acks()->n_registered, MANY);
    assert_true(strlen(acks()->missing) <= ENGINE_MISSING_MAX);
    assert_non_null(strstr(acks()->missing, "-0001, a-host"));
    assert_null(strstr(acks()->missing, "-0000"));
    assert_string_equal(strstr(acks()->missing, " and "), " and 993 more");
    for (int k = 0; k < MANY; k++)
        engine_on_ack(play.engine, ids[k], "shop", 6, 0, 100);
    assert_int_equal(acks()->n, MANY);
    assert_string_equal(acks()->missing, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_core_answers_at_once_or_later, open_scene, close_scene),
        cmocka_unit_test_setup_teardown(test_the_engine_answers_when_the_core_cannot, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_closing_answers_what_waits_and_what_is_on_its_way, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_the_core_hears_who_holds_at_once_and_at_each_change, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_who_is_awaited_is_known_before_it_is_told, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_who_switched_is_counted_once_and_who_is_missing_is_named,
                                        open_scene, close_scene),
        cmocka_unit_test_setup_teardown(test_nobody_inherits_what_another_proxy_said, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_the_names_of_many_are_bounded, open_scene, close_scene),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
