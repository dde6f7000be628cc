"""One round: clients write, something breaks, it is mended, and the history is judged."""

import dataclasses
import itertools

from history import SLACK_MS, Final, Loss, Report, check, now_ms
from wait import SLOWNESS, wait_until, wait_while
from workload import Workload

WARM_UP_WRITES = 25
FAILOVER_LIMIT_S = 15 * SLOWNESS  # gives up; how fast it is, is for the bench to say

_numbers = itertools.count(1)


@dataclasses.dataclass
class Outcome:
    """What a round came to."""

    scenario: str
    failovers: int = 0
    verdicts: tuple = ()
    gap_ms: float = 0.0  # the longest time without an acknowledgement, of the clients that could be served
    report: Report = dataclasses.field(default_factory=Report)
    beside: Report = None  # the same of Sentinel's clients

    @property
    def problems(self):
        return self.report.problems

    def line(self):
        text = (f"{self.scenario}: failovers={self.failovers}"
                f"{' ' + ','.join(self.verdicts) if self.verdicts else ''} gap_ms={self.gap_ms:.0f} "
                f"{self.report.summary()}")
        return text + (f" | Sentinel: acknowledged={self.beside.acknowledged} lost={self.beside.lost_total}"
                       if self.beside else "")


class Round:
    """The scenario's view of the lab: who is who now, the faults, and what is expected of the cluster."""

    def __init__(self, lab, scenario):
        self.lab, self.scenario = lab, scenario
        self.network, self.cluster, self.instance = lab.network, lab.cluster, lab.instance
        self.began_ms = now_ms()
        self.prefix = f"h{next(_numbers)}"
        self.fault_ms, self.forgetful, self.cut_off_hosts = None, set(), ()
        lab.lift_restraint()
        self.epoch = self.instance.epoch()
        self.master = self.instance.master()
        self.leader = self.cluster.leader()
        self.workload = Workload.on_proxies(self.cluster, self.instance.port, self.prefix)
        self.workload.wait_more(WARM_UP_WRITES)
        self.served = list(self.workload.clients)  # clients that must be served through it all
        self.then = None  # what is done to Sentinel afterwards; returns a Report

    # ---- faults ------------------------------------------------------------------------------------------------

    def begin(self):
        """The fault begins with the next line of the scenario."""
        self.fault_ms = now_ms()

    def kill(self, member):
        self.forgetful.add(member.address)
        member.kill()

    def cut_off_with_master(self, *hosts):
        """These hosts' clients go on with the old master until the cut is healed."""
        self.cut_off_hosts = tuple(host.name for host in hosts)
        self.served = [c for c in self.workload.clients if c.host not in hosts]

    def last(self, duration_s):
        """The fault lasts; nothing is asked meanwhile."""
        wait_while(lambda: True, "time", duration_s)

    # ---- expectations ------------------------------------------------------------------------------------------

    def expect_failover(self, *verdicts):
        """A new master, for one of these reasons, and the clients that can be served are."""
        def failed_over():
            state = self.instance.state()
            return state if state["epoch"] > self.epoch and state["state"] == "stable" else None
        state = wait_until(failed_over, f"a failover ({self.scenario})", FAILOVER_LIMIT_S)
        found = state["last_failover"]["verdict"]
        assert found in verdicts, f"{self.scenario}: the verdict was {found}, not {' or '.join(verdicts)}"
        assert state["master"] != self.master.address, f"{self.scenario}: the same master was promoted"
        self.workload.wait_more(WARM_UP_WRITES, self.served, FAILOVER_LIMIT_S)

    def is_undisturbed(self):
        state = self.instance.state()
        return state["epoch"] == self.epoch and state["state"] == "stable"

    def expect_nothing(self, duration_s, served=True):
        """No failover for so long, and the clients go on."""
        wait_while(self.is_undisturbed, f"epoch {self.epoch} of {self.instance.name} ({self.scenario})", duration_s)
        if served:
            self.workload.wait_more(WARM_UP_WRITES, self.served)

    # ---- the end -----------------------------------------------------------------------------------------------

    def finish(self):
        """Waits until all is well again, stops the clients, and judges what they were told."""
        self.lab.wait_ready()
        self.workload.wait_more(WARM_UP_WRITES)
        self.workload.stop()
        master, entries = self.instance.master(), self.cluster.history(self.instance.name, self.began_ms)
        failovers = [e for e in entries if e["kind"] == "failover"]
        ops = self.workload.ops()
        with master.client() as client:
            final = Final.read(client, ops)
        report = check(ops, final, [self._loss(e, entries) for e in failovers])
        self._check_agreement(report, master)
        self._forget(master)
        gap_ms = self.workload.longest_gap_ms(self.fault_ms or self.began_ms, self.served)
        return Outcome(self.scenario, len(failovers), tuple(e["verdict"] for e in failovers), gap_ms, report)

    def _loss(self, failover, entries):
        published_ms = failover["at"] + failover["timeline_ms"].get("total", 0)
        back = next((e for e in entries if e["kind"] == "rejoined" and e["from"] == failover["from"]
                     and e["epoch"] >= failover["epoch"]), None)
        healed_ms = back["at"] if back else now_ms()
        until = {"*": published_ms + SLACK_MS, **{host: healed_ms for host in self.cut_off_hosts}}
        owned = None
        if back and failover["from"] not in self.forgetful:
            owned = back.get("lost_bytes", 0)
        return Loss(min(self.fault_ms or published_ms, published_ms), until, owned, failover["from"])

    def _check_agreement(self, report, master):
        """Every replica holds what the master holds."""
        master.wait_replicated(len(self.instance.members) - 1)
        digests = {m.address: m.call("DEBUG", "DIGEST") for m in self.instance.members}
        if len(set(digests.values())) != 1:
            report.problems.append(f"the members' data differ: {digests}")

    def _forget(self, master):
        """The round's keys go, so that rounds without end don't fill the memory."""
        with master.client() as client:
            cursor = "0"
            while True:
                cursor, keys = client.call("SCAN", cursor, "MATCH", f"{self.prefix}:*", "COUNT", 1000)
                if keys:
                    client.call("UNLINK", *keys)
                if cursor == "0":
                    break

    def abandon(self):
        """After a failure: the clients end; what they say of it does not matter any more."""
        self.workload.abandon()


def play(lab, name, scenario):
    """A round of that scenario. The lab is whole afterwards, or the round failed."""
    this = Round(lab, name)
    try:
        scenario(this)
        lab.mend()
        outcome = this.finish()
        if this.then and lab.sentinel:
            outcome.beside = this.then(this)
            lab.mend()
            lab.wait_ready()
        return outcome
    except BaseException:
        this.abandon()
        raise


