"""What a proxy tells of itself: /v1/stats, /metrics, and `mrctl proxies NAME`."""

import json
import re
import socket

import pytest
from kazoo.client import KazooClient

import resp
from cluster import http_get
from wait import ZK_SESSION_S, wait_until

# The text format of Prometheus, as its documentation has it.
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
VALUE = r"(?:[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|NaN|[-+]Inf)"
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? ({VALUE})(?: -?\d+)?")
HELP = re.compile(rf"# HELP ({NAME}) [^\n]+")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram|summary|untyped)")


def parse_metrics(text):
    """{(name, labels): value}; asserts that every line is what Prometheus reads, and stands where it must."""
    assert text.endswith("\n")
    kinds, values, family = {}, {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            said = HELP.fullmatch(line) or TYPE.fullmatch(line)
            assert said, line
            family = said.group(1)
            if line.startswith("# TYPE"):
                assert family not in kinds, f"two families {family}"
                kinds[family] = said.group(2)
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        name, labels, value = sample.groups()
        of = re.sub(r"_(bucket|sum|count)$", "", name) if kinds.get(family) == "histogram" else name
        assert of == family and family in kinds, f"{line} stands below {family}"
        assert name.endswith("_total") == (kinds[family] == "counter"), line
        assert (name, labels) not in values, f"twice: {line}"
        values[name, labels] = float(value)
    return values


def proxy_get(cluster, path, k=0):
    return http_get(f"http://127.0.0.1:{cluster.proxies[k].http_port}{path}")


def stats_of(cluster, name="cart"):
    status, value = proxy_get(cluster, "/v1/stats")
    assert status == 200
    return next(i for i in value["instances"] if i["name"] == name)


@pytest.mark.smoke
def test_stats_and_metrics_count_what_clients_did(cluster):
    cart = cluster.adopt()
    before = stats_of(cluster)
    with cart.client() as client:
        for n in range(500):
            client.call("SET", f"key-{n}", "value")
        wait_until(lambda: stats_of(cluster)["requests"] >= before["requests"] + 500, "the requests to be counted")
        busy = wait_until(lambda: (s := stats_of(cluster))["requests_per_s"] > 0 and s, "a rate")
        assert busy["clients"] == 1 and busy["epoch"] == cart.epoch()
        assert 0 < busy["p50_us"] <= busy["p99_us"] <= busy["p999_us"]
        assert busy["received_bytes"] > busy["sent_bytes"] > 0 and busy["master_connections"] >= 1
        assert set(busy) >= {"held", "replayed", "unknown", "rejected", "memory_bytes", "held_bytes"}
        status, text = proxy_get(cluster, "/metrics")
        assert status == 200
        values = parse_metrics(text)
        label = 'instance="cart"'
        assert values["mr_proxy_requests_total", label] >= 500
        assert values["mr_proxy_clients", label] == 1
        assert values["mr_proxy_serving", label] == 1 and values["mr_proxy_epoch", label] == cart.epoch()
        buckets = [values[key] for key in values if key[0] == "mr_proxy_request_duration_seconds_bucket"]
        assert buckets == sorted(buckets), "buckets are cumulative"
        assert buckets[-1] == values["mr_proxy_request_duration_seconds_count", label] >= 500
        assert 0 < values["mr_proxy_request_duration_seconds_sum", label] < 500 * 60
    wait_until(lambda: stats_of(cluster)["clients"] == 0, "the client to be gone")


def test_metrics_of_a_proxy_without_instances(cluster):
    values = parse_metrics(proxy_get(cluster, "/metrics")[1])
    assert ("mr_proxy_zookeeper_connected", None) in values
    assert not any(labels and "instance=" in labels for _, labels in values)


@pytest.mark.smoke
def test_mrctl_asks_the_proxy_itself(make_cluster):
    cluster = make_cluster(proxies=2)
    cart = cluster.adopt()
    with cart.client() as client:
        assert client.call("SET", "key", "value") == "OK"
        told = cluster.mrctl_json("proxies", "host-1")
        assert told["proxy"]["http"] == f"127.0.0.1:{cluster.proxies[0].http_port}"
        assert told["stats"]["id"] == "host-1"
        assert [i["name"] for i in told["stats"]["instances"]] == ["cart"]
        text = cluster.mrctl_ok("proxies", "host-1")
        assert "host-1" in text and re.search(r"^cart +\d+ +1 ", text, re.M), text
        assert "host-2" not in text
    unknown = cluster.mrctl("proxies", "nowhere")
    assert unknown.returncode == 1 and "nowhere" in unknown.stderr and unknown.stdout == ""


@pytest.fixture
def stranger(cluster, sandbox):
    """stranger(http): a proxy host-9 is registered in ZooKeeper, with that HTTP address; returns what mrctl says of it."""
    store = KazooClient(hosts=cluster.zk_hosts, timeout=ZK_SESSION_S)
    store.start(timeout=30)
    sandbox.at_close(store.stop)
    store.ensure_path("/proxies")

    def register(http, *options):
        value = {"v": 1, "id": "host-9", "bind": "127.0.0.1", "threads": 1, **({"http": http} if http else {})}
        if store.exists("/proxies/host-9"):
            store.delete("/proxies/host-9")
        store.create("/proxies/host-9", json.dumps(value).encode())
        run = cluster.mrctl(*options, "proxies", "host-9")
        assert run.returncode == 3 and "can't be asked" in run.stderr, run
        assert "host-9" in run.stdout, "what the controllers know is shown"
        return run
    return register


def test_mrctl_says_when_the_proxy_can_not_be_asked(stranger, sandbox):
    nobody = f"127.0.0.1:{sandbox.ports.one()}"
    assert nobody in stranger(nobody).stderr
    told = json.loads(stranger(nobody, "--json").stdout)
    assert told["stats"] is None and told["proxy"]["http"] == nobody
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert address in stranger(address).stderr
    assert "has not said" in stranger(None).stderr


def test_mrctl_is_not_taken_in_by_another_hosts_proxy(stranger, cluster):
    """Everybody's --http is 127.0.0.1:7710: asked from another host, that is another proxy."""
    assert "host-1 answers" in stranger(f"127.0.0.1:{cluster.proxies[0].http_port}").stderr


def test_limits_are_options(make_cluster):
    cluster = make_cluster(proxy_options=["--max-clients", "3:2", "--max-request-bytes", "65536"])
    cart = cluster.adopt()
    wait_until(lambda: stats_of(cluster)["clients"] == 0, "earlier clients to be gone")
    with cart.client() as one, cart.client() as two, cart.client() as three:
        assert one.call("PING") == two.call("PING") == "PONG"
        with pytest.raises(resp.RespError) as refused:
            three.call("PING")
        assert refused.value.code == "MRLIMIT" and "--max-clients" in str(refused.value)
        with pytest.raises(resp.RespError) as refused:
            one.call("SET", "key", "x" * 70000)
        assert refused.value.code == "MRLIMIT" and "--max-request-bytes" in str(refused.value)
        assert one.call("SET", "key", "x" * 60000) == "OK"
    assert stats_of(cluster)["rejected"] == 2
