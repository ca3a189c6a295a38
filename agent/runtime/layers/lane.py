"""The short way for what nearly every entry of a layer is: an ordinary file that is as it should be.

What takes the time of a comparison, beside inflating, is Python's own work for each of many small files. So a run of
ordinary files is compared straight from the tar's buffer: no entry is made, numbers are known by their text. Whatever
is not plainly right, or not plain, ends the run with nothing said of it: `agent.runtime.layers.compare` then looks at
that entry the careful way.
"""

import os
from stat import S_IFREG

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
_stat, _open, _close, _listxattr = os.stat, os.open, os.close, os.listxattr


class Lane:
    """Compares runs of ordinary files of `tape` with `folder`."""

    def __init__(self, tree: Tree, folder: Folder, contents: Contents, counter: Counter) -> None:
        self._tree = tree
        self._folder = folder
        self._contents = contents
        self._counter = counter
        self._owners: dict[bytes, tuple[int, int, int]] = {}
        self._times: dict[bytes, int] = {}
        self._parent: str | None = None
        self._names: dict[str, Node] = {}
        self._at = -1
        self._blocks = 0

    def run(self, tape: Tape, turn: int) -> int:
        """Compare from the entry numbered `turn` on; answers the number of the first that is left to others."""
        self._parent = None
        began = turn
        first = at = tape.next_header()
        buffer, end = tape.buffer, tape.end
        mtime = -1
        while at + BLOCK < end and buffer[at + 257 : at + 263] in _MAGICS:
            header = at
            if buffer[at + 156] == _PAX:
                mtime = _only_mtime(buffer[at + 124 : at + 136], buffer[at + 512 : at + 542])
                header = at + 2 * BLOCK
                if mtime < 0 or header + BLOCK > end:
                    break
            try:
                size = int(buffer[header + 124 : header + 135], 8)
                start = header + BLOCK
                if size > SCRATCH or start + size > end or not self._is_same(buffer, header, size, mtime, turn):
                    break
            except (OSError, ValueError, NotTar):
                break
            turn += 1
            at = start + (size + 511 & -512)
            mtime = -1
        if at != first:
            tape.go(at)
        self._counter.inodes += turn - began
        self._counter.blocks += self._blocks
        self._blocks = 0
        return turn

    def _is_same(self, buffer: bytes, at: int, size: int, mtime: int, turn: int) -> bool:
        """Raises OSError, ValueError and `NotTar`."""
        if buffer[at + 156] != FILE or buffer[at + 345]:
            return False
        parent, _, name = buffer[at : at + 100].partition(b"\0")[0].decode("utf-8", "surrogateescape").rpartition("/")
        if parent != self._parent:
            self._enter(parent)
        if name in self._names or name in SPECIAL or name[:4] == ".wh.":
            return False
        status = _stat(name, dir_fd=self._at, follow_symlinks=False)
        mode, _, _, links, uid, gid, length, _, _, _ = status
        raw = buffer[at + 100 : at + 124]
        if (mode, uid, gid) != (self._owners.get(raw) or self._owner(raw)) or length != size or links != 1:
            return False
        raw = buffer[at + 136 : at + 148]
        if status.st_mtime_ns != (mtime if mtime >= 0 else self._times.get(raw) or self._time(raw)):
            return False
        descriptor = _open(name, READ_FILE, dir_fd=self._at)
        try:
            if _listxattr(descriptor) or not self._contents.is_same(descriptor, buffer, at + BLOCK, size):
                return False
        finally:
            _close(descriptor)
        self._names[name] = turn
        self._blocks += status.st_blocks
        return True

    def _enter(self, parent: str) -> None:
        """Raises OSError, and `NotTar`."""
        directory = self._tree.directory(parent)
        self._at = self._folder.descriptor(directory)
        self._names = directory.names
        self._parent = parent

    def _owner(self, raw: bytes) -> tuple[int, int, int]:
        if len(self._owners) >= MOST_REMEMBERED:
            self._owners.clear()
        found = S_IFREG | number(raw[:8]) & 0o7777, number(raw[8:16]), number(raw[16:])
        self._owners[raw] = found
        return found

    def _time(self, raw: bytes) -> int:
        if len(self._times) >= MOST_REMEMBERED:
            self._times.clear()
        found = self._times[raw] = number(raw) * SECOND
        return found


def _only_mtime(size: bytes, data: bytes) -> int:
    """Nanoseconds, of an extended header that says the time of change and nothing else; -1 of any other."""
    if data[:9] != _PAX_MTIME or int(size[:11], 8) != 30 or data[19:20] != b"." or not data[9:19].isdigit():
        return -1
    return int(data[9:19] + data[20:29])
