"""Random faults from a seed: which, whom, when, for how long. A stage (stages.py) knows who that is.

    seed ─► choose() ─► Plan: Fault, Fault … ─► play_out(): each begins, and ends, in its time

A plan keeps to what strict promises with one acknowledgement: at most one member at a time loses its memory, others are only
stopped or cut off; except when it is marked as going beyond, which must end in a refused failover.
"""

import dataclasses
import heapq
import random
import time

from wait import wait_until, wait_while

# Parties: of the moment the round begins. `zk` and `zk2` are ZooKeeper servers, `zk` on the first host or another.
MEMBERS = ("master", "replica", "other")
LATE = "new master"  # whoever is master then
AWAITING = ("settle", "refused")  # they wait for something: what else is broken ends before
SUCCESSION_S = 60
LASTING_S = 9.0  # not undone by the plan: the stage is mended when something has been seen


@dataclasses.dataclass(frozen=True)
class Fault:
    at_s: float
    kind: str    # a method of Actions
    whom: tuple
    for_s: float  # then it is undone

    def told(self):
        return f"{self.at_s:.2f} {self.kind} {'+'.join(self.whom)}".rstrip() + f" for {self.for_s:.2f}"


@dataclasses.dataclass(frozen=True)
class Plan:
    seed: int
    faults: tuple
    is_beyond: bool = False  # more members lose their memory than the promise covers

    def told(self):
        return ("BEYOND " if self.is_beyond else "") + "; ".join(f.told() for f in self.faults)


# (weight, kind, whom, shortest, longest): what happens to the data's own processes and hosts …
PRIMARY = (
    (3, "kill", ("master",), 0.0, 1.5),
    (2, "kill", ("master",), 0.0, 0.0),  # back at once, with what it last loaded or saved
    (4, "wipe", ("master",), 0.0, 0.0),  # back at once, empty
    (2, "kill", ("replica",), 0.0, 1.0),
    (2, "wipe", ("replica",), 0.0, 1.0),
    (4, "stop", ("master",), 0.3, 2.0),
    (2, "stop", ("replica",), 0.3, 1.5),
    (3, "stop", ("replica", "other"), 0.3, 1.5),
    (4, "unplug", ("master",), 0.4, 2.0),
    (2, "unplug", ("replica",), 0.4, 1.5),
    (2, "unplug", ("replica", "other"), 0.4, 1.5),
    (5, "isolate", ("master", "proxy"), 0.8, 2.2),
    (2, "isolate", ("master", "replica"), 0.8, 1.8),
    (3, "mute", ("master",), 0.5, 2.0),
    (3, "deafen", ("master",), 0.5, 2.0),
    (3, "part", ("master", "replica", "other"), 0.5, 1.8),
    (2, "part", ("proxy", "master"), 0.5, 1.8),
    (2, "switch", (), 0.0, 0.0),
)
# … and to those who look after it.
SECONDARY = (
    (3, "kill", ("leader",), 0.0, 1.0),
    (3, "stop", ("leader",), 0.5, 2.0),
    (2, "part", ("leader", "standby"), 0.8, 2.0),
    (2, "part", ("leader", "master"), 0.5, 1.5),
    (1, "kill", ("standby",), 0.0, 1.0),
    (2, "kill", ("zk",), 0.2, 1.0),
    (2, "stop", ("zk",), 0.3, 1.5),
    (2, "stop", ("zk", "zk2"), 0.4, 1.5),  # no quorum
    (1, "unplug", ("standby",), 0.5, 1.5),
    (3, "kill", ("proxy",), 0.0, 0.5),
    (2, "stop", ("replica",), 0.2, 1.2),
    (2, "unplug", ("replica",), 0.3, 1.2),
    (1, "part", ("replica", "other"), 0.3, 1.2),
)


def _draw(rng, table, earliest_s, latest_s):
    _weight, kind, whom, shortest_s, longest_s = rng.choices(table, [row[0] for row in table])[0]
    return Fault(rng.uniform(earliest_s, latest_s), kind, whom, rng.uniform(shortest_s, longest_s))


def _frozen_then_killed(rng):
    """Nobody acknowledges any more, then the master dies: what it said OK to meanwhile is gone with it."""
    frozen_s = rng.uniform(0.5, 1.2)
    how = rng.choice(("stop", "unplug"))
    return (Fault(0.0, how, ("replica", "other"), frozen_s),
            Fault(rng.uniform(0.3, frozen_s - 0.1), "kill", ("master",), rng.uniform(0.8, 1.5)))


def _killed_twice(rng):
    """The second one may need what only the first had promised: it is dead, and counts."""
    return (Fault(0.0, rng.choice(("kill", "wipe")), ("master",), 0.0), Fault(0.3, "settle", (), 0.0),
            Fault(0.4, "kill", (LATE,), rng.uniform(0.0, 0.6)))


def until_succession(lasting_s):
    """The partition that Sentinel is known for: a proxy and its clients stay with the old master, for so long after there
    is a new one."""
    return (Fault(0.0, "isolate", ("master", "proxy"), LASTING_S), Fault(0.1, "succeed", (), lasting_s))


def _beyond(rng):
    return (Fault(0.0, "kill", ("replica",), LASTING_S), Fault(0.0, "kill", ("master",), LASTING_S),
            Fault(rng.uniform(0.1, 0.2), "refused", (), 0.0))


def choose(seed):
    """The plan of that seed."""
    rng = random.Random(seed)
    sort = rng.random()
    if sort < 0.07:
        return Plan(seed, _beyond(rng), is_beyond=True)
    if sort < 0.12:
        return Plan(seed, until_succession(rng.uniform(0.2, 1.0)))
    if sort < 0.20:
        faults = _frozen_then_killed(rng)
    elif sort < 0.26:
        faults = _killed_twice(rng)
    else:
        faults = (_draw(rng, PRIMARY, 0.0, 0.4),)
    faults += tuple(_draw(rng, SECONDARY, 0.0, 0.8) for _ in range(rng.choice((0, 0, 1, 1, 2))))
    return Plan(seed, tuple(sorted(faults, key=lambda f: f.at_s)))


class Actions:
    """What can be done to a stage. Each method returns what undoes it, or nothing."""

    def __init__(self, stage):
        self._stage, self._network = stage, stage.network
        self._parties = {name: stage.party(name) for name in (*MEMBERS, "leader", "standby", "proxy", "zk", "zk2")}

    def begin(self, fault):
        parties = [self._stage.party("master") if name == LATE else self._parties[name] for name in fault.whom]
        return getattr(self, fault.kind)(*[p for p in parties if p is not None])

    def kill(self, *parties):
        for party in parties:
            party.kill()
        return lambda: [party.start() for party in parties]

    def wipe(self, party):
        """Killed, and its disk is empty."""
        party.kill()
        party.wipe()
        return party.start

    def stop(self, *parties):
        for party in parties:
            party.suspend()
        return lambda: [party.resume() for party in parties]

    def unplug(self, *parties):
        for party in parties:
            self._network.link_down(party.place)
        return lambda: [self._network.link_up(party.place) for party in parties]

    def isolate(self, *parties):
        return self._undo_cuts(self._network.isolate([party.place for party in parties]))

    def part(self, first, *others):
        """The first is cut off from these, from nobody else."""
        return self._undo_cuts(self._network.cut([first.place], [party.place for party in others]))

    def mute(self, party):
        return self._undo_cuts(self._network.cut_one_way([party.place], self._others(party)))

    def deafen(self, party):
        return self._undo_cuts(self._network.cut_one_way(self._others(party), [party.place]))

    def switch(self):
        """A planned switchover; it may be refused, and be undone."""
        self._stage.switch()

    def settle(self):
        self._stage.settle()

    def succeed(self):
        """Lasts until somebody else is master."""
        old = self._parties["master"].what
        wait_until(lambda: self._stage.master() is not old, "another master", SUCCESSION_S)
        return lambda: None

    def refused(self):
        self._stage.expect_refusal()

    def _others(self, party):
        return [host for host in self._network.hosts.values() if host is not party.place]

    def _undo_cuts(self, cuts):
        return lambda: self._network.mend(cuts)


def play_out(plan, stage):
    """Begins and ends each fault of the plan. What is still broken afterwards the stage mends."""
    actions, began = Actions(stage), time.monotonic()
    due = [(fault.at_s, number, fault) for number, fault in enumerate(plan.faults)]
    heapq.heapify(due)
    while due:
        at_s, number, what = heapq.heappop(due)
        wait_while(lambda: True, "time", at_s - (time.monotonic() - began))
        at_s = time.monotonic() - began
        if not isinstance(what, Fault):
            what()
            continue
        if what.kind in AWAITING:  # else it would wait in vain
            for item in [item for item in due if not isinstance(item[2], Fault)]:
                due.remove(item)
                item[2]()
            heapq.heapify(due)
        undo = actions.begin(what)
        if undo and what.for_s < LASTING_S:
            heapq.heappush(due, (at_s + what.for_s, number, undo))
