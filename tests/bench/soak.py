"""A long run with everything that is not a reason to fail over: forks, slow scripts, stalls, a busy disk, no CPU.

Two clients write all the time. What is done to the master lasts less than the limits (unreachable_after_ms 1500,
hung_after_ms 3000), or is answered meanwhile. Any new epoch is a false failover.
"""

import os
import random
import subprocess
import time

from busy import spinning
from failover import program
from lab import Lab
from resp import RespError
from talk import Talker, poll
from wait import wait_while

FILL_KEYS, FILL_BYTES = 200_000, 1000  # 200 MB in each member: a fork has something to copy
SILENT_SCRIPT_S, ANSWERED_SCRIPT_S = 1.0, 5.0
STALL_S = 1.0
LOAD_S = 8
DISK_MB, DISK_WRITES = 256, 4
PAUSE_S = 1.0

SPIN = "for i = 1, tonumber(ARGV[1]) do end return 1"
SPIN_SAMPLE = 2_000_000  # turns of it that take some milliseconds: from them the others are reckoned


def spin(client, duration_s):
    """A script that takes about so long. Redis' scripts have no clock."""
    began = time.monotonic()
    client.call("EVAL", SPIN, 0, SPIN_SAMPLE)
    turns_per_s = SPIN_SAMPLE / (time.monotonic() - began)
    client.call("EVAL", SPIN, 0, int(turns_per_s * duration_s))


class Soak:
    def __init__(self, lab, tell):
        self.lab, self.tell = lab, tell
        self.counts, self.failovers, self.longest = {}, 0, {}
        self.epoch = lab.instance.epoch()
        argv = [program("outage_client"), "--host", lab.cluster.proxies[0].bind, "--port", lab.instance.port,
                "--gap-us", 500]
        self.client = Talker(lab.sandbox, lab.host("p1").command(argv), name="soak client")

    def master(self):
        return self.lab.instance.master()

    # ---- what is done ------------------------------------------------------------------------------------------

    def fork(self):
        """A snapshot while writes go on: a fork, and copies of pages."""
        with self.master().client() as client:
            client.call_raw("BGSAVE")
            poll(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot to end")

    def silent_script(self):
        """Nothing is answered, for less than the limit."""
        with self.master().client() as client:
            client.call("CONFIG", "SET", "busy-reply-threshold", "60000")
            spin(client, SILENT_SCRIPT_S)

    def answered_script(self):
        """-BUSY is an answer, however long."""
        with self.master().client() as client:
            client.call("CONFIG", "SET", "busy-reply-threshold", "100")
            spin(client, ANSWERED_SCRIPT_S)
            client.call("CONFIG", "SET", "busy-reply-threshold", "60000")

    def stall(self):
        """The process stands still, as one does that waits for its disk."""
        master = self.master()
        master.suspend()
        try:
            wait_while(lambda: True, "time", STALL_S)
        finally:
            master.resume()

    def busy_disk(self):
        """fsync after fsync on the disk of the append-only files, which are synchronized at every write."""
        with self.master().client() as client:
            client.call("CONFIG", "SET", "appendonly", "yes")
            client.call("CONFIG", "SET", "appendfsync", "always")
            path = self.master().folder / "ballast"
            try:
                for _ in range(DISK_WRITES):
                    subprocess.run(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={DISK_MB}", "conv=fsync"],
                                   stderr=subprocess.DEVNULL, check=True)
            finally:
                path.unlink(missing_ok=True)
            client.call("CONFIG", "SET", "appendonly", "no")

    def no_cpu(self):
        """Two busy processes for each processor."""
        with spinning(2 * (os.cpu_count() or 1)):
            wait_while(lambda: True, "time", LOAD_S)

    KINDS = (fork, silent_script, answered_script, stall, busy_disk, no_cpu)

    # ---- the run -----------------------------------------------------------------------------------------------

    def one(self, kind):
        name = kind.__name__
        self.client.ask("begin", "begun")
        try:
            kind(self)
        except (RespError, OSError) as error:
            if self.lab.instance.epoch() == self.epoch:
                raise
            self.tell(f"soak: {name} was cut short: {error}")  # by the failover that is counted below
        wait_while(lambda: True, "time", PAUSE_S)
        account = self.client.ask("end", "round")
        self.counts[name] = self.counts.get(name, 0) + 1
        self.longest[name] = max(self.longest.get(name, 0.0), account["outage_us"] / 1000)
        epoch = self.lab.instance.epoch()
        if epoch != self.epoch:
            verdict = self.lab.instance.state()["last_failover"]["verdict"]
            self.tell(f"soak: FALSE FAILOVER after {name}: epoch {self.epoch} -> {epoch}, {verdict}")
            self.failovers += epoch - self.epoch
            self.epoch = epoch
            self.lab.wait_ready()
            self.lab.lift_restraint()

    def run(self, minutes, seed):
        order, until = random.Random(seed), time.monotonic() + minutes * 60
        while time.monotonic() < until:
            kinds = list(self.KINDS)
            order.shuffle(kinds)
            for kind in kinds:
                self.one(kind)
            self.tell(f"soak: {sum(self.counts.values())} disturbances, {self.failovers} false failovers, "
                      f"{max(0.0, until - time.monotonic()) / 60:.1f} minutes left")
        total = self.client.ask("quit", "total")
        self.client.close()
        return {"minutes": minutes, "seed": seed, "disturbances": self.counts, "false_failovers": self.failovers,
                "longest_ms": self.longest, "writes": total["writes"], "errors": total["errors"],
                "reconnects": total["reconnects"]}


def measure_soak(sandbox, options, tell):
    lab = Lab(sandbox, disk_root=options.disk)
    for member in lab.instance.members:
        member.call("DEBUG", "POPULATE", FILL_KEYS, "fill", FILL_BYTES)
    lab.wait_ready()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    tell(f"soak: seed {seed}, {options.minutes} minutes")
    return Soak(lab, tell).run(options.minutes, seed)


def soak_lines(result):
    yield f"soak of {result['minutes']} minutes, seed {result['seed']}: {result['writes']} writes, errors " + (
        ", ".join(f"{kind} {count}" for kind, count in sorted(result["errors"].items())) or "none")
    for kind, count in sorted(result["disturbances"].items()):
        yield f"  {kind:<16} {count:>4} times, longest wait of a client {result['longest_ms'][kind]:.0f} ms"
    met = result["false_failovers"] == 0
    yield f"  {'met   ' if met else 'MISSED'}  no false failover ({result['false_failovers']})"
