/* The election recipe: events in, one action and a role out. */
#include "controller/core/election.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <string.h>

static const struct election_entry first = {"c_0000000001", 11, 100}, second = {"c_0000000002", 22, 200},
                                   third = {"c_0000000003", 33, 300};

static struct election_update step(struct election *e, struct election_event event)
{
    struct election_update out;
    election_step(e, &event, &out);
    return out;
}

static struct election_update list(struct election *e, const struct election_entry *entries, size_t n)
{
    return step(e, (struct election_event){.type = ELECTION_ON_LIST, .entries = entries, .n = n});
}

static struct election joined(int64_t session)
{
    struct election e;
    election_init(&e);
    struct election_update out =
        step(&e, (struct election_event){.type = ELECTION_ON_SESSION, .session = session});
    assert_int_equal(out.action, ELECTION_DO_LIST);
    return e;
}

static void test_lowest_leads_with_its_czxid_as_term(void **state)
{
    struct election e = joined(11);
    (void)state;
    assert_int_equal(list(&e, NULL, 0).action, ELECTION_DO_CREATE);
    assert_int_equal(step(&e, (struct election_event){.type = ELECTION_ON_CREATED}).action, ELECTION_DO_LIST);
    const struct election_entry entries[] = {second, first, third};
    struct election_update out = list(&e, entries, 3);
    assert_int_equal(out.action, ELECTION_DO_WATCH);
    assert_string_equal(out.node, "c_0000000001"); /* its own: it may be deleted by hand */
    assert_int_equal(e.role, ELECTION_LEADER);
    assert_int_equal(e.term, 100);
    assert_string_equal(e.own, "c_0000000001");
}

static void test_leader_whose_node_was_deleted_stands_again(void **state)
{
    struct election e = joined(11);
    (void)state;
    list(&e, &first, 1);
    assert_int_equal(e.role, ELECTION_LEADER);
    assert_int_equal(step(&e, (struct election_event){.type = ELECTION_ON_CHANGED}).action, ELECTION_DO_LIST);
    const struct election_entry left[] = {second, third};
    assert_int_equal(list(&e, left, 2).action, ELECTION_DO_CREATE);
    assert_int_equal(e.role, ELECTION_OUT);
    assert_int_equal(e.term, 0);
}

static void test_each_watches_only_its_predecessor(void **state)
{
    struct election e = joined(33);
    (void)state;
    const struct election_entry entries[] = {third, first, second};
    struct election_update out = list(&e, entries, 3);
    assert_int_equal(out.action, ELECTION_DO_WATCH);
    assert_string_equal(out.node, "c_0000000002");
    assert_int_equal(e.role, ELECTION_STANDBY);
    assert_int_equal(e.term, 0);
    assert_int_equal(step(&e, (struct election_event){.type = ELECTION_ON_CHANGED}).action, ELECTION_DO_LIST);
    const struct election_entry left[] = {third, first};
    out = list(&e, left, 2); /* the middle one went: the first still leads */
    assert_string_equal(out.node, "c_0000000001");
}

static void test_lost_create_is_found_by_its_owner(void **state)
{
    struct election e = joined(22);
    (void)state;
    assert_int_equal(list(&e, &first, 1).action, ELECTION_DO_CREATE);
    step(&e, (struct election_event){.type = ELECTION_ON_CREATED, .err = ERR_CONNECTION});
    const struct election_entry entries[] = {first, second}; /* it had been made all the same */
    assert_int_equal(list(&e, entries, 2).action, ELECTION_DO_WATCH);
    assert_string_equal(e.own, "c_0000000002");
}

static void test_suspended_leader_steps_back_at_once(void **state)
{
    struct election e = joined(11);
    (void)state;
    list(&e, &first, 1);
    assert_int_equal(e.role, ELECTION_LEADER);
    step(&e, (struct election_event){.type = ELECTION_ON_SUSPENDED});
    assert_int_equal(e.role, ELECTION_OUT);
    assert_int_equal(e.term, 0);
    assert_int_equal(list(&e, &first, 1).action,
                     ELECTION_DO_NOTHING); /* a late answer of the old connection */
    assert_int_equal(e.role, ELECTION_OUT);
    step(&e, (struct election_event){.type = ELECTION_ON_SESSION, .session = 11});
    list(&e, &first, 1);
    assert_int_equal(e.term, 100); /* the same session, the same znode: the same term */
}

static void test_expired_session_starts_over(void **state)
{
    struct election e = joined(11);
    (void)state;
    list(&e, &first, 1);
    step(&e, (struct election_event){.type = ELECTION_ON_EXPIRED});
    assert_int_equal(e.role, ELECTION_OUT);
    step(&e, (struct election_event){.type = ELECTION_ON_SESSION, .session = 44});
    assert_string_equal(e.own, "");
    assert_int_equal(list(&e, &second, 1).action, ELECTION_DO_CREATE);
}

static void test_resigning_deletes_and_never_joins_again(void **state)
{
    struct election e = joined(11);
    (void)state;
    list(&e, &first, 1);
    struct election_update out = step(&e, (struct election_event){.type = ELECTION_ON_RESIGN});
    assert_int_equal(out.action, ELECTION_DO_DELETE);
    assert_string_equal(out.node, "c_0000000001");
    assert_int_equal(e.role, ELECTION_OUT);
    assert_int_equal(list(&e, NULL, 0).action, ELECTION_DO_NOTHING);
    assert_int_equal(list(&e, &first, 1).action, ELECTION_DO_DELETE); /* the delete was lost: again */
}

static void test_wrapped_sequence_numbers_keep_their_order(void **state)
{
    struct election e = joined(22);
    (void)state;
    const struct election_entry entries[] = {{"c_-2147483648", 22, 900}, {"c_2147483647", 11, 800}};
    struct election_update out = list(&e, entries, 2);
    assert_int_equal(out.action, ELECTION_DO_WATCH);
    assert_string_equal(out.node, "c_2147483647");
}

static struct election_update say(struct election *e, enum election_event_type type)
{
    return step(e, (struct election_event){.type = type});
}

static void test_an_unfit_leader_yields_and_queues_at_the_tail(void **state)
{
    struct election e = joined(11);
    (void)state;
    const struct election_entry both[] = {first, second}, tail[] = {second, {"c_0000000009", 11, 900}};
    list(&e, both, 2);
    assert_int_equal(e.role, ELECTION_LEADER);
    struct election_update out = say(&e, ELECTION_ON_YIELD);
    assert_int_equal(out.action, ELECTION_DO_DELETE);
    assert_string_equal(out.node, "c_0000000001");
    assert_int_equal(e.role, ELECTION_STANDBY);
    assert_int_equal(e.term, 0);
    assert_int_equal(say(&e, ELECTION_ON_YIELD).action, ELECTION_DO_NOTHING);
    out = list(&e, both, 2); /* the delete was lost */
    assert_int_equal(out.action, ELECTION_DO_DELETE);
    out = list(&e, &second, 1);
    assert_int_equal(out.action, ELECTION_DO_WATCH); /* it does not stand; it sees who leads */
    assert_string_equal(out.node, "c_0000000002");
    assert_int_equal(e.role, ELECTION_STANDBY);
    assert_int_equal(say(&e, ELECTION_ON_FIT).action, ELECTION_DO_LIST);
    assert_int_equal(list(&e, &second, 1).action, ELECTION_DO_CREATE);
    out = list(&e, tail, 2);
    assert_string_equal(out.node, "c_0000000002");
    assert_int_equal(e.role, ELECTION_STANDBY);
    assert_int_equal(say(&e, ELECTION_ON_FIT).action, ELECTION_DO_NOTHING);
}

static void test_a_bad_leader_is_better_than_none(void **state)
{
    struct election e = joined(11);
    (void)state;
    const struct election_entry both[] = {first, second};
    list(&e, &first, 1);
    assert_int_equal(say(&e, ELECTION_ON_YIELD).action, ELECTION_DO_NOTHING);
    assert_int_equal(e.role, ELECTION_LEADER);
    list(&e, &first, 1);
    assert_int_equal(e.role, ELECTION_LEADER);
    assert_int_equal(list(&e, both, 2).action, ELECTION_DO_DELETE); /* now somebody else stands */
    assert_int_equal(e.role, ELECTION_STANDBY);
    assert_int_equal(list(&e, &second, 1).action, ELECTION_DO_WATCH);
    assert_int_equal(list(&e, NULL, 0).action, ELECTION_DO_CREATE); /* and is gone again */
    assert_int_equal(list(&e, both, 2).action, ELECTION_DO_WATCH);  /* once: it makes way no more */
    assert_int_equal(e.role, ELECTION_LEADER);
    assert_int_equal(say(&e, ELECTION_ON_YIELD).action, ELECTION_DO_DELETE); /* until it is told again */
}

static void test_who_is_unfit_stays_aside_over_a_new_session(void **state)
{
    struct election e = joined(11);
    (void)state;
    const struct election_entry both[] = {first, second};
    list(&e, both, 2);
    say(&e, ELECTION_ON_YIELD);
    say(&e, ELECTION_ON_EXPIRED);
    assert_int_equal(e.role, ELECTION_OUT);
    assert_int_equal(say(&e, ELECTION_ON_FIT).action, ELECTION_DO_NOTHING);
    say(&e, ELECTION_ON_YIELD); /* out of touch */
    step(&e, (struct election_event){.type = ELECTION_ON_SESSION, .session = 44});
    assert_int_equal(list(&e, &second, 1).action, ELECTION_DO_WATCH);
    assert_int_equal(e.role, ELECTION_STANDBY);
    assert_int_equal(say(&e, ELECTION_ON_RESIGN).action, ELECTION_DO_NOTHING);
    assert_int_equal(list(&e, NULL, 0).action, ELECTION_DO_NOTHING); /* who stops never comes back */
}

static struct election_update gone(struct election *e, uint64_t czxid)
{
    return step(e, (struct election_event){.type = ELECTION_ON_LEADER_GONE, .czxid = czxid});
}

static void test_a_standby_removes_the_dead_leaders_node(void **state)
{
    struct election e = joined(33);
    (void)state;
    assert_int_equal(gone(&e, 100).action, ELECTION_DO_NOTHING); /* it has seen no list yet */
    const struct election_entry entries[] = {third, first, second}, left[] = {third, second};
    list(&e, entries, 3);
    struct election_update out = gone(&e, 100);
    assert_int_equal(out.action, ELECTION_DO_REMOVE); /* the last in the queue may, too */
    assert_string_equal(out.node, "c_0000000001");
    assert_int_equal(out.czxid, 100);
    assert_int_equal(e.role, ELECTION_STANDBY);
    list(&e, left, 2);
    assert_int_equal(gone(&e, 100).action, ELECTION_DO_NOTHING); /* another leads by now */
    assert_int_equal(gone(&e, 200).action, ELECTION_DO_REMOVE);
    list(&e, &third, 1);
    assert_int_equal(e.role, ELECTION_LEADER);
    assert_int_equal(gone(&e, 300).action, ELECTION_DO_NOTHING); /* never its own */
    say(&e, ELECTION_ON_SUSPENDED);
    assert_int_equal(gone(&e, 300).action, ELECTION_DO_NOTHING); /* out of touch: what it knows is old */
}

/* A znode that somebody made by hand never goes away: nobody may wait for it. */
static void test_a_znode_without_a_session_is_no_candidate(void **state)
{
    struct election e = joined(11);
    (void)state;
    const struct election_entry entries[] = {{"c_000", 0, 5}, first, {"x", 0, 150}, second};
    assert_int_equal(list(&e, entries, 1).action, ELECTION_DO_CREATE);
    assert_int_equal(list(&e, entries, 4).action, ELECTION_DO_WATCH);
    assert_int_equal(e.role, ELECTION_LEADER);
    e = joined(22);
    struct election_update out = list(&e, entries, 4);
    assert_string_equal(out.node, "c_0000000001");
    assert_int_equal(e.role, ELECTION_STANDBY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lowest_leads_with_its_czxid_as_term),
        cmocka_unit_test(test_leader_whose_node_was_deleted_stands_again),
        cmocka_unit_test(test_each_watches_only_its_predecessor),
        cmocka_unit_test(test_lost_create_is_found_by_its_owner),
        cmocka_unit_test(test_suspended_leader_steps_back_at_once),
        cmocka_unit_test(test_expired_session_starts_over),
        cmocka_unit_test(test_resigning_deletes_and_never_joins_again),
        cmocka_unit_test(test_wrapped_sequence_numbers_keep_their_order),
        cmocka_unit_test(test_an_unfit_leader_yields_and_queues_at_the_tail),
        cmocka_unit_test(test_a_bad_leader_is_better_than_none),
        cmocka_unit_test(test_who_is_unfit_stays_aside_over_a_new_session),
        cmocka_unit_test(test_a_standby_removes_the_dead_leaders_node),
        cmocka_unit_test(test_a_znode_without_a_session_is_no_candidate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
