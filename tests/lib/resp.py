"""A small Redis client for tests: one socket, every reply visible, nothing hidden by retries."""

import socket
import time

from wait import LIMIT_S


class RespError(Exception):
    """An error reply; str() is the server's text."""

    @property
    def code(self):
        return str(self).split(" ", 1)[0]


class Push(list):
    """A RESP3 push: it answers nothing."""


def encode(*args):
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def logged_in(user, password, port, host="127.0.0.1", timeout_s=LIMIT_S):
    """A Client as that user; closed again when the server, or the way there, says no."""
    client = Client(port, host, timeout_s)
    try:
        client.call("AUTH", user, password)
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """Speaks RESP2 and RESP3. Text comes back as str, error replies are returned by read() and raised by call()."""

    def __init__(self, port, host="127.0.0.1", timeout_s=LIMIT_S):
        self.address = (host, port)
        self.socket = socket.create_connection(self.address, timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.socket.makefile("rb", 1 << 16)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._stream.close()
        self.socket.close()

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, *args):
        self.send_raw(encode(*args))

    def call(self, *args):
        """One command and its reply; raises RespError for an error reply."""
        reply = self.call_raw(*args)
        if isinstance(reply, RespError):
            raise reply
        return reply

    def call_raw(self, *args):
        self.send(*args)
        return self.read()

    def pipeline(self, commands):
        """Sends all commands at once and returns their replies, errors among them."""
        self.send_raw(b"".join(encode(*c) for c in commands))
        return [self.read() for _ in commands]

    def read(self):
        """The next message. ConnectionError when the server closed."""
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError(f"{self.address}: closed by the peer" + (f" after {line!r}" if line else ""))
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RespError(rest.decode())
        if kind in b":(":
            return int(rest)
        if kind == b",":
            return float(rest)
        if kind == b"#":
            return rest == b"t"
        if kind == b"_":
            return None
        if kind in b"$=!":
            return self._read_bulk(kind, int(rest))
        if kind in b"*~>":
            return self._read_array(kind, int(rest))
        if kind == b"%":
            pairs = [(self.read(), self.read()) for _ in range(int(rest))]
            return dict(pairs)
        raise ValueError(f"{self.address}: not RESP: {line!r}")

    def _read_bulk(self, kind, length):
        if length < 0:
            return None
        body = self._stream.read(length + 2)
        if len(body) != length + 2:
            raise ConnectionError(f"{self.address}: closed by the peer inside a bulk string")
        text = body[:-2].decode("utf-8", "surrogateescape")
        return RespError(text) if kind == b"!" else text

    def _read_array(self, kind, length):
        if length < 0:
            return None
        items = [self.read() for _ in range(length)]
        return Push(items) if kind == b">" else items

    def at_end(self):
        """True once the peer has closed (waits for it)."""
        try:
            return self._stream.read(1) == b""
        except ConnectionError:
            return True

    def info(self, section="replication"):
        """INFO as a dict of texts."""
        lines = self.call("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def ask(port, *args, host="127.0.0.1"):
    """One command on a connection of its own."""
    with Client(port, host) as client:
        return client.call(*args)


def elapsed_ms(since):
    return (time.monotonic() - since) * 1000
