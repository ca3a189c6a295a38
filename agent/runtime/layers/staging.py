"""New inodes for what differs, made beside the layer's directory from its verified blob.

They are made as ``archive.Apply`` makes them, in its order: content, owner, attributes, mode, time (chown takes away
setuid and capabilities, chmod the like of ACLs). Each is on the disk (fsync) before it is moved to its place.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.runtime.layers import attributes
from agent.runtime.layers.content import unfolded
from agent.runtime.layers.headers import FILE, SYMLINK, Entry
from agent.runtime.layers.replace import QUARANTINE
from agent.runtime.layers.status import TYPES
from agent.runtime.layers.tape import Tape

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW, _OLD = "new-", "old-"


class Staging:
    """The quarantine beside `folder`: new files wait in it as ``new-N``, replaced ones stay in it as ``old-N``.

    What waits goes on leaving, and so does what a killed run left waiting. Raises OSError.
    """

    def __init__(self, folder: Path) -> None:
        beside = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(QUARANTINE, 0o700, dir_fd=beside)
            self.descriptor = os.open(QUARANTINE, _OPEN_FOLDER, dir_fd=beside)
            os.fsync(beside)
        finally:
            os.close(beside)
        self._clear()
        kept = (name.removeprefix(_OLD) for name in self._names() if name.startswith(_OLD))
        self._last = max((int(number) for number in kept if number.isdecimal()), default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._clear()
        os.close(self.descriptor)

    def free_name(self) -> str:
        """For what is moved here next."""
        self._last += 1
        return f"{_OLD}{self._last}"

    def name(self, number: int) -> str:
        """Under which the entry of this number waits."""
        return f"{_NEW}{number}"

    def make(self, number: int, entry: Entry, tape: Tape, last: Entry | None) -> None:
        """Make what `entry` says; `last` is the header of a hard link that spoke of the same inode after it."""
        name = self.name(number)
        if entry.kind == FILE:
            self._make_file(name, entry, tape, last)
            return
        if entry.kind == SYMLINK:
            os.symlink(entry.link, name, dir_fd=self.descriptor)
        else:
            os.mknod(name, TYPES[entry.kind] | entry.mode, os.makedev(*entry.device), dir_fd=self.descriptor)
        for each in (entry, last) if last else (entry,):
            os.chown(name, each.uid, each.gid, dir_fd=self.descriptor, follow_symlinks=False)
            if entry.kind != SYMLINK:
                os.chmod(name, each.mode, dir_fd=self.descriptor)
            os.utime(name, ns=(each.mtime, each.mtime), dir_fd=self.descriptor, follow_symlinks=False)

    def make_whiteout(self, number: int, entry: Entry) -> None:
        """The mark of the overlay (``OverlayConvertWhiteout``)."""
        name = self.name(number)
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self.descriptor)
        os.chown(name, entry.uid, entry.gid, dir_fd=self.descriptor, follow_symlinks=False)

    def _make_file(self, name: str, entry: Entry, tape: Tape, last: Entry | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self.descriptor)
        try:
            pieces = tape.pieces(entry.size) if entry.sparse is None else unfolded(entry, tape)
            for buffer, start, end in pieces:
                _write(descriptor, memoryview(buffer)[start:end])
            for each in (entry, last) if last else (entry,):
                set_metadata(descriptor, each, each.mtime)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _clear(self) -> None:
        for name in self._names():
            if name.startswith(_NEW):
                os.unlink(name, dir_fd=self.descriptor)

    def _names(self) -> list[str]:
        return os.listdir(self.descriptor)  # noqa: PTH208 - of a descriptor


def set_metadata(descriptor: int, entry: Entry, mtime: int | None) -> None:
    """Owner, attributes, mode and time in Apply's order. Raises OSError."""
    os.fchown(descriptor, entry.uid, entry.gid)
    for name, value in (entry.xattrs or {}).items():
        _set_attribute(descriptor, name, value)
    os.fchmod(descriptor, entry.mode)
    if mtime is not None:
        os.utime(descriptor, ns=(mtime, mtime))


def _set_attribute(descriptor: int, name: str, value: bytes) -> None:
    """What the file system refuses containerd leaves out; what a security module refuses is not compared either."""
    try:
        os.setxattr(descriptor, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP and attributes.is_ours(name):
            raise


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
