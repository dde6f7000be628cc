"""The judge of strict histories finds what is wrong: histories made by hand, each with one fault."""

import pytest

from history import FAILED, INCR, OK, RPUSH, SET, UNKNOWN
from strict_history import EVAL, GET, HEARD_MS, LRANGE, MULTI, PAIRED, Kept, Step, Trouble, judge, twin

TROUBLE = Trouble(10_000.0, 20_000.0)
REGISTER, LIST, PAIR, COUNTER = "reg:c", "list", "pair", "count:c"


def step(kind, number, at_ms, outcome=OK, client="c", host="p1", error=""):
    key = {SET: REGISTER, RPUSH: LIST, INCR: COUNTER}.get(kind, PAIR)
    return Step(client, host, kind, key, f"{client}.{number}", at_ms, at_ms + 1, outcome, error)


def get(at_ms, number=0, host="p1"):
    return Step("r", host, GET, REGISTER, "", at_ms, at_ms + 1, OK, "", (f"c.{number}",) if number else ())


def lrange(at_ms, *numbers, host="p1"):
    return Step("r", host, LRANGE, LIST, "", at_ms, at_ms + 1, OK, "", tuple(f"c.{n}" for n in numbers))


def holding(*steps):
    """Data that has exactly what these wrote, in their order."""
    registers = [s.value for s in steps if s.kind == SET]
    lists = {LIST: [s.value for s in steps if s.kind == RPUSH]}
    lists[PAIR] = [s.value for s in steps if s.kind in PAIRED]
    lists[twin(PAIR)] = list(lists[PAIR])
    return Kept({REGISTER: registers[-1] if registers else ""}, lists, {COUNTER: sum(s.kind == INCR for s in steps)})


def only(ops, kept):
    """The one thing that is broken."""
    broken = judge(ops, kept, TROUBLE).broken()
    assert len(broken) == 1, broken
    return broken[0]


def test_a_good_history_has_no_fault():
    done = [step(SET, 1, 1), step(RPUSH, 2, 2), step(MULTI, 3, 3), step(EVAL, 4, 4), step(INCR, 5, 5)]
    maybe = [step(SET, 6, 6, UNKNOWN), step(RPUSH, 7, 7, UNKNOWN), step(INCR, 8, 8, UNKNOWN)]
    refused = [step(RPUSH, 9, 9, FAILED), step(MULTI, 10, 10, FAILED)]
    reads = [get(2, 1), lrange(4, 2), get(20, 1, host="p2")]
    for there in ([], maybe):
        verdict = judge(done + maybe + refused + reads, holding(*done, *there), TROUBLE)
        assert verdict.broken() == [] and verdict.stale == 0
    assert (verdict.acknowledged, verdict.unknown, verdict.failed, verdict.reads) == (5, 3, 2, 3)


@pytest.mark.parametrize("kind", [SET, RPUSH, MULTI, EVAL, INCR])
def test_an_acknowledged_write_that_is_gone(kind):
    kept, lost = step(kind, 1, 1), step(kind, 2, 2)
    assert only([kept, lost], holding(kept)).startswith("lost: ")


def test_a_register_that_fell_back():
    first, second = step(SET, 1, 1), step(SET, 2, 2)
    assert "the register is 1" in only([first, second], holding(first))
    assert judge([first, second], holding(first, second), TROUBLE).broken() == []


def test_a_register_may_fall_back_to_what_was_executed_late_only():
    late = step(SET, 1, 1, UNKNOWN, error="MRUNKNOWN the connection was lost")
    short = step(SET, 1, 1, UNKNOWN, error="MRDURABILITY applied, but")
    last = step(SET, 2, 2)
    assert judge([late, last], holding(last, late), TROUBLE).broken() == []
    assert only([short, last], holding(last, short)).startswith("lost: ")


def test_a_refused_write_that_is_there():
    for kind in (SET, RPUSH, MULTI):
        refused = step(kind, 1, 1, FAILED)
        assert only([refused], holding(refused)).startswith("executed though"), kind
    refused = step(INCR, 1, 1, FAILED)
    assert only([refused], holding(refused)).startswith("counted too much")


def test_a_transaction_that_was_torn():
    done = step(MULTI, 1, 1, UNKNOWN)
    kept = holding(done)
    kept.lists[twin(PAIR)] = []
    assert only([done], kept).startswith("torn")


def test_what_was_executed_twice_or_out_of_order_or_by_nobody():
    first, second = step(RPUSH, 1, 1), step(RPUSH, 2, 2)
    assert only([first, second], holding(first, first, second)).startswith("executed twice")
    assert only([first, second], holding(second, first)).startswith("out of order")
    assert only([first], holding(first, step(RPUSH, 9, 1, client="stranger"))).startswith("an item of nobody")
    assert "a value of nobody" in only([step(SET, 1, 1, UNKNOWN)], holding(step(SET, 9, 1, client="stranger")))


def test_a_read_behind_an_acknowledgement():
    first, second = step(SET, 1, 1), step(SET, 2, 5)
    done, kept = [first, second], holding(first, second)
    assert only([*done, get(10, 1)], kept).startswith("went back: ")
    assert judge([*done, get(5, 1)], kept, TROUBLE).broken() == [], "they overlap"


def test_a_read_behind_another_read():
    first, second = step(SET, 1, 1), step(SET, 2, 5, UNKNOWN, error="MRDURABILITY applied, but")
    reads = [get(7, 2), get(10, 1)]
    assert only([first, second, *reads], holding(first, second)).startswith("went back: ")


def test_another_proxy_may_not_have_heard_while_something_is_broken():
    first, second = step(SET, 1, 1), step(SET, 2, 10_500)
    done, kept = [first, second], holding(first, second)
    verdict = judge([*done, get(15_000, 1, host="p2")], kept, TROUBLE)
    assert verdict.broken() == [] and verdict.stale == 1
    late = TROUBLE.whole_ms + HEARD_MS + 1
    assert only([*done, get(late, 1, host="p2")], kept).startswith("went back: ")
    assert only([*done, get(15_000, 1)], kept).startswith("went back: "), "its own proxy knew"


def test_what_was_shown_and_is_gone():
    shown = step(RPUSH, 1, 1, UNKNOWN)
    assert only([shown, lrange(3, 1)], holding()).startswith("read, then lost: ")
    assert judge([shown, lrange(3, 1, host="p2")], holding(), TROUBLE).broken() == [], "not promised across proxies"
    first, second = step(SET, 1, 1), step(SET, 2, 2, UNKNOWN, error="MRDURABILITY applied, but")
    assert only([first, second, get(4, 2)], holding(first)).startswith("read, then lost: ")
