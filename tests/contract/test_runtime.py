"""The door to the runtime, on a real containerd."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault, Role
from agent.runtime.channel import open_channel, socket_path
from agent.runtime.runtime import Runtime, meet
from agent.runtime.snapshots import Chains, Row
from agent.runtime.store import Store
from stage.containerd import SANDBOX_IMAGE, Containerd
from stage.images import FOREIGN_PLATFORM, Built, filler, image, index, layer
from stage.pods import Pod
from stage.registries import Registry


@pytest.fixture
async def runtime(containerd: Containerd) -> AsyncIterator[Runtime]:
    channel = open_channel(containerd.endpoint)
    try:
        yield await meet(channel, 10, Path("/"))
    finally:
        await channel.close()


@pytest.fixture
def store(runtime: Runtime) -> Store:
    assert runtime.store
    return runtime.store


def built(seed: str) -> Built:
    return image(layer({"bin/app": seed.encode() * 1000}), layer({"etc/conf": seed.encode()}))


async def test_the_runtime_tells_its_name_and_is_ready_without_a_network(runtime: Runtime) -> None:
    assert (runtime.version.name, runtime.status.problem) == ("containerd", "")
    assert runtime.version.version[0].isdigit()


async def test_the_content_store_is_found_where_containerd_keeps_it(containerd: Containerd, registry: Registry) -> None:
    containerd.pull(f"{registry.name}/stage/pause:1")  # from 1.7 on the folder comes with the first blob
    channel = open_channel(containerd.endpoint)
    store = (await meet(channel, 10, Path("/"))).store
    await channel.close()
    assert store
    assert store.content_root == containerd.root / "io.containerd.content.v1.content"


async def test_a_pull_makes_an_image_that_status_list_and_records_know(
    runtime: Runtime, store: Store, registry: Registry
) -> None:
    pushed = built("pulled")
    name = registry.push("contract/pulled", "1", pushed)
    image_id = await runtime.cri.pull(name, None, 60)
    assert image_id == pushed.id
    status = await runtime.cri.image(name)
    assert status and status.id == image_id and name in status.names
    assert any(listed.id == image_id for listed in await runtime.cri.images())
    record = await store.images.record(name)
    assert record and record.digest == pushed.digest
    await runtime.cri.remove(name)
    assert await runtime.cri.image(name) is None


async def test_a_failed_pull_is_a_fault_with_the_cause_that_the_text_tells(runtime: Runtime) -> None:
    with pytest.raises(Fault) as caught:
        await runtime.cri.pull("nowhere.example/app:1", None, 60)
    assert caught.value.cause is Cause.DNS_NOT_FOUND
    assert "nowhere.example" in caught.value.evidence["runtime_error"]


async def test_a_pull_that_takes_too_long_is_a_timeout(runtime: Runtime) -> None:
    with pytest.raises(Fault) as caught:
        await runtime.cri.pull("blackhole.example/app:1", None, 1)
    assert caught.value.cause is Cause.PULL_TIMEOUT


async def test_a_cached_image_is_put_together_from_records_and_labels(
    runtime: Runtime, store: Store, registry: Registry
) -> None:
    here = built("indexed")
    other = image(layer({"bin/app": b"other"}), platform=FOREIGN_PLATFORM)
    both = index(here, other)
    name = registry.push("contract/indexed", "1", both)
    await runtime.cri.pull(name, None, 60)
    (cached,) = [each for each in await store.cached() if name in each.names]
    assert cached.id == both.digest
    assert {blob.digest: blob.role for blob in cached.blobs} == {
        both.digest: Role.TARGET,
        here.digest: Role.MANIFEST,
        here.id: Role.CONFIG,
        **dict.fromkeys((each.digest for each in here.layers), Role.LAYER),
    }
    assert (cached.lost, cached.shared, cached.in_use, cached.pinned) == ((), (), (), False)
    assert cached.title == name


async def test_an_image_knows_with_whom_it_shares_its_blobs(runtime: Runtime, store: Store, registry: Registry) -> None:
    common = layer({"lib/common": b"common" * 500})
    one, two = image(common, layer({"one": b"1"})), image(common, layer({"two": b"2"}))
    names = [registry.push("contract/one", "1", one), registry.push("contract/two", "1", two)]
    for name in names:
        await runtime.cri.pull(name, None, 60)
    shared = {each.id: each.shared for each in await store.cached()}
    assert shared[one.digest] == (names[1],)
    assert shared[two.digest] == (names[0],)


async def test_another_namespace_that_has_a_blob_is_named(
    runtime: Runtime, store: Store, registry: Registry, containerd: Containerd
) -> None:
    pushed = built("moby")
    name = registry.push("contract/moby", "1", pushed)
    await runtime.cri.pull(name, None, 60)
    archive = containerd.folder / "moby.tar"
    containerd.ctr("image", "export", str(archive), name)
    containerd.ctr("image", "import", str(archive), namespace="moby")
    (cached,) = [each for each in await store.cached() if name in each.names]
    assert cached.shared == ("namespace moby",)


async def test_an_image_knows_the_containers_that_stand_on_it(
    store: Store, registry: Registry, containerd: Containerd
) -> None:
    name = f"{registry.name}/stage/pause:1"
    containerd.pull(name)
    with Pod(containerd, name) as pod:
        (cached,) = [each for each in await store.cached() if name in each.names]
        assert f"{pod.namespace}/{pod.name}/{pod.name}" in cached.in_use
    (cached,) = [each for each in await store.cached() if name in each.names]
    assert cached.in_use == ()


async def test_the_sandbox_image_counts_as_pinned_though_old_versions_do_not_mark_it(
    store: Store, containerd: Containerd
) -> None:
    name = SANDBOX_IMAGE
    containerd.pull(name)
    assert [each.pinned for each in await store.cached() if name in each.names] == [True]


async def test_blobs_are_read_over_grpc_as_they_lie_on_the_disk(
    runtime: Runtime, store: Store, registry: Registry
) -> None:
    pushed = image(filler(3, "grpc"))
    await runtime.cri.pull(registry.push("contract/grpc", "1", pushed), None, 60)
    (big,) = pushed.layers
    content = b"".join([chunk async for chunk in store.content.read(big.digest)])
    assert hashlib.sha256(content).hexdigest() == big.digest.removeprefix("sha256:")
    path = store.blob_path(big.digest)
    assert path and content == path.read_bytes()


async def test_what_is_leased_survives_a_collection_and_goes_with_the_lease(
    runtime: Runtime, store: Store, registry: Registry
) -> None:
    pushed = built("leased")
    name = registry.push("contract/leased", "1", pushed)
    await runtime.cri.pull(name, None, 60)
    async with store.leases.hold([pushed.digest], 60):
        await runtime.cri.remove(name)
        assert await store.content.info(pushed.layers[0].digest)
    await store.leases.collect()
    assert await store.content.info(pushed.layers[0].digest) is None


async def test_a_blob_that_was_forgotten_is_adopted_again_with_its_labels(
    runtime: Runtime, store: Store, registry: Registry
) -> None:
    pushed = built("adopted")
    await runtime.cri.pull(registry.push("contract/adopted", "1", pushed), None, 60)
    info = await store.content.info(pushed.id)
    assert info and info.labels
    await store.content.forget(pushed.id)
    assert await store.content.info(pushed.id) is None
    await store.content.adopt(info)
    assert await store.content.info(pushed.id) == info
    await store.content.adopt(info)  # once more does no harm


async def test_a_pull_under_way_shows_its_bytes(runtime: Runtime, store: Store, registry: Registry) -> None:
    name = registry.push("contract/slow", "1", image(filler(64, "slow")))
    pull = asyncio.create_task(runtime.cri.pull(name, None, 60))
    seen: set[str] = set()
    while not pull.done():
        seen |= {ingest.ref.partition("-")[0] for ingest in await store.content.ingests()}
        await asyncio.sleep(0.01)
    await pull
    assert "layer" in seen


def test_the_users_of_a_chain_are_found_through_every_layer_and_a_circle_ends() -> None:
    chains = Chains(
        (
            Row("base", "", committed=True),
            Row("top", "base", committed=True),
            Row("container", "top", committed=False),
            Row("other", "base", committed=False),
            Row("a", "b", committed=False),
            Row("b", "a", committed=False),
        )
    )
    assert chains.users("top") == ("container",)
    assert chains.users("base") == ("container", "other")
    assert [chains.depth(top) for top in ("base", "top", "nowhere")] == [1, 2, 0]


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("unix:///nowhere/containerd.sock", "does not exist"),
        ("unix:///etc/passwd", "not a socket"),
        ("tcp://127.0.0.1:1234", "unix:///"),
        ("/etc", "not a socket"),
    ],
)
def test_a_wrong_endpoint_is_told_in_one_line(endpoint: str, words: str) -> None:
    with pytest.raises(Fault, match=words) as caught:
        socket_path(endpoint)
    assert caught.value.cause is Cause.RUNTIME_UNAVAILABLE
    assert "\n" not in caught.value.detail
