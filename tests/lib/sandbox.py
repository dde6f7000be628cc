"""A folder, ports and processes for one test; closing it leaves nothing behind.

Every process is ended when the sandbox closes, whatever happened. One that ended by itself, unasked, is a failure:
a crashed proxy must not hide behind a test that passed.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from wait import SLOWNESS, wait_until

TOP = Path(__file__).resolve().parent.parent.parent
LOG_TAIL_LINES = 40
LEAK_CHECKER_ON_ITSELF = re.compile(r"==\d+==Unable to get registers from thread \d+\.")


def end_as_by_ctrl_c():
    """A driver's way out: when it is told to end, or its terminal goes, it ends what it has started, too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def run_driver(main, tell):
    """The whole of a driver, whose main(arguments) returns its exit status. One that is stopped tells so: 130."""
    end_as_by_ctrl_c()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        tell("stopped")
        sys.exit(130)


class Ports:
    """Free TCP ports of 127.0.0.1, kept reserved until close().

    Each is held by a bound socket that does not listen. It is bound exclusively, so the port was free and the kernel
    gives it to nobody else; then it is marked reusable, so that the server it is meant for can bind it (and bind it
    again after a restart). Until then a connection to it is refused, as it should be."""

    def __init__(self):
        self._held = []

    def _hold(self, port):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            held.close()
            return None
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return held

    def one(self):
        held = self._hold(0)
        self._held.append(held)
        return held.getsockname()[1]

    def block(self, count):
        """The first of `count` free ports in a row, below the kernel's own range."""
        while True:
            first = random.randrange(10000, 32000 - count)
            block = [self._hold(port) for port in range(first, first + count)]
            self._held += [held for held in block if held]
            if all(block):
                return first

    def close(self):
        for held in self._held:
            held.close()
        self._held = []


class Process:
    """A child with its log file."""

    def __init__(self, name, argv, log, env=None, cwd=None):
        self.name, self.argv, self.log = name, [str(a) for a in argv], Path(log)
        self.ended_by_us = False
        with open(self.log, "ab") as out:
            self._child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
                                           env={**os.environ, **(env or {})})

    @property
    def pid(self):
        return self._child.pid

    @property
    def exit_status(self):
        """None while it runs; -N when signal N ended it."""
        return self._child.poll()

    def signal(self, number):
        self._child.send_signal(number)

    def kill(self):
        """SIGKILL: a crash."""
        self.ended_by_us = True
        if self.exit_status is None:
            self._child.kill()
        self._child.wait()

    def stop(self, timeout_s=30 * SLOWNESS):
        """SIGTERM; returns the exit status. One that does not end in time is killed, which is an error."""
        self.ended_by_us = True
        if self.exit_status is None:
            # A stopped process could not act on the signal.
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout_s:.0f} s of SIGTERM") from None

    def wait(self, timeout_s=30 * SLOWNESS):
        """Waits for it to end by itself, as it is expected to; returns the exit status."""
        self.ended_by_us = True
        return self._child.wait(timeout_s)

    def log_text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")


class Sandbox:
    def __init__(self):
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="mr-test-", dir=base))
        self.ports = Ports()
        self.processes = []
        self._closers = []

    def start(self, name, argv, env=None):
        """Starts a child that logs to <folder>/<name>.log (appended to when it was started before)."""
        process = Process(name, argv, self.folder / f"{name}.log",
                          env={**sanitizer_environment(self.folder / f"{name}.sanitizer"), **(env or {})})
        self.processes.append(process)
        return process

    def at_close(self, closer):
        self._closers.append(closer)

    def unexpected_ends(self):
        return [f"{p.name} ended by itself: exit status {p.exit_status}" for p in self.processes
                if p.exit_status is not None and not p.ended_by_us]

    def sanitizer_reports(self):
        reports = ((path.name, sanitizer_findings(path.read_text(errors="replace")))
                   for path in sorted(self.folder.glob("*.sanitizer.*")))
        return [f"{name}:\n{findings}" for name, findings in reports if findings]

    def log_tails(self):
        """(file, its end) of every log, newest information for a failed test."""
        for path in sorted(self.folder.rglob("*.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            yield path.name, "\n".join(lines[-LOG_TAIL_LINES:])

    def close(self):
        """Ends everything; raises AssertionError for crashes and sanitizer reports."""
        problems = self.unexpected_ends()
        for process in reversed(self.processes):
            try:
                # Sanitizers report leaks at a clean exit only.
                process.stop() if process.name.startswith("mr-") else process.kill()
            except AssertionError as error:
                problems.append(str(error))
        for closer in reversed(self._closers):
            closer()
        problems += self.sanitizer_reports()
        self.ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if problems:
            raise AssertionError("\n".join(problems))


def sanitizer_findings(report):
    """A report without what the leak checker says of itself: now and then ptrace refuses it a thread's registers, and it
    takes that thread's whole stack for reachable. A leak that it found beside that is a report of its own."""
    return "\n".join(line for line in report.splitlines() if not LEAK_CHECKER_ON_ITSELF.fullmatch(line))


def sanitizer_environment(log_path):
    """Where a sanitized program writes its reports; harmless for others."""
    suppressions = TOP / "tests" / "lib"
    return {
        "ASAN_OPTIONS": f"log_path={log_path}:detect_leaks=1:abort_on_error=0",
        "LSAN_OPTIONS": f"suppressions={suppressions}/lsan.supp:print_suppressions=0",
        "UBSAN_OPTIONS": f"log_path={log_path}:print_stacktrace=1",
        "TSAN_OPTIONS": f"log_path={log_path}:suppressions={suppressions}/tsan.supp:second_deadlock_stack=1",
    }


def listening(port, host="127.0.0.1"):
    """A condition for wait_until: somebody accepts connections there."""
    def connects():
        with socket.create_connection((host, port), timeout=2):
            return True
    return connects


__all__ = ["Ports", "Process", "Sandbox", "TOP", "listening", "wait_until"]
