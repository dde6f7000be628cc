"""mrctl against controllers that are played by this test: whom it asks, what it sends, how it ends."""

import json
import socket
import threading

import pytest
from kazoo.client import KazooClient

from played_controller import ask, error, fake, mrctl, nobody  # noqa: F401: fake is a fixture
from sandbox import TOP
from wait import LIMIT_S, ZK_SESSION_S

GOLDEN = TOP / "tests" / "golden"
READY = json.loads((GOLDEN / "view_instance.json").read_text(encoding="utf-8"))
TOPOLOGY = json.loads((GOLDEN / "view_topology.json").read_text(encoding="utf-8"))


# ---- whom it asks ---------------------------------------------------------------------------------------------


def test_the_next_controller_is_asked(fake, sandbox):
    second = fake({"GET /v1/instances": (200, {"instances": [{"name": "cart", "port": 6101}]})})
    run = ask([nobody(sandbox), second], "list")
    assert run.returncode == 0 and "cart" in run.stdout and run.stderr == ""
    assert json.loads(ask([second], "list", "--json").stdout)["instances"][0]["port"] == 6101


def test_nobody_answers(fake, sandbox):
    gone, other = nobody(sandbox), fake({"GET /v1/instances": (200, "<html>a printer</html>")})
    run = ask([gone, other], "list")
    assert run.returncode == 3 and gone in run.stderr and other.url in run.stderr and run.stdout == ""


def test_addresses_come_from_the_environment_too(fake):
    controller = fake({"GET /v1/instances": (200, {"instances": []})})
    run = mrctl("list", env={"MR_CONTROLLERS": f"127.0.0.1:{controller.port}/", "MR_WAIT": "1"})
    assert run.returncode == 0 and "No instances yet" in run.stdout


def test_a_controller_without_a_leader_is_not_the_last_word(fake):
    behind = fake({"GET /v1/instances": error(503, "no leader", "unavailable")})
    ahead = fake({"GET /v1/instances": (200, {"instances": []})})
    assert ask([behind, ahead], "list").returncode == 0
    run = ask([behind, behind], "list")
    assert run.returncode == 1 and "no leader" in run.stderr


def test_the_leaders_picture_is_shown(fake, sandbox):
    leader = fake({"GET /v1/topology": (200, {**TOPOLOGY, "source": "ctl-1"})})
    nodes = [{"id": "ctl-1", "role": "leader", "host": "127.0.0.1", "http_port": leader.port}]
    standby = fake({"GET /v1/topology": (200, {**TOPOLOGY, "source": "ctl-2"}),
                    "GET /v1/controllers": (200, {"controllers": nodes})})
    assert json.loads(ask([standby], "--json", "topology").stdout)["source"] == "ctl-1"
    # A leader that can't be reached from here does not take the picture away.
    nodes[0]["http_port"] = sandbox.ports.one()
    run = ask([standby], "--json", "topology")
    assert run.returncode == 0 and json.loads(run.stdout)["source"] == "ctl-2"


# ---- commands ---------------------------------------------------------------------------------------------------


def test_a_standby_sends_the_command_on_with_body_and_token(fake, sandbox):
    leader = fake({"POST /v1/instances": (201, {"name": "cart", "port": 6107})})
    standby = fake({"POST /v1/instances":
                    lambda h: h.send(307, {}, Location=f"http://localhost:{leader.port}/v1/instances")})
    token, password = sandbox.folder / "token", sandbox.folder / "password"
    token.write_text("letmein\n", encoding="utf-8")
    password.write_text("s\"ésame\n", encoding="utf-8")
    run = ask([standby], "--token-file", token, "adopt", "cart", "localhost:6379", "--user", "mr",
              "--password-file", password)
    assert run.returncode == 0 and "6107" in run.stdout, run.stderr
    (method, path, body, authorization), = leader.asked
    assert (method, path, authorization) == ("POST", "/v1/instances", "Bearer letmein")
    assert json.loads(body) == {"name": "cart", "adopt": "127.0.0.1:6379", "user": "mr", "password": "s\"ésame"}
    assert standby.asked[0][3] == "Bearer letmein"


@pytest.mark.parametrize("status, told", [(409, "cart exists already"), (400, "not a master"), (503, "no leader")])
def test_a_refusal_is_passed_on(fake, status, told):
    controller = fake({"POST /v1/instances": error(status, told)})
    run = ask([controller], "adopt", "cart", "127.0.0.1:6379")
    assert run.returncode == 1 and told in run.stderr and "adopt cart" in run.stderr and run.stdout == ""


def test_a_missing_token_is_named(fake):
    controller = fake({"POST /v1/instances": error(401, "a token is needed", "unauthorized")})
    run = ask([controller], "adopt", "cart", "127.0.0.1:6379")
    assert run.returncode == 1 and "--token-file" in run.stderr


def test_a_command_whose_outcome_is_unknown_is_not_sent_twice(fake):
    first = fake({"POST /v1/instances": lambda h: h.connection.shutdown(socket.SHUT_RDWR)})
    second = fake({"POST /v1/instances": (201, {})})
    run = ask([first, second], "adopt", "cart", "127.0.0.1:6379")
    assert run.returncode == 1 and "may have been done" in run.stderr
    assert len(first.asked) == 1 and second.asked == []


# ---- adopt --wait -----------------------------------------------------------------------------------------------


def waiting(states):
    """Answers of GET /v1/instances/cart, one after the other; the last one stays."""
    queue = list(states)
    return lambda _: queue.pop(0) if len(queue) > 1 else queue[0]


def settled(**changes):
    value = json.loads(json.dumps(READY))
    value["members"] = [m for m in value["members"] if m["state"] == "up"]
    value["observed"][0]["replicas_connected"] = 1
    return {**value, **changes}


def test_wait_ends_when_every_replica_is_linked(fake):
    lonely = settled()
    lonely["members"] = lonely["members"][:1]
    unlinked = settled()
    unlinked["members"][1]["link"] = "down"
    states = [error(404, "not known here yet"), (200, settled(state="sealing")), (200, lonely), (200, unlinked),
              (200, settled())]
    controller = fake({"POST /v1/instances": (201, {"port": 6101}), "GET /v1/instances/cart": waiting(states)})
    run = ask([controller], "adopt", "cart", "10.0.0.1:6379", "--wait")
    assert run.returncode == 0, run.stderr
    assert len(controller.asked) == 1 + len(states)
    assert "10.0.0.3:6379" in run.stdout
    controller.answers["GET /v1/instances/cart"] = waiting(states)
    run = ask([controller], "--json", "adopt", "cart", "10.0.0.1:6379", "--wait")
    assert json.loads(run.stdout) == settled()


def test_wait_times_out_and_says_what_is_missing(fake):
    controller = fake({"POST /v1/instances": (201, {"port": 6101}), "GET /v1/instances/cart": (200, READY)})
    run = ask([controller], "adopt", "cart", "10.0.0.1:6379", "--wait", "--wait-ms", "100")
    assert run.returncode == 4 and "10.0.0.2:6379" in run.stderr and "cart" in run.stderr


# ---- reading ----------------------------------------------------------------------------------------------------


def test_topology_of_one(fake):
    controller = fake({"GET /v1/topology": (200, TOPOLOGY)})
    run = ask([controller], "topology", "cart")
    assert run.returncode == 0 and "10.0.0.3:6379" in run.stdout and "basket" not in run.stdout
    assert json.loads(ask([controller], "--json", "topology", "cart").stdout)["set_aside"] == []
    assert json.loads(ask([controller], "--json", "topology").stdout) == TOPOLOGY  # its leader is not to be found
    broken = ask([controller], "topology", "basket")
    assert broken.returncode == 1 and "17 elements" in broken.stderr
    missing = ask([controller], "topology", "nowhere")
    assert missing.returncode == 1 and "nowhere" in missing.stderr and "mrctl list" in missing.stderr


def test_no_history_is_not_no_instance(fake):
    controller = fake({"GET /v1/history?instance=cart": (200, {"history": []}),
                       "GET /v1/history?instance=nowhere": (200, {"history": []}),
                       "GET /v1/instances/cart": (200, READY)})
    assert ask([controller], "history", "cart").returncode == 0
    run = ask([controller], "history", "nowhere")
    assert run.returncode == 1 and "nowhere" in run.stderr and run.stdout == ""


def test_watch_draws_at_every_change_and_reconnects(fake):
    """Two streams: the first one breaks after one change, the second one ends with the instance's removal."""
    streams = []

    def topology(_):
        epoch = len(controller.asked)
        value = json.loads(json.dumps(TOPOLOGY))
        value["instances"][0]["epoch"] = epoch
        if len(streams) == 2 and "gone" in streams:
            value["instances"] = []
        return 200, value

    def events(handler):
        streams.append("open" if not streams else "gone")
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b": ok\n\n")
        if len(streams) == 1:
            handler.wfile.write(b'event: change\ndata: {"instance":"cart","revision":9}\n\n: still here\n\n')
        handler.close_connection = True

    controller = fake({"GET /v1/topology": topology, "GET /v1/events": events})
    run = ask([controller], "--json", "topology", "cart", "-w")
    assert run.returncode == 1 and "cart" in run.stderr, "it ends when the instance that it watches is gone"
    assert len(streams) == 2
    pictures = [json.loads(line) for line in run.stdout.splitlines()]
    assert pictures and all(p["instances"][0]["name"] == "cart" for p in pictures)


# ---- straight from ZooKeeper --------------------------------------------------------------------------------------


@pytest.fixture
def chroot(shared_zookeeper):
    """A chroot with one good and one corrupt instance, and a client in it."""
    root = KazooClient(hosts=shared_zookeeper.hosts("").rstrip("/"), timeout=ZK_SESSION_S)
    root.start(timeout=LIMIT_S)
    root.create("/mrctl/instances/cart", (GOLDEN / "instance_stable.json").read_bytes(), makepath=True)
    root.create("/mrctl/instances/basket", b"{\"v\":1,", makepath=True)
    root.create("/mrctl/instances/twin", (GOLDEN / "instance_stable.json").read_bytes(), makepath=True)
    yield shared_zookeeper.hosts("/mrctl"), root
    root.delete("/mrctl", recursive=True)
    root.stop()
    root.close()


def test_controllers_are_found_in_zookeeper(chroot, fake):
    hosts, client = chroot
    empty = mrctl("--zk", hosts, "list")
    assert empty.returncode == 3 and "no controller is registered" in empty.stderr and hosts in empty.stderr
    controller = fake({"GET /v1/instances": (200, {"instances": []})})
    value = json.loads((GOLDEN / "controller.json").read_text(encoding="utf-8"))
    value.update(host="127.0.0.1", http_port=controller.port)
    client.create("/mrctl/controllers/ctl-1", json.dumps(value).encode(), makepath=True)
    assert mrctl("--zk", hosts, "list").returncode == 0


def test_watch_finds_a_controller_that_moved(chroot, fake):
    hosts, client = chroot
    value = json.loads((GOLDEN / "controller.json").read_text(encoding="utf-8"))

    def register(controller):
        value.update(host="127.0.0.1", http_port=controller.port)
        client.ensure_path("/mrctl/controllers/ctl-1")
        client.set("/mrctl/controllers/ctl-1", json.dumps(value).encode())

    def stream(handler, text):
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + text)

    drawn = threading.Event()

    def topology(_):
        drawn.set()
        return 200, TOPOLOGY

    def leave(handler):
        stream(handler, b": ok\n\n")
        assert drawn.wait(LIMIT_S), "the open stream lets mrctl ask for the topology"
        register(second)
        first.answers.clear()

    empty = {**TOPOLOGY, "instances": [], "set_aside": []}
    first = fake({"GET /v1/topology": topology, "GET /v1/events": leave})
    second = fake({"GET /v1/topology": (200, empty), "GET /v1/events": lambda h: stream(h, b": ok\n\n")})
    register(first)
    run = mrctl("--zk", hosts, "topology", "cart", "--watch")
    assert run.returncode == 1 and "there is no instance cart" in run.stderr, run.stderr
    assert "10.0.0.1:6379" in run.stdout
    assert "/v1/events" in [path for _, path, _, _ in second.asked]


def test_topology_without_controllers(chroot):
    hosts, _ = chroot
    run = mrctl("--zk", hosts, "topology")
    assert run.returncode == 0 and "ZooKeeper" in run.stderr
    assert "10.0.0.2:6379" in run.stdout and "unknown" in run.stdout
    told = " ".join(run.stdout.split())
    assert "basket set aside" in told and "twin set aside" in told
    value = json.loads(mrctl("--zk", hosts, "--json", "topology", "cart").stdout)
    assert value["source"] == "zookeeper" and value["instances"][0]["epoch"] == 3
    assert "password" not in run.stdout


# ---- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, told", [
    ([], "command"), (["dance"], "dance"), (["create", "cart"], "create"), (["show"], "NAME"),
    (["list", "x"], "list"), (["adopt", "cart"], "HOST:PORT"), (["adopt", "a b", "1.1.1.1:1"], "a b"),
    (["adopt", "cart", "1.1.1.1"], "1.1.1.1"), (["adopt", "cart", "1.1.1.1:0"], "1.1.1.1:0"),
    (["list", "--wait"], "--wait"), (["show", "cart", "-w"], "--watch"), (["--wait-ms", "0", "list"], "--wait-ms"),
    (["--controllers", "", "list"], "controller"), (["--controllers", "ftp//:x y", "list"], "ftp//:x y"),
])
def test_usage_errors(arguments, told):
    run = mrctl(*arguments)
    assert run.returncode == 2 and told in run.stderr and "--help" in run.stderr, run.stderr
    assert run.stdout == "" and len(run.stderr.splitlines()) == 1


def test_files_that_can_not_be_read(fake):
    controller = fake({})
    for arguments in (["--token-file", "/no/such/file", "list"],
                      ["adopt", "cart", "127.0.0.1:1", "--password-file", "/no/such/file"]):
        run = ask([controller], *arguments)
        assert run.returncode == 1 and "/no/such/file" in run.stderr
    assert controller.asked == []
