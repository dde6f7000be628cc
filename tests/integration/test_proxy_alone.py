"""A proxy without any controller: what it does with ZooKeeper's records, its cache file, and nothing at all."""

import contextlib
import itertools
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from kazoo.client import KazooClient

import resp
from cluster import binary
from lone_proxy import LoneProxy
from processors import is_at, pin, tasks
from sandbox import listening
from servers import Redis, ZooKeeper
from wait import ZK_SESSION_S, wait_until

_chroots = itertools.count(1)


def record(name, port, master, members, epoch=1, state="stable"):
    value = {"v": 1, "name": name, "port": port, "state": state, "epoch": epoch,
             "members": [{"address": m.address} for m in members]}
    if state == "stable":
        value["master"] = master.address
    return json.dumps(value).encode()


def closed(port):
    try:
        listening(port)()
    except ConnectionRefusedError:
        return True
    return False


def listening_sockets(process, port):
    """How many sockets of that process listen on the port of 127.0.0.1."""
    mine = {os.readlink(fd) for fd in Path(f"/proc/{process.pid}/fd").iterdir() if fd.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(1 for row in rows
               if row[1] == f"0100007F:{port:04X}" and row[3] == "0A" and f"socket:[{row[9]}]" in mine)


class Bed:
    """ZooKeeper with records that the test writes, and a proxy."""

    def __init__(self, sandbox, zookeeper, chroot):
        self.sandbox, self.hosts = sandbox, zookeeper.hosts(chroot)
        self.http_port, self.cache = sandbox.ports.one(), sandbox.folder / "routes"
        self.proxy = None

    def store(self):
        client = KazooClient(hosts=self.hosts, timeout=ZK_SESSION_S)
        client.start(timeout=30)
        self.sandbox.at_close(client.stop)
        client.ensure_path("/instances")
        return client

    def start_proxy(self, *options):
        self.proxy = self.sandbox.start("mr-proxy", [
            binary("mr-proxy"), "--zk", self.hosts, "--id", "host-1", "--http", f"127.0.0.1:{self.http_port}",
            "--cache-file", self.cache, *options])
        wait_until(listening(self.http_port), "the proxy's HTTP port")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    def route(self, name):
        return next((r for r in self.get("/v1/routes")[1]["routes"] if r["name"] == name), None)


@pytest.fixture
def bed(sandbox, request):
    return Bed(sandbox, request.getfixturevalue("shared_zookeeper"), f"/alone{next(_chroots)}")


@pytest.mark.smoke
def test_follows_the_records_while_no_controller_speaks(bed, sandbox):
    one, two = Redis(sandbox, "one"), Redis(sandbox, "two")
    port, store = sandbox.ports.one(), bed.store()
    store.create("/instances/cart", record("cart", port, one, [one, two]))
    bed.start_proxy()
    wait_until(listening(port), "the instance's port")
    with resp.Client(port) as client:
        assert client.call("SET", "key", "one") == "OK"
        assert one.call("GET", "key") == "one"
        wait_until(lambda: bed.get("/health")[1]["controllers"] == "silent", "the silence to be noticed")
        wait_until(lambda: "event=control.silent" in bed.proxy.log_text(), "a line about the silence")
        store.set("/instances/cart", record("cart", port, two, [one, two], epoch=2))
        wait_until(lambda: bed.route("cart")["epoch"] == 2, "the new record to be noticed")
        # The same connection now speaks to the other server.
        assert client.call("SET", "key", "two") == "OK"
        assert two.call("GET", "key") == "two"
        assert one.call("GET", "key") == "one"
        stats = bed.route("cart")["stats"]
        assert stats["clients"] == 1 and stats["requests"] >= 2
    assert bed.get("/health")[0] == 200
    assert json.loads(store.get("/proxies/host-1")[0])["id"] == "host-1"
    store.delete("/instances/cart")
    wait_until(lambda: bed.route("cart") is None, "the deleted instance to go")
    wait_until(lambda: closed(port), "its port to be free")
    assert bed.proxy.stop() == 0
    wait_until(lambda: store.exists("/proxies/host-1") is None, "the proxy's znode to go")


def test_a_sealed_instance_holds_its_clients(bed, sandbox):
    one = Redis(sandbox, "one")
    port, store = sandbox.ports.one(), bed.store()
    store.create("/instances/cart", record("cart", port, None, [one], epoch=2, state="sealing"))
    bed.start_proxy("--hold-ms", "500")
    wait_until(listening(port), "the instance's port")
    assert bed.route("cart")["state"] == "held"
    with resp.Client(port) as client:
        with pytest.raises(resp.RespError) as refused:
            client.call("SET", "key", "value")
        assert refused.value.code == "MRHOLD"
        store.set("/instances/cart", record("cart", port, one, [one], epoch=2))
        wait_until(lambda: bed.route("cart")["state"] == "serving", "the instance to serve")
        assert client.call("SET", "key", "value") == "OK"


def test_a_corrupt_record_is_named_and_harms_nobody(bed, sandbox):
    one = Redis(sandbox, "one")
    port, store = sandbox.ports.one(), bed.store()
    store.create("/instances/broken", b'{"v":1,')
    store.create("/instances/cart", record("cart", port, one, [one]))
    bed.start_proxy()
    wait_until(listening(port), "the other instance's port")
    assert "instance=broken" in bed.proxy.log_text()
    store.set("/instances/cart", b"garbage")
    wait_until(lambda: "instance=cart" in bed.proxy.log_text(), "the corrupt record to be named")
    with resp.Client(port) as client:
        assert client.call("PING") == "PONG"


@pytest.mark.smoke
def test_serves_from_the_cache_without_zookeeper(sandbox):
    zookeeper = ZooKeeper(sandbox)
    bed = Bed(sandbox, zookeeper, "/cached")
    one = Redis(sandbox, "one")
    port, store = sandbox.ports.one(), bed.store()
    store.create("/instances/cart", record("cart", port, one, [one]))
    bed.start_proxy()
    wait_until(listening(port), "the instance's port")
    assert bed.proxy.stop() == 0
    assert bed.cache.stat().st_mode & 0o777 == 0o600
    store.stop()
    zookeeper.kill()
    # --exit-if-unreachable does not apply: there are routes to serve.
    bed.start_proxy("--exit-if-unreachable")
    wait_until(listening(port), "the cached instance's port")
    with resp.Client(port) as client:
        assert client.call("PING") == "PONG"
    status, health = bed.get("/health")
    assert status == 200 and health["store"] == "away"
    assert bed.proxy.stop() == 0


def test_a_corrupt_cache_file_is_only_a_warning(bed, sandbox):
    one = Redis(sandbox, "one")
    port, store = sandbox.ports.one(), bed.store()
    store.create("/instances/cart", record("cart", port, one, [one]))
    bed.cache.write_bytes(b"\x00\xff garbage")
    bed.start_proxy()
    wait_until(listening(port), "the instance's port")
    assert "event=cache_file.ignored" in bed.proxy.log_text() and str(bed.cache) in bed.proxy.log_text()
    wait_until(lambda: bed.cache.read_bytes().startswith(b"mr-proxy routes"), "the cache to be written anew")


@pytest.mark.parametrize("threads", [1, 2])
def test_two_proxies_do_not_share_a_port(bed, sandbox, request, threads):
    """Another cluster's proxy on the same host, an instance on the same port: a part of the clients would get the
    other cluster's data. The threads of one proxy do share it."""
    mine, others = Redis(sandbox, "mine"), Redis(sandbox, "others")
    port = sandbox.ports.one()
    second = Bed(sandbox, request.getfixturevalue("shared_zookeeper"), f"/alone{next(_chroots)}")
    bed.store().create("/instances/cart", record("cart", port, mine, [mine]))
    bed.start_proxy("--threads", str(threads))
    wait_until(listening(port), "the first proxy to listen")
    second.store().create("/instances/other", record("other", port, others, [others]))
    second.start_proxy("--threads", str(threads))
    wait_until(lambda: "event=listener.failed" in second.proxy.log_text(),
               "the second proxy to say that the port is taken")
    for _ in range(20):
        with resp.Client(port) as client:
            assert client.info("server")["tcp_port"] == str(mine.port)
    assert listening_sockets(bed.proxy, port) == threads and listening_sockets(second.proxy, port) == 0
    assert bed.proxy.stop() == 0
    wait_until(listening(port), "the second proxy to take the port over")
    wait_until(lambda: listening_sockets(second.proxy, port) == threads, "all of its threads to listen")
    with resp.Client(port) as client:
        assert client.info("server")["tcp_port"] == str(others.port)
    assert second.proxy.stop() == 0


def test_http_pages(bed):
    bed.store()
    bed.start_proxy()
    wait_until(lambda: bed.get("/health")[0] == 200, "the proxy to be useful")
    status, value = bed.get("/v1/routes")
    assert status == 200 and value["routes"] == [] and value["id"] == "host-1"
    assert bed.get("/nothing")[0] == 404


def test_wrong_options(sandbox):
    taken = sandbox.ports.one()
    cases = [([], "--zk"), (["--zk", "x:1", "--id", "a b"], "a b"), (["--zk", "x:1", "--bind", "nowhere"], "nowhere"),
             (["--zk", "x:1", "--http", "foo:bar"], "foo:bar"), (["--zk", "x:1", "--threads", "0"], "--threads"),
             (["--zk", "x:1", "--max-clients", "5:x"], "5:x"), (["--zk", "x:1", "--log-level", "loud"], "loud"), (["--zk", "x:1", "--key-file", "/no/file"], "/no/file"),
             (["--zk", "x:1", "--scheduling", "fifo"], "fifo"),
             (["--zk", f"127.0.0.1:{taken}", "stray"], "stray")]
    for n, (options, told) in enumerate(cases):
        run = sandbox.start(f"mr-proxy-{n}", [binary("mr-proxy"), *options])
        assert run.wait() == 2, options
        lines = run.log_text().splitlines()
        assert len(lines) == 1 and told in lines[0], lines


def waits(pid):
    """How many of its threads wait for their turn."""
    return [os.sched_getscheduler(task) for task in tasks(pid)].count(os.SCHED_BATCH)


def rings(pid):
    """Its io_urings."""
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has been closed since
            count += os.readlink(file) == "anon_inode:[io_uring]"
    return count


def serve_many(proxy, rounds):
    """So many at once that they are read and answered together."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(resp.Client(proxy.port)) for _ in range(50)]
        for count in range(rounds):
            for number, client in enumerate(clients):
                key = f"key:{number}"
                client.send_raw(resp.encode("SET", key, f"value {count}") + resp.encode("GET", key))
            for client in clients:
                assert (client.read(), client.read()) == ("OK", f"value {count}")


@contextlib.contextmanager
def load(sandbox, proxy):
    process = sandbox.start("load", ["redis-benchmark", "-p", proxy.port, "-t", "get", "-c", 50, "-n", 100000000, "-q"])
    try:
        yield
    finally:
        process.kill()


def test_a_busy_thread_waits_for_its_turn(sandbox):
    redis = Redis(sandbox, "redis")
    usual = LoneProxy(sandbox, redis)
    normal = LoneProxy(sandbox, redis, "--scheduling", "normal", name="normal")
    assert waits(usual.process.pid) == 0, "it isn't busy yet"
    with load(sandbox, usual):
        wait_until(lambda: waits(usual.process.pid) == 1, "the busy thread, and no other, to wait for its turn")
    with resp.Client(usual.port) as client:
        wait_until(lambda: client.call("PING") == "PONG" and waits(usual.process.pid) == 0, "it to be quick again")
    with load(sandbox, normal), resp.Client(normal.port) as client:
        for _ in range(1000):
            assert client.call("PING") == "PONG" and waits(normal.process.pid) == 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
def test_a_busy_thread_goes_to_where_its_redis_is(sandbox):
    both = set(sorted(os.sched_getaffinity(0))[:2])
    redis = Redis(sandbox, "redis")
    usual = LoneProxy(sandbox, redis)
    others = [LoneProxy(sandbox, redis, *options, name=f"other-{n}")
              for n, options in enumerate((["--scheduling", "normal"], ["--threads", 2], ["--bind", "0.0.0.0"]))]
    for proxy in (usual, *others):
        pin(proxy.process.pid, both)
    with load(sandbox, usual):
        for processor in (*both, *both):
            pin(redis.process.pid, {processor})
            wait_until(lambda at={processor}: is_at(usual.process.pid, at), f"the thread on processor {processor}")
    wait_until(lambda: all(is_at(usual.process.pid, {n}) is False for n in both), "it to be anywhere again")
    for proxy in others:
        with load(sandbox, proxy), resp.Client(proxy.port) as client:
            for _ in range(2000):
                assert client.call("PING") == "PONG" and is_at(proxy.process.pid, both)
                assert not any(is_at(proxy.process.pid, {n}) for n in both)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
def test_a_thread_stays_where_somebody_puts_it(sandbox):
    first, second = sorted(os.sched_getaffinity(0))[:2]
    redis = Redis(sandbox, "redis")
    usual = LoneProxy(sandbox, redis)
    pin(redis.process.pid, {second})
    pin(usual.process.pid, {first})
    with load(sandbox, usual), resp.Client(usual.port) as client:
        for _ in range(2000):
            assert client.call("PING") == "PONG" and is_at(usual.process.pid, {first})
    pin(usual.process.pid, {first, second})
    with load(sandbox, usual):
        wait_until(lambda: is_at(usual.process.pid, {second}), "it to go to Redis, where it may again")
        pin(usual.process.pid, {first})
        wait_until(lambda: is_at(usual.process.pid, {first}), "it to stay there, busy as it is")
        with resp.Client(usual.port) as client:
            for _ in range(2000):
                assert client.call("PING") == "PONG" and is_at(usual.process.pid, {first})


def test_each_thread_has_an_io_uring_or_says_why_not(sandbox):
    redis = Redis(sandbox, "redis")
    usual = LoneProxy(sandbox, redis, "--threads", 2)
    plain = LoneProxy(sandbox, redis, "--no-io-uring", name="plain")
    serve_many(usual, 20)
    serve_many(plain, 20)
    assert rings(plain.process.pid) == 0
    assert rings(usual.process.pid) + usual.process.log_text().count("event=gather.plain") == 2
