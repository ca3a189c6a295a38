"""Work: the actions of a repair on one image, with the debt on the disk before the first deed.

A process that is killed in between leaves a trail: `settle_repair` deletes what was put aside, since each bad file was
replaced by bytes that had been checked, and unpacks what had been dropped.
"""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agent.actions import Action, Fetch, Leave, Pull, Rebuild, Reload, ReplaceFiles, Unpack
from agent.causes import Cause
from agent.checks.climb import Climber
from agent.checks.disk import room
from agent.model import Blob, Fault, Image, ImageRef, Role
from agent.node import disk
from agent.node.ledger import Debt
from agent.plan import reference
from agent.registry.client import Client
from agent.registry.reference import parse
from agent.round.diagnose import pull_with
from agent.round.rebuild import finish, owners_of, rebuild, unpack_missing
from agent.round.tools import DONE, Deeds, Tools
from agent.runtime import aside
from agent.runtime.anatomy import ImageLayer
from agent.runtime.channel import Absent
from agent.runtime.content import BlobInfo
from agent.runtime.layers.records import Layer
from agent.runtime.layers.replace import forget_replaced
from agent.runtime.layout import disk_faults
from agent.runtime.leases import LEASE_SECONDS
from agent.runtime.replace import Download, add, forget_bad_files
from agent.runtime.replace import replace as replace_blob

REPAIR = "repair"
RESERVE = 0.05
"""Share of the file system that a mended blob may not take."""

UNPACKING = frozenset({"rebuild", "unpack"})
UNCOMPRESSED, SOURCE = "containerd.io/uncompressed", "containerd.io/distribution.source."


class Work:
    """What mends one image; ``deeds`` are told of as they are done. Made by `begin`."""

    def __init__(self, tools: Tools, image: Image, climber: Climber, lease: str) -> None:
        self.deeds = Deeds(image)
        self._tools = tools
        self._image = image
        self._climber = climber
        self._lease = lease

    @property
    def owes(self) -> bool:
        """Whether layers were dropped, or were to be, and could not be unpacked again: the debt stays."""
        return any(deed.action in UNPACKING and deed.outcome != DONE for deed in self.deeds.done)

    async def do(self, plan: Sequence[Action]) -> None:
        """Carry out the plan; ends with the first action that fails, which is among the deeds."""
        for action in plan:
            if isinstance(action, Leave):
                self.deeds.note(action, action.reason)
                continue
            with self.deeds.doing(action):
                await self._carry_out(action)

    async def _carry_out(self, action: Action) -> None:
        store = self._tools.store
        match action:
            case Fetch(digests=digests):
                await self._fetch(digests)
            case Pull(image=name):
                credentials = self._tools.keyring.lookup(parse(name))
                limit = self._tools.view.limits.pull
                await pull_with(self._tools.runtime, name, credentials, limit, self._tools.seen)
            case Rebuild(chains=chains):
                await rebuild(store, self._image, frozenset(chains))
            case Unpack(chains=chains):
                await unpack_missing(store, self._image, frozenset(chains))
            case ReplaceFiles(chains=chains):
                for chain in chains:
                    layer = await layer_of(self._tools, self._image, chain, self._lease)
                    await self._tools.verifier.layers.replace_files(layer)
            case Reload():
                await aside.wake(store, self._image.id)
            case _:
                raise AssertionError(f"a repair does not {action}")

    async def _fetch(self, digests: Sequence[str]) -> None:
        name = reference(self._image)
        found = self._climber.found(name) if name else None
        if not name or not found:
            raise Fault(Cause.UNKNOWN, "the registry was not reached")
        recorded = {blob.digest: blob for blob in self._image.blobs}
        absent = {layer.digest: layer for layer in await _layers(self._tools, self._image)}
        async with self._climber.client(name, found, self._tools.view.limits.pull) as client:
            for digest in digests:
                if blob := recorded.get(digest):
                    await self._replace(client, parse(name), blob)
                else:
                    await self._add(client, parse(name), absent[digest])

    async def _replace(self, client: Client, ref: ImageRef, blob: Blob) -> None:
        _expect_room(self._tools, blob.size)
        await replace_blob(self._tools.root, blob, _download(client, ref, blob))

    async def _add(self, client: Client, ref: ImageRef, layer: ImageLayer) -> None:
        """A layer without a record: its labels are those of containerd's own pull."""
        _expect_room(self._tools, 2 * layer.size)
        labels = {UNCOMPRESSED: layer.diff_id, SOURCE + ref.registry: ref.path}
        info = BlobInfo(layer.digest, layer.size, labels)
        download = _download(client, ref, Blob(layer.digest, layer.size, Role.LAYER))
        await add(self._tools.store.content, self._tools.root, info, download, self._lease)


@asynccontextmanager
async def begin(tools: Tools, image: Image, climber: Climber, plan: Sequence[Action]) -> AsyncIterator[Work]:
    """Note the debt, and keep the image from being collected while it is mended."""
    async with tools.store.leases.hold([image.id], LEASE_SECONDS) as lease:
        details = await _details(tools, image, plan, lease)
        tools.ledger.owe(Debt(image.id, image.names, REPAIR, details, since=time.time()))
        yield Work(tools, image, climber, lease)


def end(tools: Tools, image: Image, bad: Iterable[str]) -> None:
    """Delete what was put aside, except for subjects that are still `bad`, and strike off the debt.

    Raises `Fault`, with the debt as it was, when the disk refuses.
    """
    still_bad = set(bad)
    debt = next((debt for debt in tools.ledger.debts() if debt.id == image.id), None)
    if debt is not None:
        _tidy(tools, debt, still_bad)
        tools.ledger.strike(image.id)


async def settle_repair(tools: Tools, debt: Debt) -> None:
    """Finish what can be finished of a repair that was cut short."""
    _tidy(tools, debt, set())
    await finish(tools.store, _texts(debt, "unpack"))


async def _details(tools: Tools, image: Image, plan: Sequence[Action], lease: str) -> dict[str, Any]:
    """What `settle_repair` and `end` need: blobs that are replaced, images to unpack, folders that are mended."""
    dropped = frozenset(chain for action in plan if isinstance(action, Rebuild) for chain in action.chains)
    mended = [chain for action in plan if isinstance(action, ReplaceFiles) for chain in action.chains]
    owners = await owners_of(tools.store, image, dropped) if dropped else ()
    fetched = [digest for action in plan if isinstance(action, Fetch) for digest in action.digests]
    return {
        "digests": fetched,
        "unpack": sorted({owner.image.id for owner in owners}),
        "folders": {chain: (await _folders(tools, chain, lease))[0] for chain in mended},
    }


def _tidy(tools: Tools, debt: Debt, still_bad: set[str]) -> None:
    forget_bad_files(tools.root, [digest for digest in _texts(debt, "digests") if digest not in still_bad])
    folders = debt.details.get("folders")
    for chain, folder in folders.items() if isinstance(folders, dict) else ():
        if chain not in still_bad:
            with disk_faults():
                forget_replaced(tools.store.file(folder))


def _texts(debt: Debt, key: str) -> list[str]:
    return [str(each) for each in debt.details.get(key, ())]


async def layer_of(tools: Tools, image: Image, chain: str, lease: str) -> Layer:
    """An unpacked layer of `image` and its blob, as a worker takes it. Raises `Fault` when it is gone."""
    layer = next((layer for layer in await _layers(tools, image) if layer.chain == chain), None)
    path = tools.store.blob_path(layer.digest) if layer else None
    if layer is None or path is None:
        raise _went(chain)
    own, *below = (tools.store.file(folder) for folder in await _folders(tools, chain, lease))
    return Layer(own, tuple(below), path, layer.digest, layer.size)


async def _folders(tools: Tools, chain: str, lease: str) -> tuple[str, ...]:
    """As containerd sees them: its process, by which we see them, may be another one when a debt is paid."""
    try:
        folders = await tools.store.snapshots.folders(chain, lease)
    except Absent:
        folders = None
    if not folders:
        raise _went(chain)
    return folders


def _went(chain: str) -> Fault:
    return Fault(Cause.SNAPSHOT_MISSING, f"the unpacked layer {chain} went meanwhile")


async def _layers(tools: Tools, image: Image) -> list[ImageLayer]:
    return [layer for anatomy in await tools.store.anatomies(image) for layer in anatomy.layers]


def _expect_room(tools: Tools, size: int) -> None:
    """A second copy must fit, and leave the kubelet no reason to evict pods. Raises `Fault` (``disk_full``)."""
    found = room(tools.view)
    disk.check(found, size + int(found.total * RESERVE))


def _download(client: Client, ref: ImageRef, blob: Blob) -> Download:
    """How to get `blob` of the repository of `ref`: manifests and blobs have places of their own."""
    is_manifest = blob.role in {Role.TARGET, Role.MANIFEST}
    return lambda sink: client.download(ref.at(blob.digest), blob.size, sink, is_manifest=is_manifest)
