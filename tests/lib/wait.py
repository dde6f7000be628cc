"""Waiting for conditions: the only place of the tests where time passes on purpose."""

import os
import time

# Sanitized programs are several times slower; a limit only says when to give up.
SLOWNESS = float(os.environ.get("MR_SLOWNESS", "1"))
LIMIT_S = 30 * SLOWNESS
PAUSE_S = 0.005
ZK_SESSION_S = 30 * SLOWNESS  # of a test's own ZooKeeper client: it outlasts a server that had no CPU for a while


class WaitError(AssertionError):
    """A condition did not come true in time."""


def wait_until(condition, what, timeout_s=LIMIT_S):
    """Calls condition() until it returns something true, and returns that. An exception counts as "not yet"
    and is told when time is up. `what` completes the sentence "waited in vain for …"."""
    deadline = time.monotonic() + timeout_s
    while True:
        last = None
        try:
            value = condition()
            if value:
                return value
        except Exception as error:  # pylint: disable=broad-except
            last = error
        if time.monotonic() >= deadline:
            told = f"; the last try: {type(last).__name__}: {last}" if last else ""
            raise WaitError(f"waited in vain for {what} ({timeout_s:.0f} s){told}")
        time.sleep(PAUSE_S)


def wait_while(condition, what, duration_s):
    """The opposite: condition() must stay true for so long. `what` completes "it did not last: …". An exception
    counts as false."""
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        try:
            holds, told = condition(), ""
        except Exception as error:  # pylint: disable=broad-except
            holds, told = False, f": {type(error).__name__}: {error}"
        if not holds:
            left = deadline - time.monotonic()
            raise WaitError(f"it did not last: {what} ({left:.1f} of {duration_s:.1f} s were left){told}")
        time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))
