"""What an operator orders, of real controllers."""

import json
import re
import urllib.error
import urllib.request

import pytest

from cluster import binary
from wait import LIMIT_S, wait_until


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def ask(controller, method, path, body=None):
    """(status, value, headers) of one request; a redirect is an answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(controller.url + path, data=data, method=method)
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=LIMIT_S) as answer:
            return answer.status, json.loads(answer.read()), dict(answer.headers)
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text else None, dict(error.headers)


def policy(cluster):
    return cluster.mrctl_json("show", "cart")["record"]["policy"]


@pytest.mark.smoke
def test_switchover(cluster):
    cart = cluster.adopt()
    cart.wait_settled()
    old, target, epoch = cart.master(), cart.replicas()[1], cart.epoch()
    with cart.client() as client:
        client.call("SET", "k", "before")
        plan = cluster.mrctl_ok("switchover", "cart", "--to", target.address, "--dry-run")
        assert "READY" in plan and target.address in plan
        assert cart.epoch() == epoch and cart.master() is old, "a dry run changes nothing"
        said = cluster.mrctl_ok("switchover", "cart", "--to", target.address)
        assert target.address in said
        assert client.call("GET", "k") == "before"
        client.call("SET", "k", "after")
    cart.wait_epoch(epoch + 1)
    assert cart.master() is target and old.follows(target)
    assert re.search(r"cart\s+epoch \d+\s+switchover\s", cluster.mrctl_ok("history", "cart"))
    # The best one, when nobody is named; and again a dry run of what can't be.
    cluster.mrctl_ok("switchover", "cart")
    cart.wait_epoch(epoch + 2)
    refused = cluster.mrctl("switchover", "cart", "--to", cart.master().address, "--dry-run")
    assert refused.returncode == 1 and "master already" in refused.stderr and "members 3" in refused.stdout


def test_a_switchover_that_can_not_be_is_refused(cluster):
    cart = cluster.adopt(replicas=1)
    cart.wait_settled()
    epoch, replica = cart.epoch(), cart.replicas()[0]
    for to in (cart.master().address, "127.0.0.1:1"):
        run = cluster.mrctl("switchover", "cart", "--to", to)
        assert run.returncode == 1 and to in run.stderr and run.stdout == ""
    replica.kill()
    wait_until(lambda: cart.state()["readiness"]["ready"] is False, "nobody to be promoted")
    run = cluster.mrctl("switchover", "cart")
    assert run.returncode == 1 and "NOT READY" in run.stderr
    assert cart.epoch() == epoch
    assert cluster.mrctl("switchover", "nowhere").returncode == 1


def test_a_leader_that_stops_answers_first(make_cluster, sandbox):
    """The target stands still, so that the order is under way when the leader is told to stop."""
    cluster = make_cluster(controllers=2)
    cart = cluster.adopt(replicas=1)
    cart.wait_settled()
    epoch, target, leader = cart.epoch(), cart.replicas()[0], cluster.leader()
    target.suspend()
    order = sandbox.start("order", [binary("mrctl"), "--controllers", leader.url, "switchover", "cart",
                                    "--to", target.address, "--limit-ms", "30000"])
    wait_until(lambda: cart.state()["phase"] in ("HOLD", "DRAIN"), "the order to be under way")
    assert leader.process.stop() == 0
    assert order.wait() == 1 and "switchover cart: " in order.log_text()
    target.resume()
    cluster.leader()
    assert cart.wait_settled()["epoch"] in (epoch, epoch + 1)


def test_forced_failover(cluster):
    cart = cluster.adopt()
    cart.wait_settled()
    old, epoch = cart.master(), cart.epoch()
    assert "READY" in cluster.mrctl_ok("failover", "cart", "--dry-run")
    cluster.mrctl_ok("failover", "cart")
    state = cart.wait_epoch(epoch + 1)
    assert cart.master() is not old and state["last_failover"]["verdict"] == "MANUAL"
    assert "MANUAL" in cluster.mrctl_ok("history", "cart")


@pytest.mark.parametrize("name", [["cart"], []], ids=["one", "all"])
def test_nothing_fails_over_while_paused(cluster, name):
    cart = cluster.adopt()
    cart.wait_settled()
    epoch, old = cart.epoch(), cart.master()
    cluster.mrctl_ok("pause", *name, "--reason", "a new kernel", "--for", "2h")

    def pause():
        return (cart.state() if name else cluster.topology()).get("pause")

    wait_until(pause, "the pause to be shown")
    assert "@" in pause()["owner"] and pause()["reason"] == "a new kernel"
    assert pause()["until"] - pause()["since"] == 2 * 3600 * 1000
    assert "a new kernel" in cluster.mrctl_ok("topology")
    old.kill()
    wait_until(lambda: "paused" in cart.state().get("waiting", ""), "the leader to hold itself back")
    assert cart.epoch() == epoch
    cluster.mrctl_ok("resume", *name)
    cart.wait_epoch(epoch + 1)
    assert pause() is None and cart.master() is not old


def test_ack_ends_the_cooldown(cluster):
    cart = cluster.adopt()
    cart.wait_settled()
    epoch = cart.epoch()
    cart.master().kill()
    cart.wait_epoch(epoch + 1)
    assert cart.state()["cooldown"]["strikes"] == 1
    assert "mrctl ack cart" in cluster.mrctl_ok("topology")
    cluster.mrctl_ok("ack", "cart")
    wait_until(lambda: "cooldown" not in cart.state(), "the cooldown to end")
    assert "acknowledged" in cluster.mrctl_ok("history", "cart")


def test_set(cluster):
    cart = cluster.adopt()
    cart.wait_settled()
    before, replica = policy(cluster), cart.replicas()[0]
    cluster.mrctl_ok("set", "cart", "cooldown_ms=5000", "auto_failover=off", replica.address, "priority=prefer", "zone=eu-1")
    wait_until(lambda: policy(cluster)["cooldown_ms"] == 5000, "the new policy")
    assert policy(cluster) == {**before, "cooldown_ms": 5000, "auto_failover": False}
    member = next(m for m in cart.state()["members"] if m["address"] == replica.address)
    assert (member["priority"], member["zone"]) == ("prefer", "eu-1") and cart.state()["next"] == replica.address
    assert "auto_failover is off" in " ".join(cluster.mrctl_ok("topology").split())
    for bad, told in ((["acks=0"], "policy.acks: must be a whole number from 1 to 15"), (["ack=1"], "ack"),
                      (["cooldown_ms=7", "hold_ms=-1"], "policy.hold_ms"), (["127.0.0.1:1", "zone=x"], "127.0.0.1:1"),
                      ([replica.address, "priority=best"], "priority")):
        run = cluster.mrctl("set", "cart", *bad)
        assert run.returncode == 1 and told in run.stderr, run.stderr
    assert policy(cluster)["cooldown_ms"] == 5000, "nothing of what was refused was done"


def test_delete(cluster):
    cart = cluster.adopt(replicas=1)
    cart.wait_settled()
    assert str(cart.port) in cluster.mrctl_ok("delete", "cart")
    wait_until(lambda: cluster.topology()["instances"] == [], "the instance to be gone")
    assert cluster.mrctl("delete", "cart").returncode == 1
    assert cart.members[0].role() == "master" and cart.members[1].follows(cart.members[0]), "they run on"
    cluster.mrctl_ok("adopt", "cart2", cart.members[0].address, "--wait")
    assert cluster.topology()["instances"][0]["port"] == cart.port, "the port was free again"


def test_explain(cluster):
    cart = cluster.adopt(replicas=1)
    cart.wait_settled()
    said = cluster.mrctl_json("explain", "cart")
    assert said["ready"] and said["target"] == cart.replicas()[0].address and said["members"] == 2
    assert "READY (1 candidate)" in cluster.mrctl_ok("topology")
    cart.replicas()[0].kill()
    wait_until(lambda: not cluster.mrctl_json("explain", "cart")["ready"], "nobody to be left")
    assert "NOT READY" in cluster.mrctl_ok("explain", "cart") and "NOT READY" in cluster.mrctl_ok("topology", "cart")


def test_events(make_cluster, sandbox):
    cluster = make_cluster(controllers=2)
    cart = cluster.adopt()
    cart.wait_settled()
    epoch = cart.epoch()
    watch = sandbox.start("events", [binary("mrctl"), "--zk", cluster.zk_hosts, "--json", "events", "-f", "cart"])
    cart.master().kill()
    cart.wait_epoch(epoch + 1)
    wait_until(lambda: "failover" in watch.log_text(), "the failover among the events")
    events = [json.loads(line) for line in watch.log_text().splitlines() if line.startswith("{")]
    assert all(e["instance"] in ("cart", "") and e["level"] in ("info", "warn", "error") for e in events)
    assert "failover" in cluster.mrctl_ok("events", "cart")
    # Another leader: the events go on.
    cluster.leader().process.kill()
    cluster.leader()
    cart.wait_settled()
    cluster.mrctl_ok("pause", "cart", "--reason", "seen by the next leader")
    wait_until(lambda: "seen by the next leader" in watch.log_text(), "the next leader's events")
    assert watch.exit_status is None


def test_what_http_refuses(make_cluster):
    cluster = make_cluster(controllers=2)
    cart = cluster.adopt(replicas=0)
    leader, standby = cluster.leader(), cluster.standbys()[0]
    cases = [
        ("POST", "/v1/instances/nowhere/switchover", {}, 404), ("POST", "/v1/instances/a%20b/pause", {}, 400),
        ("POST", f"/v1/instances/{'x' * 65}/ack", {}, 400), ("POST", "/v1/instances/cart/dance", {}, 404),
        ("GET", "/v1/instances/cart/switchover", None, 405), ("PUT", "/v1/instances/cart", {}, 405),
        ("POST", "/v1/instances/cart/pause", b"{", 400), ("POST", "/v1/instances/cart/pause", {"for_ms": 0}, 400),
        ("POST", "/v1/pause", {"until": 5}, 400), ("PATCH", "/v1/instances/cart", {}, 400),
        ("PATCH", "/v1/instances/cart", {"policy": {"acks": 99}}, 400), ("PATCH", "/v1/instances/nowhere", {}, 404),
        ("DELETE", "/v1/instances/nowhere", None, 404), ("GET", "/v1/instances/nowhere/explain", None, 404),
        ("GET", "/v1/events?recent=x", None, 400), ("GET", "/v1/events?instance=nowhere", None, 404),
    ]
    for method, path, body, status in cases:
        got, value, _ = ask(leader, method, path, body)
        assert got == status and set(value["error"]) == {"code", "message"}, (method, path, got, value)
    status, value, _ = ask(leader, "POST", "/v1/instances/cart/switchover", {"dry_run": True})
    assert status == 409 and value["error"]["code"] == "refused" and value["plan"]["ready"] is False
    wait_until(lambda: standby.topology()["instances"], "the standby to know the instance")
    for method, path in (("POST", "/v1/instances/cart/ack"), ("PATCH", "/v1/instances/cart"), ("POST", "/v1/pause"),
                         ("DELETE", "/v1/instances/cart")):
        status, _, headers = ask(standby, method, path, {})
        assert status == 307 and headers["Location"] == leader.url + path
    assert ask(standby, "GET", "/v1/instances/cart/explain")[0] == 200, "any controller answers reads"
    assert cart.epoch() == cluster.topology()["instances"][0]["epoch"]
