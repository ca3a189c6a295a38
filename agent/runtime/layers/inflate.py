"""A layer's blob, read once: hashed and inflated piece by piece, as the comparison asks for what comes out.

What it is says its start (gzip, zstd, else a plain tar), never its media type: containerd goes by it as well
(archive/compression ``DetectCompression``). A blob is believed when *all* its bytes have the digest that names it: the
hash goes on to the end, also past the end of the tar and of the compressed data.

All in one thread: a piece is compared while it is still in the core's own cache, and no thread waits for the
interpreter's lock. Two cores are two layers.

Of a stranger's blob: what comes out is at most `OUTPUT` at a time, however much is packed into how little; zstd may
look back 128 MiB, as its own program allows.
"""

import os
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

from isal import isal_zlib
from isal.igzip import IGzipFile

from agent.model import Blob, Role
from agent.runtime.blobs import compare_digest, compare_size, new_hasher, opened, positional_reader
from agent.runtime.layers.records import Layer
from agent.runtime.layers.tape import NotTar

OUTPUT = 1 << 18
INPUT = 1 << 18
WINDOW = 1 << 27
_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_ISAL_ERROR = cast("type[Exception]", isal_zlib.IsalError)  # its stubs call it an instance

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
        self._enough = False  # no more is asked for; the hash still is
        self._chunks = self._read_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._chunks.close()

    def __iter__(self) -> Iterator[bytes]:
        """Raises `NotTar` where the compressed data are broken, and `Fault` where the blob is not what it should be."""
        return self._chunks

    def finish(self) -> None:
        """Read the rest of the blob. Raises `Fault` when it is not what its digest says."""
        self._enough = True
        for _ in self._chunks:
            pass

    def _read_all(self) -> Generator[bytes, None, None]:
        broken = ""
        with opened(self._path, self._blob) as descriptor:
            compare_size(self._blob, os.fstat(descriptor).st_size)
            source = _Source(descriptor, self._blob, self._spent, self._piece)
            try:
                yield from self._inflate(source)
            except _broken() as error:
                if source.error is not None:
                    raise source.error from None
                broken = f"its compressed data cannot be read: {error}"
            while source.read(INPUT):
                pass
            compare_digest(self._blob, source.hasher.hexdigest())
        if broken and not self._enough:
            raise NotTar(broken)

    def _inflate(self, source: "_Source") -> Iterator[bytes]:
        read = reader_of(source)
        while not self._enough and (chunk := read(OUTPUT)):
            self._spent(0)
            yield chunk


class _Source:
    """The blob as a file object; hashes what it gives."""

    def __init__(self, descriptor: int, blob: Blob, spent: Callable[[int], None], piece: int) -> None:
        self.hasher = new_hasher(blob.digest)
        self.error: BaseException | None = None
        self._descriptor = descriptor
        self._read = positional_reader(descriptor)
        self._piece = piece
        self._offset = 0
        self._spent = spent

    def peek(self, count: int) -> bytes:
        """The first bytes, which are read again."""
        return os.pread(self._descriptor, count, 0)

    def read(self, size: int) -> bytes:
        buffer = bytearray(min(size, self._piece))
        return bytes(memoryview(buffer)[: self.readinto(memoryview(buffer))])

    def readinto(self, target: memoryview) -> int:
        try:
            view = memoryview(target)[: self._piece]
            count = self._read(view, self._offset)
            self._offset += count
            self.hasher.update(view[:count])
            self._spent(count)
        except BaseException as error:
            self.error = error
            raise
        return count


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
        import zstandard  # noqa: PLC0415 - few layers need it, and each child's start would pay for it

        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        return decompressor.stream_reader(cast("BinaryIO", source), read_across_frames=True, closefd=False).read
    return source.read


def _broken() -> tuple[type[Exception], ...]:
    """What is raised for compressed data that are damaged; zstd's own only where it was loaded."""
    zstandard = sys.modules.get("zstandard")
    return (_ISAL_ERROR, zlib.error, EOFError, OSError, *((zstandard.ZstdError,) if zstandard else ()))
