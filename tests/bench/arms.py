"""What stands between a client and one redis-server, and is compared: nothing, HAProxy, nutcracker, mr-proxy.

All of them lead to the same redis-server, which a controller watches all the time. A fifth, the answerer, has no Redis
behind it: the least that a proxy can cost (answerer.c).
"""

import os
import resource
import shlex
import shutil
from pathlib import Path

from cluster import Cluster, Proxy
from failover import program
from processors import pin
from sandbox import listening
from servers import ZooKeeper
from talk import Talker
from wait import wait_until

MAX_CLIENTS = 12000
PIPES = 150  # for HAProxy to splice through, two files each
FILES_BESIDES = 2 * PIPES + 100  # that a server may have open, its clients' left aside
LARGE_BYTES = 64 * 1024  # where HAProxy's splicing may help
CPUS = sorted(os.sched_getaffinity(0))

MODES = {
    "unpinned": "where the kernel likes",
    "pinned": "Redis and the client on core A, the proxy on core B (taskset)",
    "onecore": "Redis, client and proxy on core A (taskset); CPU per request is taken here",
    "client-alone": "Redis and the proxy on core A, the client on core B (taskset)",
    "redis-alone": "the client and the proxy on core A, Redis on core B (taskset)",
}
USUAL_MODES = ["unpinned", "pinned", "onecore"]  # "pinned" is what others call it when the proxy is alone
ALONE = {"pinned": "proxy", "client-alone": "client", "redis-alone": "redis"}


def core_of(mode, role):
    """The CPUs of "redis", "client" or "proxy"."""
    if mode == "unpinned":
        return CPUS
    return CPUS[1:2] if ALONE.get(mode) == role else CPUS[:1]


def cpu_ns(pid):
    """Time on a CPU, all threads, kernel's work for it included: the first field of /proc/PID/task/*/schedstat."""
    return sum(int(path.read_text(encoding="ascii").split()[0])
               for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def rss_kb(pid):
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(f"process {pid} has ended")


def open_files():
    """How many this program, and each that it starts, may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_open_files():
    """Room for MAX_CLIENTS through any of them; who may not have that takes what there is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = max(hard, 2 * MAX_CLIENTS + FILES_BESIDES)
    for wanted in ((enough, enough), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, wanted)
            break
        except (ValueError, OSError):
            continue


FAILURES_MAX = 10  # then it isn't asked any more: each failure may take until its time limit


class Arm:
    """One of what is compared. failures: what went wrong with it, a line each."""

    name = title = ""
    host = "127.0.0.1"
    has_redis = True
    files_a_client = 1

    def __init__(self, sandbox, redis):
        self.sandbox, self.redis = sandbox, redis
        self.failures = []
        self.start()

    def start(self):
        pass

    def stop(self):
        pass

    def processes(self):
        """Its sandbox processes."""
        return []

    def port(self, _size=0):
        """Where clients of values of that size connect to, on its host."""
        raise NotImplementedError

    def pid(self, _size=0):
        """Of the process that serves that port; None: nothing is in between."""
        return None

    def most_clients(self):
        """How many it has room for, by the limit of open files."""
        return min(MAX_CLIENTS, (open_files() - FILES_BESIDES) // self.files_a_client)

    def is_given_up(self):
        return len(self.failures) >= FAILURES_MAX

    def failed(self, what, reason):
        """Keeps the reason, and returns it as a line. One that has ended is started again: what comes after is measured
        nevertheless."""
        line = f"{self.title}: {what}: {' '.join(str(reason).split())}"
        self.failures.append(line)
        for process in self.processes():
            if process.exit_status is not None and not process.ended_by_us:
                process.ended_by_us = True
                self.failures.append(f"{self.title}: ended by itself, exit status {process.exit_status}; started again")
                self.restart()
                break
        if self.is_given_up():
            self.failures.append(f"{self.title}: given up after {FAILURES_MAX} failures")
        return line

    def restart(self):
        """Fresh, as after a start."""
        self.stop()
        self.start()

    def pin(self, mode):
        for process in self.processes():
            pin(process.pid, core_of(mode, "proxy"))


class Direct(Arm):
    name, title = "direct", "direct"

    def port(self, _size=0):
        return self.redis.port


class Foreign(Arm):
    """Somebody else's proxy: a program with a configuration file."""

    def __init__(self, sandbox, redis):
        self._ports, self._running, self._starts = {}, {}, 0
        super().__init__(sandbox, redis)

    def launch(self, label, config, argv):
        """Starts one with its configuration text; argv(file) is its command line."""
        if shutil.which(argv("")[0]) is None:
            raise AssertionError(f"{argv('')[0]} is missing; `.ci/deps bench` installs it")
        path = self.sandbox.folder / f"{label}.conf"
        path.write_text(config, encoding="utf-8")
        self._starts += 1
        process = self._running[label] = self.sandbox.start(f"{label}-{self._starts}", argv(path))
        accepts = listening(self._ports[label])
        wait_until(lambda: process.exit_status is not None or accepts(), f"{label} to listen")
        if process.exit_status is not None:
            process.ended_by_us = True
            raise AssertionError(f"{label} did not start: {process.log_text()[-300:]}")

    def own_port(self, label):
        return self._ports.setdefault(label, self.sandbox.ports.one())

    def stop(self):
        for process in self._running.values():
            process.kill()
        self._running = {}

    def processes(self):
        return list(self._running.values())


class HAProxy(Foreign):
    """Tuned: TCP mode, one thread, no log, no checks, room for every client. It runs twice, with and without splicing;
    choose() says which of the two is the better one for small and for large values."""

    name, title = "haproxy", "HAProxy"
    files_a_client = 2
    VARIANTS = {"haproxy": "no option splice-auto", "haproxy-splice": "option splice-auto"}

    def start(self):
        self.choice = {False: "haproxy", True: "haproxy"}
        for label, option in self.VARIANTS.items():
            self.launch(label, f"""
global
    nbthread 1
    maxconn {self.most_clients()}
    maxpipes {PIPES}
defaults
    mode tcp
    maxconn {self.most_clients()}
    backlog 4096
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    {option}
listen redis
    bind 127.0.0.1:{self.own_port(label)}
    server redis 127.0.0.1:{self.redis.port}
""", lambda path: ["haproxy", "-db", "-f", path])

    def restart(self):
        choice = self.choice
        super().restart()
        self.choice = choice

    def port_of(self, variant):
        """Of one of VARIANTS, whatever was chosen."""
        return self._ports[variant]

    def port(self, size=0):
        return self._ports[self.choice[size >= LARGE_BYTES]]

    def pid(self, size=0):
        return self._running[self.choice[size >= LARGE_BYTES]].pid


class Nutcracker(Foreign):
    """twemproxy: 16 KB mbufs, one server, one connection to it."""

    name, title = "nutcracker", "nutcracker"

    def start(self):
        port, stats = self.own_port("nutcracker"), self.own_port("nutcracker-stats")
        self.launch("nutcracker", f"""
bench:
  listen: 127.0.0.1:{port}
  redis: true
  hash: fnv1a_64
  distribution: ketama
  backlog: 4096
  preconnect: true
  auto_eject_hosts: false
  server_connections: 1
  servers:
   - 127.0.0.1:{self.redis.port}:1
""", lambda path: ["nutcracker", "-c", path, "-m", "16384", "-a", "127.0.0.1", "-s", stats, "-v", "4",
                   "-o", self.sandbox.folder / "nutcracker-own.log", "-p", self.sandbox.folder / "nutcracker.pid"])

    def port(self, _size=0):
        return self._ports["nutcracker"]

    def pid(self, _size=0):
        return self._running["nutcracker"].pid


class MrProxy(Arm):
    """As in production: one data-path thread, its route from ZooKeeper."""

    name, title = "mr-proxy", "mr-proxy"

    def __init__(self, sandbox, redis, instance):
        self._instance, self._proxy = instance, self._its_proxy(instance.cluster)
        super().__init__(sandbox, redis)

    def _its_proxy(self, cluster):
        return cluster.proxies[0]

    def restart(self):
        if self._proxy.process.exit_status is None:
            self._proxy.process.stop()
        self._proxy.start()
        self._instance.cluster.wait_served(self._instance)

    def processes(self):
        return [self._proxy.process]

    def port(self, _size=0):
        return self._instance.port

    def pid(self, _size=0):
        return self._proxy.process.pid


class Answerer(Arm):
    """One process for each size of value."""

    name, title, has_redis = "answerer", "answers without Redis", False

    def start(self):
        self._talkers, self._ports = {}, {}

    def stop(self):
        for talker in self._talkers.values():
            talker.close()

    def _talker(self, size):
        if size not in self._talkers:
            self._talkers[size] = Talker(self.sandbox, [program("answerer"), "--value-bytes", size], f"answerer-{size}")
            self._ports[size] = self._talkers[size].hear("ready")["port"]
        return self._talkers[size]

    def port(self, size=3):
        self._talker(size)
        return self._ports[size]

    def pid(self, size=3):
        return self._talker(size).pid

    def pin(self, mode):
        for talker in self._talkers.values():
            pin(talker.pid, core_of(mode, "proxy"))


ARMS = {arm.name: arm for arm in (Direct, HAProxy, Nutcracker, MrProxy, Answerer)}


def add_variant(text):
    """One more arm, "NAME=[PROGRAM] [OPTION…]": mr-proxy with other options, or another build of it (a path)."""
    label, equals, rest = text.partition("=")
    words = shlex.split(rest)
    if not equals or not label or not words or label in ARMS:
        raise ValueError(f"{text}: a variant is NAME=[PROGRAM] [OPTION…], with a name of its own")
    binary = Path(words.pop(0)).resolve() if not words[0].startswith("-") else None
    if binary and not os.access(binary, os.X_OK):
        raise ValueError(f"{text}: {binary} is no program")
    number = 2 + sum(issubclass(arm, MrProxy) for arm in ARMS.values())

    class Variant(MrProxy):
        name, title, host = label, f"mr-proxy, {label}", f"127.0.0.{number}"

        def _its_proxy(self, cluster):
            options = ["--max-clients", MAX_CLIENTS, *words]
            cluster.proxies.append(Proxy(cluster, f"proxy-{label}", self.host, options, program=binary))
            return cluster.proxies[-1]

    ARMS[label] = Variant


def set_up(sandbox, names):
    """(redis, {name: arm}, failures): a redis-server, adopted; what leads to it; what can't be had, and why."""
    raise_open_files()
    cluster = Cluster(sandbox, ZooKeeper(sandbox), "/mr-proxy-bench", log_level="warn",
                      proxy_options=["--max-clients", MAX_CLIENTS])
    instance = cluster.adopt("bench", replicas=0, options=[
        "--maxclients", min(MAX_CLIENTS, open_files() - FILES_BESIDES), "--tcp-backlog", "4096"])
    redis = instance.members[0]
    arms, failures = {}, []
    for name in names:
        try:
            arm = ARMS[name]
            arms[name] = arm(sandbox, redis, instance) if issubclass(arm, MrProxy) else arm(sandbox, redis)
        except (OSError, AssertionError) as error:
            failures.append(f"{ARMS[name].title}: {' '.join(str(error).split())}")
    return redis, arms, failures
