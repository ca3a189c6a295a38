"""Connections, TLS and tunnels against real sockets."""

import asyncio
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.registry.messages import Request, Url
from agent.registry.stream import Stream, Take
from agent.registry.tls import handshake
from agent.registry.transport import connect
from agent.registry.tunnel import tunnel
from stage.authority import Authority, Certificate
from tests.unit.registry.scripted import LOCAL, Said, listening, refusing, server_context, serving

ROOT = Authority("Root")
SERVER = ROOT.intermediate("Middle").issue("registry.example", ips=[LOCAL])


def get(port: int, target: str = "/", scheme: str = "http") -> Request:
    return Request("GET", Url(scheme, LOCAL, port, target))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        port: int = sock.getsockname()[1]
        return port


async def test_a_refused_connection_is_named_by_the_first_address() -> None:
    with pytest.raises(Fault) as caught:
        await connect([LOCAL, "127.0.0.2"], free_port(), 5)
    assert caught.value.cause is Cause.CONNECT_REFUSED
    assert "127.0.0.2: connection refused" in caught.value.evidence["addresses"]


async def test_no_route_is_a_timeout_and_says_so() -> None:
    with pytest.raises(Fault) as caught:
        await connect(["ff0e::1"], 443, 2)
    assert caught.value.cause is Cause.CONNECT_TIMEOUT
    assert caught.value.detail.startswith("connecting to [ff0e::1]:443: ")


async def test_silence_ends_in_time() -> None:
    with socket.socket() as deaf:  # a full backlog drops further SYNs
        deaf.bind((LOCAL, 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        with socket.create_connection((LOCAL, port)):
            begin = time.perf_counter()
            with pytest.raises(Fault) as caught:
                await connect([LOCAL], port, 0.4)
    assert caught.value.cause is Cause.CONNECT_TIMEOUT
    assert "no answer in time" in caught.value.detail
    assert time.perf_counter() - begin < 2


async def test_the_second_address_is_taken_where_the_first_refuses() -> None:
    async with serving({"/": Said(body=b"here")}) as server, await connect(["127.0.0.9", LOCAL], server.port, 5) as s:
        assert s.address == LOCAL


async def test_the_other_family_is_tried_while_the_first_is_silent() -> None:
    async with serving({"/": Said(body=b"here")}) as server:
        begin = time.perf_counter()
        async with await connect(["::1", LOCAL], server.port, 10) as stream:
            assert stream.address == LOCAL
        assert time.perf_counter() - begin < 2


async def test_one_connection_carries_many_requests() -> None:
    async with serving({"/": Said(body=b"here")}) as server, await connect([LOCAL], server.port, 5) as stream:
        for _ in range(3):
            response = await stream.request(get(server.port), 5)
            assert (response.status, response.body) == (200, b"here")
    assert server.connections == 1
    assert stream.closed


async def test_header_names_have_no_case_and_a_field_may_come_twice() -> None:
    said = Said(headers=(("X-One", "a"), ("x-ONE", "b")))
    async with serving({"/": said}) as server, await connect([LOCAL], server.port, 5) as stream:
        headers = (await stream.request(get(server.port), 5)).headers
    assert headers.getall("X-one") == ("a", "b")
    assert headers.get("missing") == ""


async def test_a_body_that_is_too_large_is_not_read() -> None:
    async with serving({"/": Said(body=b"x" * 5000)}) as server, await connect([LOCAL], server.port, 5) as stream:
        with pytest.raises(Fault, match="more than 100 bytes") as caught:
            await stream.request(get(server.port), 5, Take(most=100))
        assert stream.closed
    assert caught.value.cause is Cause.REGISTRY_ERROR


async def test_headers_may_be_read_without_the_body() -> None:
    said = Said(headers=(("Content-Length", str(1 << 40)),))
    async with serving({"/": said}) as server, await connect([LOCAL], server.port, 5) as stream:
        response = await stream.request(get(server.port), 5, Take(body=False))
        assert response.headers.get("content-length") == str(1 << 40)
        assert not stream.reusable


@pytest.mark.parametrize(
    ("sent", "cause", "detail"),
    [
        (b"", Cause.CONNECTION_INTERRUPTED, "hung up"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", Cause.CONNECTION_INTERRUPTED, "hung up"),
        (b"HTTP/1.1 200 OK\r\nContent-", Cause.CONNECTION_INTERRUPTED, "hung up"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Cause.REGISTRY_ERROR, "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16", Cause.HTTP_HTTPS_MISMATCH, "speaks TLS"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, Cause.REGISTRY_ERROR, "bytes of headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Cause.REGISTRY_ERROR, "not HTTP"),
    ],
)
async def test_what_is_no_whole_answer_has_a_name(sent: bytes, cause: Cause, detail: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()

    async with listening(talk) as port, await connect([LOCAL], port, 5) as stream:
        with pytest.raises(Fault) as caught:
            await stream.request(get(port), 5)
    assert caught.value.cause is cause
    assert detail in caught.value.detail


async def test_a_reset_is_an_interruption() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with listening(talk) as port, await connect([LOCAL], port, 5) as stream:
        with pytest.raises(Fault, match="reset by peer") as caught:
            await stream.request(get(port), 5)
    assert caught.value.cause is Cause.CONNECTION_INTERRUPTED


async def test_an_answer_that_drips_ends_at_the_limit() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with listening(talk) as port, await connect([LOCAL], port, 5) as stream:
        begin = time.perf_counter()
        with pytest.raises(Fault, match=r"did not answer within 0\.3 s") as caught:
            await stream.request(get(port), 0.3)
    assert caught.value.cause is Cause.CONNECTION_INTERRUPTED
    assert time.perf_counter() - begin < 2


async def test_a_handshake_shows_the_chain_as_it_was_sent(folder: Path) -> None:
    context = server_context(SERVER, folder)
    async with serving({"/": Said(body=b"safe")}, context) as server, await connect([LOCAL], server.port, 5) as stream:
        seen = await handshake(stream, "registry.example", 5)
        response = await stream.request(get(server.port, scheme="https"), 5)
    assert len(seen.chain) == 2
    assert [ssl.DER_cert_to_PEM_cert(der).encode() for der in seen.chain] == _blocks(SERVER)
    assert seen.version == "TLSv1.3"
    assert response.body == b"safe"


def _blocks(certificate: Certificate) -> list[bytes]:
    return [
        block + b"-----END CERTIFICATE-----\n" for block in certificate.chain.split(b"-----END CERTIFICATE-----\n")[:-1]
    ]


@pytest.mark.parametrize(("name", "sent"), [("registry.example.", "registry.example"), (LOCAL, None), ("::1", None)])
async def test_sni_is_the_name_without_its_last_dot_and_never_an_address(
    folder: Path, name: str, sent: str | None
) -> None:
    asked: list[str | None] = []
    context = server_context(SERVER, folder)
    context.sni_callback = lambda _socket, wanted, _context: asked.append(wanted)
    async with serving({}, context) as server, await connect([LOCAL], server.port, 5) as stream:
        await handshake(stream, name, 5)
    assert asked == [sent]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", Cause.HTTP_HTTPS_MISMATCH),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Cause.TLS_HANDSHAKE),
        (b"\x15\x03\x01\x00\x02\x02\x28", Cause.TLS_HANDSHAKE),
        (b"\x15\x03\x03\x00\x02\x02\x2a", Cause.TLS_CLIENT_CERTIFICATE),
        (b"", Cause.CONNECTION_INTERRUPTED),
    ],
)
async def test_what_is_no_handshake_has_a_name(said: bytes, cause: Cause) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said)
        await writer.drain()

    async with listening(talk) as port, await connect([LOCAL], port, 5) as stream:
        with pytest.raises(Fault) as caught:
            await handshake(stream, "registry.example", 5)
        assert stream.closed
    assert caught.value.cause is cause


async def test_a_server_that_never_shakes_hands_is_left_in_time() -> None:
    async def talk(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with listening(talk) as port, await connect([LOCAL], port, 5) as stream:
        with pytest.raises(Fault, match=r"no TLS handshake within 0\.2 s") as caught:
            await handshake(stream, "registry.example", 0.2)
    assert caught.value.cause is Cause.TLS_HANDSHAKE


async def test_a_server_of_old_tls_is_refused(folder: Path) -> None:
    context = server_context(SERVER, folder)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with refusing(context) as port:
        async with await connect([LOCAL], port, 5) as stream:
            with pytest.raises(Fault, match="protocol") as caught:
                await _ask_over_tls(stream, port)
    assert caught.value.cause is Cause.TLS_HANDSHAKE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_missing_client_certificate_is_told_also_where_tls_13_tells_late(
    folder: Path, version: ssl.TLSVersion
) -> None:
    context = server_context(SERVER, folder, client_ca=ROOT.pem)
    context.minimum_version = context.maximum_version = version
    with refusing(context) as port:
        async with await connect([LOCAL], port, 5) as stream:
            with pytest.raises(Fault) as caught:
                await _ask_over_tls(stream, port)
    # In TLS 1.2 OpenSSL's server says "handshake failure", which has other meanings too.
    expected = Cause.TLS_HANDSHAKE if version is ssl.TLSVersion.TLSv1_2 else Cause.TLS_CLIENT_CERTIFICATE
    assert caught.value.cause is expected


async def _ask_over_tls(stream: Stream, port: int) -> None:
    await handshake(stream, "registry.example", 5)
    await stream.request(get(port, scheme="https"), 5)


async def test_a_client_certificate_is_shown_where_it_is_asked_for(folder: Path) -> None:
    pair = ROOT.issue("node", client=True).files(folder, "client")
    context = server_context(SERVER, folder, client_ca=ROOT.pem)
    async with serving({"/": Said(body=b"hello")}, context) as server, await connect([LOCAL], server.port, 5) as stream:
        await handshake(stream, "registry.example", 5, [pair])
        assert (await stream.request(get(server.port, scheme="https"), 5)).body == b"hello"


async def test_client_files_that_do_not_fit_are_a_fault_of_the_settings(folder: Path) -> None:
    certificate, _ = ROOT.issue("node", client=True).files(folder, "one")
    _, key = ROOT.issue("node", client=True).files(folder, "two")
    async with serving({}) as server, await connect([LOCAL], server.port, 5) as stream:
        with pytest.raises(Fault) as caught:
            await handshake(stream, "registry.example", 5, [(certificate, key)])
    assert caught.value.cause is Cause.HOSTS_CONFIG_INVALID


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
