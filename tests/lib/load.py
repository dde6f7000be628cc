"""Constant writes through a port, and what became of each: the client's view of a failover."""

import threading
import time

import resp
from wait import LIMIT_S, wait_until


class Writer:
    """A thread that sets prefix:0, prefix:1, … one at a time until stop(). Errors and broken connections are
    counted; it goes on with the next key."""

    def __init__(self, port, host="127.0.0.1", prefix="w", password=None):
        self._where, self._prefix, self._password = (port, host), prefix, password
        self.acknowledged, self.errors = [], []
        self.connections = 0
        self.longest_gap_ms = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _connect(self):
        client = resp.Client(*self._where)
        self.connections += 1
        if self._password:
            client.call("AUTH", self._password)
        return client

    def _run(self):
        client, last_ok, number = None, None, 0
        while not self._stop.is_set():
            key = f"{self._prefix}:{number}"
            number += 1
            try:
                client = client or self._connect()
                client.call("SET", key, number)
            except resp.RespError as error:
                self.errors.append(str(error))
                continue
            except OSError as error:
                self.errors.append(f"connection: {error}")
                if client:
                    client.close()
                client = None
                self._stop.wait(0.005)
                continue
            now = time.monotonic()
            if last_ok is not None:
                self.longest_gap_ms = max(self.longest_gap_ms, (now - last_ok) * 1000)
            last_ok = now
            self.acknowledged.append(key)
        if client:
            client.close()

    def wait_more(self, count=50):
        """Waits for so many further acknowledged writes."""
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal, f"{count} more acknowledged writes; errors {self.errors[-3:]}")

    def stop(self):
        self._stop.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "a write neither succeeded nor failed"

    def missing(self, redis):
        """Acknowledged keys that the server does not have."""
        with redis.client() as client:
            found = client.pipeline([("EXISTS", key) for key in self.acknowledged])
        return [key for key, exists in zip(self.acknowledged, found) if exists != 1]
