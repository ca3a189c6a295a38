"""A disk that cannot be read in places: a file system in a file, whose end is cut off beneath it.

The kernel answers a read of a block past the end of a loop device's file with EIO, as it does for a bad sector. So
the disk is filled with copies of the file that is to be unreadable, the copy that lies last takes its place, and the
backing file is cut there. (device-mapper's error target would be more direct; many kernels are built without it.)
"""

import fcntl
import itertools
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stage.namespaces import SEARCHED, StageError

MIB = 1 << 20
_BLOCK = 4096
_FIBMAP = 1


class Disk:
    """An ext4 of its own, mounted at ``place``; `break_file` makes a file on it unreadable."""

    def __init__(self, image: Path, place: Path) -> None:
        self._image, self.place = image, place

    def break_file(self, path: Path) -> None:
        """Every read of its content fails with EIO from now on; its name, size, mode and times are as before."""
        folder = self.place / "filling"
        folder.mkdir()
        last = max(_copies(path, folder), key=lambda copy: min(_blocks(copy)))
        times = path.parent.stat()
        last.rename(path)
        os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
        shutil.rmtree(folder)
        cut = min(_blocks(path))
        _run("sync", "--file-system", str(self.place))
        os.truncate(self._image, cut * _BLOCK)
        _forget_pages(path)
        expect_unreadable(path)


def expect_unreadable(path: Path) -> None:
    """Raise `StageError` when it can be read."""
    with suppress(OSError):
        path.read_bytes()
        raise StageError(f"{path} can be read")


@contextmanager
def disk(folder: Path, place: Path, mib: int = 64) -> Iterator[Disk]:
    """A new disk of so many MiB; `folder` keeps its image. `StageError` where the machine cannot mount one."""
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    place.mkdir(parents=True, exist_ok=True)
    # Without a journal freed blocks are free at once, and nothing else is written behind our back.
    _run("mkfs.ext4", "-q", "-b", str(_BLOCK), "-m", "0", "-O", "^has_journal", str(image))
    _run("mount", "-o", "loop,noatime", str(image), str(place))
    try:
        yield Disk(image, place)
    finally:
        with suppress(StageError):  # gone already with whatever had its folder there
            _run("umount", "--lazy", str(place))
        image.unlink()


def _copies(path: Path, folder: Path) -> Iterator[Path]:
    """Copies of a file with all its metadata, until the disk is full."""
    owner, content = path.stat(), path.read_bytes()
    for number in itertools.count():
        copy = folder / f"{number}"
        try:
            _write(copy, content)
        except OSError:  # no more room
            return
        os.chown(copy, owner.st_uid, owner.st_gid)
        shutil.copystat(path, copy)
        yield copy


def _write(path: Path, content: bytes) -> None:
    """Down to the disk, so that its blocks are known."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _blocks(path: Path) -> list[int]:
    """Where on the disk its blocks are, in the order of the file (FIBMAP: needs root)."""
    with path.open("rb") as file:
        count = -(-path.stat().st_size // _BLOCK)
        asked = (fcntl.ioctl(file, _FIBMAP, struct.pack("i", number)) for number in range(count))
        return [struct.unpack("i", answer)[0] for answer in asked]


def _forget_pages(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _run(*command: str) -> None:
    environment = {"PATH": SEARCHED}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StageError(f"a disk of its own needs the program {command[0]}: run `make setup`") from None
    if done.returncode != 0:
        raise StageError(f"no disk of its own: {' '.join(command)}: {done.stderr.strip()}")
