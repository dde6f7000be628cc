"""What the bench of durability strict measured: tables in Markdown, for people and README.md, and each target."""

import os

import table
from strict import ARMS, DELAY_US, MIXED, PLACES
from table import number

BEGIN, END = "<!-- strict-bench:begin -->", "<!-- strict-bench:end -->"
BOUND_SHARE = 0.8  # of what the way to the replica and back allows
OUTAGE_MORE_MS = 5
MEDIAN_MS, MAX_MS = 10, 50  # async's own targets
PLACE_TEXT = {"loopback": "The replica beside its master",
              "delayed": f"The replica behind a relay that adds {DELAY_US / 1000:g} ms each way"}
KINDS = {"write": "SET", "read": "GET"}


class Report:
    """Tables and verdicts of what strict.measure_strict() returned."""

    def __init__(self, results):
        self.results = results
        self.rows = {(row["cell"], row["arm"]): row for row in results.get("throughput", [])}
        self.arms = [arm for arm in ARMS if any(found == arm for _, found in self.rows)]

    def value(self, cell, arm, kind, what):
        row = self.rows.get((cell, arm), {}).get(kind)
        return row[what] if row else None

    # ---- the tables --------------------------------------------------------------------------------------------

    def _cells(self, place):
        """(cell, kind) of that place, in the order in which they were listed."""
        seen = dict.fromkeys(cell for cell, _ in self.rows if cell.startswith(f"{place}:"))
        return [(cell, kind) for cell in seen for kind in KINDS if any(
            kind in row for (other, _), row in self.rows.items() if other == cell)]

    @staticmethod
    def _name(cell, kind):
        _, writers, readers, pipeline = cell.split(":")
        beside = {"write": f" beside {readers} with GET", "read": f" beside {writers} with SET"}[kind]
        clients = writers if kind == "write" else readers
        return f"{KINDS[kind]}, {clients}{beside if readers != '0' else ''}, {pipeline}"

    def _cell_text(self, cell, arm, kind):
        rate, p50, p99 = (self.value(cell, arm, kind, what) for what in ("per_s", "p50_us", "p99_us"))
        if not rate:
            return "–"
        return f"{number(rate / 1000)}; {number(p50 / 1000, 2)}/{number(p99 / 1000, 2)}"

    def _throughput(self, place):
        yield ["request, clients, P", *(ARMS[arm] for arm in self.arms), "strict: × async"]
        for cell, kind in self._cells(place):
            yield [self._name(cell, kind), *(self._cell_text(cell, arm, kind) for arm in self.arms),
                   number(self.value(cell, "strict", kind, "x_async"))]

    def _failovers(self):
        yield ["master killed (SIGKILL): outage, ms", "kills", "median", "min", "max", "acknowledged writes missing"]
        for row in self.results["failover"]:
            yield [row["title"], str(row["kills"]), *(f"{row[key]:.1f}" for key in ("median_ms", "min_ms", "max_ms")),
                   f"{row['missing']} of {row['acknowledged']}"]

    def tables(self):
        """(title, rows) of what was measured."""
        for place in PLACES:
            if self._cells(place):
                yield f"{PLACE_TEXT[place]}: 1000 a second; p50/p99 ms.", list(self._throughput(place))
        if "failover" in self.results:
            yield "What a client sees of a failover, one kill of each in turns.", list(self._failovers())

    # ---- the targets -------------------------------------------------------------------------------------------

    def targets(self):
        """(the target, is it met or None when that was not measured, the numbers) for the parts that were run."""
        if "throughput" in self.results:
            for pipeline, least in ((1, 0.85), (16, 0.6)):
                yield self._at_least(f"loopback, 50 clients, P = {pipeline}: SET >= {least} x async",
                                     {"x async": self.value(f"loopback:50:0:{pipeline}", "strict", "write", "x_async")},
                                     least)
            yield from self._targets_mixed()
            for arm, text in (("x_set_wait", "SET + WAIT"), ("x_async_set_wait", "SET + WAIT through the proxy")):
                yield self._never_below(arm, text)
        if "failover" in self.results:
            yield from self._targets_failover()

    @staticmethod
    def _at_least(goal, numbers, least):
        found = {name: value for name, value in numbers.items() if value is not None}
        if not found:
            return goal, None, "not measured"
        return goal, min(found.values()) >= least, ", ".join(f"{name} {number(v)}" for name, v in found.items())

    def _targets_mixed(self):
        writers, readers = MIXED
        cell = f"delayed:{writers}:{readers}:1"
        bound = writers / (2 * DELAY_US / 1e6)
        rate = self.value(cell, "strict", "write", "per_s")
        yield self._at_least(f"delayed, {writers} SET and {readers} GET clients: SET >= {BOUND_SHARE} x the "
                             f"{bound / 1000:g}k/s that the way allows", {"x": rate / bound if rate else None},
                             BOUND_SHARE)
        yield self._at_least("the same: GET not slower than async", {
            "x async": self.value(cell, "strict", "read", "x_async")}, 1)

    def _never_below(self, what, text):
        numbers = {cell: self.value(cell, "strict", "write", what)
                   for place in PLACES for cell, kind in self._cells(place) if kind == "write"}
        return self._at_least(f"SET never below {text}", numbers, 1)

    def _targets_failover(self):
        found = {row["title"]: row for row in self.results["failover"]}
        ours, plain = found["Mr-Redis, strict"], found["Mr-Redis"]
        for what, name, most in (("median_ms", "median", MEDIAN_MS), ("max_ms", "max", MAX_MS)):
            yield (f"failover: {name} <= {most} + {OUTAGE_MORE_MS} ms", ours[what] <= most + OUTAGE_MORE_MS,
                   f"{ours[what]:.1f} (async {plain[what]:.1f})")
        yield "failover: nothing acknowledged is missing", ours["missing"] == 0, str(ours["missing"])


def _about(r):
    """What a reader must know of the call."""
    yield (f"{os.cpu_count()} processors, Redis {r['versions']['Redis']}, one master, one replica, one call of "
           f"{r['minutes']:.0f} minutes, seed {r['seed']}; {r['repeats']} repeats of about {r['seconds']} s, medians, "
           "interleaved in a shuffled order; values of 3 B, GETs of keys that nobody writes. SET + WAIT: a client "
           "sends P SETs and one WAIT at once, and goes on when WAIT is answered.")
    yield table.kernel_line(r["kernel"])
    if not r["real_time"]:
        yield "The relay had to compete for the processors with everybody else (it needs root not to)."


def strict_lines(results):
    return table.report_lines(_about(results), Report(results), results["failures"])


def write_readme(path, results):
    table.write_report(path, BEGIN, END, _about(results), Report(results), results["failures"])
