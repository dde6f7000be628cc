"""The benches run, count what they should, and leave nothing behind. How fast it was is theirs to say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import netns
import pytest
import resp
from cluster import BUILD
from lab import Lab
from sandbox import TOP
from servers import Redis, redis_group
from wait import LIMIT_S, wait_until, wait_while

sys.path.insert(0, str(TOP / "tests" / "bench"))

import arms  # noqa: E402
import outages  # noqa: E402
import proxy  # noqa: E402
import proxy_limits  # noqa: E402
import proxy_table  # noqa: E402
import soak  # noqa: E402
import strict  # noqa: E402
import strict_table  # noqa: E402
import table  # noqa: E402
from talk import Talker  # noqa: E402

STALL_S = 0.5
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


SERVED = {"direct", "haproxy", "nutcracker", "mr-proxy"}


def test_proxy_bench_measures_every_part_and_arm(sandbox):
    results = bench(sandbox, "proxy", "--quick", "--cells", "*:3:50:1,get:64k:50:1", "--modes", "unpinned,onecore",
                    "--seed", 7)["proxy"]
    # Beside a deep pipeline nutcracker can let a neighbour wait for longer than the bench does.
    starved = {failure.split(":")[0] for failure in results["failures"] if failure.startswith("nutcracker: beside ")}
    assert results["seed"] == 7 and len(results["failures"]) == len(starved)
    rows = {(row["mode"], row["cell"], row["arm"]): row for row in results["throughput"]}
    assert {(mode, cell) for mode, cell, _ in rows} == {
        ("unpinned", "set:3:50:1"), ("unpinned", "get:3:50:1"), ("unpinned", "get:64k:50:1"),
        ("onecore", "set:3:50:1"), ("onecore", "get:3:50:1")}
    for (mode, _, arm), row in rows.items():
        assert row["repeats"] == len(row["rates"]) == proxy.QUICK_REPEATS
        assert row["rps"] > 0 and 0 < row["p50_us"] <= row["p99_us"]
        assert (row["proxy_us"] is None) == (arm == "direct")
        assert (row["redis_us"] is None) == (arm == "answerer")
        assert arm in SERVED or (arm, mode) == ("answerer", "onecore")
    report = proxy_table.Report(results)
    assert all(report.ratio(*cell, "direct") == 1 for cell in rows if cell[2] == "direct")
    assert all(report.ratio(*cell, other) > 0 for cell in rows for other in ("direct", "haproxy"))
    assert {row["arm"] for row in results["idle"]} == SERVED - {"direct"}
    for row in results["idle"]:
        assert list(map(int, row["rss_kb"])) == list(proxy_limits.IDLE_QUICK) and min(row["rss_kb"].values()) > 0
    assert {row["arm"]: row["served"] for row in results["slow"]} == dict.fromkeys(SERVED, proxy_limits.UNREAD_QUICK)
    assert {row["arm"] for row in results["latency"]} == SERVED
    assert {(row["arm"], row["beside"]) for row in results["fairness"] if row["arm"] not in starved} == {
        (arm, kind) for arm in SERVED - starved for kind in ("quiet", *proxy_limits.BAD_KINDS)}
    for row in results["fairness"]:
        assert row["errors"] == 0 and (row["moved_mb_per_s"] > 0) == (row["beside"] != "quiet")
    assert {row["arm"] for row in results["busy"]} == SERVED
    assert all(row["errors"] == 0 and 0 < row["p50_us"] <= row["p99_us"] for row in results["busy"])


def test_proxy_bench_places_each_where_its_mode_says():
    first, second = arms.CPUS[:1], arms.CPUS[1:2]
    for mode, alone in arms.ALONE.items():
        for role in ("redis", "client", "proxy"):
            assert arms.core_of(mode, role) == (second if role == alone else first), (mode, role)
            assert arms.core_of("onecore", role) == first and arms.core_of("unpinned", role) == arms.CPUS


def test_proxy_bench_leaves_senseless_cells_out():
    cells = proxy.cells_of("unpinned", ["*"])
    assert {str(cell) for cell in cells if cell.size == proxy.MB} == {
        f"{op}:1m:{clients}:1" for op in proxy.OPS for clients in (1, 50)}
    assert {(cell.size, cell.clients) for cell in cells if cell.pipeline == 16} == {
        (size, clients) for size in (3, 1024) for clients in (50, 500)}
    assert {cell.size for cell in proxy.cells_of("onecore", ["*"])} == {3}
    assert [str(cell) for cell in proxy.cells_of("pinned", ["get:3:50:*"])] == ["get:3:50:1", "get:3:50:16"]


def test_ratios_are_of_what_was_measured_together():
    slow, fast = 10, 30
    assert table.ratio_of({0: slow, 1: fast, 2: slow}, {0: slow, 1: slow, 2: fast, 3: fast}) == 1
    assert table.ratio_of({0: slow}, {1: fast}) is None
    assert table.ratio_of({0: slow}, {0: 0}) is None


def pretended_results(haproxy_ratio):
    def row(arm, op, ratio):
        return {"mode": "unpinned", "cell": f"{op}:3:50:1", "arm": arm, "repeats": 1,
                "rates": {0: 1000 * ratio}, "rps": 1000 * ratio, "p50_us": 100, "p99_us": 200,
                "redis_us": 1.0, "proxy_us": 2.0}
    ratios = {"direct": 1.0, "haproxy": haproxy_ratio, "mr-proxy": 0.96}
    return {"seed": 1, "versions": {"Redis": "7"}, "kernel": proxy.kernel_settings(), "minutes": 1,
            "repeats": 1, "seconds": 1,
            "rule": proxy.RULE, "one_core_rule": proxy.ONE_CORE, "arms": list(ratios), "failures": ["nutcracker: gone"],
            "throughput": [row(arm, op, ratio) for arm, ratio in ratios.items() for op in proxy.OPS]}


def test_proxy_bench_judges_its_targets():
    def verdict(haproxy_ratio, goal):
        targets = proxy_table.Report(pretended_results(haproxy_ratio)).targets()
        return next((met, told) for name, met, told in targets if goal in name)
    goal = "c = 50, P = 1: >= 1.5 x HAProxy"
    assert verdict(0.6, goal) == (True, "SET 3 B 1.60, GET 3 B 1.60")
    assert verdict(0.8, goal) == (False, "SET 3 B 1.20, GET 3 B 1.20")
    assert verdict(0.8, "c = 50, P = 1: >= 0.95 x direct")[0] is True
    assert verdict(0.8, "c = 500, P = 1: >= 0.95 x direct") == (None, "not measured")
    lines = list(proxy_table.proxy_lines(pretended_results(0.8)))
    assert any(line.startswith("  MISSED") and goal in line for line in lines)
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text(encoding="ascii").strip()
    assert any(f"TCP congestion control {congestion}" in line for line in lines)
    assert lines[-1].endswith("nutcracker: gone")


def test_proxy_bench_replaces_its_part_of_readme_only(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{proxy_table.BEGIN}\nold\n{proxy_table.END}\n\nafter\n", encoding="utf-8")
    for ratio in (0.6, 0.8):
        proxy_table.write_readme(readme, pretended_results(ratio))
        text = readme.read_text(encoding="utf-8")
        assert text.startswith(f"before\n\n{proxy_table.BEGIN}\n") and text.endswith(f"{proxy_table.END}\n\nafter\n")
        assert "old" not in text and f"| {ratio:.3f} |" in text
        assert ("**missed**" in text) == (ratio == 0.8)
    readme.write_text("no markers\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        proxy_table.write_readme(readme, pretended_results(0.6))
    assert proxy_table.BEGIN in (TOP / "README.md").read_text(encoding="utf-8")


def test_proxy_bench_writes_nothing_partial_into_readme():
    for options in (["--quick"], ["--part", "idle"], ["--cells", "get:3:50:1"], ["--only", "direct"]):
        run = subprocess.run([*map(str, RUN), "proxy", "--write-readme", *options], capture_output=True, text=True,
                             timeout=LIMIT_S, check=False)
        assert run.returncode == 2 and "--write-readme" in run.stderr


def test_proxy_bench_names_a_proxy_that_crashed_and_goes_on(sandbox):
    redis = Redis(sandbox, "redis")
    arm = arms.Nutcracker(sandbox, redis)
    process = arm.processes()[0]
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: process.exit_status is not None, "nutcracker to die")
    arm.failed("get:3:50:1", "connection refused")
    assert arm.failures == ["nutcracker: get:3:50:1: connection refused",
                            "nutcracker: ended by itself, exit status -9; started again"]
    with resp.Client(arm.port()) as client:
        client.call("SET", "a", "1")
    assert redis.call("GET", "a") == "1"


def test_neighbour_counts_a_stall_for_every_request_it_delayed(sandbox):
    redis = Redis(sandbox, "redis")
    redis.call("SET", "key", "value")
    report = sandbox.folder / "neighbour.json"
    with report.open("w", encoding="utf-8") as out:
        child = subprocess.Popen([BUILD / "tests" / "bench" / "neighbour", "--port", str(redis.port), "--key", "key",
                                  "--gap-us", "1000", "--duration-ms", "1500"], stdout=out)
        try:
            wait_until(lambda: int(redis.info("commandstats")["cmdstat_get"].split("=")[1].split(",")[0]) > 100,
                       "the neighbour to ask")
            redis.suspend()
            wait_while(lambda: True, "time", STALL_S)
            redis.resume()
            assert child.wait(LIMIT_S) == 0
        finally:
            child.kill()
            child.wait()
    account = json.loads(report.read_text(encoding="utf-8"))
    # Every millisecond one was due, also during the stall; a tenth of them waited for most of it.
    assert account["requests"] >= 1400 and account["errors"] == 0
    assert account["p99_us"] >= 0.8e6 * STALL_S


def test_strict_bench_measures_every_arm_and_failovers(sandbox):
    results = bench(sandbox, "strict", "--quick", "--cells", "*:50:0:1,delayed:1:0:*,delayed:25:25:1", "--seed",
                    7)["strict"]
    assert results["seed"] == 7 and results["failures"] == []
    rows = {(row["cell"], row["arm"]): row for row in results["throughput"]}
    cells = {"loopback:50:0:1", "delayed:50:0:1", "delayed:1:0:1", "delayed:1:0:16", "delayed:25:25:1"}
    assert set(rows) == {(cell, arm) for cell in cells for arm in strict.ARMS}
    for (cell, arm), row in rows.items():
        assert ("read" in row) == (cell == "delayed:25:25:1")
        assert (row["proxy_us"] is None) == (arm in ("direct", "set-wait"))
        for kind in ("write", "read"):
            if kind in row:
                assert row[kind]["per_s"] > 0 and 0 < row[kind]["p50_us"] <= row[kind]["p99_us"]
        if (arm == "strict" or arm.endswith("set-wait")) and cell.startswith("delayed"):
            assert row["write"]["p50_us"] >= 2 * strict.DELAY_US, "an OK came before the replica's word can have come"
    assert [row["title"] for row in results["failover"]] == ["Mr-Redis", "Mr-Redis, strict"]
    for row in results["failover"]:
        assert row["kills"] == 1 and row["acknowledged"] > 0 and row["missing"] == 0 and row["reconnects"] == 0


def test_relay_delays_each_byte_and_changes_none(sandbox):
    redis = Redis(sandbox, "redis")
    relay = Talker(sandbox, [BUILD / "tests" / "bench" / "delay_relay", "--to", redis.address, "--delay-us", 20000])
    with resp.Client(relay.hear("ready")["port"]) as client:
        value = "".join(map(str, range(500000)))
        began = time.monotonic()
        assert client.call("SET", "big", value) == "OK"
        assert client.call("GET", "big") == value
        assert time.monotonic() - began >= 2 * 2 * 0.020
        # All at once: what is asked together is late together, not one after the other.
        began = time.monotonic()
        assert client.pipeline([("PING",)] * 100) == ["PONG"] * 100
        assert 0.040 <= time.monotonic() - began < 100 * 0.040
    assert redis.call("GET", "big") == value


def pretended_strict(x_async, median_ms=9.0):
    def row(cell, arm, per_s, ratio):
        return {"cell": cell, "arm": arm, "repeats": 1, "redis_us": 1, "replica_us": 1, "proxy_us": 1,
                "write": {"per_s": per_s, "p50_us": 100, "p99_us": 200, "x_async": ratio, "x_set_wait": 1.2,
                          "x_async_set_wait": 0.9}}

    def failovers(title, median):
        return {"title": title, "kills": 20, "median_ms": median, "min_ms": 1.0, "max_ms": 20.0, "missing": 0,
                "acknowledged": 1000}
    mixed = row("delayed:25:25:1", "strict", 11000.0, 0.2)
    mixed["read"] = {**mixed["write"], "x_async": 0.97}
    return {"seed": 1, "versions": {"Redis": "7"}, "kernel": proxy.kernel_settings(), "minutes": 1,
            "repeats": 1, "seconds": 1, "real_time": True,
            "failures": ["strict: gone"],
            "throughput": [row("loopback:50:0:1", "async", 1000.0, 1.0),
                           row("loopback:50:0:1", "strict", 1000 * x_async, x_async), mixed],
            "failover": [failovers("Mr-Redis", 8.0), failovers("Mr-Redis, strict", median_ms)]}


def test_strict_bench_judges_its_targets():
    def verdict(goal, *args):
        return next((met, told) for name, met, told in strict_table.Report(pretended_strict(*args)).targets()
                    if goal in name)
    assert verdict("50 clients, P = 1", 0.9) == (True, "x async 0.900")
    assert verdict("50 clients, P = 1", 0.8) == (False, "x async 0.800")
    assert verdict("50 clients, P = 16", 0.9) == (None, "not measured")
    assert verdict("12.5k/s", 0.9) == (True, "x 0.880")
    assert verdict("GET not slower", 0.9) == (False, "x async 0.970")
    assert verdict("never below SET + WAIT through", 0.9)[0] is False
    assert verdict("median <= 10 + 5", 0.9, 14.9)[0] is True and verdict("median <= 10 + 5", 0.9, 15.1)[0] is False
    lines = list(strict_table.strict_lines(pretended_strict(0.8)))
    assert any(line.startswith("  MISSED") and "50 clients, P = 1" in line for line in lines)
    assert lines[-1].endswith("strict: gone")


def test_strict_bench_replaces_its_part_of_readme_only(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{proxy_table.BEGIN}\nkept\n{proxy_table.END}\n{strict_table.BEGIN}\nold\n"
                      f"{strict_table.END}\nz\n", encoding="utf-8")
    strict_table.write_readme(readme, pretended_strict(0.8))
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"a\n{proxy_table.BEGIN}\nkept\n{proxy_table.END}\n{strict_table.BEGIN}\n")
    assert text.endswith(f"{strict_table.END}\nz\n") and "old" not in text and "**missed**" in text
    assert strict_table.BEGIN in (TOP / "README.md").read_text(encoding="utf-8")


def test_strict_bench_writes_nothing_partial_into_readme():
    for options in (["--quick"], ["--part", "failover"], ["--cells", "delayed:*"], ["--only", "strict"]):
        run = subprocess.run([*map(str, RUN), "strict", "--write-readme", *options], capture_output=True, text=True,
                             timeout=LIMIT_S, check=False)
        assert run.returncode == 2 and "--write-readme" in run.stderr
