"""A master dies: a replica takes over, the clients stay, nothing that was safe is lost."""

import pytest

import resp
from load import Writer
from wait import wait_until


def write_safely(instance, count=100, prefix="safe"):
    """Keys that every replica has before anything is killed."""
    master = instance.master()
    with master.client() as client:
        client.pipeline([("SET", f"{prefix}:{n}", n) for n in range(count)])
    master.wait_replicated(len(instance.members) - 1)
    return [f"{prefix}:{n}" for n in range(count)]


def lost(redis, keys):
    with redis.client() as client:
        return [k for k, there in zip(keys, client.pipeline([("EXISTS", k) for k in keys])) if there != 1]


@pytest.mark.smoke
def test_kill_under_load(cluster):
    cart = cluster.adopt()
    safe = write_safely(cart)
    old, epoch = cart.master(), cart.epoch()
    writer = Writer(cart.port)
    writer.wait_more()
    before = len(writer.acknowledged)
    old.kill()
    writer.wait_more()
    after = len(writer.acknowledged)
    state = cart.wait_epoch(epoch + 1)
    writer.wait_more()
    writer.stop()

    new = cart.master()
    assert new is not old and state["epoch"] == epoch + 1
    assert writer.connections == 1, "the client's connection stayed"
    # One write at a time was under way: at most that one may be of unknown outcome.
    assert len(writer.errors) <= 1 and all(e.startswith("MRUNKNOWN ") for e in writer.errors)
    assert lost(new, safe) == []
    # Asynchronous replication: what was acknowledged around the kill may be gone, nothing later.
    assert not set(writer.missing(new)) - set(writer.acknowledged[:after])
    assert before > 0
    assert state["last_failover"]["verdict"] == "DEAD"
    assert all(ms >= 0 for ms in state["last_failover"]["timeline_ms"].values())


def test_the_dead_master_returns_as_a_replica(cluster):
    cart = cluster.adopt()
    safe = write_safely(cart)
    old, epoch = cart.master(), cart.epoch()
    old.kill()
    cart.wait_epoch(epoch + 1)
    old.start()  # empty, and a master by its own opinion
    wait_until(lambda: old.follows(cart.master()), "the old master to be a replica of the new one")
    cart.wait_settled()
    assert cart.epoch() == epoch + 1, "taking it back is no failover"
    wait_until(lambda: not lost(old, safe), "the old master to hold the data again")
    assert {m["state"] for m in cart.state()["members"]} == {"up"}


def test_failovers_one_after_the_other(cluster):
    cart = cluster.adopt()
    safe = write_safely(cart)
    for _ in range(3):
        old, epoch = cart.master(), cart.epoch()
        old.kill()
        cart.wait_epoch(epoch + 1)
        old.start()
        wait_until(lambda o=old: o.follows(cart.master()), f"{old.name} to follow again")
        cart.wait_settled()
        cluster.mrctl_ok("ack", cart.name)  # or the cooldown would hold the next one back
    assert lost(cart.master(), safe) == []


@pytest.mark.smoke
def test_a_master_that_restarts_empty_wipes_nothing(cluster):
    cart = cluster.adopt()
    safe = write_safely(cart)
    old, epoch = cart.master(), cart.epoch()
    old.kill()
    old.start()  # at once: it answers PING, has no data, and its replicas would copy that
    cart.wait_epoch(epoch + 1)
    new = cart.master()
    assert new is not old
    assert lost(new, safe) == []
    wait_until(lambda: old.follows(new), "the restarted master to follow the new one")
    wait_until(lambda: not lost(old, safe), "the restarted master to hold the data again")
    with cart.client() as client:
        assert client.call("GET", "safe:7") == "7"


def test_a_replica_that_dies_is_no_failover(cluster):
    cart = cluster.adopt()
    master, epoch = cart.master(), cart.epoch()
    victim = cart.replicas()[0]
    writer = Writer(cart.port)
    writer.wait_more()
    victim.kill()
    wait_until(lambda: [m["state"] for m in cart.state()["members"] if m["address"] == victim.address] == ["down"],
               "the topology to say that the replica is down")
    writer.wait_more()
    victim.start()
    wait_until(lambda: victim.follows(master), "the replica to be taken back")
    writer.wait_more()
    writer.stop()
    assert cart.epoch() == epoch and cart.master() is master
    assert writer.errors == [] and writer.connections == 1


def test_two_instances_fail_together(cluster):
    carts = [cluster.adopt("cart"), cluster.adopt("session")]
    assert carts[0].port != carts[1].port
    safe = [write_safely(i) for i in carts]
    epochs = [i.epoch() for i in carts]
    writers = [Writer(i.port) for i in carts]
    for writer in writers:
        writer.wait_more()
    masters = [i.master() for i in carts]
    for master in masters:
        master.kill()
    for writer in writers:
        writer.wait_more()
    for instance, epoch, keys, old in zip(carts, epochs, safe, masters):
        instance.wait_epoch(epoch + 1)
        assert instance.master() is not old
        assert lost(instance.master(), keys) == []
    for writer in writers:
        writer.stop()
        assert writer.connections == 1 and len(writer.errors) <= 1


def test_every_proxy_switches(make_cluster):
    cluster = make_cluster(proxies=3)
    cart = cluster.adopt()
    clients = [cart.client(proxy=k) for k in range(3)]
    for client in clients:
        client.call("SET", "a", 1)
    epoch = cart.epoch()
    cart.master().kill()
    for client in clients:
        # Held until there is a master again; the connection is the old one.
        assert client.call("SET", "a", 2) == "OK"
        client.close()
    cart.wait_epoch(epoch + 1)


def test_a_member_with_a_password_fails_over(cluster):
    cart = cluster.adopt(password="sesame")
    epoch = cart.epoch()
    with cart.client() as client:
        assert client.call_raw("GET", "a").code == "NOAUTH"
        client.call("AUTH", "sesame")
        client.call("SET", "a", 1)
        cart.master().kill()
        # The login is repeated on the new master: the client need not know.
        assert client.call("SET", "a", 2) == "OK"
    cart.wait_epoch(epoch + 1)


def test_a_lone_member_is_waited_for(make_cluster):
    cluster = make_cluster()
    solo = cluster.adopt("solo", replicas=0, aof=True, options=("--appendfsync", "always"))
    with solo.client() as client:
        client.call("SET", "kept", 1)
        solo.members[0].kill()
        client.send("GET", "kept")  # waits: nobody can be promoted
        solo.members[0].start()
        assert client.read() == "1"
        assert client.call("SET", "kept", 2) == "OK"


def test_a_lone_member_is_waited_for_no_longer_than_hold_ms(make_cluster):
    cluster = make_cluster(proxy_options=("--hold-ms", "300"))
    solo = cluster.adopt("solo", replicas=0)
    with solo.client() as client:
        client.call("SET", "a", 1)
        solo.members[0].kill()
        error = client.call_raw("GET", "a")
        assert isinstance(error, resp.RespError) and error.code in ("MRHOLD", "MRNOROUTE"), error
        solo.members[0].start()
        # The same connection serves again.
        wait_until(lambda: client.call_raw("SET", "a", 2) == "OK", "the connection to serve again")
