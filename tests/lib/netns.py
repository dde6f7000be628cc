"""Hosts that can really be cut off from each other: network namespaces on one bridge.

Each host is a namespace of its own; the bridge is in another one, so that nothing of it is seen outside. Names carry
this process' id and a random part: several labs can run side by side, each with the same private addresses.

A direction is cut where it ends: the receiving host's routing drops what comes from the other one, in silence, as a
network does. (A blackhole route at the sender would let its own connect() fail at once, which no network does.)
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import threading

CLONE_NEWNET = 0x40000000
SUBNET = "10.77.0"
MAC = "02:00:0a:4d:00:%02x"
LOCAL_PREF, CUT_PREF = 1000, 10  # the table of local addresses is looked at after what is cut

_libc = ctypes.CDLL(None, use_errno=True)
_thread = threading.local()


def is_possible():
    """May this process make network namespaces at all? Tried, not guessed."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name = f"mrprobe-{os.getpid()}-{secrets.token_hex(2)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made


def demand(driver):
    """Ends a driver that can do nothing without them."""
    if not is_possible():
        print(f"{driver}: this needs root and iproute2: network namespaces can't be made here", flush=True)
        sys.exit(1)


def _enter(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    def __init__(self, network, name, number):
        self.network, self.name = network, name
        self.namespace = f"{network.prefix}-{name}"
        self.ip = f"{SUBNET}.{number}"
        self.mac = MAC % number
        self.port = f"v{number}"  # its end of the cable at the bridge

    def __repr__(self):
        return self.name

    def command(self, argv):
        """The command line that runs argv on this host; its process id is that of the program."""
        return ["ip", "netns", "exec", self.namespace, *map(str, argv)]

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is on this host: sockets that it makes belong here, and go on doing so afterwards."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        target = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            _enter(target)
            try:
                yield self
            finally:
                _enter(before)
        finally:
            os.close(target)
            os.close(before)


class Network:
    """The hosts, the bridge, and what is broken between them. close() removes all of it."""

    def __init__(self, names):
        self.prefix = f"mr{os.getpid()}-{secrets.token_hex(2)}"
        self._switch = f"{self.prefix}-sw"
        self.hosts = {name: Host(self, name, number) for number, name in enumerate(names, start=11)}
        self._cuts, self._down = set(), set()
        self._lock = threading.Lock()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name):
        return self.hosts[name]

    @staticmethod
    def _ip(namespace, lines):
        """Runs several commands of ip(8) in one go."""
        run = subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines) + "\n",
                             capture_output=True, text=True, timeout=30, check=False)
        if run.returncode != 0:
            raise OSError(f"ip -n {namespace}: {run.stderr.strip()} ({lines})")

    def _build(self):
        hosts = list(self.hosts.values())
        for namespace in [self._switch, *(host.namespace for host in hosts)]:
            subprocess.run(["ip", "netns", "add", namespace], check=True, capture_output=True)
        self._ip(self._switch, ["link add br0 type bridge", "link set br0 up"])
        for host in hosts:
            self._ip(self._switch, [f"link add {host.port} type veth peer name e0 netns {host.namespace}",
                                    f"link set {host.port} master br0 up"])
            # Neighbours are known for good, as behind a router: a cut is silence, and its end is the end of it.
            self._ip(host.namespace, [
                "link set lo up", f"link set e0 address {host.mac} up", f"addr add {host.ip}/24 dev e0",
                *(f"neigh replace {other.ip} lladdr {other.mac} dev e0 nud permanent"
                  for other in hosts if other is not host),
                f"rule add pref {LOCAL_PREF} lookup local", "rule del pref 0"])
            # A connection must not remember that its peer's packets were welcome once.
            with host.inside(), open("/proc/sys/net/ipv4/ip_early_demux", "w", encoding="ascii") as switch:
                switch.write("0")

    def close(self):
        for namespace in [*(host.namespace for host in self.hosts.values()), self._switch]:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)

    # ---- faults ------------------------------------------------------------------------------------------------

    def _change_cuts(self, verb, directions):
        for receiver in {b.name for _, b in directions}:
            self._ip(self.hosts[receiver].namespace,
                     [f"rule {verb} pref {CUT_PREF} from {a.ip} blackhole"
                      for a, b in directions if b.name == receiver])

    def cut_one_way(self, senders, receivers):
        """What senders send doesn't reach receivers; the other direction is left as it is. Returns what was cut by
        this, for mend()."""
        return self._add_cuts({(a, b) for a in senders for b in receivers if a is not b})

    def cut(self, left, right):
        """Nothing passes between the two groups of hosts."""
        both = [(left, right), (right, left)]
        return self._add_cuts({(a, b) for x, y in both for a in x for b in y if a is not b})

    def _add_cuts(self, directions):
        with self._lock:
            new = directions - self._cuts
            self._change_cuts("add", new)
            self._cuts |= new
            return new

    def isolate(self, group):
        """The group is cut off from all others; within it, all is well."""
        return self.cut(group, [host for host in self.hosts.values() if host not in group])

    def mend(self, directions):
        """These pass again; other cuts stay."""
        with self._lock:
            old = directions & self._cuts
            self._change_cuts("del", old)
            self._cuts -= old

    def link_down(self, host):
        """The host's cable is out."""
        with self._lock:
            self._ip(self._switch, [f"link set {host.port} down"])
            self._down.add(host)

    def link_up(self, host):
        with self._lock:
            self._ip(self._switch, [f"link set {host.port} up"])
            self._down.discard(host)

    def heal(self):
        """Everybody reaches everybody again."""
        with self._lock:
            self._change_cuts("del", self._cuts)
            self._cuts = set()
            for host in list(self._down):
                self._ip(self._switch, [f"link set {host.port} up"])
            self._down = set()

    def is_whole(self):
        return not self._cuts and not self._down
