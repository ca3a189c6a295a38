"""stored: whether the files of the content store have the sizes and digests that their records say."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from agent.causes import Cause
from agent.checks.ladder import finding_of
from agent.model import Blob, Check, Fault, Finding, Verdict
from agent.runtime.blobs import Budget, Stopped, compare_digest, compare_size, examine, examine_size, new_hasher
from agent.runtime.channel import Absent
from agent.runtime.store import Store

DAMAGE = frozenset({Cause.BLOB_CORRUPT, Cause.BLOB_TRUNCATED, Cause.BLOB_MISSING})


class BlobReader:
    """Reads each blob once; ``workers`` at the same time."""

    def __init__(self, store: Store, budget: Budget, workers: int, seen: Callable[[int], None]) -> None:
        self._store = store
        self._budget = budget
        self._slots = asyncio.Semaphore(workers)
        self._seen = seen
        self._done: dict[str, asyncio.Task[Finding]] = {}

    async def finding(self, blob: Blob, *, read: bool) -> Finding:
        """What is wrong with a blob, if anything; without `read` only its size is compared."""
        key = blob.digest if read else f"size of {blob.digest}"
        task = self._done.get(key)
        if task is None:
            task = self._done[key] = asyncio.create_task(self._examine(blob, read=read))
        return await asyncio.shield(task)

    def forget(self, digests: Iterable[str]) -> None:
        """Look at these blobs again the next time."""
        for digest in digests:
            self._done.pop(digest, None)
            self._done.pop(f"size of {digest}", None)

    async def judge(self, fault: Fault, blob: Blob, seconds: float) -> Finding:
        """The finding that `fault` amounts to: a runtime that went away is no damage, nor a file that went with it."""
        found = finding_of(fault, Check.CACHE, blob.digest, seconds)
        is_damage = fault.cause in DAMAGE and await self._store.content.info(blob.digest) is not None
        return found if is_damage else replace(found, verdict=Verdict.UNKNOWN)

    async def _examine(self, blob: Blob, *, read: bool) -> Finding:
        began = time.monotonic()
        try:
            async with self._slots:
                await (self._read(blob) if read else self._compare_size(blob))
        except Fault as fault:
            return await self.judge(fault, blob, time.monotonic() - began)
        except Stopped:
            return Finding(Check.CACHE, blob.digest, Verdict.UNKNOWN, Cause.UNKNOWN, "the verification was stopped")
        return Finding(Check.CACHE, blob.digest, Verdict.OK, seconds=time.monotonic() - began)

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
