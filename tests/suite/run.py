"""Redis' own test suite, direct and through a proxy: the same tests must pass.

Each unit runs against a fresh server in the suite's mode for external servers, twice. Which tests passed is compared
name by name; what may differ is listed in not_through_a_proxy.txt, each with its reason.
"""

import argparse
import re
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
# modules), or are marked as a whole as not for external ones.
UNITS = """
    unit/acl unit/acl-v2 unit/aofrw unit/auth unit/bitfield unit/bitops unit/dump unit/expire unit/functions unit/geo
    unit/hyperloglog unit/info unit/info-command unit/introspection unit/introspection-2 unit/keyspace
    unit/latency-monitor unit/lazyfree unit/maxmemory unit/memefficiency unit/multi unit/networking unit/other
    unit/protocol unit/pubsub unit/pubsubshard unit/querybuf unit/quit unit/replybufsize unit/scan unit/scripting
    unit/slowlog unit/sort unit/tracking unit/violations
    unit/type/hash unit/type/incr unit/type/list unit/type/list-2 unit/type/list-3 unit/type/set unit/type/stream
    unit/type/stream-cgroups unit/type/string unit/type/zset
""".split()
# The most telling for the time they take: what connections, framing and state are about.
QUICK = """
    unit/keyspace unit/multi unit/protocol unit/pubsub unit/quit unit/scan unit/tracking unit/type/hash unit/type/incr
    unit/type/string
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


def run_unit(source, sandbox, port, unit, without_tags):
    log = sandbox.folder / f"{unit.replace('/', '-')}-{port}.log"
    with open(log, "wb") as out:
        argv = ["./runtest", "--host", "127.0.0.1", "--port", str(port), "--baseport",
                str(sandbox.ports.block(32) + 32), "--durable", "--clients", "1", "--single", unit,
                "--timeout", str(int(UNIT_LIMIT_S / 2))]
        if without_tags:
            argv += ["--tags", " ".join(f"-{tag}" for tag in without_tags)]
        run = subprocess.Popen(argv, cwd=source, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                               start_new_session=True)
        try:
            status = run.wait(UNIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            status = None
            run.kill()
            run.wait()
    return Outcome(unit, log.read_text(encoding="utf-8", errors="replace"), status)


def serve(unit, proxied):
    """A context: a fresh server, with a proxy in front or not."""
    sandbox = Sandbox()
    name = "redis"
    # What the suite's own default.conf differs in from a server's defaults, as far as tests lean on it.
    server = Redis(sandbox, name, options=[
        "--databases", "16", "--latency-monitor-threshold", "1", "--list-max-ziplist-size", "-2",
        "--enable-protected-configs", "yes", "--enable-module-command", "yes", "--notify-keyspace-events", "KEA",
        "--set-proc-title", "no"])
    server.call("CONFIG", "SET", "notify-keyspace-events", "")
    port = LoneProxy(sandbox, server).port if proxied else server.port
    return sandbox, port


def both(source, unit, without_tags):
    outcomes = []
    for proxied in (False, True):
        sandbox, port = serve(unit, proxied)
        try:
            outcomes.append(run_unit(source, sandbox, port, unit, without_tags if proxied else ()))
        finally:
            sandbox.close()
    return outcomes


class Listed:
    """The lines of not_through_a_proxy.txt: `unit | test | reason`, where a test may end in * for any that begins so;
    and `tag | name | reason`."""

    def __init__(self, path):
        self.entries, self.tags, self.used = [], {}, set()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = [field.strip() for field in line.split(" | ")]
            if len(fields) != 3 or not all(fields):
                raise SystemExit(f"{path}:{number}: not `unit | test | reason`")
            if fields[0] == "tag":
                self.tags[fields[1]] = fields[2]
            else:
                self.entries.append(tuple(fields))

    def reason(self, unit, test, proxied):
        if test in proxied.denied:
            return self.tags[proxied.denied[test]]
        for entry in self.entries:
            name = entry[1]
            if entry[0] == unit and (test == name or (name.endswith("*") and test.startswith(name[:-1]))):
                self.used.add(entry)
                return entry[2]
        return None

    def unused(self, units):
        return [entry for entry in self.entries if entry[0] in units and entry not in self.used]


def differences(direct, proxied):
    """Tests that did not pass as often through the proxy, or failed where they had not failed."""
    names = set(direct.passed) | set(proxied.failed)
    return sorted(name for name in names
                  if proxied.passed[name] < direct.passed[name] or proxied.failed[name] > direct.failed[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder of Redis' source (fetch.sh prints it)")
    parser.add_argument("--quick", action="store_true", help="only the units that take a few seconds each")
    parser.add_argument("--verbose", action="store_true", help="show what failed in either run")
    parser.add_argument("units", nargs="*")
    options = parser.parse_args()
    units = options.units or (QUICK if options.quick else UNITS)
    listed, good, bad = Listed(LISTED), 0, 0
    for unit in units:
        started = time.monotonic()
        direct, proxied = both(options.source, unit, listed.tags)
        new = []
        for test in differences(direct, proxied):
            reason = listed.reason(unit, test, proxied)
            if reason is None:
                new.append(test)
        if not direct.passed:
            new.append("(no test passed, direct neither)")
        same = sum(proxied.passed.values())
        good, bad = good + same, bad + len(new)
        print(f"{'FAIL' if new else 'ok  '}  {unit:24} {same:4} passed both ways, {sum(direct.failed.values())} failed "
              f"both ways or direct, {len(differences(direct, proxied)) - len(new)} listed  "
              f"{time.monotonic() - started:4.0f} s", flush=True)
        for test in new:
            print(f"      through the proxy only: {test}")
        if new or options.verbose:
            for detail in direct.details:
                print("    direct: " + detail.replace("\n", "\n      "))
            for detail in proxied.details:
                print("    through the proxy: " + detail.replace("\n", "\n      "))
    for unit, test, _ in listed.unused(units):
        print(f"FAIL  {unit}: `{test}` is listed, but works")
        bad += 1
    print(f"{good} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
