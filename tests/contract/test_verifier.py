"""What the verifier makes of lists that were true a moment ago, on a real containerd."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.checks.cache import Verifier
from agent.model import Depth, Image
from agent.runtime.blobs import Budget
from agent.runtime.channel import open_channel
from agent.runtime.runtime import meet
from agent.runtime.store import Store
from stage.containerd import Containerd
from stage.images import image, layer
from stage.registries import Registry


@pytest.fixture
async def store(containerd: Containerd) -> AsyncIterator[Store]:
    channel = open_channel(containerd.endpoint)
    found = (await meet(channel, 10, Path("/"))).store
    assert found
    yield found
    await channel.close()


@pytest.fixture
async def listed(store: Store, containerd: Containerd, registry: Registry) -> Image:
    name = registry.push("verifier/app", secrets.token_hex(4), image(layer({"data": secrets.token_bytes(1000)})))
    containerd.pull(name)
    return next(each for each in await store.cached() if name in each.names)


async def test_a_record_that_a_pull_made_after_the_blobs_were_listed_is_not_lost(store: Store, listed: Image) -> None:
    stale = replace(listed, lost=(listed.id,))
    async with Verifier(store, Budget(None), 1) as verifier:
        assert await verifier.image(stale, Depth.FULL) == ()


async def test_an_image_that_was_removed_since_it_was_listed_is_unknown(
    store: Store, listed: Image, containerd: Containerd
) -> None:
    containerd.remove(listed.title)
    async with Verifier(store, Budget(None), 1) as verifier:
        (finding,) = await verifier.image(listed, Depth.FULL)
    assert finding.verdict == "unknown"


async def test_a_deeper_look_is_not_answered_by_a_quicker_one(
    store: Store, listed: Image, containerd: Containerd
) -> None:
    blob = containerd.blob(next(each.digest for each in listed.blobs if each.role == "layer"))
    content = bytearray(blob.read_bytes())
    content[-5] ^= 1
    async with Verifier(store, Budget(None), 1) as verifier:
        blob.write_bytes(content)
        assert await verifier.image(listed, Depth.QUICK) == ()
        assert [finding.cause for finding in await verifier.image(listed, Depth.FULL)] == ["blob_corrupt"]
    containerd.remove(listed.title)
