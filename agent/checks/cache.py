"""cache: whether a cached image is what its digests say, down to the unpacked files, looked at under a lease.

What is normal is never flagged: layers and other platforms' manifests without a record, images that were never
unpacked, snapshotters that fetch a file when it is read, pulls under way. An image that changes while it is looked at
is ``unknown``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import chain
from types import TracebackType
from typing import Self, TypeVar

from agent.causes import Cause
from agent.checks import ingests
from agent.checks.stored import BlobReader
from agent.checks.unpacked import UnpackedReader
from agent.model import Check, Depth, Fault, Finding, Image, Verdict
from agent.runtime.blobs import Budget
from agent.runtime.layers.apart import Layers
from agent.runtime.leases import LEASE_SECONDS
from agent.runtime.store import Store

S = TypeVar("S")
T = TypeVar("T")

PATIENCE = 1.0
"""Seconds until CRI must have heard of a record."""


class Verifier:
    """Examines images, and each blob and each unpacked layer once, however many images share it.

    ``workers`` files are read at the same time, and as many layers compared; ``seen`` is told of every chunk's length.
    Leave it (``async with``), so that its child processes end.
    """

    def __init__(
        self, store: Store, budget: Budget, workers: int, seen: Callable[[int], None] = lambda _: None
    ) -> None:
        self._store = store
        self._budget = budget
        self._seen = seen
        self.layers = Layers(workers, budget, seen)
        self._blobs = BlobReader(store, budget, workers, seen)
        self._unpacked = UnpackedReader(store, self.layers, self._blobs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.layers.close()

    async def image(self, image: Image, depth: Depth = Depth.BLOBS) -> tuple[Finding, ...]:
        """What is wrong with `image`; nothing when it is sound."""
        async with self._store.leases.hold([image.id], LEASE_SECONDS) as lease:
            if await self._in_flux(image):
                return (_changed(image),)
            lost = [_lost(image, digest) for digest in image.lost if await self._store.content.info(digest) is None]
            found = await self._look(image, depth, lease)
            if any(finding.verdict is Verdict.BAD for finding in found):
                self._expect_files()
                if await self._in_flux(image):
                    return (_changed(image),)
            if not lost and all(finding.verdict is Verdict.OK for finding in found):
                found = await self._unknown_to_cri(image)
        return tuple(finding for finding in (*lost, *found) if finding.verdict is not Verdict.OK)

    async def _look(self, image: Image, depth: Depth, lease: str) -> list[Finding]:
        """Documents first: only what they say is known to be right can tell what the layers must be."""
        anatomies = await self._store.anatomies(image)
        compared = await self._unpacked.comparable(image, anatomies) if depth is Depth.FULL else frozenset()
        blobs = (blob for blob in image.blobs if blob.digest not in compared)
        read = asyncio.gather(*(self._blobs.finding(blob, read=depth is not Depth.QUICK) for blob in blobs))
        unpacked = asyncio.gather(*(self._unpacked.findings(image, each, depth, lease) for each in anatomies))
        stored, found = await _both(read, unpacked)
        return [*(_whose(finding, image) for finding in stored), *_once(chain.from_iterable(found))]

    async def _unknown_to_cri(self, image: Image) -> list[Finding]:
        """An image that is all here, and that CRI has lost: a blob of it was unreadable when containerd started.

        CRI hears of a new record within half a second, so it is asked twice.
        """
        for _ in range(2):
            if not (lacking := await self._store.unknown_to_cri(image)):
                return []
            await asyncio.sleep(PATIENCE)
        detail = f"all of {image.title} is here, but CRI does not know {', '.join(lacking)}"
        return [Finding(Check.CRI, image.id, Verdict.BAD, Cause.METADATA_BROKEN, detail)]

    async def ingests(self) -> tuple[Finding, ...]:
        """Unfinished downloads with bytes that no pull can ever finish; their subjects are the refs."""
        return await ingests.findings(self._store, self._budget, self._seen)

    def forget(self, image: Image) -> None:
        """Look at all of `image` again the next time."""
        self._blobs.forget(blob.digest for blob in image.blobs)
        self._unpacked.forget(snapshot.chain for snapshot in image.snapshots)

    def _expect_files(self) -> None:
        """Raises `Fault` when the way to containerd's files has ended: after a restart they only seem to be missing."""
        root = self._store.content_root
        if root is not None and not root.is_dir():
            raise Fault(Cause.RUNTIME_UNAVAILABLE, "containerd was restarted while its files were read")

    async def _in_flux(self, image: Image) -> bool:
        """Whether the image or one of its blobs went away since it was listed: then somebody is at work on it."""
        record = await self._store.images.record(image.names[0])
        if record is None or record.digest != image.id:
            return True
        infos = await asyncio.gather(*(self._store.content.info(blob.digest) for blob in image.blobs))
        return any(info is None for info in infos)


async def _both(one: Awaitable[S], other: Awaitable[T]) -> tuple[S, T]:
    """Both results, once both are there: nothing goes on reading after the lease has ended."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    for result in (first, second):
        if isinstance(result, BaseException):
            raise result
    return first, second  # type: ignore[return-value] # what is no exception is a result


def _lost(image: Image, digest: str) -> Finding:
    detail = f"containerd has no record of {digest}, which {image.title} cannot do without"
    return Finding(Check.CACHE, digest, Verdict.BAD, Cause.METADATA_BROKEN, detail)


def _changed(image: Image) -> Finding:
    return Finding(Check.CACHE, image.title, Verdict.UNKNOWN, Cause.UNKNOWN, "it changed while it was looked at")


def _whose(finding: Finding, image: Image) -> Finding:
    """With the images and namespaces that have the blob, and the containers on the image."""
    if finding.verdict is Verdict.OK:
        return finding
    shared = next((blob.shared for blob in image.blobs if blob.digest == finding.subject), ())
    owners = {"images": (image.title, *shared), "in_use": image.in_use}
    told = {key: ", ".join(names) for key, names in owners.items() if names}
    return replace(finding, evidence={**finding.evidence, **told})


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Two manifests of one image may share their layers."""
    return list({(finding.check, finding.subject, finding.cause): finding for finding in findings}.values())
