"""A whole Mr-Redis cluster for a test: controllers, proxies and adopted instances over one ZooKeeper."""

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request

import resp
from sandbox import TOP, listening, wait_until
from servers import LOOPBACK, redis_group
from wait import LIMIT_S, WaitError

BUILD = TOP / os.environ.get("MR_BUILD", "build")
MRCTL_NOBODY = 3  # its exit status: no controller answered
INSTANCE_PORTS = 8  # unless the test says otherwise


def binary(name):
    return BUILD / "bin" / name


def http_get(url, timeout_s=LIMIT_S):
    """(status, value): JSON decoded, anything else as text."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            status, body = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read().decode()
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body


class Controller:
    def __init__(self, cluster, identity, place=LOOPBACK, options=()):
        self.cluster, self.id, self.place, self.options = cluster, identity, place, list(options)
        self.http_port = cluster.sandbox.ports.one()
        self.url = f"http://{place.ip}:{self.http_port}"
        self.process = None
        self.start()

    def start(self):
        lo = self.cluster.first_port
        self.process = self.cluster.sandbox.start(f"mr-controller-{self.id}", self.place.command([
            binary("mr-controller"), "--zk", self.cluster.zk_hosts, "--id", self.id, "--advertise", self.place.ip,
            "--http", f"{self.place.ip}:{self.http_port}", "--pub-port", "0", "--ingest-port", "0", "--vote-port", "0",
            "--port-range", f"{lo}-{lo + self.cluster.instance_ports - 1}", "--session-timeout-ms", "1000",
            "--log-level", self.cluster.log_level, *self.options]))

    def get(self, path):
        with self.place.inside():
            return http_get(self.url + path)

    def health(self):
        return self.get("/health")

    def topology(self):
        status, value = self.get("/v1/topology")
        assert status == 200, value
        return value


class Proxy:
    def __init__(self, cluster, identity, bind, options=(), place=LOOPBACK, program=None):
        self.cluster, self.id, self.bind, self.options = cluster, identity, bind, list(options)
        self.place, self.program = place, program or binary("mr-proxy")
        self.http_port = cluster.sandbox.ports.one()
        self.cache_file = cluster.sandbox.folder / f"routes-{identity}.json"
        self.process = None
        self.start()

    def start(self):
        self.process = self.cluster.sandbox.start(f"mr-proxy-{self.id}", self.place.command([
            self.program, "--zk", self.cluster.zk_hosts, "--id", self.id, "--bind", self.bind,
            "--http", f"127.0.0.1:{self.http_port}", "--cache-file", self.cache_file,
            "--log-level", self.cluster.log_level, *self.options]))

    def client(self, port, timeout_s=LIMIT_S):
        with self.place.inside():
            return resp.Client(port, self.bind, timeout_s)


class Instance:
    """An adopted service: its name, its port on the proxies, its redis-servers (members[0] began as master)."""

    def __init__(self, cluster, name, port, members):
        self.cluster, self.name, self.port, self.members = cluster, name, port, members

    def state(self):
        """Its entry of /v1/topology."""
        return next(i for i in self.cluster.topology()["instances"] if i["name"] == self.name)

    def member(self, address):
        return next(m for m in self.members if m.address == address)

    def master(self):
        return self.member(self.state()["master"])

    def replicas(self):
        master = self.master()
        return [m for m in self.members if m is not master]

    def epoch(self):
        return self.state()["epoch"]

    def client(self, proxy=0, timeout_s=LIMIT_S):
        return self.cluster.proxies[proxy].client(self.port, timeout_s)

    def is_settled(self):
        """Stable; every member that lives has the role that the topology says, and the controller knows it to be in
        sync (an incarnation that it has not yet seen in sync is not promoted). Returns the state, or None."""
        state = self.state()
        master = self.member(state["master"]) if state["state"] == "stable" and state["master"] else None
        if master is None or master.role() != "master":
            return None
        alive = {m.address for m in self.members if m.process.exit_status is None}
        for member in state["members"]:
            fit = member["state"] == "up" and not member.get("note")
            if member["address"] in alive and not (fit and (member["role"] == "master" or member["link"] == "up")):
                return None
        followers = [m for m in self.members if m is not master and m.address in alive]
        return state if all(m.follows(master) for m in followers) else None

    def wait_settled(self, what="to settle"):
        return wait_until(self.is_settled, f"{self.name} {what}")

    def wait_epoch(self, epoch):
        """Waits for a promotion to that epoch or a later one to be finished and settled."""
        def reached():
            state = self.is_settled()
            return state if state and state["epoch"] >= epoch else None
        return wait_until(reached, f"{self.name} to be settled in epoch {epoch}")


class Cluster:
    def __init__(self, sandbox, zookeeper, chroot, controllers=1, proxies=1, proxy_options=(),
                 instance_ports=INSTANCE_PORTS, log_level="debug"):
        self.sandbox, self.zookeeper = sandbox, zookeeper
        self.instance_ports, self.log_level = instance_ports, log_level
        self.zk_hosts = zookeeper.hosts(chroot)
        self.first_port = sandbox.ports.block(instance_ports)
        self.proxy_options = proxy_options
        self.controllers = self._start_controllers(controllers)
        self.proxies = self._start_proxies(proxies)
        self.instances = []
        if self.controllers:
            self.leader()

    def _start_controllers(self, count):
        return [Controller(self, f"ctl-{k}") for k in range(1, count + 1)]

    def _start_proxies(self, count):
        # "The same port on every host": a loopback address of its own is a host here.
        return [Proxy(self, f"host-{k}", f"127.0.0.{k}", self.proxy_options) for k in range(1, count + 1)]

    def running_controllers(self):
        return [c for c in self.controllers if c.process.exit_status is None]

    def topology(self):
        """As the leader tells it: standbys may lag."""
        return self.leader().topology()

    def leader(self):
        """The controller that leads; waits until there is one that can be asked."""
        def find():
            for controller in self.running_controllers():
                status, health = controller.health()
                if status == 200 and health["role"] == "leader":
                    return controller
            return None
        return wait_until(find, "a leader among the controllers")

    def standbys(self):
        leader = self.leader()
        return [c for c in self.running_controllers() if c is not leader]

    def mrctl(self, *args, zk=True, env=None, timeout_s=2 * LIMIT_S):
        """Runs mrctl to its end; returns the CompletedProcess."""
        where = ["--zk", self.zk_hosts] if zk else ["--controllers", ",".join(c.url for c in self.controllers)]
        return subprocess.run([str(binary("mrctl")), *where, *map(str, args)], capture_output=True, text=True,
                              timeout=timeout_s, check=False, env={**os.environ, **(env or {})})

    def mrctl_ok(self, *args, **options):
        """What it prints. Where ZooKeeper had no CPU for a while nobody leads, and mrctl says to try again: we do."""
        runs = []

        def answered():
            runs.append(self.mrctl(*args, **options))
            return runs[-1].returncode != MRCTL_NOBODY and "try again" not in runs[-1].stderr
        with contextlib.suppress(WaitError):
            wait_until(answered, "mrctl's answer")
        run, before = runs[-1], "".join(run.stderr for run in runs[:-1])
        is_done = run.returncode == 0 or ("exists already" in run.stderr and "outcome is unknown" in before)
        assert is_done, f"mrctl {args}: exit {run.returncode}: {before}{run.stdout}{run.stderr}"
        return run.stdout

    def mrctl_json(self, *args):
        return json.loads(self.mrctl_ok("--json", *args))

    def adopt(self, name="cart", replicas=2, serve=True, **redis_options):
        """Starts a master and its replicas, adopts them, and waits until every proxy serves the port."""
        members = redis_group(self.sandbox, name, replicas, **redis_options)
        credentials = []
        if redis_options.get("password"):
            secret = self.sandbox.folder / f"{name}.password"
            secret.write_text(redis_options["password"] + "\n", encoding="utf-8")
            credentials = ["--password-file", secret]
        self.mrctl_ok("adopt", name, members[0].address, *credentials, "--wait")
        state = next(i for i in self.topology()["instances"] if i["name"] == name)
        instance = Instance(self, name, state["port"], members)
        self.instances.append(instance)
        wait_until(lambda: len(instance.state()["members"]) == replicas + 1, f"{replicas + 1} members of {name}")
        if serve:
            self.wait_served(instance)
        return instance

    def wait_served(self, instance):
        for proxy in self.proxies:
            def accepts(where=proxy):
                with where.place.inside():
                    return listening(instance.port, where.bind)()
            wait_until(accepts, f"{proxy.id} to listen on {instance.port}")
            with proxy.client(instance.port) as client:
                if instance.members[0].password:
                    client.call("AUTH", instance.members[0].password)
                client.call("PING")
