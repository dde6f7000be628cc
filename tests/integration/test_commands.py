"""Everything that Redis can do works through the proxy."""

import pytest

import resp
from wait import wait_until


@pytest.fixture
def cart(cluster):
    return cluster.adopt(replicas=1)


@pytest.mark.smoke
def test_what_a_client_may_send(cart):
    """One cluster for many short conversations: each is a function below."""
    for conversation in (pipelining, transactions, watch, publish_subscribe, pattern_subscribe, blocking_pop, scripts,
                         select_and_name, client_reply, monitor, inline_commands, odd_requests, resp3, large_values,
                         errors_pass_through, quit_closes):
        with cart.client() as client, cart.client() as other:
            client.call("FLUSHALL")
            conversation(client, other)


def pipelining(client, other):
    assert client.pipeline([("SET", f"k{n}", n) for n in range(1000)]) == ["OK"] * 1000
    assert client.pipeline([("GET", f"k{n}") for n in range(1000)]) == [str(n) for n in range(1000)]
    assert other.call("DBSIZE") == 1000


def transactions(client, other):
    assert client.pipeline([("MULTI",), ("SET", "a", 1), ("INCR", "a"), ("EXEC",)]) == \
        ["OK", "QUEUED", "QUEUED", ["OK", 2]]
    assert client.call("MULTI") == "OK"
    assert client.call("SET", "a", 5) == "QUEUED"
    assert other.call("GET", "a") == "2", "another client is in no transaction"
    assert client.call("DISCARD") == "OK"
    assert client.call("GET", "a") == "2"
    assert client.pipeline([("MULTI",), ("NOSUCH",), ("EXEC",)])[2].code == "EXECABORT"


def watch(client, other):
    client.call("WATCH", "a")
    other.call("SET", "a", "changed")
    assert client.pipeline([("MULTI",), ("SET", "a", "mine"), ("EXEC",)])[2] is None
    assert client.call("GET", "a") == "changed"


def publish_subscribe(client, other):
    client.send("SUBSCRIBE", "news", "sport")
    assert [client.read(), client.read()] == [["subscribe", "news", 1], ["subscribe", "sport", 2]]
    assert other.call("PUBLISH", "sport", "goal") == 1
    assert client.read() == ["message", "sport", "goal"]
    client.send("UNSUBSCRIBE")
    # In whatever order: the channels are in a hash table.
    gone = [client.read() for _ in range(2)]
    assert sorted(g[1] for g in gone) == ["news", "sport"] and [(g[0], g[2]) for g in gone] == \
        [("unsubscribe", 1), ("unsubscribe", 0)]
    assert client.call("PING") == "PONG"


def pattern_subscribe(client, other):
    client.send("PSUBSCRIBE", "n*")
    assert client.read() == ["psubscribe", "n*", 1]
    assert other.call("PUBLISH", "news", "x") == 1
    assert client.read() == ["pmessage", "n*", "news", "x"]
    client.send("PING", "there?")
    assert client.read() == ["pong", "there?"]


def blocking_pop(client, other):
    client.send("BLPOP", "queue", 0)
    wait_until(lambda: "blocked_clients:1" in other.call("INFO", "clients"), "the client to block")
    assert other.call("SET", "free", 1) == "OK", "a blocked client blocks nobody else"
    other.call("RPUSH", "queue", "job")
    assert client.read() == ["queue", "job"]
    assert client.call("BLPOP", "queue", "0.01") is None


def scripts(client, other):
    assert client.call("EVAL", "return {KEYS[1], ARGV[1]}", 1, "k", "v") == ["k", "v"]
    sha = client.call("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])")
    assert other.call("EVALSHA", sha, 1, "n") == 1
    assert client.call_raw("EVALSHA", "0" * 40, 0).code == "NOSCRIPT"


def select_and_name(client, other):
    client.call("SELECT", 3)
    client.call("SET", "a", "in 3")
    assert other.call_raw("GET", "a") is None, "another client's database is its own"
    assert client.call("GET", "a") == "in 3"
    client.call("CLIENT", "SETNAME", "me")
    assert client.call("CLIENT", "GETNAME") == "me"
    assert other.call("CLIENT", "GETNAME") is None


def client_reply(client, _):
    client.send("CLIENT", "REPLY", "OFF")
    client.send("SET", "a", 1)
    client.send("CLIENT", "REPLY", "ON")
    assert client.read() == "OK"
    assert client.call("GET", "a") == "1"
    client.send("CLIENT", "REPLY", "SKIP")
    client.send("SET", "a", 2)
    assert client.call("GET", "a") == "2"


def monitor(client, other):
    assert client.call("MONITOR") == "OK"
    other.call("SET", "watched", 1)
    wait_until(lambda: '"SET" "watched" "1"' in client.read(), "the command to be seen")


def inline_commands(client, other):
    client.send_raw(b"SET a 'two words'\r\nGET a\r\n")
    assert [client.read(), client.read()] == ["OK", "two words"]
    assert other.call("GET", "a") == "two words"


def odd_requests(client, _):
    client.send_raw(b"\r\n*0\r\n*-1\r\n" + resp.encode("PING"))
    assert client.read() == "PONG", "these three get no reply"


def resp3(client, other):
    hello = client.call("HELLO", 3)
    assert hello["proto"] == 3
    client.call("HSET", "h", "f", "v")
    assert client.call("HGETALL", "h") == {"f": "v"}
    client.send("SUBSCRIBE", "news")
    assert client.read() == resp.Push(["subscribe", "news", 1])
    assert other.call("PUBLISH", "news", "x") == 1
    assert client.read() == resp.Push(["message", "news", "x"])
    assert client.call("GET", "h2") is None, "RESP3 allows commands while subscribed"
    assert other.call("HGETALL", "h") == ["f", "v"], "another client still speaks RESP2"


def large_values(client, other):
    value = "x" * (20 * 1024 * 1024)
    assert client.call("SET", "big", value) == "OK"
    assert other.call("STRLEN", "big") == len(value)
    assert other.call("GET", "big") == value
    assert client.call("PING") == "PONG"


def errors_pass_through(client, _):
    client.call("SET", "text", "abc")
    assert str(client.call_raw("INCR", "text")) == "ERR value is not an integer or out of range"
    assert client.call_raw("LPUSH", "text", 1).code == "WRONGTYPE"
    assert client.call_raw("NOSUCH").code == "ERR"


def quit_closes(client, _):
    assert client.call("QUIT") == "OK"
    assert client.at_end()


def test_a_malformed_request_closes_only_its_own_connection(cart):
    with cart.client() as good:
        good.call("SET", "a", 1)
        for garbage in (b"*1\r\n$x\r\n", b"*3\r\n:1\r\n", b"*99999999999\r\n", b"*1\r\n$-5\r\n",
                        b"*1\r\n$999999999999\r\n", b"*1\r\n$3\r\nabcdef\r\n", b"\x16\x03\x01" + b"\x00" * 100000):
            bad = cart.client()
            bad.send_raw(garbage)
            try:
                reply = bad.read()
            except ConnectionError:
                reply = resp.RespError("ERR closed")
            assert isinstance(reply, resp.RespError), (garbage[:20], reply)
            assert bad.at_end()
            bad.close()
            assert good.call("GET", "a") == "1"


def test_a_client_that_leaves_in_the_middle_harms_nobody(cart):
    with cart.client() as good:
        for part in (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nhalf", resp.encode("BLPOP", "none", 0),
                     resp.encode("SUBSCRIBE", "c"), resp.encode("GET", "a") * 1000):
            leaver = cart.client()
            leaver.send_raw(part)
            leaver.close()
            assert good.call("SET", "a", 1) == "OK"
        wait_until(lambda: "blocked_clients:0" in good.call("INFO", "clients"), "the blocked client to be gone")
