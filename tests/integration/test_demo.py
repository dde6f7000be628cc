"""make demo: what it shows, and that it leaves nothing behind."""

import os
import re
import subprocess
from pathlib import Path

from cluster import BUILD
from sandbox import TOP
from wait import wait_until

DEMO = TOP / "deploy" / "demo" / "demo.sh"


def run(*args, **env):
    return subprocess.run([str(DEMO), *args], capture_output=True, text=True, timeout=240, check=False,
                          env={**os.environ, "MR_BUILD": str(BUILD.relative_to(TOP)), **env})


def working_in(folder):
    """The processes whose working directory is in the folder, or was before it was removed."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where, name = os.readlink(process / "cwd"), (process / "comm").read_text().strip()
        except OSError:
            continue
        if where.startswith(str(folder)):
            found.append(f"{process.name} {name}")
    return found


def test_the_demo_kills_a_master_and_cleans_up():
    """Once left running: its folder is only known then."""
    demo = run(KEEP="1")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    folder = Path(re.search(r"demo\.sh stop (\S+)", demo.stdout).group(1))
    try:
        assert re.search(r"outage .*: [0-9.]+ ms", demo.stdout) and "reconnects: 0" in demo.stdout
        assert re.search(r"acknowledged writes: [1-9]\d*, missing", demo.stdout) and "epoch 2" in demo.stdout
        assert len([p for p in working_in(folder) if "redis-server" in p]) == 3
    finally:
        stopped = run("stop", folder)
    assert stopped.returncode == 0, stopped.stderr
    assert not folder.exists()
    wait_until(lambda: working_in(folder) == [], "the demo's servers to be gone")
