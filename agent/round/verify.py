"""Verify: the cached images that were named, or all of them, and what is wrong with each."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

from agent.causes import Cause
from agent.checks.cache import Verifier
from agent.model import OVERLAYFS, Check, Depth, Fault, Finding, Image, ImageReport, Verdict
from agent.registry.reference import parse
from agent.runtime.channel import Absent
from agent.runtime.runtime import Runtime
from agent.runtime.store import Store

IMAGES_AT_ONCE = 4


def store_of(runtime: Runtime | Fault) -> Store:
    """containerd's own services. Raises `Fault` when the runtime is away or is not containerd."""
    if isinstance(runtime, Fault):
        raise runtime
    if runtime.store is None:
        raise Fault(Cause.UNKNOWN, f"not containerd: the cache of {runtime.version.name} cannot be verified or mended")
    return runtime.store


def select(images: Sequence[Image], names: Iterable[str]) -> tuple[Image, ...]:
    """The images that `names` stand for, all when there are none; a name that is not cached has no blobs.

    A name is a reference as a pod would write it, or an image ID (``sha256:…``).
    Raises `Fault` (``invalid_reference``).
    """
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        return tuple(images)
    by_name = {name: image for image in images for name in (*image.names, image.id)}
    found = (by_name.get(normal(name)) or Image(id="", names=(name,), blobs=()) for name in wanted)
    return tuple(dict.fromkeys(found))


def normal(name: str) -> str:
    """The name that containerd's records use for a reference or an image ID. Raises `Fault` (``invalid_reference``)."""
    return name if name.startswith("sha256:") else str(parse(name))


def normal_or_raw(name: str) -> str:
    """The same for a name of the runtime's own configuration: one that does not parse stays as it is."""
    try:
        return normal(name)
    except Fault:
        return name


async def verify(
    verifier: Verifier, images: Iterable[Image], depth: Depth, done: Callable[[ImageReport], None] = lambda _: None
) -> tuple[ImageReport, ...]:
    """What is wrong with each of `images`, several at once, in the order given; `done` is told of each."""
    slots = asyncio.Semaphore(IMAGES_AT_ONCE)

    async def one(image: Image) -> ImageReport:
        async with slots:
            report = await examine(verifier, image, depth)
        done(report)
        return report

    return tuple(await asyncio.gather(*(one(image) for image in images)))


async def examine(verifier: Verifier, image: Image, depth: Depth) -> ImageReport:
    """One image; a runtime that goes away meanwhile makes it ``unknown``."""
    if not image.id:
        return unknown(image, Fault(Cause.UNKNOWN, "no image of this name is cached here"))
    try:
        findings = await verifier.image(image, depth)
    except Fault as fault:
        return unknown(image, fault)
    return ImageReport(image, worst(finding.verdict for finding in findings), findings)


def unknown(image: Image, fault: Fault) -> ImageReport:
    """An image of which nothing could be told, and why."""
    finding = Finding(Check.CACHE, image.title, Verdict.UNKNOWN, fault.cause, fault.detail, fault.evidence)
    return ImageReport(image, Verdict.UNKNOWN, (finding,))


async def verify_ingests(verifier: Verifier) -> tuple[ImageReport, ...]:
    """Unfinished downloads that no pull can ever finish: each one as an image without an ID, called by its ref."""
    findings = await verifier.ingests()
    return tuple(ImageReport(Image("", (each.subject,), ()), Verdict.BAD, (each,)) for each in findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """``bad`` over ``unknown`` over ``ok``; ``ok`` for none at all."""
    found = set(verdicts)
    return next((verdict for verdict in (Verdict.BAD, Verdict.UNKNOWN) if verdict in found), Verdict.OK)


async def bytes_of(store: Store, images: Iterable[Image], depth: Depth) -> int | None:
    """Bytes to read for `images`, each blob and each unpacked layer once; None at the depth that reads none."""
    if depth is Depth.QUICK:
        return None
    images = tuple(images)
    blobs = sum({blob.digest: blob.size for image in images for blob in image.blobs}.values())
    return blobs + (await _unpacked_bytes(store, images) if depth is Depth.FULL else 0)


async def _unpacked_bytes(store: Store, images: Iterable[Image]) -> int:
    chains = {each.chain for image in images for each in image.snapshots if each.snapshotter == OVERLAYFS}
    total = 0
    for chain in chains:
        with contextlib.suppress(Absent, Fault):  # it went meanwhile, and is none of the bytes to read
            total += (await store.snapshots.usage(OVERLAYFS, chain)).bytes
    return total
