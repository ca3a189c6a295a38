"""Paths as the host, or containerd, sees them, opened from where the agent stands.

The configuration folders of a node are full of absolute symlinks (NixOS, Talos, snaps), which mean
something else inside a mount of the host's disk. Each path is walked here component by component on
folder descriptors: an absolute link starts again at the prefix, ``..`` stops at it, and no component
can be exchanged for a link between the look and the opening.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

LIMIT = 1024 * 1024
MAX_LINKS = 40  # as Linux: fs/namei.c MAXSYMLINKS

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not hold us up


@dataclass(frozen=True, slots=True)
class HostRoot:
    """A folder that plays ``/``: ``/`` itself, a mount such as ``/host``, or ``/proc/<pid>/root``.

    All paths are the host's (``/etc/resolv.conf``). Methods raise `OSError` as the calls of `os` do.
    """

    prefix: Path = Path("/")

    def read_bytes(self, path: PurePath | str, limit: int = LIMIT) -> bytes:
        """The content of a regular file; ``EFBIG`` if it is longer than ``limit`` bytes, ``EINVAL`` if it is none."""
        with self._walk(path) as walk, os.fdopen(walk.open(), "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"longer than {limit} bytes", str(path))
        return content

    def read_text(self, path: PurePath | str, limit: int = LIMIT) -> str:
        """As `read_bytes`, decoded as UTF-8; bytes that are not UTF-8 are replaced."""
        return self.read_bytes(path, limit).decode(errors="replace")

    def exists(self, path: PurePath | str) -> bool:
        """Whether there is something at the end of all links. What may not be searched is not there."""
        try:
            self.stat(path)
        except OSError:
            return False
        return True

    def stat(self, path: PurePath | str) -> os.stat_result:
        """As `os.stat`."""
        with self._walk(path) as walk:
            return os.fstat(walk.fd)

    def names(self, path: PurePath | str, limit: int = 10_000) -> tuple[str, ...]:
        """The sorted names of a folder, of a huge folder ``limit`` of them."""
        with self._walk(path) as walk:
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=walk.fd)
        try:
            with os.scandir(folder) as entries:
                return tuple(sorted(entry.name for entry in islice(entries, limit)))
        finally:
            os.close(folder)

    def link(self, path: PurePath | str) -> str | None:
        """Where the last component points to, if it is a symlink."""
        where = PurePath(path)
        with self._walk(where.parent) as walk:
            try:
                return os.readlink(where.name, dir_fd=walk.fd)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return None
                raise

    def real(self, path: PurePath | str) -> Path:
        """The same place as a path of ours: below the prefix, without a symlink in it."""
        with self._walk(path) as walk:
            return self.prefix.joinpath(*walk.names)

    @contextmanager
    def _walk(self, path: PurePath | str) -> Iterator["_Walk"]:
        with ExitStack() as closing:
            root = os.open(self.prefix, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            closing.callback(os.close, root)
            walk = _Walk(root, closing)
            walk.to(str(path))
            yield walk


class _Walk:
    """The descriptors from the root down to where the walk stands."""

    def __init__(self, root: int, closing: ExitStack) -> None:
        self._fds = [root]
        self._closing = closing
        self.names: list[str] = []

    @property
    def fd(self) -> int:
        return self._fds[-1]

    def open(self) -> int:
        """Where the walk stands, for reading. Opening a device would already act on it."""
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", "/".join(("", *self.names)))
        return os.open(self.names[-1], _READ, dir_fd=self._fds[-2])

    def to(self, path: str) -> None:
        todo = _components(path)
        links = 0
        while todo:
            target = self._step(todo.pop())
            if target is None:
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                self._back(len(self.names))
            todo += _components(target)

    def _step(self, name: str) -> str | None:
        """Go down (or up) by one; a symlink is not entered but told."""
        if name == "..":
            self._back(min(1, len(self.names)))
            return None
        fd = os.open(name, _LOOK, dir_fd=self.fd)
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            try:
                return os.readlink("", dir_fd=fd)
            finally:
                os.close(fd)
        self._closing.callback(os.close, fd)
        self._fds.append(fd)
        self.names.append(name)
        return None

    def _back(self, steps: int) -> None:
        if steps:
            del self._fds[-steps:]
            del self.names[-steps:]


def _components(path: str) -> list[str]:
    """Last one first, so that the next one is popped; a NUL can't be in a name."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "a path holds no NUL", path)
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
