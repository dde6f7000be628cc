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
from workload import ANSWER_S, SentinelClient

PAUSE_S = 0.003
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
                if not self._do(client):
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
    """As client libraries for Sentinel are: a connection that became read-only is given up."""

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
        return cls(hosts, lambda _number: lambda: SentinelClient.ask_and_dial(group), prefix, seed,
                   client=WatchedClient)

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
