"""Rebuild: unpacked layers made anew from verified blobs, for all the images that stand on them.

No registry is asked, except for layers that are not here as blobs: those are fetched before anything is dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.actions import Action, Rebuild, ReplaceFiles, Unpack
from agent.causes import Cause
from agent.checks.cache import Verifier
from agent.model import OVERLAYFS, Check, Depth, Fault, Finding, Image, Verdict
from agent.plan import Means, plan_repair
from agent.runtime.anatomy import Anatomy
from agent.runtime.leases import LEASE_SECONDS
from agent.runtime.store import Store
from agent.runtime.unpack import drop, unpack


@dataclass(frozen=True, slots=True)
class Owner:
    """One manifest of an image, which is unpacked."""

    image: Image
    anatomy: Anatomy


async def means_of(
    store: Store, verifier: Verifier, image: Image, findings: Iterable[Finding], *, replace_files: bool
) -> Means:
    """What a repair of `image` may use, and what it lacks. Only blobs of which nothing bad or unknown is said count."""
    findings = tuple(findings)
    wrong = _wrong_blobs(findings)
    dropped, unpacked, mended = _chains(image, findings, replace_files=replace_files)
    own = await store.anatomies(image)
    needed = {layer.digest for anatomy in own for layer in anatomy.above(dropped)}
    needed |= {layer.digest for anatomy in own for layer in anatomy.layers if layer.chain in unpacked | mended}
    sound = {blob.digest for blob in image.blobs} - wrong
    return Means(
        files=store.content_root is not None,
        replace_files=replace_files,
        lacking=tuple(sorted(needed - sound)),
        hindered=await _hindrance(store, verifier, image, dropped) if dropped else "",
    )


def _chains(
    image: Image, findings: Iterable[Finding], *, replace_files: bool
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The chain IDs of layers to drop, of layers that only have to be unpacked, and of those to mend in place."""
    plan = plan_repair(image, findings, None, Means(files=True, replace_files=replace_files))
    found: dict[type[Action], frozenset[str]] = {
        type(action): frozenset(action.chains) for action in plan if isinstance(action, Rebuild | Unpack | ReplaceFiles)
    }
    dropped, unpacked, mended = (found.get(kind, frozenset()) for kind in (Rebuild, Unpack, ReplaceFiles))
    return dropped, unpacked, mended


def _wrong_blobs(findings: Iterable[Finding]) -> set[str]:
    return {each.subject for each in findings if each.check == Check.CACHE and each.verdict is not Verdict.OK}


async def _hindrance(store: Store, verifier: Verifier, image: Image, chains: frozenset[str]) -> str:
    """Why the layers cannot be dropped for the other images that stand on them; empty if they can."""
    for other in await _sharers(store, chains):
        if other.id == image.id:
            continue
        wrong = _wrong_blobs(await verifier.image(other, Depth.BLOBS))
        sound = {blob.digest for blob in other.blobs} - wrong
        above = [layer for anatomy in await store.anatomies(other) for layer in anatomy.above(chains)]
        if not above:
            return f"{other.title} shares these layers, and its own manifest or config cannot be read: repair it, too"
        if lacking := [layer.digest for layer in above if layer.digest not in sound]:
            return f"{other.title} shares these layers, and its own layer {lacking[0]} is not here as a sound blob"
    return ""


async def _sharers(store: Store, chains: frozenset[str]) -> list[Image]:
    """Every image that has one of `chains` among its unpacked layers."""
    return [
        image
        for image in await store.cached()
        if any(each.snapshotter == OVERLAYFS and each.chain in chains for each in image.snapshots)
    ]


async def owners_of(store: Store, image: Image, chains: frozenset[str]) -> tuple[Owner, ...]:
    """Every manifest of `image`, and of whatever shares them, that has one of `chains` unpacked."""
    others = [each for each in await _sharers(store, chains) if each.id != image.id]
    pairs = [Owner(each, anatomy) for each in (image, *others) for anatomy in await store.anatomies(each)]
    return tuple(owner for owner in pairs if owner.anatomy.above(chains) and OVERLAYFS in owner.anatomy.tops)


async def rebuild(store: Store, image: Image, chains: frozenset[str]) -> None:
    """Drop `chains`, and unpack them and all above them, for every image that has them; what lies below stays.

    Raises `Fault` where something that is no image holds them; else the first one, after all images were tried.
    """
    owners = await owners_of(store, image, chains)
    below = {owner.anatomy.above(chains)[0].parent for owner in owners} - {""}
    anatomies = [owner.anatomy for owner in owners]
    async with store.leases.hold(_content(owners), LEASE_SECONDS, below) as lease:
        held = await drop(store, chains, anatomies)
        await unpack_all(store, anatomies, lease)
    if held:
        raise Fault(Cause.UNKNOWN, f"the unpacked layers are held by something else: {min(held)} is still there")


async def unpack_missing(store: Store, image: Image, chains: frozenset[str]) -> None:
    """Unpack what has no snapshot, and have the label name the whole. Raises `Fault` as `unpack_all`."""
    own = await _own(store, image)
    owners = [each for each in own if each.anatomy.above(chains) and OVERLAYFS in each.anatomy.tops]
    async with store.leases.hold(_content(owners), LEASE_SECONDS) as lease:
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
    owners = [owner for image in images for owner in await _own(store, image)]
    missing = [owner for owner in owners if owner.anatomy.layers and OVERLAYFS not in owner.anatomy.tops]
    kept = {layer.chain for owner in missing for layer in owner.anatomy.layers}
    async with store.leases.hold(_content(missing), LEASE_SECONDS, kept) as lease:
        await unpack_all(store, [owner.anatomy for owner in missing], lease)


async def _own(store: Store, image: Image) -> list[Owner]:
    return [Owner(image, anatomy) for anatomy in await store.anatomies(image)]


def _content(owners: Iterable[Owner]) -> tuple[str, ...]:
    """Targets, and layers by name: where unpacked layers are discarded, no label leads to them."""
    targets = (owner.image.id for owner in owners)
    layers = (layer.digest for owner in owners for layer in owner.anatomy.layers)
    return tuple(dict.fromkeys((*targets, *layers)))
