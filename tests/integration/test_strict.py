"""Durability strict, the controllers' half: who must be there for a failover, and what is said when they are not."""

import threading

import pytest

from wait import wait_until


@pytest.fixture
def cart(cluster):
    return cluster.adopt(replicas=2)


def words(text):
    """Without mrctl's line breaks."""
    return " ".join(text.split())


def make_strict(cart, acks=1):
    said = words(cart.cluster.mrctl_ok("set", cart.name, "durability=strict", f"acks={acks}"))
    wait_until(lambda: cart.state().get("holding") == len(cart.cluster.proxies), "all proxies to hold")
    return said


def readiness(cart, ready):
    def reached():
        found = cart.state()["readiness"]
        return found if found["ready"] == ready else None
    return wait_until(reached, f"readiness to be {ready}")


def metric(cart, name):
    status, text = cart.cluster.leader().get("/metrics")
    assert status == 200
    line = next(l for l in text.splitlines() if l.startswith(f'{name}{{instance="{cart.name}"}}'))
    return int(line.split()[-1])


def test_what_is_missing_is_said_before_and_when_a_failover_is_refused(cart):
    cluster = cart.cluster
    refused = cluster.mrctl("set", cart.name, "durability=strict", "acks=3")
    assert refused.returncode == 1 and "needs 3 registered replicas, cart has 2" in words(refused.stderr)
    assert cluster.mrctl("set", cart.name, "durability=strict", "acks=0").returncode == 1
    assert "while one is away none is possible" in make_strict(cart)
    refused = cluster.mrctl("set", cart.name, "acks=2")
    assert refused.returncode == 1 and "can't be raised" in words(refused.stderr)
    shown = words(cluster.mrctl_ok("topology", cart.name))
    assert "strict" in shown and "failover: READY (2/2 needed)" in shown and "proxies hold" not in shown
    assert (metric(cart, "mr_instance_failover_needed"), metric(cart, "mr_instance_failover_have")) == (2, 2)
    assert metric(cart, "mr_instance_proxies_holding") == 1

    master, (near, far) = cart.master(), cart.replicas()
    with cart.client() as client:
        client.call("SET", "a", 1)
    far.kill()
    missing = readiness(cart, False)
    assert (missing["have"], missing["needed"]) == (1, 2)
    assert f"NOT READY (1/2 needed: {far.address} down)" in words(cluster.mrctl_ok("topology", cart.name))
    assert "needs 2 of 3 registered members" in words(cluster.mrctl_ok("explain", cart.name))
    assert metric(cart, "mr_instance_failover_ready") == 0
    wait_until(lambda: "event=readiness.lost" in cluster.mrctl_ok("events", cart.name), "the loss to be an event")

    master.kill()
    wait_until(lambda: "needs 2 of 3 registered members" in cart.state().get("waiting", ""), "the refusal")
    assert cart.state()["state"] == "sealing"
    assert cluster.mrctl("failover", cart.name).returncode == 1
    cluster.mrctl_ok("failover", cart.name, "--allow-data-loss")
    assert cart.state()["master"] == near.address
    entry = next(e for e in cluster.mrctl_json("history", cart.name)["history"] if e["kind"] == "failover")
    assert "loss of data allowed by" in entry["evidence"]
    assert "loss taken: needed 2 of 3 members, had 1" in entry["evidence"]
    assert len(cart.state()["members"]) == 3, "who is dead stays a member"


def test_enough_members_fail_over_by_themselves(cart):
    make_strict(cart)
    with cart.client() as client:
        client.call("SET", "a", 1)
        cart.master().kill()
        wait_until(lambda: cart.state()["epoch"] == 2 and cart.state()["state"] == "stable", "a new master")
        assert client.call("GET", "a") == "1"
    assert readiness(cart, False)["needed"] == 2, "the dead one still counts"


def test_a_member_is_forgotten_once_the_rest_has_all_it_had(cart):
    cluster = cart.cluster
    make_strict(cart)
    gone, stays = cart.replicas()
    refused = cluster.mrctl("forget", cart.name, gone.address)
    assert refused.returncode == 1 and "the master feeds it" in words(refused.stderr)
    gone.kill()
    wait_until(lambda: cluster.mrctl("forget", cart.name, gone.address).returncode == 0, "the rest to have it all")
    assert gone.address not in [m["address"] for m in cart.state()["members"]]
    found = readiness(cart, True)
    assert (found["have"], found["needed"]) == (1, 1)
    stays.kill()
    refused = cluster.mrctl("forget", cart.name, stays.address)
    assert refused.returncode == 1, "strict needs a replica"


def test_durability_changes_under_load_without_an_error(cart):
    stop, errors, done = threading.Event(), [], []

    def write():
        with cart.client() as client:
            while not stop.is_set():
                reply = client.call_raw("INCR", "n")
                (done if isinstance(reply, int) else errors).append(reply)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            make_strict(cart, acks=2)
            before = len(done)
            wait_until(lambda b=before: len(done) > b + 20, "writes to go on")
            cart.cluster.mrctl_ok("set", cart.name, "durability=async")
            assert "holding" not in cart.state()
    finally:
        stop.set()
        writer.join()
    assert not errors
