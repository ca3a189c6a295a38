"""What is asked about an unpacked layer, and what is answered."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layer:
    """An unpacked layer and the blob that it was made of.

    ``folder`` is the snapshot's own directory (``…/snapshots/7/fs``), as this process can open it; ``below`` are those
    of the layers under it, the nearest first. ``digest`` and ``size`` (bytes) are those recorded of the ``blob``.
    """

    folder: Path
    below: tuple[Path, ...]
    blob: Path
    digest: str
    size: int


class What(StrEnum):
    """In what a path differs from its layer; the worst first, which is the order of a report."""

    MISSING = "missing"
    TYPE = "type"  # a directory where a file should be, and the like
    CONTENT = "content"
    SIZE = "size"
    UNREADABLE = "unreadable"  # the disk gives EIO
    WHITEOUT = "whiteout"  # the mark that hides a file of a layer below is lost
    OPAQUE = "opaque"  # the mark that hides all below a directory is lost, or there and should not be
    LINK = "link"  # a symbolic link points elsewhere
    HARD_LINK = "hard link"  # two names that should share one inode do not
    DEVICE = "device"  # a device node of other numbers
    XATTR = "xattr"
    MODE = "mode"
    OWNER = "owner"
    EXTRA = "extra"  # nothing in the layer has this name; told of the topmost directory only
    MTIME = "mtime"


RANKS = {what: rank for rank, what in enumerate(What)}
MOST = 100  # differences that a `Comparison` names


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that is not as the layer says.

    ``path`` is relative to the image's root; bytes in it that are no UTF-8 stand as surrogates (``surrogateescape``).
    """

    path: str
    what: What
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a directory takes, counted as containerd does at commit (continuity/fs, ``DiskUsage``).

    ``inodes`` are the distinct ones below the directory and itself; ``bytes`` their blocks of 512.
    """

    inodes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A layer against its directory. ``differences`` are the `MOST` worst of ``count``.

    ``incomparable`` says why nothing could be compared: it is no tar (encrypted, an artifact), or one that containerd
    would not have unpacked.
    """

    differences: tuple[Difference, ...]
    count: int
    usage: Usage
    incomparable: str = ""
