"""Fixtures of the integration tests: a sandbox a test, a ZooKeeper a worker, clusters on request."""

import itertools
import sys
from pathlib import Path

import pytest
from kazoo.client import KazooClient

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from cluster import Cluster  # noqa: E402
from sandbox import Sandbox  # noqa: E402
from servers import ZooKeeper  # noqa: E402
from wait import ZK_SESSION_S  # noqa: E402

_chroots = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "lab: real partitions, on hosts in network namespaces (root)")
    config.addinivalue_line("markers", "smoke: short and central; sanitized builds run it too")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the ends of the logs of everything it started."""
    outcome = yield
    report = outcome.get_result()
    sandbox = item.funcargs.get("sandbox") if hasattr(item, "funcargs") else None
    if report.failed and report.when == "call" and sandbox is not None:
        for name, text in sandbox.log_tails():
            report.sections.append((f"end of {name}", text))


def pytest_terminal_summary(terminalreporter):
    stats = terminalreporter.stats
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    terminalreporter.ensure_newline()
    terminalreporter.write_line(f"{len(stats.get('passed', []))} passed, {failed} failed")


@pytest.fixture
def sandbox():
    box = Sandbox()
    yield box
    box.close()


@pytest.fixture(scope="session")
def shared_zookeeper():
    """One server for all tests of a worker: each has a chroot of its own, none stops it."""
    box = Sandbox()
    yield ZooKeeper(box)
    box.close()


@pytest.fixture
def make_cluster(sandbox, request):
    """make_cluster(controllers=1, proxies=1): on the shared ZooKeeper, or on one that the test may stop
    (own_zookeeper=True)."""
    def make(own_zookeeper=False, **options):
        zookeeper = ZooKeeper(sandbox) if own_zookeeper else request.getfixturevalue("shared_zookeeper")
        return Cluster(sandbox, zookeeper, f"/t{next(_chroots)}", **options)
    return make


@pytest.fixture
def cluster(make_cluster):
    """One controller, one proxy."""
    return make_cluster()


@pytest.fixture
def zookeeper_of():
    """zookeeper_of(cluster): a client of its ZooKeeper, below its chroot."""
    clients = []

    def connect(cluster):
        client = KazooClient(hosts=cluster.zk_hosts, timeout=ZK_SESSION_S)
        client.start(timeout=30)
        clients.append(client)
        return client
    yield connect
    for client in clients:
        client.stop()
        client.close()
