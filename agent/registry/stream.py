"""HTTP/1.1 over whatever a stream has become: bare TCP, a tunnel through a proxy, TLS, or TLS in TLS.

A `Stream` starts at `agent.registry.transport.connect`, may pass `agent.registry.tunnel` and
`agent.registry.tls`, and then carries requests one after the other. Facts: containerd speaks HTTP/1.1
only, also where a server would offer HTTP/2.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import h11

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry.messages import Headers, Request, Response

HEADER_LIMIT = 65_536
BODY_LIMIT = 65_536


@dataclass(frozen=True, slots=True)
class Take:
    """What to do with a body: read at most ``most`` bytes of it, or nothing at all (``body`` False).

    A ``sink`` is given the body of a success piece by piece, instead of it being kept.
    """

    most: int = BODY_LIMIT
    body: bool = True
    sink: Callable[[bytes], None] | None = None


class Pipe(Protocol):
    """Bytes both ways. Errors are OSError or Fault; ``b""`` is the end."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


def why(error: OSError) -> str:
    """The system's word for an error, lower case."""
    if isinstance(error, TimeoutError) and error.errno in {None, errno.ETIMEDOUT}:
        return "no answer in time (i/o timeout)"
    return os.strerror(error.errno).lower() if error.errno else quote(str(error))


EVERYTHING = Take()


class Stream:
    """One connection, and the HTTP/1.1 requests over it, one at a time.

    ``address`` is the IP that was connected to; ``via_proxy`` tells that this is a proxy's and not the
    registry's. Use as an async context manager, or `close`.
    """

    def __init__(self, pipe: Pipe, address: str) -> None:
        self.pipe = pipe
        self.address = address
        self.via_proxy = False
        self.answered = False  # whether the last request got at least the head of its answer
        self._absolute = False
        self._proxy_authorization: str | None = None
        self._http = _new_http()
        self._broken = self._closed = self._ended = False

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return not self._broken and self._http.our_state is h11.IDLE

    @property
    def closed(self) -> bool:
        """Whether this side has hung up."""
        return self._closed

    def forward(self, authorization: str | None) -> None:
        """From here on this is an HTTP proxy that takes ``http://`` requests with their whole URL."""
        self.via_proxy = self._absolute = True
        self._proxy_authorization = authorization

    async def close(self) -> None:
        """Hangs up; may be called again."""
        self._broken = self._closed = True
        await self.pipe.close()

    async def request(self, request: Request, limit: float, take: Take = EVERYTHING) -> Response:
        """Sends one request and reads its answer, all within ``limit`` seconds; redirects are the caller's.

        A connection whose body was not read is closed. Raises Fault: CONNECTION_INTERRUPTED for a hang-up or silence,
        HTTP_HTTPS_MISMATCH where TLS answers plain HTTP, REGISTRY_ERROR for what is not HTTP or too
        large, TLS_CLIENT_CERTIFICATE where TLS 1.3 refuses this client only now.
        """
        try:
            async with asyncio.timeout(limit):
                response = await self._exchange(request, take)
        except TimeoutError:
            await self.close()
            detail = f"{request.url.authority} did not answer within {limit:.1f} s"
            raise Fault(Cause.CONNECTION_INTERRUPTED, detail, {"timeout": f"{limit:.1f}"}) from None
        except BaseException:
            await self.close()
            raise
        await self._settle()
        return response

    async def _exchange(self, request: Request, take: Take) -> Response:
        self.answered = False
        unsent = await self._send(request)
        try:
            head = await self._head(request)
            self.answered = True
            content = await self._body(request, take, head.status_code) if take.body else b""
        except (OSError, Fault) as error:
            if isinstance(error, Fault) and error.cause is not Cause.CONNECTION_INTERRUPTED:
                raise
            raise _interrupted(request, unsent or error) from error
        if not take.body and request.method != "HEAD":
            self._broken = True
        headers = Headers((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
        return Response(head.status_code, headers, content)

    async def _send(self, request: Request) -> OSError | None:
        """An error while sending is kept back: the server may have said why before it hung up."""
        data = self._http.send(self._event(request)) or b""
        if request.body:
            data += self._http.send(h11.Data(data=request.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        try:
            await self.pipe.write(data)
        except OSError as error:
            return error
        return None

    def _event(self, request: Request) -> h11.Request:
        fields = [("Host", request.url.authority), *request.headers]
        if request.body or request.method == "POST":
            fields.append(("Content-Length", str(len(request.body))))
        if self._proxy_authorization:
            fields.append(("Proxy-Authorization", self._proxy_authorization))
        target = str(request.url) if self._absolute else request.url.target
        try:
            return h11.Request(method=request.method, target=target, headers=fields)
        except h11.LocalProtocolError as error:
            detail = f"a header or path that is configured for {request.url.authority} cannot be sent"
            raise Fault(Cause.HOSTS_CONFIG_INVALID, f"{detail}: {quote(str(error), 80)}") from error

    async def _head(self, request: Request) -> h11.Response:
        while True:
            event = await self._next(request)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise _interrupted(request, None)

    async def _body(self, request: Request, take: Take, status: int) -> bytes:
        content = bytearray()
        keep = take.sink if take.sink and 200 <= status < 300 else content.extend
        size = 0
        while isinstance(event := await self._next(request), h11.Data):
            size += len(event.data)
            if size > take.most:
                detail = f"{request.url.authority} sent more than {take.most} bytes to {request.url.shown}"
                raise Fault(Cause.REGISTRY_ERROR, detail)
            keep(bytes(event.data))
        return bytes(content)

    async def _next(self, request: Request) -> "h11.Event | type[h11.PAUSED]":
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = await self.pipe.read()
                self._http.receive_data(data)
                self._ended = not data
        except h11.RemoteProtocolError as error:
            if self._ended:
                raise _interrupted(request, None) from error
            raise _not_http(request, error, self._http.trailing_data[0]) from error
        return event  # type: ignore[return-value]  # NEED_DATA was ruled out above

    async def _settle(self) -> None:
        """Ready for the next request, or closed where this connection cannot take one."""
        if not self._broken and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            await self.close()


def _new_http() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_LIMIT)


def _interrupted(request: Request, error: BaseException | None) -> Fault:
    if isinstance(error, Fault):
        return error
    told = why(error) if isinstance(error, OSError) else "hung up before its answer was complete (EOF)"
    return Fault(Cause.CONNECTION_INTERRUPTED, f"{request.url.authority}: {told}")


def _not_http(request: Request, error: h11.RemoteProtocolError, data: bytes) -> Fault:
    where = request.url.authority
    if data[:2] == b"\x15\x03":  # a TLS alert record
        return Fault(Cause.HTTP_HTTPS_MISMATCH, f"{where} speaks TLS, but was asked over plain HTTP")
    if error.error_status_hint == 431:
        return Fault(Cause.REGISTRY_ERROR, f"{where} sent more than {HEADER_LIMIT} bytes of headers")
    return Fault(Cause.REGISTRY_ERROR, f"{where} answered what is not HTTP: {quote(str(error))}")
