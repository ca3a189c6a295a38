"""CONNECT: a way through an HTTP proxy to a host whose name the proxy itself looks up.

Facts: Go net/http/transport.go (the refusal's status text is all that containerd shows);
containerd waits at most 60 s for the answer.
"""

import asyncio

import h11

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry.stream import HEADER_LIMIT, Pipe, Stream


async def tunnel(stream: Stream, host: str, port: int, authorization: str | None, limit: float) -> None:
    """Turns ``stream``, which is at a proxy, into a way to ``host:port`` within ``limit`` seconds.

    ``authorization`` is the whole value of Proxy-Authorization. Raises Fault: PROXY_AUTH_REQUIRED (407),
    PROXY_REFUSED (another status from 300 on), PROXY_MISCONFIGURED (what answers is no HTTP proxy),
    CONNECTION_INTERRUPTED (hang-up), PROXY_UNREACHABLE (silence). On a fault the stream is closed.
    """
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(limit):
            await _connect(stream, target, authorization)
    except TimeoutError:
        await stream.close()
        raise Fault(
            Cause.PROXY_UNREACHABLE, f"the proxy did not answer CONNECT {target} within {limit:.1f} s"
        ) from None
    except BaseException:
        await stream.close()
        raise
    stream.via_proxy = True


async def _connect(stream: Stream, target: str, authorization: str | None) -> None:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_LIMIT)
    fields = [("Host", target)] + ([("Proxy-Authorization", authorization)] if authorization else [])
    request = h11.Request(method="CONNECT", target=target, headers=fields)
    try:
        await stream.pipe.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        answer = await _answer(http, stream.pipe, target)
    except OSError as error:
        raise _hung_up(target) from error
    except h11.RemoteProtocolError as error:
        raise _no_proxy(error, target) from error
    if answer.status_code >= 300:
        raise _refusal(answer, target)
    if early := http.trailing_data[0]:
        stream.pipe = _Pushed(stream.pipe, early)


async def _answer(http: h11.Connection, pipe: Pipe, target: str) -> h11.Response:
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await pipe.read()
            if not data and (said := http.trailing_data[0]) and not said.startswith(b"HTTP"):
                detail = f"what answers CONNECT {target} is no HTTP proxy: it said {quote(said, 80)!r}"
                raise Fault(Cause.PROXY_MISCONFIGURED, detail)
            if not data:
                raise ConnectionResetError("the proxy hung up")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            return event


def _hung_up(target: str) -> Fault:
    return Fault(Cause.CONNECTION_INTERRUPTED, f"the proxy hung up on CONNECT {target} (EOF)")


def _no_proxy(error: h11.RemoteProtocolError, target: str) -> Fault:
    return Fault(Cause.PROXY_MISCONFIGURED, f"what answers CONNECT {target} is no HTTP proxy: {quote(str(error))}")


def _refusal(answer: h11.Response, target: str) -> Fault:
    said = f"{answer.status_code} {quote(answer.reason)}".strip()
    evidence = {"status": str(answer.status_code), "target": target}
    if answer.status_code == 407:
        asked = [value for name, value in answer.headers if name == b"proxy-authenticate"]
        schemes = ", ".join(quote(value.split(b" ")[0], 30) for value in asked[:4])
        return Fault(Cause.PROXY_AUTH_REQUIRED, f"the proxy wants credentials for {target}: {said}", {
            **evidence, "schemes": schemes,
        })  # fmt: skip
    return Fault(Cause.PROXY_REFUSED, f"the proxy refused CONNECT {target}: {said}", evidence)


class _Pushed:
    """A pipe whose first bytes came together with the proxy's answer."""

    def __init__(self, inner: Pipe, early: bytes) -> None:
        self._inner, self._early = inner, early

    async def read(self) -> bytes:
        early, self._early = self._early, b""
        return early or await self._inner.read()

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> None:
        await self._inner.close()
