"""A proxy in front of a strict instance, as ZooKeeper's record says: what its clients get, and what it tells of it."""

import itertools
import json
import threading
import urllib.request

import pytest
from kazoo.client import KazooClient

import resp
from cluster import binary
from sandbox import listening
from servers import Redis
from wait import ZK_SESSION_S, wait_until

_chroots = itertools.count(1)
ACK_MS = 400


class Bed:
    """ZooKeeper with a strict instance's record, a master with a replica, a proxy."""

    def __init__(self, sandbox, zookeeper):
        self.sandbox, self.hosts = sandbox, zookeeper.hosts(f"/strict{next(_chroots)}")
        self.master = Redis(sandbox, "master")
        self.replica = Redis(sandbox, "replica", replica_of=self.master)
        self.port, self.http = sandbox.ports.one(), sandbox.ports.one()
        self.epoch, self.client = 0, zookeeper_client(sandbox, self.hosts)
        self.master.wait_replicated(1)
        self.put("strict")
        self.proxy = sandbox.start("mr-proxy", [
            binary("mr-proxy"), "--zk", self.hosts, "--id", "host-1", "--http", f"127.0.0.1:{self.http}", "--ack-ms",
            str(ACK_MS)])
        wait_until(listening(self.port), "the instance's port")

    def put(self, durability, master=None):
        self.epoch += master is not None or self.epoch == 0
        value = {"v": 1, "name": "cart", "port": self.port, "state": "stable", "epoch": self.epoch,
                 "master": (master or self.master).address, "policy": {"durability": durability, "acks": 1},
                 "members": [{"address": m.address} for m in (self.master, self.replica)]}
        text = json.dumps(value).encode()
        if self.client.exists("/instances/cart"):
            self.client.set("/instances/cart", text)
        else:
            self.client.create("/instances/cart", text)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return answer.read().decode()

    def stats(self):
        return json.loads(self.get("/v1/stats"))["instances"][0]


def zookeeper_client(sandbox, hosts):
    client = KazooClient(hosts=hosts, timeout=ZK_SESSION_S)
    client.start(timeout=30)
    sandbox.at_close(client.stop)
    client.ensure_path("/instances")
    return client


@pytest.fixture
def bed(sandbox, request):
    return Bed(sandbox, request.getfixturevalue("shared_zookeeper"))


def refusal(client, *args):
    with pytest.raises(resp.RespError) as refused:
        client.call(*args)
    return refused.value.code


def test_a_frozen_replica_is_told_to_who_writes_and_to_nobody_else(bed):
    with resp.Client(bed.port) as writer, resp.Client(bed.port) as reader:
        assert writer.call("SET", "a", "1") == "OK"
        assert writer.call("SET", "b", "1") == "OK"
        bed.replica.suspend()
        assert refusal(writer, "SET", "a", "2") == "MRDURABILITY"
        assert refusal(reader, "GET", "a") == "MRDURABILITY"
        assert reader.call("GET", "b") == "1"
        assert bed.master.call("GET", "a") == "2"
        bed.replica.resume()
        wait_until(lambda: writer.call("SET", "c", "1") == "OK", "writes to be acknowledged again")
        assert reader.call("GET", "a") == "2"
        stats = bed.stats()
        assert stats["unacknowledged"] >= 2 and stats["ack_batches"] > 2
        metrics = bed.get("/metrics")
        assert 'mr_proxy_unacknowledged_total{instance="cart"}' in metrics
        assert 'mr_proxy_ack_duration_seconds_count{instance="cart"}' in metrics
        # The policy is changed live: nobody waits for a replica any more.
        bed.put("async")
        bed.replica.suspend()
        wait_until(lambda: writer.call("SET", "d", "1") == "OK", "the new policy")
        bed.replica.resume()


def write_until(port, stop, done, errors):
    """Writes numbered keys; `done` gets those that were acknowledged."""
    number = itertools.count()
    with resp.Client(port) as client:
        while not stop.is_set():
            key = f"{threading.get_ident()}:{next(number)}"
            try:
                if client.call("SET", key, "x") == "OK":
                    done.append(key)
            except resp.RespError as refused:
                errors.append(refused.code)


@pytest.mark.parametrize("how", ["killed", "deposed"])
def test_what_was_acknowledged_is_on_the_replica_when_it_takes_over(bed, how):
    stop, done, errors = threading.Event(), [], []
    writers = [threading.Thread(target=write_until, args=(bed.port, stop, done, errors)) for _ in range(8)]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: len(done) > 2000, "some writes")
        if how == "killed":
            bed.master.kill()
        else:
            bed.replica.call("REPLICAOF", "NO", "ONE")
        before = len(done)
        bed.replica.call("REPLICAOF", "NO", "ONE")
        bed.put("async", bed.replica)
        wait_until(lambda: len(done) > before + 500, "writes to the new master")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    with bed.replica.client() as client:
        missing = [key for key in done if client.call("EXISTS", key) != 1]
    assert missing == []
    assert set(errors) <= {"MRUNKNOWN", "MRDURABILITY"}
