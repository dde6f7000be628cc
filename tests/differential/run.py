"""The same random command streams direct and through a proxy (differential.c): starts what it needs."""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from cluster import BUILD  # noqa: E402
from lone_proxy import LoneProxy  # noqa: E402
from sandbox import Sandbox, end_as_by_ctrl_c  # noqa: E402
from servers import Redis  # noqa: E402
from wait import SLOWNESS  # noqa: E402


def run_once(seed, seconds, threads, durability):
    """Fresh servers and a fresh proxy; returns whether all was the same. Sanitizer reports raise. strict: both have a
    replica. By some seeds the proxy reads and writes one socket at a time."""
    sandbox = Sandbox()
    try:
        direct, behind = Redis(sandbox, "direct"), Redis(sandbox, "behind")
        if durability == "strict":
            for master in (direct, behind):
                Redis(sandbox, f"{master.name}-replica", replica_of=master)
                master.wait_replicated(1)
        plain = ["--no-io-uring"] if random.Random(seed).random() < .3 else []
        proxy = LoneProxy(sandbox, behind, "--threads", threads, *plain, durability=durability)
        run = subprocess.run([BUILD / "tests/differential/differential", "--direct", str(direct.port), "--proxied",
                              str(proxy.port), "--seed", str(seed), "--seconds", str(seconds), "--limit-s",
                              str(int(30 * SLOWNESS)), *(["--replicas"] if durability == "strict" else [])], check=False)
        if run.returncode != 0:
            for name, text in sandbox.log_tails():
                print(f"--- end of {name}\n{text}")
        return run.returncode == 0
    finally:
        sandbox.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--durability", choices=["async", "strict"], help="default: async and strict in turns")
    parser.add_argument("--each-s", type=int, default=60, help="new processes so often")
    options = parser.parse_args()
    end_as_by_ctrl_c()
    seed = random.randrange(1 << 40) if options.seed is None else options.seed
    until, passed, failed = time.monotonic() + options.seconds, 0, 0
    while failed == 0 and (passed == 0 or time.monotonic() < until):
        seconds = max(1, min(options.each_s, options.seconds // 2, int(until - time.monotonic())))
        durability = options.durability or ("async", "strict")[passed % 2]
        try:
            same = run_once(seed, seconds, 1 + passed // 2 % 2, durability)
        except AssertionError as error:
            print(error)
            same = False
        passed, failed = passed + same, failed + (not same)
        seed += 1 << 20
        sys.stdout.flush()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
