#!/usr/bin/env python3
"""Breaks a cluster in every way that scenarios.py knows, again and again, and judges each client's history.

`run.py --rounds 30` plays 30 rounds of each scenario in an order that the seed decides; `--only a,b` some of them.
Needs root (network namespaces). Ends with "N passed, N failed"; each round counts.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import netns  # noqa: E402
from lab import Lab  # noqa: E402
from rounds import play  # noqa: E402
from sandbox import Sandbox, run_driver  # noqa: E402
from scenarios import SCENARIOS  # noqa: E402

DOWN_AFTER_MS = 1000


def tell(line):
    print(line, flush=True)


class Chaos:
    """Plays rounds; a failed one costs the lab it was played in, so that it can't spoil the next."""

    def __init__(self, with_sentinel):
        self.with_sentinel = with_sentinel
        self.sandbox = self.lab = None
        self.outcomes = {name: [] for name in SCENARIOS}
        self.failures = []

    def open(self):
        if self.lab is None:
            self.sandbox = Sandbox()
            self.lab = Lab(self.sandbox)
            if self.with_sentinel:
                self.lab.add_sentinel(DOWN_AFTER_MS)
            self.lab.wait_ready()
        return self.lab

    def close(self):
        sandbox, self.sandbox, self.lab = self.sandbox, None, None
        if sandbox:
            sandbox.close()

    def round(self, name):
        """True when it went well."""
        try:
            outcome = play(self.open(), name, SCENARIOS[name])
        except Exception as error:  # pylint: disable=broad-except
            self._fail(name, "".join(traceback.format_exception_only(type(error), error)).strip())
            return False
        self.outcomes[name].append(outcome)
        tell(("ok    " if not outcome.problems else "FAIL  ") + outcome.line())
        if outcome.problems:
            self._fail(name, "\n".join(outcome.problems[:20]))
        return not outcome.problems

    def _fail(self, name, why):
        self.failures.append(name)
        tell(f"FAIL  {name}: {why}")
        if self.lab:
            try:
                tell(self.lab.describe())
            except (OSError, AssertionError, subprocess.SubprocessError) as error:
                tell(f"nobody tells the topology: {error}")
        if self.sandbox:
            for file, tail in self.sandbox.log_tails():
                tell(f"---- {file}\n{tail}")
        self.abandon()

    def abandon(self):
        """Closes; what is wrong with the end of something that had failed anyhow is told, no more."""
        try:
            self.close()
        except AssertionError as problem:
            tell(str(problem))

    def summary(self):
        for name, outcomes in self.outcomes.items():
            if not outcomes:
                continue
            gaps = [o.gap_ms for o in outcomes]
            beside = [o.beside for o in outcomes if o.beside]
            line = (f"{name:<36} rounds={len(outcomes)} failovers={sum(o.failovers for o in outcomes)} "
                    f"gap_ms median={statistics.median(gaps):.0f} max={max(gaps):.0f} "
                    f"acknowledged={sum(o.report.acknowledged for o in outcomes)} "
                    f"unknown={sum(o.report.unknown for o in outcomes)} "
                    f"lost_in_window={sum(o.report.lost_total for o in outcomes)} "
                    f"problems={sum(len(o.problems) for o in outcomes)}")
            if beside:
                line += (f" | Sentinel acknowledged={sum(b.acknowledged for b in beside)} "
                         f"lost={sum(b.lost_total for b in beside)}")
            tell(line)


def parse(argv):
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="of each scenario (30)")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="some of " + ", ".join(SCENARIOS))
    parser.add_argument("--seed", type=int, default=None, help="of the rounds' order; printed when none is given")
    parser.add_argument("--no-sentinel", action="store_true", help="without Sentinel beside it")
    options = parser.parse_args(argv)
    options.only = options.only.split(",")
    unknown = [name for name in options.only if name not in SCENARIOS]
    if unknown or options.rounds < 1:
        parser.error(f"no scenario is called {unknown[0]}" if unknown else "--rounds is too small")
    return options


def main(argv):
    options = parse(argv)
    netns.demand("chaos")
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    tell(f"chaos: seed {seed}, {options.rounds} rounds of {len(options.only)} scenarios")
    order = options.only * options.rounds
    random.Random(seed).shuffle(order)
    chaos = Chaos(not options.no_sentinel)
    passed = 0
    try:
        for name in order:
            passed += chaos.round(name)
    except BaseException:
        chaos.abandon()
        raise
    chaos.close()
    chaos.summary()
    failed = len(order) - passed
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    run_driver(main, tell)
