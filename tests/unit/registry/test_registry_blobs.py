"""Blobs: where they are reached, and where not."""

import pytest

from agent.causes import Cause
from agent.model import Credential, Fault
from agent.registry.stream import Stream
from tests.unit.registry.asking import (
    BLOB,
    LAYER,
    MANIFEST,
    OCI,
    SOMEONE,
    client,
    error,
    guarded,
    manifest_said,
    ref,
    refusal,
)
from tests.unit.registry.scripted import LOCAL, Said, listening, open_plain, serving


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
