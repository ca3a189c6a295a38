"""Mending blobs in place: good bytes are fetched beside the store, checked, and renamed over the bad file.

At every instant a file stands under the digest, so neither a kill nor a failed download leaves less than there was;
containerd's records, other namespaces and running containers are not touched. The bad file keeps a second name in
the quarantine folder until the image was verified again (sequence QL, in-use form: proved on 1.6, 1.7 and 2.1).
"""

import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.causes import Cause
from agent.model import Blob, Fault

FOLDER = "node-agent-quarantine"


def quarantine(content_root: Path) -> Path:
    """The folder for bad files and unfinished downloads: in the store, so that a rename never copies."""
    folder = content_root / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


Sink = Callable[[bytes], None]
Download = Callable[[Sink], Awaitable[None]]


async def replace(content_root: Path, blob: Blob, download: Download) -> None:
    """Write the bytes that `download` gives to its sink over the file of `blob`, if they are the right ones.

    Raises `Fault`: ``registry_content_corrupt`` for bytes with another digest or size, ``disk_full`` and
    ``disk_read_only`` as the disk says. The file in the store is then the one that it was.
    """
    algorithm, _, encoded = blob.digest.partition(":")
    target = content_root / "blobs" / algorithm / encoded
    new = quarantine(content_root) / f"{encoded}.new"
    try:
        await _fetch(new, blob, download)
        _keep(target, new.with_suffix(".bad"))
        new.chmod(0o444)
        new.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _disk_fault(error) from None
    finally:
        new.unlink(missing_ok=True)


def forget_bad_files(content_root: Path, digests: set[str]) -> None:
    """Delete what the quarantine holds of these digests, once they were verified again."""
    folder = content_root / FOLDER
    for digest in digests:
        encoded = digest.partition(":")[2]
        for suffix in ("bad", "new"):
            (folder / f"{encoded}.{suffix}").unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


async def _fetch(new: Path, blob: Blob, download: Download) -> None:
    algorithm, _, expected = blob.digest.partition(":")
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    with new.open("wb") as file:

        def sink(chunk: bytes) -> None:
            hasher.update(chunk)
            file.write(chunk)

        await download(sink)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if size != blob.size or hasher.hexdigest() != expected:
        raise Fault(
            Cause.REGISTRY_CONTENT_CORRUPT,
            f"the registry sent other bytes than {blob.digest} ({size} of {blob.size} bytes)",
            {"expected": expected, "found": hasher.hexdigest()},
        )


def _keep(bad: Path, name: Path) -> None:
    """Give the bad file a second name, unless it is gone or was kept by a run that did not end."""
    if bad.exists() and not name.exists():
        name.hardlink_to(bad)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_fault(error: OSError) -> Fault:
    causes = {28: Cause.DISK_FULL, 122: Cause.DISK_FULL, 30: Cause.DISK_READ_ONLY}  # ENOSPC, EDQUOT, EROFS
    return Fault(causes.get(error.errno or 0, Cause.UNKNOWN), f"cannot write to the content store: {error.strerror}")
