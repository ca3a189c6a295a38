"""Files as containerd sees them, read through the root of its file system.

Absolute symbolic links mean paths inside that root (``/proc/PID/root``, ``--host-root``), and ``..``
never leads out of it: a link in a directory of the host is followed as containerd follows it, and
never into this process's own files.
"""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_MOST_LINKS = 40
_FILE_LIMIT = 4 * 1024 * 1024


def resolve(path: Path, prefix: Path) -> Path:
    """Where ``path`` (absolute, as containerd sees it) lies for us; it need not exist.

    Raises OSError(ELOOP) for too many links. Links are those of this moment.
    """
    done: list[str] = []
    todo = _parts(path)[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
            continue
        here = prefix.joinpath(*done, part)
        if not here.is_symlink():
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        aim = here.readlink()
        done = [] if aim.is_absolute() else done
        todo += _parts(aim)[::-1]
    return prefix.joinpath(*done)


def _parts(path: Path) -> list[str]:
    return [part for part in path.parts if part != "/"]


def read(path: Path, prefix: Path) -> bytes:
    """The whole file, a regular one of at most 4 MiB. Raises OSError."""
    descriptor = os.open(resolve(path, prefix), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no waiting for a pipe
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = file.read(_FILE_LIMIT + 1)
    if len(data) > _FILE_LIMIT:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def listing(path: Path, prefix: Path) -> tuple[str, ...]:
    """The names in a directory that are no directories, sorted, as Go's ReadDir gives them. Raises OSError."""
    found = resolve(path, prefix)
    return tuple(sorted(entry.name for entry in found.iterdir() if entry.is_symlink() or not entry.is_dir()))


def first_existing(paths: Iterable[Path], prefix: Path) -> Path | None:
    """The first of ``paths`` that exists, whatever it is."""
    return next((path for path in paths if _exists(path, prefix)), None)


def _exists(path: Path, prefix: Path) -> bool:
    try:
        return resolve(path, prefix).exists()
    except OSError:
        return False
