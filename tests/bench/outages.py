"""What a client sees of each kind of loss, beside Sentinel on the same hosts: kill, hang, host cut off, planned
switchover, leader killed and then the master.

The hosts are network namespaces (tests/lib/lab.py). A round: the client writes without a pause; something is lost; when
the master has been replaced and the client writes again the round ends, and everything is mended. The client's longest
time between two acknowledged writes of the round is the outage.
"""

import random
import statistics
import time

import table
from failover import program
from lab import DATA, Lab
from talk import Talker, poll
from wait import wait_while

DOWN_AFTER_MS = 1000
CLIENT_TIMEOUT_MS = 250  # Sentinel's client: a silent connection is given up; through a proxy nobody needs one
MOMENT_S = 0.5
SETTLE_S = 180
WARM_UP_WRITES = 500

FAULTS = {
    "kill": "SIGKILL of the master",
    "hang": "SIGSTOP of the master",
    "host": "the master's host cut off",
    "switchover": "planned switchover",
    "leader": "leader killed, then the master",
}


class Target:
    """One of the two on the lab's hosts. client_argv: what writes, on the host p1."""

    title = ""

    def __init__(self, lab, gap_us):
        self.lab, self.gap_us = lab, gap_us
        self.members = []

    def master(self):
        raise NotImplementedError

    def is_replaced(self, old):
        raise NotImplementedError

    def is_settled(self):
        raise NotImplementedError

    def kill_leader(self):
        raise NotImplementedError

    def switch_over(self):
        raise NotImplementedError

    def take_back(self, old):
        """Starts a killed master again."""
        raise NotImplementedError

    def prepare(self):
        """Before each round."""

    def is_streaming(self):
        """Redis calls a replica online up to a second before its stream begins; only an acknowledgement proves it."""
        with self.master().client() as client:
            client.call("SET", "bench:marker", "1")
            return client.call("WAIT", len(DATA) - 1, 200) == len(DATA) - 1

    def is_client_served(self):
        """The present master has writes from the client's host: a client that was not told goes on with the old one."""
        with self.master().client() as client:
            lines = client.call("CLIENT", "LIST", "TYPE", "NORMAL").splitlines()
        return any(f" addr={self.lab.host('p1').ip}:" in line and " cmd=set " in line for line in lines)

    # ---- what is lost ------------------------------------------------------------------------------------------

    def lose(self, fault, old):
        if fault == "kill":
            old.kill()
        elif fault == "hang":
            old.suspend()
        elif fault == "host":
            self.lab.network.link_down(old.place)
        elif fault == "switchover":
            self.switch_over()
        else:
            self.kill_leader()
            old.kill()

    def mend(self, old):
        self.lab.network.heal()
        if old.process.exit_status is None:
            old.resume()
        else:
            self.take_back(old)
        poll(self.is_settled, f"{self.title} to settle", SETTLE_S)


class MrRedis(Target):
    title = "Mr-Redis"

    def __init__(self, lab, gap_us):
        super().__init__(lab, gap_us)
        self.instance, self.members = lab.instance, lab.instance.members
        self._epoch = 0

    def client_argv(self):
        return [program("outage_client"), "--host", self.lab.cluster.proxies[0].bind, "--port", self.instance.port,
                "--gap-us", self.gap_us]

    def prepare(self):
        self.lab.lift_restraint()
        self._epoch = self.instance.epoch()

    def master(self):
        return self.instance.master()

    def is_replaced(self, old):
        state = self.instance.state()
        return state["epoch"] > self._epoch and state["state"] == "stable"

    def is_settled(self):
        return self.instance.is_settled()

    def kill_leader(self):
        self.lab.cluster.leader().process.kill()

    def switch_over(self):
        self.lab.cluster.mrctl_ok("switchover", self.instance.name)

    def take_back(self, old):
        old.start()

    def mend(self, old):
        for controller in self.lab.cluster.controllers:
            if controller.process.exit_status is not None:
                controller.start()
        super().mend(old)


class Sentinel(Target):
    title = f"Sentinel, down-after {DOWN_AFTER_MS} ms"
    CLIENT = ()

    def __init__(self, lab, gap_us):
        super().__init__(lab, gap_us)
        self.group, self.members = lab.sentinel, lab.sentinel.members

    def client_argv(self):
        return [program("sentinel_client"), "--name", self.group.NAME, "--gap-us", self.gap_us, "--timeout-ms",
                CLIENT_TIMEOUT_MS, *self.CLIENT, *self.group.addresses()]

    def _witness(self):
        return next(host for host in self.group.hosts if self.group.processes[host.name].exit_status is None)

    def master(self):
        return self.group.master(self._witness())

    def is_replaced(self, old):
        master = self.master()
        return master is not old and master.role() == "master"

    def is_settled(self):
        return self.group.is_settled()

    def kill_leader(self):
        """None of them leads before there is something to do: the first one that the client listens to."""
        self.group.processes[self.group.hosts[0].name].kill()

    def switch_over(self):
        self.group.ask("SENTINEL", "FAILOVER", self.group.NAME, host=self._witness())

    def take_back(self, old):
        # As the configuration file would have it that Sentinel rewrites.
        old.start(replica_of=self.master())

    def mend(self, old):
        self.group.restart_killed()
        super().mend(old)


class PollingSentinel(Sentinel):
    title = Sentinel.title + ", polling client"
    CLIENT = ("--poll-ms", 100)


def measure(target, fault, rounds, tell):
    """The rounds of one kind of loss, as table.summary() wants them."""
    sandbox, host = target.lab.sandbox, target.lab.host("p1")
    client = Talker(sandbox, host.command(target.client_argv()), name=f"{target.title} {fault}")
    accounts = []
    try:
        for number in range(rounds):
            account = play(target, fault, client)
            found = client.ask(f"verify {target.master().address}", "verified")
            if found["error"]:
                raise AssertionError(f"{target.title}: acknowledged writes can't be verified: {found['error']}")
            accounts.append(account)
            tell(f"{target.title}: {FAULTS[fault]}, {number + 1} of {rounds}: {account['outage_us'] / 1000:.1f} ms, "
                 f"{found['missing']} of {found['acknowledged']} acknowledged writes missing so far")
    finally:
        client.close()
    return summary(target, fault, accounts, found)


def play(target, fault, client):
    poll(target.is_streaming, "the replicas to acknowledge writes", SETTLE_S)
    target.prepare()
    client.ask("begin", "begun")
    poll(lambda: client.ask("end", "round")["writes"] >= WARM_UP_WRITES, "the client to write")
    old = target.master()
    client.ask("begin", "begun")
    # Asking for the master was heard by ZooKeeper as a sign of the leader's life. Real losses don't wait for that.
    wait_while(lambda: True, "time", random.uniform(0.0, MOMENT_S))
    lost_us = time.monotonic_ns() // 1000
    target.lose(fault, old)
    poll(lambda: target.is_replaced(old), f"{target.title} to replace the master", SETTLE_S)
    poll(target.is_client_served, f"{target.title}'s client to write to the new master", SETTLE_S)
    account = client.ask("end", "round")
    account["from_loss_us"] = account["outage_end_us"] - lost_us
    target.mend(old)
    return account


def summary(target, fault, accounts, found):
    outages = [account["outage_us"] / 1000 for account in accounts]
    errors = {}
    for account in accounts:
        for kind, count in account["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    return {
        "title": target.title, "fault": fault, "rounds": len(outages), "median_ms": statistics.median(outages),
        "min_ms": min(outages), "max_ms": max(outages), "errors": errors,
        "reconnects": sum(account["reconnects"] for account in accounts),
        "acknowledged": found["acknowledged"], "missing": found["missing"],
        "outages_ms": [round(outage, 3) for outage in outages],
    }


def measure_outages(sandbox, options, tell):
    lab = Lab(sandbox, with_disks=False)
    lab.add_sentinel(DOWN_AFTER_MS)
    lab.wait_ready()
    results = []
    for fault in options.faults:
        targets = [MrRedis(lab, options.gap_us)]
        if not options.no_sentinel:
            targets.append(Sentinel(lab, options.gap_us))
            if fault == "switchover":
                targets.append(PollingSentinel(lab, options.gap_us))
        results += [measure(target, fault, options.rounds, tell) for target in targets]
    return results


# ---- the table -----------------------------------------------------------------------------------------------------

def _row(result):
    errors = ", ".join(f"{kind} {count}" for kind, count in sorted(result["errors"].items())) or "none"
    return [FAULTS[result["fault"]], result["title"], str(result["rounds"]), f"{result['median_ms']:.1f}",
            f"{result['min_ms']:.1f}", f"{result['max_ms']:.1f}", errors, str(result["reconnects"]),
            f"{result['missing']} of {result['acknowledged']}"]


def _goals(result):
    """(what is aimed at, is it met) for one of ours."""
    slack_ms = 100
    if result["fault"] == "host":
        yield f"host cut off: max <= 1500 + {slack_ms} ms", result["max_ms"] <= 1500 + slack_ms
    elif result["fault"] == "hang":
        yield f"hang: max <= 3000 + {slack_ms} ms", result["max_ms"] <= 3000 + slack_ms
    elif result["fault"] == "switchover":
        yield "switchover: median <= 20 ms", result["median_ms"] <= 20
        yield "switchover: no error", not result["errors"] and result["reconnects"] == 0
        yield "switchover: nothing acknowledged is missing", result["missing"] == 0
    elif result["fault"] == "leader":
        yield "leader killed, then the master: max <= 1000 ms", result["max_ms"] <= 1000
    else:
        yield "kill: median <= 10 ms", result["median_ms"] <= 10


def outage_lines(results):
    yield "outage seen by a client, hosts in network namespaces"
    yield from table.align([["lost", "with", "rounds", "median", "min", "max", "errors", "reconnects",
                             "writes missing"]] + [_row(result) for result in results])
    for result in results:
        if result["title"] != MrRedis.title:
            continue
        for goal, met in _goals(result):
            yield f"  {'met   ' if met else 'MISSED'}  {goal}"
        beside = next((r for r in results if r["fault"] == result["fault"] and r["title"] == Sentinel.title), None)
        if beside:
            yield (f"          {FAULTS[result['fault']]}: Sentinel's median is "
                   f"{beside['median_ms'] / result['median_ms']:.1f} x ours")
