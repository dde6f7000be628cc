"""The proxy's data path beside a direct connection, HAProxy and nutcracker, all in one call.

throughput: redis-benchmark's SET and GET. A cell is what is asked (op, size, clients, pipeline); each repeat goes
through all cells in an order of its own, and through all arms of a cell one after the other, so that what is compared
was measured within seconds. A ratio is the median of the repeats' ratios. The other parts: proxy_limits.py.
"""

import collections
import csv
import fnmatch
import itertools
import random
import re
import statistics
import subprocess
import time
from pathlib import Path

import proxy_limits
from arms import ALONE, ARMS, CPUS, MODES, USUAL_MODES, core_of, cpu_ns, set_up
from processors import pin

KB, MB = 1024, 1024 * 1024
SIZES = {"3": 3, "1k": KB, "64k": 64 * KB, "1m": MB}
CLIENTS, PIPELINES, OPS = (1, 50, 500), (1, 16), ("set", "get")
IN_FLIGHT_MAX = 64 * MB
RULE = "left out: P = 16 over 1 KB or with one client; more than 64 MB on the way (clients x P x size)"
ONE_CORE = "one core: only 3 B and more than one client, c = 500 only with P = 1"
PARTS = ("idle", "slow", "latency", "fairness", "busy", "throughput")
REPEATS, SECONDS = 5, 0.7
CHOICE_REPEATS = 3
QUICK_REPEATS, QUICK_SECONDS = 2, 0.1
QUICK_CELLS = "*:3:50:*,get:64k:50:1"
CALIBRATE_BYTES, CALIBRATE_MIN, CALIBRATE_MAX = 32 * MB, 50, 5000
OVERHEAD_S = 0.2  # of a run: start, connections, the pause between two
RUN_LIMIT_S = 30
KEY = "key:__rand_int__"  # redis-benchmark's, as long as it isn't told to vary keys


class Cell(collections.namedtuple("Cell", "op size clients pipeline")):
    """What is asked: "get:3:50:16"."""

    @property
    def size_name(self):
        return next(name for name, size in SIZES.items() if size == self.size)

    def __str__(self):
        return f"{self.op}:{self.size_name}:{self.clients}:{self.pipeline}"


def is_sensible(cell):
    """RULE"""
    if cell.pipeline > 1 and (cell.size > KB or cell.clients == 1):
        return False
    return cell.clients * cell.pipeline * cell.size <= IN_FLIGHT_MAX


def is_one_core(cell):
    """ONE_CORE"""
    return cell.size == 3 and cell.clients > 1 and (cell.clients == 50 or cell.pipeline == 1)


def cells_of(mode, patterns):
    every = map(Cell._make, itertools.product(OPS, SIZES.values(), CLIENTS, PIPELINES))
    return [cell for cell in every if is_sensible(cell) and (mode != "onecore" or is_one_core(cell))
            and any(fnmatch.fnmatchcase(str(cell), pattern) for pattern in patterns)]


class BenchmarkError(AssertionError):
    """redis-benchmark could not measure."""


def benchmark(host, port, cell, requests, cpus):
    """One run of redis-benchmark: requests a second, p50 and p99 in microseconds."""
    argv = ["taskset", "-c", ",".join(map(str, cpus)), "redis-benchmark", "-h", host, "-p", port, "-t", cell.op,
            "-c", cell.clients, "-P", cell.pipeline, "-d", cell.size, "-n", requests, "--csv"]
    try:
        run = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"redis-benchmark did not end within {RUN_LIMIT_S} s") from None
    lines = run.stdout.splitlines()
    head = next((number for number, line in enumerate(lines) if line.startswith('"test"')), None)
    row = next(csv.DictReader(lines[head:]), None) if head is not None else None
    if run.returncode != 0 or not row or float(row["rps"]) <= 0:
        raise BenchmarkError(f"redis-benchmark: exit {run.returncode}: {(run.stderr or run.stdout)[-300:]}")
    return {"rps": float(row["rps"]), "p50_us": 1000 * float(row["p50_latency_ms"]),
            "p99_us": 1000 * float(row["p99_latency_ms"])}


class Throughput:
    def __init__(self, redis, arms, options, tell):
        self.redis, self.arms, self.options, self.tell = redis, arms, options, tell
        self.samples = collections.defaultdict(dict)  # (mode, cell, arm's name) → repeat → sample
        self.rates = {}  # the same keys → requests a second, of late

    # ---- one run -----------------------------------------------------------------------------------------------

    def prepare(self, mode, cell):
        """Everybody on the CPUs of the mode; the value that is read."""
        pin(self.redis.process.pid, core_of(mode, "redis"))
        for arm in self.arms_of(mode):
            arm.port(cell.size)
            arm.pin(mode)
        with self.redis.client() as client:
            client.call("SET", KEY, "x" * cell.size)

    def requests(self, mode, cell, name):
        """So many that a run takes options.seconds: by the arm's own rate, at first by that of a direct connection."""
        rate = self.rates.get((mode, cell, name)) or self.rates.get((mode, cell, "direct"))
        if rate is None:
            few = max(CALIBRATE_MIN, cell.clients, min(CALIBRATE_MAX, CALIBRATE_BYTES // cell.size))
            rate = benchmark("127.0.0.1", self.redis.port, cell, few, core_of(mode, "client"))["rps"]
            self.rates[mode, cell, "direct"] = rate
        return max(CALIBRATE_MIN, 2 * cell.clients * cell.pipeline, int(rate * self.options.seconds))

    def measure(self, mode, cell, arm):
        requests = self.requests(mode, cell, arm.name)
        redis_pid, proxy_pid = self.redis.process.pid, arm.pid(cell.size)
        redis_ns, proxy_ns = cpu_ns(redis_pid), cpu_ns(proxy_pid) if proxy_pid else 0
        sample = benchmark(arm.host, arm.port(cell.size), cell, requests, core_of(mode, "client"))
        sample["redis_us"] = (cpu_ns(redis_pid) - redis_ns) / 1000 / requests if arm.has_redis else None
        sample["proxy_us"] = (cpu_ns(proxy_pid) - proxy_ns) / 1000 / requests if proxy_pid else None
        self.rates[mode, cell, arm.name] = sample["rps"]
        return sample

    # ---- all of them -------------------------------------------------------------------------------------------

    def choose_haproxy(self):
        """HAProxy with or without splicing, for small and for large values: whatever is faster here."""
        haproxy = self.arms.get("haproxy")
        if not haproxy:
            return None
        try:
            for is_large, sizes in ((False, (3,)), (True, (64 * KB, MB))):
                rates = [self.rates_of_variants(haproxy, Cell("get", size, 50, 1)) for size in sizes]
                haproxy.choice[is_large] = max(haproxy.VARIANTS, key=lambda label, found=rates:
                                               statistics.geometric_mean(rate[label] for rate in found))
        except (OSError, AssertionError, ValueError, LookupError) as error:
            self.tell(haproxy.failed("choice of splicing", error))
        return {("large" if is_large else "small"): haproxy.VARIANTS[label]
                for is_large, label in haproxy.choice.items()}

    def rates_of_variants(self, haproxy, cell):
        """Median requests a second of each, measured in turns."""
        self.prepare("unpinned", cell)
        found = {label: [] for label in haproxy.VARIANTS}
        for _ in range(QUICK_REPEATS if self.options.quick else CHOICE_REPEATS):
            for label, rates in found.items():
                requests = self.requests("unpinned", cell, label)
                rates.append(benchmark(haproxy.host, haproxy.port_of(label), cell, requests,
                                       core_of("unpinned", "client"))["rps"])
                self.rates["unpinned", cell, label] = rates[-1]
        return {label: statistics.median(rates) for label, rates in found.items()}

    def arms_of(self, mode):
        """The answerer is only there to compare CPU with."""
        return [arm for arm in self.arms.values()
                if (arm.has_redis or mode == "onecore") and not arm.is_given_up()]

    def run(self, order):
        plan = [(mode, cell) for mode in self.options.modes for cell in cells_of(mode, self.options.cells)]
        runs = self.options.repeats * sum(len(self.arms_of(mode)) for mode, _ in plan)
        minutes = runs * (self.options.seconds + OVERHEAD_S) / 60
        self.tell(f"throughput: {len(plan)} cells, {runs} runs of about {self.options.seconds} s, "
                  f"{minutes:.0f} minutes")
        for repeat in range(self.options.repeats):
            began = time.monotonic()
            for mode, cell in order.sample(plan, len(plan)):
                self.one(mode, cell, repeat, order)
            self.tell(f"throughput: repeat {repeat + 1} of {self.options.repeats}: {time.monotonic() - began:.0f} s")

    def one(self, mode, cell, repeat, order):
        arms = self.arms_of(mode)
        for arm in order.sample(arms, len(arms)):
            try:
                self.prepare(mode, cell)
                self.samples[mode, cell, arm.name][repeat] = self.measure(mode, cell, arm)
            except (OSError, AssertionError, ValueError, LookupError) as error:
                self.tell(arm.failed(f"{mode} {cell}", error))

    def results(self):
        """A dict for each cell and arm: medians, and the rate of each repeat."""
        rows = []
        for (mode, cell, name), samples in self.samples.items():
            row = {"mode": mode, "cell": str(cell), "arm": name, "repeats": len(samples),
                   "rates": {repeat: sample["rps"] for repeat, sample in samples.items()}}
            for value in ("rps", "p50_us", "p99_us", "redis_us", "proxy_us"):
                found = [sample[value] for sample in samples.values() if sample[value] is not None]
                row[value] = statistics.median(found) if found else None
            rows.append(row)
        return rows


# ---- the bench -----------------------------------------------------------------------------------------------------

def add_arguments(parser):
    parser.add_argument("--part", help=f"proxy: some of {','.join(PARTS)}; strict: of throughput,failover")
    parser.add_argument("--modes", default=",".join(USUAL_MODES),
                        help=f"proxy: some of {','.join(MODES)} ({','.join(USUAL_MODES)})")
    parser.add_argument("--cells", default="*", metavar="OP:SIZE:CLIENTS:PIPELINE,…",
                        help="proxy: only these, with wildcards: get:3:50:*,*:1m:*:1; "
                        "strict: PLACE:WRITERS:READERS:PIPELINE, delayed:25:25:1")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"proxy, strict: of each cell ({REPEATS})")
    parser.add_argument("--seconds", type=float, default=SECONDS,
                        help=f"proxy, strict: about how long a run takes ({SECONDS})")
    parser.add_argument("--variant", action="append", default=[], metavar="'NAME=[PROGRAM] [OPTION…]'",
                        help="proxy: one more mr-proxy, with other options or another build; --only knows its name")
    parser.add_argument("--write-readme", action="store_true", help="proxy, strict: put the tables into README.md")


def check_arguments(parser, options):
    """Lists out of what was given; ends with a usage error."""
    options.part = options.part or ",".join(PARTS)
    is_whole = ((options.part, options.modes, options.cells) == (",".join(PARTS), ",".join(USUAL_MODES), "*")
                and not options.variant)
    if options.write_readme and (options.quick or not is_whole or set(options.only) != set(ARMS)):
        parser.error("--write-readme: into README belongs the whole, not --quick, nor some parts, modes, cells or arms, "
                     "nor variants")
    options.part, options.modes = options.part.split(","), options.modes.split(",")
    if options.quick:
        options.repeats, options.seconds = QUICK_REPEATS, QUICK_SECONDS
        options.cells = QUICK_CELLS if options.cells == "*" else options.cells
    options.cells = options.cells.split(",")
    unknown = [n for n in options.part if n not in PARTS] + [n for n in options.modes if n not in MODES]
    if unknown or options.repeats < 1 or options.seconds <= 0:
        parser.error(f"nothing is called {unknown[0]}" if unknown else "a number is too small")
    if options.what == "proxy" and "throughput" in options.part and not any(
            cells_of(mode, options.cells) for mode in options.modes):
        parser.error(f"no cell is called {','.join(options.cells)}")


def versions():
    """Of what is compared, as the programs say."""
    found = {}
    for title, argv in (("Redis", ["redis-server", "--version"]), ("HAProxy", ["haproxy", "-v"]),
                        ("nutcracker", ["nutcracker", "--version"])):
        try:
            run = subprocess.run(argv, capture_output=True, text=True, check=False)
            found[title] = re.search(r"\d+\.\d+\.\d+[^ \n]*", run.stdout + run.stderr).group()
        except (OSError, AttributeError):
            found[title] = "not here"
    return found


KERNEL = {"TCP congestion control": "net/ipv4/tcp_congestion_control",
          "sched_autogroup": "kernel/sched_autogroup_enabled"}


def kernel_settings():
    """What on few processors decides who waits for whom, and how large batches become, with any proxy."""
    return {title: Path("/proc/sys", name).read_text(encoding="ascii").strip()
            for title, name in KERNEL.items() if Path("/proc/sys", name).exists()}


def restart(arm, part, tell):
    """Each part begins with fresh processes: their memory is what the part made of it."""
    try:
        arm.restart()
    except (OSError, AssertionError) as error:
        tell(arm.failed(f"start for {part}", error))


def measure_proxy(sandbox, options, tell):
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    order = random.Random(seed)
    tell(f"proxy: seed {seed}")
    began = time.monotonic()
    if len(CPUS) < 2 and not ALONE.keys().isdisjoint(options.modes):
        tell(f"proxy: one CPU only: {', '.join(ALONE)} are left out")
        options.modes = [mode for mode in options.modes if mode not in ALONE]
    redis, arms, failures = set_up(sandbox, options.only)
    for failure in failures:
        tell(failure)
    results = {"seed": seed, "versions": versions(), "kernel": kernel_settings(), "cpus": CPUS,
               "repeats": options.repeats, "seconds": options.seconds, "big_mb": proxy_limits.big_bytes(options) // MB,
               "pipeline_depth": proxy_limits.PIPELINE_DEPTH, "arms": list(arms),
               "modes": options.modes, "rule": RULE, "one_core_rule": ONE_CORE}
    limits = proxy_limits.Limits(redis, arms, options, order, tell)
    for part in PARTS:
        if part not in options.part:
            continue
        tell(f"proxy: {part}")
        for arm in arms.values():
            restart(arm, part, tell)
        if part == "throughput":
            throughput = Throughput(redis, arms, options, tell)
            results["haproxy"] = throughput.choose_haproxy()
            throughput.run(order)
            results[part] = throughput.results()
        else:
            results[part] = getattr(limits, part)()
    results["failures"] = failures + [failure for arm in arms.values() for failure in arm.failures]
    results["minutes"] = (time.monotonic() - began) / 60
    return results


__all__ = ["ARMS", "add_arguments", "check_arguments", "measure_proxy"]
