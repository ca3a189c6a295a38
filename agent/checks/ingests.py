"""ingests: unfinished downloads with bytes that no pull can ever finish.

What a killed pull leaves is normal: the next one goes on where it ended. But it keeps the bytes that are there, so
wrong ones (a power loss leaves zeros) make every pull fail for ever with "unexpected commit digest". Wrong is what
proves to be so: all bytes with another digest, a document or a layer that begins as none can, a gzip that does not
inflate, bytes that ext4 says were never written (a hole; containerd writes from the start to the end). Other wrong
bytes in a part of a layer cannot be told from right ones before a pull fails on them.
"""

import asyncio
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.causes import Cause
from agent.model import Check, Fault, Finding, Verdict
from agent.runtime.blobs import Budget, Stopped, chunks_of
from agent.runtime.content import Ingest
from agent.runtime.layout import is_ext4
from agent.runtime.store import Store

DOCUMENTS = ("manifest-", "index-", "config-")
GZIP = b"\x1f\x8b\x08"
BLOCK = 512
EMPTY_LAYER = 10240
"""Bytes of a layer without files: zeros, as GNU tar pads its archives."""


async def findings(store: Store, budget: Budget, seen: Callable[[int], None]) -> tuple[Finding, ...]:
    """One for each unfinished download that is proved to be wrong; its subject is the ref."""
    found: list[Finding] = []
    for ingest in await store.content.ingests():
        path = store.ingest_path(ingest.ref)
        if path is None or not ingest.digest:
            continue
        try:
            fault = await asyncio.to_thread(_fault, path, ingest, budget, seen)
            # twice: a download that is begun anew while it is read shows bytes of both
            if fault and await asyncio.to_thread(_fault, path, ingest, budget, seen) and await _is_there(store, ingest):
                found.append(Finding(Check.INGEST, ingest.ref, Verdict.BAD, fault.cause, fault.detail, fault.evidence))
        except (OSError, Stopped):
            continue  # it was finished meanwhile, or the caller has had enough
    return tuple(found)


async def _is_there(store: Store, ingest: Ingest) -> bool:
    return any((each.ref, each.started) == (ingest.ref, ingest.started) for each in await store.content.ingests())


def _fault(path: Path, ingest: Ingest, budget: Budget, seen: Callable[[int], None]) -> Fault | None:
    try:
        _examine(path, ingest, budget, seen)
    except Fault as fault:
        return fault
    return None


def _examine(path: Path, ingest: Ingest, budget: Budget, seen: Callable[[int], None]) -> None:
    """Raises `Fault` (``ingest_stuck``) for bytes that are wrong for sure."""
    hasher = hashlib.sha256()
    size, wrong = 0, "part of it was never written to the disk" if is_ext4(path) and _has_hole(path) else ""
    for number, chunk in enumerate(_told(path, budget, seen)):
        if not number:
            check = _beginning(ingest, bytes(chunk[:BLOCK]))
        hasher.update(chunk)
        size += len(chunk)
        wrong = wrong or check(chunk)
    if size == ingest.total > 0:
        wrong = "" if f"sha256:{hasher.hexdigest()}" == ingest.digest else "all of it is here, with another digest"
    if wrong:
        detail = f"the unfinished download {ingest.ref} can never be finished: {wrong}"
        raise Fault(Cause.INGEST_STUCK, detail, {"bytes": str(size), "of": str(ingest.total)})


def _told(path: Path, budget: Budget, seen: Callable[[int], None]) -> Iterator[memoryview]:
    for chunk in chunks_of(path, budget):
        seen(len(chunk))
        yield chunk


def _beginning(ingest: Ingest, head: bytes) -> Callable[[memoryview], str]:
    """What to ask of each chunk, by what the first bytes say that it is; answers what is wrong, if anything.

    Layers may be encrypted, and artifacts anything: only zeros are none of them.
    """
    if ingest.ref.startswith(DOCUMENTS):
        wrong = "" if head.lstrip()[:1] in {b"{", b""} else "it does not begin as JSON does"
        return lambda _: wrong
    if head.startswith(GZIP):
        return _Gzip()
    wrong = "" if any(head) or ingest.total <= EMPTY_LAYER else "it begins with nothing but zeros"
    return lambda _: wrong


def _has_hole(path: Path) -> bool:
    """Whether the file has blocks without data (lseek(2)): what is only in memory yet counts as data."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        return size > 0 and os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    finally:
        os.close(descriptor)


class _Gzip:
    """Inflates one member after the other, and keeps nothing."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(31)

    def __call__(self, chunk: memoryview) -> str:
        data: bytes | memoryview = chunk
        try:
            while data:
                self._inflater.decompress(data, 1 << 20)
                data = self._inflater.unconsumed_tail or self._inflater.unused_data.lstrip(b"\0")
                if self._inflater.eof and data:
                    self._inflater = zlib.decompressobj(31)
        except zlib.error as error:
            return f"it does not inflate ({error})"
        return ""
