"""Redis' own test suite, direct and through a proxy: the same tests must pass.

Each unit runs against a fresh server in the suite's mode for external servers, twice. Which tests passed is compared
name by name; what may differ is listed in not_through_a_proxy.txt, each with its reason.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

from lone_proxy import LoneProxy  # noqa: E402
from sandbox import Sandbox  # noqa: E402
from servers import Redis  # noqa: E402
from wait import SLOWNESS  # noqa: E402

LISTED = HERE / "not_through_a_proxy.txt"
UNIT_LIMIT_S = 600 * SLOWNESS

# What runs against an external server at all. The others start servers of their own (replication, AOF, TLS, clusters,
# modules), or say of themselves that they are not for external ones (ACL, AUTH, INFO, maxmemory …).
UNITS = """
    unit/bitfield unit/bitops unit/dump unit/expire unit/functions unit/geo unit/hyperloglog unit/info-command
    unit/introspection unit/introspection-2 unit/keyspace unit/latency-monitor unit/lazyfree unit/multi unit/other
    unit/protocol unit/pubsub unit/querybuf unit/quit unit/replybufsize unit/scan unit/scripting unit/slowlog unit/sort
    unit/tracking unit/violations
    unit/type/hash unit/type/incr unit/type/list unit/type/list-2 unit/type/list-3 unit/type/set unit/type/stream
    unit/type/stream-cgroups unit/type/string unit/type/zset
""".split()
# The most telling for the time they take: what connections, framing and state are about.
QUICK = """
    unit/functions unit/introspection unit/keyspace unit/multi unit/protocol unit/pubsub unit/quit unit/scripting
    unit/tracking unit/type/incr unit/type/list unit/type/stream-cgroups
""".split()

COLOR = re.compile(r"\x1b\[[0-9;]*m")
RESULT = re.compile(r"^\[(ok|err|exception|skip|ignore)\]: (.*)$")


class Outcome:
    """What a run of one unit said: how often each named test passed, and what went wrong."""

    def __init__(self, unit, text, status):
        self.passed, self.failed, self.denied, self.details = Counter(), Counter(), {}, []
        lines = COLOR.sub("", text).splitlines()
        for number, line in enumerate(lines):
            found = RESULT.match(line)
            if not found or found[1] == "skip":
                continue
            if found[1] == "ignore":
                name, _, why = found[2].rpartition(": Tag: ")
                if why.endswith(" denied"):
                    self.denied[name] = why.removesuffix(" denied")
                continue
            if found[1] == "ok":
                self.passed[re.sub(r" \(\d+ ms\)$", "", found[2])] += 1
                continue
            name = re.sub(rf" in tests/{re.escape(unit)}\.tcl$", "", found[2])
            self.failed[name if found[1] == "err" else "(the unit ended early)"] += 1
            self.details.append("\n".join(lines[number:number + 6]))
        if status is None or not any(line.strip() == "The End" for line in lines):
            self.failed["(the unit ended early)"] += 1
            self.details.append("\n".join(lines[-12:]))


def run_unit(source, sandbox, port, unit, listed):
    """listed: what is not to be run; None: all is."""
    log = sandbox.folder / f"{unit.replace('/', '-')}-{port}.log"
    argv = ["./runtest", "--host", "127.0.0.1", "--port", str(port), "--baseport", str(sandbox.ports.block(32) + 32),
            "--durable", "--clients", "1", "--single", unit, "--timeout", str(int(UNIT_LIMIT_S / 2))]
    if listed and listed.tags:
        argv += ["--tags", " ".join(f"-{tag}" for tag in listed.tags)]
    for test in listed.skipped_of(unit) if listed else ():
        argv += ["--skiptest", test]
    with open(log, "wb") as out:
        run = subprocess.Popen(argv, cwd=source, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                               start_new_session=True)
    try:
        status = run.wait(UNIT_LIMIT_S)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        # The suite's driver leaves its children behind when it is ended early.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    return Outcome(unit, log.read_text(encoding="utf-8", errors="replace"), status)


def run_fresh(source, unit, proxied, listed):
    """Against a fresh server, with a proxy in front or not."""
    sandbox = Sandbox()
    try:
        # What the suite's own configuration differs in from a server's defaults, as far as tests lean on it.
        server = Redis(sandbox, "redis", options=["--latency-monitor-threshold", "1",
                                                  "--enable-protected-configs", "yes", "--set-proc-title", "no"])
        port = LoneProxy(sandbox, server).port if proxied else server.port
        return run_unit(source, sandbox, port, unit, listed if proxied else None)
    finally:
        sandbox.close()


class Listed:
    """The lines of not_through_a_proxy.txt."""

    def __init__(self, path):
        self.tags, self.skipped, self.failing, self.used = {}, {}, {}, set()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = [field.strip() for field in line.split(" | ")]
            if fields[0] == "tag" and len(fields) == 3:
                self.tags[fields[1]] = fields[2]
            elif fields[0] in ("skipped", "fails") and len(fields) == 4:
                (self.skipped if fields[0] == "skipped" else self.failing)[fields[1], fields[2]] = fields[3]
            else:
                raise SystemExit(f"{path}:{number}: not as the file's first lines say")

    def skipped_of(self, unit):
        return [test for of, test in self.skipped if of == unit]

    def excuses(self, unit, test, proxied):
        if test in proxied.denied:
            return proxied.denied[test] in self.tags
        if (unit, test) in self.failing:
            self.used.add((unit, test))
            return True
        return (unit, test) in self.skipped and proxied.failed[test] == 0

    def unused(self, units):
        return [key for key in self.failing if key[0] in units and key not in self.used]


def differences(direct, proxied):
    """Tests that did not pass as often through the proxy, or failed where they had not failed."""
    names = set(direct.passed) | set(proxied.failed)
    return sorted(name for name in names
                  if proxied.passed[name] < direct.passed[name] or proxied.failed[name] > direct.failed[name])


class Comparison:
    """One unit both ways."""

    def __init__(self, source, unit, listed):
        started = time.monotonic()
        self.direct, self.proxied = run_fresh(source, unit, False, listed), run_fresh(source, unit, True, listed)
        differ = differences(self.direct, self.proxied)
        self.new = [test for test in differ if not listed.excuses(unit, test, self.proxied)]
        self.listed = len(differ) - len(self.new)
        if not self.direct.passed:
            self.new.append("(no test passed, direct neither)")
        self.passed, self.took_s = sum(self.proxied.passed.values()), time.monotonic() - started

    def show(self, unit, word):
        print(f"{word}  {unit:24} {self.passed:4} passed through the proxy, {self.listed} listed as not, "
              f"{sum(self.direct.failed.values())} failed direct  {self.took_s:4.0f} s")
        for test in self.new:
            print(f"      through the proxy only: {test}")
        for test in sorted(self.direct.failed):
            print(f"      direct: {test}")
        for way, outcome in (("direct", self.direct), ("through the proxy", self.proxied)) if self.new else ():
            for detail in outcome.details:
                print(f"    {way}: " + detail.replace("\n", "\n      "))
        sys.stdout.flush()


def compare(source, unit, listed):
    """Returns how many tests passed and how many differ."""
    first = Comparison(source, unit, listed)
    if not first.new:
        first.show(unit, "ok  ")
        return first.passed, 0
    # Many of these tests measure time, and a loaded machine makes one late now and then: what differs, differs twice.
    first.show(unit, "once")
    second = Comparison(source, unit, listed)
    second.new = [test for test in second.new if test in first.new]
    second.show(unit, "FAIL" if second.new else "ok  ")
    return second.passed, len(second.new)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder of Redis' source (fetch.sh prints it)")
    parser.add_argument("--quick", action="store_true", help="only some units, a minute or so")
    parser.add_argument("units", nargs="*")
    options = parser.parse_args()
    units = options.units or (QUICK if options.quick else UNITS)
    listed, good, bad = Listed(LISTED), 0, 0
    for unit in units:
        passed, differ = compare(options.source, unit, listed)
        good, bad = good + passed, bad + differ
    for unit, test in listed.unused(units):
        print(f"FAIL  {unit}: `{test}` is listed, but works")
        bad += 1
    print(f"{good} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
