"""A client and a whole image."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault, ImageRef
from agent.registry.client import Client
from agent.registry.hosts import Host
from agent.registry.manifests import Descriptor, Manifest, digest_of
from agent.registry.messages import Url
from agent.registry.reference import parse
from agent.registry.stream import Stream
from stage.authority import self_signed
from stage.registries import Registry
from tests.unit.registry.asking import (
    AMD64,
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    OCI,
    OCI_INDEX,
    client,
    described,
    error,
    manifest_said,
    ref,
    refusal,
)
from tests.unit.registry.scripted import LOCAL, Said, Scripted, listening, open_plain, server_context, serving


async def test_a_whole_image_is_walked_as_containerd_walks_it() -> None:
    script = {
        "/v2/a/manifests/1": manifest_said(INDEX, OCI_INDEX, ("ratelimit-remaining", "99;w=21600")),
        f"/v2/a/manifests/{digest_of(INDEX)}": manifest_said(INDEX, OCI_INDEX),
        f"/v2/a/manifests/{digest_of(MANIFEST)}": manifest_said(MANIFEST, OCI),
        f"/v2/a/blobs/{digest_of(CONFIG)}": Said(200, CONFIG),
        f"/v2/a/blobs/{digest_of(LAYER)}": Said(206, b"l", (("Content-Range", f"bytes 0-0/{len(LAYER)}"),)),
        "/v2/": Said(200, b"{}"),
    }
    async with serving(script) as server, client(server) as asking:
        image = ref(server)
        assert await asking.ping() is None
        resolved = await asking.head_manifest(image)
        found = await asking.manifest(image, resolved.descriptor, AMD64)
        config = await asking.get_config(image, found.config)
        reached = await asking.reach_blob(image, found.layers[0])
    assert resolved.limits.remaining == 99
    assert resolved.descriptor.is_index
    assert config.platform == AMD64
    assert (reached.host, reached.size) == (server.authority, len(LAYER))
    assert server.lines()[:2] == ["GET /v2/", "HEAD /v2/a/manifests/1"]
    assert server.asked[1].headers["accept"].endswith("application/vnd.oci.image.index.v1+json, */*")
    assert server.asked[2].headers["accept"] == f"{OCI_INDEX}, */*"
    assert all(each.headers["user-agent"] == "node-agent/0" for each in server.asked)
    assert all("ns=" not in each.target for each in server.asked)


async def test_one_connection_is_enough_and_a_stale_one_is_replaced() -> None:
    connections = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with listening(once) as port, client(Scripted(port)) as asking:
        for _ in range(3):
            assert await asking.ping() is None
            await asyncio.sleep(0.02)
    assert connections == 3
    async with serving({"/v2/": Said()}) as server, client(server) as asking:
        for _ in range(3):
            await asking.ping()
    assert server.connections == 1


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    """Its first half may already be where it was to go."""
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for said in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        ):
            asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
            writer.write(said)
            await writer.drain()

    async with listening(talk) as port, client(Scripted(port)) as asking:
        await asking.ping()
        with pytest.raises(Fault) as caught:
            await asking.ping()
    assert caught.value.cause is Cause.CONNECTION_INTERRUPTED
    assert len(asked) == 2


async def test_requests_side_by_side_leave_no_connection_open() -> None:
    opened: list[Stream] = []

    async def opener(scheme: str, host: str, port: int) -> Stream:
        opened.append(await open_plain(scheme, host, port))
        return opened[-1]

    async with serving({"/v2/": Said()}) as server, client(server, opener=opener) as asking:
        await asyncio.gather(*(asking.ping() for _ in range(5)))
        assert sum(not stream.closed for stream in opened) == 1
    assert all(stream.closed for stream in opened)


async def test_a_mirror_is_told_the_namespace_and_its_own_headers() -> None:
    async with serving({"/proxy/v2/a/manifests/1": manifest_said(MANIFEST, OCI)}) as server:
        host = Host("http", LOCAL, server.port, "/proxy/v2", headers=(("X-Mirror", "yes"),), explicit_port=True)
        async with Client(host, "docker.io", open_plain, "a") as asking:
            await asking.head_manifest(ImageRef("docker.io", "a", "1", None))
    assert server.asked[0].target == "/proxy/v2/a/manifests/1?ns=docker.io"
    assert server.asked[0].headers["x-mirror"] == "yes"


async def test_a_head_without_digest_is_followed_by_a_get() -> None:
    script = {"/v2/a/manifests/1": Said(200, MANIFEST, (("Content-Type", OCI + "; charset=utf-8"),))}
    async with serving(script) as server, client(server) as asking:
        resolved = await asking.head_manifest(ref(server))
    assert server.lines() == ["HEAD /v2/a/manifests/1", "GET /v2/a/manifests/1"]
    assert resolved.descriptor == Descriptor(OCI, digest_of(MANIFEST), len(MANIFEST))


async def test_a_head_that_is_not_allowed_is_followed_by_a_get() -> None:
    script = {"HEAD /v2/a/manifests/1": Said(405), "GET /v2/a/manifests/1": manifest_said(MANIFEST, OCI)}
    async with serving(script) as server, client(server) as asking:
        assert (await asking.head_manifest(ref(server))).descriptor.digest == digest_of(MANIFEST)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (error(404, "NAME_UNKNOWN"), Cause.REPOSITORY_NOT_FOUND),
        (error(404, "MANIFEST_UNKNOWN"), Cause.TAG_NOT_FOUND),
        (Said(404, b"not here"), Cause.IMAGE_NOT_FOUND),
        (error(403, "DENIED"), Cause.AUTH_MISSING_OR_DENIED),
        (Said(401), Cause.AUTH_REQUIRED),
        (Said(500), Cause.REGISTRY_ERROR),
        (Said(302), Cause.REGISTRY_ERROR),
        (Said(200, b"<html>log in</html>", (("Content-Type", "text/html"),)), Cause.REGISTRY_ERROR),
    ],
)
async def test_the_reason_of_a_refusal_is_asked_for(said: Said, cause: Cause) -> None:
    async with serving({"/v2/a/manifests/1": said}) as server:
        assert (await refusal(server)).cause is cause


async def test_a_rate_limit_is_never_asked_twice() -> None:
    limited = error(429, "TOOMANYREQUESTS", ("Retry-After", "60"))
    async with serving({"/v2/a/manifests/1": limited}) as server:
        fault = await refusal(server)
    assert fault.cause is Cause.RATE_LIMITED
    assert fault.evidence["retry_after"] == "60"
    assert len(server.asked) == 1


async def test_a_manifest_that_is_not_what_was_asked_for_is_corrupt() -> None:
    wanted = Descriptor(OCI, digest_of(b"something else"), 14)
    script = {f"/v2/a/manifests/{wanted.digest}": manifest_said(MANIFEST, OCI)}
    async with serving(script) as server, client(server) as asking:
        with pytest.raises(Fault) as caught:
            await asking.get_manifest(ref(server), wanted)
    assert caught.value.cause is Cause.REGISTRY_CONTENT_CORRUPT


async def test_a_manifest_packed_against_our_will_is_unpacked() -> None:
    packed = Said(200, gzip.compress(MANIFEST), (("Content-Type", OCI), ("Content-Encoding", "gzip")))
    bomb = Said(200, gzip.compress(b" " * 5_000_000), (("Content-Type", OCI), ("Content-Encoding", "gzip")))
    async with serving({"/v2/a/manifests/1": packed, "/v2/a/manifests/2": bomb}) as server, client(server) as asking:
        assert isinstance(await asking.get_manifest(ref(server)), Manifest)
        with pytest.raises(Fault, match="more than 4393216 bytes"):
            await asking.get_manifest(ref(server, "a:2"))


async def test_a_manifest_larger_than_containerds_limit_is_not_read() -> None:
    async with serving({"/v2/a/manifests/1": Said(200, b" " * 4_393_217)}) as server, client(server) as asking:
        with pytest.raises(Fault, match="more than 4393216 bytes"):
            await asking.get_manifest(ref(server))


async def test_an_index_in_itself_ends() -> None:
    endless = json.dumps({"mediaType": OCI_INDEX, "manifests": [described(b"", OCI_INDEX)]}).encode()
    nested = json.dumps({"mediaType": OCI_INDEX, "manifests": [described(endless, OCI_INDEX)]}).encode()
    script = {f"/v2/a/manifests/{digest_of(body)}": manifest_said(body, OCI_INDEX) for body in (endless, nested)}
    script["/v2/a/manifests/1"] = manifest_said(nested, OCI_INDEX)
    async with serving(script) as server, client(server) as asking:
        with pytest.raises(Fault) as caught:
            await asking.manifest(ref(server), None, AMD64)
    assert caught.value.cause in {Cause.DIGEST_NOT_FOUND, Cause.IMAGE_NOT_FOUND}


async def test_a_local_registry_in_clear_is_found_by_falling_back(folder: Path) -> None:
    async with serving({"/v2/": Said()}) as server:
        host = Host("https", LOCAL, server.port, skip_verify=True, fallback_http=True, explicit_port=True)
        async with Client(host, server.authority, open_plain, "a") as asking:
            assert await asking.ping() is None
            assert asking.host.scheme == "http"
    context = server_context(self_signed("registry.example"), folder)
    async with serving({"/v2/": Said()}, context) as server:
        host = Host("https", LOCAL, server.port, skip_verify=True, fallback_http=True, explicit_port=True)
        async with Client(host, server.authority, open_plain, "a") as asking:
            assert await asking.ping() is None
            assert asking.host.scheme == "https"


async def test_an_https_host_never_falls_back() -> None:
    async with serving({"/v2/": Said()}) as server:
        host = Host("https", LOCAL, server.port, explicit_port=True)
        async with Client(host, server.authority, open_plain, "a") as asking:
            with pytest.raises(Fault) as caught:
                await asking.ping()
    assert caught.value.cause is Cause.HTTP_HTTPS_MISMATCH


async def test_a_registry_that_does_not_answer_is_left_in_time() -> None:
    async def talk(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with listening(talk) as port:
        fault = await refusal(Scripted(port), limit=0.2)
    assert fault.cause is Cause.CONNECTION_INTERRUPTED


async def test_headers_that_cannot_be_sent_are_a_fault_of_the_settings() -> None:
    async with serving({}) as server:
        host = Host("http", LOCAL, server.port, headers=(("X-Bad", "a\nb"),), explicit_port=True)
        async with Client(host, server.authority, open_plain, "a") as asking:
            with pytest.raises(Fault) as caught:
                await asking.ping()
    assert caught.value.cause is Cause.HOSTS_CONFIG_INVALID


async def test_a_real_registry_is_walked(registry: Registry) -> None:
    async def opener(scheme: str, _: str, port: int) -> Stream:
        from agent.registry.tls import handshake  # noqa: PLC0415 - the only test that needs it
        from agent.registry.transport import connect  # noqa: PLC0415 - as above

        stream = await connect(["10.99.0.2"], port, 5)
        if scheme == "https":
            await handshake(stream, "registry.example", 5)
        return stream

    url = Url.parse(registry.url)
    image = parse(f"{url.authority}/stage/pause:1")
    async with Client(Host.at(url.scheme, url.authority), image.registry, opener, "node-agent/0") as asking:
        assert await asking.ping() is None
        resolved = await asking.head_manifest(image)
        found = await asking.manifest(image, resolved.descriptor, AMD64)
        assert (await asking.get_config(image, found.config)).platform is not None
        for layer in found.layers:
            assert (await asking.reach_blob(image, layer)).size == layer.size
        with pytest.raises(Fault) as caught:
            await asking.head_manifest(parse(f"{url.authority}/stage/pause:gone"))
        assert caught.value.cause is Cause.TAG_NOT_FOUND
