"""A TCP server on daemon threads, and HTTP as little as scripted servers need: what they all stand on.

A connection's handler may sit still for as long as it likes (that is what some are for): closing the
listener breaks every open connection, and `Connection.pause` ends at once.
"""

import contextlib
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from stage.authority import Certificate

_MOST_HEADERS = 1 << 20


class Hangup(Exception):  # noqa: N818 - not an error: the handler's way to end a connection
    """This connection is over."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent; header names in lower case, the last of equal ones wins."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode(errors="replace"))


class Connection:
    """One client's connection: what it says as `Request`s, and what is sent back."""

    def __init__(self, wire: socket.socket, closing: threading.Event) -> None:
        self.wire = wire
        self._closing = closing
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.wire.sendall(data)

    def pause(self, seconds: float | None = None) -> None:
        """Wait; without a number, for ever. Ends by `Hangup` when the server is closed meanwhile."""
        if self._closing.wait(seconds):
            raise Hangup

    def reset(self) -> None:
        """Break the connection off with RST, as a middlebox does."""
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup

    def request(self) -> Request:
        """The next request; `Hangup` when the client has gone."""
        head, _, self._unread = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, *_ = [*first.split(" "), "", ""]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = headers.get("content-length", "0")
        return Request(method, target, headers, self._body(int(length) if length.isdecimal() else 0))

    def reply(self, status: int, headers: Mapping[str, str], body: bytes, *, head: bool = False) -> None:
        """A whole answer; ``head`` leaves the body out and keeps its length."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else body))

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._unread += self._receive()
            if len(self._unread) > _MOST_HEADERS:
                raise Hangup
        return self._unread

    def _body(self, length: int) -> bytes:
        while len(self._unread) < length:
            self._unread += self._receive()
        body, self._unread = self._unread[:length], self._unread[length:]
        return body

    def _receive(self) -> bytes:
        data = self.wire.recv(65536)
        if not data:
            raise Hangup
        return data


_REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 301: "Moved Permanently", 302: "Found", 307: "Temporary Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    407: "Proxy Authentication Required", 429: "Too Many Requests", 500: "Internal Server Error",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


@dataclass
class Listener:
    """Takes connections at an address and hands each to ``serve`` on a thread of its own."""

    address: str
    port: int
    serve: Callable[[Connection], None]
    certificate: Certificate | None = None
    client_ca: bytes | None = None
    _closing: threading.Event = field(default_factory=threading.Event)
    _open: dict[threading.Thread, socket.socket] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._context = _context(self.certificate, self.client_ca) if self.certificate else None
        self._socket = socket.create_server((self.address, self.port), backlog=128)
        self._acceptor = threading.Thread(target=self._accept, name=f"stage-{self.address}:{self.port}", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the acceptor
        self._acceptor.join()
        self._socket.close()
        for thread, wire in list(self._open.items()):
            with contextlib.suppress(OSError):
                # Not `ssl.SSLSocket.shutdown`, which takes the TLS layer away under the thread's feet.
                socket.socket.shutdown(wire, socket.SHUT_RDWR)
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                wire, _ = self._socket.accept()
            except OSError:  # closing
                return
            thread = threading.Thread(target=self._run, args=(wire,), daemon=True)
            self._open[thread] = wire
            thread.start()

    def _run(self, wire: socket.socket) -> None:
        # A client that breaks off, or refuses our certificate, is ordinary here.
        try:
            with wire, contextlib.suppress(Hangup, OSError):
                self._serve(wire)
        finally:
            self._open.pop(threading.current_thread(), None)

    def _serve(self, wire: socket.socket) -> None:
        if self._context is None:
            self.serve(Connection(wire, self._closing))
            return
        with self._context.wrap_socket(wire, server_side=True, do_handshake_on_connect=False) as secured:
            self._open[threading.current_thread()] = secured
            secured.do_handshake()
            self.serve(Connection(secured, self._closing))


def _context(certificate: Certificate, client_ca: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="stage-") as folder:
        context.load_cert_chain(*certificate.files(Path(folder)))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
    return context
