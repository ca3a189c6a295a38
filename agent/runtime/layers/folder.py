"""A snapshot's directory, opened step by step so that no link of a stranger leads out of it.

Every path is walked from the folder's own descriptor, one name at a time with ``O_NOFOLLOW``, and the descriptors of
the directories used last are kept. Nothing but directories and regular files is ever opened, and those only after
`lstat` said what they are; ``O_NONBLOCK`` is there for what changes in between.
"""

import errno
import os
import stat
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.causes import Cause
from agent.model import Fault
from agent.runtime.layers.records import Usage
from agent.runtime.layers.tree import MOST_LINKS, Directory, clean

KEPT = 64
DEEPEST = 4096  # PATH_MAX: containerd could make no deeper one
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Folder:
    """Descriptors of the directories below ``path``. Raises `Fault` (``snapshot_missing``) if there is no such
    folder."""

    def __init__(self, path: Path) -> None:
        try:
            self._root = os.open(path, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise Fault(Cause.SNAPSHOT_MISSING, f"the directory {path} is gone") from None
        except OSError as error:
            raise unreadable(str(path), error) from None
        self._open: OrderedDict[Directory, int] = OrderedDict()
        self._last: Directory | None = None
        self._last_descriptor = -1

    def descriptor(self, directory: Directory) -> int:
        """An open descriptor of `directory`, good until the next call. Raises OSError."""
        if directory is not self._last:
            self._last_descriptor = self._find(directory)
            self._last = directory
        return self._last_descriptor

    def _find(self, directory: Directory) -> int:
        self._last = None
        if directory.parent is None:
            return self._root
        known = self._open.get(directory)
        if known is not None:
            self._open.move_to_end(directory)
            return known
        chain = [directory]
        while (above := chain[-1].parent) is not None and above.parent is not None and above not in self._open:
            chain.append(above)
        at = self._root if above is None or above.parent is None else self._open[above]
        for step in reversed(chain):
            at = self._keep(step, os.open(step.name, _DIRECTORY, dir_fd=at))
        return at

    def forget(self) -> None:
        """Close what is kept: names were moved."""
        self._last = None
        while self._open:
            os.close(self._open.popitem()[1])

    def _keep(self, directory: Directory, descriptor: int) -> int:
        self._open[directory] = descriptor
        if len(self._open) > KEPT:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.forget()
        os.close(self._root)


def lstat(name: str, directory: int) -> os.stat_result:
    """Raises OSError."""
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def resolved(folder: Folder, path: str) -> Directory:
    """Where `path` leads inside `folder`, its links followed as from a root of its own (``RootPath``).

    Raises OSError, also when there is nothing.
    """
    for _ in range(MOST_LINKS):
        at = Directory(None, "")
        parts = path.split("/") if path else []
        for number, part in enumerate(parts):
            descriptor = folder.descriptor(at)
            if stat.S_ISLNK(lstat(part, descriptor).st_mode):
                target = os.readlink(part, dir_fd=descriptor)
                before = "" if target.startswith("/") else "/".join(parts[:number])
                path = clean("/".join((before, target, *parts[number + 1 :])))
                break
            at = Directory(at, part)
        else:
            return at
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


class Counter:
    """Adds up inodes and blocks, those with several names once."""

    def __init__(self) -> None:
        self.inodes = 0
        self.blocks = 0
        self._shared: set[tuple[int, int]] = set()

    def add(self, status: os.stat_result) -> None:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) in self._shared:
                return
            self._shared.add((status.st_dev, status.st_ino))
        self.inodes += 1
        self.blocks += status.st_blocks

    @property
    def usage(self) -> Usage:
        return Usage(self.inodes, self.blocks * 512)


def count(folder: Path) -> Usage:
    """What `folder` takes now. Raises `Fault`: ``snapshot_missing``, or ``unknown`` where it cannot be read."""
    counter = Counter()
    with Folder(folder) as held:
        try:
            count_below(held, Directory(None, ""), counter)
        except OSError as error:
            raise unreadable(str(folder), error) from None
    return counter.usage


def count_below(folder: Folder, top: Directory, counter: Counter) -> None:
    """Add `top` and all that the disk has below it. Raises OSError."""
    waiting = [(top, 0)]
    counter.add(os.fstat(folder.descriptor(top)))
    while waiting:
        directory, depth = waiting.pop()
        descriptor = folder.descriptor(directory)
        for name in os.listdir(descriptor):  # noqa: PTH208 - of a descriptor
            status = lstat(name, descriptor)
            counter.add(status)
            if stat.S_ISDIR(status.st_mode):
                if depth == DEEPEST:
                    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
                waiting.append((Directory(directory, name), depth + 1))


def unreadable(subject: str, error: OSError) -> Fault:
    """`Fault` (``unknown``) for what could not be read for a reason that says nothing about it."""
    return Fault(Cause.UNKNOWN, f"cannot read {subject}: {error.strerror}")
