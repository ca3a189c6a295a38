"""PAX extended headers: what they say of the entry after them, by the rules of Go's archive/tar."""

import re
from typing import Final

from agent.runtime.layers.tape import BLOCK, NotTar, Tape

SECOND = 1_000_000_000
LATEST = (1 << 63) - 1  # nanoseconds: what containerd's boundTime lets through (archive/time.go)
XATTR: Final = b"SCHILY.xattr."
MOST_FRAGMENTS = 1 << 17

_SPARSE_PAIRS = frozenset((b"GNU.sparse.offset", b"GNU.sparse.numbytes"))
_TIME = re.compile(rb"(-?)(\d*)(?:\.(\d*))?")

Records = dict[bytes, bytes]
Fragments = tuple[tuple[int, int], ...]


def extend(records: Records, data: bytes) -> None:
    """Add the ``LENGTH KEY=VALUE\\n`` records of `data`. Raises `NotTar`.

    The two keys of sparse format 0.0 come many times, in pairs: they are gathered as format 0.1 writes them.
    """
    at, end = 0, len(data)
    sparse: list[bytes] = []
    while at < end:
        length = data[at : at + 21].partition(b" ")[0]
        after = at + decimal(length)
        key, equals, value = data[at + len(length) + 1 : after - 1].partition(b"=")
        if not equals or data[after - 1 : after] != b"\n":
            raise NotTar("a PAX record that is none")
        if key in _SPARSE_PAIRS:
            sparse.append(value)
        else:
            records[key] = value
        at = after
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)


def decimal(text: bytes) -> int:
    """Raises `NotTar` where Go's ParseInt would fail."""
    try:
        return int(text)
    except ValueError:
        raise NotTar("a number of a PAX header that is none") from None


def time(text: bytes) -> int:
    """Seconds with a fraction → nanoseconds, cut to nine digits. Raises `NotTar`."""
    seconds, _, part = text.partition(b".")
    if seconds.isdigit() and part.isdigit() and len(seconds) < 10 and len(part) == 9:
        return int(seconds + part)
    match = _TIME.fullmatch(text)
    if match is None or not text:
        raise NotTar("a time of a PAX header that is none")
    sign, whole, fraction = match.groups()
    nanoseconds = int(whole or b"0") * SECOND + int((fraction or b"").ljust(9, b"0")[:9])
    return bounded(-nanoseconds if sign else nanoseconds)


def bounded(nanoseconds: int) -> int:
    """What containerd sets: times before 1970 or after 2262 become 0 (archive/time.go)."""
    return nanoseconds if 0 <= nanoseconds <= LATEST else 0


def xattrs(records: Records) -> dict[str, bytes] | None:
    """Those that containerd restores: ``trusted.*`` it refuses (archive/tar_unix.go)."""
    found = {
        key[len(XATTR) :].decode(errors="surrogateescape"): value
        for key, value in records.items()
        if key.startswith(XATTR) and not key.startswith(b"SCHILY.xattr.trusted.")
    }
    return found or None


def sparse_form(records: Records) -> str:
    """``1.0``, ``0.x``, or nothing for a file stored in full (``readGNUSparsePAXHeaders``)."""
    major, minor = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
    if (major, minor) == (b"1", b"0"):
        return "1.0"
    if major == b"0" and minor in {b"0", b"1"}:
        return "0.x"
    if major or minor:
        return ""
    return "0.x" if records.get(b"GNU.sparse.map") else ""


def fragments(records: Records) -> Fragments:
    """The map of the formats 0.0 and 0.1: (offset, length) of what is stored. Raises `NotTar`."""
    text = records.get(b"GNU.sparse.map", b"")
    return _pairs([decimal(each) for each in text.split(b",")] if text else [])


def read_fragments(tape: Tape, size: int) -> tuple[Fragments, int]:
    """The map of format 1.0, which stands before the data, and how many of the `size` bytes it takes."""
    text, taken = b"", 0
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        if b"\n" not in text:
            if taken + BLOCK > size or len(text) > BLOCK:
                raise NotTar("the map of a sparse file is cut short")
            text += tape.exactly(BLOCK)
            taken += BLOCK
            continue
        *lines, text = text.split(b"\n")
        numbers.extend(decimal(line) for line in lines)
        wanted = 1 + 2 * numbers[0]
        if not 0 <= numbers[0] <= MOST_FRAGMENTS:
            raise NotTar("the map of a sparse file is too long")
    return _pairs(numbers[1:wanted]), taken


def _pairs(numbers: list[int]) -> Fragments:
    if len(numbers) % 2 or len(numbers) > 2 * MOST_FRAGMENTS:
        raise NotTar("the map of a sparse file is none")
    pairs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    at = 0
    for offset, length in pairs:
        if offset < at or length < 0:
            raise NotTar("the map of a sparse file goes backwards")
        at = offset + length
    return pairs
