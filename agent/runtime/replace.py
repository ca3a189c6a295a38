"""Mending blobs in place: good bytes are fetched beside the store, checked, and renamed over the bad file.

At every instant a file stands under the digest, so neither a kill nor a failed download leaves less than there was;
containerd's records, other namespaces and running containers are not touched. The bad file keeps a second name in
the quarantine folder until the image was verified again (sequence QL, in-use form: proved on 1.6, 1.7 and 2.1).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from agent.causes import Cause
from agent.model import Blob, Fault, Role
from agent.runtime.blobs import new_hasher
from agent.runtime.content import BlobInfo, Content
from agent.runtime.layout import blob_file, disk_faults, kept_file, leave_quarantine, make_quarantine

Sink = Callable[[bytes], None]
Download = Callable[[Sink], Awaitable[None]]

BAD, NEW = ".bad", ".new"
PIECE = 1024 * 1024
"""Bytes of one message: containerd takes at most 16 MiB."""


async def replace(content_root: Path, blob: Blob, download: Download) -> None:
    """Write the bytes that `download` gives to its sink over the file of `blob`, if they are the right ones.

    Raises `Fault`: ``registry_content_corrupt`` for bytes with another digest or size, ``disk_full`` and
    ``disk_read_only`` as the disk says. The file in the store is then the one that it was.
    """
    target, new = blob_file(content_root, blob.digest), kept_file(content_root, blob.digest, NEW)
    make_quarantine(content_root)
    with disk_faults():
        try:
            await _fetch(new, blob, download)
            _keep(target, kept_file(content_root, blob.digest, BAD))
            new.chmod(0o444)
            new.replace(target)
            _sync_folder(target.parent)
        finally:
            new.unlink(missing_ok=True)


async def add(content: Content, content_root: Path, info: BlobInfo, download: Download, lease: str) -> None:
    """Store a blob that has no record, as containerd's own pull would, under `lease`. Raises `Fault` as `replace`."""
    new = kept_file(content_root, info.digest, NEW)
    make_quarantine(content_root)
    with disk_faults():
        try:
            await _fetch(new, Blob(info.digest, info.size, Role.LAYER), download)
            with new.open("rb") as file:
                await content.write(info, iter(lambda: file.read(PIECE), b""), lease)
        finally:
            new.unlink(missing_ok=True)
    leave_quarantine(content_root)


def forget_bad_files(content_root: Path, digests: Iterable[str]) -> None:
    """Delete what the quarantine holds of these digests: each was replaced by bytes that had been checked."""
    with disk_faults():
        for digest in digests:
            for suffix in (BAD, NEW):
                kept_file(content_root, digest, suffix).unlink(missing_ok=True)
    leave_quarantine(content_root)


async def _fetch(new: Path, blob: Blob, download: Download) -> None:
    hasher = new_hasher(blob.digest)
    with new.open("wb") as file:

        def sink(chunk: bytes) -> None:
            hasher.update(chunk)
            file.write(chunk)

        await download(sink)
        size = file.tell()
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    expected = blob.digest.partition(":")[2]
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
