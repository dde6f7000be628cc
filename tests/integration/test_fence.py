"""fence=acl: applications that connect to members directly log in as a user of the present epoch. A deposed master
refuses them and cuts those that are connected; who restarts has no such user until a controller takes it back."""

import threading

import pytest

import resp
from cluster import http_get
from wait import wait_until, wait_while

PASSWORD = "s3cret of app"
RULES = ["on", f">{PASSWORD}", "~*", "&*", "+@all", "-@dangerous"]


def make_template(member, *rules):
    """The operator's own user, as it would stand in the server's configuration."""
    member.call("ACL", "SETUSER", "app", "reset", *(rules or RULES))


def users(member):
    return set(member.call("ACL", "USERS"))


def fence(cart):
    return cart.state()["fence"]


def login(member, user):
    """A connection of an application's to the member."""
    client = resp.Client(member.port)
    try:
        client.call("AUTH", user, PASSWORD)
    except BaseException:
        client.close()
        raise
    return client


def is_refused(member, user):
    """Whether a login is, in the words of Redis."""
    try:
        login(member, user).close()
    except resp.RespError as error:
        assert error.code == "WRONGPASS", error
        return True
    return False


def wait_fenced(cart, *members):
    """Until all of these have the present epoch's user, and no other epoch's."""
    def fenced():
        wanted = {"default", "app", f"app-e{cart.epoch()}"}
        return fence(cart)["user"] in wanted and all(users(m) == wanted for m in members or cart.members)
    wait_until(fenced, "the members to have the epoch's user")
    return fence(cart)["user"]


@pytest.fixture
def cart(cluster):
    instance = cluster.adopt(replicas=2)
    for member in instance.members:
        make_template(member)
    return instance


def test_a_switchover_cuts_and_refuses_who_is_logged_in(cluster, cart):
    told = cluster.mrctl_ok("set", "cart", "fence=acl", "fence_user=app")
    assert "app itself may still log in" in told
    user = wait_fenced(cart)
    assert user == f"app-e{cart.epoch()}" and user in cluster.mrctl_ok("topology", "cart")
    assert "fence acl" in cluster.mrctl_ok("show", "cart") and user in cluster.mrctl_ok("explain", "cart")
    old = cart.master()
    with login(old, user) as client, login(cart.replicas()[0], user) as reader:
        assert client.call("SET", "key", "value") == "OK" and reader.call("GET", "key") == "value"
        with pytest.raises(resp.RespError, match="NOPERM"):
            client.call("FLUSHALL")
        epoch = cart.epoch()
        cluster.mrctl_ok("switchover", "cart")
        assert client.at_end() and reader.at_end()
    cart.wait_epoch(epoch + 1)
    new_user = wait_fenced(cart)
    assert new_user == f"app-e{epoch + 1}"
    assert all(is_refused(m, user) for m in cart.members)
    with login(cart.master(), new_user) as client:
        assert client.call("GET", "key") == "value" and client.call("SET", "key", "new") == "OK"
    with login(old, new_user) as client:
        wait_until(lambda: client.call("GET", "key") == "new", "the old master to follow")
        with pytest.raises(resp.RespError, match="READONLY"):
            client.call("SET", "key", "stray")


class Writer(threading.Thread):
    """A client of a proxy's that logs in as the application and writes until stop(). Errors other than -MRUNKNOWN end
    it and are raised there: it never has to know what epoch it is."""

    def __init__(self, cart, may_be_unknown=0):
        super().__init__(daemon=True)
        self.cart, self.count, self.unknown, self.error = cart, 0, 0, None
        self.may_be_unknown = may_be_unknown
        self.ending = threading.Event()
        self.start()

    def run(self):
        try:
            with self.cart.client() as client:
                client.call("AUTH", "app", PASSWORD)
                while not self.ending.is_set():
                    reply = client.call_raw("RPUSH", "log", self.count)
                    if isinstance(reply, resp.RespError):
                        assert reply.code == "MRUNKNOWN", reply
                        self.unknown += 1
                    self.count += 1
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def wait_more(self, count=100):
        aim = self.count + count
        wait_until(lambda: self.error or self.count >= aim, f"{count} more writes")
        if self.error:
            raise self.error

    def stop(self):
        self.ending.set()
        self.join()
        if self.error:
            raise self.error
        assert self.unknown <= self.may_be_unknown


def fence_all(cluster, cart):
    """As an operator sets it up: nobody can log in as the template itself any more."""
    cluster.mrctl_ok("set", "cart", "fence=acl", "fence_user=app")
    wait_fenced(cart)
    for member in cart.members:
        member.call("ACL", "SETUSER", "app", "off")


def blocked(cart):
    return "blocked_clients:1" in cart.master().call("INFO", "clients")


def test_clients_of_proxies_see_no_epochs(cluster, cart):
    before = Writer(cart)
    before.wait_more()
    fence_all(cluster, cart)  # live
    wait_until(lambda: http_get(f"http://127.0.0.1:{cluster.proxies[0].http_port}/v1/routes")[1]["routes"][0]["fence_user"]
               == "app", "the proxy to know of the fence")
    assert all(is_refused(m, "app") for m in cart.members)
    busy = Writer(cart)
    busy.wait_more()
    epoch = cart.epoch()
    with cart.client() as hello, cart.client() as listener, cart.client() as popper:
        assert hello.call("HELLO", "3", "AUTH", "app", PASSWORD, "SETNAME", "me")["proto"] == 3
        assert hello.call("ACL", "WHOAMI") == f"app-e{epoch}"
        with cart.client() as wrong:
            assert wrong.call_raw("AUTH", "app", "not it").code == "WRONGPASS"
            assert wrong.call_raw("AUTH", "other", PASSWORD).code == "WRONGPASS"
        assert listener.pipeline([("AUTH", "app", PASSWORD), ("SUBSCRIBE", "news")])[0] == "OK"
        popper.pipeline([("AUTH", f"app-e{epoch}", PASSWORD)])  # who says the epoch goes along with it, too
        popper.send("BLPOP", "queue", 0)
        wait_until(lambda: blocked(cart), "the client to block")
        cluster.mrctl_ok("switchover", "cart")
        epoch += 1
        cart.wait_epoch(epoch)
        assert hello.call("ACL", "WHOAMI") == f"app-e{epoch}"
        assert hello.call("PUBLISH", "news", "it goes on") == 1
        assert listener.read() == ["message", "news", "it goes on"]
        wait_until(lambda: blocked(cart), "the client to block on the new master")
        assert hello.call("RPUSH", "queue", "job") == 1
        assert popper.read() == ["queue", "job"]
        before.wait_more()
        busy.wait_more()
        before.stop()
        busy.stop()
        killed = Writer(cart, may_be_unknown=1)
        killed.wait_more()
        cart.master().kill()
        cart.wait_epoch(epoch + 1)
        killed.wait_more()
        killed.stop()
        assert hello.call("ACL", "WHOAMI") == f"app-e{epoch + 1}"
    counted = http_get(f"http://127.0.0.1:{cluster.proxies[0].http_port}/v1/stats")[1]["instances"][0]
    assert counted["rejected"] == 0 and counted["unknown"] <= 1


def test_a_hung_master_is_cut_before_it_is_taken_back(cluster, cart):
    fence_all(cluster, cart)
    old, user = cart.master(), fence(cart)["user"]
    client = login(old, user)
    epoch = cart.epoch()
    old.suspend()
    wait_until(lambda: cart.epoch() == epoch + 1 and cart.state()["state"] == "stable", "the failover")
    new_user = fence(cart)["user"]
    assert new_user == f"app-e{epoch + 1}"
    with login(cart.master(), new_user) as other:
        assert other.call("SET", "key", "new") == "OK"
    old.resume()
    cart.wait_epoch(epoch + 1)
    assert client.at_end(), "its connection was cut"
    client.close()
    assert is_refused(old, user) and users(old) == {"default", "app", new_user}
    with login(old, new_user) as other:
        wait_until(lambda: other.call("GET", "key") == "new", "it to follow")


def test_off_again_and_refusals(cluster, cart):
    for member in cart.members:
        member.call("ACL", "DELUSER", "app")
    run = cluster.mrctl("set", "cart", "fence=acl", "fence_user=app")
    assert run.returncode == 1 and "no such ACL user" in run.stderr, run
    for member in cart.members:
        make_template(member)
    cart.master().call("ACL", "SETUSER", "default", "-acl")
    run = cluster.mrctl("set", "cart", "fence=acl", "fence_user=app")
    assert run.returncode == 1 and "NOPERM" in run.stderr, run
    assert "fence" not in cart.state()
    for words, why in ((("fence=acl",), "needs fence_user"), (("fence=acl", "fence_user=default"), "default user"),
                       (("fence=maybe",), "none or acl"), (("fence=acl", "fence_user=a b"), "letters, digits")):
        run = cluster.mrctl("set", "cart", *words)
        assert run.returncode == 1 and why in run.stderr, run
