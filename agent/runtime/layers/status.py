"""What lstat says of a path beside what the tar's header says."""

import os
import stat

from agent.runtime.layers.headers import BLOCK_DEVICE, CHARACTER, FIFO, Entry
from agent.runtime.layers.pax import SECOND
from agent.runtime.layers.records import What

Found = tuple[tuple[What, str, str], ...]

_NAMES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
}
TYPES = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_LAST_OF_32_BITS = (1 << 31) - 1
_ANY_OWNER = frozenset((-1, (1 << 32) - 1))  # chown's word for "leave it"


def describe(mode: int) -> str:
    """The kind of file, for people."""
    return _NAMES.get(stat.S_IFMT(mode), "something else")


def metadata(
    entry: Entry, status: os.stat_result, kind: int, *, timeless: bool = False, only_owner: bool = False
) -> Found:
    """Type, or else mode, owner, time and device numbers that differ. ``kind`` is the S_IF… that is expected."""
    if (
        status.st_mode == kind | entry.mode
        and status.st_uid == entry.uid
        and status.st_gid == entry.gid
        and status.st_mtime_ns == entry.mtime
        and entry.device == _NO_DEVICE
    ):
        return ()
    if stat.S_IFMT(status.st_mode) != kind:
        return ((What.TYPE, describe(kind), describe(status.st_mode)),)
    found = [*_owner(entry, status)]
    if only_owner:
        return tuple(found)
    if kind != stat.S_IFLNK and stat.S_IMODE(status.st_mode) != entry.mode:
        found.append((What.MODE, f"{entry.mode:04o}", f"{stat.S_IMODE(status.st_mode):04o}"))
    if not (timeless or _is_time(entry.mtime, status.st_mtime_ns)):
        found.append((What.MTIME, time_text(entry.mtime), time_text(status.st_mtime_ns)))
    if entry.kind in {CHARACTER, BLOCK_DEVICE} and status.st_rdev != os.makedev(*entry.device):
        numbers = os.major(status.st_rdev), os.minor(status.st_rdev)
        found.append((What.DEVICE, "{}:{}".format(*entry.device), "{}:{}".format(*numbers)))
    return tuple(found)


_NO_DEVICE = (0, 0)


def _owner(entry: Entry, status: os.stat_result) -> Found:
    uid = status.st_uid if entry.uid in _ANY_OWNER else entry.uid
    gid = status.st_gid if entry.gid in _ANY_OWNER else entry.gid
    if (uid, gid) == (status.st_uid, status.st_gid):
        return ()
    return ((What.OWNER, f"{uid}:{gid}", f"{status.st_uid}:{status.st_gid}"),)


def _is_time(expected: int, found: int) -> bool:
    """Whether a file system that was given `expected` may say `found`: in whole seconds, or with an end of time."""
    if found == expected or found == expected // SECOND * SECOND:
        return True
    return expected // SECOND > _LAST_OF_32_BITS and _LAST_OF_32_BITS <= found // SECOND < expected // SECOND


def time_text(nanoseconds: int) -> str:
    """Seconds since 1970, with a fraction where there is one."""
    seconds, fraction = divmod(nanoseconds, SECOND)
    return f"{seconds}.{fraction:09}" if fraction else str(seconds)
