"""What happens to the unpacked files of a layer: functions of one path in a snapshot's own directory.

What is written to gets the times that the kernel gives it; `empty`, `zero` and `change_quietly` hide theirs, as a lost
write does.
"""

import os
import shutil
from pathlib import Path

OPAQUE = "trusted.overlay.opaque"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """What a power loss leaves: containerd records the layer durably and writes its files lazily."""
    _quietly(path, b"")


def zero(path: Path) -> None:
    """The right size, and nothing but zeros: blocks that were allocated and never written."""
    _quietly(path, bytes(path.stat().st_size))


def change_quietly(path: Path) -> None:
    """Other bytes with the same size and the same time."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    _quietly(path, bytes(content))


def delete(path: Path) -> None:
    path.unlink()


def loosen(path: Path) -> None:
    """Another mode."""
    path.chmod(path.stat().st_mode & 0o7777 ^ 0o022)


def give_away(path: Path) -> None:
    """Another owner, with the mode that it had."""
    mode = path.stat().st_mode & 0o7777
    os.chown(path, 65534, 65534)
    path.chmod(mode)


def point_elsewhere(path: Path) -> None:
    """A symlink to another place."""
    before = path.lstat()
    path.unlink()
    path.symlink_to("/elsewhere")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


def change_xattrs(path: Path) -> None:
    """Each has another value."""
    for name in os.listxattr(path):
        os.setxattr(path, name, os.getxattr(path, name)[:-1] + b"\x01")


def lose_xattrs(path: Path) -> None:
    for name in os.listxattr(path):
        os.removexattr(path, name)


def break_link(path: Path) -> None:
    """A hard link becomes a file of its own with the same content."""
    copy = path.with_name(f"{path.name}.copy")
    shutil.copy2(path, copy)
    copy.rename(path)


def add_beside(path: Path) -> None:
    """A file that no layer has, beside `path`."""
    (path.parent / "planted").write_bytes(b"#!/bin/sh\n")


def unhide(path: Path) -> None:
    """A whiteout is lost: what the layer deleted is there again."""
    path.unlink()


def lose_opaque(path: Path) -> None:
    """The mark of a directory that hides all below it."""
    os.removexattr(path, OPAQUE)


def clear(path: Path) -> None:
    """A directory is there, and empty."""
    for inner in path.iterdir():
        remove(inner)


def remove(path: Path) -> None:
    """A whole tree is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _quietly(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
