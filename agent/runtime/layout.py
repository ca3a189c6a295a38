"""Where containerd's content store keeps its files, and where bad or evicted ones are put aside."""

import contextlib
import ctypes
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from agent.causes import Cause
from agent.model import Fault

EXT4_SUPER_MAGIC = 0xEF53
QUARANTINE = "node-agent-quarantine"
DIGEST = re.compile(r"(sha256|sha384|sha512):[0-9a-f]{64,128}")

_CAUSES = {errno.ENOSPC: Cause.DISK_FULL, errno.EDQUOT: Cause.DISK_FULL, errno.EROFS: Cause.DISK_READ_ONLY}


def blob_file(content_root: Path, digest: str) -> Path:
    """The file of a blob, whether or not it exists. Raises `Fault` (``unknown``) for what is no digest."""
    if not DIGEST.fullmatch(digest):
        raise Fault(Cause.UNKNOWN, f"{digest[:100]!r} is no digest")
    algorithm, _, encoded = digest.partition(":")
    return content_root / "blobs" / algorithm / encoded


def kept_file(content_root: Path, digest: str, suffix: str = "") -> Path:
    """The file's name in the quarantine: in the store's own folder, so that a rename never copies."""
    return content_root / QUARANTINE / (digest.partition(":")[2] + suffix)


def ingest_file(content_root: Path, namespace: str, ref: str) -> Path | None:
    """The bytes so far of an unfinished write, None if there is none.

    Its folder is called by the hash of a reference that holds a number nobody else knows, and holds the reference.
    """
    for folder in (content_root / "ingest").glob("*"):
        with contextlib.suppress(OSError):  # it was finished meanwhile
            owner, _, rest = (folder / "ref").read_text(errors="replace").partition("/")
            if owner == namespace and rest.partition("/")[2] == ref:
                return folder / "data"
    return None


def make_quarantine(content_root: Path) -> None:
    """Make the folder for files put aside and for unfinished downloads."""
    with disk_faults():
        (content_root / QUARANTINE).mkdir(mode=0o700, exist_ok=True)


def leave_quarantine(content_root: Path) -> None:
    """Remove the folder if nothing is in it."""
    with contextlib.suppress(OSError):  # not empty, or gone already
        (content_root / QUARANTINE).rmdir()


@contextlib.contextmanager
def disk_faults() -> Iterator[None]:
    """Turns the errors of the file system into `Fault`: ``disk_full``, ``disk_read_only`` or ``unknown``."""
    try:
        yield
    except OSError as error:
        detail = f"the content store cannot be written: {error.strerror or error}"
        raise Fault(_CAUSES.get(error.errno or 0, Cause.UNKNOWN), detail) from None


def is_ext4(folder: Path) -> bool:
    """Whether what the file system says of a file's blocks and holes can be believed, as measured on ext4.

    Others compress, reserve ahead of a write, or make holes of zeros that were written (ZFS).
    """
    answer = (ctypes.c_long * 32)()  # struct statfs begins with f_type (statfs(2))
    failed = ctypes.CDLL(None, use_errno=True).statfs(bytes(folder), ctypes.byref(answer))
    return not failed and answer[0] == EXT4_SUPER_MAGIC
