"""A whole installation on eight hosts that can be cut off from each other (netns.py), and Sentinel on the same ones.

    z1 z2 z3   ZooKeeper (an ensemble), mr-controller, Sentinel
    r1 r2 r3   a member of each instance: redis-server for Mr-Redis, another one for Sentinel
    p1 p2      mr-proxy, and the applications
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import resp
from cluster import INSTANCE_PORTS, Cluster, Controller, Instance, Proxy, binary
from netns import Network
from servers import redis_group
from wait import LIMIT_S, wait_until

CONTROL, DATA, EDGE = ("z1", "z2", "z3"), ("r1", "r2", "r3"), ("p1", "p2")
ZK_PORT, ZK_PEER_PORT, ZK_VOTE_PORT = 2181, 2888, 3888
REDIS_PORT, WATCHED_PORT, SENTINEL_PORT = 6379, 6380, 26379
DISK_MB = 32
TOKEN = "lab-token"
CLASS_PATH = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar"


class Ensemble:
    """Three ZooKeeper servers with short ticks."""

    def __init__(self, sandbox, hosts):
        self.sandbox, self._places = sandbox, hosts
        self.processes = {}
        for number, host in enumerate(hosts, start=1):
            self._configure(number, host)
            self.start(host)
        self.wait_whole()

    def wait_whole(self):
        wait_until(lambda: all(self.mode(host) for host in self._places), "the ZooKeeper ensemble", 2 * LIMIT_S)

    def _configure(self, number, host):
        folder = self.sandbox.folder / f"zookeeper-{host.name}"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "myid").write_text(f"{number}\n", encoding="ascii")
        servers = "".join(f"server.{k}={h.ip}:{ZK_PEER_PORT}:{ZK_VOTE_PORT}\n"
                          for k, h in enumerate(self._places, start=1))
        config = folder / "zoo.cfg"
        config.write_text(f"tickTime=100\ninitLimit=50\nsyncLimit=10\ndataDir={folder}/data\nclientPort={ZK_PORT}\n"
                          f"clientPortAddress={host.ip}\nmaxClientCnxns=0\nadmin.enableServer=false\n"
                          f"4lw.commands.whitelist=*\n{servers}", encoding="ascii")

    def start(self, host):
        config = self.sandbox.folder / f"zookeeper-{host.name}" / "zoo.cfg"
        self.processes[host.name] = self.sandbox.start(f"zookeeper-{host.name}", host.command([
            "java", "-Xmx128m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp", CLASS_PATH, "org.apache.zookeeper.server.quorum.QuorumPeerMain", config]))

    def mode(self, host):
        """"leader", "follower"; "" while it serves nobody."""
        with host.inside(), socket.create_connection((host.ip, ZK_PORT), timeout=2) as asked:
            asked.sendall(b"srvr")
            told = asked.makefile("r").read()
        return next((line.split(": ")[1] for line in told.splitlines() if line.startswith("Mode:")), "")

    def mend(self):
        """What was stopped goes on, what died is started again, with its data."""
        for host in self._places:
            self.processes[host.name].signal(signal.SIGCONT)
            if self.processes[host.name].exit_status is not None:
                self.start(host)

    def hosts(self, chroot=""):
        return ",".join(f"{host.ip}:{ZK_PORT}" for host in self._places) + chroot


class LabCluster(Cluster):
    """Mr-Redis on the lab's hosts. Controllers speak HTTP to each other's hosts, hence the token."""

    def __init__(self, sandbox, network, zookeeper, chroot="/lab", log_level="info"):
        self.network = network
        self.token_file = sandbox.folder / "token"
        self.token_file.write_text(TOKEN + "\n", encoding="ascii")
        self.suspended = set()
        super().__init__(sandbox, zookeeper, chroot, controllers=len(CONTROL), proxies=len(EDGE),
                         instance_ports=INSTANCE_PORTS, log_level=log_level)

    def _start_controllers(self, count):
        return [Controller(self, name, self.network[name], ["--token-file", self.token_file])
                for name in CONTROL[:count]]

    def _start_proxies(self, count):
        return [Proxy(self, name, "127.0.0.1", self.proxy_options, self.network[name]) for name in EDGE[:count]]

    def running_controllers(self):
        return [c for c in super().running_controllers() if c not in self.suspended]

    def mrctl(self, *args, zk=True, env=None, timeout_s=2 * LIMIT_S):
        del zk  # here it always finds the controllers through ZooKeeper
        where = self.leader().place if any(self.running_controllers()) else self.network[CONTROL[0]]
        command = [binary("mrctl"), "--zk", self.zk_hosts, "--token-file", self.token_file, *args]
        return subprocess.run(where.command(command), capture_output=True, text=True, timeout=timeout_s, check=False,
                              env={**os.environ, **(env or {})})

    def suspend_controller(self, controller):
        self.suspended.add(controller)
        controller.process.signal(signal.SIGSTOP)

    def resume_controller(self, controller):
        controller.process.signal(signal.SIGCONT)
        self.suspended.discard(controller)

    def history(self, name, after_ms=0):
        """Entries since that wall-clock time, oldest first."""
        status, told = self.leader().get("/v1/history")
        assert status == 200, told
        entries = [e for e in told["history"] if e["instance"] == name and e["at"] >= after_ms]
        return sorted(entries, key=lambda e: e["at"])


class SentinelGroup:
    """What Mr-Redis replaces, on the same hosts: three Sentinels (quorum 2) over a master and two replicas."""

    NAME = "watched"

    def __init__(self, sandbox, network, down_after_ms):
        self.network = network
        self.hosts = [network[name] for name in CONTROL]
        self.members = redis_group(sandbox, self.NAME, len(DATA) - 1, [network[name] for name in DATA],
                                   port=WATCHED_PORT)
        self.processes, self._sandbox = {}, sandbox
        for host in self.hosts:
            folder = sandbox.folder / f"sentinel-{host.name}"
            folder.mkdir()
            config = folder / "sentinel.conf"
            config.write_text(
                f"port {SENTINEL_PORT}\nbind {host.ip} 127.0.0.1\ndir {folder}\nprotected-mode no\n"
                f"sentinel monitor {self.NAME} {self.members[0].place.ip} {WATCHED_PORT} 2\n"
                f"sentinel down-after-milliseconds {self.NAME} {down_after_ms}\n"
                f"sentinel failover-timeout {self.NAME} 10000\nsentinel parallel-syncs {self.NAME} 1\n",
                encoding="ascii")
            self.start(host)
        wait_until(self.is_settled, "the Sentinels to know each other and the replicas", 2 * LIMIT_S)

    def start(self, host):
        """It keeps what it knows in its configuration file."""
        config = self._sandbox.folder / f"sentinel-{host.name}" / "sentinel.conf"
        self.processes[host.name] = self._sandbox.start(
            f"sentinel-{host.name}", host.command(["redis-server", config, "--sentinel"]))

    def restart_killed(self):
        for host in self.hosts:
            if self.processes[host.name].exit_status is not None:
                self.start(host)
                wait_until(lambda h=host: self.ask("PING", host=h) == "PONG", f"the Sentinel of {host.name}")

    def addresses(self):
        return [f"{host.ip}:{SENTINEL_PORT}" for host in self.hosts]

    def ask(self, *args, host=None):
        host = host or self.hosts[0]
        with host.inside():
            return resp.ask(SENTINEL_PORT, *args, host=host.ip)

    def master(self, witness=None):
        """As that Sentinel (the first, unless told otherwise) names it."""
        host, port = self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME, host=witness)
        return next(m for m in self.members if m.address == f"{host}:{port}")

    def _knows(self, host, master):
        def entries(flat):
            return dict(zip(flat[::2], flat[1::2]))
        state = entries(self.ask("SENTINEL", "MASTER", self.NAME, host=host))
        replicas = [entries(flat) for flat in self.ask("SENTINEL", "REPLICAS", self.NAME, host=host)]
        return (state["flags"] == "master" and int(state["num-other-sentinels"]) == len(self.hosts) - 1
                and f"{state['ip']}:{state['port']}" == master.address
                and [r["flags"] for r in replicas] == ["slave"] * (len(self.members) - 1))

    def is_settled(self):
        master = self.master()
        return (master.role() == "master" and all(m.follows(master) for m in self.members if m is not master)
                and all(self._knows(host, master) for host in self.hosts))


class Lab:
    """The hosts and everything on them. It is one installation for many rounds: ready() says when all is well."""

    NAME = "cart"

    def __init__(self, sandbox, log_level="info", with_disks=True, disk_root=None):
        """with_disks: the members of Mr-Redis have small disks of their own; disk_root: folders there instead."""
        self.sandbox = sandbox
        self.network = Network([*CONTROL, *DATA, *EDGE])
        sandbox.at_close(self.network.close)
        self._disks = {}
        if with_disks or disk_root:
            self._disks = {name: self._make_folder(disk_root) if disk_root else self._mount_disk(name)
                           for name in DATA}
        self.zookeeper = Ensemble(sandbox, [self.network[name] for name in CONTROL])
        self.cluster = LabCluster(sandbox, self.network, self.zookeeper, log_level=log_level)
        self.instance = self._adopt()
        self.sentinel = None

    def _mount_disk(self, name):
        """A small disk of its own for the member there: it can be full."""
        folder = self.sandbox.folder / f"disk-{name}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder], check=True)
        self.sandbox.at_close(lambda: subprocess.run(["umount", "-l", folder], check=False))
        return folder

    def _make_folder(self, root):
        folder = Path(tempfile.mkdtemp(prefix="mr-disk-", dir=root))
        self.sandbox.at_close(lambda: shutil.rmtree(folder, ignore_errors=True))
        return folder

    def disk_of(self, member):
        return self._disks[member.place.name]

    def _adopt(self):
        members = redis_group(self.sandbox, self.NAME, len(DATA) - 1, [self.network[name] for name in DATA],
                              port=REDIS_PORT, folders=[self._disks.get(name) for name in DATA])
        self.cluster.mrctl_ok("adopt", self.NAME, members[0].address, "--wait")
        state = next(i for i in self.cluster.topology()["instances"] if i["name"] == self.NAME)
        instance = Instance(self.cluster, self.NAME, state["port"], members)
        self.cluster.instances.append(instance)
        wait_until(lambda: len(instance.state()["members"]) == len(DATA), f"{len(DATA)} members of {self.NAME}")
        self.cluster.wait_served(instance)
        instance.wait_settled()
        return instance

    def add_sentinel(self, down_after_ms):
        self.sentinel = SentinelGroup(self.sandbox, self.network, down_after_ms)
        return self.sentinel

    def host(self, name):
        return self.network[name]

    def hosts(self, *names):
        return [self.network[name] for name in names]

    def others(self, *hosts):
        return [host for host in self.network.hosts.values() if host not in hosts]

    def mend(self):
        """Ends every fault: the network is whole, what was stopped goes on, what died is started again."""
        self.network.heal()
        for controller in list(self.cluster.suspended):
            self.cluster.resume_controller(controller)
        for disk in self._disks.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(disk / "ballast")
        members = [*self.instance.members, *(self.sentinel.members if self.sentinel else [])]
        for member in members:
            if member.process.exit_status is None:
                member.resume()
            else:
                member.start()
        for controller in self.cluster.controllers:
            if controller.process.exit_status is not None:
                controller.start()
        for proxy in self.cluster.proxies:
            if proxy.process.exit_status is not None:
                proxy.start()
        self.zookeeper.mend()

    def lift_restraint(self):
        """The rounds follow each other faster than the cooldown after a failover allows."""
        self.cluster.mrctl_ok("ack", self.NAME)

    def wait_ready(self):
        """Returns the instance's state once every role is taken, every link is up, every write reaches everybody and
        every controller that should run does: nothing of the last round is left."""
        wait_until(lambda: len(self.cluster.running_controllers()) == len(CONTROL) and all(
            c.health()[0] == 200 for c in self.cluster.controllers), "all controllers to be useful")
        state = self.instance.wait_settled("to settle after the round")
        self.instance.master().wait_replicated(len(DATA) - 1)
        for proxy in self.cluster.proxies:
            with proxy.client(self.instance.port) as client:
                client.call("SET", "lab:ready", proxy.id)
        if self.sentinel:
            wait_until(self.sentinel.is_settled, "Sentinel to settle after the round", 2 * LIMIT_S)
            self.sentinel.master().wait_replicated(len(DATA) - 1)
        return state

    def describe(self):
        """For a failed round: the topology, and what was decided last."""
        return (self.cluster.mrctl("topology").stdout
                + "\n".join(self.cluster.mrctl("history", self.NAME).stdout.splitlines()[-12:]))
