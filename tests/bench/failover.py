"""The outage that a client sees when its master is killed: Mr-Redis, Sentinel, and the floor under both.

Each contender runs the same rounds: a client writes without a pause; the master is killed (SIGKILL); when it has been
replaced the round ends; the killed server is started again, empty, and is a replica before the next round begins.
The client's longest time between two acknowledged writes of the round is the outage.
"""

import time

import resp
from cluster import BUILD, Cluster
from servers import ZooKeeper, redis_group
from talk import Talker, poll

NAME = "bench"
REPLICAS = 2
FILL_CHUNKS, FILL_KEYS, FILL_BYTES = 20, 50000, 1000  # 1 GB of values
SETTLE_S = 180
WARM_UP_WRITES = 1000


def program(name):
    return BUILD / "tests" / "bench" / name


def fill(members):
    """1 GB into each, the same in each: DEBUG POPULATE isn't replicated. In pieces, so that nobody looks hung."""
    for chunk in range(FILL_CHUNKS):
        for member in members:
            member.call("DEBUG", "POPULATE", FILL_KEYS, f"fill-{chunk}", FILL_BYTES)


def entries(flat):
    """Redis' name, value, name, value … as a dict."""
    return dict(zip(flat[::2], flat[1::2]))


class Contender:
    """One way to survive a killed master. self.members are the servers, self.client writes to the master."""

    title = ""

    def __init__(self, sandbox, gap_us, big):
        self.sandbox, self.gap_us, self.big = sandbox, gap_us, big
        self.members, self.client = [], None
        self.rounds, self.acknowledged, self.missing = [], 0, 0

    def run(self, kills, tell):
        for number in range(kills):
            account = self.round()
            self.rounds.append(account)
            tell(f"{self.title}: kill {number + 1} of {kills}: {account['outage_us'] / 1000:.1f} ms")
        self.finish()

    def round(self):
        self.wait_streaming()
        self.before_round()
        master = self.master()
        self.warm_up()
        self.client.ask("begin", "begun")
        killed_us = time.monotonic_ns() // 1000
        master.kill()
        self.wait_replaced(master)
        account = self.client.ask("end", "round")
        account["from_kill_us"] = account["outage_end_us"] - killed_us
        self.after_round(master)
        return account

    def wait_streaming(self):
        """Redis calls a replica online up to a second before its stream begins; only an acknowledgement proves it."""
        def acknowledged():
            with self.master().client() as client:
                client.call("SET", "bench:marker", "1")
                return client.call("WAIT", REPLICAS, 100) == REPLICAS
        poll(acknowledged, "the replicas to acknowledge writes", SETTLE_S)

    def warm_up(self):
        """Returns once the client writes steadily."""
        self.client.ask("begin", "begun")
        poll(lambda: self.client.ask("end", "round")["writes"] >= WARM_UP_WRITES, "the client to write")

    def verify(self):
        """Adds what the current master has of the client's acknowledged writes."""
        found = self.client.ask(f"verify {self.master().address}", "verified")
        if found["error"]:
            raise AssertionError(f"{self.title}: acknowledged writes could not be verified: {found['error']}")
        self.acknowledged += found["acknowledged"]
        self.missing += found["missing"]

    def before_round(self):
        pass

    def master(self):
        raise NotImplementedError

    def wait_replaced(self, killed):
        raise NotImplementedError

    def after_round(self, killed):
        """Starts the killed one again; returns when every member has its role and data."""
        raise NotImplementedError

    def finish(self):
        self.verify()


class Floor(Contender):
    title = "floor"

    def __init__(self, sandbox, gap_us, big):
        super().__init__(sandbox, gap_us, big)
        self.members = redis_group(sandbox, "floor", REPLICAS)
        if big:
            fill(self.members)

    def before_round(self):
        self.client = Talker(self.sandbox, [program("floor"), "--gap-us", self.gap_us,
                                            *(member.address for member in self.members)])

    def master(self):
        return self.members[0]

    def wait_replaced(self, killed):
        poll(lambda: self.members[1].role() == "master", "the promotion by the floor program")

    def after_round(self, killed):
        _, promoted, other = self.members
        self.members = [promoted, other, killed]
        self.verify()
        self.client.ask("quit", "total")
        self.client.close()
        other.call("REPLICAOF", "127.0.0.1", promoted.port)
        killed.start(replica_of=promoted)
        poll(lambda: all(m.follows(promoted) for m in (other, killed)), "the floor's replicas", SETTLE_S)

    def finish(self):
        pass


def mr_cluster(sandbox):
    return Cluster(sandbox, ZooKeeper(sandbox), "/mr-bench", controllers=3, proxies=1, log_level="info")


class MrRedis(Contender):
    title, name, durability = "Mr-Redis", NAME, "async"

    def __init__(self, sandbox, gap_us, big, cluster=None):
        """cluster: of mr_cluster(); a new one unless given."""
        super().__init__(sandbox, gap_us, big)
        self.cluster = cluster or mr_cluster(sandbox)
        self.instance = self.cluster.adopt(self.name, replicas=REPLICAS)
        self.members = self.instance.members
        if big:
            fill(self.members)
        if self.durability == "strict":
            self.cluster.mrctl_ok("set", self.name, "durability=strict", "acks=1")
            poll(lambda: self.instance.state().get("holding") == len(self.cluster.proxies), "the proxy to hold replies")
        proxy = self.cluster.proxies[0]
        self.client = Talker(sandbox, [program("outage_client"), "--host", proxy.bind, "--port", self.instance.port,
                                       "--gap-us", gap_us])
        self.instance.wait_settled()
        self._epoch = self.instance.epoch()

    def before_round(self):
        self._epoch = self.instance.epoch()

    def master(self):
        return self.instance.master()

    def wait_replaced(self, killed):
        def replaced():
            state = self.instance.state()
            return state["epoch"] > self._epoch and state["state"] == "stable"
        poll(replaced, "the failover")

    def after_round(self, killed):
        killed.start()
        poll(self.instance.is_settled, "the killed master to be a replica", SETTLE_S)
        self.cluster.mrctl_ok("ack", self.name)  # the rounds follow each other faster than the cooldown allows


class MrRedisStrict(MrRedis):
    title, name, durability = "Mr-Redis, strict", f"{NAME}-strict", "strict"

    def before_round(self):
        """The one that was killed counts again once it has all that its master told of since."""
        super().before_round()
        poll(lambda: self.instance.state()["readiness"]["ready"], "a failover to be possible", SETTLE_S)


class Sentinel(Contender):
    COUNT, QUORUM = 3, 2
    FAILOVER_TIMEOUT_MS = 10000

    def __init__(self, sandbox, gap_us, big, down_after_ms):
        super().__init__(sandbox, gap_us, big)
        self.title = f"Sentinel, down-after {down_after_ms} ms"
        self.members = redis_group(sandbox, "watched", REPLICAS)
        if big:
            fill(self.members)
        self._ports = [sandbox.ports.one() for _ in range(self.COUNT)]
        for number, port in enumerate(self._ports):
            self._start(number, port, down_after_ms)
        poll(self._is_settled, "the Sentinels to know each other and the replicas")
        self.client = Talker(sandbox, [program("sentinel_client"), "--name", NAME, "--gap-us", gap_us,
                                       *(f"127.0.0.1:{port}" for port in self._ports)])

    def _start(self, number, port, down_after_ms):
        folder = self.sandbox.folder / f"sentinel-{number}"
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                          f"sentinel monitor {NAME} 127.0.0.1 {self.members[0].port} {self.QUORUM}\n"
                          f"sentinel down-after-milliseconds {NAME} {down_after_ms}\n"
                          f"sentinel failover-timeout {NAME} {self.FAILOVER_TIMEOUT_MS}\n"
                          f"sentinel parallel-syncs {NAME} 1\n", encoding="utf-8")
        self.sandbox.start(f"sentinel-{number}", ["redis-server", config, "--sentinel"])

    def _knows(self, port):
        """What one Sentinel says is as it should be: two other Sentinels, two replicas that are up."""
        with resp.Client(port) as sentinel:
            state = entries(sentinel.call("SENTINEL", "MASTER", NAME))
            replicas = [entries(flat) for flat in sentinel.call("SENTINEL", "REPLICAS", NAME)]
        return (state["flags"] == "master" and int(state["num-other-sentinels"]) == self.COUNT - 1
                and [replica["flags"] for replica in replicas] == ["slave"] * REPLICAS
                and int(state["port"]) == self.master().port)

    def _is_settled(self):
        master = self.master()
        replicas = [member for member in self.members if member is not master]
        return (master.info()["connected_slaves"] == str(REPLICAS)
                and all(replica.follows(master) for replica in replicas)
                and all(self._knows(port) for port in self._ports))

    def _named(self):
        _, port = resp.ask(self._ports[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return int(port)

    def master(self):
        named = self._named()
        return next(member for member in self.members if member.port == named)

    def wait_replaced(self, killed):
        poll(lambda: self.master() is not killed and self.master().role() == "master", "Sentinel's failover")

    def after_round(self, killed):
        # As the configuration file would have it that Sentinel rewrites: alone it takes more than 8 s to notice.
        killed.start(replica_of=self.master())
        poll(self._is_settled, "the killed master to be a replica that all Sentinels know", SETTLE_S)
