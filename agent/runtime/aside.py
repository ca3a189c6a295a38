"""Evicting an image so that it can be had back: its blobs are renamed aside and forgotten, its names stay.

containerd skips every blob that it has a record of and every layer whose snapshot it has, so a fresh copy needs
both gone: files aside, records deleted, the config's snapshot label removed, then one garbage collection. If the pull
fails, `put_back` renames the files back and lets containerd adopt them; unpacked layers that were collected come back
with the next container, which containerd unpacks from the blobs by itself.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.causes import Cause
from agent.model import Blob, Fault, Image, Role
from agent.runtime.blobs import Budget, examine
from agent.runtime.census import SNAPSHOT_LABEL, snapshot_labels
from agent.runtime.content import BlobInfo
from agent.runtime.images import Record
from agent.runtime.layout import blob_file, disk_faults, kept_file, leave_quarantine, make_quarantine
from agent.runtime.snapshots import Chains
from agent.runtime.store import Store

ATTEMPTS, PAUSE = 100, 0.02


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is needed to have an evicted image back: written to the ledger before anything is touched.

    ``blobs`` are in the order target, manifests, configs, layers: each is referenced before it is adopted.
    """

    image: str
    records: tuple[Record, ...]
    blobs: tuple[BlobInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Parcel":
        """The parcel that `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        records = tuple(Record(**record) for record in value["records"])
        return cls(str(value["image"]), records, tuple(BlobInfo(**blob) for blob in value["blobs"]))


async def pack(store: Store, image: Image) -> Parcel:
    """Note everything about `image`; changes nothing."""
    records = [record for record in await store.images.records() if record.digest == image.id]
    infos = [await store.content.info(blob.digest) for blob in image.blobs]
    return Parcel(image.id, tuple(records), tuple(info for info in infos if info))


async def set_aside(store: Store, image: Image, parcel: Parcel, root: Path) -> None:
    """Rename the files of all blobs away, forget the blobs and wait until snapshots and records are collected.

    Raises `Fault`: also when a snapshot survives, since something stands on it that was not there before.
    """
    make_quarantine(root)
    with disk_faults():
        for blob in image.blobs:
            _rename(blob_file(root, blob.digest), kept_file(root, blob.digest))
    for blob in image.blobs:
        if blob.role is Role.CONFIG:
            await _unlabel(store, blob.digest)
    for blob in image.blobs:
        await store.content.forget(blob.digest)
    await store.leases.collect()
    await _expect_collected(store, parcel)


async def put_back(store: Store, parcel: Parcel, root: Path) -> tuple[str, ...]:
    """Undo `set_aside`, as far as it got, and answer the digests whose files are lost.

    A blob that was pulled meanwhile is kept, if it is sound or there is no better one. Names come first: what they
    point at is then referenced while it is adopted.
    """
    await restore_names(store, parcel)
    lost = [info.digest for info in parcel.blobs if not await _restore(store, info, root)]
    await restore_names(store, parcel)
    discard(parcel, root)
    return tuple(lost)


async def _restore(store: Store, info: BlobInfo, root: Path) -> bool:
    """Give a kept file its name in the store again, and have it adopted; whether the blob is there now.

    containerd's collection deletes files that have no record, so one that runs between the two takes the file: it has
    a second name until the end, and is linked again.
    """
    file, kept = blob_file(root, info.digest), kept_file(root, info.digest)
    for _ in range(ATTEMPTS):
        with disk_faults():
            await asyncio.to_thread(_choose, file, kept, info)
        if not file.exists() and not kept.exists():
            return False
        try:
            await store.content.adopt(_without_snapshots(info))
        except Fault as fault:
            if fault.cause is not Cause.METADATA_BROKEN:  # else the file went before it had its record
                raise
        if file.exists() and await store.content.info(info.digest):
            return True
        await asyncio.sleep(PAUSE)
    raise Fault(Cause.METADATA_BROKEN, f"{info.digest} cannot be put back; its file is {kept}")


async def restore_names(store: Store, parcel: Parcel) -> None:
    """Create each name that the image had and lost, and make CRI look at the others again.

    A name that points elsewhere by now (its tag moved, and was pulled) stays where it is.
    """
    for record in parcel.records:
        current = await store.images.record(record.name)
        if current is None:
            await store.images.create(record)
        elif current.digest == record.digest:
            await store.images.touch(current)


async def wake(store: Store, target: str) -> None:
    """Make CRI look at an image again that it may have lost track of while a blob of it was unreadable."""
    for record in await store.images.records():
        if record.digest == target:
            await store.images.touch(record)


def discard(parcel: Parcel, root: Path) -> None:
    """Delete the files aside: after a verified pull, or once they were put back."""
    with disk_faults():
        for info in parcel.blobs:
            kept_file(root, info.digest).unlink(missing_ok=True)
    leave_quarantine(root)


def _choose(file: Path, kept: Path, info: BlobInfo) -> None:
    """Make the kept file the blob, under a second name, unless a sound one lies there already."""
    if kept.exists() and (not file.exists() or (not _is_sound(file, info) and _is_sound(kept, info))):
        link = kept.with_suffix(".back")
        link.unlink(missing_ok=True)
        link.hardlink_to(kept)
        link.replace(file)
        link.unlink(missing_ok=True)  # rename(2) leaves both names where they are links to one file already


def _is_sound(path: Path, info: BlobInfo) -> bool:
    with contextlib.suppress(Fault):
        examine(path, Blob(info.digest, info.size, Role.LAYER), Budget(None), lambda _: None)
        return True
    return False


async def _expect_collected(store: Store, parcel: Parcel) -> None:
    for info in parcel.blobs:
        for snapshotter, top in snapshot_labels(info).items():
            if Chains(await store.snapshots.all(snapshotter)).depth(top):
                raise Fault(Cause.UNKNOWN, f"the unpacked layers are held by something else: {top} is still there")


def _without_snapshots(info: BlobInfo) -> BlobInfo:
    """Without the labels that name snapshots: those were collected and are made anew by an unpack."""
    labels = {key: value for key, value in info.labels.items() if not key.startswith(SNAPSHOT_LABEL)}
    return BlobInfo(info.digest, info.size, labels)


async def _unlabel(store: Store, config: str) -> None:
    info = await store.content.info(config)
    for snapshotter in snapshot_labels(info) if info else ():
        await store.content.label(config, SNAPSHOT_LABEL + snapshotter, "")


def _rename(source: Path, target: Path) -> None:
    if source.exists():
        source.rename(target)
