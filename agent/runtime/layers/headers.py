"""The entries of a tar, read as Go's archive/tar reads them, since that is what containerd unpacked.

Forms: V7, ustar, GNU (long names, base-256 numbers), star, PAX (`agent.runtime.layers.pax`). Global PAX headers change
nothing, yet come as an entry, because ``archive.Apply`` treats their names as it does any. The kinds that Apply does
not know (contiguous files, GNU's old sparse files) end in `NotTar`: no layer with one was ever unpacked. A header's
checksum is looked at only where nothing else says that it is one: the blob's digest stands for the bytes.

Of a stranger's tar: long names and PAX headers are at most 1 MiB, as in Go (``maxSpecialFileSize``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.runtime.layers import pax
from agent.runtime.layers.pax import SECOND, Fragments, Records
from agent.runtime.layers.tape import BLOCK, NotTar, Tape

LONGEST = 1 << 20
MOST_REMEMBERED = 4096

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO, GLOBAL = b"0123456g"
_BODILESS = frozenset((HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_KINDS = _BODILESS | {FILE, GLOBAL}
_PAX, _LONG_NAME, _LONG_LINK, _V7_FILE = b"xLK\0"
_EXTENDED = frozenset((_PAX, _LONG_NAME, _LONG_LINK))
_SIMPLE = frozenset((FILE, DIRECTORY))
_ZEROS = bytes(BLOCK)


@dataclass(slots=True)  # not frozen: one is made for every file, and freezing takes thrice the time
class Entry:
    """One header, with what extended headers said before it.

    ``name`` is as it stands in the tar. ``mtime`` is in nanoseconds, bounded as containerd bounds it; ``size`` in
    bytes, of the file when it is unpacked. ``sparse`` are the (offset, length) of what is stored of a file with holes.
    """

    name: str
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] | None = None
    sparse: Fragments | None = None


class Headers:
    """Iterates over the entries of a tar up to its end. Data that is not read is skipped. Raises `NotTar`."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._owners: dict[bytes, tuple[int, int, int]] = {}  # mode, uid and gid by their 24 bytes: few differ

    def __iter__(self) -> Iterator[Entry]:
        tape = self._tape
        records: Records = {}
        longs: dict[int, bytes] = {}
        first = True
        while (block := tape.block()) and block != _ZEROS:
            if first or block[257:262] != b"ustar":
                _check(block)
                first = False
            kind = block[156]
            if kind in _EXTENDED:
                self._extend(block, kind, records, longs)
                continue
            entry = self._entry(block, kind)
            if records:
                _apply(entry, records)
            if longs:
                _rename(entry, longs)
            if kind == FILE and not records and entry.size >= 0:
                tape.open_entry(entry.size)
            else:
                self._open(entry, records)
            yield entry
            records.clear()
            longs.clear()
        if block and (after := tape.block()) and after != _ZEROS:
            raise NotTar("one block of zeros, then more")

    def _extend(self, block: bytes, kind: int, records: Records, longs: dict[int, bytes]) -> None:
        size = number(block[124:136])
        if size > LONGEST:
            raise NotTar(f"an extended header of {size} bytes")
        tape = self._tape
        tape.open_entry(size)
        start = tape.take(size)
        data = tape.buffer[start : start + size] if start >= 0 else tape.exactly(size)
        if kind == _PAX:
            records.clear()
            pax.extend(records, data)
        else:
            longs[kind] = data.partition(b"\0")[0]

    def _entry(self, block: bytes, kind: int) -> Entry:
        mode, uid, gid = self._owners.get(block[100:124]) or self._owner(block[100:124])
        try:
            size, seconds = int(block[124:135], 8), int(block[136:147], 8)
        except ValueError:
            size, seconds = number(block[124:136]), number(block[136:148])
        name = block[:100].partition(b"\0")[0]
        if block[345] and (prefix := _prefix(block)):
            name = prefix + b"/" + name
        time = seconds * SECOND
        if not 0 <= time <= pax.LATEST:
            time = 0
        entry = Entry(name.decode(errors="surrogateescape"), kind, mode, uid, gid, size, time)
        if kind not in _SIMPLE:
            _tell_more(entry, block)
        return entry

    def _owner(self, raw: bytes) -> tuple[int, int, int]:
        if len(self._owners) >= MOST_REMEMBERED:
            self._owners.clear()
        found = number(raw[:8]) & 0o7777, number(raw[8:16]), number(raw[16:])
        self._owners[raw] = found
        return found

    def _open(self, entry: Entry, records: Records) -> None:
        """Make the tape ready for the entry's data."""
        kind = entry.kind
        if kind == _V7_FILE:  # a directory where the name ends in a slash: that was known only now
            kind = entry.kind = DIRECTORY if entry.name.endswith("/") else FILE
        if kind not in _KINDS:
            raise NotTar(f"an entry of type {chr(kind)!r}, which containerd does not unpack")
        if kind in _BODILESS:
            entry.size = 0
        self._tape.open_entry(entry.size)
        if kind == GLOBAL and entry.size > LONGEST:
            raise NotTar(f"an extended header of {entry.size} bytes")
        if records and kind == FILE and (form := pax.sparse_form(records)):
            self._open_sparse(entry, records, form)

    def _open_sparse(self, entry: Entry, records: Records, form: str) -> None:
        stored = entry.size
        if name := records.get(b"GNU.sparse.name"):
            entry.name = name.decode(errors="surrogateescape")
        if size := records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize"):
            entry.size = pax.decimal(size)
        if form == "1.0":
            entry.sparse, taken = pax.read_fragments(self._tape, stored)
            stored -= taken
        else:
            entry.sparse = pax.fragments(records)
        lengths = sum(length for _, length in entry.sparse)
        if lengths > stored or (entry.sparse and sum(entry.sparse[-1]) > entry.size):
            raise NotTar("the map of a sparse file says more than is stored")


def number(raw: bytes) -> int:
    """A header's number: octal text, or base-256 when the first bit is set. Raises `NotTar`."""
    try:
        return int(raw[:-1], 8)
    except ValueError:
        return _odd_number(raw)


def _odd_number(raw: bytes) -> int:
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big")
        bits = len(raw) * 8
        negative = raw[0] & 0x40
        return value - (1 << bits) if negative else value - (1 << (bits - 1))
    text = raw.partition(b"\0")[0].strip(b" ") or raw.strip(b" \0").partition(b"\0")[0]
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise NotTar("a number of a header that is none") from None


def _check(block: bytes) -> None:
    """Raises `NotTar` when the header's sum is not that of its bytes (unsigned, or signed as old tars wrote it)."""
    told = number(block[148:156])
    rest = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in rest)
    if told not in {sum(rest), signed}:
        raise NotTar("no header of a tar")


def _prefix(block: bytes) -> bytes:
    """The front part of a long name; old GNU headers have times there, star ones at its end."""
    if block[257:263] != b"ustar\0":
        return b""
    length = 131 if block[508:512] == b"tar\0" else 155
    return block[345 : 345 + length].partition(b"\0")[0]


def _tell_more(entry: Entry, block: bytes) -> None:
    entry.link = block[157:257].partition(b"\0")[0].decode(errors="surrogateescape")
    if entry.kind in {CHARACTER, BLOCK_DEVICE} and block[257:262] == b"ustar":
        entry.device = number(block[329:337]), number(block[337:345])


def _apply(entry: Entry, records: Records) -> None:
    """An empty value takes back what was said: the header's own stands."""
    if value := records.get(b"mtime"):
        entry.mtime = pax.time(value)
        if len(records) == 1:
            return
    if value := records.get(b"path"):
        entry.name = value.decode(errors="surrogateescape")
    if value := records.get(b"linkpath"):
        entry.link = value.decode(errors="surrogateescape")
    if value := records.get(b"size"):
        entry.size = pax.decimal(value)
    if value := records.get(b"uid"):
        entry.uid = pax.decimal(value)
    if value := records.get(b"gid"):
        entry.gid = pax.decimal(value)
    entry.xattrs = pax.xattrs(records)


def _rename(entry: Entry, longs: dict[int, bytes]) -> None:
    if name := longs.get(_LONG_NAME):
        entry.name = name.decode(errors="surrogateescape")
    if link := longs.get(_LONG_LINK):
        entry.link = link.decode(errors="surrogateescape")
