"""The proxy's other parts: a lone client's latency, memory of idle and of unread clients, and who suffers from whom."""

import contextlib
import json
import socket
import statistics
import subprocess
import time

import resp
from arms import core_of, open_files, rss_kb
from busy import spinning
from failover import program
from processors import pin
from talk import Talker
from wait import wait_until

SMALL_KEY, LARGE_KEY, BIG_KEY = "bench:small", "bench:large", "bench:big"
LARGE = 1024 * 1024
IDLE_STEPS, IDLE_QUICK = (0, 1000, 9500, 10000), (0, 50, 100)
UNREAD_CLIENTS, UNREAD_EACH = 100, 4
UNREAD_QUICK = 10
SETTLE_S, WATCH_S = 1.0, 3.0
ALONE_MS, NEIGHBOUR_MS = 1000, 2000
NEIGHBOUR_GAP_US = 2000  # long beside what an answer may take: or its requests queue up, and are late for that alone
QUICK_MS = 200
FAIR_REPEATS, FAIR_QUICK_REPEATS = 3, 1
ANSWER_S = 20
BAD_KINDS = ("pipeline", "slow", "big")
BIG_BYTES, BIG_QUICK_BYTES = 512 * 1024 * 1024, 16 * 1024 * 1024
SLOW_DEPTH, PIPELINE_DEPTH = 16, 10000


def neighbour(arm, cpus, duration_ms, gap_us):
    """What neighbour.c measured."""
    run = subprocess.run([str(a) for a in (
        "taskset", "-c", ",".join(map(str, cpus)), program("neighbour"), "--host", arm.host, "--port", arm.port(),
        "--key", SMALL_KEY, "--duration-ms", duration_ms, "--gap-us", gap_us)], capture_output=True, text=True,
        timeout=2 * ANSWER_S + duration_ms / 1000, check=False)
    if run.returncode != 0:
        raise AssertionError(run.stderr or f"neighbour: exit {run.returncode}")
    return json.loads(run.stdout)


def settled_rss_kb(pid, settle_s=SETTLE_S):
    """Its memory once it has not changed for a while; as it is when it never comes to rest."""
    last, since = rss_kb(pid), time.monotonic()
    give_up = since + 10 * settle_s

    def rests():
        nonlocal last, since
        now, value = time.monotonic(), rss_kb(pid)
        if value != last:
            last, since = value, now
        return now - since >= settle_s or now >= give_up
    wait_until(rests, "memory to settle", timeout_s=20 * settle_s)
    return last


def peak_rss_kb(pid, watch_s):
    """The most that is seen within so long."""
    peak, until = 0, time.monotonic() + watch_s

    def is_over():
        nonlocal peak
        peak = max(peak, rss_kb(pid))
        return time.monotonic() >= until
    wait_until(is_over, "the time to pass", timeout_s=watch_s + 10)
    return peak


def medians(accounts):
    """Of what neighbour() said several times."""
    return {"p50_us": statistics.median(a["p50_us"] for a in accounts),
            "p99_us": statistics.median(a["p99_us"] for a in accounts), "errors": sum(a["errors"] for a in accounts)}


def read_exactly(sock, length):
    """True when so many bytes came before the end."""
    while length > 0:
        piece = sock.recv(min(length, 1 << 20))
        if not piece:
            return False
        length -= len(piece)
    return True


def big_bytes(options):
    """Of the value that one client sends while others are measured."""
    return BIG_QUICK_BYTES if options.quick else BIG_BYTES


class Limits:
    """Each part returns a list of dicts, one an arm (and mode, or kind of bad neighbour)."""

    def __init__(self, redis, arms, options, order, tell):
        self.redis, self.arms, self.options, self.order, self.tell = redis, arms, options, order, tell
        with redis.client() as client:
            client.call("SET", SMALL_KEY, "xxx")
            client.call("SET", LARGE_KEY, "x" * LARGE)

    def _served(self):
        """The arms that lead to Redis, in a new order."""
        arms = [arm for arm in self.arms.values() if arm.has_redis and not arm.is_given_up()]
        return self.order.sample(arms, len(arms))

    def _try(self, arm, what, work):
        """work()'s result; None, and the reason kept, when it fails."""
        try:
            return work()
        except (OSError, AssertionError, ValueError, LookupError, subprocess.SubprocessError) as error:
            self.tell(arm.failed(what, error))
            return None

    def _unpin(self, mode="unpinned"):
        pin(self.redis.process.pid, core_of(mode, "redis"))
        for arm in self._served():
            arm.pin(mode)

    # ---- a lone client -----------------------------------------------------------------------------------------

    def latency(self):
        """GET of 3 B, one client: what each arm adds to a direct connection."""
        duration_ms = QUICK_MS if self.options.quick else ALONE_MS
        found = {}
        for _ in range(self.options.repeats):
            for mode in self.options.modes:
                if mode == "onecore":
                    continue
                self._unpin(mode)
                for arm in self._served():
                    account = self._try(arm, f"{mode} latency", lambda a=arm, m=mode: neighbour(
                        a, core_of(m, "client"), duration_ms, 0))
                    if account:
                        found.setdefault((mode, arm.name), []).append(account)
        self._unpin()
        return [{"mode": mode, "arm": name, **medians(accounts)} for (mode, name), accounts in found.items()]

    # ---- memory ------------------------------------------------------------------------------------------------

    def _idle_steps(self, arm):
        """What the limit of open files leaves of them."""
        steps = IDLE_QUICK if self.options.quick else IDLE_STEPS
        fitting = [step for step in steps if step <= arm.most_clients()]
        if fitting != list(steps):
            self.tell(f"idle: {arm.title} is only given {fitting[-1]} clients: {open_files()} files may be open")
        return fitting

    def idle(self):
        """RSS with so many clients, each of which has asked once and is silent since."""
        rows = []
        for arm in self._served():
            if arm.pid() is not None:
                row = self._try(arm, "idle clients", lambda a=arm: self._idle_one(a, self._idle_steps(a)))
                rows += [row] if row else []
        return rows

    def _idle_one(self, arm, steps):
        request, rss = resp.encode("GET", SMALL_KEY), {}
        with contextlib.ExitStack() as clients:
            count = 0
            for step in steps:
                while count < step:
                    client = clients.enter_context(socket.create_connection((arm.host, arm.port()), ANSWER_S))
                    client.sendall(request)
                    if client.recv(64) != b"$3\r\nxxx\r\n":
                        raise AssertionError(f"client {count + 1} was not answered")
                    count += 1
                rss[step] = settled_rss_kb(arm.pid(), 0.1 if self.options.quick else SETTLE_S)
        wait_until(lambda: int(self.redis.info("clients")["connected_clients"]) < 50, "Redis to see them off")
        return {"arm": arm.name, "rss_kb": rss}

    def slow(self):
        """RSS while many clients have large replies due and don't read; then they read, and get them all."""
        count, rows = UNREAD_QUICK if self.options.quick else UNREAD_CLIENTS, []
        for arm in self._served():
            row = self._try(arm, "clients that don't read", lambda a=arm: self._slow_one(a, count))
            rows += [row] if row else []
        return rows

    def _slow_one(self, arm, count):
        pid = arm.pid(LARGE) or self.redis.process.pid
        before, request = rss_kb(pid), UNREAD_EACH * resp.encode("GET", LARGE_KEY)
        reply_bytes = UNREAD_EACH * len(b"$%d\r\n%s\r\n" % (LARGE, b"x" * LARGE))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection((arm.host, arm.port(LARGE)), ANSWER_S))
                       for _ in range(count)]
            for client in clients:
                client.sendall(request)
            peak = peak_rss_kb(pid, 0.3 if self.options.quick else WATCH_S)
            served = sum(self._reads_all(client, reply_bytes) for client in clients)
        return {"arm": arm.name, "clients": count, "each": UNREAD_EACH, "before_kb": before, "peak_kb": peak,
                "served": served}

    @staticmethod
    def _reads_all(client, length):
        try:
            return read_exactly(client, length)
        except OSError:
            return False

    # ---- neighbours --------------------------------------------------------------------------------------------

    def fairness(self):
        """The p99 of a client that asks 500 times a second: alone, then beside each kind of bad neighbour."""
        self._unpin()
        found = {}
        for _ in range(FAIR_QUICK_REPEATS if self.options.quick else FAIR_REPEATS):
            for arm in self._served():
                for kind in (None, *BAD_KINDS):
                    account = self._try(arm, f"beside {kind or 'nobody'}", lambda a=arm, k=kind: self._beside(a, k))
                    if account:
                        found.setdefault((arm.name, kind), []).append(account)
        return self._fairness_rows(found)

    @staticmethod
    def _fairness_rows(found):
        rows = []
        for (name, kind), accounts in found.items():
            quiet = found.get((name, None))
            typical = medians(accounts)
            rows.append({
                "arm": name, "beside": kind or "quiet", **typical, "max_us": max(a["max_us"] for a in accounts),
                "x_quiet": typical["p99_us"] / medians(quiet)["p99_us"] if quiet else None,
                "moved_mb_per_s": statistics.median(a["moved_mb_per_s"] for a in accounts)})
        return rows

    def _beside(self, arm, kind):
        duration_ms = QUICK_MS if self.options.quick else NEIGHBOUR_MS
        cpus = core_of("unpinned", "client")
        if kind is None:
            return {**neighbour(arm, cpus, duration_ms, NEIGHBOUR_GAP_US), "moved_mb_per_s": 0.0}
        key, depth = {"pipeline": (SMALL_KEY, PIPELINE_DEPTH), "slow": (LARGE_KEY, SLOW_DEPTH),
                      "big": (BIG_KEY, 1)}[kind]
        # A client has one port for everything: the one for small values.
        bad = Talker(self.redis.sandbox, [
            program("bad_neighbour"), "--host", arm.host, "--port", arm.port(), "--kind", kind, "--key", key,
            "--depth", depth, "--bytes", big_bytes(self.options)], f"bad-{kind}-{arm.name}")
        began = time.monotonic()
        try:
            bad.hear("busy", ANSWER_S)
            account = neighbour(arm, cpus, duration_ms, NEIGHBOUR_GAP_US)
            moved = bad.ask("quit", "moved", ANSWER_S)
        finally:
            bad.close()
            with self.redis.client() as client:
                client.call("UNLINK", BIG_KEY)
        if moved["errors"] or moved["sent_bytes"] == 0:
            raise AssertionError(f"the bad neighbour got {moved['errors']} errors of {moved['answers']} answers")
        account["moved_mb_per_s"] = (moved["sent_bytes"] + moved["taken_bytes"]) / 1e6 / (time.monotonic() - began)
        return account

    # ---- a busy host -------------------------------------------------------------------------------------------

    def busy(self):
        """The same client while each processor has something else to do, too."""
        self._unpin()
        cpus = core_of("unpinned", "client")
        found = {}
        for _ in range(FAIR_QUICK_REPEATS if self.options.quick else self.options.repeats):
            for arm in self._served():
                with spinning(len(cpus)):
                    account = self._try(arm, "on a busy host", lambda a=arm: neighbour(
                        a, cpus, QUICK_MS if self.options.quick else NEIGHBOUR_MS, NEIGHBOUR_GAP_US))
                if account:
                    found.setdefault(arm.name, []).append(account)
        return [{"arm": name, **medians(accounts)} for name, accounts in found.items()]
