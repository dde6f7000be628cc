"""The read policy, end to end: who answers what clients read, and that no client sees an error because of it."""

import re
import threading

import pytest

import resp
from cluster import http_get
from wait import wait_until


def gets(member):
    """How many GETs it has executed."""
    found = re.search(r"cmdstat_get:calls=(\d+)", member.call("INFO", "commandstats"))
    return int(found.group(1)) if found else 0


def readers(cart):
    """Addresses of the members that may serve reads, as the controllers tell."""
    return {m["address"] for m in cart.state()["members"] if m.get("serves_reads")}


def route_of(cart, proxy=0):
    status, value = http_get(f"http://127.0.0.1:{cart.cluster.proxies[proxy].http_port}/v1/routes")
    assert status == 200
    return next(r for r in value["routes"] if r["name"] == cart.name)


def listed(cart, proxy=0):
    """Those that the proxy may read from."""
    return {r["address"] for r in route_of(cart, proxy)["readers"]}


def served_by(client, members, count=20):
    """Reads so often; who has answered? {member: how many}."""
    before = {m: gets(m) for m in members}
    for _ in range(count):
        client.call("GET", "key")
    return {m: n for m in members if (n := gets(m) - before[m]) > 0}


def wait_served_by(client, *members, among=None):
    """Until all of these, and no others of `among`, answer."""
    wait_until(lambda: set(served_by(client, among or members)) == set(members),
               f"reads to be answered by {[m.address for m in members]}")


class Reader(threading.Thread):
    """Reads, and now and then writes, until stop(); an error of the proxy's or Redis' ends it, and is raised there."""

    def __init__(self, cart):
        super().__init__(daemon=True)
        self.cart, self.count, self.error = cart, 0, None
        self.ending = threading.Event()
        self.start()

    def run(self):
        try:
            with self.cart.client() as client:
                while not self.ending.is_set():
                    assert client.pipeline([("GET", "key"), ("STRLEN", "key"), ("GET", "key")]) == ["value", 5, "value"]
                    client.call("INCR", "count")
                    self.count += 1
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def wait_more(self, count=50):
        aim = self.count + count
        wait_until(lambda: self.error or self.count >= aim, f"{count} more rounds of reads")

    def stop(self):
        self.ending.set()
        self.join()
        if self.error:
            raise self.error


@pytest.fixture
def cart(cluster):
    instance = cluster.adopt(replicas=2)
    with instance.client() as client:
        client.call("SET", "key", "value")
    wait_until(lambda: len(readers(instance)) == 2, "both replicas to be fit for reads")
    wait_until(lambda: listed(instance) == readers(instance), "the proxy to know it")
    return instance


@pytest.mark.smoke
def test_replicas_answer_reads_and_die_unnoticed(cluster, cart):
    master, (first, second) = cart.master(), cart.replicas()
    with cart.client() as client, cart.client() as other:
        assert served_by(client, cart.members) == {master: 20}, "reads=master is the default"
        cluster.mrctl_ok("set", "cart", "reads=replica", "max_lag_bytes=1048576")
        assert cart.state()["reads"] == "replica"
        assert "reads replica" in cluster.mrctl_ok("topology", "cart")
        assert re.search(r"reads replica\b.*max_lag_bytes 1048576", cluster.mrctl_ok("show", "cart"), re.S)
        wait_until(lambda: master not in served_by(client, cart.members), "a replica to answer")
        mine = next(iter(served_by(client, cart.members)))
        theirs = second if mine is first else first
        wait_served_by(other, theirs, among=cart.members)  # clients are spread
        assert client.call("SET", "key", "value") == "OK"

        busy = Reader(cart)
        busy.wait_more()
        mine.kill()
        busy.wait_more(200)
        wait_served_by(client, theirs, among=[master, theirs])
        theirs.suspend()  # its connections stay open: the route tells
        busy.wait_more(20)
        wait_until(lambda: not listed(cart), "nobody to be fit any more")
        wait_served_by(client, master)
        busy.wait_more()
        theirs.resume()
        wait_until(lambda: listed(cart) == {theirs.address}, "it to come back")
        wait_served_by(client, theirs, among=[master, theirs])
        busy.stop()
    counted = http_get(f"http://127.0.0.1:{cluster.proxies[0].http_port}/v1/stats")[1]["instances"][0]
    assert counted["replica_reads"] > 0 and counted["unknown"] == 0 and counted["rejected"] == 0
    assert re.search(r"^cart +\d+ .* \d+ ", cluster.mrctl_ok("proxies", "host-1"), re.M)


def test_a_replica_that_lags_serves_no_reads(cluster, cart):
    master, replicas = cart.master(), cart.replicas()
    cluster.mrctl_ok("set", "cart", "reads=replica", "max_lag_bytes=100000")
    with cart.client() as client:
        wait_until(lambda: master not in served_by(client, cart.members), "replicas to answer")
        for replica in replicas:
            replica.call("CLIENT", "PAUSE", 600000, "WRITE")  # its master's stream, too; it answers, and stays linked
        client.call("SET", "new", "x" * 50000)
        assert len(listed(cart)) == 2, "within the limit"
        client.call("SET", "new", "x" * 100000)
        wait_until(lambda: not listed(cart), "the replicas to be too far behind")
        assert all(m["link"] == "up" and m["state"] == "up" for m in cart.state()["members"])
        wait_served_by(client, master, among=cart.members)
        assert client.call("STRLEN", "new") == 100000
        for replica in replicas:
            replica.call("CLIENT", "UNPAUSE")
        wait_until(lambda: len(listed(cart)) == 2, "them to have caught up")
        wait_until(lambda: master not in served_by(client, cart.members), "replicas to answer again")
        assert client.call("STRLEN", "new") == 100000


def test_clients_say_where_they_read_also_after_a_failover(cart):
    with cart.client() as reader, cart.client() as other:
        assert reader.call("READONLY") == "OK"
        wait_until(lambda: cart.master() not in served_by(reader, cart.members), "replicas to answer")
        assert served_by(other, cart.members) == {cart.master(): 20}
        epoch = cart.epoch()
        cart.master().kill()
        cart.wait_epoch(epoch + 1)
        assert reader.call("GET", "key") == "value"
        wait_until(lambda: listed(cart), "the other replica to be fit again")
        left = [m for m in cart.members if m.process.exit_status is None]
        wait_until(lambda: cart.master() not in served_by(reader, left), "a replica to answer")
        assert served_by(other, left) == {cart.master(): 20}
        assert reader.call("READWRITE") == "OK"
        assert served_by(reader, left) == {cart.master(): 20}


def test_the_nearest_replica_and_a_restarted_proxy(make_cluster):
    cluster = make_cluster(proxy_options=["--zone", "north"])
    cart = cluster.adopt(replicas=2)
    near, far = cart.replicas()
    cluster.mrctl_ok("set", "cart", "reads=nearest", near.address, "zone=north", far.address, "zone=south")
    wait_until(lambda: len(listed(cart)) == 2, "both replicas to be fit for reads")
    with cart.client() as client, cart.client() as other:
        client.call("SET", "key", "value")
        wait_served_by(client, near, among=cart.members)
        wait_served_by(other, near, among=cart.members)
        master = cart.master()
        near.kill()
        wait_served_by(client, far, among=[master, far])
    cluster.proxies[0].process.kill()
    for controller in cluster.controllers:
        controller.process.kill()  # what the proxy knows now it has from ZooKeeper
    cluster.proxies[0].start()
    cluster.wait_served(cart)
    wait_until(lambda: listed(cart) == {far.address}, "the proxy to have read who may be read from")
    with cart.client() as client:
        wait_served_by(client, far, among=[master, far])


@pytest.mark.parametrize("setting, said", [
    ("reads=slave", "must be master, replica or nearest"),
    ("reads=1", "reads"),
    ("max_lag_bytes=-1", "max_lag_bytes"),
])
def test_nonsense_is_refused(cluster, cart, setting, said):
    run = cluster.mrctl("set", "cart", setting)
    assert run.returncode == 1 and said in run.stderr, run.stderr
    assert cart.state()["reads"] == "master"


def test_only_reads_go_there(cluster, cart):
    cluster.mrctl_ok("set", "cart", "reads=replica")
    with cart.client() as client:
        wait_until(lambda: cart.master() not in served_by(client, cart.members), "replicas to answer")
        for n in range(50):
            assert client.pipeline([("SET", "n", n), ("GET", "n"), ("INCR", "n")]) == ["OK", str(n), n + 1]
        assert client.pipeline([("MULTI",), ("GET", "n"), ("EXEC",)])[2] == ["50"]
        reply = client.call_raw("READONLY", "please")
        assert isinstance(reply, resp.RespError), reply
