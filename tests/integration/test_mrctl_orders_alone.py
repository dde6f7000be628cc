"""mrctl's commands against controllers that are played by this test: what it sends, what it says, how it ends."""

import json
import re
import socket
import threading
import time

import pytest

from cluster import binary
from played_controller import ask, error, fake, mrctl, nobody  # noqa: F401: fake is a fixture
from sandbox import TOP
from wait import LIMIT_S, wait_until

GOLDEN = TOP / "tests" / "golden"
PLAN = json.loads((GOLDEN / "view_plan.json").read_text(encoding="utf-8"))
REFUSED = json.loads((GOLDEN / "view_plan_refused.json").read_text(encoding="utf-8"))
INSTANCE = json.loads((GOLDEN / "view_instance.json").read_text(encoding="utf-8"))
DONE = (200, {"instance": "cart", "message": "cart: 10.0.0.3:6379 is master in epoch 4"})

# command line, request, body without "by"
ORDERS = [
    (["switchover", "cart"], "POST /v1/instances/cart/switchover", {"limit_ms": 5000}),
    (["switchover", "cart", "--to", "localhost:6379", "--limit-ms", "700", "--dry-run"],
     "POST /v1/instances/cart/switchover", {"to": "127.0.0.1:6379", "limit_ms": 700, "dry_run": True}),
    (["failover", "cart"], "POST /v1/instances/cart/failover", {}),
    (["failover", "cart", "--to", "[::1]:7000", "--allow-data-loss"], "POST /v1/instances/cart/failover",
     {"to": "[::1]:7000", "allow_data_loss": True}),
    (["failover", "cart", "--dry-run"], "POST /v1/instances/cart/failover", {"dry_run": True}),
    (["pause", "cart"], "POST /v1/instances/cart/pause", {}),
    (["pause", "cart", "--for", "2h", "--reason", "a \"new\" kernel"], "POST /v1/instances/cart/pause",
     {"for_ms": 7200000, "reason": "a \"new\" kernel"}),
    (["pause", "--for", "90s"], "POST /v1/pause", {"for_ms": 90000}),
    (["resume", "cart"], "POST /v1/instances/cart/resume", {}),
    (["resume"], "POST /v1/resume", {}),
    (["ack", "cart"], "POST /v1/instances/cart/ack", {}),
    (["set", "cart", "cooldown_ms=5000", "auto_failover=off", "durability=async", "max_lag_bytes=-1"],
     "PATCH /v1/instances/cart",
     {"policy": {"cooldown_ms": 5000, "auto_failover": False, "durability": "async", "max_lag_bytes": -1}}),
    (["set", "cart", "10.0.0.3:6379", "priority=prefer", "zone=1", "10.0.0.1:6379", "zone="],
     "PATCH /v1/instances/cart",
     {"members": [{"address": "10.0.0.3:6379", "priority": "prefer", "zone": "1"},
                  {"address": "10.0.0.1:6379", "zone": ""}]}),
    (["set", "cart", "acks=2", "10.0.0.3:6379", "zone=eu-1"], "PATCH /v1/instances/cart",
     {"policy": {"acks": 2}, "members": [{"address": "10.0.0.3:6379", "zone": "eu-1"}]}),
]


def ids(orders):
    return [" ".join(order[0]) for order in orders]


@pytest.mark.parametrize("line, request_, body", ORDERS, ids=ids(ORDERS))
def test_what_is_sent(fake, line, request_, body):
    controller = fake({request_: DONE})
    run = mrctl("--controllers", controller.url, *line, env={"USER": "ann b"})
    assert run.returncode == 0 and run.stderr == ""
    assert "cart: 10.0.0.3:6379 is master in epoch 4" in run.stdout
    (method, path, sent, _), = controller.asked
    sent = json.loads(sent)
    assert f"{method} {path}" == request_
    assert sent.pop("by") == f"ann?b@{socket.gethostname()}"[:64]
    assert sent == body
    run = ask([controller], "--json", *line)
    assert json.loads(run.stdout) == DONE[1]


def test_delete_has_no_body(fake):
    controller = fake({"DELETE /v1/instances/cart": (200, {"instance": "cart", "message": "cart: port 6101 is free again"})})
    run = ask([controller], "delete", "cart")
    assert run.returncode == 0 and "6101 is free" in run.stdout
    assert controller.asked == [("DELETE", "/v1/instances/cart", "", None)]


@pytest.mark.parametrize("status, code", [(409, "refused"), (409, "rolled_back"), (400, "bad_request"), (404, "not_found"),
                                          (503, "no_leader")])
@pytest.mark.parametrize("line, request_, _", ORDERS[::3], ids=ids(ORDERS[::3]))
def test_a_refusal_says_why(fake, line, request_, _, status, code):
    run = ask([fake({request_: error(status, "because of the weather", code)})], *line)
    assert run.returncode == 1 and "because of the weather" in run.stderr and run.stdout == ""
    assert " ".join(line[:1]) in run.stderr


def test_a_dry_run_shows_the_plan(fake):
    controller = fake({"POST /v1/instances/cart/failover": (200, PLAN)})
    run = ask([controller], "failover", "cart", "--dry-run")
    assert run.returncode == 0 and run.stderr == ""
    assert run.stdout == (GOLDEN / "mrctl_explain.txt").read_text(encoding="utf-8")


def test_a_refused_dry_run_shows_the_arithmetic_and_the_reason(fake):
    controller = fake({"POST /v1/instances/cart/switchover": (409, REFUSED)})
    run = ask([controller], "switchover", "cart", "--dry-run")
    assert run.returncode == 1
    assert "may hold newer data" in run.stderr and "countable 2" in run.stdout
    run = ask([controller], "--json", "switchover", "cart", "--dry-run")
    assert run.returncode == 1 and json.loads(run.stdout) == REFUSED


def test_explain(fake):
    controller = fake({"GET /v1/instances/cart/explain": (200, PLAN)})
    run = ask([controller], "explain", "cart")
    assert run.returncode == 0 and run.stdout == (GOLDEN / "mrctl_explain.txt").read_text(encoding="utf-8")
    # Not ready is an answer, too.
    controller.answers["GET /v1/instances/cart/explain"] = (200, REFUSED["plan"])
    run = ask([controller], "explain", "cart")
    assert run.returncode == 0 and "NOT READY" in run.stdout
    assert json.loads(ask([controller], "--json", "explain", "cart").stdout) == REFUSED["plan"]
    assert ask([controller], "explain", "nowhere").returncode == 1


def test_nobody_and_no_answer(fake, sandbox):
    assert ask([nobody(sandbox)], "switchover", "cart").returncode == 3

    given_up = threading.Event()

    def late(_):
        given_up.wait(LIMIT_S)  # a leader that has more to do than the limit and its slack allow

    slow = fake({"POST /v1/instances/cart/switchover": late})
    began = time.monotonic()
    run = ask([slow], "switchover", "cart", "--limit-ms", "100")
    given_up.set()
    assert run.returncode == 4 and "no answer in time" in run.stderr
    assert time.monotonic() - began >= 2.1, "it waits for the limit and two seconds"


def test_a_standby_sends_it_on(fake):
    leader = fake({"PATCH /v1/instances/cart": DONE, "DELETE /v1/instances/cart": DONE})

    def on(handler):
        return handler.send(307, {}, Location=leader.url + handler.path)

    standby = fake({"PATCH /v1/instances/cart": on, "DELETE /v1/instances/cart": on})
    assert ask([standby], "set", "cart", "acks=2").returncode == 0
    assert ask([standby], "delete", "cart").returncode == 0
    assert [a[0] for a in leader.asked] == ["PATCH", "DELETE"]
    assert json.loads(leader.asked[0][2])["policy"] == {"acks": 2}


def test_only_what_was_not_begun_is_sent_to_another_one(fake):
    """A leader that was deposed half-way may have done it: a second one would do it twice."""
    second = fake({"POST /v1/instances/cart/switchover": DONE})
    for code, asked in (("no_leader", 1), ("starting", 1), ("deposed", 0), ("stopping", 0)):
        first = fake({"POST /v1/instances/cart/switchover": error(503, "not here", code)})
        second.asked.clear()
        run = ask([first, second], "switchover", "cart")
        assert (run.returncode, len(second.asked)) == (1 - asked, asked), code


# ---- events -------------------------------------------------------------------------------------------------------


def report(at, text, instance="cart"):
    return "report", {"at": at, "instance": instance, "level": "info", "text": text}


def stream(*events):
    """Plays an event stream that then ends."""
    def play(handler):
        text = ": ok\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n:\n\n" for name, data in events)
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for byte in text.encode():  # in the smallest pieces there are
            handler.wfile.write(bytes([byte]))
    return play


def test_recent_events(fake):
    controller = fake({"GET /v1/events?recent=200": stream(report(0, "event=a"), report(1000, "event=b", ""),
                                                           ("live", {}), report(2000, "event=c"))})
    run = ask([controller], "events")
    assert run.returncode == 0 and run.stderr == ""
    assert run.stdout == ("1970-01-01 00:00:00Z  info   cart  event=a\n"
                          "1970-01-01 00:00:01Z  info   -  event=b\n")


def test_events_of_one(fake):
    controller = fake({"GET /v1/events?recent=200&instance=cart": stream(report(0, "event=a"), ("live", {})),
                       "GET /v1/instances/cart": (200, INSTANCE)})
    run = ask([controller], "--json", "events", "cart")
    assert json.loads(run.stdout) == report(0, "event=a")[1]
    run = ask([controller], "events", "nowhere")
    assert run.returncode == 1 and run.stdout == ""


def test_events_are_followed_to_the_next_leader(fake, sandbox):
    """What both tell is printed once; the second one's end is ours."""
    def leave(handler):
        nodes[0].update(http_port=second.port)  # before mrctl is told to ask again
        stream(report(1000, "event=a"), ("live", {}), report(1000, "event=b"), ("change", {"instance": "cart"}),
               ("leader", {"leader": "ctl-2"}))(handler)

    nodes = [{"id": "ctl", "role": "leader", "host": "127.0.0.1", "http_port": 0}]
    where = {"GET /v1/controllers": lambda _: (200, {"controllers": nodes})}
    first = fake({**where, "GET /v1/events?recent=10": leave})
    second = fake({**where, "GET /v1/events?recent=10": stream(report(1000, "event=b"), report(2000, "event=c"),
                                                               ("live", {}), report(2000, "event=d"))})
    nodes[0].update(http_port=first.port)
    watch = sandbox.start("events", [binary("mrctl"), "--controllers", first.url, "events", "-f"])

    def texts():
        return re.findall(r"event=(\w)", watch.log_text())

    wait_until(lambda: "d" in texts(), "the second leader's event")
    assert texts() == ["a", "b", "c", "d"]
    watch.kill()


def test_events_without_anybody(sandbox):
    assert ask([nobody(sandbox)], "events", "-f").returncode == 3


# ---- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, told", [
    (["switchover"], "NAME"), (["switchover", "cart", "x"], "NAME"), (["failover", "a b"], "a b"),
    (["switchover", "cart", "--to", "nowhere"], "nowhere"), (["switchover", "cart", "--limit-ms", "1"], "--limit-ms"),
    (["failover", "cart", "--limit-ms", "700"], "--limit-ms"), (["switchover", "cart", "--allow-data-loss"], "failover"),
    (["pause", "cart", "--for", "2"], "--for 2"), (["pause", "--for", "2w"], "90s"), (["resume", "--for", "2h"], "pause"),
    (["pause", "cart", "--dry-run"], "--dry-run"), (["ack"], "NAME"), (["ack", "cart", "--reason", "x"], "--reason"),
    (["set", "cart"], "key=value"), (["set", "cart", "=5"], "=5"), (["set", "cart", "acks=1", "acks=2"], "acks"),
    (["set", "cart", "1.1.1.1:1"], "priority"), (["set", "cart", "1.1.1.1:1", "2.2.2.2:2", "zone=x"], "1.1.1.1:1"),
    (["set", "cart", "acks"], "acks"), (["delete"], "NAME"), (["list", "-f"], "--follow"), (["explain"], "NAME"),
])
def test_usage_errors(arguments, told):
    run = mrctl("--controllers", "http://127.0.0.1:1", *arguments)
    assert run.returncode == 2 and told in run.stderr and "--help" in run.stderr, run.stderr
    assert run.stdout == "" and len(run.stderr.splitlines()) == 1
