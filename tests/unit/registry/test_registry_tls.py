"""Handshakes with real certificates."""

import asyncio
import ssl
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.registry.stream import Stream
from agent.registry.tls import handshake
from agent.registry.transport import connect
from stage.authority import Authority, Certificate
from tests.unit.registry.asking import get
from tests.unit.registry.scripted import LOCAL, Said, listening, refusing, server_context, serving

ROOT = Authority("Root")

SERVER = ROOT.intermediate("Middle").issue("registry.example", ips=[LOCAL])


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
