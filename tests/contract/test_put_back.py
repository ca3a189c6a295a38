"""Putting an image aside and back, on a real containerd that collects its garbage all the while."""

import asyncio
import contextlib
import hashlib
import secrets
from pathlib import Path

from agent.model import Fault
from agent.runtime import aside
from agent.runtime.channel import open_channel
from agent.runtime.content import BlobInfo
from agent.runtime.layout import blob_file
from agent.runtime.runtime import meet
from agent.runtime.store import Store
from stage.containerd import Containerd
from stage.images import filler, image, layer
from stage.registries import Registry

ROUNDS = 15


async def collect_for_ever(store: Store) -> None:
    """Collections that look at the files: containerd does that only after the record of a blob was deleted."""
    assert store.content_root
    while True:
        content = secrets.token_bytes(8)
        info = BlobInfo(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
        blob_file(store.content_root, info.digest).write_bytes(content)
        with contextlib.suppress(Fault):  # an earlier collection took the file
            await store.content.adopt(info)
        await store.content.forget(info.digest)
        await store.leases.collect()


async def test_a_collection_at_any_moment_takes_nothing_of_what_is_put_back(
    containerd: Containerd, registry: Registry
) -> None:
    seed = secrets.token_hex(4)
    built = image(layer({"a": seed.encode()}), layer({"b": seed.encode()}), filler(1, seed))
    name = registry.push(f"aside/{seed}", "1", built)
    containerd.pull(name)
    channel = open_channel(containerd.endpoint)
    store = (await meet(channel, 10, Path("/"))).store
    assert store
    assert store.content_root
    for _ in range(ROUNDS):
        (cached,) = [each for each in await store.cached() if name in each.names]
        parcel = await aside.pack(store, cached)
        await aside.set_aside(store, cached, parcel, store.content_root)
        assert not any(containerd.blob(digest).exists() for digest in built.blobs)
        collector = asyncio.create_task(collect_for_ever(store))
        await asyncio.sleep(0.01)
        assert await aside.put_back(store, parcel, store.content_root) == ()
        collector.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collector
        await store.leases.collect()
        for digest in built.blobs:
            found = hashlib.sha256(containerd.blob(digest).read_bytes()).hexdigest()
            assert found == digest.removeprefix("sha256:")
    await channel.close()
    containerd.remove(name)
