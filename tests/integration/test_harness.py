"""The harness itself: a test that can't fail proves nothing."""

import pytest

import resp
from load import Writer
from sandbox import Sandbox
from servers import Redis, ZooKeeper, redis_group
from wait import WaitError, wait_until


def test_wait_until_tells_what_it_waited_for():
    with pytest.raises(WaitError, match="waited in vain for the moon .*ValueError: no"):
        def never():
            raise ValueError("no")
        wait_until(never, "the moon", timeout_s=0.05)


def test_a_reserved_port_refuses_until_its_server_comes(sandbox):
    port = sandbox.ports.one()
    with pytest.raises(ConnectionRefusedError):
        resp.Client(port)


def test_a_crash_is_a_failure():
    box = Sandbox()
    process = box.start("victim", ["sh", "-c", "kill -SEGV $$"])
    wait_until(lambda: process.exit_status is not None, "the victim's end")
    with pytest.raises(AssertionError, match="victim ended by itself"):
        box.close()
    assert not box.folder.exists()


def test_a_sanitizers_report_is_a_failure():
    box = Sandbox()
    (box.folder / "mr-proxy.sanitizer.7").write_text("==9==Unable to get registers from thread 7.\n==7==ERROR: a leak\n")
    with pytest.raises(AssertionError, match="mr-proxy.sanitizer.7:\n==7==ERROR: a leak$"):
        box.close()


def test_what_the_leak_checker_says_of_itself_is_no_finding():
    box = Sandbox()
    (box.folder / "mr-proxy.sanitizer.7").write_text("==9==Unable to get registers from thread 7.\n")
    box.close()


def test_zookeeper_keeps_its_data_over_a_restart(sandbox):
    server = ZooKeeper(sandbox)
    server.stop()
    server.start()
    server.kill()
    server.start()


def test_redis_group_and_writer(sandbox):
    master, replica = redis_group(sandbox, "r", replicas=1)
    writer = Writer(master.port)
    writer.wait_more(20)
    writer.stop()
    assert writer.errors == [] and writer.connections == 1
    wait_until(lambda: not writer.missing(replica), "the replica to have every write")
    replica.kill()
    replica.start(replica_of=master)
    wait_until(lambda: replica.follows(master), "the replica to follow again")


def test_a_password_is_needed(sandbox):
    server = Redis(sandbox, "locked", password="sesame")
    with resp.Client(server.port) as client:
        with pytest.raises(resp.RespError, match="NOAUTH"):
            client.call("PING")
    assert server.call("SET", "a", 1) == "OK"
