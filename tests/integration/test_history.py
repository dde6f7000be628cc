"""The history checker finds what is wrong: histories made by hand, each with one fault."""

import dataclasses

from history import FAILED, INCR, OK, RPUSH, SADD, SET, SLACK_MS, UNKNOWN, WINDOW_MS, Final, Loss, Op, check

CUT_MS, PUBLISHED_MS, HEALED_MS = 10_000.0, 11_600.0, 20_000.0


def op(kind, value, at_ms, outcome=OK, client="c", host="p1"):
    key = {SET: f"k:{value}", SADD: "s", RPUSH: "l", INCR: "n"}[kind]
    return Op(client, host, kind, key, value, at_ms, at_ms + 1, outcome)


def holding(*ops):
    """Data that has exactly what these operations wrote."""
    return Final({o.key: o.value for o in ops if o.kind == SET},
                 {"s": [o.value for o in ops if o.kind == SADD]}, {"l": [o.value for o in ops if o.kind == RPUSH]},
                 {"n": sum(o.kind == INCR for o in ops)})


def a_loss(lost_bytes=None, **until_ms):
    return Loss(CUT_MS, {"*": PUBLISHED_MS, **until_ms}, lost_bytes)


def only_problem(ops, final, losses=()):
    report = check(ops, final, losses)
    assert len(report.problems) == 1, report.problems
    return report.problems[0]


def test_a_good_history_has_no_problem():
    good = [op(SET, "a", 1), op(SADD, "b", 2), op(RPUSH, "c", 3), op(INCR, "d", 4)]
    maybe = [op(RPUSH, "there", 5, UNKNOWN), op(SET, "gone", 6, UNKNOWN), op(INCR, "e", 7, UNKNOWN)]
    refused = [op(SET, "f", 8, FAILED), op(SADD, "g", 9, FAILED), op(INCR, "h", 9, FAILED)]
    report = check(good + maybe + refused, holding(*good, maybe[0]))
    assert report.problems == [] and report.lost_total == 0
    assert (report.acknowledged, report.unknown, report.failed) == (4, 3, 3)


def test_a_lost_write_of_each_kind_without_a_lost_master():
    for kind in (SET, SADD, RPUSH, INCR):
        kept, lost = op(kind, "a", 1), op(kind, "b", 2)
        assert only_problem([kept, lost], holding(kept)).startswith("lost outside the window"), kind


def test_a_write_that_was_old_when_the_master_was_lost():
    old = op(SET, "a", CUT_MS - WINDOW_MS - 10)
    assert only_problem([old], holding(), [a_loss()]).startswith("lost outside the window")


def test_a_write_that_was_young_when_the_master_was_lost_is_the_documented_loss():
    young = [op(kind, "a", CUT_MS - 5) for kind in (SET, SADD, RPUSH, INCR)]
    report = check(young, holding(), [a_loss()])
    assert report.problems == [] and report.lost == young[:3] and report.lost_counts == 1


def test_a_write_after_the_new_route_was_known():
    late = op(SET, "a", PUBLISHED_MS + SLACK_MS + 10)
    assert only_problem([late], holding(), [a_loss()]).startswith("lost outside the window")


def test_a_host_cut_off_with_the_old_master_may_lose_until_the_cut_is_healed_and_no_other_may():
    there, elsewhere = op(SET, "a", HEALED_MS - 100), op(SET, "b", HEALED_MS - 100, host="p2", client="d")
    loss = a_loss(p1=HEALED_MS)
    assert check([there], holding(), [loss]).problems == []
    assert "k:b" in only_problem([there, elsewhere], holding(), [loss])
    later = op(SET, "c", HEALED_MS + SLACK_MS + 10)
    assert "k:c" in only_problem([later], holding(), [loss])


def test_lost_bytes_that_the_returning_master_did_not_own_up_to():
    lost = [op(SET, str(n), CUT_MS + n) for n in range(10)]
    size = sum(o.size() for o in lost)
    assert check(lost, holding(), [a_loss(lost_bytes=size)]).problems == []
    assert only_problem(lost, holding(), [a_loss(lost_bytes=size - 1)]).startswith("unaccounted")
    assert check(lost, holding(), [a_loss(lost_bytes=None)]).problems == [], "it came back without its memory"


def test_a_failed_write_that_is_there():
    for kind in (SET, SADD, RPUSH):
        refused = op(kind, "a", 1, FAILED)
        assert only_problem([refused], holding(refused)).startswith("executed though"), kind


def test_a_counter_that_counted_a_failed_or_repeated_increment():
    ops = [op(INCR, "a", 1), op(INCR, "b", 2, UNKNOWN), op(INCR, "c", 3, FAILED)]
    assert check(ops, holding(*ops[:2])).problems == []
    assert only_problem(ops, holding(*ops)).startswith("counted too much")


def test_a_counter_that_lost_more_than_the_window_holds():
    ops = [op(INCR, "a", 1), op(INCR, "b", CUT_MS + 1)]
    assert check(ops, holding(ops[0]), [a_loss()]).lost_counts == 1
    assert only_problem(ops, holding(), [a_loss()]).startswith("lost outside the window")


def test_a_write_that_was_repeated():
    pushed = op(RPUSH, "a", 1, UNKNOWN)
    assert only_problem([pushed], holding(pushed, pushed)).startswith("executed twice")


def test_one_clients_items_out_of_order():
    first, second = op(RPUSH, "a", 1), op(RPUSH, "b", 2)
    other = dataclasses.replace(op(RPUSH, "x", 1), client="d")
    assert check([first, second, other], holding(other, first, second)).problems == []
    assert only_problem([first, second, other], holding(second, first, other)).startswith("out of order")


def test_a_value_that_nobody_wrote():
    for kind in (SET, SADD, RPUSH):
        assert "of nobody" in only_problem([op(kind, "a", 1, UNKNOWN)], holding(op(kind, "stranger", 1))), kind


def test_an_overwritten_key_is_a_lost_write():
    mine = op(SET, "a", 1)
    problems = check([mine], Final({"k:a": "other"}, {}, {}, {})).problems
    assert [p.split(":")[0] for p in problems] == ["lost outside the window", "a value of nobody"]
