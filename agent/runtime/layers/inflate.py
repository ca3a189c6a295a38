"""A layer's blob, read once: hashed and inflated by a thread of its own while another compares what comes out.

What it is says its start (gzip, zstd, else a plain tar), never its media type: containerd goes by it as well
(archive/compression ``DetectCompression``). A blob is believed when *all* its bytes have the digest that names it: the
hash goes on to the end, also past the end of the tar and of the compressed data.

Of a stranger's blob: what comes out is at most `OUTPUT` at a time and `WAITING` such chunks, however much is packed
into how little; zstd may look back 128 MiB, as its own program allows.
"""

import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

import zstandard
from isal import isal_zlib
from isal.igzip import IGzipFile

from agent.model import Blob, Role
from agent.runtime.blobs import compare_digest, compare_size, new_hasher, opened, positional_reader
from agent.runtime.layers.records import Layer
from agent.runtime.layers.tape import NotTar

OUTPUT = 1 << 20
INPUT = 1 << 20
WAITING = 3
WINDOW = 1 << 27
_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_ISAL_ERROR = cast("type[Exception]", isal_zlib.IsalError)  # its stubs call it an instance
_BROKEN = (_ISAL_ERROR, zlib.error, zstandard.ZstdError, EOFError, OSError)

Read = Callable[[int], bytes]


class Inflated:
    """The tar in `layer`'s blob: iterate over its chunks, then `finish`; leave it in any case.

    ``spent`` is told of the bytes as they are read, and may raise to stop the reading.
    """

    def __init__(self, layer: Layer, spent: Callable[[int], None], piece: int = INPUT) -> None:
        self._blob = Blob(layer.digest, layer.size, Role.LAYER)
        self._path = layer.blob
        self._spent = spent
        self._piece = min(piece, INPUT)
        self._chunks: queue.Queue[bytes] = queue.Queue(WAITING)
        self._enough = threading.Event()  # no more is asked for; the hash still is
        self._abandoned = threading.Event()
        self._error: BaseException | None = None
        self._broken = ""
        self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._abandoned.set()
        self._drain()

    def __iter__(self) -> Iterator[bytes]:
        """Raises `NotTar` where the compressed data are broken, and what the reading raised."""
        while chunk := self._chunks.get():
            yield chunk
        self._chunks.put(b"")
        if self._error is not None:
            raise self._error
        if self._broken:
            raise NotTar(self._broken)

    def finish(self) -> None:
        """Read the rest of the blob. Raises `Fault` when it is not what its digest says."""
        self._enough.set()
        self._drain()
        if self._error is not None:
            raise self._error

    def _drain(self) -> None:
        self._enough.set()
        while self._thread.is_alive():
            try:
                self._chunks.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            self._error = error
        finally:
            while not self._enough.is_set():
                try:
                    self._chunks.put(b"", timeout=0.05)
                    break
                except queue.Full:
                    continue

    def _read_all(self) -> None:
        with opened(self._path, self._blob) as descriptor:
            compare_size(self._blob, os.fstat(descriptor).st_size)
            source = _Source(descriptor, self._blob, self._spent, self._piece, self._abandoned)
            try:
                self._inflate(source)
            except _BROKEN as error:
                if source.error is not None:
                    raise source.error from None
                self._broken = f"its compressed data cannot be read: {error}"
            while source.read(INPUT):
                pass
            compare_digest(self._blob, source.hasher.hexdigest())

    def _inflate(self, source: "_Source") -> None:
        read = reader_of(source)
        while not self._enough.is_set() and (chunk := read(OUTPUT)):
            self._spent(0)
            while not self._enough.is_set():
                try:
                    self._chunks.put(chunk, timeout=0.05)
                    break
                except queue.Full:
                    continue


class _Source:
    """The blob as a file object; hashes what it gives."""

    def __init__(
        self, descriptor: int, blob: Blob, spent: Callable[[int], None], piece: int, abandoned: threading.Event
    ) -> None:
        self.hasher = new_hasher(blob.digest)
        self.error: BaseException | None = None
        self._descriptor = descriptor
        self._read = positional_reader(descriptor)
        self._piece = piece
        self._offset = 0
        self._spent = spent
        self._abandoned = abandoned

    def peek(self, count: int) -> bytes:
        """The first bytes, which are read again."""
        return os.pread(self._descriptor, count, 0)

    def read(self, size: int) -> bytes:
        buffer = bytearray(min(size, self._piece))
        return bytes(memoryview(buffer)[: self.readinto(memoryview(buffer))])

    def readinto(self, target: memoryview) -> int:
        try:
            self._go_on()
            view = memoryview(target)[: self._piece]
            count = self._read(view, self._offset)
            self._offset += count
            self.hasher.update(view[:count])
            self._spent(count)
        except BaseException as error:
            self.error = error
            raise
        return count

    def _go_on(self) -> None:
        if self._abandoned.is_set():
            raise Abandoned


class Abandoned(Exception):  # noqa: N818 - nobody waits for the rest
    """The comparison ended before the blob."""


class Readable(Protocol):
    """What is inflated from."""

    def peek(self, count: int) -> bytes: ...
    def read(self, size: int) -> bytes: ...


def reader_of(source: Readable) -> Read:
    """Gives the tar's bytes, at most so many at a time; nothing at its end."""
    start = source.peek(4)
    if start.startswith(_GZIP):
        return cast("Read", IGzipFile(fileobj=source, mode="rb").read1)  # type: ignore[no-untyped-call] # isal has no types here
    if start == _ZSTD:
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        return decompressor.stream_reader(cast("BinaryIO", source), read_across_frames=True, closefd=False).read
    return source.read
