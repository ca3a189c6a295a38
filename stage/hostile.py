"""Servers that misbehave on purpose: what a registry, a portal or an attacker may answer.

An `Answer` is a function of the connection and the request; `Scripted` has a table of them. Those that are
huge or endless are made while they are sent, and stop when the client goes away.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from stage.authority import Certificate
from stage.images import Built
from stage.listeners import Connection, Hangup, Listener, Request

Answer = Callable[[Connection, Request], None]
NOTHING: Mapping[str, str] = MappingProxyType({})
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"
JSON = "application/json"
_PAGE = 1 << 16


class Scripted:
    """An HTTP(S) server with a table of routes, ``"GET /v2/"`` before ``"/v2/"`` before ``default``.

    A route ending in ``*`` is for every path that begins so. ``routes`` may be changed at any time;
    ``requests`` is what came in, in order. With ``client_ca`` (PEM) it demands a client's certificate.
    """

    def __init__(
        self,
        routes: Mapping[str, Answer],
        *,
        address: str = "10.99.0.6",
        port: int | None = None,
        name: str = "hostile.example",
        certificate: Certificate | None = None,
        client_ca: bytes | None = None,
        default: Answer | None = None,
    ) -> None:
        self.routes, self.default = dict(routes), default or reply(404)
        self.address, self.port = address, port or (443 if certificate else 80)
        usual = self.port == (443 if certificate else 80)
        self.name = name if usual else f"{name}:{self.port}"
        self.url = f"{'https' if certificate else 'http'}://{self.name}"
        self.requests: list[Request] = []
        self._listener = Listener(address, self.port, self._serve, certificate, client_ca)

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.__exit__(kind, error, at)

    def asked(self) -> list[str]:
        """The requests as ``"GET /v2/"``, queries left out."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def _serve(self, connection: Connection) -> None:
        while True:
            request = connection.request()
            self.requests.append(request)
            self._answer(request)(connection, request)

    def _answer(self, request: Request) -> Answer:
        for key in (f"{request.method} {request.path}", request.path):
            if key in self.routes:
                return self.routes[key]
            for route, answer in self.routes.items():
                if route.endswith("*") and key.startswith(route[:-1]):
                    return answer
        return self.default


class Banner:
    """A server that says something that is not HTTP (nor TLS) and then listens: SSH, SMTP, anything."""

    def __init__(
        self, text: bytes = b"SSH-2.0-OpenSSH_9.6\r\n", *, address: str = "10.99.0.6", port: int = 443
    ) -> None:
        self.text, self.address, self.port = text, address, port
        self._listener = Listener(address, port, self._serve)

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.__exit__(kind, error, at)

    def _serve(self, connection: Connection) -> None:
        connection.send(self.text)
        connection.pause()


def reply(status: int = 200, headers: Mapping[str, str] = NOTHING, body: bytes = b"") -> Answer:
    """An ordinary answer; no body for HEAD."""
    return lambda connection, request: connection.reply(status, headers, body, head=request.method == "HEAD")


def document(content: object, status: int = 200, headers: Mapping[str, str] = NOTHING) -> Answer:
    """A JSON answer."""
    return reply(status, {"Content-Type": JSON, **headers}, json.dumps(content).encode())


def error(status: int, code: str, message: str = "", headers: Mapping[str, str] = NOTHING) -> Answer:
    """A registry's refusal in the form of the distribution specification."""
    return document({"errors": [{"code": code, "message": message}]}, status, headers)


def challenge(*values: str, status: int = 401) -> Answer:
    """401 with these ``WWW-Authenticate`` lines (none at all is a case too)."""
    lines = "".join(f"WWW-Authenticate: {value}\r\n" for value in values)
    head = f"HTTP/1.1 {status} Unauthorized\r\n{lines}Content-Length: 0\r\n\r\n"
    return lambda connection, _request: connection.send(head.encode("latin-1"))


def rate_limited(retry_after: str | None = "3600", limit: int = 100, remaining: int = 0) -> Answer:
    """429 in Docker Hub's words; ``retry_after`` in seconds or an HTTP date."""
    headers = {"ratelimit-limit": f"{limit};w=21600", "ratelimit-remaining": f"{remaining};w=21600"}
    headers |= {"docker-ratelimit-source": "192.0.2.1"} | ({"Retry-After": retry_after} if retry_after else {})
    text = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
    return error(429, "TOOMANYREQUESTS", text, headers)


def login_page() -> Answer:
    """200 with a page for people, as a captive portal says to everything."""
    return reply(200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html><title>Sign in</title></html>")


def redirect(place: str, status: int = 307) -> Answer:
    """To another place: `METADATA_SERVICE`, a CDN, …"""
    return reply(status, {"Location": place})


def redirect_circle(status: int = 307) -> Answer:
    """To itself, each time by another query, so that no cache breaks the circle."""
    counter = itertools.count()
    return lambda connection, request: redirect(f"{request.path}?turn={next(counter)}", status)(connection, request)


def nested_json(depth: int = 10_000) -> Answer:
    """JSON that is well-formed and deeper than a recursive parser can go."""
    return reply(200, {"Content-Type": JSON}, b"[" * depth + b"]" * depth)


def endless_headers(size: int = 1 << 30) -> Answer:
    """So many bytes of header lines before the body begins."""

    def answer(connection: Connection, _request: Request) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n")
        for number in range(size // _PAGE):
            connection.send(b"X-%08d: " % number + b"a" * (_PAGE - 14) + b"\r\n")
        connection.send(b"Content-Length: 0\r\n\r\n")

    return answer


def endless_body(size: int | None = None, content_type: str = JSON) -> Answer:
    """A body that never ends: chunked, or ``size`` bytes announced and truly sent."""

    def answer(connection: Connection, _request: Request) -> None:
        length = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n".encode())
        chunk = b" " * _PAGE
        framed = chunk if size is not None else b"%x\r\n%b\r\n" % (_PAGE, chunk)
        for _ in itertools.count() if size is None else range(size // _PAGE):
            connection.send(framed)

    return answer


def cut_short(body: bytes, announced: int, headers: Mapping[str, str] = NOTHING) -> Answer:
    """Less than was announced, and the connection ends."""

    def answer(connection: Connection, _request: Request) -> None:
        connection.reply(200, {**headers, "Content-Length": str(announced)}, body)
        raise Hangup

    return answer


def drip(body: bytes = b"x" * 3600, seconds: float = 1.0) -> Answer:
    """A healthy answer at one byte a second, from the status line on."""

    def answer(connection: Connection, _request: Request) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for byte in head + body:
            connection.send(bytes([byte]))
            connection.pause(seconds)

    return answer


def never(connection: Connection, _request: Request) -> None:
    """No answer, and the connection stays."""
    connection.pause()


def hang_up(_connection: Connection, _request: Request) -> None:
    """The connection ends where an answer should be."""
    raise Hangup


def reset(connection: Connection, _request: Request) -> None:
    """The connection breaks off with RST."""
    connection.reset()


def in_turn(*answers: Answer) -> Answer:
    """One after the other, the last one for ever."""
    rest = iter(answers[:-1])

    def answer(connection: Connection, request: Request) -> None:
        next(rest, answers[-1])(connection, request)

    return answer


def serving(repository: str, tag: str, built: Built, headers: Mapping[str, str] = NOTHING) -> dict[str, Answer]:
    """The routes of a healthy registry that has one image: a start to make exceptions from."""
    routes = {"/v2/": document({})}
    for digest, blob in built.blobs.items():
        routes[f"/v2/{repository}/blobs/{digest}"] = reply(200, {"Content-Type": "application/octet-stream"}, blob)
    for each in (*built.children, built):
        own = {"Content-Type": each.media_type, "Docker-Content-Digest": each.digest, **headers}
        routes[f"/v2/{repository}/manifests/{each.digest}"] = reply(200, own, each.manifest)
    return routes | {f"/v2/{repository}/manifests/{tag}": routes[f"/v2/{repository}/manifests/{built.digest}"]}
