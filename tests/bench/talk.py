"""A program of this folder that takes orders on stdin and answers with JSON lines on stdout."""

import collections
import json
import subprocess
import threading
import time

PATIENCE_S = 120


class TalkError(AssertionError):
    """A program did not answer as it should."""


class Talker:
    def __init__(self, sandbox, argv, name=None):
        self.name = name or str(argv[0]).rsplit("/", 1)[-1]
        self._log = (sandbox.folder / f"{self.name}.log").open("ab")
        self._child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=self._log, text=True, bufsize=1)
        self._said = collections.deque()
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        sandbox.at_close(self.close)

    @property
    def pid(self):
        return self._child.pid

    def _read(self):
        for line in self._child.stdout:
            with self._news:
                self._said.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def order(self, line):
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def hear(self, event, timeout_s=PATIENCE_S):
        """The oldest unheard line about that event; waits for it. Others stay unheard."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for said in self._said:
                    if said["event"] == event:
                        self._said.remove(said)
                        return said
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise TalkError(f"{self.name} {'ended' if self._ended else 'is silent'}; awaited: {event}")
                self._news.wait(left)

    def ask(self, order, event, timeout_s=PATIENCE_S):
        self.order(order)
        return self.hear(event, timeout_s)

    def forget(self):
        """Drops what was said so far."""
        with self._news:
            self._said.clear()

    def close(self):
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._reader.join()
        self._child.stdin.close()
        self._child.stdout.close()
        self._log.close()


def poll(condition, what, timeout_s=PATIENCE_S, pause_s=0.05):
    """As wait_until, but seldom enough not to disturb what is measured meanwhile."""
    deadline = time.monotonic() + timeout_s
    while True:
        last = None
        try:
            value = condition()
            if value:
                return value
        except (OSError, AssertionError, ValueError, KeyError, StopIteration) as error:
            last = error
        if time.monotonic() >= deadline:
            raise TalkError(f"waited in vain for {what} ({timeout_s} s){f'; {last!r}' if last else ''}")
        time.sleep(pause_s)
