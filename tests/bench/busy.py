"""A host whose processors have something else to do all the time."""

import contextlib
import subprocess
import sys


@contextlib.contextmanager
def spinning(count):
    """So many processes that never rest, until the block ends."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
