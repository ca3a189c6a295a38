"""The short way for what nearly every entry of a layer is: an ordinary file that is as it should be.

What takes the time of a comparison, beside inflating, is Python's own work for each of many small files. So a run of
ordinary files is compared straight from the tar's buffer: no entry is made, and numbers are known by their text.
Whatever is not plainly right, or not plain, ends the run with nothing said of it: `agent.runtime.layers.compare` then
looks at that entry the careful way. An entry that the buffer cuts off is joined with what follows (`Tape.more`).

Five calls of the kernel for a file are most of what is left: lstat, open, flistxattr, preadv, close. To go by the type
in a directory's listing instead of lstat saves nothing: the listing costs as much, and fstat is needed then.
"""

import os
import struct
from stat import S_IFREG

from agent.runtime.blobs import RWF_DONTCACHE
from agent.runtime.layers.content import SCRATCH, Contents
from agent.runtime.layers.folder import READ_FILE, Counter, Folder
from agent.runtime.layers.headers import FILE, number
from agent.runtime.layers.pax import SECOND
from agent.runtime.layers.tape import BLOCK, NotTar, Tape
from agent.runtime.layers.tree import SPECIAL, Node, Tree

MOST_REMEMBERED = 4096
_MAGICS = frozenset((b"ustar\0", b"ustar "))
_PAX = ord("x")
_PAX_MTIME = b"30 mtime="  # ten digits, a point and nine more: what GNU tar and others write
_fields = struct.Struct("100s24s11sx12s8x190s").unpack_from  # name, owner, size, mtime; kind to the prefix's first byte
_lstat, _open, _close, _listxattr, _preadv = os.lstat, os.open, os.close, os.listxattr, os.preadv


class Lane:
    """Compares runs of ordinary files of `tape` with `folder`."""

    def __init__(self, tree: Tree, folder: Folder, contents: Contents, counter: Counter) -> None:
        self._tree = tree
        self._folder = folder
        self._contents = contents
        self._view = contents.view
        self._counter = counter
        self._owners: dict[bytes, tuple[int, tuple[int, int, int]]] = {}
        self._times: dict[bytes, int] = {}
        self._ordinary = b""  # the last header's bytes that say so: nearly always the next has the same
        self._parent: bytes | None = None
        self._names: dict[str, Node] = {}
        self._at = -1
        self._buffer = b""
        self._turn = self._wanted = self._blocks = 0

    def run(self, tape: Tape, turn: int) -> int:
        """Compare from the entry numbered `turn` on; answers the number of the first that is left to others."""
        self._parent = None
        self._turn = turn
        while True:
            self._run(tape)
            if self._contents.unspent >= SCRATCH:
                self._contents.tell()
            if not self._wanted or not tape.more(self._wanted):
                break
        self._counter.inodes += self._turn - turn
        self._counter.blocks += self._blocks
        self._blocks = 0
        self._buffer = b""
        return self._turn

    def _run(self, tape: Tape) -> None:
        """As far as the buffer goes; ``wanted`` bytes should be at hand to go on, 0 where nothing helps."""
        buffer, end, is_file = tape.buffer, tape.end, self._is_file
        self._buffer = buffer
        first = header = at = tape.next_header()
        wanted = 0
        try:
            while True:
                if header + BLOCK > end:
                    wanted = header + BLOCK - at
                    break
                name, owner, digits, when, rest = _fields(buffer, header)
                if rest != self._ordinary and not self._is_ordinary(rest):
                    if header != at or rest[0] != _PAX:
                        break
                    header = at + 2 * BLOCK
                    continue
                size = int(digits, 8)
                start = header + BLOCK
                after = start + (size + 511 & -512)
                if after > end:
                    wanted = after - at if size <= SCRATCH else 0
                    break
                mtime = (self._times.get(when) or self._time(when)) if header == at else _only_mtime(buffer, at)
                if not is_file(name, owner, mtime, start, size):
                    break
                at = header = after
        except (OSError, ValueError, NotTar):
            pass
        if at != first:
            tape.go(at)
        self._wanted = wanted

    def _is_ordinary(self, rest: bytes) -> bool:
        """Whether a header is that of a file with its whole name in one place."""
        if rest[0] != FILE or rest[101:107] not in _MAGICS or rest[189]:
            return False
        self._ordinary = rest
        return True

    def _is_file(self, field: bytes, owner: bytes, mtime: int, start: int, size: int) -> bool:
        """Raises OSError, ValueError and `NotTar`."""
        parent, _, name = field.rstrip(b"\0").rpartition(b"/")
        if parent != self._parent:
            self._enter(parent)
        text = name.decode("utf-8", "surrogateescape")
        if text in self._names or (name < b"/" and (text in SPECIAL or text[:4] == ".wh.")):  # both begin with a point
            return False
        at = self._at
        status = _lstat(name, dir_fd=at)
        mode, single = self._owners.get(owner) or self._owner(owner)
        if status[0] != mode or status[3:6] != single or status[6] != size or status.st_mtime_ns != mtime:
            return False
        descriptor = _open(name, READ_FILE, dir_fd=at)
        try:
            if _listxattr(descriptor):
                return False
            if size:
                view = self._view[:size]
                contents = self._contents
                if contents.past_cache:
                    count = _preadv(descriptor, (view,), 0, RWF_DONTCACHE)
                else:
                    count = contents.read(descriptor, view, 0)
                if count != size or not self._buffer.startswith(view, start):
                    return False
                contents.unspent += size
        finally:
            _close(descriptor)
        self._names[text] = self._turn
        self._turn += 1
        self._blocks += status.st_blocks
        return True

    def _enter(self, parent: bytes) -> None:
        """Raises OSError, and `NotTar`."""
        directory = self._tree.directory(parent.decode("utf-8", "surrogateescape"))
        self._at = self._folder.descriptor(directory)
        self._names = directory.names
        self._parent = parent

    def _owner(self, raw: bytes) -> tuple[int, tuple[int, int, int]]:
        """The mode, and number of names, uid and gid: in pieces as stat has them."""
        if len(self._owners) >= MOST_REMEMBERED:
            self._owners.clear()
        found = S_IFREG | number(raw[:8]) & 0o7777, (1, number(raw[8:16]), number(raw[16:]))
        self._owners[raw] = found
        return found

    def _time(self, raw: bytes) -> int:
        if len(self._times) >= MOST_REMEMBERED:
            self._times.clear()
        found = self._times[raw] = number(raw) * SECOND
        return found


def _only_mtime(buffer: bytes, at: int) -> int:
    """Nanoseconds, of an extended header that says the time of change and nothing else. Raises ValueError."""
    data = buffer[at + BLOCK : at + BLOCK + 30]
    if data[:9] != _PAX_MTIME or int(buffer[at + 124 : at + 135], 8) != 30 or data[19:20] != b".":
        raise ValueError(data)
    if not (data[9:19] + data[20:29]).isdigit():
        raise ValueError(data)
    return int(data[9:19] + data[20:29])
