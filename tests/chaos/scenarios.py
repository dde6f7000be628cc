"""What may break, and what must follow: each scenario is a function of a Round (rounds.py)."""

import contextlib

import resp
from history import Final, Loss, check, now_ms
from wait import wait_until
from workload import DirectClient, Workload

LONGER_THAN_ANY_LIMIT_S = 4.0  # unreachable_after_ms 1500 and hung_after_ms 3000 are over by then
SHORTER_THAN_ANY_LIMIT_S = 1.0
CUT_S = 6.0  # of the same length for us and for Sentinel
FLAPS, FLAP_DOWN_S, FLAP_UP_S = 8, 0.25, 0.3

SCENARIOS = {}  # name → function, in this order


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


# ---- processes ---------------------------------------------------------------------------------------------------

@scenario
def master_killed(r):
    r.begin()
    r.kill(r.master)
    r.expect_failover("DEAD")


@scenario
def master_restarts_empty(r):
    """At once: it answers, it is a master, and it has nothing. Its replicas must not copy that."""
    r.begin()
    r.kill(r.master)
    r.master.start()
    r.expect_failover("DEAD", "RESTARTED")


@scenario
def leader_killed_then_master(r):
    r.begin()
    r.leader.process.kill()
    r.kill(r.master)
    r.expect_failover("DEAD")


@scenario
def leader_stopped_then_master_killed(r):
    """A leader that wakes up believes that it still leads. It must have no effect."""
    r.begin()
    r.cluster.suspend_controller(r.leader)
    r.kill(r.master)
    r.expect_failover("DEAD")
    state = r.instance.state()
    r.cluster.resume_controller(r.leader)
    wait_until(lambda: r.leader.health()[1]["role"] != "leader", "the leader that woke up to notice")
    r.epoch = state["epoch"]
    r.expect_nothing(SHORTER_THAN_ANY_LIMIT_S)


@scenario
def master_stopped(r):
    """Its kernel answers, it doesn't. When it goes on, it answers what was queued."""
    r.begin()
    r.master.suspend()
    r.expect_failover("HUNG")
    r.master.resume()


@scenario
def master_stalls_briefly(r):
    """As a fork or a slow disk makes it."""
    r.begin()
    r.master.suspend()
    r.last(SHORTER_THAN_ANY_LIMIT_S)
    r.master.resume()
    r.expect_nothing(LONGER_THAN_ANY_LIMIT_S)


@scenario
def disk_full(r):
    """It can't persist and refuses writes: an operator's problem, and the replicas' disks may be no better."""
    with r.master.client() as client:
        client.call("CONFIG", "SET", "save", "3600 1000000")
        r.begin()
        fill(r.lab.disk_of(r.master) / "ballast")
        client.call_raw("BGSAVE")
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a save to fail")
        wait_until(lambda: any("MISCONF" in op.error for c in r.workload.clients for op in c.ops[-5:]),
                   "writes to be refused")
        r.expect_nothing(LONGER_THAN_ANY_LIMIT_S, served=False)
        (r.lab.disk_of(r.master) / "ballast").unlink()
        client.call("CONFIG", "SET", "save", "")
    r.expect_nothing(SHORTER_THAN_ANY_LIMIT_S)


def fill(path):
    """Until the disk is full."""
    block = bytes(64 * 1024)
    with open(path, "wb", buffering=0) as file:
        while True:
            try:
                file.write(block)
            except OSError:
                return


# ---- the network -------------------------------------------------------------------------------------------------

@scenario
def master_host_cut_off(r):
    r.begin()
    r.network.link_down(r.master.place)
    r.expect_failover("UNREACHABLE")


@scenario
def replica_host_cut_off(r):
    """No failover. Nor is there one when it is back."""
    replica = r.instance.replicas()[0]
    r.begin()
    r.network.link_down(replica.place)
    r.expect_nothing(LONGER_THAN_ANY_LIMIT_S)
    r.network.heal()
    r.expect_nothing(SHORTER_THAN_ANY_LIMIT_S)


@scenario
def leader_cut_off_from_master(r):
    """All others see it well: the leader's eyes alone prove nothing."""
    r.begin()
    r.network.cut([r.leader.place], [r.master.place])
    r.expect_nothing(LONGER_THAN_ANY_LIMIT_S)
    r.network.heal()
    r.expect_nothing(SHORTER_THAN_ANY_LIMIT_S)


@scenario
def leader_cut_off_from_zookeeper(r):
    """It sees master and proxies as before, but must not act; who leads now fails a killed master over."""
    others = [c.place for c in r.cluster.controllers if c is not r.leader]
    r.begin()
    r.network.cut([r.leader.place], others)
    wait_until(lambda: r.cluster.leader() is not r.leader, "another controller to lead")
    assert r.is_undisturbed(), "a change of leaders is no failover"
    r.kill(r.master)
    r.expect_failover("DEAD")


@scenario
def master_proxy_and_clients_cut_off(r):
    """The partition that Sentinel is known for: whoever is with the old master goes on writing to it."""
    proxy = r.cluster.proxies[0].place
    r.cut_off_with_master(proxy)
    r.begin()
    r.network.isolate([r.master.place, proxy])
    r.expect_failover("UNREACHABLE")
    r.last(max(0.0, CUT_S - (now_ms() - r.fault_ms) / 1000))
    r.then = sentinel_cut_off


def sentinel_cut_off(r):
    """The same cut, of the same length, for Sentinel's master and the clients of the same host. After our own round:
    it may hit the host of our master too."""
    group, host = r.lab.sentinel, r.cluster.proxies[0].place
    workload = Workload.on_sentinel(group, [c.place for c in r.cluster.proxies], f"s{r.prefix}")
    try:
        workload.wait_more()
        master, cut_ms = group.master(), now_ms()
        r.network.isolate([master.place, host])
        wait_until(lambda: group.master() is not master, "Sentinel's failover")
        r.last(max(0.0, CUT_S - (now_ms() - cut_ms) / 1000))
        r.lab.mend()
        wait_until(group.is_settled, "Sentinel to take the old master back", 60)
        workload.wait_more()
        workload.stop()
    except BaseException:
        workload.abandon()
        raise
    with group.master().client() as client:
        final = Final.read(client, workload.ops())
    # Sentinel promises nothing; everything lost is counted, nothing is judged.
    return check(workload.ops(), final, [Loss(0.0, {"*": now_ms()})])


@scenario
def fenced_master_and_application_cut_off(r):
    """fence=acl, and an application that knows the master and its epoch's user is cut off with it. It goes on writing
    there, as README says; but whoever has heard of the new epoch doesn't get in. When the cut is healed it is cut,
    and refused until it is told as whom to log in, and where. The judge has its writes, too."""
    beside, away = (proxy.place for proxy in r.cluster.proxies)
    user = turn_fence_on(r)
    old = r.master
    application = DirectClient(f"{r.prefix}-direct", beside, (old, user), PASSWORD, r.prefix)
    r.workload.clients.append(application)
    application.wait_more()
    r.cut_off_with_master(beside)
    r.begin()
    r.network.isolate([old.place, beside])
    r.expect_failover("UNREACHABLE")
    master, new_user = r.instance.master(), r.instance.state()["fence"]["user"]
    assert new_user == f"app-e{r.instance.epoch()}" != user
    log_in(away, master, new_user).close()
    for member in r.instance.replicas():
        if member is not old:
            wait_until(lambda m=member: is_refused(away, m, user), "who was sealed to have no old epoch's user")
    assert is_refused(away, master, user) and is_refused(beside, old, new_user)
    application.wait_more()  # nobody can tell the old master
    assert application.reconnects == 0
    r.network.heal()
    wait_until(lambda: application.refused >= 3, "the application to be cut, and refused when it comes again")
    wait_until(lambda: old.follows(master), "the old master to be taken back")
    wait_until(lambda: epochs_users(old) == {new_user}, "it to let the new epoch's applications in")
    assert is_refused(beside, old, user)
    with log_in(beside, old, new_user) as reader:
        assert reader.call_raw("SET", f"{r.prefix}:stray", "x").code == "READONLY"
    application.tell(master, new_user)
    application.wait_more()
    turn_fence_off(r)
    application.tell(master, "app")
    for member in r.instance.members:
        for left in epochs_users(member):
            member.call("ACL", "DELUSER", left)
    application.wait_more()


PASSWORD = "secret of app"


def turn_fence_on(r):
    """As the operator is told to; returns the epoch's user, once all members have it."""
    for member in r.instance.members:
        member.call("ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-@dangerous")
    r.cluster.mrctl_ok("set", r.instance.name, "fence=acl", "fence_user=app")
    user = r.instance.state()["fence"]["user"]
    wait_until(lambda: all(epochs_users(m) == {user} for m in r.instance.members), f"all members to have {user}")
    for member in r.instance.members:
        member.call("ACL", "SETUSER", "app", "off")
    return user


def turn_fence_off(r):
    for member in r.instance.members:
        member.call("ACL", "SETUSER", "app", "on")
    r.cluster.mrctl_ok("set", r.instance.name, "fence=none")


def epochs_users(member):
    return {user for user in member.call("ACL", "USERS") if user.startswith("app-e")}


def log_in(host, member, user):
    with host.inside():
        return resp.logged_in(user, PASSWORD, member.port, member.place.ip)


def is_refused(host, member, user):
    with contextlib.suppress(resp.RespError):
        log_in(host, member, user).close()
        return False
    return True


@scenario
def nothing_comes_from_master(r):
    """One way: what it sends vanishes, so nobody hears it; it hears everybody."""
    r.begin()
    r.network.cut_one_way([r.master.place], r.lab.others(r.master.place))
    r.expect_failover("UNREACHABLE")


@scenario
def nothing_reaches_master(r):
    """One way: it hears nobody, what it sends arrives."""
    r.begin()
    r.network.cut_one_way(r.lab.others(r.master.place), [r.master.place])
    r.expect_failover("UNREACHABLE")


@scenario
def leader_does_not_hear_master(r):
    """One way, one pair."""
    r.begin()
    r.network.cut_one_way([r.master.place], [r.leader.place])
    r.expect_nothing(LONGER_THAN_ANY_LIMIT_S)
    r.network.heal()
    r.expect_nothing(SHORTER_THAN_ANY_LIMIT_S)


@scenario
def master_link_flaps(r):
    """Shorter than any limit, again and again: it is reached in between."""
    r.begin()
    for _ in range(FLAPS):
        r.network.link_down(r.master.place)
        r.last(FLAP_DOWN_S)
        r.network.link_up(r.master.place)
        r.last(FLAP_UP_S)
    r.expect_nothing(SHORTER_THAN_ANY_LIMIT_S)


@scenario
def proxy_cut_off_from_controllers(r):
    """It serves what it knows; when a master dies meanwhile it holds, and follows once it hears of the new one."""
    proxy = r.cluster.proxies[0].place
    r.served = [c for c in r.workload.clients if c.host is not proxy]
    r.begin()
    r.network.cut([proxy], [c.place for c in r.cluster.controllers])
    r.workload.wait_more(clients=r.workload.of(proxy))
    r.kill(r.master)
    r.expect_failover("DEAD")
    r.network.heal()
    r.workload.wait_more(clients=r.workload.of(proxy))


@scenario
def planned_switchover(r):
    """No fault: nobody sees an error, nothing is lost."""
    before = sum(op.outcome != "ok" for op in r.workload.ops())
    r.begin()
    r.cluster.mrctl_ok("switchover", r.instance.name)
    r.expect_failover("PLANNED")
    assert sum(op.outcome != "ok" for op in r.workload.ops()) == before, "a planned switchover shows no error"

