"""Controllers, ZooKeeper and proxies die or restart: the service goes on, nothing is forgotten."""

import socket
import struct

import pytest

from load import Writer
from sandbox import listening
from wait import wait_until


@pytest.mark.smoke
def test_sigterm_hands_leadership_over(make_cluster):
    cluster = make_cluster(controllers=3)
    cart = cluster.adopt()
    leader = cluster.leader()
    assert leader.process.stop() == 0
    successor = cluster.leader()
    assert successor is not leader
    epoch = cart.epoch()
    cart.master().kill()
    cart.wait_epoch(epoch + 1)


def test_the_master_dies_while_there_is_no_leader(make_cluster):
    cluster = make_cluster(controllers=3)
    cart = cluster.adopt()
    epoch, old = cart.epoch(), cart.master()
    writer = Writer(cart.port)
    writer.wait_more()
    cluster.leader().process.kill()  # its session lives on for a while: nobody may act
    old.kill()
    writer.wait_more()
    cart.wait_epoch(epoch + 1)
    writer.stop()
    assert cart.master() is not old
    assert writer.connections == 1 and len(writer.errors) <= 1


def test_master_and_leader_die_at_once(make_cluster):
    cluster = make_cluster(controllers=3)
    cart = cluster.adopt()
    epoch, old, leader = cart.epoch(), cart.master(), cluster.leader()
    with cart.client() as client:
        client.call("SET", "a", 1)
        # The master first: the leader may be in the middle of the failover when it dies.
        old.kill()
        leader.process.kill()
        assert client.call("SET", "a", 2) == "OK"
    state = cart.wait_epoch(epoch + 1)
    assert cart.master() is not old
    assert state["epoch"] >= epoch + 1
    leader.start()
    wait_until(lambda: leader.health()[0] == 200, "the killed controller to be back")


def test_all_controllers_restart(make_cluster):
    cluster = make_cluster(controllers=3)
    carts = [cluster.adopt("cart"), cluster.adopt("session", replicas=1)]
    carts[0].master().kill()
    carts[0].wait_epoch(2)
    before = {i["name"]: i for i in cluster.topology()["instances"]}
    writer = Writer(carts[0].port)
    writer.wait_more()
    for controller in cluster.controllers:
        controller.process.kill()
    writer.wait_more()  # proxies keep serving what they know
    for controller in cluster.controllers:
        controller.start()
    for cart in carts:
        state = cart.wait_settled()
        assert {k: state[k] for k in ("port", "epoch", "master")} == \
               {k: before[cart.name][k] for k in ("port", "epoch", "master")}
    writer.wait_more()
    writer.stop()
    assert writer.errors == [] and writer.connections == 1
    epoch = carts[0].epoch()
    carts[0].master().kill()
    carts[0].wait_epoch(epoch + 1)


def test_everything_restarts(make_cluster):
    cluster = make_cluster(own_zookeeper=True, controllers=2)
    cart = cluster.adopt(aof=True, options=("--appendfsync", "always"))
    with cart.client() as client:
        client.call("SET", "kept", 1)
        wait_until(lambda: all(m.call("GET", "kept") == "1" for m in cart.members), "the write to be everywhere")
    port = cart.port
    for process in [p.process for p in cluster.proxies + cluster.controllers]:
        process.kill()
    for member in cart.members:
        member.kill()
    cluster.zookeeper.kill()

    cluster.zookeeper.start()
    for part in cluster.controllers + cluster.proxies:
        part.start()
    for member in cart.members:
        member.start()  # all are masters by their own opinion, with the data of their append-only file
    cart.wait_settled()
    assert cart.state()["port"] == port
    wait_until(listening(port), "the proxy to listen again")
    with cart.client() as client:
        assert client.call("GET", "kept") == "1"


def test_zookeeper_restarts_in_between(make_cluster):
    cluster = make_cluster(own_zookeeper=True, controllers=2)
    cart = cluster.adopt()
    writer = Writer(cart.port)
    writer.wait_more()
    cluster.zookeeper.kill()
    writer.wait_more()
    cluster.zookeeper.start()
    cluster.leader()
    epoch = cart.epoch()
    writer.wait_more()
    assert writer.errors == []
    cart.master().kill()
    cart.wait_epoch(epoch + 1)
    writer.wait_more()
    writer.stop()
    assert writer.connections == 1 and len(writer.errors) <= 1


def below(zookeeper, folder=""):
    """{path: (value, is it a session's)} of all that is there, parents first."""
    found = {}
    for name in zookeeper.get_children(folder or "/"):
        path = f"{folder}/{name}"
        value, stat = zookeeper.get(path)
        found[path] = (value, stat.ephemeralOwner != 0)
        found.update(below(zookeeper, path))
    return found


def delete_at_once(zookeeper, paths):
    """Nobody sees a part of it gone."""
    transaction = zookeeper.transaction()
    for path in reversed(list(paths)):
        transaction.delete(path)
    assert set(transaction.commit()) == {True}


def test_all_znodes_are_deleted_and_restored(make_cluster, zookeeper_of):
    """The election's first, so that no leader sees instances vanish, which it would take for deleted ones: then proxies
    keep their routes. Nobody makes the folders anew, empty; and what comes back is found without a restart."""
    cluster = make_cluster(controllers=2)
    cart = cluster.adopt()
    zookeeper = zookeeper_of(cluster)
    kept = below(zookeeper)
    with cart.client() as client:
        delete_at_once(zookeeper, [path for path in kept if path.startswith("/election")])
        for controller in cluster.controllers:
            wait_until(lambda c=controller: c.health()[1]["role"] != "leader", f"{controller.id} to lead no more")
            wait_until(lambda c=controller: "event=zk_store.folder_gone" in c.process.log_text(), "a line about that")
        delete_at_once(zookeeper, [path for path in kept if not path.startswith("/election")])
        assert client.call("SET", "a", 1) == "OK"
        assert zookeeper.get_children("/") == []
        for path, (value, is_a_sessions) in kept.items():
            if not is_a_sessions:
                zookeeper.create(path, value)
        wait_until(lambda: sorted(zookeeper.get_children("/controllers")) == ["ctl-1", "ctl-2"], "the controllers")
        wait_until(lambda: zookeeper.get_children("/proxies") == ["host-1"], "the proxy to be registered")
        wait_until(lambda: [i["name"] for i in cluster.topology()["instances"]] == ["cart"], "the instance")
        epoch = cart.wait_settled()["epoch"]
        cart.master().kill()
        cart.wait_epoch(epoch + 1)
        assert client.call("GET", "a") == "1"


def test_who_was_deleted_registers_again(cluster, zookeeper_of):
    cluster.adopt(replicas=0)
    zookeeper = zookeeper_of(cluster)
    wait_until(lambda: zookeeper.exists("/proxies/host-1"), "the proxy to be registered")
    for path in ("/proxies/host-1", "/controllers/ctl-1"):
        before = zookeeper.exists(path).czxid
        zookeeper.delete(path)
        wait_until(lambda p=path, b=before: (zookeeper.exists(p) or None) and zookeeper.exists(p).czxid > b,
                   f"{path} to be there again")


def test_the_master_dies_while_zookeeper_is_away(make_cluster):
    cluster = make_cluster(own_zookeeper=True, controllers=2)
    cart = cluster.adopt()
    epoch, old = cart.epoch(), cart.master()
    with cart.client(timeout_s=120) as client:
        client.call("SET", "a", 1)
        cluster.zookeeper.kill()
        old.kill()
        client.send("SET", "a", 2)  # held: without ZooKeeper nobody is promoted
        cluster.zookeeper.start()
        reply = client.read()
        # How long ZooKeeper takes to come back decides between the two.
        assert reply == "OK" or reply.code == "MRHOLD"
        cart.wait_epoch(epoch + 1)
        assert client.call("SET", "a", 3) == "OK"


def test_a_proxy_starts_without_zookeeper(make_cluster):
    cluster = make_cluster(own_zookeeper=True)
    cart = cluster.adopt()
    proxy = cluster.proxies[0]
    wait_until(proxy.cache_file.exists, "the routes to be kept in the cache file")
    assert proxy.process.stop() == 0
    cluster.zookeeper.kill()
    proxy.start()
    wait_until(listening(cart.port), "the proxy to serve what its cache file says")
    with cart.client() as client:
        assert client.call("SET", "a", 1) == "OK"
        cluster.zookeeper.start()
        epoch = cart.epoch()
        cart.master().kill()
        cart.wait_epoch(epoch + 1)
        wait_until(lambda: client.call_raw("SET", "a", 2) == "OK", "the proxy to follow the controllers again")


def test_a_proxy_without_a_cache_waits_for_zookeeper(make_cluster):
    cluster = make_cluster(own_zookeeper=True)
    cart = cluster.adopt()
    proxy = cluster.proxies[0]
    proxy.process.kill()
    proxy.cache_file.unlink(missing_ok=True)
    cluster.zookeeper.kill()
    proxy.start()
    cluster.zookeeper.start()
    wait_until(listening(cart.port), "the proxy to listen once it could read ZooKeeper")
    with cart.client() as client:
        assert client.call("SET", "a", 1) == "OK"


def test_sigterm_drains_the_proxy(cluster):
    cart = cluster.adopt()
    client = cart.client()
    client.call("SET", "a", 1)
    cart.master().suspend()
    client.send("GET", "a")
    proxy = cluster.proxies[0].process
    proxy.ended_by_us = True
    proxy.signal(15)
    wait_until(lambda: not _accepts(cart.port), "the proxy to accept nobody any more")
    cart.master().resume()
    assert client.read() == "1", "what was in flight is finished"
    assert proxy.wait() == 0


def _accepts(port):
    try:
        return listening(port)()
    except OSError:
        return False


def nanomsg_connect(port, protocol):
    """A raw nanomsg peer: the SP handshake, nothing else."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=30)
    peer.sendall(b"\x00SP\x00" + struct.pack(">HH", protocol, 0))
    hello = b""
    while len(hello) < 8:
        hello += peer.recv(8 - len(hello))
    assert hello[:4] == b"\x00SP\x00"
    return peer


def frame(body):
    return struct.pack(">Q", len(body)) + body


SUB, PUSH = 33, 80


@pytest.mark.smoke
def test_a_stray_frame_restarts_nothing_but_the_publisher(cluster):
    cart = cluster.adopt()
    leader = cluster.leader()
    pub_port = cluster.mrctl_json("controllers")["controllers"][0]["pub_port"]
    epoch = cart.epoch()
    peer = nanomsg_connect(pub_port, SUB)
    peer.sendall(frame(b"a subscriber has nothing to say"))
    wait_until(lambda: peer.recv(4096) == b"", "the publisher child to be gone")
    peer.close()
    cart.master().kill()
    with cart.client() as client:
        assert client.call("SET", "a", 1) == "OK", "the proxy missed nothing"
    cart.wait_epoch(epoch + 1)
    assert leader.process.exit_status is None
    nanomsg_connect(pub_port, SUB).close()  # the new child listens on the same port


def test_garbled_and_hostile_messages_are_dropped(cluster):
    cart = cluster.adopt()
    ingest = cluster.mrctl_json("controllers")["controllers"][0]["ingest_port"]
    bodies = [b"", b"\x00" * 100, b"{", b'{"v":1}', b'{"v":99,"type":"hint"}', b"[" * 5000,
              b'{"v":1,"type":"hint","term":-1,"seq":"x","id":"../../x","instance":"cart"}', b"\xff" * 3000]
    peer = nanomsg_connect(ingest, PUSH)
    for body in bodies:
        peer.sendall(frame(body))
    peer.close()
    with socket.create_connection(("127.0.0.1", ingest)) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
    epoch = cart.epoch()
    cart.master().kill()
    cart.wait_epoch(epoch + 1)
