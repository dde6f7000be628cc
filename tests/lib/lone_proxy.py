"""A proxy of one instance and nothing else: no ZooKeeper, no controller. It serves from its cache file."""

import json

from cluster import binary
from sandbox import listening, wait_until


class LoneProxy:
    """mr-proxy in front of a Redis server (servers.py); `port` is where its clients connect."""

    def __init__(self, sandbox, master, *options, name="mr-proxy", durability="async"):
        self.port, self.http_port, nowhere = sandbox.ports.one(), sandbox.ports.one(), sandbox.ports.one()
        cache = sandbox.folder / f"{name}.routes"
        route = {"v": 1, "type": "route", "term": 1, "seq": 1, "revision": 1, "instance": "cart", "port": self.port,
                 "epoch": 1, "master": master.address, "replicas": [], "durability": durability, "acks": 1}
        cache.write_text(f"mr-proxy routes, version 1, 1 lines\n{json.dumps(route)}\n", encoding="utf-8")
        self.process = sandbox.start(name, [
            binary("mr-proxy"), "--zk", f"127.0.0.1:{nowhere}", "--id", name, "--http", f"127.0.0.1:{self.http_port}",
            "--cache-file", cache, *options])
        wait_until(listening(self.port), "the proxy's port")
