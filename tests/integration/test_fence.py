"""fence=acl: applications that connect to members directly log in as a user of the present epoch. A deposed master
refuses them and cuts those that are connected; who restarts has no such user until a controller takes it back."""

import re

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
