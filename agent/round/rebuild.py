"""Rebuild: unpacked layers made anew from verified blobs, for all the images that stand on them.

No registry is asked, except for layers that are not here as blobs: those are fetched before anything is dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.checks.cache import Verifier
from agent.model import Check, Depth, Fault, Finding, Image, Verdict
from agent.plan import Means
from agent.runtime.anatomy import Anatomy
from agent.runtime.snapshots import OVERLAYFS
from agent.runtime.store import Store
from agent.runtime.unpack import drop, unpack

LEASE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Owner:
    """One manifest of an image, which is unpacked."""

    image: Image
    anatomy: Anatomy


async def means_of(
    store: Store, verifier: Verifier, image: Image, findings: Iterable[Finding], *, replace_files: bool
) -> Means:
    """What a repair of `image` may use, and what it lacks."""
    bad = [finding for finding in findings if finding.verdict is Verdict.BAD]
    busy = {snapshot.chain for snapshot in image.snapshots if snapshot.in_use}
    damaged = {finding.subject for finding in bad if finding.check == Check.UNPACKED}
    free = frozenset(damaged - busy)
    wrong = {finding.subject for finding in bad if finding.check == Check.CACHE}
    own = await store.anatomies(image)
    needed = {layer.digest for anatomy in own for layer in anatomy.above(free)}
    if replace_files:
        needed |= {layer.digest for anatomy in own for layer in anatomy.layers if layer.chain in damaged & busy}
    sound = {blob.digest for blob in image.blobs} - wrong
    return Means(
        files=store.content_root is not None,
        replace_files=replace_files,
        lacking=tuple(sorted(needed - sound)),
        hindered=await _hindrance(store, verifier, image, free) if free else "",
    )


async def _hindrance(store: Store, verifier: Verifier, image: Image, chains: frozenset[str]) -> str:
    """Why the layers cannot be dropped for the other images that stand on them; empty if they can."""
    for owner in await owners_of(store, chains):
        if owner.image.id == image.id:
            continue
        found = await verifier.image(owner.image, Depth.BLOBS)
        wrong = {finding.subject for finding in found if finding.check == Check.CACHE}
        sound = {blob.digest for blob in owner.image.blobs} - wrong
        lacking = [layer.digest for layer in owner.anatomy.above(chains) if layer.digest not in sound]
        if lacking:
            return (
                f"{owner.image.title} shares these layers, and its own layer {lacking[0]} is not here as a sound blob"
            )
    return ""


async def owners_of(store: Store, chains: frozenset[str]) -> tuple[Owner, ...]:
    """Every manifest of every image that has one of `chains` among its unpacked layers."""
    images = [image for image in await store.cached() if chains & {each.chain for each in image.snapshots}]
    pairs = [Owner(image, anatomy) for image in images for anatomy in await store.anatomies(image)]
    return tuple(owner for owner in pairs if owner.anatomy.above(chains) and OVERLAYFS in owner.anatomy.tops)


async def rebuild(store: Store, image: Image, chains: frozenset[str]) -> None:
    """Drop `chains` where they are recorded, and unpack them, and all above them, for every image that has them.

    Raises the first `Fault`, after all images were tried.
    """
    own = [Owner(image, anatomy) for anatomy in await store.anatomies(image) if anatomy.above(chains)]
    others = [owner for owner in await owners_of(store, chains) if owner.image.id != image.id]
    owners = (*own, *others)
    async with store.leases.hold(_content(owners), LEASE_SECONDS) as lease:
        if chains & {row.key for row in await store.snapshots.all(OVERLAYFS)}:
            await drop(store, chains, [owner.anatomy for owner in owners])
        await unpack_all(store, [owner.anatomy for owner in owners], lease)


async def unpack_all(store: Store, anatomies: Sequence[Anatomy], lease: str) -> None:
    """Unpack what is not unpacked. Raises the first `Fault`, after all were tried."""
    faults: list[Fault] = []
    for anatomy in anatomies:
        try:
            await unpack(store, anatomy, lease)
        except Fault as fault:
            faults.append(fault)
    if faults:
        raise faults[0]


async def finish(store: Store, ids: Iterable[str]) -> None:
    """Unpack the images of a rebuild that was cut short. Raises `Fault` as `unpack_all`."""
    wanted = set(ids)
    images = [image for image in await store.cached() if image.id in wanted]
    owners = [Owner(image, anatomy) for image in images for anatomy in await store.anatomies(image)]
    missing = [owner for owner in owners if OVERLAYFS not in owner.anatomy.tops and _all_here(owner)]
    async with store.leases.hold(_content(missing), LEASE_SECONDS) as lease:
        await unpack_all(store, [owner.anatomy for owner in missing], lease)


def _all_here(owner: Owner) -> bool:
    here = {blob.digest for blob in owner.image.blobs}
    return bool(owner.anatomy.layers) and all(layer.digest in here for layer in owner.anatomy.layers)


def _content(owners: Iterable[Owner]) -> tuple[str, ...]:
    """Targets, and layers by name: where unpacked layers are discarded, no label leads to them."""
    targets = (owner.image.id for owner in owners)
    layers = (layer.digest for owner in owners for layer in owner.anatomy.layers)
    return tuple(dict.fromkeys((*targets, *layers)))
