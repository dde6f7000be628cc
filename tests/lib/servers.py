"""Redis and ZooKeeper servers of a test: on loopback, or on the hosts of a lab (netns.py)."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import resp
from sandbox import TOP, wait_until

ESTABLISHED = "01"  # in /proc/net/tcp
ZOOKEEPER_SCRIPT = TOP / "deploy" / "zookeeper" / "zookeeper.sh"


class Loopback:
    """Where a server runs unless a test says otherwise. A host of a lab has the same three."""

    ip = "127.0.0.1"

    @staticmethod
    def command(argv):
        """The command line that runs argv there."""
        return argv

    @staticmethod
    def inside():
        """A context in which the calling thread's new connections start there."""
        return contextlib.nullcontext()


LOOPBACK = Loopback()


class ZooKeeper:
    """One server of Debian's package; its data outlives stop() and kill()."""

    def __init__(self, sandbox, name="zookeeper"):
        self.folder = sandbox.folder / name
        self.port = sandbox.ports.one()
        sandbox.at_close(self.kill)
        self.start()

    def _run(self, verb, *args):
        run = subprocess.run([ZOOKEEPER_SCRIPT, verb, self.folder, *map(str, args)], capture_output=True, text=True,
                             timeout=120, check=False)
        if run.returncode != 0:
            raise AssertionError(f"zookeeper.sh {verb}: {run.stderr}")

    def start(self):
        self._run("start", self.port)

    def stop(self):
        self._run("stop")

    def kill(self):
        if self.folder.exists():
            self._run("kill")

    def hosts(self, chroot=""):
        return f"127.0.0.1:{self.port}{chroot}"


class Redis:
    """One redis-server. Persistence is off unless asked for; a restart comes back with what was persisted."""

    def __init__(self, sandbox, name, replica_of=None, password=None, aof=False, options=(), place=LOOPBACK,
                 port=None, folder=None):
        self.sandbox, self.name, self.password, self.place = sandbox, name, password, place
        self.port = port or sandbox.ports.one()
        self.address = f"{place.ip}:{self.port}"
        self.folder = folder or sandbox.folder / name
        self.folder.mkdir(exist_ok=True)
        self._aof, self._options, self._replica_of = aof, list(options), replica_of
        self.boots_as_orphan = False
        self.process = None
        self.start()

    def start(self, replica_of=None):
        """Starts (again); waits until it answers. The first start follows replica_of of the constructor, a later
        one follows nobody: what is in Redis' memory is lost with the process, its role too. boots_as_orphan: as
        README wants it of a strict instance's members; it serves nobody until it is given a role."""
        target = replica_of or self._replica_of
        self._replica_of = None
        argv = ["redis-server", "--port", self.port, "--bind", self.place.ip, "--dir", self.folder, "--save", "",
                "--appendonly", "yes" if self._aof else "no", "--repl-ping-replica-period", "1",
                "--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb", "--enable-debug-command", "yes",
                "--daemonize", "no", "--protected-mode", "no"]
        if self.password:
            argv += ["--requirepass", self.password, "--masterauth", self.password]
        if target:
            argv += ["--replicaof", target.place.ip, target.port]
        elif self.boots_as_orphan:
            argv += ["--replicaof", "127.0.0.1", "1"]
        self.process = self.sandbox.start(self.name, self.place.command([*argv, *self._options]))
        wait_until(lambda: self.call("PING") == "PONG", f"{self.name} to answer")

    def client(self):
        with self.place.inside():
            client = resp.Client(self.port, self.place.ip)
        if self.password:
            client.call("AUTH", self.password)
        return client

    def call(self, *args):
        with self.client() as client:
            return client.call(*args)

    def info(self, section="replication"):
        with self.client() as client:
            return client.info(section)

    def role(self):
        return self.info()["role"]

    def follows(self, master):
        """A replica of that master with its link up."""
        info = self.info()
        return (info["role"] == "slave" and info["master_link_status"] == "up"
                and f"{info['master_host']}:{info['master_port']}" == master.address)

    def wait_replicated(self, replicas):
        """Everything written so far is on so many replicas. The marker matters: WAIT alone counts only what its own
        connection wrote. A replica that has just synchronized is sent nothing until it first acknowledges, which
        takes up to a second: what is written meanwhile dies with the master."""
        with self.client() as client:
            client.call("PUBLISH", "marker", "")
            assert client.call("WAIT", replicas, 30000) == replicas, f"{replicas} replicas of {self.name} follow"

    def wait_unread(self, size):
        """While it is suspended: until a connection has brought it so many bytes."""
        table = Path(f"/proc/{self.process.pid}/net/tcp")

        def largest():
            rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
            return max((int(row[4].split(":")[1], 16) for row in rows
                        if int(row[1].split(":")[1], 16) == self.port and row[3] == ESTABLISHED), default=0)
        wait_until(lambda: largest() >= size, f"{size} bytes for {self.name}")

    def kill(self):
        self.process.kill()

    def suspend(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)


def redis_group(sandbox, name, replicas, places=None, folders=None, **options):
    """A master and its replicas, in sync: [master, replica, …]; places, folders: where each of them runs, and writes."""
    where = list(zip(places or [LOOPBACK] * (replicas + 1), folders or [None] * (replicas + 1)))
    members = []
    for number, (place, folder) in enumerate(where):
        members.append(Redis(sandbox, f"{name}-{number}", replica_of=members[0] if members else None, place=place,
                             folder=folder, **options))
    master = members[0]
    for member in members[1:]:
        wait_until(lambda m=member: m.follows(master), f"{member.name} to follow {master.name}")
    master.wait_replicated(replicas)
    return members
