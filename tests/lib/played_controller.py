"""Controllers that a test plays, for mrctl to ask."""

import contextlib
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster import binary
from wait import LIMIT_S


def error(status, message, code="conflict"):
    return status, {"error": {"code": code, "message": message}}


class Fake:
    """A controller: `answers` maps "METHOD /path" to (status, value) or to a function of the handler."""

    def __init__(self, answers):
        self.answers, self.asked, fake = answers, [], self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                fake.asked.append((self.command, self.path, body, self.headers.get("Authorization")))
                answer = fake.answers.get(f"{self.command} {self.path}", error(404, "no such thing", "not_found"))
                if callable(answer):
                    answer = answer(self)
                if answer is not None:
                    self.send(*answer)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815: http.server's names

            def send(self, status, value, **headers):
                text = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                self.send_response(status)
                for key, what in headers.items():
                    self.send_header(key, what)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def fake():
    with contextlib.ExitStack() as stack:
        def make(answers):
            controller = Fake(answers)
            stack.callback(controller.close)
            return controller
        yield make


def mrctl(*args, env=None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MR_")}
    return subprocess.run([str(binary("mrctl")), *map(str, args)], capture_output=True, text=True, timeout=LIMIT_S,
                          check=False, env={**clean, **(env or {})})


def ask(controllers, *args):
    return mrctl("--controllers", ",".join(c if isinstance(c, str) else c.url for c in controllers), *args)


def nobody(sandbox):
    return f"http://127.0.0.1:{sandbox.ports.one()}"
