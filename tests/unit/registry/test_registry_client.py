"""A client against registries that behave, and that do not."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Credential, Fault, ImageRef
from agent.registry.client import Client
from agent.registry.hosts import Host
from agent.registry.manifests import Descriptor, Manifest, digest_of
from agent.registry.messages import Url
from agent.registry.platforms import Platform
from agent.registry.reference import parse
from agent.registry.session import Opener
from agent.registry.stream import Stream
from stage.authority import self_signed
from stage.registries import Registry
from tests.unit.registry.scripted import LOCAL, Asked, Said, Scripted, listening, open_plain, server_context, serving

OCI, OCI_INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
SOMEONE = Credential("someone", "hunter2")
AMD64 = Platform("linux", "amd64")
CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()
LAYER = b"layer" * 100


def described(body: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}


MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": OCI, "config": described(CONFIG, "c"), "layers": [described(LAYER, "l")]}
).encode()
INDEX = json.dumps({
    "schemaVersion": 2, "mediaType": OCI_INDEX,
    "manifests": [described(MANIFEST, OCI) | {"platform": {"os": "linux", "architecture": "amd64"}}],
}).encode()  # fmt: skip
BLOB = Descriptor("l", digest_of(LAYER), len(LAYER))


def manifest_said(body: bytes, media_type: str, *fields: tuple[str, str]) -> Said:
    return Said(200, body, (("Content-Type", media_type), ("Docker-Content-Digest", digest_of(body)), *fields))


def error(status: int, code: str, *fields: tuple[str, str]) -> Said:
    return Said(status, json.dumps({"errors": [{"code": code, "message": "m"}]}).encode(), fields)


def ref(server: Scripted, name: str = "a:1") -> ImageRef:
    return parse(f"{server.authority}/{name}")


def client(
    server: Scripted,
    namespace: str | None = None,
    credential: Credential | None = None,
    *,
    path: str = "/v2",
    opener: Opener = open_plain,
    limit: float = 5,
) -> Client:
    host = Host.at("http", server.authority, path)
    return Client(host, namespace or server.authority, opener, "node-agent/0", credential=credential, limit=limit)


async def refusal(server: Scripted, credential: Credential | None = None, *, limit: float = 5) -> Fault:
    async with client(server, credential=credential, limit=limit) as asking:
        with pytest.raises(Fault) as caught:
            await asking.head_manifest(ref(server))
    assert "hunter2" not in str(caught.value) + str(caught.value.evidence)
    return caught.value


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


def guarded(said: Said) -> Scripted:
    """A registry whose manifest wants a token of its own token server."""
    server = Scripted()

    def answer(asked: Asked) -> Said:
        if asked.headers.get("authorization") == "Bearer granted":
            return said
        realm = f'Bearer realm="http://{server.authority}/token",service="s",scope="repository:a:pull"'
        return Said(401, b"", (("WWW-Authenticate", realm),))

    server.script = {"/v2/a/manifests/1": answer, "/v2/": answer, f"/v2/a/blobs/{digest_of(LAYER)}": answer}
    server.script["/token"] = Said(200, b'{"access_token": "granted"}')
    return server


async def test_a_token_is_got_once_and_used_again() -> None:
    server = guarded(manifest_said(MANIFEST, OCI))
    async with listening(server.talk) as server.port, client(server) as asking:
        for _ in range(2):
            await asking.head_manifest(ref(server))
    assert server.lines().count("GET /token") == 1
    assert len(server.asked) == 4


async def test_a_ping_tells_the_challenge_and_a_token_is_then_shown_at_once() -> None:
    server = guarded(manifest_said(MANIFEST, OCI))
    async with listening(server.talk) as server.port, client(server, credential=SOMEONE) as asking:
        challenge = await asking.ping()
        assert challenge is not None
        await asking.authorize(challenge, ref(server))
        await asking.head_manifest(ref(server))
    assert server.lines() == ["GET /v2/", "POST /token", "HEAD /v2/a/manifests/1"]


async def test_an_expired_token_is_got_again() -> None:
    server = guarded(manifest_said(MANIFEST, OCI))
    server.script["/token"] = Said(200, b'{"token": "granted", "expires_in": 0.05}')
    async with listening(server.talk) as server.port, client(server) as asking:
        await asking.head_manifest(ref(server))
        await asyncio.sleep(0.1)
        await asking.head_manifest(ref(server))
    assert server.lines().count("GET /token") == 2


@pytest.mark.parametrize(
    ("credential", "cause"), [(None, Cause.AUTH_REQUIRED), (SOMEONE, Cause.AUTH_DENIED)], ids=["anonymous", "shown"]
)
async def test_a_token_that_grants_nothing_is_not_asked_for_without_end(
    credential: Credential | None, cause: Cause
) -> None:
    server = guarded(manifest_said(MANIFEST, OCI))
    server.script["/token"] = Said(200, b'{"access_token": "worthless"}')
    async with listening(server.talk) as server.port:
        fault = await refusal(server, credential)
    assert fault.cause is cause
    assert sum("/token" in line for line in server.lines()) == 1


async def test_a_refused_password_is_told_without_it() -> None:
    server = guarded(manifest_said(MANIFEST, OCI))
    server.script["/token"] = lambda asked: error(401, f"UNAUTHORIZED {asked.headers} {asked.body!r}")
    async with listening(server.talk) as server.port:
        fault = await refusal(server, SOMEONE)
    assert fault.cause is Cause.AUTH_DENIED


async def test_a_server_that_repeats_the_password_is_not_repeated() -> None:
    echo = Said(
        400, json.dumps({"errors": [{"code": "X", "message": "no hunter2 here, c29tZW9uZTpodW50ZXIy"}]}).encode()
    )
    async with serving({"/v2/a/manifests/1": echo}) as server, client(server, credential=SOMEONE) as asking:
        with pytest.raises(Fault, match=r"no \*\*\* here, \*\*\*"):
            await asking.get_manifest(ref(server))


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


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (Said(403), Cause.BLOB_FORBIDDEN),
        (Said(404), Cause.REGISTRY_CONTENT_CORRUPT),
        (error(404, "BLOB_UNKNOWN"), Cause.REGISTRY_CONTENT_CORRUPT),
        (Said(206, b"l", (("Content-Range", "bytes 0-0/499"),)), Cause.REGISTRY_CONTENT_CORRUPT),
        (Said(200, LAYER[1:]), Cause.REGISTRY_CONTENT_CORRUPT),
        (Said(503), Cause.REGISTRY_ERROR),
        (Said(429), Cause.RATE_LIMITED),
    ],
)
async def test_a_blob_that_cannot_be_had_has_its_cause(said: Said, cause: Cause) -> None:
    async with serving({f"/v2/a/blobs/{BLOB.digest}": said}) as server, client(server) as asking:
        with pytest.raises(Fault) as caught:
            await asking.reach_blob(ref(server), BLOB)
    assert caught.value.cause is cause


async def test_a_blob_is_reached_at_another_host_without_our_authorization() -> None:
    async with serving({"/store": Said(206, b"l", (("Content-Range", f"bytes 0-0/{len(LAYER)}"),))}) as store:
        there = Said(307, b"", (("Location", f"http://{store.authority}/store?signature=s"),))
        server = guarded(there)
        async with listening(server.talk) as server.port, client(server, credential=SOMEONE) as asking:
            reached = await asking.reach_blob(ref(server), BLOB)
    assert reached.host == store.authority
    assert store.asked[0].headers["range"] == "bytes=0-0"
    assert "authorization" not in store.asked[0].headers
    assert "authorization" in server.asked[-1].headers


@pytest.mark.parametrize("status", [401, 403])
async def test_a_blob_host_that_refuses_is_a_forbidden_blob(status: int) -> None:
    async with serving({"/store": Said(status, b"<Error/>")}) as store:
        there = Said(307, b"", (("Location", f"http://cdn.example:{store.port}/store"),))
        async with serving({f"/v2/a/blobs/{BLOB.digest}": there}) as server, client(server) as asking:
            with pytest.raises(Fault) as caught:
                await asking.reach_blob(ref(server), BLOB)
    assert caught.value.cause is Cause.BLOB_FORBIDDEN
    assert "cdn.example" in caught.value.detail


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest", "/loop", "ftp://x/", ""])
async def test_a_bad_redirect_is_not_followed(location: str) -> None:
    script = {
        "/v2/a/manifests/1": Said(307, b"", (("Location", location),)),
        "/loop": Said(307, b"", (("Location", "/v2/a/manifests/1"),)),
    }
    async with serving(script) as server:
        assert (await refusal(server)).cause is Cause.REGISTRY_ERROR
    assert len(server.asked) <= 2


async def test_a_name_that_turns_out_to_be_inside_is_hung_up_on() -> None:
    """The registry's own connection says it is outside; the name in its redirect leads to loopback."""
    opened: list[Stream] = []

    async def opener(scheme: str, host: str, port: int) -> Stream:
        opened.append(await open_plain(scheme, host, port))
        if host == LOCAL:
            opened[-1].address = "192.0.2.1"
        return opened[-1]

    async with serving({"/secret": Said(200, b"inside")}) as inside:
        there = Said(307, b"", (("Location", f"http://rebound.example:{inside.port}/secret"),))
        async with serving({"/v2/a/manifests/1": there}) as server, client(server, opener=opener) as asking:
            with pytest.raises(Fault, match="loopback"):
                await asking.get_manifest(ref(server))
    assert inside.asked == []
    assert all(stream.closed for stream in opened)


@pytest.mark.parametrize("credential", [None, SOMEONE], ids=["anonymous", "shown"])
async def test_a_token_servers_redirect_never_takes_a_password_along(credential: Credential | None) -> None:
    async with serving({"/other": Said(200, b'{"token": "granted"}')}) as other:
        server = guarded(manifest_said(MANIFEST, OCI))
        server.script["/token"] = Said(307, b"", (("Location", f"http://{other.authority}/other"),))
        async with listening(server.talk) as server.port, client(server, credential=credential) as asking:
            if credential is None:
                await asking.head_manifest(ref(server))
            else:
                with pytest.raises(Fault, match="credentials do not follow"):
                    await asking.head_manifest(ref(server))
    assert len(other.asked) == (credential is None)


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
