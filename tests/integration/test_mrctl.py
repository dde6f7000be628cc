"""What an operator sees."""

import contextlib
import json
import socket

import pytest

from cluster import binary, http_get
from wait import wait_until


@pytest.mark.smoke
def test_the_commands_show_the_cluster(make_cluster):
    cluster = make_cluster(controllers=2, proxies=2)
    cart = cluster.adopt()
    assert "cart" in cluster.mrctl_ok("list")
    assert str(cart.port) in cluster.mrctl_ok("show", "cart")
    tree = cluster.mrctl_ok("topology")
    for member in cart.members:
        assert member.address in tree
    assert "cart" in tree and str(cart.port) in tree
    assert {c["id"] for c in cluster.mrctl_json("controllers")["controllers"]} == {"ctl-1", "ctl-2"}
    assert {p["id"] for p in cluster.mrctl_json("proxies")["proxies"]} == {"host-1", "host-2"}
    epoch = cart.epoch()
    old = cart.master()
    old.kill()
    cart.wait_epoch(epoch + 1)
    history = cluster.mrctl_ok("history", "cart")
    assert "DEAD" in history and old.address in history
    assert old.address in cluster.mrctl_ok("history")


def test_topology_has_the_promised_shape(cluster):
    cart = cluster.adopt()
    value = cluster.mrctl_json("topology")
    assert value == json.loads(cluster.mrctl_ok("--json", "topology", zk=False)) or value["instances"]
    assert set(value) >= {"revision", "leader", "instances"}
    instance = value["instances"][0]
    assert (instance["name"], instance["port"], instance["state"]) == ("cart", cart.port, "stable")
    assert instance["durability"] == "async"
    assert instance["master"] == cart.members[0].address
    roles = {m["address"]: m["role"] for m in instance["members"]}
    assert roles == {m.address: "replica" if k else "master" for k, m in enumerate(cart.members)}
    for member in instance["members"]:
        assert set(member) >= {"address", "role", "state", "offset", "lag_bytes", "link"}


def test_a_name_that_does_not_exist(cluster):
    for command in ("show", "topology", "history"):
        run = cluster.mrctl(command, "nowhere")
        assert run.returncode == 1 and "nowhere" in run.stderr, (command, run)


def test_topology_without_controllers_comes_from_zookeeper(cluster):
    cart = cluster.adopt()
    for controller in cluster.controllers:
        controller.process.kill()
    run = cluster.mrctl("topology")
    assert run.returncode == 0, run.stderr
    assert cart.members[0].address in run.stdout
    assert "ZooKeeper" in run.stdout + run.stderr, "it says where it has this from"


def test_a_standby_answers_reads_and_sends_commands_to_the_leader(make_cluster):
    cluster = make_cluster(controllers=2)
    cart = cluster.adopt(replicas=0)
    standby = cluster.standbys()[0]
    wait_until(lambda: [i["name"] for i in standby.topology()["instances"]] == ["cart"], "the standby to know the instance")
    status, health = standby.health()
    assert status == 200 and health["role"] == "standby"
    cart2 = cluster.mrctl("--controllers", standby.url, "adopt", "again", cart.members[0].address, zk=False)
    assert cart2.returncode == 1 and "cart" in cart2.stderr, "the leader answered it"


def test_http_errors(cluster):
    leader = cluster.leader()
    for path, status in (("/v1/instances/nowhere", 404), ("/v1/nowhere", 404), ("/v1/instances/a%2Fb", 400)):
        got, value = leader.get(path)
        assert got in (status, 404), (path, got)
        assert set(value["error"]) == {"code", "message"}


def test_one_address_can_not_use_up_the_connections(cluster):
    """Half requests of one host must not make everybody else's health checks fail: Marathon would kill us."""
    for port in (cluster.controllers[0].http_port, cluster.proxies[0].http_port):
        abuser = [socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.7", 0)) for _ in range(300)]
        for connection in abuser:
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /hea")
        assert http_get(f"http://127.0.0.1:{port}/health")[0] == 200
        for connection in abuser:
            connection.close()


def test_watch_follows_failovers_and_changes_of_leader(make_cluster, sandbox):
    cluster = make_cluster(controllers=2)
    cart = cluster.adopt()
    epoch = cart.epoch()
    watch = sandbox.start("watch", [binary("mrctl"), "--zk", cluster.zk_hosts, "--json", "topology", "cart", "-w"])

    def shows(wanted):
        pictures = [json.loads(line) for line in watch.log_text().splitlines(keepends=True)
                    if line.startswith("{") and line.endswith("\n")]
        return pictures and pictures[-1]["instances"][0]["epoch"] >= wanted and pictures[-1]

    wait_until(lambda: shows(epoch), "the first picture")
    cart.master().kill()
    wait_until(lambda: shows(epoch + 1), "the failover in the picture")
    cart.wait_epoch(epoch + 1)
    cluster.leader().process.kill()
    cluster.leader()
    cart.master().kill()
    picture = wait_until(lambda: shows(epoch + 2), "the failover under the next leader in the picture")
    assert picture["instances"][0]["name"] == "cart"
    assert watch.exit_status is None
