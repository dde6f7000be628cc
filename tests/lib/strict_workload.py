"""Clients that write and read in every way that durability strict must cover, and remember what they were told.

Each has a connection of its own. It sets a register and counts a counter that nobody else does, adds to lists that all
share (alone, in a transaction, by a script, many at once in a pipeline), and reads what the others write. What it does is
its seed's choice; strict_history.py judges."""

import itertools
import random
import threading

import resp
from history import FAILED, INCR, NOT_EXECUTED, OK, RPUSH, SET, UNKNOWN, now_ms
from strict_history import EVAL, GET, LRANGE, MULTI, READS, SCRIPT, Step, twin
from wait import LIMIT_S, WaitError, wait_until
from workload import ANSWER_S

PAUSE_S = 0.003
ASK_MS, SENTINEL_S, SILENCE_S = 100.0, 0.2, 1.0  # of Sentinel's clients: how often, and how long they wait for an answer
BURST = (4, 12)
CHOICE = (SET, RPUSH, INCR, MULTI, EVAL, "burst", GET, LRANGE)
WEIGHTS = (30, 14, 8, 7, 7, 8, 18, 8)
NEVER_EXECUTED = NOT_EXECUTED | {"EXECABORT"}


class Client:
    """One thread, one connection."""

    def __init__(self, name, host, dial, prefix, names, seed):
        """dial(): a connection, called on the host whenever there is none; names: of all clients of the round."""
        self.name, self.host, self._dial, self._prefix, self._names = name, host, dial, prefix, names
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self.ops, self.acknowledged = [], 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # ---- what it does ------------------------------------------------------------------------------------------

    def _step(self, kind):
        value = "" if kind in READS else f"{self.name}.{next(self._numbers)}"
        key = {SET: f"reg:{self.name}", INCR: f"count:{self.name}", GET: f"reg:{self._random.choice(self._names)}",
               MULTI: "pair", EVAL: "pair"}.get(kind, f"list:{self._random.randrange(2)}")
        return Step(self.name, self.host.name, kind, f"{self._prefix}:{key}", value, now_ms())

    def _do(self, client):
        """One thing, or a burst of them. Returns whether the connection is still good."""
        kind = self._random.choices(CHOICE, WEIGHTS)[0]
        if kind == "burst":
            steps = [self._step(self._random.choice((SET, RPUSH, GET))) for _ in range(self._random.randint(*BURST))]
        else:
            steps = [self._step(kind)]
        self.ops += steps
        try:
            if kind == MULTI:
                replies = [self._transact(client, steps[0])]
            elif kind == EVAL:
                step = steps[0]
                replies = [client.call_raw("EVAL", SCRIPT, 2, step.key, twin(step.key), step.value)]
            else:
                client.send_raw(b"".join(resp.encode(*s.command()) for s in steps))
                replies = (client.read() for _ in steps)
            for step, reply in zip(steps, replies):
                self._take(step, reply)
        except (OSError, ValueError) as error:
            for step in steps:
                if step.returned_ms == 0.0:
                    step.error, step.returned_ms = f"connection: {error}", now_ms()
            return False
        return not any(self._is_moved(s) for s in steps)

    @staticmethod
    def _transact(client, step):
        """The rest is sent only when MULTI was heard: without, it would be executed at once."""
        begun = client.call_raw("MULTI")
        if isinstance(begun, resp.RespError):
            return begun if begun.code in NEVER_EXECUTED else resp.RespError(f"EXECABORT {begun}")
        replies = client.pipeline([("RPUSH", step.key, step.value), ("RPUSH", twin(step.key), step.value), ("EXEC",)])
        return replies[-1]

    def _take(self, step, reply):
        step.returned_ms = now_ms()
        if isinstance(reply, resp.RespError):
            step.outcome = FAILED if reply.code in NEVER_EXECUTED else UNKNOWN
            step.error = str(reply)
            return
        step.outcome = OK
        if step.kind in READS:
            step.seen = tuple(reply or ()) if step.kind == LRANGE else (reply,) if reply else ()
        else:
            self.acknowledged += 1

    def _is_moved(self, step):
        """Is the connection to be given up? A proxy mends it by itself."""
        del step
        return False

    def _is_current(self, client):
        """Does it still lead where it should? Asked before each step."""
        del client
        return True

    # ---- its life ----------------------------------------------------------------------------------------------

    def _run(self):
        with self.host.inside():
            client = None
            while not self._stop.is_set():
                if client is None:
                    try:
                        client = self._dial()
                    except (OSError, resp.RespError, LookupError):
                        self._stop.wait(0.02)
                        continue
                if not self._is_current(client) or not self._do(client):
                    client.close()
                    client = None
                self._stop.wait(PAUSE_S)
            if client:
                client.close()

    def wait_more(self, count, timeout_s=LIMIT_S):
        """Waits for so many further acknowledged writes."""
        goal = self.acknowledged + count
        try:
            wait_until(lambda: self.acknowledged >= goal, f"{count} more acknowledged writes of {self.name}", timeout_s)
        except WaitError as error:
            raise WaitError(f"{error}; it was told {[op.error for op in self.ops if op.error][-3:]}") from None

    def stop(self):
        self._stop.set()

    def join(self):
        self._thread.join(2 * ANSWER_S)
        assert not self._thread.is_alive(), f"{self.name}: a request neither succeeded nor failed"


class WatchedClient(Client):
    """As good a client of Sentinel as there is: it writes only to who calls itself a master, leaves one that became
    read-only, and asks a Sentinel again and again whether the master is another one now."""

    def __init__(self, group, name, host, prefix, names, seed):
        self._group, self._asked, self._asked_ms, self._sentinels = group, None, 0.0, itertools.cycle(group.addresses())
        super().__init__(name, host, self._dial_master, prefix, names, seed)

    def _named(self):
        """The master as a Sentinel names it; the next one is asked when it doesn't answer. Or LookupError."""
        for _ in self._group.addresses():
            try:
                if self._asked is None:
                    ip, port = next(self._sentinels).rsplit(":", 1)
                    self._asked = resp.Client(int(port), ip, timeout_s=SENTINEL_S)
                ip, port = self._asked.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._group.NAME)
                return int(port), ip
            except (OSError, resp.RespError):
                if self._asked:
                    self._asked.close()
                self._asked = None
        raise LookupError("no Sentinel answers")

    def _dial_master(self):
        client = resp.Client(*self._named(), timeout_s=SILENCE_S)
        if client.call("ROLE")[0] == "master":
            return client
        client.close()
        raise LookupError("it is no master")

    def _is_current(self, client):
        if now_ms() - self._asked_ms < ASK_MS:
            return True
        self._asked_ms = now_ms()
        try:
            port, ip = self._named()
        except LookupError:
            return True
        return client.address == (ip, port)

    def _is_moved(self, step):
        return step.error.startswith("READONLY")


class Clients:
    """`per_host` on each proxy's host; their steps together are one history."""

    def __init__(self, hosts, dial_on, prefix, seed, per_host=4, client=Client):
        """dial_on(number of the host): dials there."""
        places = [(f"{host.name}-{k}", number, host) for number, host in enumerate(hosts) for k in range(per_host)]
        names = [name for name, _number, _host in places]
        self.all = [client(name, host, dial_on(number), prefix, names, f"{seed}/{name}")
                    for name, number, host in places]

    @classmethod
    def on_proxies(cls, cluster, port, prefix, seed):
        def dial_on(number):
            return lambda: resp.Client(port, cluster.proxies[number].bind, timeout_s=ANSWER_S)
        return cls([proxy.place for proxy in cluster.proxies], dial_on, prefix, seed)

    @classmethod
    def on_sentinel(cls, group, hosts, prefix, seed):
        def make(name, host, _dial, prefix, names, seed):
            return WatchedClient(group, name, host, prefix, names, seed)
        return cls(hosts, lambda _number: None, prefix, seed, client=make)

    def wait_more(self, count, timeout_s=LIMIT_S):
        for client in self.all:
            client.wait_more(count, timeout_s)

    def stop(self):
        for client in self.all:
            client.stop()
        for client in self.all:
            client.join()

    def abandon(self):
        """After a failure: they end; what they say of it doesn't matter any more."""
        for client in self.all:
            client.stop()

    def ops(self):
        return [op for client in self.all for op in client.ops]
