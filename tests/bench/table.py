"""What was measured, as a table for people and as a value for programs."""

import statistics


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


def align(rows):
    """The rows as lines; the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


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
