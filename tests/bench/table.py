"""What was measured, as a table for people and as a value for programs."""

import math
import statistics
import textwrap

README_WIDTH = 120


def summary(contender):
    """The rounds of one contender in one dict; milliseconds."""
    outages = [account["outage_us"] / 1000 for account in contender.rounds]
    errors = {}
    for account in contender.rounds:
        for kind, count in account["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    return {
        "title": contender.title,
        "kills": len(outages),
        "median_ms": statistics.median(outages),
        "min_ms": min(outages),
        "max_ms": max(outages),
        "from_kill_median_ms": statistics.median(a["from_kill_us"] / 1000 for a in contender.rounds),
        "noise_median_ms": statistics.median(a["second_us"] / 1000 for a in contender.rounds),
        "errors": errors,
        "reconnects": sum(account["reconnects"] for account in contender.rounds),
        "acknowledged": contender.acknowledged,
        "missing": contender.missing,
        "outages_ms": [round(outage, 3) for outage in outages],
    }


def _row(result, floor, sentinel):
    errors = ", ".join(f"{kind} {count}" for kind, count in sorted(result["errors"].items())) or "none"
    ratio = f"{result['median_ms'] / floor['median_ms']:.1f}" if floor else "-"
    better = f"{sentinel['median_ms'] / result['median_ms']:.0f}" if sentinel else "-"
    return [result["title"], str(result["kills"]), f"{result['median_ms']:.1f}", f"{result['min_ms']:.1f}",
            f"{result['max_ms']:.1f}", f"{result['from_kill_median_ms']:.1f}", f"{result['noise_median_ms']:.1f}",
            errors, str(result["reconnects"]), f"{result['missing']} of {result['acknowledged']}", ratio, better]


def ratio_of(ours, theirs):
    """Of two arms' rates by repeat: the median of the repeats' ratios; None: they have no repeat in common."""
    ratios = [rate / theirs[repeat] for repeat, rate in ours.items() if theirs.get(repeat)]
    return statistics.median(ratios) if ratios else None


def align(rows):
    """The rows as lines; the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


def number(value, digits=3):
    """With so many significant digits, or as a whole number."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def markdown(rows):
    """The rows as a table, the first as its head."""
    head = ["|" + "|".join(f" {cell} " for cell in rows[0]) + "|", "|" + "---|" * len(rows[0])]
    return head + ["|" + "|".join(f" {cell} " for cell in row) + "|" for row in rows[1:]]


def replace_between(path, begin, end, text):
    """What is between those markers of a file, and they themselves, become that text."""
    before, begins, rest = path.read_text(encoding="utf-8").partition(begin)
    _old, ends, after = rest.partition(end)
    if not begins or not ends:
        raise AssertionError(f"{path} lacks {begin} … {end}")
    path.write_text(before + text + after, encoding="utf-8")


def _verdict(met, words):
    return words[2] if met is None else words[0] if met else words[1]


def kernel_line(settings):
    """settings: as proxy.kernel_settings() found them."""
    return "The kernel's settings: " + ", ".join(f"{title} {value}" for title, value in settings.items()) + "."


def report_lines(about, report, failures):
    """For people: what a reader must know, the report's tables in aligned columns, its targets, what failed."""
    yield from about
    for title, rows in report.tables():
        yield ""
        yield title
        yield from align(rows)
    yield ""
    for goal, met, told in report.targets():
        yield f"  {_verdict(met, ('met   ', 'MISSED', '-     '))}  {goal}: {told}"
    for failure in failures:
        yield f"  FAILED  {failure}"


def write_report(path, begin, end, about, report, failures):
    """The same, as what stands between those markers of a Markdown file."""
    lines = [begin, "", *textwrap.wrap(" ".join(about), README_WIDTH)]
    for title, rows in report.tables():
        lines += ["", title, "", *markdown(rows)]
    verdicts = [["target", "measured", ""]]
    verdicts += [[goal, told, _verdict(met, ("met", "**missed**", "–"))] for goal, met, told in report.targets()]
    lines += ["", *markdown(verdicts)]
    if failures:
        lines += ["", "Failed: " + "; ".join(failures) + "."]
    replace_between(path, begin, end, "\n".join([*lines, "", end]))


def failover_lines(results, big):
    floor = next((r for r in results if r["title"] == "floor"), None)
    sentinel = next((r for r in results if "1000 ms" in r["title"]), None)
    head = ["outage seen by the client, ms", "kills", "median", "min", "max", "from kill", "noise", "errors",
            "reconnects", "writes missing", "x floor", "Sentinel/it"]
    yield f"master with {'1 GB' if big else 'small data'}, killed (SIGKILL) under constant writes"
    yield from align([head] + [_row(result, floor, sentinel) for result in results])
    ours = next((r for r in results if r["title"] == "Mr-Redis"), None)
    if ours:
        yield from _targets(ours, floor, sentinel, big)


def _targets(ours, floor, sentinel, big):
    goals = [("no reconnect", ours["reconnects"] == 0), ("nothing acknowledged is missing", ours["missing"] == 0)]
    if not big:
        goals += [("median <= 10 ms", ours["median_ms"] <= 10), ("max <= 50 ms", ours["max_ms"] <= 50)]
    if floor and not big:
        goals.append(("aim: 3 x the floor", ours["median_ms"] <= 3 * floor["median_ms"]))
    if floor and big:
        goals.append(("floor + 20 ms", ours["median_ms"] <= floor["median_ms"] + 20))
    if sentinel and not big:
        goals.append(("100 x less than Sentinel at 1000 ms", ours["median_ms"] * 100 <= sentinel["median_ms"]))
    for goal, met in goals:
        yield f"  {'met   ' if met else 'MISSED'}  {goal}"
