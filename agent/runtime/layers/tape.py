"""A tar's bytes in blocks of 512, taken from chunks of any size without copying what need not be."""

from collections.abc import Iterator

BLOCK = 512


class NotTar(Exception):  # noqa: N818 - of the layer, not of ours
    """The bytes are no tar, or none that containerd unpacks; says why."""


class Tape:
    """Reads forward only: a block, then the data of the entry that it opened.

    ``buffer[at:end]`` is what is at hand; who compares much looks there first.
    """

    __slots__ = ("_chunks", "_left", "_padding", "at", "buffer", "end")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.buffer = b""
        self.at = self.end = self._left = self._padding = 0

    def block(self) -> bytes:
        """The next 512 bytes, past what is left of the entry before; nothing at the end. Raises `NotTar`."""
        at = self.at + self._left + self._padding
        after = at + BLOCK
        if after <= self.end:
            self.at = after
            self._left = self._padding = 0
            return self.buffer[at:after]
        self._skip()
        return self._joined(BLOCK)

    def next_header(self) -> int:
        """Where in ``buffer`` the next block stands; past ``end`` when it is not at hand."""
        return self.at + self._left + self._padding

    def go(self, at: int) -> None:
        """Go on at a block of this buffer, or past its end as far as `at` says."""
        if at <= self.end:
            self.at, self._left, self._padding = at, 0, 0
        else:
            self._left, self._padding = 0, at - self.end
            self.at = self.end

    def more(self, size: int) -> bool:
        """Have `size` bytes from the next block on at hand, joined to one buffer. False where it cannot be."""
        rest = self.buffer[self.next_header() :]
        if self.next_header() > self.end:
            return False
        while len(rest) < size and (chunk := next(self._chunks, b"")):
            rest += chunk
        self.buffer = rest
        self.at = self._left = self._padding = 0
        self.end = len(rest)
        return size <= self.end

    def open_entry(self, size: int) -> None:
        """`size` bytes of data come now."""
        if size < 0:
            raise NotTar("an entry of a negative size")
        self._left = size
        self._padding = -size % BLOCK

    def take(self, size: int) -> int:
        """Pass over all the data of the entry if it is at hand: where it starts in ``buffer``, else -1."""
        at = self.at
        if at + size > self.end or size != self._left:
            return -1
        self.at = at + size
        self._left = 0
        return at

    def pieces(self, size: int) -> Iterator[tuple[bytes, int, int]]:
        """The entry's next `size` bytes as (buffer, start, end). Raises `NotTar` if the tar ends before."""
        if size > self._left:
            raise NotTar("an entry's data is shorter than it says")
        while size:
            if self.at == self.end and not self._turn():
                raise NotTar("the tar ends inside a file")
            count = min(size, self.end - self.at)
            start = self.at
            self.at += count
            self._left -= count
            size -= count
            yield self.buffer, start, start + count

    def exactly(self, size: int) -> bytes:
        """The entry's next `size` bytes, which are few."""
        return b"".join(buffer[start:end] for buffer, start, end in self.pieces(size))

    def _skip(self) -> None:
        for _ in self.pieces(self._left):
            pass
        self._left, self._padding = self._padding, 0
        while self._left:
            if self.at == self.end and not self._turn():
                self._left = 0  # Go does not miss the padding of the last entry
                return
            count = min(self._left, self.end - self.at)
            self.at += count
            self._left -= count

    def _joined(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            if self.at == self.end and not self._turn():
                if got:
                    raise NotTar("the tar ends inside a header")
                return b""
            part = self.buffer[self.at : min(self.end, self.at + size - len(got))]
            self.at += len(part)
            got += part
        return got

    def _turn(self) -> bool:
        """The next chunk; False when there is none."""
        self.buffer = next(self._chunks, b"")
        self.at, self.end = 0, len(self.buffer)
        return self.end > 0
