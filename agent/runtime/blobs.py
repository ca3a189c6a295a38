"""Reading blobs and hashing them: several at once, within a budget, and without pushing out other programs' pages.

Reads go past the page cache's memory: with RWF_DONTCACHE (Linux ≥ 6.14) the kernel drops what a read brought in and
keeps what was resident before. Older kernels refuse the flag; there, pages of a file that was cold are dropped
behind the reader with posix_fadvise, and a file that was warm is left alone.
"""

import contextlib
import ctypes
import errno
import hashlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from agent.causes import Cause
from agent.model import Blob, Fault

RWF_DONTCACHE = 0x80  # include/uapi/linux/fs.h
BUFFER = 4 * 1024 * 1024
SHARED_BUFFER = BUFFER // 4  # smaller where a share of a core is kept to: so much is hashed without a rest
BEHIND = 8 * BUFFER  # drop pages that far behind the reader, from offset 0: readahead may hold the nearer ones


class Stopped(Exception):  # noqa: N818 - the wish of the caller, not an error
    """The budget was closed while a file was read."""


class Budget:
    """Bytes per second and a share of one core that all readers have together; ``None`` means no limit.

    ``cpu_share`` is in cores: after work that took c seconds of a core, c / share must have passed since it began.
    Safe between threads.
    """

    def __init__(self, bytes_per_second: float | None, cpu_share: float | None = None) -> None:
        self._rate = bytes_per_second
        self._share = cpu_share
        self._lock = threading.Lock()
        self._free_at = self._core_free_at = time.monotonic()
        self._closed = threading.Event()
        self.spent = 0

    def take(self, count: int, cpu: float = 0.0) -> None:
        """Account for `count` bytes and `cpu` seconds, and wait until they were affordable.

        Raises `Stopped` once closed.
        """
        wait = self.reserve(count, cpu)
        if self._closed.wait(wait) if wait > 0 else self._closed.is_set():
            raise Stopped

    def reserve(self, count: int, cpu: float = 0.0) -> float:
        """Account for them and tell how many seconds to wait, for who waits by other means. Raises `Stopped`."""
        if self._closed.is_set():
            raise Stopped
        with self._lock:
            self.spent += count
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + (count / self._rate if self._rate else 0.0)
            if self._share:
                self._core_free_at = max(now - cpu, self._core_free_at) + cpu / self._share
            return max(self._free_at, self._core_free_at) - now

    def chunk(self) -> int:
        """How much to read at a time: a quarter of a second's worth, in whole pages, at most `BUFFER`."""
        most = BUFFER if not self._share else SHARED_BUFFER
        return most if not self._rate else max(65536, min(most, int(self._rate / 4) // 4096 * 4096))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Make every reader stop at its next chunk: a thread cannot be cancelled."""
        self._closed.set()


def examine(path: Path, blob: Blob, budget: Budget, seen: Callable[[int], None]) -> None:
    """Read the file of `blob` and compare size and digest; ``seen`` is told of every chunk's length.

    Raises `Fault`: ``blob_missing``, ``blob_truncated`` or ``blob_corrupt`` (a read error of the disk among them).
    """
    with opened(path, blob) as descriptor:
        compare_size(blob, os.fstat(descriptor).st_size)
        hasher = new_hasher(blob.digest)
        for chunk in _chunks(descriptor, budget):
            hasher.update(chunk)
            seen(len(chunk))
    compare_digest(blob, hasher.hexdigest())


def chunks_of(path: Path, budget: Budget) -> Iterator[memoryview]:
    """The bytes of any file, within the budget; each view is only good until the next one is asked for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield from _chunks(descriptor, budget)
    finally:
        os.close(descriptor)


def examine_size(path: Path, blob: Blob) -> None:
    """Compare only the size of the file of `blob`. Raises `Fault` as `examine`."""
    with opened(path, blob) as descriptor:
        compare_size(blob, os.fstat(descriptor).st_size)


def new_hasher(digest: str) -> "hashlib._Hash":
    """A hash for the algorithm that `digest` names. Raises `Fault` (``unknown``) for one that is not known."""
    algorithm = digest.partition(":")[0]
    if algorithm not in {"sha256", "sha384", "sha512"}:
        raise Fault(Cause.UNKNOWN, f"digest algorithm {algorithm!r} is not known")
    return hashlib.new(algorithm, usedforsecurity=False)


def compare_digest(blob: Blob, found: str) -> None:
    """Raises `Fault` (``blob_corrupt``) when the bytes have another digest than their name."""
    expected = blob.digest.partition(":")[2]
    if found != expected:
        raise Fault(
            Cause.BLOB_CORRUPT,
            f"the {blob.role} {blob.digest} has other bytes than its digest says",
            {"expected": expected, "found": found},
        )


def compare_size(blob: Blob, size: int) -> None:
    """Raises `Fault` (``blob_truncated``, ``blob_corrupt``) when `size` is not the recorded one."""
    if size == blob.size:
        return
    cause = Cause.BLOB_TRUNCATED if size < blob.size else Cause.BLOB_CORRUPT
    raise Fault(
        cause,
        f"the {blob.role} {blob.digest} has {size} bytes instead of {blob.size}",
        {"expected": str(blob.size), "found": str(size)},
    )


@contextlib.contextmanager
def opened(path: Path, blob: Blob) -> Iterator[int]:
    """A descriptor of the file of `blob`. OSErrors within become `Fault`: missing, EIO as corrupt, else unknown."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Fault(Cause.BLOB_MISSING, f"the {blob.role} {blob.digest} has a record but no file") from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise Fault(Cause.UNKNOWN, f"cannot read the {blob.role} {blob.digest}: {error.strerror}") from None
        raise Fault(Cause.BLOB_CORRUPT, f"the disk cannot read the {blob.role} {blob.digest} (EIO)") from None


def _chunks(descriptor: int, budget: Budget) -> Iterator[memoryview]:
    """The file from start to end; each view is only good until the next one is asked for."""
    buffer = memoryview(mmap.mmap(-1, BUFFER))[: budget.chunk()]
    read = positional_reader(descriptor)
    offset, cpu = 0, time.thread_time()
    while count := read(buffer, offset):
        before, cpu = cpu, time.thread_time()
        budget.take(count, cpu - before)
        yield buffer[:count]
        offset += count


def positional_reader(descriptor: int) -> Callable[[memoryview, int], int]:
    """A positional read that leaves the page cache as it was, by the best means that this kernel has."""
    try:
        os.preadv(descriptor, [bytearray(1)], 0, RWF_DONTCACHE)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise
        return _advising_reader(descriptor)
    return lambda buffer, offset: os.preadv(descriptor, [buffer], offset, RWF_DONTCACHE)


def _advising_reader(descriptor: int) -> Callable[[memoryview, int], int]:
    warm = _is_resident(descriptor)
    dropped = 0

    def read(buffer: memoryview, offset: int) -> int:
        nonlocal dropped
        count = os.preadv(descriptor, [buffer], offset)
        if not warm and (count == 0 or offset - dropped >= BEHIND):
            dropped = offset
            os.posix_fadvise(descriptor, 0, offset - BUFFER if count else 0, os.POSIX_FADV_DONTNEED)
        return count

    return read


def _is_resident(descriptor: int) -> bool:
    """Whether any page of the file is in the page cache (mincore); an empty file is not."""
    size = os.fstat(descriptor).st_size
    if not size:
        return False
    pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    states = (ctypes.c_ubyte * pages)()
    with mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), states) != 0:
            return True  # not told: assume that somebody needs it
        return any(state & 1 for state in states)
