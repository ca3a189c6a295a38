"""cache: whether the blobs of a cached image are what their digests say, read under a lease.

What is normal is never flagged: layers and other platforms' manifests without a record, images that were never
unpacked, pulls under way. An image that changes while it is looked at is ``unknown``.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from agent.causes import Cause
from agent.checks.ladder import finding_of
from agent.model import Blob, Fault, Finding, Image, Verdict
from agent.runtime.blobs import Budget, Stopped, compare_digest, compare_size, examine, examine_size, new_hasher
from agent.runtime.channel import Absent
from agent.runtime.store import Store

CHECK = "cache"
DAMAGE = frozenset({Cause.BLOB_CORRUPT, Cause.BLOB_TRUNCATED, Cause.BLOB_MISSING})
LEASE_SECONDS = 3600.0


class Verifier:
    """Examines images one after the other and each blob once, however many images share it.

    ``workers`` blobs are read at the same time; ``seen`` is told of every chunk's length.
    """

    def __init__(
        self, store: Store, budget: Budget, workers: int, seen: Callable[[int], None] = lambda _: None
    ) -> None:
        self._store = store
        self._budget = budget
        self._slots = asyncio.Semaphore(workers)
        self._seen = seen
        self._done: dict[str, asyncio.Task[Finding]] = {}

    async def image(self, image: Image, *, read: bool = True) -> tuple[Finding, ...]:
        """What is wrong with `image`; nothing when it is sound. Without `read`, only records and sizes are compared."""
        lost = tuple(self._lost(image, digest) for digest in image.lost)
        async with self._store.leases.hold([image.id], LEASE_SECONDS):
            if await self._in_flux(image):
                return (
                    Finding(CHECK, image.title, Verdict.UNKNOWN, Cause.UNKNOWN, "it changed while it was looked at"),
                )
            findings = await asyncio.gather(*(self._blob(blob, read=read) for blob in image.blobs))
        return (*lost, *(finding for finding in findings if finding.verdict is not Verdict.OK))

    def forget(self, digests: tuple[str, ...]) -> None:
        """Look at these blobs again the next time."""
        for digest in digests:
            self._done.pop(digest, None)

    def _lost(self, image: Image, digest: str) -> Finding:
        detail = f"containerd has no record of {digest}, which {image.title} cannot do without"
        return Finding(CHECK, digest, Verdict.BAD, Cause.METADATA_BROKEN, detail)

    async def _in_flux(self, image: Image) -> bool:
        """Whether the image or one of its blobs went away since it was listed: then somebody is at work on it."""
        record = await self._store.images.record(image.names[0])
        if record is None or record.digest != image.id:
            return True
        infos = await asyncio.gather(*(self._store.content.info(blob.digest) for blob in image.blobs))
        return any(info is None for info in infos)

    async def _blob(self, blob: Blob, *, read: bool) -> Finding:
        key = blob.digest if read else f"size of {blob.digest}"
        task = self._done.get(key)
        if task is None:
            task = self._done[key] = asyncio.create_task(self._examine(blob, read=read))
        return await asyncio.shield(task)

    async def _examine(self, blob: Blob, *, read: bool) -> Finding:
        began = time.monotonic()
        try:
            async with self._slots:
                await (self._read(blob) if read else self._compare_size(blob))
        except Fault as fault:
            found = finding_of(fault, CHECK, blob.digest, time.monotonic() - began)
            return found if await self._is_damage(fault, blob) else replace(found, verdict=Verdict.UNKNOWN)
        except Stopped:
            return Finding(CHECK, blob.digest, Verdict.UNKNOWN, Cause.UNKNOWN, "the verification was stopped")
        return Finding(CHECK, blob.digest, Verdict.OK, seconds=time.monotonic() - began)

    async def _is_damage(self, fault: Fault, blob: Blob) -> bool:
        """A runtime that went away is none, nor is a file that went with its record."""
        return fault.cause in DAMAGE and await self._store.content.info(blob.digest) is not None

    async def _compare_size(self, blob: Blob) -> None:
        path = self._store.blob_path(blob.digest)
        if path is None:
            raise Fault(Cause.UNKNOWN, "the files of the content store cannot be reached")
        await asyncio.to_thread(examine_size, path, blob)

    async def _read(self, blob: Blob) -> None:
        path = self._store.blob_path(blob.digest)
        if path is None:
            await self._read_over_grpc(blob)
        else:
            await asyncio.to_thread(examine, path, blob, self._budget, self._seen)

    async def _read_over_grpc(self, blob: Blob) -> None:
        hasher = new_hasher(blob.digest)
        size = 0
        try:
            async for chunk in self._store.content.read(blob.digest):
                await asyncio.to_thread(self._budget.take, len(chunk))
                hasher.update(chunk)
                size += len(chunk)
                self._seen(len(chunk))
        except Absent:
            raise Fault(Cause.BLOB_MISSING, f"the {blob.role} {blob.digest} has a record but no file") from None
        compare_size(blob, size)
        compare_digest(blob, hasher.hexdigest())
