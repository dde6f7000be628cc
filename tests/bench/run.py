#!/usr/bin/env python3
"""Measures failovers: `run.py failover` beside Sentinel's and the floor, `run.py scale` among 1,000 instances,
`run.py outages` each kind of loss beside Sentinel, `run.py soak` what must not be taken for a loss. `run.py proxy`
measures the data path beside HAProxy and nutcracker, `run.py strict` durability strict beside async.

outages and soak run on hosts in network namespaces (root), the others on loopback; all in a folder that is removed, and
what they start ends with this program, on Ctrl-C too.
"""

import argparse
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import arms  # noqa: E402
import proxy  # noqa: E402
import proxy_table  # noqa: E402
import strict  # noqa: E402
import strict_table  # noqa: E402
import table  # noqa: E402
from failover import Floor, MrRedis, MrRedisStrict, Sentinel  # noqa: E402
from outages import FAULTS, measure_outages, outage_lines  # noqa: E402
from sandbox import TOP, Sandbox, run_driver  # noqa: E402
from scale import measure_scale, scale_lines  # noqa: E402
from soak import measure_soak, soak_lines  # noqa: E402

QUICK_KILLS = 3
CONTENDERS = {
    "floor": Floor,
    "mr-redis": MrRedis,
    "mr-redis-strict": MrRedisStrict,
    "sentinel-1000": lambda *args: Sentinel(*args, down_after_ms=1000),
    "sentinel-5000": lambda *args: Sentinel(*args, down_after_ms=5000),
}


def tell(line):
    print(line, file=sys.stderr, flush=True)


def in_sandbox(work):
    """work(sandbox) with a sandbox that is closed whatever happens; shows the logs' ends after a failure."""
    sandbox = Sandbox()
    try:
        result = work(sandbox)
    except BaseException as error:
        if isinstance(error, Exception):
            for name, tail in sandbox.log_tails():
                tell(f"---- {name}\n{tail}")
        try:
            sandbox.close()
        except AssertionError as problem:
            tell(str(problem))
        raise
    sandbox.close()
    return result


def measure_failover(options, big):
    def one(name):
        def work(sandbox):
            contender = CONTENDERS[name](sandbox, options.gap_us, big)
            contender.run(options.kills, tell)
            return table.summary(contender)
        return in_sandbox(work)
    results = [one(name) for name in options.only]
    print("\n".join(table.failover_lines(results, big)), flush=True)
    return results


def measure_proxy(options):
    """Prints before the sandbox closes: what was measured outlives a proxy that crashed."""
    def work(sandbox):
        results = proxy.measure_proxy(sandbox, options, tell)
        print("\n".join(proxy_table.proxy_lines(results)), flush=True)
        if options.write_readme:
            proxy_table.write_readme(TOP / "README.md", results)
        return results
    return in_sandbox(work)


def measure_strict(options):
    results = strict.measure_strict(in_sandbox, options, tell)
    print("\n".join(strict_table.strict_lines(results)), flush=True)
    if options.write_readme:
        strict_table.write_readme(TOP / "README.md", results)
    return results


def parse(argv):
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("what", nargs="?", default="failover",
                        choices=["failover", "scale", "outages", "soak", "proxy", "strict", "all"],
                        help="all: failover and scale")
    parser.add_argument("--quick", action="store_true",
                        help=f"a smoke test: {QUICK_KILLS} kills, 50 instances, few cells")
    parser.add_argument("--kills", type=int, default=20, help="rounds of each contender (20)")
    parser.add_argument("--gap-us", type=int, default=100, help="the client's pause between writes, microseconds (100)")
    parser.add_argument("--big", action="store_true", help="failover: again with 1 GB in the master")
    parser.add_argument("--only", help=f"failover: some of {','.join(CONTENDERS)}; "
                        f"proxy: of {','.join(proxy.ARMS)}; strict: of {','.join(strict.ARMS)}")
    parser.add_argument("--instances", type=int, default=1000, help="scale: how many (1000)")
    parser.add_argument("--rounds", type=int, default=10, help="outages: rounds of each kind (10)")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"outages: some of {','.join(FAULTS)}")
    parser.add_argument("--no-sentinel", action="store_true", help="outages: without Sentinel")
    parser.add_argument("--minutes", type=float, default=30, help="soak: how long (30)")
    parser.add_argument("--seed", type=int, help="soak, proxy, strict: of the order of what is done; printed")
    parser.add_argument("--disk", type=Path, default=Path.cwd() / "build",
                        help="soak: a folder on a real disk, for the members' files (build)")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE as well")
    proxy.add_arguments(parser)
    options = parser.parse_args(argv)
    try:
        for variant in options.variant:
            arms.add_variant(variant)
    except ValueError as error:
        parser.error(str(error))
    known = {"proxy": proxy.ARMS, "strict": strict.ARMS}.get(options.what, CONTENDERS)
    options.only, options.faults = options.only.split(",") if options.only else list(known), options.faults.split(",")
    unknown = [name for name in options.only if name not in known]
    unknown += [name for name in options.faults if name not in FAULTS]
    if unknown or min(options.kills, options.instances, options.rounds) < 1 or options.gap_us < 0:
        parser.error(f"nothing is called {unknown[0]}" if unknown else "a number is too small")
    if options.quick:
        options.kills = options.rounds = QUICK_KILLS
        options.instances = min(options.instances, 50)
    (strict if options.what == "strict" else proxy).check_arguments(parser, options)
    return options


def main(argv):
    options = parse(argv)
    results = {"processors": os.cpu_count()}
    if options.what in ("failover", "all"):
        results["failover"] = measure_failover(options, big=False)
        if options.big:
            results["failover_1gb"] = measure_failover(options, big=True)
    if options.what in ("scale", "all"):
        results["scale"] = in_sandbox(lambda sandbox: measure_scale(sandbox, options, tell))
        print("\n".join(scale_lines(results["scale"])), flush=True)
    if options.what == "outages":
        results["outages"] = in_sandbox(lambda sandbox: measure_outages(sandbox, options, tell))
        print("\n".join(outage_lines(results["outages"])), flush=True)
    if options.what == "soak":
        results["soak"] = in_sandbox(lambda sandbox: measure_soak(sandbox, options, tell))
        print("\n".join(soak_lines(results["soak"])), flush=True)
    if options.what == "proxy":
        results["proxy"] = measure_proxy(options)
    if options.what == "strict":
        results["strict"] = measure_strict(options)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 1 if any(results.get(name, {}).get("failures") for name in ("proxy", "strict")) else 0


if __name__ == "__main__":
    run_driver(main, tell)
