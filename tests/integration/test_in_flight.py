"""A master dies while a client is in the middle of something.

To have a request in flight for certain, the master is suspended, the request is sent, and the master killed."""

import pytest

import resp
from wait import wait_until


MARK = "m" * 500  # longer than what a controller asks meanwhile


@pytest.fixture
def cart(cluster):
    instance = cluster.adopt()
    yield instance


def kill_and_wait(cart):
    epoch = cart.epoch()
    cart.master().kill()
    return epoch + 1


def suspend_master(cart):
    master = cart.master()
    master.suspend()
    return master


@pytest.mark.smoke
def test_reads_in_flight_are_replayed_and_writes_are_not(cart):
    with cart.client() as client:
        client.call("SET", "a", 1)
        cart.master().wait_replicated(2)
        old = suspend_master(cart)
        client.send("GET", "a")
        client.send("SET", "a", MARK)
        client.send("GET", "a")
        old.wait_unread(len(MARK))
        old.kill()
        first, second, third = client.read(), client.read(), client.read()
        assert first == "1"
        assert isinstance(second, resp.RespError) and second.code == "MRUNKNOWN"
        assert third == "1", "the killed master never executed the write"
        assert client.call("SET", "a", 3) == "OK"


@pytest.mark.smoke
def test_a_deep_pipeline(cart):
    with cart.client() as client:
        client.call("SET", "counter", 0)
        old = suspend_master(cart)
        client.send_raw(b"".join(resp.encode("SET", f"k{n}", n) for n in range(10000)))
        old.kill()
        replies = [client.read() for _ in range(10000)]
        unknown = [r for r in replies if isinstance(r, resp.RespError)]
        assert all(r.code == "MRUNKNOWN" for r in unknown), unknown[:3]
        assert client.call("PING") == "PONG"
        done = [n for n, r in enumerate(replies) if r == "OK"]
        assert client.pipeline([("GET", f"k{n}") for n in done]) == [str(n) for n in done]


def test_in_a_transaction_that_was_not_executed(cart):
    with cart.client() as client:
        assert client.pipeline([("MULTI",), ("SET", "a", 1)]) == ["OK", "QUEUED"]
        epoch = kill_and_wait(cart)
        cart.wait_epoch(epoch)
        reply = client.call_raw("EXEC")
        assert isinstance(reply, resp.RespError) and reply.code == "EXECABORT", reply
        assert client.pipeline([("MULTI",), ("SET", "a", 2), ("EXEC",)]) == ["OK", "QUEUED", ["OK"]]


def test_in_the_middle_of_exec(cart):
    with cart.client() as client:
        assert client.pipeline([("MULTI",), ("SET", "a", 1)]) == ["OK", "QUEUED"]
        old = suspend_master(cart)
        client.send("EXEC")
        client.send("ECHO", MARK)
        old.wait_unread(len(MARK))
        old.kill()
        reply = client.read()
        assert isinstance(reply, resp.RespError) and reply.code == "MRUNKNOWN", reply
        assert client.read() == MARK
        assert client.call("SET", "a", 2) == "OK"


def test_watching(cart):
    with cart.client() as client:
        client.call("WATCH", "a")
        epoch = kill_and_wait(cart)
        cart.wait_epoch(epoch)
        # What happened to the key meanwhile is not known: EXEC answers as if it had changed.
        replies = client.pipeline([("MULTI",), ("SET", "a", 1), ("EXEC",)])
        assert replies[2] is None, replies


@pytest.mark.smoke
def test_subscribed(cart):
    with cart.client() as listener, cart.client() as speaker:
        listener.send("SUBSCRIBE", "news")
        assert listener.read() == ["subscribe", "news", 1]
        listener.send("PSUBSCRIBE", "s*")
        assert listener.read() == ["psubscribe", "s*", 2]
        epoch = kill_and_wait(cart)
        cart.wait_epoch(epoch)
        wait_until(lambda: speaker.call("PUBLISH", "news", "x") == 1, "the subscription on the new master")
        assert listener.read() == ["message", "news", "x"], "no second confirmation"
        assert speaker.call("PUBLISH", "sport", "y") == 1
        assert listener.read() == ["pmessage", "s*", "sport", "y"]


def test_blocked(cart):
    with cart.client() as client, cart.client() as other:
        client.send("BLPOP", "queue", 0)
        wait_until(lambda: "blocked_clients:1" in other.call("INFO", "clients"), "the client to block")
        epoch = kill_and_wait(cart)
        reply = client.read()
        assert isinstance(reply, resp.RespError) and reply.code == "UNBLOCKED", reply
        cart.wait_epoch(epoch)
        other.call("RPUSH", "queue", "job")
        assert other.call("LPOP", "queue") == "job", "nobody is blocked on the new master"


def test_a_large_value_half_sent(cart):
    size = 100 * 1024 * 1024
    with cart.client() as client:
        client.send_raw(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % size)
        client.send_raw(b"x" * (size // 2))
        epoch = kill_and_wait(cart)
        client.send_raw(b"x" * (size - size // 2) + b"\r\n")
        reply = client.read()
        assert isinstance(reply, resp.RespError) and reply.code == "MRUNKNOWN", reply
        cart.wait_epoch(epoch)
        assert client.call("EXISTS", "big") == 0, "half a value is no value"
        assert client.call("SET", "a", 1) == "OK"


def test_what_a_connection_was_told_is_told_again(cart):
    with cart.client() as client:
        client.call("SELECT", 5)
        client.call("CLIENT", "SETNAME", "me")
        client.call("SET", "a", "in 5")
        cart.master().wait_replicated(2)
        epoch = kill_and_wait(cart)
        cart.wait_epoch(epoch)
        assert client.call("GET", "a") == "in 5"
        assert client.call("CLIENT", "GETNAME") == "me"


def test_resp3_stays_resp3(cart):
    with cart.client() as client:
        client.call("HELLO", 3)
        epoch = kill_and_wait(cart)
        cart.wait_epoch(epoch)
        client.call("HSET", "h", "f", "v")
        assert client.call("HGETALL", "h") == {"f": "v"}


def test_a_monitor_goes_on(cart):
    with cart.client() as client, cart.client() as other:
        assert client.call("MONITOR") == "OK"
        epoch = kill_and_wait(cart)
        cart.wait_epoch(epoch)

        def seen():
            other.call("SET", "watched", 1)
            return '"watched"' in client.read()
        wait_until(seen, "commands on the new master to be seen")


def test_a_demoted_master_is_not_believed(cart):
    """Somebody made the master a replica behind our back: its -READONLY must not reach the client."""
    with cart.client() as client:
        client.call("SET", "a", 1)
        old, other = cart.master(), cart.replicas()[0]
        epoch = cart.epoch()
        old.call("REPLICAOF", "127.0.0.1", other.port)
        assert client.call("SET", "a", 2) == "OK"
        cart.wait_epoch(epoch + 1)
