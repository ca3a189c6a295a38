"""Connections and what comes over them, on real sockets."""

import asyncio
import socket
import struct
import time

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.registry.stream import Take
from agent.registry.transport import connect
from tests.unit.registry.asking import get
from tests.unit.registry.scripted import LOCAL, Said, listening, serving


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
