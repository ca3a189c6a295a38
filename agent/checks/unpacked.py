"""unpacked: whether the layers that containers run on are what their blobs unpack to.

All of overlayfs alone: other snapshotters keep whole trees, or fetch a file when it is read. Records first: each layer
that the config names must have a snapshot, once an unpack was finished, as the config's label tells. Then the files: at
the depths ``quick`` and ``blobs`` they are counted, and compared with the count that containerd took when it unpacked
them; what differs is proved by content where the blob is here. At ``full`` each is compared by content.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.causes import Cause
from agent.checks.ladder import finding_of
from agent.checks.stored import BlobReader
from agent.model import OVERLAYFS, Blob, Check, Depth, Fault, Finding, Image, Snapshot, Verdict
from agent.node.clock import platform
from agent.runtime.anatomy import Anatomy, ImageLayer
from agent.runtime.blobs import Stopped
from agent.runtime.channel import Absent
from agent.runtime.layers.apart import Layers
from agent.runtime.layers.records import Comparison, Layer, Usage
from agent.runtime.layout import is_ext4
from agent.runtime.store import Store

SHOWN = 10
"""Paths in the evidence of one layer."""

Findings = tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Unpacked:
    """One layer with a record, and where its files are."""

    layer: ImageLayer
    snapshot: Snapshot
    folders: tuple[str, ...] = field(default=())  # its own first, then those below it


class UnpackedReader:
    """Looks at each unpacked layer once; what a comparison says of the blob is said as `BlobReader` says it."""

    def __init__(self, store: Store, layers: Layers, blobs: BlobReader) -> None:
        self._store = store
        self._layers = layers
        self._blobs = blobs
        self._done: dict[tuple[str, tuple[str, ...], Depth, str], asyncio.Task[Findings]] = {}

    async def comparable(self, image: Image, anatomies: Iterable[Anatomy]) -> frozenset[str]:
        """The layers' digests that a comparison by content reads anyway."""
        if self._store.content_root is None:
            return frozenset()
        here = {blob.digest for blob in image.blobs}
        unpacked = (layer for anatomy in anatomies for layer, _ in _with_files(image, anatomy))
        return frozenset(layer.digest for layer in unpacked if layer.digest in here)

    async def findings(self, image: Image, anatomy: Anatomy, depth: Depth, lease: str) -> Findings:
        """What is wrong with the unpacked layers of one manifest of `image`."""
        if not anatomy.tops:
            return tuple(_nowhere(image, anatomy))
        records = [finding async for finding in self._records(image, anatomy)]
        try:
            files = await self._files(image, anatomy, depth, lease)
        except Fault as fault:
            files = (replace(finding_of(fault, Check.UNPACKED, anatomy.top), verdict=Verdict.UNKNOWN),)
        except Absent:
            files = (
                Finding(Check.UNPACKED, anatomy.top, Verdict.UNKNOWN, Cause.UNKNOWN, "it went while it was looked at"),
            )
        return (*records, *files)

    def forget(self, chains: Iterable[str]) -> None:
        """Look at these chain IDs again the next time."""
        gone = frozenset(chains)
        self._done = {key: task for key, task in self._done.items() if key[0] not in gone}

    async def _records(self, image: Image, anatomy: Anatomy) -> AsyncIterator[Finding]:
        """Of overlayfs alone: what another snapshotter lost is made anew when a container needs it."""
        top = anatomy.tops.get(OVERLAYFS)
        if top is None or not anatomy.layers:
            return
        if top != anatomy.top:
            detail = f"the label of config {anatomy.config} names {top} as its unpacked layers"
            evidence = {"expected": anatomy.top, "found": top}
            yield Finding(Check.UNPACKED, anatomy.top, Verdict.BAD, Cause.METADATA_BROKEN, detail, evidence)
        listed = {snapshot.chain for snapshot in image.snapshots if snapshot.snapshotter == OVERLAYFS}
        for layer in anatomy.layers:
            if layer.chain not in listed:
                yield await self._unlisted(image, layer)

    async def _unlisted(self, image: Image, layer: ImageLayer) -> Finding:
        """A layer of an unpacked image that is not in the list of snapshots."""
        try:
            if await self._store.snapshots.has(OVERLAYFS, layer.chain):
                return Finding(Check.UNPACKED, layer.chain, Verdict.OK)  # another label leads to it
        except Fault as fault:
            if fault.cause is Cause.METADATA_BROKEN:
                return finding_of(fault, Check.SNAPSHOTTER, layer.chain)
            return replace(finding_of(fault, Check.UNPACKED, layer.chain), verdict=Verdict.UNKNOWN)
        detail = f"{image.title} is unpacked, but its layer {layer.digest} has no snapshot any more"
        evidence = {"layer": layer.digest}
        return Finding(Check.UNPACKED, layer.chain, Verdict.BAD, Cause.SNAPSHOT_MISSING, detail, evidence)

    async def _files(self, image: Image, anatomy: Anatomy, depth: Depth, lease: str) -> Findings:
        """The files of the layers, the lowest first; those of the layers that other images share are looked at once."""
        unpacked = [_Unpacked(layer, snapshot) for layer, snapshot in _with_files(image, anatomy)]
        if self._store.content_root is None:
            return _out_of_reach(anatomy) if unpacked and depth is Depth.FULL else ()
        unpacked = await self._located(unpacked, lease)
        found = await asyncio.gather(*(self._once(image, each, depth) for each in unpacked))
        return tuple(
            _whose(finding, image, each) for each, some in zip(unpacked, found, strict=True) for finding in some
        )

    async def _located(self, unpacked: list[_Unpacked], lease: str) -> list[_Unpacked]:
        """With the folders of each, from one view of the highest layer whose own folder is there."""
        folders: tuple[str, ...] = ()
        for each in reversed(unpacked):
            if located := await self._store.snapshots.folders(each.layer.chain, lease):
                folders = located
                break
        count = len(folders)
        return [
            replace(each, folders=folders[count - number :] if number <= count else ())
            for number, each in enumerate(unpacked, 1)
        ]

    async def _once(self, image: Image, each: _Unpacked, depth: Depth) -> Findings:
        """By its folder, since a layer that was unpacked anew has another one, and by the blob: images share what they
        unpack to though they are compressed otherwise."""
        blob = next((blob.digest for blob in image.blobs if blob.digest == each.layer.digest), "")
        key = (each.layer.chain, each.folders[:1], depth, blob)
        task = self._done.get(key)
        if task is None:
            task = self._done[key] = asyncio.create_task(self._examine(image, each, depth))
        return await asyncio.shield(task)

    async def _examine(self, image: Image, each: _Unpacked, depth: Depth) -> Findings:
        began = time.monotonic()
        try:
            found = await self._look(image, each, depth)
        except Stopped:
            return (
                Finding(
                    Check.UNPACKED, each.layer.chain, Verdict.UNKNOWN, Cause.UNKNOWN, "the verification was stopped"
                ),
            )
        except Fault as fault:
            seconds = time.monotonic() - began
            found = (finding_of(fault, Check.UNPACKED, each.layer.chain, seconds),)
        return await self._confirmed(found, each.snapshot)

    async def _confirmed(self, findings: Findings, snapshot: Snapshot) -> Findings:
        """Damage, unless the snapshot was removed while it was looked at."""
        bad = any(finding.check == Check.UNPACKED and finding.verdict is Verdict.BAD for finding in findings)
        if not bad or await self._store.snapshots.has(snapshot.snapshotter, snapshot.chain):
            return findings
        detail = "it was removed while it was looked at"
        return tuple(replace(finding, verdict=Verdict.UNKNOWN, detail=detail) for finding in findings)

    async def _look(self, image: Image, each: _Unpacked, depth: Depth) -> Findings:
        blob = next((blob for blob in image.blobs if blob.digest == each.layer.digest), None)
        if not each.folders:
            stored = (await self._blobs.finding(blob, read=True),) if blob and depth is Depth.FULL else ()
            return (*(each for each in stored if each.verdict is not Verdict.OK), _gone(image, each.layer))
        path = self._store.blob_path(each.layer.digest)
        if blob is None or path is None:
            return await self._counted(image, each)
        if depth is Depth.FULL:
            return await self._compared(image, each, blob, path)
        # what only differs in number is proved by content
        return await self._compared(image, each, blob, path) if await self._counted(image, each) else ()

    async def _counted(self, image: Image, each: _Unpacked) -> Findings:
        """By number and size: what can be told without the blob."""
        recorded = await self._store.snapshots.usage(each.snapshot.snapshotter, each.layer.chain)
        folder = self._store.file(each.folders[0])
        try:
            counted = await self._layers.usage(folder)
        except Fault as fault:
            if fault.cause is not Cause.SNAPSHOT_MISSING:
                raise
            return (_gone(image, each.layer),)
        less = counted.bytes < recorded.bytes and is_ext4(folder)
        if not recorded.inodes or (counted.inodes == recorded.inodes and not less):
            return ()
        detail = f"layer {each.layer.digest} was unpacked to {_usage(recorded)}, of which {_usage(counted)} are there"
        evidence = {"layer": each.layer.digest, "expected": _usage(recorded), "found": _usage(counted)}
        return (Finding(Check.UNPACKED, each.layer.chain, Verdict.BAD, Cause.SNAPSHOT_CORRUPT, detail, evidence),)

    async def _compared(self, image: Image, each: _Unpacked, blob: Blob, path: Path) -> Findings:
        """By content; where the blob itself is damaged, by number and size."""
        began = time.monotonic()
        own, *below = (self._store.file(folder) for folder in each.folders)
        try:
            comparison = await self._layers.compare(Layer(own, tuple(below), path, blob.digest, blob.size))
        except Fault as fault:
            if fault.cause is Cause.SNAPSHOT_MISSING:
                stored = await self._blobs.finding(blob, read=True)
                return (*((stored,) if stored.verdict is not Verdict.OK else ()), _gone(image, each.layer))
            judged = await self._blobs.judge(fault, blob, time.monotonic() - began)
            return (judged, *await self._counted(image, each))
        if comparison.incomparable:
            return await self._counted(image, each)
        return tuple(_corrupt(each.layer, comparison, time.monotonic() - began)) if comparison.differences else ()


def _gone(image: Image, layer: ImageLayer) -> Finding:
    detail = f"the directory of layer {layer.digest} is gone, which {image.title} is unpacked to"
    evidence = {"layer": layer.digest}
    return Finding(Check.UNPACKED, layer.chain, Verdict.BAD, Cause.SNAPSHOT_MISSING, detail, evidence)


def _out_of_reach(anatomy: Anatomy) -> Findings:
    detail = "the unpacked files cannot be reached: mount containerd's root, or verify at depth blobs"
    return (Finding(Check.UNPACKED, anatomy.top, Verdict.UNKNOWN, Cause.UNKNOWN, detail),)


def _with_files(image: Image, anatomy: Anatomy) -> Iterator[tuple[ImageLayer, Snapshot]]:
    """The layers that overlayfs has unpacked to files of this node."""
    known = {each.chain: each for each in image.snapshots if each.snapshotter == OVERLAYFS and not each.remote}
    return ((layer, known[layer.chain]) for layer in anatomy.layers if layer.chain in known)


def _nowhere(image: Image, anatomy: Anatomy) -> Iterator[Finding]:
    """An image of this platform that was never unpacked, and whose layers are not here either: nothing runs from it."""
    this = platform()
    if anatomy.platform != f"{this.os}/{this.architecture}":
        return
    here = {blob.digest for blob in image.blobs}
    absent = [layer.digest for layer in anatomy.layers if layer.digest not in here and not layer.foreign]
    if absent:
        detail = f"{image.title} is not unpacked, and its layer {absent[0]} is not here either"
        # of the content store: a pull fetches what is not here, and unpacks it with the snapshotter that is configured
        yield Finding(Check.CACHE, anatomy.top, Verdict.BAD, Cause.SNAPSHOT_MISSING, detail, {"layer": absent[0]})


def _corrupt(layer: ImageLayer, comparison: Comparison, seconds: float) -> Iterator[Finding]:
    told = [
        f"{each.path}: {each.what}: expected {each.expected}, found {each.found}" for each in comparison.differences
    ]
    more = f" (and {comparison.count - 1} more)" if comparison.count > 1 else ""
    evidence = {
        "layer": layer.digest,
        "path": comparison.differences[0].path,
        "expected": comparison.differences[0].expected,
        "found": comparison.differences[0].found,
        "differences": str(comparison.count),
        "paths": "\n".join(told[:SHOWN]),
    }
    yield Finding(Check.UNPACKED, layer.chain, Verdict.BAD, Cause.SNAPSHOT_CORRUPT, told[0] + more, evidence, seconds)


def _whose(finding: Finding, image: Image, each: _Unpacked) -> Finding:
    """With the images and the containers that stand on the layer."""
    if finding.verdict is Verdict.OK:
        return finding
    owners: Mapping[str, tuple[str, ...]] = {
        "images": (image.title, *each.snapshot.shared),
        "in_use": each.snapshot.in_use,
    }
    return replace(
        finding, evidence={**finding.evidence, **{key: ", ".join(names) for key, names in owners.items() if names}}
    )


def _usage(usage: Usage) -> str:
    return f"{usage.inodes} inodes with {usage.bytes} bytes"
