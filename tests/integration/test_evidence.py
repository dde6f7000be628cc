"""What three controllers decide together, and what an operator orders, with real processes."""

from load import Writer
from wait import wait_until


def make(make_cluster, proxies=2):
    cluster = make_cluster(controllers=3, proxies=proxies)
    cart = cluster.adopt()
    cart.wait_settled()
    return cluster, cart


def failed_over(instance, epoch):
    state = instance.state()
    return state if state["epoch"] > epoch and state["state"] == "stable" else None


def test_a_switchover_under_load_loses_nothing_and_nobody_sees_an_error(make_cluster):
    cluster, cart = make(make_cluster)
    writers = [Writer(cart.port, proxy.bind, prefix=f"w{k}") for k, proxy in enumerate(cluster.proxies)]
    for writer in writers:
        writer.wait_more()
    old, epoch = cart.master(), cart.epoch()
    cluster.mrctl_ok("switchover", "cart", zk=False)
    state = cart.wait_epoch(epoch + 1)
    for writer in writers:
        writer.wait_more()
        writer.stop()
    new = cart.master()
    assert new is not old and state["epoch"] == epoch + 1
    for writer in writers:
        assert writer.errors == []
        assert writer.connections == 1
        assert writer.missing(new) == []
    print("longest gap ms", [w.longest_gap_ms for w in writers])


def test_a_hung_master_is_replaced_because_the_others_see_it_too(make_cluster):
    cluster, cart = make(make_cluster)
    old, epoch = cart.master(), cart.epoch()
    old.suspend()
    try:
        state = wait_until(lambda: failed_over(cart, epoch), "a failover")
        assert state["last_failover"]["verdict"] == "HUNG"
    finally:
        old.resume()
    wait_until(lambda: old.follows(cart.master()), "the old master to follow")


def test_an_order_in_a_stopping_leader_is_answered(make_cluster):
    cluster, cart = make(make_cluster, proxies=1)
    cluster.mrctl_ok("pause", "cart", "--reason", "test", zk=False)
    leader = cluster.leader()
    leader.process.stop()
    wait_until(lambda: cluster.leader() is not leader, "another leader")
    cluster.mrctl_ok("resume", "cart", zk=False)
    assert cart.epoch() == 1
