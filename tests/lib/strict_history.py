"""The rules of durability strict, for a history of writes and reads (strict_workload.py); history.py has those of async.

    clients ── Op: write, or read with what it saw ──┐
    the final master's data ── Final ────────────────┴──► judge() ──► Verdict: what broke which rule

What is written, and what must be true of it when all is well again:
  SET      of a register that only one client writes, numbers that grow: the last acknowledged one is there, or a later one
           of unknown outcome
  RPUSH    of a unique item to a list that all share: there once if acknowledged, at most once if unknown, never if refused
  INCR     of a counter that only one client counts: at least what was acknowledged, at most that and the unknown ones
  MULTI, EVAL  one item to two lists, in a transaction, by a script: as RPUSH, and in both or in neither
What is read, GET of any register and LRANGE of the lists' ends:
  backwards  A read shows what was acknowledged through the same proxy before it was asked, and what an earlier read through
             the same proxy showed. Through another proxy, too, as long as nothing is broken: a proxy that hasn't heard of a
             failover may answer from a master that is gone (README), which is counted as `stale`.
  vanished   What a read showed of a write that went through the same proxy is there in the end, acknowledged or not: the
             proxy held the read until enough replicas had the write.

A write of unknown outcome may be executed late, when its connection's master was stopped and goes on; so a register may
then fall back to it. Not when -MRDURABILITY was the answer: the master had executed it by then.
"""

import dataclasses

from history import FAILED, INCR, OK, RPUSH, SET, UNKNOWN, Op

MULTI, EVAL, GET, LRANGE = "MULTI", "EVAL", "GET", "LRANGE"
PAIRED = (MULTI, EVAL)
LISTED = (RPUSH, *PAIRED)
READS = (GET, LRANGE)
SCRIPT = "redis.call('RPUSH',KEYS[1],ARGV[1]) return redis.call('RPUSH',KEYS[2],ARGV[1])"
TAIL = 8  # items at a list's end that LRANGE reads
HEARD_MS = 1000.0  # so long after all is whole again, every proxy has heard of what happened


def twin(key):
    """The second list of MULTI and EVAL."""
    return key + ":twin"


def number_of(value):
    """client.17 → 17; nothing → 0: client's first is 1."""
    return int(value.rsplit(".", 1)[1]) if value else 0


@dataclasses.dataclass
class Step(Op):
    """A write, or a read: `seen` is what it showed (LRANGE: several; GET: one or none)."""

    seen: tuple = ()

    def command(self):
        """MULTI and EVAL: of one of their two lists; strict_workload.py knows the whole."""
        if self.kind == GET:
            return (GET, self.key)
        if self.kind == LRANGE:
            return (LRANGE, self.key, str(-TAIL), "-1")
        return super().command()


@dataclasses.dataclass
class Trouble:
    """When a proxy might not have heard of all: reads that other proxies' writes are not in are excused."""

    began_ms: float
    whole_ms: float

    def covers(self, op):
        return op.returned_ms >= self.began_ms and op.invoked_ms <= self.whole_ms + HEARD_MS


@dataclasses.dataclass
class Kept:
    """What the final master holds of a history's keys."""

    registers: dict  # key → value
    lists: dict      # key → items in order
    counters: dict   # key → number

    @classmethod
    def read(cls, client, ops):
        """Through one connection to the master."""
        def keys(*kinds):
            return sorted({op.key for op in ops if op.kind in kinds})
        listed = [*keys(*LISTED), *map(twin, keys(*PAIRED))]
        return cls({k: client.call("GET", k) or "" for k in keys(SET)},
                   {k: client.call("LRANGE", k, 0, -1) for k in listed},
                   {k: int(client.call("GET", k) or 0) for k in keys(INCR)})


@dataclasses.dataclass
class Verdict:
    acknowledged: int = 0
    unknown: int = 0
    failed: int = 0
    reads: int = 0
    stale: int = 0            # reads through a proxy that hadn't heard, within the trouble
    lost: list = dataclasses.field(default_factory=list)       # acknowledged writes, told
    backwards: list = dataclasses.field(default_factory=list)
    vanished: list = dataclasses.field(default_factory=list)
    wrong: list = dataclasses.field(default_factory=list)      # what no durability excuses: twice, torn, of nobody …

    def broken(self):
        """All that strict forbids."""
        return ([f"lost: {t}" for t in self.lost] + [f"went back: {t}" for t in self.backwards]
                + [f"read, then lost: {t}" for t in self.vanished] + self.wrong)

    def add(self, other):
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def summary(self):
        return (f"acknowledged={self.acknowledged} unknown={self.unknown} failed={self.failed} reads={self.reads} "
                f"lost={len(self.lost)} backwards={len(self.backwards)} vanished={len(self.vanished)} "
                f"stale={self.stale} wrong={len(self.wrong)}")


def may_come_late(op):
    return op.outcome == UNKNOWN and not op.error.startswith("MRDURABILITY")


class _Registers:
    """Each register's writes by number, and the numbers that it may still fall back to."""

    def __init__(self, ops):
        self.writes = {}
        for op in ops:
            if op.kind == SET:
                self.writes.setdefault(op.key, {})[number_of(op.value)] = op

    def excuses(self, key, number):
        """Could that number be there although later ones were?"""
        op = self.writes.get(key, {}).get(number)
        return op is not None and may_come_late(op)

    def check(self, kept, verdict):
        for key, writes in self.writes.items():
            number = number_of(kept.registers[key])
            op = writes.get(number)
            if number and (op is None or op.value != kept.registers[key]):
                verdict.wrong.append(f"a value of nobody: {key} = {kept.registers[key]}")
            elif number and op.outcome == FAILED:
                verdict.wrong.append(f"executed though the client was told otherwise: {op.told()}")
            if not self.excuses(key, number):
                verdict.lost += [f"{w.told()}; the register is {number}" for n, w in writes.items()
                                 if n > number and w.outcome == OK]


def _check_lists(ops, kept, verdict):
    present = {key: set(items) for key, items in kept.lists.items()}
    known = {key: {} for key in kept.lists}
    for op in ops:
        if op.kind not in LISTED:
            continue
        keys = (op.key, twin(op.key)) if op.kind in PAIRED else (op.key,)
        for key in keys:
            known[key][op.value] = op
        there = [op.value in present[key] for key in keys]
        if len(set(there)) > 1:
            verdict.wrong.append(f"torn: in one of both lists only: {op.told()}")
        if op.outcome == OK and not all(there):
            verdict.lost.append(op.told())
        elif op.outcome == FAILED and any(there):
            verdict.wrong.append(f"executed though the client was told otherwise: {op.told()}")
    for key, items in kept.lists.items():
        _check_items(key, items, known[key], verdict)


def _check_items(key, items, known, verdict):
    """Nothing twice, nothing of nobody; what one client had acknowledged stands in the order of its making."""
    seen, last = set(), {}
    for item in items:
        op = known.get(item)
        if item in seen:
            verdict.wrong.append(f"executed twice: {key} holds {item} more than once")
        if op is None:
            verdict.wrong.append(f"an item of nobody: {key} holds {item}")
        elif op.outcome == OK:
            if number_of(item) < last.get(op.client, 0):
                verdict.wrong.append(f"out of order: {key} holds {item} after a later one of {op.client}")
            last[op.client] = number_of(item)
        seen.add(item)


def _check_counters(ops, kept, verdict):
    for key, value in kept.counters.items():
        mine = [op for op in ops if op.kind == INCR and op.key == key]
        acknowledged = sum(op.outcome == OK for op in mine)
        unknown = sum(op.outcome == UNKNOWN for op in mine)
        if value > acknowledged + unknown:
            verdict.wrong.append(f"counted too much: {key} is {value}; {acknowledged} acknowledged, {unknown} unknown")
        verdict.lost += [f"one of {key}, which is {value}; {acknowledged} acknowledged"] * max(0, acknowledged - value)


def _newest_before(events):
    """[(time, number)] → a function: the largest number of those before a time."""
    events.sort()
    largest, best = [], 0
    for _at, number in events:
        best = max(best, number)
        largest.append(best)
    times = [at for at, _number in events]

    def newest(at_ms):
        low, high = 0, len(times)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if times[middle] < at_ms else (low, middle)
        return largest[low - 1] if low else 0
    return newest


def _check_registers_read(ops, registers, trouble, verdict):
    """No read goes back behind an acknowledgement, or behind another read."""
    host_of = {op.key: op.host for op in ops if op.kind == SET}
    for key in {op.key for op in ops if op.kind == GET}:
        reads = [op for op in ops if op.kind == GET and op.key == key and op.outcome == OK]
        writes = registers.writes.get(key, {})
        acknowledged = _newest_before([(w.returned_ms, n) for n, w in writes.items() if w.outcome == OK])
        home = host_of.get(key)
        shown = _newest_before([(r.returned_ms, number_of(r.seen[0])) for r in reads if r.seen and r.host == home])
        for op in reads:
            number = number_of(op.seen[0] if op.seen else "")
            ours = op.host == home
            least = max(acknowledged(op.invoked_ms), shown(op.invoked_ms) if ours else 0)
            if number >= least or registers.excuses(key, number):
                continue
            if not ours and trouble.covers(op):
                verdict.stale += 1
            else:
                verdict.backwards.append(f"{op.told()} showed {number} after {least} was known")


def _check_shown(ops, kept, registers, verdict):
    """What was shown of a write that went through the same proxy is there in the end."""
    host_of = {op.value: op.host for op in ops if op.kind not in READS}
    final = {key: set(items) for key, items in kept.lists.items()}
    for op in ops:
        if op.kind not in READS or op.outcome != OK:
            continue
        for value in op.seen:
            if host_of.get(value) != op.host:
                continue
            if op.kind == LRANGE:
                gone = value not in final.get(op.key, ())
            else:
                number = number_of(kept.registers.get(op.key, ""))
                gone = number < number_of(value) and not registers.excuses(op.key, number)
            if gone:
                verdict.vanished.append(f"{op.told()} showed {value}")


def judge(ops, kept, trouble):
    """ops: of all clients, each client's in the order of its making; trouble: from the first fault to its end."""
    writes = [op for op in ops if op.kind not in READS]
    verdict = Verdict(acknowledged=sum(op.outcome == OK for op in writes),
                      unknown=sum(op.outcome == UNKNOWN for op in writes),
                      failed=sum(op.outcome == FAILED for op in writes),
                      reads=sum(op.kind in READS and op.outcome == OK for op in ops))
    registers = _Registers(ops)
    registers.check(kept, verdict)
    _check_lists(ops, kept, verdict)
    _check_counters(ops, kept, verdict)
    _check_registers_read(ops, registers, trouble, verdict)
    _check_shown(ops, kept, registers, verdict)
    return verdict
