"""Tenants: whose each unpacked layer is - the images that it belongs to, and who stands on it. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.model import Snapshot
from agent.runtime.containers import Container
from agent.runtime.leases import PREFIX as OURS
from agent.runtime.snapshots import Chains, Row

Tops = Iterable[tuple[str, str]]
"""Snapshotter and top chain ID, as a config's labels name them."""


class Tenants:
    """``chains`` are by snapshotter, None for one that does not answer: it may have any user."""

    def __init__(self, chains: Mapping[str, Chains | None], containers: Iterable[Container]) -> None:
        self._chains = chains
        self._titles = {container.id: container.title for container in containers}
        self._layers: dict[str, list[tuple[str, Row]]] = {}
        self._owners: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)

    def add(self, image: str, title: str, tops: Tops) -> None:
        """Tell of an image, by its ID."""
        self._layers[image] = list(dict.fromkeys(self._rows(tops)))
        for snapshotter, row in self._layers[image]:
            self._owners[snapshotter, row.key][image] = title

    def _rows(self, tops: Tops) -> Iterator[tuple[str, Row]]:
        for snapshotter, top in tops:
            chains = self._chains.get(snapshotter)
            yield from ((snapshotter, row) for row in chains.layers(top)) if chains else ()

    def snapshots(self, image: str) -> tuple[Snapshot, ...]:
        """The unpacked layers of an image, the lowest first, once all images were told of."""
        return tuple(self._snapshot(image, snapshotter, row) for snapshotter, row in self._layers[image])

    def _snapshot(self, image: str, snapshotter: str, row: Row) -> Snapshot:
        owners = self._owners[snapshotter, row.key]
        others = sorted(title for owner, title in owners.items() if owner != image)
        return Snapshot(snapshotter, row.key, self.users(snapshotter, row.key), tuple(others), row.remote)

    def users(self, snapshotter: str, chain: str) -> tuple[str, ...]:
        """Titles of the containers on a chain, keys of whatever else stands on it; our own views are nobody's."""
        chains = self._chains.get(snapshotter)
        if chains is None:
            return (f"whoever uses snapshotter {snapshotter}, which does not answer",)
        keys: Sequence[str] = [key for key in chains.users(chain) if not key.startswith(OURS)]
        return tuple(sorted({self._titles.get(key, key) for key in keys}))
