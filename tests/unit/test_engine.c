/* The engine: members, orders, trust, surveys; test_engine_orders.c has operators and proxies. */
#include "controller/core/orders.h"
#include "tests/unit/engine_played.h"

/* ---- members --------------------------------------------------------------------------------------------
 */

static void test_members_follow_the_record_and_the_master_is_eager(void **state)
{
    struct topology_instance shop = instance_of(2, 3, 5);

    (void)state;
    assert_true(watched(1)->eager);
    assert_false(watched(2)->eager);
    shop.master = shop.members[2].address;
    read_record(&shop, 11); /* 1 left, 4 came */
    assert_false(watched(2)->eager);
    assert_true(watched(4)->eager);
    shop.master.port = 0; /* sealing: nobody serves */
    shop.state = TOPOLOGY_SEALING;
    read_record(&shop, 12);
    assert_false(watched(4)->eager);
    engine_on_removed(play.engine, "shop");
    assert_trail("RECORD;RECORD;drop shop;");
    assert_int_equal(engine_count(play.engine), 0);
}

static void test_orders_are_answered_also_for_a_member_that_cannot_be_watched(void **state)
{
    struct topology_instance shop = instance_of(1, 4, 5);

    (void)state;
    script(FAILOVER_ON_HINT, FAILOVER_SEAL, FAILOVER_DO_PAUSE);
    script(FAILOVER_ON_HINT, FAILOVER_SEAL, FAILOVER_DO_REPORT);
    engine_on_hint(play.engine, "shop", 5);
    play.order_done(play.order_ctx, ERR_REPLY, NULL, "-NOPERM");
    script(FAILOVER_ON_HINT, FAILOVER_SEAL, FAILOVER_DO_UNPAUSE);
    engine_on_hint(play.engine, "shop", 5);
    assert_trail("HINT;pause 1;PAUSED ERR_REPLY epoch 7;HINT;unpause 1;");
    assert_non_null(strstr(play.said, "shop:played.report;shop:order.failed;"));

    play.watch_fails = true;
    script(FAILOVER_ON_RECORD, FAILOVER_SEAL, FAILOVER_DO_SEAL)->member = 3;
    read_record(&shop, 11);
    assert_trail("RECORD;"); /* never inside the call */
    turn();
    assert_trail("SEALED ERR_CONNECTION epoch 7;");

    script(FAILOVER_ON_HINT, FAILOVER_SEAL, FAILOVER_DO_FENCE)->fence =
        (struct fence_order){.user = "app", .epoch = 7, .keep = true};
    engine_on_hint(play.engine, "shop", 5);
    play.fenced(play.order_ctx, ERR_NOT_FOUND, false, "no such user");
    assert_trail("HINT;fence 1 app-e7;FENCED ERR_NOT_FOUND epoch 7 no such user;");
    script(FAILOVER_ON_HINT, FAILOVER_SEAL, FAILOVER_DO_FENCE)->fence =
        (struct fence_order){.user = "app", .epoch = 7};
    engine_on_hint(play.engine, "shop", 5);
    play.fenced(play.order_ctx, 0, true, "");
    assert_trail("HINT;fence 1 not-e7;FENCED ok epoch 7 open;");
    struct engine_view view;
    assert_true(engine_find(play.engine, "shop", &view));
    assert_int_equal(view.orders[ORDERS_FENCE].done, 1);
    assert_int_equal(view.orders[ORDERS_FENCE].failed, 1);
    assert_in_range(view.orders[ORDERS_FENCE].took_us, 0, WAIT_MS * 1000);

    script(FAILOVER_ON_HINT, FAILOVER_SEAL, FAILOVER_DO_DONATE)->member = 1;
    engine_on_hint(play.engine, "shop", 5);
    shop = instance_of(3, 1, 5);
    read_record(&shop, 12); /* the monitor says nothing any more, and nobody keeps what was for it */
    assert_trail("HINT;donate 2;RECORD;");
}

static void test_a_commit_is_answered_once(void **state)
{
    (void)state;
    play.commit_err = ERR_CONNECTION; /* not sent */
    script(FAILOVER_ON_HINT, FAILOVER_INTENT, FAILOVER_DO_COMMIT)->has_history = true;
    engine_on_hint(play.engine, "shop", 5);
    assert_trail("HINT;commit at 10 with history;");
    turn();
    assert_trail("COMMIT_FAILED ERR_CONNECTION epoch 7;");
    play.commit_err = 0;
    script(FAILOVER_ON_HINT, FAILOVER_INTENT, FAILOVER_DO_COMMIT);
    engine_on_hint(play.engine, "shop", 5);
    play.commit_done(play.commit_ctx, 0, 11, 12);
    assert_trail("HINT;commit at 10;COMMITTED;");
    script(FAILOVER_ON_HINT, FAILOVER_INTENT, FAILOVER_DO_COMMIT);
    engine_on_hint(play.engine, "shop", 5);
    engine_on_removed(play.engine, "shop");
    play.commit_done(play.commit_ctx, ERR_NOT_FOUND, 0, 0); /* nobody is left to hear it */
    assert_trail("HINT;commit at 10;drop shop;");
}

/* ---- trust ----------------------------------------------------------------------------------------------
 */

static void test_the_event_that_makes_it_most_of_them_is_distrusted_already(void **state)
{
    struct health_view view;
    struct topology_address nobody = {.host = "10.0.0.9", .port = 9};

    (void)state;
    play.monitor.on_mute(watched(1)->owner, loop_now_us(play.loop) - 200000);
    play.monitor.on_mute(watched(1)->owner, loop_now_us(play.loop) - 200000); /* counted once */
    play.monitor.on_link_down(watched(2)->owner, ERR_TIMEOUT, "");
    play.monitor.on_knock(watched(1)->owner, HEALTH_KNOCK_NO_ANSWER);
    engine_view(play.engine, "shop", &nobody, &view);
    assert_int_equal(view.kind, HEALTH_VIEW_UNKNOWN);
    assert_true(view.distrusted);
    play.monitor.on_heard(watched(1)->owner, HEALTH_SAID_BUSY, "BUSY");
    play.monitor.on_link_down(watched(2)->owner, ERR_REFUSED, ""); /* that is an answer */
    assert_trail("MUTE;MUTE;LINK_DOWN distrusted;KNOCK distrusted;HEARD;LINK_DOWN;");
    assert_non_null(strstr(play.said, ":outlook.distrusted;"));
    assert_non_null(strstr(play.said, ":outlook.trusted;shop:member.heard;"));
    play.monitor.on_mute(watched(3)->owner, loop_now_us(play.loop));
    engine_on_removed(play.engine, "shop"); /* the silent one is counted off with it */
    struct topology_instance shop = instance_of(1, 1, 5);
    read_record(&shop, 20);
    play.monitor.on_pings(watched(1)->owner, false);
    assert_trail("MUTE;drop shop;LEAD 42;RECORD;publish 5;PINGS;");
}

static bool is_told(void *ctx)
{
    return play.fit == *(int *)ctx;
}

static void test_a_leader_that_others_outvote_gives_up_and_may_return(void **state)
{
    struct health_votes votes = {.n_controllers = 3, .n = 1, .views = {{.kind = HEALTH_VIEW_ANSWERS}}};
    struct topology_address master = {.host = "10.0.0.1", .port = 1};
    int no = false, yes = true;

    (void)state;
    for (uint16_t port = 1; port <= 3; port++)
        play.monitor.on_mute(watched(port)->owner, loop_now_us(play.loop));
    engine_on_votes(play.engine, "shop", &master, &votes); /* asked for by nobody here, but true */
    assert_int_equal(play.fit, NEVER);                     /* it may pass */
    assert_true(wait_until(play.loop, is_told, &no, WAIT_MS));
    for (uint16_t port = 1; port <= 3; port++)
        play.monitor.on_heard(watched(port)->owner, HEALTH_SAID_OK, "");
    assert_true(wait_until(play.loop, is_told, &yes, WAIT_MS));
    assert_trail("MUTE;MUTE distrusted;MUTE distrusted;HEARD distrusted;HEARD;HEARD;");
}

static void test_lateness_and_maintenance_reach_every_event(void **state)
{
    struct topology_pause pause = {.owner = "ann", .reason = "r"};
    struct failover_plan plan;

    (void)state;
    engine_on_lag(play.engine, 300000);
    assert_non_null(strstr(play.said, ":loop.late;"));
    assert_int_equal(engine_explain(play.engine, "shop", NULL, &plan), 0);
    assert_true(plan.ready);
    engine_on_maintenance(play.engine, &pause);
    engine_on_hint(play.engine, "shop", 5);
    assert_int_equal(engine_explain(play.engine, "shop", NULL, &plan), 0);
    assert_false(plan.ready);
    engine_on_maintenance(play.engine, NULL);
    engine_on_hint(play.engine, "shop", 5);
    assert_trail("HINT maintenance;HINT;");
    assert_int_equal(engine_explain(play.engine, "none", NULL, &plan), ERR_NOT_FOUND);
}

/* ---- surveys --------------------------------------------------------------------------------------------
 */

static void survey(void)
{
    script(FAILOVER_ON_HINT, FAILOVER_CONFIRM, FAILOVER_DO_SURVEY);
    engine_on_hint(play.engine, "shop", 5);
}

static void test_each_survey_has_one_answer(void **state)
{
    struct health_votes votes = {.asked_us = 1, .n_controllers = 3, .n = 2};
    struct topology_instance shop = instance_of(1, 3, 5);

    (void)state;
    engine_on_controllers(play.engine, 3);
    survey(); /* there is nobody to ask */
    assert_trail("HINT;");
    turn();
    assert_trail("SURVEYED 0 of 3;");
    engine_set_voters(play.engine, (struct voters *)&play);
    play.survey_err = ERR_BUSY;
    survey();
    turn();
    assert_trail("HINT;survey shop 1;SURVEYED 0 of 3;");
    play.survey_err = 0;
    survey();
    survey(); /* the one under way answers it */
    assert_trail("HINT;survey shop 1;HINT;");
    engine_on_votes(play.engine, "shop", &shop.members[1].address, &votes); /* about another one */
    engine_on_votes(play.engine, "cart", &shop.master, &votes);
    engine_on_votes(play.engine, "shop", &shop.master, &votes);
    engine_on_votes(play.engine, "shop", &shop.master, &votes); /* nobody asked for these */
    assert_trail("SURVEYED 2 of 3;SURVEYED 2 of 3;");
    survey();
    script(FAILOVER_ON_SURVEYED, FAILOVER_CONFIRM, FAILOVER_DO_SURVEY);
    engine_on_votes(play.engine, "shop", &shop.master, &votes); /* asks again, and is not answered by it */
    assert_trail("HINT;survey shop 1;SURVEYED 2 of 3;survey shop 1;");
    shop.master = shop.members[2].address;
    read_record(&shop, 11);
    engine_on_votes(play.engine, "shop", &shop.members[0].address, &votes); /* not the master any more */
    survey();
    engine_on_removed(play.engine, "shop");
    assert_trail("RECORD;HINT;survey shop 1;drop shop;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_members_follow_the_record_and_the_master_is_eager, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_orders_are_answered_also_for_a_member_that_cannot_be_watched,
                                        open_scene, close_scene),
        cmocka_unit_test_setup_teardown(test_a_commit_is_answered_once, open_scene, close_scene),
        cmocka_unit_test_setup_teardown(test_the_event_that_makes_it_most_of_them_is_distrusted_already,
                                        open_scene, close_scene),
        cmocka_unit_test_setup_teardown(test_a_leader_that_others_outvote_gives_up_and_may_return, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_lateness_and_maintenance_reach_every_event, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_each_survey_has_one_answer, open_scene, close_scene),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
