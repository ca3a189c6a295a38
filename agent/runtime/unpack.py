"""Dropping unpacked layers and unpacking them again from the blobs that are here, without a registry.

containerd never looks at an unpacked layer again, and its own `Snapshots.Remove` refuses where a stale child is noted.
What works on 1.6, 1.7 and 2.1 alike (sequences U and L): take the label off the configs that leads to the snapshots,
have the garbage collected, and unpack under a lease, which keeps the sound layers below too. Between the two an image
counts as not unpacked, which harms nobody: a container that is created then unpacks it by itself, and both find what
the other one made.
"""

import contextlib
import secrets
from collections.abc import Iterable

from agent.model import OVERLAYFS
from agent.runtime.anatomy import Anatomy, ImageLayer
from agent.runtime.census import SNAPSHOT_LABEL
from agent.runtime.snapshots import Present
from agent.runtime.store import Store

LABEL = SNAPSHOT_LABEL + OVERLAYFS


async def drop(store: Store, chains: frozenset[str], anatomies: Iterable[Anatomy]) -> frozenset[str]:
    """Drop `chains`, and whatever stands on them, for the images that they belong to; answers those that are held.

    Nothing leads to the layers below them either, until `unpack`: they have to be under a lease.
    """
    for anatomy in anatomies:
        await store.content.label(anatomy.config, LABEL, "")
    await store.leases.collect()
    return chains & {row.key for row in await store.snapshots.all(OVERLAYFS)}


async def unpack(store: Store, anatomy: Anatomy, lease: str) -> None:
    """Unpack each layer that has no snapshot, the lowest first, and have the config's label name the whole.

    Raises `Fault` as `Diff.apply`; what was unpacked by then goes with the lease.
    """
    for layer in anatomy.layers:
        if not await store.snapshots.has(OVERLAYFS, layer.chain):
            await _unpack(store, layer, lease)
    await store.content.label(anatomy.config, LABEL, anatomy.top)


async def _unpack(store: Store, layer: ImageLayer, lease: str) -> None:
    key = f"node-agent-{secrets.token_hex(8)} {layer.chain}"
    with contextlib.suppress(Present):  # a container that was created meanwhile has unpacked it
        mounts = await store.snapshots.prepare(key, layer.parent, layer.chain, lease)
        try:
            await store.diff.apply(layer, mounts, lease)
            await store.snapshots.commit(key, layer.chain, lease)
        except BaseException:
            await store.snapshots.remove(OVERLAYFS, key)
            raise
