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
    """All but the leaders' marks."""
    return {user for user in member.call("ACL", "USERS") if not user.startswith("mr-fence-")}


def mark(member):
    """Term and CLIENT ID of the leader that has fenced it."""
    marks = [user for user in member.call("ACL", "USERS") if user.startswith("mr-fence-")]
    assert len(marks) == 1, marks
    return tuple(int(word) for word in marks[0].split("-")[2:])


def fence(cart):
    return cart.state()["fence"]


def orders(cluster, order, result):
    """How many the leader has given, by its metrics; 0: none of that kind."""
    name = f'mr_instance_orders_total{{instance="cart",order="{order}",result="{result}"}} '
    status, text = cluster.leader().get("/metrics")
    assert status == 200
    return sum(int(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


def login(member, user):
    """A connection of an application's to the member."""
    return resp.logged_in(user, PASSWORD, member.port)


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
        assert client.call("SET", "key", "value") == "OK"
        wait_until(lambda: reader.call("GET", "key") == "value", "the replica to have it, too")
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
    spans = cart.state()["last_failover"]["timeline_ms"]
    assert 0 <= spans["fence"] < spans["total"], spans
    assert f"fence {spans['fence']:.1f}" in cluster.mrctl_ok("history", "cart")
    assert orders(cluster, "fence", "done") >= 6 and orders(cluster, "fence", "failed") == 0
    assert orders(cluster, "promote", "done") == 1
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


def test_turned_off_and_on_again_under_load(cluster, cart):
    fence_all(cluster, cart)
    user = fence(cart)["user"]
    busy = Writer(cart)
    busy.wait_more()
    with login(cart.master(), user) as client:
        run = cluster.mrctl("set", "cart", "fence=none")
        assert run.returncode == 1 and "ACL SETUSER app on" in run.stderr, run  # nobody could log in any more
        assert fence(cart)["user"] == user
        for member in cart.members:
            member.call("ACL", "SETUSER", "app", "on")
        cluster.mrctl_ok("set", "cart", "fence=none")
        assert "fence" not in cart.state() and client.call("SET", "key", "value") == "OK", "nobody is cut"
        with login(cart.master(), "app") as other:
            assert other.call("GET", "key") == "value"
        busy.wait_more()
        cluster.mrctl_ok("set", "cart", "fence=acl")
        assert wait_fenced(cart) == user and client.call("SET", "key", "again") == "OK"
    epoch = cart.epoch()
    cluster.mrctl_ok("switchover", "cart")
    cart.wait_epoch(epoch + 1)
    assert wait_fenced(cart) == f"app-e{epoch + 1}"
    busy.wait_more()
    busy.stop()


def test_a_member_that_restarts_lets_nobody_in_until_it_is_taken_back(make_cluster):
    cluster = make_cluster(proxies=0)
    cart = cluster.adopt(replicas=2, serve=False)
    for member in cart.members:
        make_template(member, "off", f">{PASSWORD}", "~*", "+@all")
    cluster.mrctl_ok("set", "cart", "fence=acl", "fence_user=app")
    user = wait_fenced(cart)
    replica = cart.replicas()[0]
    leader = cluster.leader()
    leader.process.kill()  # nobody looks after it
    replica.kill()
    replica.start()
    make_template(replica, "off", f">{PASSWORD}", "~*", "+@all")  # as its configuration has it
    assert users(replica) == {"default", "app"} and is_refused(replica, user) and is_refused(replica, "app")
    leader.start()
    wait_fenced(cart)
    with login(replica, user) as client:
        assert client.call("DBSIZE") == 0
    # Somebody takes an epoch's user away, and changes the password: mended when the ACLs are looked at again.
    replica.call("ACL", "DELUSER", user)
    replica.call("ACL", "SETUSER", "app", "resetpass", ">another")
    wait_until(lambda: resp.ask(replica.port, "AUTH", user, "another") == "OK", "it to be mended", timeout_s=60)


def test_the_leader_is_killed_in_the_midst_of_it(make_cluster):
    cluster = make_cluster(controllers=3)
    cart = cluster.adopt(replicas=2)
    for member in cart.members:
        make_template(member)
    fence_all(cluster, cart)
    busy = Writer(cart, may_be_unknown=2)
    busy.wait_more()
    old, epoch, leader = cart.master(), cart.epoch(), cluster.leader()
    others = cart.replicas()
    terms = {member: mark(member)[0] for member in others}
    clients = [login(m, f"app-e{epoch}") for m in others]
    for member in others:  # they hang when they are to be sealed: the failover is half done
        member.suspend()
    old.kill()
    wait_until(lambda: cart.state()["state"] != "stable" and cart.epoch() > epoch, "the intent to be committed")
    leader.process.kill()
    for member in others:
        member.resume()
    cart.wait_epoch(epoch + 1)
    assert cluster.leader() is not leader
    assert all(c.at_end() for c in clients), "all are cut"
    for client in clients:
        client.close()
    user = wait_fenced(cart, *others)
    assert all(is_refused(m, f"app-e{epoch}") for m in others)
    assert all(mark(m)[0] > terms[m] for m in others), "the new leader has marked them: the old one's orders are void"
    with login(cart.master(), user) as client:
        assert client.call("SET", "key", "value") == "OK"
    busy.wait_more()
    busy.stop()


def test_a_failover_to_one_without_the_template_goes_on_and_says_so(make_cluster):
    cluster = make_cluster()
    cart = cluster.adopt(replicas=1)
    old, candidate = cart.members
    make_template(old)
    cluster.mrctl_ok("set", "cart", "fence=acl", "fence_user=app")
    wait_until(lambda: "no such ACL user" in fence(cart).get("failed", ""), "it to be noticed beforehand")
    assert f"not fenced: {candidate.address}: it has no such ACL user" in \
        " ".join(cluster.mrctl_ok("topology", "cart").split())
    assert "can't be fenced" in cluster.mrctl_ok("explain", "cart")
    with cart.client() as client:  # of the default user
        assert client.call("SET", "key", "value") == "OK"
        old.wait_replicated(1)
        epoch = cart.epoch()
        old.kill()
        cart.wait_epoch(epoch + 1)
        assert client.call("GET", "key") == "value", "the failover did not wait for it"
    assert is_refused(candidate, f"app-e{epoch + 1}"), "it has no such user"
    assert "event=fence.failed" in "".join(cluster.mrctl_ok("events", "cart"))
    make_template(candidate)
    wait_until(lambda: users(candidate) == {"default", "app", f"app-e{epoch + 1}"}, "it to be mended", timeout_s=60)


def test_strict_durability_and_reads_from_replicas_go_with_it(cluster, cart):
    """Every connection of a proxy's logs in as the epoch's user: those for acknowledgements, and those to replicas."""
    fence_all(cluster, cart)
    cluster.mrctl_ok("set", "cart", "durability=strict", "acks=1", "reads=replica", "cooldown_ms=0")
    wait_until(lambda: cart.state().get("holding") == 1, "the proxy to hold replies")
    counted = lambda: http_get(f"http://127.0.0.1:{cluster.proxies[0].http_port}/v1/stats")[1]["instances"][0]
    with cart.client() as client:
        assert client.call("AUTH", "app", PASSWORD) == "OK"

        def read_from_a_replica():
            before = counted()["replica_reads"]
            for _ in range(10):
                client.call("GET", "key")
            return counted()["replica_reads"] > before

        assert client.call("SET", "key", "value") == "OK"
        wait_until(read_from_a_replica, "a replica to answer")
        epoch = cart.epoch()
        cluster.mrctl_ok("switchover", "cart")
        cart.wait_epoch(epoch + 1)
        assert client.call("SET", "key", "new") == "OK"
        wait_until(read_from_a_replica, "a replica to answer again")
        assert client.call("GET", "key") == "new"
    assert counted()["unacknowledged"] == 0 and counted()["ack_batches"] > 0
