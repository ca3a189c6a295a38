"""Room on the file systems that hold containerd's cache."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from agent.causes import Cause
from agent.model import Fault
from agent.node.roots import HostRoot

MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system, sizes in bytes.

    ``free`` is what root may still write (``f_bfree``): containerd is root, so the reserve that
    ``f_bavail`` leaves out, 5 % on ext4, is open to it. ``inodes_free`` is None where a file system makes
    inodes as it goes (btrfs). ``mount`` is the mount point as the host names it.
    """

    path: str
    mount: str
    total: int
    free: int
    inodes_free: int | None
    read_only: bool


def look(path: PurePath | str, root: HostRoot | None = None, mounts: Path = MOUNTS) -> Disk:
    """The file system on which the host's ``path`` lies; `OSError` if there is no such path.

    ``mounts`` is our own mountinfo: it tells a disk that is read-only from our own read-only mount of it.
    """
    base = root or HostRoot()
    real = base.real(path)
    room = os.statvfs(real)
    return Disk(
        path=str(path),
        mount=_mount_point(real, base.prefix),
        total=room.f_blocks * room.f_frsize,
        free=room.f_bfree * room.f_frsize,
        inodes_free=room.f_ffree if room.f_files else None,
        read_only=_read_only(real, base.prefix, bool(room.f_flag & os.ST_RDONLY), mounts),
    )


def check(disk: Disk, need_bytes: int = 0) -> None:
    """`Fault` DISK_READ_ONLY, DISK_TOO_SMALL (the whole file system is smaller than the need) or DISK_FULL."""
    if disk.read_only:
        raise _fault(Cause.DISK_READ_ONLY, disk, f"{disk.mount} is mounted read-only")
    if need_bytes > disk.total:
        raise _fault(
            Cause.DISK_TOO_SMALL,
            disk,
            f"{disk.mount} has {human(disk.total)} in all, {human(need_bytes)} are needed",
        )
    if disk.free < max(need_bytes, 1):
        need = f", {human(need_bytes)} are needed" if need_bytes else ""
        raise _fault(Cause.DISK_FULL, disk, f"{disk.mount} has {human(disk.free)} of {human(disk.total)} free{need}")
    if disk.inodes_free == 0:
        raise _fault(Cause.DISK_FULL, disk, f"{disk.mount} has no inode left, though {human(disk.free)} are free")


def human(size: int) -> str:
    """Bytes in the largest binary unit that leaves a number of 1 or more: ``1.5 GiB``."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _mount_point(real: Path, prefix: Path) -> str:
    """The highest folder, at most the prefix, on the same device."""
    device = real.stat().st_dev
    place = real
    while place != prefix and place.parent.stat().st_dev == device:
        place = place.parent
    return str(Path("/") / place.relative_to(prefix))


def _read_only(real: Path, prefix: Path, flagged: bool, mounts: Path) -> bool:  # noqa: FBT001 - statvfs's answer
    """What ``statvfs`` flags, unless only the pod's own mount of the host's disk is read-only."""
    if not flagged or prefix == Path("/"):
        return flagged
    table = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    ours = [_has(fields[5], "ro") for fields in table if fields[4] == str(prefix)]
    if not any(ours):
        return flagged
    about = real.stat().st_dev
    device = f"{os.major(about)}:{os.minor(about)}"
    return any(_has(fields[-1], "ro") for fields in table if fields[2] == device)


def _has(options: str, option: str) -> bool:
    return option in options.split(",")


def _fault(cause: Cause, disk: Disk, detail: str) -> Fault:
    inodes = "unlimited" if disk.inodes_free is None else str(disk.inodes_free)
    return Fault(
        cause,
        detail,
        {"path": disk.path, "total": str(disk.total), "free": str(disk.free), "inodes_free": inodes},
    )
