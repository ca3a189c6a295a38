"""Tunnels and forward proxies, on real sockets."""

import asyncio
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.registry.stream import Take
from agent.registry.tls import handshake
from agent.registry.transport import connect
from agent.registry.tunnel import tunnel
from stage.authority import Authority
from tests.unit.registry.asking import get
from tests.unit.registry.scripted import LOCAL, Said, listening, server_context, serving

ROOT = Authority("Root")

SERVER = ROOT.intermediate("Middle").issue("registry.example", ips=[LOCAL])


class Proxy:
    """CONNECT to any port of this machine, or one fixed answer."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer
        self.head = b""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        if self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
            return
        port = int(self.head.split(b" ")[1].rpartition(b":")[2])
        far_reader, far_writer = await asyncio.open_connection(LOCAL, port)
        writer.write(b"HTTP/1.1 200 Connection established\r\nContent-Length: 7\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("secure", [False, True], ids=["http proxy", "https proxy"])
async def test_tls_goes_through_a_tunnel(folder: Path, secure: bool) -> None:
    context, proxy = server_context(SERVER, folder), Proxy()
    big = bytes(range(256)) * 4096
    async with (
        serving({"/": Said(body=big)}, context) as server,
        listening(proxy.talk, context if secure else None) as port,
        await connect([LOCAL], port, 5) as stream,
    ):
        if secure:
            await handshake(stream, "proxy.example", 5)
        await tunnel(stream, "registry.example", server.port, "Basic dTpw", 5)
        seen = await handshake(stream, "registry.example", 5)
        response = await stream.request(get(server.port, scheme="https"), 5, Take(most=len(big)))
    assert stream.via_proxy
    assert len(seen.chain) == 2
    assert response.body == big
    assert b"Proxy-Authorization: Basic dTpw" in proxy.head
    assert proxy.head.startswith(f"CONNECT registry.example:{server.port} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    ("answer", "cause", "detail"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\n\r\n",
            Cause.PROXY_AUTH_REQUIRED,
            "407",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", Cause.PROXY_REFUSED, "403 Forbidden"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Cause.PROXY_REFUSED, "502"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n", Cause.PROXY_REFUSED, "301"),
        (b"220 mail.example ESMTP\r\n\r\n", Cause.PROXY_MISCONFIGURED, "no HTTP proxy"),
        (b"", Cause.CONNECTION_INTERRUPTED, "hung up"),
        (b"HTTP/1.1 2", Cause.CONNECTION_INTERRUPTED, "hung up"),
        (b"SSH-2.0-OpenSSH_9.2", Cause.PROXY_MISCONFIGURED, "SSH-2.0"),
    ],
)
async def test_a_refused_tunnel_has_a_name(answer: bytes, cause: Cause, detail: str) -> None:
    async with listening(Proxy(answer).talk) as port, await connect([LOCAL], port, 5) as stream:
        with pytest.raises(Fault) as caught:
            await tunnel(stream, "2001:db8::1", 443, None, 5)
        assert stream.closed
    assert caught.value.cause is cause
    assert detail in caught.value.detail
    assert "[2001:db8::1]:443" in caught.value.detail


async def test_a_forward_proxy_is_asked_for_whole_urls() -> None:
    script = {f"http://{LOCAL}:81/v2/": Said(body=b"by proxy")}
    async with serving(script) as proxy, await connect([LOCAL], proxy.port, 5) as stream:
        stream.forward("Basic dTpw")
        response = await stream.request(get(81, "/v2/?ns=x"), 5)
    assert response.body == b"by proxy"
    assert proxy.asked[0].target == f"http://{LOCAL}:81/v2/?ns=x"
    assert proxy.asked[0].headers["proxy-authorization"] == "Basic dTpw"
