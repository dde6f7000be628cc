"""The benches run, count what they should, and leave nothing behind. How fast it was is theirs to say."""

import json
import signal
import subprocess
import sys

import netns
import pytest
import resp
from cluster import BUILD
from lab import Lab
from sandbox import TOP
from servers import redis_group
from wait import LIMIT_S, wait_until

sys.path.insert(0, str(TOP / "tests" / "bench"))

import outages  # noqa: E402
import soak  # noqa: E402
from talk import Talker  # noqa: E402

RUN = [sys.executable, TOP / "tests" / "bench" / "run.py"]


def bench(sandbox, *args):
    """Runs it to its end; returns what it measured."""
    report = sandbox.folder / "bench.json"
    run = subprocess.run([*map(str, RUN), *map(str, args), "--json", str(report)], capture_output=True, text=True,
                         timeout=10 * LIMIT_S, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(report.read_text(encoding="utf-8"))


def test_failover_bench_counts_kills_errors_and_writes(sandbox):
    results = bench(sandbox, "failover", "--kills", 1, "--only", "floor,mr-redis")["failover"]
    floor, ours = results
    assert [floor["title"], ours["title"]] == ["floor", "Mr-Redis"]
    for result in results:
        assert result["kills"] == 1 and result["acknowledged"] > 0
        assert 0 < result["min_ms"] <= result["median_ms"] <= result["max_ms"]
    # The floor's client can't but notice; a proxy's client must not.
    assert floor["reconnects"] == 1 and floor["errors"] == {"CLOSED": 1}
    assert ours["reconnects"] == 0 and set(ours["errors"]) <= {"MRUNKNOWN"}


def test_scale_bench_adopts_kills_and_restarts(sandbox):
    scale = bench(sandbox, "scale", "--kills", 1, "--instances", 12, "--quick")["scale"]
    assert scale["instances"] == 12
    assert scale["single"]["reconnects"] == 0
    assert len(scale["together_ms"]) == 6
    assert 0 < scale["restart_leader_s"] <= scale["restart_complete_s"]


def test_bench_ends_what_it_started_when_interrupted(sandbox):
    with (sandbox.folder / "interrupted.log").open("w+", encoding="utf-8") as log:
        child = subprocess.Popen([*map(str, RUN), "failover", "--only", "floor"], stdout=log, stderr=log)
        try:
            children = wait_until(lambda: running_below(child.pid), "the bench to start servers")
            wait_until(lambda: "kill 1 of" in open(log.name, encoding="utf-8").read(), "a round to end")
            children |= running_below(child.pid)
            child.send_signal(signal.SIGINT)
            assert child.wait(LIMIT_S) == 130
        finally:
            child.kill()
            child.wait()
    assert not [pid for pid in children if is_running(pid)]


def running_below(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return set(map(int, file.read().split()))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def fields(text):
    return {line.split(":", 1)[0] for line in text.splitlines() if ":" in line}


def test_pretended_members_answer_as_redis_does(sandbox):
    responder = Talker(sandbox, [BUILD / "tests" / "bench" / "resp_responder", "--instances", 1])
    pretended = responder.hear("ready")["instances"][0]
    real = redis_group(sandbox, "real", 2)
    for port, server in zip(pretended, real):
        with resp.Client(port) as fake, server.client() as client:
            for section in ("replication", "server"):
                assert fields(fake.call("INFO", section)) <= fields(client.call("INFO", section))
            assert [type(part) for part in fake.call("ROLE")] == [type(part) for part in client.call("ROLE")]
            for command in (("NOSUCH",), ("EXEC",), ("REPLICAOF", "x"), ("REPLICAOF", "127.0.0.1", "99999"),
                            ("PING", "x"), ("CLIENT", "SETNAME", "x"), ("SELECT", "0")):
                assert str(fake.call_raw(*command)) == str(client.call_raw(*command)), command
    with resp.Client(pretended[1]) as fake, real[1].client() as client:
        for commands in ([("SET", "a", "1")], [("MULTI",), ("REPLICAOF", "127.0.0.1", "1"), ("DISCARD",)],
                         [("REPLICAOF", "NO", "ONE"), ("ROLE",), ("REPLICAOF", "NO", "ONE")]):
            ours, theirs = fake.pipeline(commands), client.pipeline(commands)
            assert [type(reply) for reply in ours] == [type(reply) for reply in theirs]


@pytest.mark.skipif(not netns.is_possible(), reason="needs root: network namespaces can't be made here")
def test_outage_bench_measures_each_loss_on_hosts_of_its_own(sandbox):
    results = bench(sandbox, "outages", "--rounds", 1, "--faults", "kill,leader", "--no-sentinel")["outages"]
    assert [(r["fault"], r["title"]) for r in results] == [("kill", "Mr-Redis"), ("leader", "Mr-Redis")]
    for result in results:
        assert result["rounds"] == 1 and result["acknowledged"] > 0 and result["reconnects"] == 0
        assert 0 < result["median_ms"] == result["max_ms"] == result["outages_ms"][0]
    # The others notice a dead leader only when its session is over.
    assert results[1]["median_ms"] > results[0]["median_ms"]


@pytest.mark.skipif(not netns.is_possible(), reason="needs root: network namespaces can't be made here")
def test_outage_bench_sees_sentinels_failover(sandbox):
    lab = Lab(sandbox, with_disks=False)
    lab.add_sentinel(1000)
    lab.wait_ready()
    for kind in (outages.Sentinel, outages.PollingSentinel):
        result = outages.measure(kind(lab, 100), "switchover", 1, print)
        assert result["rounds"] == 1 and result["acknowledged"] > 0
        # Whoever follows Sentinel has to connect anew.
        assert result["reconnects"] >= 1
        assert 0 <= result["missing"] <= result["acknowledged"]


@pytest.mark.skipif(not netns.is_possible(), reason="needs root: network namespaces can't be made here")
def test_soak_disturbs_and_counts_new_epochs(sandbox):
    lab = Lab(sandbox, disk_root=sandbox.folder)
    lab.wait_ready()
    run = soak.Soak(lab, print)
    for kind in (soak.Soak.fork, soak.Soak.silent_script, soak.Soak.stall):
        run.one(kind)
    assert run.counts == {"fork": 1, "silent_script": 1, "stall": 1} and run.failovers == 0
    for kind in ("silent_script", "stall"):
        assert run.longest[kind] >= 500 * soak.STALL_S, f"the client waited as long as the {kind} took"
    # A real failover would be counted.
    lab.instance.master().kill()
    lab.instance.wait_epoch(run.epoch + 1)
    lab.mend()
    run.one(soak.Soak.fork)
    assert run.failovers == 1
    run.client.close()
