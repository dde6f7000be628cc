"""What clients did, and whether the data agrees with what they were told.

    clients ── Op(invoked, returned, outcome) ──┐
    history znodes ── Loss(a master was lost) ──┼──► check() ──► Report: nothing wrong, or the list of what is
    the final master's data ── Final ───────────┘

The rules, for each operation:
  ok       it is in the final data; or it is lost within the window that `async` documents (below)
  unknown  it may be there or not (the connection broke, -MRUNKNOWN, -MRDURABILITY, no answer in time)
  failed   it is not there: the client was told that it was not executed
and for all of them: nothing is there twice, nothing is there that nobody wrote, one client's list items stand in the
order in which it wrote them.

The window of `async`. An acknowledged write may be missing only if a master was lost (a Loss) and the write
  1. was acknowledged later than WINDOW_MS before the fault that took the master away: it can't have been older and
     still not be replicated, for replication was well until then;
  2. was sent before its client's host could know better: the new route was published, or, where the host was cut off
     together with the old master, the cut was healed (Loss.until_ms);
  3. is accounted for: when the old master came back with its memory, its history entry names the bytes that it had
     beyond the new history (lost_bytes), and all writes lost with it fit in there.
Times are wall-clock milliseconds of one machine, the clock that history entries carry.
"""

import dataclasses
import time

import resp

WINDOW_MS = 500.0
SLACK_MS = 250.0  # from a published route to the last proxy thread that follows it, on a busy machine

OK, UNKNOWN, FAILED = "ok", "unknown", "failed"

# Error replies that say: not executed. Any other error leaves the outcome open.
NOT_EXECUTED = frozenset({
    "MRHOLD", "MRNOROUTE", "MRLIMIT", "READONLY", "LOADING", "MASTERDOWN", "MISCONF", "OOM", "NOREPLICAS", "NOAUTH",
    "NOPERM", "WRONGPASS", "BUSY"})

SET, SADD, RPUSH, INCR = "SET", "SADD", "RPUSH", "INCR"


def now_ms():
    return time.time() * 1000


@dataclasses.dataclass
class Op:
    """One write. `value` is unique in its history; INCR has none and is only counted."""

    client: str
    host: str
    kind: str
    key: str
    value: str
    invoked_ms: float
    returned_ms: float = 0.0
    outcome: str = UNKNOWN
    error: str = ""

    def command(self):
        return (self.kind, self.key) if self.kind == INCR else (self.kind, self.key, self.value)

    def size(self):
        """Its bytes in the replication stream."""
        return len(resp.encode(*self.command()))

    def told(self):
        return (f"{self.client}@{self.host} {' '.join(self.command())} {self.outcome}"
                f" invoked={self.invoked_ms:.1f} returned={self.returned_ms:.1f} {self.error}").rstrip()


@dataclasses.dataclass
class Loss:
    """A master that was lost: when the fault began, until when each host's clients could still be served by it, and
    the bytes it had too much when it came back (None: it lost its memory, or hasn't come back: nothing to compare)."""

    cut_ms: float
    until_ms: dict
    lost_bytes: int = None
    master: str = ""

    def allows(self, op):
        return (op.returned_ms >= self.cut_ms - WINDOW_MS
                and op.invoked_ms <= self.until_ms.get(op.host, self.until_ms.get("*", 0.0)) + SLACK_MS)


@dataclasses.dataclass
class Final:
    """What the final master holds of a history's keys."""

    strings: dict   # SET: key → value
    sets: dict      # SADD: key → collection of members
    lists: dict     # RPUSH: key → items in order
    counters: dict  # INCR: key → number

    @classmethod
    def read(cls, client, ops):
        """Through one connection to the master."""
        def keys(kind):
            return sorted({op.key for op in ops if op.kind == kind})
        strings, batch = {}, 1000
        wanted = keys(SET)
        for at in range(0, len(wanted), batch):
            part = wanted[at:at + batch]
            strings.update((k, v) for k, v in zip(part, client.call("MGET", *part)) if v is not None)
        return cls(strings, {k: client.call("SMEMBERS", k) for k in keys(SADD)},
                   {k: client.call("LRANGE", k, 0, -1) for k in keys(RPUSH)},
                   {k: int(client.call("GET", k) or 0) for k in keys(INCR)})


@dataclasses.dataclass
class Report:
    acknowledged: int = 0
    unknown: int = 0
    failed: int = 0
    lost: list = dataclasses.field(default_factory=list)  # within the window
    lost_counts: int = 0  # the same of INCR, which can't be told apart
    problems: list = dataclasses.field(default_factory=list)

    @property
    def lost_total(self):
        return len(self.lost) + self.lost_counts

    def summary(self):
        return (f"acknowledged={self.acknowledged} unknown={self.unknown} failed={self.failed} "
                f"lost_in_window={self.lost_total} problems={len(self.problems)}")


def is_present(op, final):
    if op.kind == SET:
        return final.strings.get(op.key) == op.value
    return op.value in (final.sets if op.kind == SADD else final.lists).get(op.key, ())


def _check_values(ops, final, losses, report):
    """Values that can be found: each acknowledged one is there or excused, no failed one is."""
    indexed = Final(final.strings, {k: set(v) for k, v in final.sets.items()},
                    {k: set(v) for k, v in final.lists.items()}, final.counters)
    for op in ops:
        if op.kind == INCR:
            continue
        present = is_present(op, indexed)
        if op.outcome == OK and not present:
            if any(loss.allows(op) for loss in losses):
                report.lost.append(op)
            else:
                report.problems.append(f"lost outside the window: {op.told()}")
        elif op.outcome == FAILED and present:
            report.problems.append(f"executed though the client was told otherwise: {op.told()}")


def _check_strangers(ops, final, report):
    """Nothing is there twice, or of nobody's making; one client's items stand in its order."""
    order = {(op.kind, op.key, op.value): n for n, op in enumerate(ops)}
    writer = {(op.kind, op.key, op.value): op.client for op in ops}
    for key, value in final.strings.items():
        if (SET, key, value) not in order:
            report.problems.append(f"a value of nobody: {key} = {value}")
    for kind, groups in ((SADD, final.sets), (RPUSH, final.lists)):
        for key, items in groups.items():
            report.problems += [f"an item of nobody: {key} holds {i}" for i in items if (kind, key, i) not in order]
    for key, items in final.lists.items():
        seen, last = set(), {}
        for item in items:
            if item in seen:
                report.problems.append(f"executed twice: {key} holds {item} more than once")
            seen.add(item)
            place, client = order.get((RPUSH, key, item)), writer.get((RPUSH, key, item))
            if place is not None and place < last.get(client, -1):
                report.problems.append(f"out of order: {key} holds {item} after a later one of {client}")
            elif place is not None:
                last[client] = place


def _check_counters(ops, final, losses, report):
    """A counter is at least what was acknowledged less what may be lost, at most that and what is unknown."""
    for key in sorted({op.key for op in ops if op.kind == INCR}):
        mine = [op for op in ops if op.kind == INCR and op.key == key]
        acknowledged = [op for op in mine if op.outcome == OK]
        excused = sum(1 for op in acknowledged if any(loss.allows(op) for loss in losses))
        unknown = sum(1 for op in mine if op.outcome == UNKNOWN)
        value = final.counters.get(key, 0)
        if value > len(acknowledged) + unknown:
            report.problems.append(f"counted too much: {key} is {value}; {len(acknowledged)} acknowledged, "
                                   f"{unknown} unknown")
        missing = len(acknowledged) - value
        if missing > excused:
            report.problems.append(f"lost outside the window: {key} is {value}; {len(acknowledged)} acknowledged, "
                                   f"{excused} of them within a window")
        report.lost_counts += max(0, min(missing, excused))


def _check_accounts(losses, report):
    """What each returning master owned up to covers the writes that were lost with it."""
    if not losses or any(loss.lost_bytes is None for loss in losses):
        return
    lost, owned = sum(op.size() for op in report.lost), sum(loss.lost_bytes for loss in losses)
    if lost > owned:
        report.problems.append(f"unaccounted: {len(report.lost)} lost writes make {lost} bytes, the returning masters "
                               f"owned up to {owned}")


def check(ops, final, losses=()):
    """Judges a history. ops: of all clients, each client's in the order of its making."""
    report = Report(acknowledged=sum(op.outcome == OK for op in ops), unknown=sum(op.outcome == UNKNOWN for op in ops),
                    failed=sum(op.outcome == FAILED for op in ops))
    _check_values(ops, final, losses, report)
    _check_strangers(ops, final, report)
    _check_counters(ops, final, losses, report)
    _check_accounts(losses, report)
    return report
