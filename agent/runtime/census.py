"""The cached images, put together from what containerd's services list: pure.

Records, labels and chains tell everything, also where a blob's JSON is unreadable: labels outlive their blobs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.model import Blob, Image, Role, title_of
from agent.runtime.containers import Container
from agent.runtime.content import BlobInfo
from agent.runtime.images import Record
from agent.runtime.snapshots import Chains
from agent.runtime.tenants import Tenants

SNAPSHOT_LABEL = "containerd.io/gc.ref.snapshot."
CONTENT_LABEL = "containerd.io/gc.ref.content."


@dataclass(frozen=True, slots=True)
class Census:
    """Everything that was listed. ``elsewhere`` is digest → other namespaces that have it; ``chains`` are by
    snapshotter, None for one that could not be asked."""

    records: tuple[Record, ...]
    infos: Mapping[str, BlobInfo]
    elsewhere: Mapping[str, frozenset[str]] = field(default_factory=dict)
    chains: Mapping[str, Chains | None] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    sandbox_image: str = ""

    def images(self) -> tuple[Image, ...]:
        """One image for each target digest, in the order of the digests."""
        names: dict[str, list[Record]] = defaultdict(list)
        for record in self.records:
            names[record.digest].append(record)
        titles = {target: title_of(target, [record.name for record in found]) for target, found in names.items()}
        holders, tenants = self._holders(titles), Tenants(self.chains, self.containers)
        for target, title in titles.items():
            tenants.add(target, title, self._tops(target))
        return tuple(self._image(target, records, holders, tenants) for target, records in sorted(names.items()))

    def _tops(self, target: str) -> Iterator[tuple[str, str]]:
        infos = (self.infos.get(digest) for digest in reach(target, self.infos))
        return (top for info in infos if info for top in snapshot_labels(info).items())

    def _holders(self, titles: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Who has each blob: target digest → title for the images of this namespace, then the other namespaces."""
        holders: dict[str, dict[str, str]] = defaultdict(dict)
        for target, title in titles.items():
            for digest in reach(target, self.infos):
                holders[digest][target] = title
        for digest, namespaces in self.elsewhere.items():
            holders[digest] |= {namespace: f"namespace {namespace}" for namespace in namespaces}
        return holders

    def _blobs(self, target: str, holders: Mapping[str, Mapping[str, str]]) -> Iterator[Blob]:
        for digest, role in reach(target, self.infos).items():
            if info := self.infos.get(digest):
                others = (title for holder, title in holders.get(digest, {}).items() if holder != target)
                yield Blob(digest, info.size, role, tuple(sorted(others)))

    def _image(
        self, target: str, records: list[Record], holders: Mapping[str, Mapping[str, str]], tenants: Tenants
    ) -> Image:
        found = reach(target, self.infos)
        present = tuple(self._blobs(target, holders))
        names = tuple(sorted(record.name for record in records))
        return Image(
            id=target,
            names=names,
            blobs=present,
            # a layer or another platform's manifest without a record is normal; a target or a config is not
            lost=tuple(d for d, role in found.items() if d not in self.infos and role in {Role.TARGET, Role.CONFIG}),
            # containerd 1.6 marks nothing as pinned, not even the image that every pod's sandbox needs
            pinned=any(record.pinned for record in records) or self.sandbox_image in names,
            in_use=tuple(sorted({*self._on_snapshots(target, tenants), *self._by_name(names)})),
            unpacked_only=any(self._lacks_layers(blob) for blob in present),
            snapshots=tenants.snapshots(target),
            created=max(record.created for record in records),
        )

    def _by_name(self, names: tuple[str, ...]) -> Iterator[str]:
        return (container.title for container in self.containers if container.image in names)

    def _on_snapshots(self, target: str, tenants: Tenants) -> Iterator[str]:
        """The users of the chains that the configs name."""
        for snapshotter, top in self._tops(target):
            yield from tenants.users(snapshotter, top)

    def _lacks_layers(self, blob: Blob) -> bool:
        """Whether a manifest's image is unpacked from more layers than are here as blobs."""
        labels = self.infos[blob.digest].labels
        config = self.infos.get(labels.get(CONTENT_LABEL + "config", ""))
        if config is None:
            return False
        layers = [digest for key, digest in labels.items() if key.startswith(CONTENT_LABEL + "l.")]
        here = sum(digest in self.infos for digest in layers)
        tops = snapshot_labels(config).items()
        depths = [chains.depth(top) for name, top in tops if (chains := self.chains.get(name))]
        return here < max([len(layers), *depths])


def snapshot_labels(info: BlobInfo) -> dict[str, str]:
    """Snapshotter → top chain ID, from the labels that a finished unpack leaves on a config blob."""
    found = info.labels.items()
    return {key.removeprefix(SNAPSHOT_LABEL): value for key, value in found if key.startswith(SNAPSHOT_LABEL)}


def reach(target: str, infos: Mapping[str, BlobInfo]) -> dict[str, Role]:
    """Every digest that `target` leads to, with or without a record, in the order index, manifest, config, layers."""
    found = {target: Role.TARGET}
    queue = [target]
    while queue:
        info = infos.get(queue.pop(0))
        for digest, role in _children(info) if info else ():
            if digest not in found:
                found[digest] = role
                queue.append(digest)
    return found


def _children(info: BlobInfo) -> Iterator[tuple[str, Role]]:
    """The blobs that a blob refers to, by its labels."""
    for key, digest in sorted(info.labels.items()):
        kind = key.removeprefix(CONTENT_LABEL)
        if kind != key:
            yield digest, Role.CONFIG if kind == "config" else Role.LAYER if kind.startswith("l.") else Role.MANIFEST
