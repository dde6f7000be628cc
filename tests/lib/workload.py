"""Clients that write without a pause and remember what they were told: the history that history.py judges."""

import itertools
import threading

import resp
from history import FAILED, INCR, NOT_EXECUTED, OK, RPUSH, SADD, SET, UNKNOWN, Op, now_ms
from wait import LIMIT_S, WaitError, wait_until

ANSWER_S = 20  # longer than a proxy holds a request
PAUSE_S = 0.002


class RecordingClient:
    """One thread, one connection, one operation at a time: SET, SADD, RPUSH, INCR in turn, never the same value."""

    def __init__(self, name, host, dial, prefix):
        """dial(): a connection to write on; called inside the host's network whenever there is none."""
        self.name, self.host, self._dial, self._prefix = name, host, dial, prefix
        self.ops = []
        self.acknowledged, self.reconnects = 0, -1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _next(self, number):
        kind = (SET, SADD, RPUSH, INCR)[number % 4]
        value = f"{self.name}.{number}"
        key = {SET: f"{self._prefix}:key:{value}", SADD: f"{self._prefix}:set", RPUSH: f"{self._prefix}:list",
               INCR: f"{self._prefix}:count:{self.name}"}[kind]
        return Op(self.name, self.host.name, kind, key, value, now_ms())

    def _write(self, client, op):
        """Does it; returns whether the connection is still good."""
        try:
            reply = client.call_raw(*op.command())
        except (OSError, ValueError) as error:
            op.outcome, op.error = UNKNOWN, f"connection: {error}"
            return False
        finally:
            op.returned_ms = now_ms()
        if not isinstance(reply, resp.RespError):
            op.outcome = OK
            self.acknowledged += 1
            return True
        op.outcome, op.error = (FAILED if reply.code in NOT_EXECUTED else UNKNOWN), str(reply)
        return self._is_worth_keeping(reply)

    def _is_worth_keeping(self, error):
        del error
        return True  # a proxy mends the connection by itself

    def _run(self):
        with self.host.inside():
            client = None
            for number in itertools.count():
                while client is None and not self._stop.is_set():
                    try:
                        client = self._dial()
                        self.reconnects += 1
                    except (OSError, resp.RespError, LookupError):
                        self._stop.wait(0.02)
                if self._stop.is_set():
                    break
                op = self._next(number)
                good = self._write(client, op)
                self.ops.append(op)
                if not good:
                    client.close()
                    client = None
                self._stop.wait(PAUSE_S)
            if client:
                client.close()

    def wait_more(self, count=20, timeout_s=LIMIT_S):
        """Waits for so many further acknowledged writes."""
        goal = self.acknowledged + count
        try:
            wait_until(lambda: self.acknowledged >= goal, f"{count} more acknowledged writes of {self.name}", timeout_s)
        except WaitError as error:
            raise WaitError(f"{error}; it was told {[op.error for op in self.ops if op.error][-3:]}") from None

    def stop(self):
        self._stop.set()
        self._thread.join(2 * ANSWER_S)
        assert not self._thread.is_alive(), f"{self.name}: a write neither succeeded nor failed"


    def abandon(self):
        """Ends without waiting for what is under way."""
        self._stop.set()


class DirectClient(RecordingClient):
    """An application that connects to the member of which it was told last, as the user that it was told (fence=acl).
    It asks nobody: whoever has told it must tell it again."""

    def __init__(self, name, host, told, password, prefix):
        """told: (member, user)"""
        self._told, self._password = told, password
        self.refused = 0  # logins since it was told
        super().__init__(name, host, self._log_in, prefix)

    def tell(self, member, user):
        self._told, self.refused = (member, user), 0

    def _log_in(self):
        member, user = self._told
        try:
            return resp.logged_in(user, self._password, member.port, member.place.ip, timeout_s=ANSWER_S)
        except resp.RespError as error:
            self.refused += error.code == "WRONGPASS"
            raise


class SentinelClient(RecordingClient):
    """As client libraries are: asks the Sentinels when it has no connection, gives one up that became read-only."""

    def __init__(self, name, host, group, prefix):
        super().__init__(name, host, lambda: self._ask_and_dial(group), prefix)

    @staticmethod
    def _ask_and_dial(group):
        for sentinel in group.addresses():
            ip, port = sentinel.rsplit(":", 1)
            try:
                with resp.Client(int(port), ip, timeout_s=0.2) as asked:
                    named = asked.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", group.NAME)
                return resp.Client(int(named[1]), named[0], timeout_s=1)
            except (OSError, resp.RespError):
                continue
        raise LookupError("no Sentinel answers")

    def _is_worth_keeping(self, error):
        return error.code != "READONLY"


class Workload:
    """Clients on the proxies' hosts; their operations together are one history."""

    def __init__(self, clients):
        self.clients = clients

    @classmethod
    def on_proxies(cls, cluster, port, prefix, per_host=2):
        def dial(proxy):
            return lambda: resp.Client(port, proxy.bind, timeout_s=ANSWER_S)
        return cls([RecordingClient(f"{prefix}-{proxy.id}-{k}", proxy.place, dial(proxy), prefix)
                    for proxy in cluster.proxies for k in range(per_host)])

    @classmethod
    def on_sentinel(cls, group, hosts, prefix, per_host=2):
        return cls([SentinelClient(f"{prefix}-{host.name}-{k}", host, group, prefix)
                    for host in hosts for k in range(per_host)])

    def of(self, *hosts):
        return [c for c in self.clients if c.host in hosts]

    def wait_more(self, count=20, clients=None, timeout_s=LIMIT_S):
        for client in self.clients if clients is None else clients:
            client.wait_more(count, timeout_s)

    def stop(self):
        for client in self.clients:
            client.stop()

    def abandon(self):
        for client in self.clients:
            client.abandon()

    def ops(self):
        return [op for client in self.clients for op in client.ops]

    def longest_gap_ms(self, since_ms, clients=None):
        """The longest time between two acknowledgements of any of these clients that ended after since_ms."""
        longest = 0.0
        for client in self.clients if clients is None else clients:
            times = [op.returned_ms for op in client.ops if op.outcome == OK]
            longest = max([longest, *(b - a for a, b in zip(times, times[1:]) if b >= since_ms)])
        return longest
