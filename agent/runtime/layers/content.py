"""A file's bytes beside those in the tar, with the page cache left as it was found.

Read with RWF_DONTCACHE where the kernel has it (Linux ≥ 6.14), else first with RWF_NOWAIT: what that gives was in
memory before and stays there; what it does not give is read and dropped again.
"""

import errno
import os
from collections.abc import Callable, Iterator

from agent.runtime.blobs import RWF_DONTCACHE
from agent.runtime.layers.headers import Entry
from agent.runtime.layers.tape import Tape

SCRATCH = 1 << 18  # with as much of the tar it stays in a core's own cache
SHOWN = 16
_ZEROS = bytes(SCRATCH)

Piece = tuple[bytes, int, int]
Read = Callable[[int, memoryview, int], int]


class Contents:
    """Compares files, one after the other; ``spent`` is told of the bytes that were read.

    Who reads many small files does so with ``read`` into ``view`` (with RWF_DONTCACHE at once where ``past_cache``),
    adds to ``unspent`` what was read, and calls `tell` when it is worth it.
    """

    def __init__(self, spent: Callable[[int], None]) -> None:
        self.past_cache = False  # until a read proves that the kernel can
        self.unspent = 0
        self.view = memoryview(bytearray(SCRATCH))
        self.read: Read = self._first_read
        self._spent = spent

    def difference(self, descriptor: int, entry: Entry, tape: Tape) -> tuple[str, str] | None:
        """What stands at the first place that differs: in the tar, and in the file.

        Raises OSError and `NotTar`.
        """
        return self._compare(descriptor, tape.pieces(entry.size) if entry.sparse is None else unfolded(entry, tape))

    def tell(self) -> None:
        """Account for what was read so far."""
        count, self.unspent = self.unspent, 0
        self._spent(count)

    def _first_read(self, descriptor: int, view: memoryview, offset: int) -> int:
        try:
            count = _read_past_cache(descriptor, view, offset)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            self.read = _read_and_drop
            return _read_and_drop(descriptor, view, offset)
        self.read = _read_past_cache
        self.past_cache = True
        return count

    def _compare(self, descriptor: int, pieces: Iterator[Piece]) -> tuple[str, str] | None:
        offset = 0
        for buffer, start, end in pieces:
            at = start
            while at < end:
                view = self.view[: min(SCRATCH, end - at)]
                count = self.read(descriptor, view, offset)
                self._spent(count)
                if count == 0:
                    return f"{end - at} more bytes at {offset}", "the end of the file"
                if not buffer.startswith(view[:count], at):
                    return _shown(bytes(view[:count]), buffer[at : at + count], offset)
                at += count
                offset += count
        return None


def unfolded(entry: Entry, tape: Tape) -> Iterator[Piece]:
    """A sparse file as containerd writes it: zeros for its holes."""
    at = 0
    for offset, length in entry.sparse or ():
        yield from _zeros(offset - at)
        yield from tape.pieces(length)
        at = offset + length
    yield from _zeros(entry.size - at)


def _zeros(count: int) -> Iterator[Piece]:
    while count > 0:
        yield _ZEROS, 0, min(count, SCRATCH)
        count -= SCRATCH


def _shown(found: bytes, expected: bytes, offset: int) -> tuple[str, str]:
    """Both from their first difference on, which is found by halves."""
    low, high = 0, len(found)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if found[low:middle] == expected[low:middle] else (low, middle)
    place = f"at byte {offset + low}: "
    return place + expected[low : low + SHOWN].hex(), place + found[low : low + SHOWN].hex()


def _read_past_cache(descriptor: int, view: memoryview, offset: int) -> int:
    return os.preadv(descriptor, [view], offset, RWF_DONTCACHE)


def _read_and_drop(descriptor: int, view: memoryview, offset: int) -> int:
    """For kernels without RWF_DONTCACHE. Dropping starts at 0: readahead and large folios reach to both sides."""
    try:
        count = os.preadv(descriptor, [view], offset, os.RWF_NOWAIT)
    except BlockingIOError:  # not in memory
        count = os.preadv(descriptor, [view], offset)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # a file system that is all memory has it not
            raise
        count = os.preadv(descriptor, [view], offset)
    return count
