"""Tokens: got once, got again, and told to nobody."""

import asyncio
import json

import pytest

from agent.causes import Cause
from agent.model import Credential, Fault
from tests.unit.registry.asking import (
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
from tests.unit.registry.scripted import Said, listening, serving


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
