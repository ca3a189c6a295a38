"""Where containerd's content store keeps its files, and where bad or evicted ones are put aside."""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from agent.causes import Cause
from agent.model import Fault

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
