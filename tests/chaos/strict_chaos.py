#!/usr/bin/env python3
"""Random faults while eight clients write and read through two proxies: of a strict instance nothing acknowledged is lost.

`strict_chaos.py --rounds 200` plays round S, S+1, … of a seed S: the round's number decides its faults and what its clients do.
`--seed N --rounds 1` plays round N again. `--arms` says with whom: strict (acks=1), strict-2 (acks=2), async (the same
without the rule that holds replies), sentinel. Of the last two the same judge must find losses. Needs root (network
namespaces).
Ends with "N passed, N failed"; each round counts, and each arm that should have lost something.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib"), str(HERE.parent / "bench")]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import netns  # noqa: E402
import table  # noqa: E402
from faults import choose, play_out  # noqa: E402
from history import now_ms  # noqa: E402
from sandbox import TOP, run_driver  # noqa: E402
from stages import STAGES, forget  # noqa: E402
from strict_history import Kept, Trouble, Verdict, judge  # noqa: E402
from wait import wait_until  # noqa: E402

BEGIN, END = "<!-- strict-chaos:begin -->", "<!-- strict-chaos:end -->"
WARM_UP, AFTERWARDS = 8, 5  # acknowledged writes of each client
TITLES = {"strict": "Mr-Redis, `durability=strict acks=1`", "strict-2": "Mr-Redis, `durability=strict acks=2`",
          "async": "Mr-Redis, `durability=async`: replies aren't held",
          "sentinel": "Sentinel, clients without `WAIT`"}
STRICT = ("strict", "strict-2")
TOLD_MAX = 12

_numbers = itertools.count(1)


def tell(line):
    print(line, flush=True)


@dataclasses.dataclass
class Round:
    """What one came to."""

    plan: object
    verdict: Verdict
    failovers: list  # their verdicts; None: nobody knows
    took_s: float
    problems: list

    def line(self, arm):
        failovers = "" if self.failovers is None else f"failovers={','.join(self.failovers) or 'none'} "
        return (f"{arm} seed={self.plan.seed} {self.took_s:.1f} s {failovers}"
                f"{self.verdict.summary()} [{self.plan.told()}]")


def problems_of(arm, plan, verdict):
    """What the arm promises not to happen. A loss that an operator ordered is one of the order."""
    if arm in STRICT and not is_ordered(arm, plan):
        return verdict.broken()
    return [] if arm == "sentinel" else list(verdict.wrong)


def is_ordered(arm, plan):
    """Were losses ordered? With acks=2 what is beyond for acks=1 is within the promise."""
    return plan.is_beyond and arm == "strict"


def read(stage, ops, prefix):
    """What the master has of these writes; then it forgets them."""
    master = stage.master()
    with master.client() as client:
        kept = Kept.read(client, ops)
    forget(master, prefix)
    return kept


def play(stage, arm, plan):
    """One round: the stage is whole before, and afterwards, or the round failed."""
    began_s, began_ms, prefix = time.monotonic(), now_ms(), f"h{next(_numbers)}"
    clients = stage.clients(prefix, plan.seed)
    try:
        clients.wait_more(WARM_UP)
        fault_ms = now_ms()
        play_out(plan, stage)
        stage.mend()
        stage.settle()
        trouble = Trouble(fault_ms, now_ms())
        clients.wait_more(AFTERWARDS)
        clients.stop()
    except BaseException:
        clients.abandon()
        raise
    ops = clients.ops()
    kept = wait_until(lambda: read(stage, ops, prefix), "the master's data")
    verdict = judge(ops, kept, trouble)
    problems = problems_of(arm, plan, verdict) + stage.sandbox.unexpected_ends()
    return Round(plan, verdict, stage.failovers(began_ms), time.monotonic() - began_s, problems)


class Arm:
    """Rounds of one kind. A failed one costs the stage it was played on, so that it can't spoil the next."""

    def __init__(self, name):
        self.name, self.stage = name, None
        self.rounds, self.failed = [], []
        self.total, self.ordered = Verdict(), Verdict()

    def play_plan(self, plan):
        """The round; None: it couldn't be played to its end, which was told."""
        try:
            self.stage = self.stage or STAGES[self.name]()
            return play(self.stage, self.name, plan)
        except Exception as error:  # pylint: disable=broad-except
            self._fail(plan, "".join(traceback.format_exception_only(type(error), error)).strip())
            return None

    def play(self, seed):
        plan = choose(seed)
        played = self.play_plan(plan)
        if played is None:
            return
        self.take(played)
        tell(("FAIL  " if played.problems else "ok    ") + played.line(self.name))
        if played.problems:
            self._fail(plan, "\n".join(played.problems[:TOLD_MAX]))

    def take(self, played):
        self.rounds.append(played)
        (self.ordered if is_ordered(self.name, played.plan) else self.total).add(played.verdict)

    def _fail(self, plan, why):
        self.failed.append(plan.seed)
        tell(f"FAIL  {self.name} seed={plan.seed} [{plan.told()}]: {why}")
        if self.stage:
            try:
                tell(self.stage.describe())
            except Exception as error:  # pylint: disable=broad-except
                tell(f"nobody tells more: {error}")
            for file, tail in self.stage.sandbox.log_tails():
                tell(f"---- {file}\n{tail}")
        self.abandon()

    def abandon(self):
        """What is wrong with the end of something that had failed anyhow is told, no more."""
        try:
            self.close()
        except AssertionError as problem:
            tell(str(problem))

    def close(self):
        stage, self.stage = self.stage, None
        if stage:
            stage.close()

    def row(self):
        v, counted = self.total, [r for r in self.rounds if not is_ordered(self.name, r.plan)]
        with_losses = sum(bool(r.verdict.lost) for r in counted)
        took_s = statistics.median(r.took_s for r in counted) if counted else 0.0
        return (f"| {TITLES[self.name]} | {len(counted)} | {v.acknowledged:,} | {len(v.lost):,} | {with_losses} "
                f"| {len(v.vanished):,} | {len(v.backwards):,} | {v.unknown:,} | {took_s:.1f} |")


def table_lines(arms, seed):
    lines = ["| | rounds | acknowledged writes | lost | rounds with losses | read, then lost | reads that went back "
             "| unknown | a round, s |", "|---|---|---|---|---|---|---|---|---|", *(arm.row() for arm in arms), ""]
    strict = next((arm for arm in arms if arm.name == "strict"), None)
    beyond = [r for r in strict.rounds if r.plan.is_beyond] if strict else []
    if beyond:
        lines += [f"In {len(beyond)} further rounds with `acks=1` more members lost their memory than the promise covers: "
                  f"each failover was refused, until it was ordered to lose data; {len(strict.ordered.lost)} of "
                  f"{strict.ordered.acknowledged:,} writes went with the orders, and are not counted above.", ""]
    failed = [f"{arm.name} {seed}" for arm in arms for seed in arm.failed]
    return [*lines, *([f"Failed: {', '.join(failed)}.", ""] if failed else []), f"Seed {seed}."]


def write_readme(path, lines):
    table.replace_between(path, BEGIN, END, "\n".join([BEGIN, "", *lines, "", END]))


def parse(argv):
    parser = argparse.ArgumentParser(prog="strict_chaos.py", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="of each arm (200)")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; printed when none is given")
    parser.add_argument("--arms", default="strict,strict-2,async,sentinel", help="some of " + ", ".join(STAGES))
    parser.add_argument("--jobs", type=int, default=1, help="arms played at the same time, each on hosts of its own (1)")
    parser.add_argument("--write-readme", action="store_true", help="put the table into README.md")
    options = parser.parse_args(argv)
    options.arms = options.arms.split(",")
    unknown = [name for name in options.arms if name not in STAGES]
    if unknown or options.rounds < 1 or options.jobs < 1:
        parser.error(f"no arm is called {unknown[0]}" if unknown else "--rounds or --jobs is too small")
    if options.write_readme and (set(options.arms) != set(STAGES) or options.rounds < 200):
        parser.error("--write-readme: into README belongs the whole: all arms, at least 200 rounds")
    return options


def play_arm(name, seeds):
    arm = Arm(name)
    try:
        for seed in seeds:
            arm.play(seed)
    except BaseException:
        arm.abandon()
        raise
    try:
        arm.close()
    except AssertionError as problem:
        tell(f"FAIL  {name}: {problem}")
        arm.failed.append("the end")
    return arm


def play_all(names, seeds, jobs):
    """Each arm, in that order. What is stopped stops its arms, which take down what they have built."""
    if jobs == 1:
        return [play_arm(name, seeds) for name in names]
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        arms = pool.starmap(play_arm, [(name, seeds) for name in names], chunksize=1)
        pool.close()
        pool.join()
        return arms


def main(argv):
    options = parse(argv)
    netns.demand("chaos")
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(3), "big")
    tell(f"strict chaos: seed {seed}, {options.rounds} rounds of {', '.join(options.arms)}")
    arms = play_all(options.arms, range(seed, seed + options.rounds), options.jobs)
    lines = table_lines(arms, seed)
    tell("\n".join(lines))
    blind = [arm.name for arm in arms if arm.name not in STRICT and options.rounds >= 20 and not arm.total.lost]
    for name in blind:
        tell(f"FAIL  {name}: the judge found no loss in {options.rounds} rounds")
    if options.write_readme:
        write_readme(TOP / "README.md", lines)
    failed = sum(len(arm.failed) for arm in arms) + len(blind)
    passed = sum(options.rounds - len(arm.failed) for arm in arms)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    run_driver(main, tell)
