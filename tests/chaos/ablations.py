#!/usr/bin/env python3
"""Is each rule of durability strict needed, and would the judge notice? One at a time is taken out of the programs.

    rule ──► the sources, copied, with its line changed ──► built ──► rounds of a plan ──► judge: what is lost?
                                    the programs as they are ──► the same plan ──► judge: nothing

The plans keep to what strict promises with one acknowledgement: at most one member loses its memory. `--only` names some
rules, `--rounds` says how many a rule may take to show. tests/sim/ablations.h has all rules of a failover, simulated; these
are those that a real Redis can show by what its clients see. Needs root (network namespaces).
Ends with "N passed, N failed": each rule counts, and so does each plan with all rules.
"""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib"), str(HERE.parent / "bench")]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import netns  # noqa: E402
from cluster import BUILD  # noqa: E402
from faults import Fault, Plan  # noqa: E402
from sandbox import TOP, run_driver  # noqa: E402
from strict_chaos import Arm, tell  # noqa: E402

ROUNDS = 5
NOT_FOUND = 3  # exit status of who plays
PARTS = ("common", "controller", "proxy", "mrctl", "Makefile", ".ci")

# Nobody hears the master any more, then it dies with its host: what it says OK to meanwhile is gone with it.
UNHEARD = Plan(0, (Fault(0.0, "unplug", ("replica", "other"), 0.9), Fault(0.4, "unplug", ("master",), 2.5),
                   Fault(0.4, "kill", ("master",), 2.5)))
# Its replicas hear it, but can't say so; then it dies: what waits for their word was executed, and they have it.
UNANSWERED = Plan(0, (Fault(0.0, "mute", ("replica",), 0.6), Fault(0.0, "mute", ("other",), 0.6),
                      Fault(0.3, "kill", ("master",), 1.5)))
# One replica alone acknowledges, and stands still when the master dies; the other one, back by then, lacks what it has.
ONE_HAS_IT = Plan(0, (Fault(0.0, "unplug", ("other",), 0.8), Fault(0.6, "stop", ("replica",), 2.0),
                      Fault(0.62, "kill", ("master",), 2.5)))
# The same, but that one loses its memory instead, when the master is cut off.
ONE_HAD_IT = Plan(0, (Fault(0.0, "unplug", ("other",), 0.8), Fault(0.6, "kill", ("replica",), 0.0),
                      Fault(0.6, "stop", ("master",), 3.0)))


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule, the lines that it is, what stands there without it, and what that shows in a verdict (strict_history.py)."""

    name: str  # as tests/sim/ablations.h calls it
    told: str
    changes: tuple  # (file, text, text instead)
    plan: Plan
    shows: str


RULES = (
    Rule("hold", "replies are held until `acks` replicas have the write", (
        ("proxy/core/durable.c", "return d->on ? d->next : 0;", "return 0 * d->next;"),), UNHEARD, "lost"),
    Rule("marker", "a marker goes before `WAIT`", (
        ("proxy/acks.c", r'DURABLE_MARKER "*3\r\n$4\r\nWAIT', r'"*3\r\n$4\r\nWAIT'),
        ("proxy/acks.c", "acks_format(a, acks, text), 1)", "acks_format(a, acks, text), 0)"),
        # Where there is one client only: it wouldn't understand the answer.
        ("proxy/acks.c", "if (!a || !a->open || a->refused || a->inline_refused", "if (!a || !a->inline_refused")),
         UNHEARD, "lost"),
    Rule("show", "reads of what isn't acknowledged are held", (
        ("proxy/core/durable.c", "if (!d->on || (marks == 0 && last <= d->acked))",
         "if (!d->on || marks + last < UINT64_MAX)"),), UNHEARD, "vanished"),
    Rule("retry", "the proxy never repeats a write by itself", (
        ("proxy/core/request.c", "out->repeatable = c->flags & (COMMAND_READONLY | COMMAND_REPLAY);",
         "out->repeatable = true;"),
        ("proxy/core/request.c", "out->repeatable = !out->blocking && (read || ",
         "out->repeatable = !out->blocking || (read && "),
        ("proxy/core/session_durable.c", "return s->work->reply.type == '-' ? HOLD_UNKNOWN : HOLD_UNACKED;",
         "return s ? HOLD_SEND : HOLD_UNKNOWN;")), UNANSWERED, "wrong"),
    Rule("quorum", "all but `acks` of the registered members must be sealed and count", (
        ("controller/core/select.c", "i->n_members > p->acks ? i->n_members - p->acks : 1;",
         "i->n_members > p->acks ? 1 : 1;"),), ONE_HAS_IT, "lost"),
    Rule("run-id", "who restarted doesn't count before it is in step with its master", (
        ("controller/core/select.c", "if (strcmp(registered->run_id, m->info.run_id) != 0)",
         "if (registered->run_id == m->info.run_id)"),), ONE_HAD_IT, "lost"),
)


def ablate(rule, top):
    """{file: its text without the rule}; ValueError: the rule doesn't stand where it is thought to."""
    texts = {}
    for file, text, instead in rule.changes:
        known = texts.get(file) or (top / file).read_text(encoding="utf-8")
        if known.count(text) != 1:
            raise ValueError(f"{rule.name}: {known.count(text)} times in {file}: {text}")
        texts[file] = known.replace(text, instead)
    return texts


def build(rule, folder):
    """The programs without the rule, under folder/build. What is built already is taken over."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in PARTS:
        subprocess.run(["cp", "-a", TOP / part, folder], check=True)
    (folder / "build").mkdir()
    for part in ("obj", "lib", "flags"):
        subprocess.run(["cp", "-a", BUILD / part, folder / "build"], check=True)
    for file, text in ablate(rule, folder).items():
        (folder / file).write_text(text, encoding="utf-8")
    subprocess.run(["make", "-C", folder, "--no-print-directory", f"-j{os.cpu_count()}", "programs"], check=True,
                   stdout=subprocess.DEVNULL, env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")})
    return folder / "build"


def play(rule, rounds, demanded):
    """Rounds on a stage of the programs that MR_BUILD names. demanded: ends as soon as a verdict shows that; "": nothing
    may be broken. Returns the exit status."""
    arm = Arm("strict")
    try:
        for number in range(rounds):
            played = arm.play_plan(dataclasses.replace(rule.plan, seed=number + 1))
            if played is None:
                return 1
            tell(f"{rule.name}: round {number + 1}: {played.line('strict')}")
            if not demanded and played.problems:
                tell("\n".join(played.problems))
                return 1
            if demanded and getattr(played.verdict, demanded):
                return 0
        return NOT_FOUND if demanded else 0
    finally:
        arm.abandon()


def played_by(build_folder, rule, rounds, demanded):
    """In a process of its own: the programs are those of that build."""
    return subprocess.run([sys.executable, __file__, "--play", rule.name, "--rounds", str(rounds), "--demand", demanded],
                          check=False, env={**os.environ, "MR_BUILD": str(build_folder)}).returncode


def prove(rule, rounds):
    """How many of its two halves failed."""
    failed = 0
    for demanded in ("", rule.shows):
        try:
            folder = build(rule, BUILD / "ablated" / rule.name) if demanded else BUILD
            status = played_by(folder, rule, rounds, demanded)
        except (ValueError, subprocess.CalledProcessError) as error:
            tell(f"{rule.name}: it can't be taken out: {error}")
            status = 1
        says = {0: f"the judge found what is {demanded}" if demanded else "nothing is broken",
                NOT_FOUND: f"the judge found nothing {demanded} in {rounds} rounds"}.get(status, "failed")
        tell(f"{'FAIL ' if status else 'ok   '} {rule.name}, {'without' if demanded else 'with all rules'}: {says}")
        failed += status != 0
    return failed


def parse(argv):
    parser = argparse.ArgumentParser(prog="ablations.py", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(r.name for r in RULES), help="some of the rules")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"in which a rule must show ({ROUNDS})")
    parser.add_argument("--play", help=argparse.SUPPRESS)
    parser.add_argument("--demand", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    known = {rule.name: rule for rule in RULES}
    unknown = [name for name in options.only.split(",") if name not in known]
    if unknown or options.rounds < 1:
        parser.error(f"no rule is called {unknown[0]}" if unknown else "--rounds is too small")
    options.rules = [known[name] for name in options.only.split(",")]
    options.play = known.get(options.play)
    return options


def main(argv):
    options = parse(argv)
    netns.demand("ablations")
    if options.play:
        return play(options.play, options.rounds, options.demand)
    for rule in options.rules:
        tell(f"{rule.name}: {rule.told}")
    failed = sum(prove(rule, options.rounds) for rule in options.rules)
    print(f"{2 * len(options.rules) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    run_driver(main, tell)
