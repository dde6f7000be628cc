"""Where strict chaos is played: an installation of Mr-Redis, strict or async, and Sentinel, on hosts alike.

A stage knows who is who (`party`), can be made whole again (`mend`), and says when all is well (`settle`).
"""

import contextlib
import dataclasses
import signal
import subprocess
import threading

import resp
from lab import CONTROL, DATA, EDGE, Lab, SentinelGroup
from netns import Network
from sandbox import Sandbox
from strict_workload import Clients
from wait import wait_until, wait_while

SETTLE_S = 60
UNREACHABLE_MS, HUNG_MS = 600, 1000  # so that a round is short; Sentinel is given as long as the longer one
REFUSED_S = 1.0


@dataclasses.dataclass
class Party:
    """A process and its host, whatever it is. Nothing is done twice: who is dead can't be stopped."""

    what: object  # has process, place, start()

    @property
    def place(self):
        return self.what.place

    def kill(self):
        self.what.process.kill()

    def start(self):
        if self.what.process.exit_status is not None:
            self.what.start()

    def wipe(self):
        """Of a member: what a synchronization left on its disk is loaded at the next start, else."""
        (self.what.folder / "dump.rdb").unlink(missing_ok=True)

    def suspend(self):
        self._signal(signal.SIGSTOP)

    def resume(self):
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        if self.what.process.exit_status is None:
            self.what.process.signal(number)


class Controller(Party):
    """One that stands still must not be asked."""

    def suspend(self):
        if self.what.process.exit_status is None:
            self.what.cluster.suspend_controller(self.what)

    def resume(self):
        self.what.cluster.resume_controller(self.what)

    def start(self):
        self.resume()
        super().start()


class Served:
    """A server that is one of several under a common roof: a ZooKeeper of the ensemble, a Sentinel."""

    def __init__(self, place, processes, start):
        self.place, self._processes, self._start = place, processes, start

    @property
    def process(self):
        return self._processes[self.place.name]

    def start(self):
        self._start(self.place)


def forget(master, prefix):
    """The round's keys go, so that rounds without end don't fill the memory."""
    with master.client() as client:
        cursor = "0"
        while True:
            cursor, keys = client.call("SCAN", cursor, "MATCH", f"{prefix}:*", "COUNT", 1000)
            if keys:
                client.call("UNLINK", *keys)
            if cursor == "0":
                break


class MrRedisStage:
    """Three controllers, three ZooKeepers, three members, two proxies. acks 0: async."""

    def __init__(self, acks):
        self.acks, self.sandbox, self._orders = acks, Sandbox(), []
        try:
            self.lab = Lab(self.sandbox, with_disks=False)
            self.network, self.cluster, self.instance = self.lab.network, self.lab.cluster, self.lab.instance
            for member in self.instance.members:
                member.boots_as_orphan = True
            policy = ["durability=strict", f"acks={acks}"] if acks else ["durability=async"]
            self.cluster.mrctl_ok("set", self.instance.name, *policy, "cooldown_ms=0",
                                  f"unreachable_after_ms={UNREACHABLE_MS}", f"hung_after_ms={HUNG_MS}")
            self.settle()
        except BaseException:
            self.close()
            raise

    def close(self):
        self.sandbox.close()

    def party(self, name):
        if name in ("replica", "other"):
            return Party(self.instance.replicas()[("replica", "other").index(name)])
        if name in ("zk", "zk2"):
            ensemble = self.lab.zookeeper
            return Party(Served(self.network[CONTROL[("zk", "zk2").index(name)]], ensemble.processes, ensemble.start))
        if name in ("leader", "standby"):
            leader = self.cluster.leader()
            return Controller(next(c for c in self.cluster.controllers if (c is leader) == (name == "leader")))
        return Party(self.instance.master() if name == "master" else self.cluster.proxies[0])

    def clients(self, prefix, seed):
        return Clients.on_proxies(self.cluster, self.instance.port, prefix, seed)

    def master(self):
        return self.instance.master()

    def failovers(self, since_ms):
        return [e["verdict"] for e in self.cluster.history(self.instance.name, since_ms) if e["kind"] == "failover"]

    def switch(self):
        """It may be refused, or wait for a leader: other faults go on meanwhile."""
        def order():
            with contextlib.suppress(AssertionError, subprocess.SubprocessError):
                self.cluster.mrctl("switchover", self.instance.name, "--limit-ms", "1000")
        self._orders.append(threading.Thread(target=order))
        self._orders[-1].start()

    def mend(self):
        self.lab.mend()
        while self._orders:
            self._orders.pop().join()

    def is_ready(self):
        state = self.instance.is_settled()
        if not state or not self.acks:
            return state
        return state if state["readiness"]["ready"] and state.get("holding") == len(EDGE) else None

    def settle(self):
        """Every role taken, every link up, every proxy in line, a failover possible."""
        wait_until(self.is_ready, "the instance to be ready", SETTLE_S)
        self.lab.wait_ready()

    def expect_refusal(self):
        """Too many members are gone: nobody is promoted, neither now nor when they come back without their memory;
        and who is left keeps what it has. Then an operator takes the loss."""
        if self.acks != 1:
            return  # of two acknowledgements one is left; and async takes whoever is left
        state = wait_until(lambda: s if "needs 2 of 3" in (s := self.instance.state()).get("waiting", "") else None,
                           "the failover to be refused", SETTLE_S)
        left = next(m for m in self.instance.members if m.process.exit_status is None)
        held = left.call("DEBUG", "DIGEST")
        self.mend()
        wait_while(lambda: self.instance.state()["state"] == "sealing"
                   and self.instance.epoch() == state["epoch"], "the refusal", REFUSED_S)
        assert left.call("DEBUG", "DIGEST") == held, "the survivor's data changed while the failover was refused"
        self.cluster.mrctl_ok("failover", self.instance.name, "--allow-data-loss")

    def describe(self):
        return self.lab.describe()


class SentinelStage:
    """Three Sentinels, three members; clients that ask the Sentinels and don't WAIT."""

    def __init__(self):
        self.sandbox = Sandbox()
        try:
            self.network = Network([*CONTROL, *DATA, *EDGE])
            self.sandbox.at_close(self.network.close)
            self.group = SentinelGroup(self.sandbox, self.network, HUNG_MS)
        except BaseException:
            self.close()
            raise

    def close(self):
        self.sandbox.close()

    def _sentinel(self, number):
        return Served(self.group.hosts[number], self.group.processes, self.group.start)

    def party(self, name):
        """A Sentinel stands for the controller, or the ZooKeeper, of its host. There are no proxies: their hosts are
        the clients'."""
        if name in ("replica", "other"):
            master = self.master()
            return Party([m for m in self.group.members if m is not master][("replica", "other").index(name)])
        if name == "master":
            return Party(self.master())
        if name == "proxy":
            return HostOnly(self.network[EDGE[0]])
        return Party(self._sentinel({"leader": 0, "standby": 1, "zk": 1, "zk2": 2}[name]))

    def clients(self, prefix, seed):
        return Clients.on_sentinel(self.group, [self.network[name] for name in EDGE], prefix, seed)

    def master(self):
        for host in self.group.hosts:
            with contextlib.suppress(OSError, StopIteration):
                return self.group.master(host)
        raise AssertionError("no Sentinel names a master")

    def failovers(self, _since_ms):
        """It keeps no history."""
        return None

    def switch(self):
        with contextlib.suppress(OSError, resp.RespError):
            self.group.ask("SENTINEL", "FAILOVER", self.group.NAME)

    def mend(self):
        self.network.heal()
        for party in [Party(m) for m in self.group.members] + [Party(self._sentinel(k)) for k in range(len(CONTROL))]:
            party.resume()
            party.start()

    def _is_ready(self):
        """It may change its mind again: then this breaks, and is tried again."""
        if not self.group.is_settled():
            return False
        self.group.master().wait_replicated(len(DATA) - 1)
        return True

    def settle(self):
        wait_until(self._is_ready, "Sentinel to settle", 3 * SETTLE_S)

    def expect_refusal(self):
        """Sentinel refuses nothing."""
        wait_while(lambda: True, "time", REFUSED_S)

    def describe(self):
        return "\n".join(f"{host}: {self.group.ask('SENTINEL', 'MASTER', self.group.NAME, host=host)}"
                         for host in self.group.hosts)


class HostOnly:
    """A host whose process isn't there to be hurt."""

    def __init__(self, place):
        self.place = place

    def kill(self):
        """Nothing runs here."""

    start = suspend = resume = kill


STAGES = {"strict": lambda: MrRedisStage(1), "strict-2": lambda: MrRedisStage(2), "async": lambda: MrRedisStage(0),
          "sentinel": SentinelStage}
