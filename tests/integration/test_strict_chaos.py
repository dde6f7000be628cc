"""The quick form of `make chaos-strict`: a few rounds of random faults, strict; and one that costs async its writes."""

import sys

import netns
import pytest
from cluster import BUILD
from sandbox import TOP

sys.path.insert(0, str(TOP / "tests" / "chaos"))

from ablations import RULES, ablate, build, played_by  # noqa: E402
from faults import Fault, Plan, choose, until_succession  # noqa: E402
from stages import STAGES  # noqa: E402
from strict_chaos import BEGIN, END, Arm, Round, play, table_lines, write_readme  # noqa: E402
from strict_history import Verdict  # noqa: E402

SEEDS = (8, 25, 37)  # two masters after each other; no quorum; master, leader and a proxy killed
CUT_OFF = Plan(0, until_succession(0.2))  # async loses what the clients beside the old master write
# Nobody acknowledges any more, then the master dies: what is said OK to meanwhile may be gone with it.
FROZEN = Plan(0, (Fault(0.0, "stop", ("replica", "other"), 0.8), Fault(0.4, "kill", ("master",), 0.6)))

pytestmark = [pytest.mark.lab,
              pytest.mark.skipif(not netns.is_possible(), reason="needs root: network namespaces can't be made here")]


@pytest.fixture
def stage(request):
    made = STAGES[request.param]()
    yield made
    made.close()


@pytest.fixture
def sandbox(stage):
    """conftest.py shows its logs when a test failed."""
    return stage.sandbox


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("stage", ["strict"], indirect=True)
def test_strict_loses_nothing(stage):
    for plan in (CUT_OFF, FROZEN, *map(choose, SEEDS)):
        played = play(stage, "strict", plan)
        assert played.problems == [], played.line("strict")
        assert played.verdict.acknowledged > 0 and played.verdict.reads > 0


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("stage", ["async"], indirect=True)
def test_the_same_judge_finds_what_async_loses(stage):
    played = play(stage, "async", CUT_OFF)
    assert played.verdict.lost, played.line("async")
    assert played.problems == [], played.line("async")


def test_each_ablation_changes_the_lines_that_it_means():
    for rule in RULES:
        assert {file for file, _, _ in rule.changes} == set(ablate(rule, TOP))
        assert set(rule.plan.faults) and not rule.plan.is_beyond


def test_the_judge_finds_what_programs_without_a_rule_lose(tmp_path):
    rule = next(rule for rule in RULES if rule.name == "hold")
    assert played_by(build(rule, tmp_path / "ablated"), rule, 5, rule.shows) == 0
    assert played_by(BUILD, rule, 1, "") == 0


def test_a_seed_says_which_faults():
    assert choose(4711) == choose(4711)
    plans = [choose(seed) for seed in range(300)]
    assert {fault.kind for plan in plans for fault in plan.faults} == {
        "kill", "wipe", "stop", "unplug", "isolate", "part", "mute", "deafen", "switch", "settle", "succeed",
        "refused"}
    lost = [sum(f.kind in ("kill", "wipe") and bool({"master", "replica", "other"} & set(f.whom)) for f in plan.faults)
            for plan in plans]
    assert all(n <= 1 or plan.is_beyond for n, plan in zip(lost, plans)), "at most one member loses its memory"


def test_the_table_counts_rounds_beyond_the_promise_apart(tmp_path):
    arms = [Arm("strict"), Arm("async")]
    plain, beyond = Plan(1, FROZEN.faults), Plan(2, FROZEN.faults, is_beyond=True)
    for arm in arms:
        for plan, lost in ((plain, [] if arm.name == "strict" else ["one"]), (beyond, ["two", "three"])):
            arm.take(Round(plan, Verdict(acknowledged=1000, unknown=3, lost=lost), [], 2.0, []))
    lines = table_lines(arms, 1)
    assert lines[2].split("|")[2:6] == [" 1 ", " 1,000 ", " 0 ", " 0 "]
    assert lines[3].split("|")[2:6] == [" 2 ", " 2,000 ", " 3 ", " 2 "]
    assert "2 of 1,000 writes went with the orders" in lines[5]
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_readme(readme, lines)
    told = readme.read_text(encoding="utf-8")
    assert told.startswith("before\n" + BEGIN) and told.endswith(END + "\nafter\n") and "old" not in told
    assert lines[2] in told
