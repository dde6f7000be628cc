"""Real partitions: hosts in network namespaces, cut off from each other, and every client's history judged.

Two rounds of each scenario of tests/chaos/scenarios.py; `make chaos` plays 30 of each."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import netns
import pytest
from lab import Lab
from sandbox import TOP, Sandbox
from wait import LIMIT_S, wait_until

sys.path.insert(0, str(TOP / "tests" / "chaos"))

from rounds import play  # noqa: E402
from scenarios import SCENARIOS  # noqa: E402

ROUNDS = 2
PORT = 7000
DEAF_S = 0.3

pytestmark = [pytest.mark.lab,
              pytest.mark.skipif(not netns.is_possible(), reason="needs root: network namespaces can't be made here")]


class Labs:
    """One lab for all tests of a worker; a failed test costs it the lab, so that it can't spoil the next."""

    def __init__(self):
        self._lab = None

    def get(self):
        if self._lab is None:
            sandbox = Sandbox()
            try:
                self._lab = Lab(sandbox)
            except BaseException:
                sandbox.close()
                raise
        return self._lab

    def drop(self):
        lab, self._lab = self._lab, None
        if lab:
            lab.sandbox.close()


@pytest.fixture(scope="module")
def labs():
    kept = Labs()
    yield kept
    kept.drop()


@pytest.fixture
def sandbox(labs, request):
    """The lab's; conftest.py shows its logs when a test failed. Then it is closed before the next test."""
    failed_before = request.session.testsfailed
    yield labs.get().sandbox
    if request.session.testsfailed > failed_before:
        labs.drop()


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(labs, name):
    for _ in range(ROUNDS):
        outcome = play(labs.get(), name, SCENARIOS[name])
        assert outcome.problems == [], outcome.line()
        assert outcome.report.acknowledged > 0


def existing():
    told = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in told.splitlines() if line}


def datagram_arrives(sender, receiver):
    with receiver.inside():
        ear = socket.socket(type=socket.SOCK_DGRAM)
    with sender.inside():
        mouth = socket.socket(type=socket.SOCK_DGRAM)
    with ear, mouth:
        ear.bind((receiver.ip, PORT))
        ear.settimeout(DEAF_S)
        mouth.sendto(b"?", (receiver.ip, PORT))
        try:
            return ear.recvfrom(1) == (b"?", (sender.ip, mouth.getsockname()[1]))
        except TimeoutError:
            return False


def test_two_labs_side_by_side_and_nothing_is_left():
    namespaces = []
    pair = [netns.Network(["a", "b"]), netns.Network(["a", "b"])]
    try:
        for network in pair:
            namespaces += [host.namespace for host in network.hosts.values()]
        assert len(set(namespaces)) == 4 and set(namespaces) <= existing()
        # The same addresses, and each reaches its own.
        assert all(datagram_arrives(network["a"], network["b"]) for network in pair)
        pair[0].isolate([pair[0]["a"]])
        assert not datagram_arrives(pair[0]["a"], pair[0]["b"]) and datagram_arrives(pair[1]["a"], pair[1]["b"])
    finally:
        for network in pair:
            network.close()
    assert not existing() & set(namespaces)


def test_chaos_that_is_interrupted_leaves_nothing(tmp_path):
    with (tmp_path / "chaos.log").open("w+", encoding="utf-8") as log:
        child = subprocess.Popen([sys.executable, TOP / "tests" / "chaos" / "run.py", "--no-sentinel", "--only",
                                  "replica_host_cut_off"], stdout=log, stderr=log, start_new_session=True)
        try:
            ours = f"mr{child.pid}-"
            wait_until(lambda: any(name.startswith(ours) for name in existing()), "the hosts to be made")
            wait_until(lambda: disks_of(child.pid), "a member to run on its own disk")
            os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to everything that was started
            assert child.wait(LIMIT_S) == 130, (tmp_path / "chaos.log").read_text(encoding="utf-8")
        finally:
            if child.poll() is None:  # it is to clean up whatever failed here
                os.killpg(child.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LIMIT_S)
            child.kill()
            child.wait()
    assert not [name for name in existing() if name.startswith(ours)]


def disks_of(pid):
    """Its redis-servers that write to a disk of their own."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        commands = [Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8") for child in file.read().split()]
    return [command for command in commands if "redis-server" in command and "disk-" in command]


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_cut_of_one_direction_lets_the_other_through(way):
    network = netns.Network(["a", "b", "c"])
    try:
        a, b, c = network["a"], network["b"], network["c"]
        network.cut_one_way(*(([a], [b]) if way == "there" else ([b], [a])))
        assert datagram_arrives(a, b) == (way == "back") and datagram_arrives(b, a) == (way == "there")
        assert datagram_arrives(a, c) and datagram_arrives(c, b)
        network.heal()
        assert network.is_whole() and datagram_arrives(a, b) and datagram_arrives(b, a)
        network.link_down(b)
        assert not datagram_arrives(a, b) and not datagram_arrives(b, c)
        network.heal()
        assert datagram_arrives(a, b)
    finally:
        network.close()
