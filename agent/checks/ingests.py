"""ingests: unfinished downloads with bytes that no pull can ever finish.

What a killed pull leaves is normal: the next one goes on where it ended. But it keeps the bytes that are there, so
wrong ones (a power loss leaves zeros) make every pull fail for ever with "unexpected commit digest". Wrong is what
proves to be so: all bytes with another digest, a beginning that no layer, manifest or config can have, a compressed
layer that does not inflate or ends in a page of zeros. Other wrong bytes in a part of a layer cannot be told from right
ones, before a pull fails on them.
"""

import asyncio
import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.causes import Cause
from agent.model import Check, Fault, Finding, Verdict
from agent.runtime.blobs import Budget, Stopped, chunks_of
from agent.runtime.content import Ingest
from agent.runtime.store import Store

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BLOCK, PAGE = 512, 4096
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
            await asyncio.to_thread(_examine, path, ingest, budget, seen)
        except Fault as fault:
            if ingest.ref in {each.ref for each in await store.content.ingests()}:
                found.append(Finding(Check.INGEST, ingest.ref, Verdict.BAD, fault.cause, fault.detail, fault.evidence))
        except (OSError, Stopped):
            continue  # it was finished meanwhile, or the caller has had enough
    return tuple(found)


def _examine(path: Path, ingest: Ingest, budget: Budget, seen: Callable[[int], None]) -> None:
    """Raises `Fault` (``ingest_stuck``) for bytes that are wrong for sure."""
    hasher = hashlib.sha256()
    size, wrong, head, tail = 0, "", b"", b""
    for number, chunk in enumerate(_told(path, budget, seen)):
        if not number:
            head = bytes(chunk[:BLOCK])
            check = _beginning(ingest, head)
        hasher.update(chunk)
        size += len(chunk)
        tail = (tail + chunk[-PAGE:])[-PAGE:]
        wrong = wrong or check(chunk)
    if size == ingest.total > 0:
        wrong = "" if f"sha256:{hasher.hexdigest()}" == ingest.digest else "all of it is here, with another digest"
    elif _is_compressed(head) and len(tail) == PAGE and not any(tail):
        wrong = wrong or "it ends in zeros, as no compressed layer does"
    if wrong:
        detail = f"the unfinished download {ingest.ref} can never be finished: {wrong}"
        raise Fault(Cause.INGEST_STUCK, detail, {"bytes": str(size), "of": str(ingest.total)})


def _told(path: Path, budget: Budget, seen: Callable[[int], None]) -> Iterator[memoryview]:
    for chunk in chunks_of(path, budget):
        seen(len(chunk))
        yield chunk


def _beginning(ingest: Ingest, head: bytes) -> Callable[[memoryview], str]:
    """What to ask of each chunk, by what the first bytes say that it is; answers what is wrong, if anything."""
    if not ingest.ref.startswith("layer-"):
        wrong = "" if head.lstrip()[:1] in {b"{", b""} else "it does not begin as JSON does"
        return lambda _: wrong
    if head.startswith(GZIP):
        return _Gzip()
    if head.startswith(ZSTD) or len(head) < BLOCK or (not any(head) and ingest.total <= EMPTY_LAYER):
        return lambda _: ""
    wrong = "" if _is_tar(head) else "it begins neither as gzip, zstd nor tar does"
    return lambda _: wrong


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


def _is_compressed(head: bytes) -> bool:
    """Whether zeros would have been squeezed out: gzip may also store them as they are (RFC 1952, RFC 1951 3.2.3)."""
    if not head.startswith(GZIP) or len(head) < BLOCK:
        return head.startswith(ZSTD)
    flags, at = head[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(head[at : at + 2], "little")
    for text in (flags & 8, flags & 16):
        at = head.find(b"\0", at) + 1 if text else at
    at += 2 if flags & 2 else 0
    return at < len(head) and bool(head[at] >> 1 & 3)


def _is_tar(block: bytes) -> bool:
    """By the checksum of its first header (POSIX ustar)."""
    try:
        told = int(block[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return told == sum(block[:148]) + 8 * 0x20 + sum(block[156:])
