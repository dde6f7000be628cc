"""Wrong input gives a clear error that names the thing; nothing is lost, nothing crashes."""

import socket
import subprocess
import threading

import pytest

from cluster import binary
from servers import Redis
from wait import wait_until


def run(program, *args, env=None):
    return subprocess.run([str(binary(program)), *args], capture_output=True, text=True, timeout=60, check=False,
                          env=env)


@pytest.mark.parametrize("program", ["mr-controller", "mr-proxy", "mrctl"])
def test_usage(program):
    unknown = run(program, "--no-such-option")
    assert unknown.returncode == 2 and "no-such-option" in unknown.stderr and unknown.stdout == ""
    assert len(unknown.stderr.splitlines()) == 1
    version = run(program, "--version")
    assert version.returncode == 0 and version.stdout.startswith(program + " ")
    assert run(program, "--help").returncode == 0


@pytest.mark.parametrize("program, option", [("mr-controller", "--pub-port"), ("mr-proxy", "--hold-ms")])
def test_a_number_that_is_none(program, option):
    wrong = run(program, "--zk", "127.0.0.1:1", "--id", "x", option, "many")
    assert wrong.returncode == 2 and option in wrong.stderr and "many" in wrong.stderr


@pytest.mark.parametrize("program", ["mr-controller", "mr-proxy"])
def test_addresses_of_zookeeper_that_are_none(program):
    for hosts in ("zk1", "127.0.0.1:99999", "127.0.0.1:1,", ":2181", "127.0.0.1:1/a//b"):
        wrong = run(program, "--zk", hosts, "--id", "x", "--http", "127.0.0.1:0", "--exit-if-unreachable")
        assert wrong.returncode == 2 and hosts in wrong.stderr, (hosts, wrong.returncode, wrong.stderr)


@pytest.mark.parametrize("program", ["mr-controller", "mr-proxy"])
def test_zookeeper_is_unreachable(sandbox, program):
    port = sandbox.ports.one()
    arguments = ["--zk", f"127.0.0.1:{port}", "--id", "x", "--http", "127.0.0.1:0"]
    asked = run(program, *arguments, "--exit-if-unreachable")
    assert asked.returncode == 3, asked.stderr
    assert f"127.0.0.1:{port}" in asked.stderr
    patient = sandbox.start(program, [binary(program), *arguments])
    wait_until(lambda: f"127.0.0.1:{port}" in patient.log_text(), "a line about the unreachable ZooKeeper")
    assert patient.exit_status is None
    assert patient.stop() == 0


def test_mrctl_reaches_nobody(sandbox):
    port = sandbox.ports.one()
    by_http = run("mrctl", "--controllers", f"http://127.0.0.1:{port}", "list")
    assert by_http.returncode == 3 and f"127.0.0.1:{port}" in by_http.stderr
    by_zookeeper = run("mrctl", "--zk", f"127.0.0.1:{port}", "list")
    assert by_zookeeper.returncode == 3 and f"127.0.0.1:{port}" in by_zookeeper.stderr
    nowhere = run("mrctl", "list", env={"PATH": "/usr/bin:/bin"})
    assert nowhere.returncode in (2, 3) and nowhere.stderr


def test_mrctl_usage(cluster):
    assert cluster.mrctl("dance").returncode == 2
    assert cluster.mrctl("adopt", "cart").returncode == 2
    assert cluster.mrctl().returncode == 2


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "x" * 65, "é"])
def test_illegal_instance_names(cluster, sandbox, name):
    server = Redis(sandbox, "r")
    refused = cluster.mrctl("adopt", name, server.address)
    assert refused.returncode in (1, 2) and "name" in refused.stderr, refused.stderr
    assert cluster.topology()["instances"] == []


def _speak(sandbox, greeting):
    """A server that greets and then listens: no Redis. Returns its port."""
    server = socket.create_server(("127.0.0.1", 0))
    peers = []

    def serve():
        try:
            while True:
                peers.append(server.accept()[0])
                peers[-1].sendall(greeting)
        except OSError:
            pass
    threading.Thread(target=serve, daemon=True).start()
    sandbox.at_close(lambda: [s.close() for s in [server, *peers]])
    return server.getsockname()[1]


def test_adopting_what_can_not_be_adopted(cluster, sandbox):
    locked = Redis(sandbox, "locked", password="sesame")
    dead_port = sandbox.ports.one()
    stranger = _speak(sandbox, b"220 mail.example.net ready\r\n")
    cases = [
        (locked.address, [], "NOAUTH"),
        (f"127.0.0.1:{stranger}", [], "Redis"),
        (f"127.0.0.1:{cluster.leader().http_port}", [], f"127.0.0.1:{cluster.leader().http_port}"),
        (f"127.0.0.1:{dead_port}", [], "refused"),
        ("redis.example.net:6379", [], "redis.example.net"),
        ("127.0.0.1:99999", [], "99999"),
    ]
    for address, options, told in cases:
        refused = cluster.mrctl("adopt", "cart", address, *options)
        assert refused.returncode in (1, 2), (address, refused.stdout, refused.stderr)
        assert told in refused.stderr, (address, refused.stderr)
    wrong = sandbox.folder / "wrong"
    wrong.write_text("wrong\n")
    refused = cluster.mrctl("adopt", "cart", locked.address, "--password-file", wrong)
    assert refused.returncode == 1 and "WRONGPASS" in refused.stderr
    assert cluster.topology()["instances"] == []
    assert cluster.mrctl("adopt", "cart", locked.address, "--password-file", "/no/such/file").returncode in (1, 2)


def test_an_instance_is_adopted_once(cluster):
    cart = cluster.adopt(replicas=0)
    again = cluster.mrctl("adopt", "cart", cart.members[0].address)
    assert again.returncode == 1 and "cart" in again.stderr
    # One redis-server can't be two instances either.
    other_name = cluster.mrctl("adopt", "basket", cart.members[0].address)
    assert other_name.returncode == 1 and "cart" in other_name.stderr
    assert [i["name"] for i in cluster.topology()["instances"]] == ["cart"]


def test_a_replica_is_not_adopted_as_a_master(cluster, sandbox):
    master = Redis(sandbox, "m")
    replica = Redis(sandbox, "r", replica_of=master)
    refused = cluster.mrctl("adopt", "cart", replica.address)
    assert refused.returncode == 1 and master.address in refused.stderr


def test_ports_run_out(cluster, sandbox):
    servers = [Redis(sandbox, f"s{n}") for n in range(9)]
    runs = [cluster.mrctl("adopt", f"i{n}", server.address) for n, server in enumerate(servers)]
    assert [r.returncode for r in runs] == [0] * 8 + [1]
    assert "port" in runs[8].stderr and f"{cluster.first_port}-{cluster.first_port + 7}" in runs[8].stderr
    ports = [i["port"] for i in cluster.topology()["instances"]]
    assert sorted(ports) == list(range(cluster.first_port, cluster.first_port + 8))


def test_a_corrupt_znode_is_set_aside(cluster, zookeeper_of):
    carts = [cluster.adopt("cart", replicas=1), cluster.adopt("session", replicas=1)]
    zookeeper = zookeeper_of(cluster)
    for garbage in (b"", b"{", b'{"v":1}', b'{"v":2,"name":"cart"}', b"\x00\xff" * 500):
        zookeeper.set("/instances/cart", garbage)
        controller = cluster.leader().process
        wait_until(lambda c=controller: "cart" in c.log_text().splitlines()[-1] or "instance=cart" in c.log_text(),
                   "a line that names the corrupt instance")
    with carts[1].client() as client:
        assert client.call("SET", "a", 1) == "OK"
    epoch = carts[1].epoch()
    carts[1].master().kill()
    carts[1].wait_epoch(epoch + 1)
    # Its last good route still serves: what can't be read changes nothing.
    with carts[0].client() as client:
        assert client.call("SET", "a", 1) == "OK"


def test_a_deleted_instance_frees_its_port(cluster, zookeeper_of):
    cart = cluster.adopt("cart", replicas=0)
    client = cart.client()
    client.call("SET", "a", 1)
    zookeeper = zookeeper_of(cluster)
    with zookeeper.transaction() as transaction:
        transaction.delete("/instances/cart")
        transaction.delete(f"/ports/{cart.port}")
    assert client.at_end(), "its clients are told by the end of their connections"
    client.close()

    def refused():
        try:
            cart.client().close()
            return False
        except ConnectionRefusedError:
            return True
    wait_until(refused, "the port to be closed")
    session = cluster.adopt("session", replicas=0)
    assert session.port == cart.port, "the lowest free port is given again"


def test_the_cache_file_is_garbled(make_cluster):
    cluster = make_cluster()
    cart = cluster.adopt(replicas=0)
    proxy = cluster.proxies[0]
    assert proxy.process.stop() == 0
    proxy.cache_file.write_bytes(b"\x00{not json" * 100)
    proxy.start()
    cluster.wait_served(cart)
    assert str(proxy.cache_file) in proxy.process.log_text()
