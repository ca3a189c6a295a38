"""Evicting an image so that it can be had back: its blobs are renamed aside and forgotten, its names stay.

containerd skips every blob that it has a record of and every layer whose snapshot it has, so a fresh copy needs
both gone: files aside, records deleted, the config's snapshot label removed, then one garbage collection. If the pull
fails, `put_back` renames the files back and lets containerd adopt them; unpacked layers that were collected come back
with the next container, which containerd unpacks from the blobs by itself.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.model import Image, Role
from agent.runtime.content import BlobInfo
from agent.runtime.images import Record
from agent.runtime.replace import FOLDER, quarantine
from agent.runtime.store import SNAPSHOT_LABEL, Store


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
        """The parcel that `to_json` wrote."""
        records = tuple(Record(**record) for record in value["records"])
        return cls(value["image"], records, tuple(BlobInfo(**blob) for blob in value["blobs"]))


async def pack(store: Store, image: Image) -> Parcel:
    """Note everything about `image`; changes nothing."""
    records = [record for record in await store.images.records() if record.digest == image.id]
    infos = [await store.content.info(blob.digest) for blob in image.blobs]
    return Parcel(image.id, tuple(records), tuple(info for info in infos if info))


async def set_aside(store: Store, image: Image, root: Path) -> None:
    """Rename the files of all blobs away, forget the blobs and wait until snapshots and records are collected."""
    folder = quarantine(root)
    for blob in image.blobs:
        _rename(_file(root, blob.digest), folder / _encoded(blob.digest))
    for blob in image.blobs:
        if blob.role is Role.CONFIG:
            await _unlabel(store, blob.digest)
    for blob in image.blobs:
        await store.content.forget(blob.digest)
    await store.leases.collect()


async def put_back(store: Store, parcel: Parcel, root: Path) -> None:
    """Undo `set_aside`, as far as it got; a blob that was pulled meanwhile is kept as it is."""
    for info in parcel.blobs:
        file = _file(root, info.digest)
        if not file.exists():
            _rename(root / FOLDER / _encoded(info.digest), file)
    for info in parcel.blobs:
        if _file(root, info.digest).exists():
            await store.content.adopt(_without_snapshots(info))
    await restore_names(store, parcel)
    discard(parcel, root)


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
    folder = root / FOLDER
    for info in parcel.blobs:
        (folder / _encoded(info.digest)).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _without_snapshots(info: BlobInfo) -> BlobInfo:
    """Without the labels that name snapshots: those were collected and are made anew by an unpack."""
    labels = {key: value for key, value in info.labels.items() if not key.startswith(SNAPSHOT_LABEL)}
    return BlobInfo(info.digest, info.size, labels)


async def _unlabel(store: Store, config: str) -> None:
    info = await store.content.info(config)
    for key in info.labels if info else ():
        if key.startswith(SNAPSHOT_LABEL):
            await store.content.label(config, key, "")


def _encoded(digest: str) -> str:
    return digest.partition(":")[2]


def _file(root: Path, digest: str) -> Path:
    algorithm, _, encoded = digest.partition(":")
    return root / "blobs" / algorithm / encoded


def _rename(source: Path, target: Path) -> None:
    if source.exists():
        source.rename(target)
