"""One controller and 1,000 instances of three members, which one program pretends (resp_responder.c).

Measured: time to adopt them, the controller's CPU while nothing happens, its memory, the outage of a client whose
master dies among all the others, 20 masters at once, and the time to be useful again after a restart.
"""

import http.client
import json
import os
import resource
import statistics
import time

from cluster import Cluster
from failover import program
from servers import ZooKeeper
from talk import Talker, poll

MEMBERS = 3
AT_ONCE = 20
IDLE_S, IDLE_QUICK_S = 20, 3
ADOPT_S = 600
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def stat(pid):
    """The fields of /proc/PID/stat after the program's name: state, parent, …"""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")", 1)[1].split()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return [int(child) for child in file.read().split()]


def cpu_s(pids):
    return sum(int(field) for pid in pids for field in stat(pid)[11:13]) / TICKS


def rss_mb(pids):
    return sum(int(stat(pid)[21]) for pid in pids) * PAGE / 1e6


class World:
    """The pretended members, a controller, a proxy, and what is known about them."""

    def __init__(self, sandbox, n_instances):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.sandbox, self.n_instances = sandbox, n_instances
        self.responder = Talker(sandbox, [program("resp_responder"), "--instances", n_instances, "--members", MEMBERS])
        self.members = self.responder.hear("ready")["instances"]  # ports; the first is the master's
        self.ports = []  # of the proxies, by instance
        self.cluster = Cluster(sandbox, ZooKeeper(sandbox), "/mr-scale", controllers=1, proxies=1,
                               instance_ports=n_instances, log_level="warn")
        self.controller = self.cluster.controllers[0]

    def pids(self):
        pid = self.controller.process.pid
        return [pid, *children(pid)]

    def adopt_all(self):
        """One after the other, as an operator's script would."""
        server = http.client.HTTPConnection("127.0.0.1", self.controller.http_port)
        for number, ports in enumerate(self.members):
            server.request("POST", "/v1/instances",
                           json.dumps({"name": f"i{number}", "adopt": f"127.0.0.1:{ports[0]}"}))
            answer = server.getresponse()
            text = answer.read().decode()
            if answer.status != 201:
                raise AssertionError(f"i{number} was not adopted: {answer.status} {text}")
            self.ports.append(json.loads(text)["port"])
        server.close()
        self.wait_complete()

    def wait_complete(self):
        """Every instance is stable with all its members up and linked."""
        def complete():
            instances = self.controller.topology()["instances"]
            return (len(instances) == self.n_instances
                    and all(i["state"] == "stable" and len(i["members"]) == MEMBERS
                            and all(m["state"] == "up" for m in i["members"]) for i in instances))
        poll(complete, "every instance to be stable with its members up", ADOPT_S, pause_s=0.25)

    def idle_cpu(self, seconds):
        """CPU of the controller and of the responder, percent of one core, while nothing happens."""
        ours, theirs, zero = cpu_s(self.pids()), cpu_s([self.responder.pid]), time.monotonic()
        time.sleep(seconds)  # The span is what is measured, no condition is awaited.
        span = time.monotonic() - zero
        return (100 * (cpu_s(self.pids()) - ours) / span,
                100 * (cpu_s([self.responder.pid]) - theirs) / span)

    def kill(self, numbers):
        """Kills those instances' masters at once; {instance: milliseconds until its promotion}."""
        self.responder.forget()
        owner = {port: number for number in numbers for port in self.members[number]}
        self.responder.order("kill " + " ".join(str(self.members[number][0]) for number in numbers))
        killed_us = self.responder.hear("killed")["at_us"]
        took = {}
        while len(took) < len(numbers):
            promoted = self.responder.hear("promoted")
            if promoted["port"] in owner:
                took[owner[promoted["port"]]] = (promoted["at_us"] - killed_us) / 1000
        return took

    def revive(self, numbers):
        """Starts the killed again, empty; waits until the controller took them back."""
        self.responder.ask("start " + " ".join(str(self.members[number][0]) for number in numbers), "started")
        self.wait_complete()
        state = {i["name"]: i for i in self.controller.topology()["instances"]}
        for number in numbers:
            self.acknowledge(number)
            master = int(state[f"i{number}"]["master"].rsplit(":", 1)[1])
            self.members[number].sort(key=lambda port, first=master: port != first)

    def acknowledge(self, number):
        """The kills follow each other faster than the cooldown after a failover allows."""
        server = http.client.HTTPConnection("127.0.0.1", self.controller.http_port)
        server.request("POST", f"/v1/instances/i{number}/ack", json.dumps({"by": "bench"}))
        answer = server.getresponse()
        text = answer.read().decode()
        server.close()
        assert answer.status == 200, text

    def instance(self, number):
        """That one alone: the whole topology is a large answer to ask for while something is measured."""
        status, value = self.controller.get(f"/v1/instances/i{number}")
        assert status == 200, value
        return value

    def wait_replaced(self, number):
        """The instance is stable under another master than the one killed."""
        dead = f"127.0.0.1:{self.members[number][0]}"

        def replaced():
            state = self.instance(number)
            return state["state"] == "stable" and state["master"] != dead
        poll(replaced, f"the failover of i{number} to be finished")

    def restart(self):
        """Seconds from the controller's start to: leader, every instance with its members up."""
        self.controller.process.stop()
        zero = time.monotonic()
        self.controller.start()
        self.cluster.leader()
        led = time.monotonic() - zero
        self.wait_complete()
        return led, time.monotonic() - zero


def measure_single(world, options):
    """The outage of a client behind the proxy, one instance among all, several times."""
    number = world.n_instances // 2
    proxy = world.cluster.proxies[0]
    client = Talker(world.sandbox, [program("outage_client"), "--host", proxy.bind, "--port", world.ports[number],
                                    "--gap-us", options.gap_us])
    outages, promotions, reconnects = [], [], 0
    for _ in range(options.kills):
        client.ask("begin", "begun")
        promotions.append(world.kill([number])[number])
        world.wait_replaced(number)
        account = client.ask("end", "round")
        outages.append(account["outage_us"] / 1000)
        reconnects += account["reconnects"]
        world.revive([number])
    client.close()
    return {"outages_ms": outages, "promotions_ms": promotions, "reconnects": reconnects}


def measure_scale(sandbox, options, tell):
    zero = time.monotonic()
    world = World(sandbox, options.instances)
    tell(f"scale: adopting {options.instances} instances")
    world.adopt_all()
    adopted_s = time.monotonic() - zero
    tell("scale: idle")
    cpu, responder_cpu = world.idle_cpu(IDLE_QUICK_S if options.quick else IDLE_S)
    tell(f"scale: {options.kills} kills of one master")
    single = measure_single(world, options)
    some = list(range(min(AT_ONCE, options.instances // 2)))
    tell(f"scale: {len(some)} masters at once")
    together = list(world.kill(some).values())
    world.revive(some)
    led_s, complete_s = world.restart()
    return {"instances": options.instances, "members": MEMBERS, "adopted_s": adopted_s, "idle_cpu_percent": cpu,
            "responder_cpu_percent": responder_cpu, "rss_mb": rss_mb(world.pids()), "single": single,
            "together_ms": together, "restart_leader_s": led_s, "restart_complete_s": complete_s}


def spread(values):
    return f"median {statistics.median(values):.1f}, min {min(values):.1f}, max {max(values):.1f} ms"


def scale_lines(r):
    yield f"one controller, {r['instances']} instances x {r['members']} members"
    yield (f"  idle CPU                  {r['idle_cpu_percent']:.1f} % of a core "
           f"(the pretended members: {r['responder_cpu_percent']:.1f} %)")
    yield f"  RSS                       {r['rss_mb']:.0f} MB, publisher included"
    yield f"  adopted in                {r['adopted_s']:.1f} s"
    yield f"  one failover, the client  {spread(r['single']['outages_ms'])}; reconnects {r['single']['reconnects']}"
    yield f"  one failover, promotion   {spread(r['single']['promotions_ms'])}"
    yield f"  {len(r['together_ms'])} at once, promotion     {spread(r['together_ms'])}"
    yield (f"  restart                   leads after {r['restart_leader_s']:.2f} s, "
           f"complete after {r['restart_complete_s']:.2f} s")
