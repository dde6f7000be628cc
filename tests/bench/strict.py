"""Durability strict on the data path, beside async, a direct connection, and clients that send SET and WAIT themselves.

Two places: "loopback" has a replica beside its master, "delayed" one behind a relay that adds 1 ms each way. A cell is
who asks where: (place, writers, readers, pipeline). All arms of a cell are measured one after the other, in an order
shuffled anew each time, by the same load generator (strict_load.c); each repeat goes through all cells in an order of
its own. A ratio is the median of the repeats' ratios. Failovers: the outage of a killed master, async and strict in
turns.
"""

import collections
import fnmatch
import json
import os
import random
import statistics
import subprocess
import time
import types

from arms import cpu_ns, raise_open_files
from failover import MrRedis, MrRedisStrict, mr_cluster, program
from lone_proxy import LoneProxy
from proxy import kernel_settings, versions
from servers import LOOPBACK, Redis
from table import ratio_of, summary
from talk import Talker, poll

DELAY_US = 1000
PLACES = ("loopback", "delayed")
CLIENTS, PIPELINES = (1, 50, 500), (1, 16)
MIXED = (25, 25)
KEYS = 100000
VALUE = "xxx"  # strict_load.c's
FILL = 1000
REPEATS, SECONDS = 5, 0.7
QUICK_REPEATS, QUICK_SECONDS = 1, 0.1
QUICK_CELLS = "*:50:0:1,delayed:25:25:1"
RUN_LIMIT_S = 60
WARM_UP = 0.1  # of the time, that strict_load.c adds
ARMS = {
    "direct": "direct",
    "set-wait": "direct, SET + WAIT",
    "async": "mr-proxy, async",
    "async-set-wait": "mr-proxy, async, SET + WAIT",
    "strict": "mr-proxy, strict",
}
PARTS = ("throughput", "failover")
REAL_TIME = ["chrt", "--fifo", "50"] if os.geteuid() == 0 else []


class Cell(collections.namedtuple("Cell", "place writers readers pipeline")):
    """What is asked: "delayed:25:25:1"."""

    def __str__(self):
        return ":".join(map(str, self))


def all_cells():
    for place in PLACES:
        for pipeline in PIPELINES:
            for clients in CLIENTS:
                yield Cell(place, clients, 0, pipeline)
        yield Cell(place, *MIXED, 1)


def cells_of(patterns):
    return [cell for cell in all_cells() if any(fnmatch.fnmatchcase(str(cell), pattern) for pattern in patterns)]


class Place:
    """A master with a replica, and two proxies that know nothing but it."""

    def __init__(self, sandbox, name, delay_us, arms):
        self.master = Redis(sandbox, f"{name}-master", options=["--maxclients", "4000", "--tcp-backlog", "4096"])
        towards = self.master
        if delay_us:
            # It stands for a wire, which waits for no processor.
            relay = Talker(sandbox, [*REAL_TIME, program("delay_relay"), "--to", self.master.address, "--delay-us",
                                     delay_us])
            towards = types.SimpleNamespace(place=LOOPBACK, port=relay.hear("ready")["port"])
        self.replica = Redis(sandbox, f"{name}-replica", replica_of=towards)
        poll(self.replicates, f"the replica of {name} to acknowledge")
        self.proxies = {durability: LoneProxy(sandbox, self.master, "--log-level", "error", durability=durability,
                                              name=f"mr-proxy-{name}-{durability}")
                        for durability in ("async", "strict") if any(arm.startswith(durability) for arm in arms)}
        with self.master.client() as client:
            for start in range(0, KEYS, FILL):
                client.pipeline([("SET", f"{kind}:{key:08}", VALUE) for key in range(start, start + FILL)
                                 for kind in "rw"])

    def replicates(self):
        with self.master.client() as client:
            client.call("PUBLISH", "marker", "")
            return client.call("WAIT", 1, 100) == 1

    def proxy(self, arm):
        """The one that the arm goes through; None: straight to the master."""
        return self.proxies.get(arm.split("-", maxsplit=1)[0])

    def settle(self):
        """All that was written has reached the replica: what is measured next owes nothing."""
        poll(self.replicates, "the replica to have all", pause_s=0.005)


def load(port, cell, wait, duration_s):
    """One run of strict_load.c."""
    argv = [program("strict_load"), "--port", port, "--writers", cell.writers, "--readers", cell.readers,
            "--depth", cell.pipeline, "--wait", wait, "--keys", KEYS, "--duration-ms", round(1000 * duration_s)]
    run = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    if run.returncode != 0:
        raise AssertionError(f"strict_load: exit {run.returncode}: {run.stderr}")
    sample = json.loads(run.stdout)
    if sample["errors"]:
        raise AssertionError(f"strict_load: {sample['errors']} errors")
    return sample


class Throughput:
    def __init__(self, sandbox, options, tell):
        self.options, self.tell = options, tell
        self.samples = collections.defaultdict(dict)  # (cell, arm) → repeat → sample
        self.failures = []
        wanted = {cell.place for cell in cells_of(options.strict_cells)}
        self.places = {name: Place(sandbox, name, DELAY_US if name == "delayed" else 0, options.only)
                       for name in PLACES if name in wanted}

    def measure(self, cell, arm):
        place = self.places[cell.place]
        place.settle()
        proxy = place.proxy(arm)
        busy = {"redis": place.master.process.pid, "replica": place.replica.process.pid}
        if proxy:
            busy["proxy"] = proxy.process.pid
        before = {name: cpu_ns(pid) for name, pid in busy.items()}
        sample = load((proxy or place.master).port, cell, 1 if "wait" in arm else 0, self.options.seconds)
        answers = (sample["write"]["per_s"] + sample["read"]["per_s"]) * self.options.seconds * (1 + WARM_UP)
        for name, pid in busy.items():
            sample[f"{name}_us"] = (cpu_ns(pid) - before[name]) / 1000 / answers
        return sample

    def run(self, order):
        cells = cells_of(self.options.strict_cells)
        for repeat in range(self.options.repeats):
            began = time.monotonic()
            for cell in order.sample(cells, len(cells)):
                for arm in order.sample(self.options.only, len(self.options.only)):
                    try:
                        self.samples[cell, arm][repeat] = self.measure(cell, arm)
                    except (OSError, AssertionError, ValueError, subprocess.TimeoutExpired) as error:
                        self.failures.append(f"{ARMS[arm]}: {cell}: {' '.join(str(error).split())}")
                        self.tell(self.failures[-1])
            self.tell(f"strict: repeat {repeat + 1} of {self.options.repeats}: {time.monotonic() - began:.0f} s")

    def ratio(self, cell, arm, other, kind):
        """Median of the repeats' ratios; None: one of the two was not measured."""
        return ratio_of(*({repeat: sample[kind]["per_s"] for repeat, sample in self.samples[cell, name].items()}
                          for name in (arm, other)))

    def rows(self):
        """A dict for each cell and arm: medians."""
        for cell in cells_of(self.options.strict_cells):
            for arm in self.options.only:
                found = list(self.samples[cell, arm].values())
                if not found:
                    continue
                row = {"cell": str(cell), "arm": arm, "repeats": len(found)}
                for kind in [k for k, n in (("write", cell.writers), ("read", cell.readers)) if n]:
                    row[kind] = {key: statistics.median(sample[kind][key] for sample in found)
                                 for key in ("per_s", "p50_us", "p99_us")}
                    for other in ("async", "set-wait", "async-set-wait"):
                        row[kind][f"x_{other.replace('-', '_')}"] = self.ratio(cell, arm, other, kind)
                for name in ("redis_us", "replica_us", "proxy_us"):
                    row[name] = statistics.median(s[name] for s in found) if name in found[0] else None
                yield row




def measure_failovers(sandbox, options, tell):
    """Kills of an async and of a strict instance's master, one of each in turns: their summaries."""
    cluster = mr_cluster(sandbox)
    contenders = [kind(sandbox, options.gap_us, False, cluster) for kind in (MrRedis, MrRedisStrict)]
    for kill in range(options.kills):
        for contender in contenders:
            contender.rounds.append(contender.round())
            tell(f"{contender.title}: kill {kill + 1} of {options.kills}: "
                 f"{contender.rounds[-1]['outage_us'] / 1000:.1f} ms")
    for contender in contenders:
        contender.finish()
    return [summary(contender) for contender in contenders]


# ---- the bench -----------------------------------------------------------------------------------------------


def check_arguments(parser, options):
    """--cells and --part in this bench's words; ends with a usage error."""
    is_whole = options.cells == "*" and set(options.only) == set(ARMS) and options.part is None
    if options.write_readme and (options.quick or not is_whole):
        parser.error("--write-readme: into README belongs the whole, not --quick, nor some parts, cells or arms")
    options.part = options.part.split(",") if options.part else list(PARTS)
    unknown = [name for name in options.part if name not in PARTS]
    if options.quick:
        options.repeats, options.seconds, options.kills = QUICK_REPEATS, QUICK_SECONDS, 1
        options.cells = QUICK_CELLS if options.cells == "*" else options.cells
    options.strict_cells = options.cells.split(",")
    if unknown or options.repeats < 1 or options.seconds <= 0:
        parser.error(f"nothing is called {unknown[0]}" if unknown else "a number is too small")
    if not cells_of(options.strict_cells):
        parser.error(f"no cell is called {options.cells}")


def measure_strict(in_sandbox, options, tell):
    """in_sandbox(work): a sandbox for each part."""
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    tell(f"strict: seed {seed}")
    began = time.monotonic()
    results = {"seed": seed, "versions": {"Redis": versions()["Redis"]}, "kernel": kernel_settings(),
               "repeats": options.repeats, "seconds": options.seconds, "real_time": bool(REAL_TIME), "failures": []}

    def throughput(sandbox):
        raise_open_files()
        run = Throughput(sandbox, options, tell)
        run.run(random.Random(seed))
        results["throughput"], results["failures"] = list(run.rows()), run.failures
    if "throughput" in options.part:
        in_sandbox(throughput)
    if "failover" in options.part:
        results["failover"] = in_sandbox(lambda sandbox: measure_failovers(sandbox, options, tell))
    results["minutes"] = (time.monotonic() - began) / 60
    return results
