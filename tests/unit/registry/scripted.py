"""A small HTTP/1.1 server on 127.0.0.1 that says what a test tells it to, in clear or over TLS."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.registry.stream import Stream
from agent.registry.tls import handshake
from agent.registry.transport import connect
from stage.authority import Certificate

LOCAL = "127.0.0.1"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Said:
    """One answer; its length is told unless the headers tell another."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def wire(self, method: str) -> bytes:
        told = {name.lower() for name, _ in self.headers}
        fields = list(self.headers)
        if not told & {"content-length", "transfer-encoding"}:
            fields.append(("Content-Length", str(len(self.body))))
        head = f"HTTP/1.1 {self.status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
        return head.encode() + (b"" if method == "HEAD" else self.body)


@dataclass
class Scripted:
    """Answers by ``script`` (path, or method and path, to answer or function of the request), 404 otherwise."""

    port: int = 0
    script: dict[str, Said | Callable[[Asked], Said]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def authority(self) -> str:
        return f"{LOCAL}:{self.port}"

    def lines(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.asked]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        first = await reader.read(1)
        if first == b"\x16":  # a TLS handshake, which Go and nginx answer in clear
            writer.write(Said(400).wire("GET"))
            return
        while (asked := await _read(reader, first)) is not None:
            first = b""
            self.asked.append(asked)
            found = self.script.get(f"{asked.method} {asked.path}", self.script.get(asked.path, Said(404)))
            writer.write((found if isinstance(found, Said) else found(asked)).wire(asked.method))
            await writer.drain()


async def _read(reader: asyncio.StreamReader, first: bytes) -> Asked | None:
    try:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Asked(method, target, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@contextlib.asynccontextmanager
async def listening(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port at which ``talk`` is had with every client."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, LOCAL, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(
    script: Mapping[str, Said | Callable[[Asked], Said]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Scripted]:
    """A scripted registry."""
    server = Scripted(script=dict(script))
    async with listening(server.talk, tls) as port:
        server.port = port
        yield server


@contextlib.contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[int]:
    """The port of a server that fails in its handshake and says why: asyncio's servers swallow the alert."""

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as sock:
            sock.settimeout(5)
            with contextlib.suppress(ssl.SSLError), context.wrap_socket(sock, server_side=True) as secure:
                secure.recv(1)

    with socket.create_server((LOCAL, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def server_context(certificate: Certificate, folder: Path, *, client_ca: bytes | None = None) -> ssl.SSLContext:
    """For a server that shows ``certificate`` and, given a CA, wants a client's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate.files(folder))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
    return context


async def open_plain(scheme: str, host: str, port: int) -> Stream:
    """An opener without DNS, proxy and judgement; every name is on this machine."""
    del host
    stream = await connect([LOCAL], port, 5)
    if scheme == "https":
        await handshake(stream, "registry.example", 5)
    return stream
