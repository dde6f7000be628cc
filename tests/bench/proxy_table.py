"""What the proxy's bench measured: tables in Markdown, for people and README.md, and a line for each target."""

import os

import table
from arms import ARMS, MODES
from proxy_limits import BAD_KINDS
from table import number, ratio_of

BEGIN, END = "<!-- proxy-bench:begin -->", "<!-- proxy-bench:end -->"
SMALL, LARGE = ("3", "1k"), ("64k", "1m")
FLAT_MB = 10  # a tenth of what 100 clients with 1 MB each leave unread
OPS = ("set", "get")


def _size_text(name):
    """The size of a cell's name, for people."""
    return f"{name[:-1]} {name[-1].upper()}B" if name[-1] in "km" else f"{name} B"


class Report:
    """Tables and verdicts of what proxy.measure_proxy() returned."""

    def __init__(self, results):
        self.results = results
        self.arms = [name for name in results["arms"] if ARMS[name].has_redis]
        self.cells = {(row["mode"], row["cell"], row["arm"]): row for row in results.get("throughput", [])}

    def value(self, mode, cell, arm, what):
        row = self.cells.get((mode, cell, arm))
        return row[what] if row else None

    def ratio(self, mode, cell, arm, other):
        ours, theirs = (self.value(mode, cell, name, "rates") for name in (arm, other))
        return ratio_of(ours, theirs) if ours and theirs else None

    # ---- the tables --------------------------------------------------------------------------------------------

    def _order(self, mode):
        """The cells of a mode, as the table has them."""
        def key(cell):
            op, size, clients, pipeline = cell.split(":")
            return int(pipeline), ("3", "1k", "64k", "1m").index(size), int(clients), OPS.index(op)
        return sorted({cell for cell_mode, cell, _ in self.cells if cell_mode == mode}, key=key)

    @staticmethod
    def _name(cell):
        op, size, clients, pipeline = cell.split(":")
        return f"{op.upper()} {_size_text(size)}, {clients}, {pipeline}"

    def _throughput(self, mode):
        others = [name for name in self.arms if name != "direct"]
        rows = [["request, clients, P", "direct: 1000/s", "p50/p99 ms"]]
        for name in others:
            rows[0] += [f"{ARMS[name].title}: × direct", "p50/p99 ms"]
        for cell in self._order(mode):
            rate = self.value(mode, cell, "direct", "rps")
            row = [self._name(cell), number(rate / 1000 if rate else None), self._latency(mode, cell, "direct")]
            for name in others:
                row += [number(self.ratio(mode, cell, name, "direct")), self._latency(mode, cell, name)]
            rows.append(row)
        return rows

    def _latency(self, mode, cell, name):
        p50, p99 = self.value(mode, cell, name, "p50_us"), self.value(mode, cell, name, "p99_us")
        return "–" if p50 is None else f"{number(p50 / 1000, 2)}/{number(p99 / 1000, 2)}"

    def _cpu(self):
        names = [name for name in self.results["arms"] if name != "direct"]
        rows = [["request, clients, P", "direct: Redis"]]
        for name in names:
            rows[0].append(f"{ARMS[name].title}: it, Redis" if ARMS[name].has_redis else ARMS[name].title)
        for cell in self._order("onecore"):
            row = [self._name(cell), number(self.value("onecore", cell, "direct", "redis_us"))]
            for name in names:
                own = number(self.value("onecore", cell, name, "proxy_us"))
                redis = number(self.value("onecore", cell, name, "redis_us"))
                row.append(f"{own}, {redis}" if ARMS[name].has_redis else own)
            rows.append(row)
        return rows

    def _idle(self):
        found = self._by_arm("idle")
        steps = sorted({step for row in found.values() for step in row["rss_kb"]})
        return [["idle clients: RSS, MB", *(f"{step:,}" for step in steps)]] + [
            [ARMS[name].title, *(self._megabytes(found[name]["rss_kb"].get(step)) for step in steps)]
            for name in self.arms if name in found]

    @staticmethod
    def _megabytes(kilobytes):
        return number(kilobytes / 1024 if kilobytes is not None else None)

    def _slow(self):
        rows = [["clients that don't read", "RSS before, MB", "at most, MB", "served in the end"]]
        found = self._by_arm("slow")
        for name in self.arms:
            if name in found:
                row = found[name]
                title = "Redis, direct" if name == "direct" else ARMS[name].title
                rows.append([title, number(row["before_kb"] / 1024), number(row["peak_kb"] / 1024),
                             f"{row['served']} of {row['clients']}"])
        return rows

    def _latencies(self):
        rows = [["one client, GET 3 B: p50/p99 µs", *(mode for mode in MODES if self._alone(mode))]]
        for name in self.arms:
            row = [ARMS[name].title]
            for mode in rows[0][1:]:
                account = self._alone(mode).get(name)
                row.append(f"{number(account['p50_us'])}/{number(account['p99_us'])}" if account else "–")
            rows.append(row)
        return rows

    def _alone(self, mode):
        return {row["arm"]: row for row in self.results.get("latency", []) if row["mode"] == mode}

    def _fairness(self):
        rows = [["a neighbour's p50/p99, µs (p99 × quiet): beside one that", "is not there",
                 *(self._bad_title(kind) for kind in BAD_KINDS)]]
        found = {(row["arm"], row["beside"]): row for row in self.results["fairness"]}
        for name in self.arms:
            row = [ARMS[name].title]
            for kind in ("quiet", *BAD_KINDS):
                account = found.get((name, kind))
                times = f" ({number(account['x_quiet'], 2)})" if account and account["x_quiet"] else ""
                row.append("failed" if not account else f"{number(account['p50_us'])}/{number(account['p99_us'])}"
                           + ("" if kind == "quiet" else times))
            rows.append(row)
        return rows

    def _busy(self):
        found = self._by_arm("busy")
        return [["a client on a busy host: µs", "p50", "p99"]] + [
            [ARMS[name].title, number(found[name]["p50_us"]), number(found[name]["p99_us"])]
            for name in self.arms if name in found]

    def _bad_title(self, kind):
        return {"pipeline": f"pipelines {self.results['pipeline_depth']:,} deep", "slow": "reads slowly",
                "big": f"sends {self.results['big_mb']} MB"}[kind]

    def _by_arm(self, part):
        return {row["arm"]: row for row in self.results.get(part, [])}

    def tables(self):
        """(title, rows) of what was measured."""
        r = self.results
        for mode, where in MODES.items():
            if mode != "onecore" and self._order(mode):
                yield f"Throughput and latency, {mode}: {where}.", self._throughput(mode)
        if self._order("onecore"):
            yield f"CPU per request, µs: {MODES['onecore'].split(';', maxsplit=1)[0]}.", self._cpu()
        if r.get("latency"):
            yield "A lone client, to the microsecond (redis-benchmark counts steps of 8 µs).", self._latencies()
        if r.get("idle"):
            rows = self._idle()
            note = " –: more than the limit of open files allows." if any("–" in row for row in rows) else ""
            yield f"Memory: each client has asked once and is silent since.{note}", rows
        if r.get("slow"):
            each = r["slow"][0]["each"]
            yield f"Memory: each client has asked for {each} values of 1 MB and reads nothing.", self._slow()
        if r.get("fairness"):
            yield "Neighbours: a client that asks 500 times a second, alone and beside another one.", self._fairness()
        if r.get("busy"):
            yield "The same client, while a process that never rests is beside it on each processor.", self._busy()

    # ---- the targets -------------------------------------------------------------------------------------------

    def targets(self):
        """(the target, is it met or None when that was not measured, the numbers) for the parts that were run."""
        if "throughput" in self.results:
            yield from self._targets_throughput()
        if "idle" in self.results:
            yield self._target_idle()
        if "latency" in self.results:
            yield from self._targets_alone()
        if "slow" in self.results:
            yield self._target_slow()
        if "fairness" in self.results:
            yield from self._target_fairness()

    def _targets_throughput(self):
        for clients, pipeline, times in ((50, 1, 1.5), (500, 1, 1.5), (50, 16, 1.4)):
            yield self._versus(f"unpinned, small values, c = {clients}, P = {pipeline}: >= {times} x HAProxy",
                               SMALL, (clients,), pipeline, "haproxy", times)
        for clients in (50, 500):
            yield self._versus(f"unpinned, small values, c = {clients}, P = 1: >= 0.95 x direct", SMALL, (clients,), 1,
                               "direct", 0.95)
        for size in LARGE:
            yield self._versus(f"unpinned, {_size_text(size)}: >= HAProxy", (size,), (1, 50, 500), 1, "haproxy", 1.0)
        yield self._cost("proxy CPU per request, c = 50, P = 1: <= 0.5 x HAProxy's",
                         ("mr-proxy", "haproxy"), "proxy_us", 0.5)
        yield self._cost("proxy CPU per request, c = 50, P = 1: <= 1.1 x of answering without Redis",
                         ("mr-proxy", "answerer"), "proxy_us", 1.1)
        yield self._cost("Redis' CPU per request, c = 50, P = 1: <= 0.25 x direct", ("mr-proxy", "direct"), "redis_us",
                         0.25)

    @staticmethod
    def _judge(goal, numbers, is_good):
        """Met when every number is good."""
        if not numbers:
            return goal, None, "not measured"
        told = ", ".join(f"{name} {number(value)}" for name, value in numbers.items())
        return goal, all(map(is_good, numbers.values())), told

    def _versus(self, goal, sizes, clients, pipeline, other, least):
        numbers = {}
        for size in sizes:
            for count in clients:
                for op in OPS:
                    cell = f"{op}:{size}:{count}:{pipeline}"
                    found = self.ratio("unpinned", cell, "mr-proxy", other)
                    if found:
                        label = f"{op.upper()} {_size_text(size)}" + (f" c={count}" if len(clients) > 1 else "")
                        numbers[label] = found
        return self._judge(goal, numbers, lambda value: value >= least)

    def _cost(self, goal, names, what, most):
        numbers = {}
        for op in OPS:
            ours, theirs = (self.value("onecore", f"{op}:3:50:1", name, what) for name in names)
            if ours and theirs:
                numbers[op.upper()] = ours / theirs
        return self._judge(goal, numbers, lambda value: value <= most)

    def _target_idle(self):
        row = self._by_arm("idle").get("mr-proxy")
        clients = min(9500, max(row["rss_kb"])) if row else 9500
        numbers = {"RSS": row["rss_kb"][clients] / 1024} if row else {}
        goal, met, told = self._judge(f"{clients:,} idle clients: <= 10 MB", numbers, lambda value: value <= 10)
        return goal, met if clients == 9500 else None, told

    def _targets_alone(self):
        """Pinned, three wake-ups of an idle core come with any proxy: that is told, and no target."""
        for mode in MODES:
            alone = self._alone(mode)
            if "direct" not in alone:
                continue
            added = {ARMS[name].title: alone[name]["p50_us"] - alone["direct"]["p50_us"]
                     for name in ("mr-proxy", "haproxy") if name in alone}
            if mode == "unpinned":
                yield self._judge("unpinned, added p50 at c = 1: <= 40 us", {k: v for k, v in added.items()
                                                                             if k == ARMS["mr-proxy"].title},
                                  lambda value: value <= 40)
            else:
                goal, _, told = self._judge(f"{mode}, added p50 at c = 1 (no target)", added, bool)
                yield goal, None, told

    def _target_slow(self):
        row = self._by_arm("slow").get("mr-proxy")
        numbers = {"MB more": (row["peak_kb"] - row["before_kb"]) / 1024} if row else {}
        clients = row["clients"] if row else 100
        return self._judge(f"{clients} clients that don't read: memory stays flat (<= {FLAT_MB} MB more)", numbers,
                           lambda value: value <= FLAT_MB)

    def _target_fairness(self):
        found = {(row["arm"], row["beside"]): row for row in self.results.get("fairness", [])}
        for kind in BAD_KINDS:
            row, direct = found.get(("mr-proxy", kind)), found.get(("direct", kind))
            numbers = {"x quiet": row["x_quiet"]} if row and row["x_quiet"] else {}
            goal, met, told = self._judge(f"beside one that {self._bad_title(kind)}: a neighbour's p99 <= 3 x quiet",
                                          numbers, lambda value: value <= 3)
            if numbers and direct:
                told += f" ({number(row['p99_us'] / direct['p99_us'], 2)} x a direct neighbour's)"
            yield goal, met, told


def _about(r):
    """What a reader must know of the call."""
    versions = ", ".join(f"{title} {version}" for title, version in r["versions"].items())
    yield (f"{os.cpu_count()} processors, {versions}, loopback, one call of {r['minutes']:.0f} minutes, "
           f"seed {r['seed']}; redis-benchmark, {r['repeats']} repeats of about {r['seconds']} s, medians, everything "
           "interleaved in a shuffled order.")
    yield table.kernel_line(r["kernel"])
    if r.get("throughput"):
        yield f"{r['rule'][0].upper()}{r['rule'][1:]}. {r['one_core_rule'][0].upper()}{r['one_core_rule'][1:]}."
    if r.get("haproxy"):
        yield "HAProxy, the better of both: " + "; ".join(f"{k} values: {v}" for k, v in r["haproxy"].items()) + "."


def proxy_lines(results):
    return table.report_lines(_about(results), Report(results), results["failures"])


def write_readme(path, results):
    table.write_report(path, BEGIN, END, _about(results), Report(results), results["failures"])
