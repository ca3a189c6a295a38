"""Verify: the cached images that were named, or all of them, and what is wrong with each."""

import asyncio
from collections.abc import Iterable, Sequence
from enum import StrEnum

from agent.causes import Cause
from agent.checks.cache import CHECK, Verifier
from agent.model import Fault, Finding, Image, ImageReport, Verdict
from agent.registry.reference import parse
from agent.runtime.runtime import Runtime
from agent.runtime.store import Store

IMAGES_AT_ONCE = 4


class Depth(StrEnum):
    """How closely an image is looked at."""

    QUICK = "quick"  # records and sizes
    BLOBS = "blobs"  # the digest of every blob


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


async def verify(verifier: Verifier, images: Iterable[Image], depth: Depth) -> tuple[ImageReport, ...]:
    """What is wrong with each of `images`, several at once, in the order given."""
    slots = asyncio.Semaphore(IMAGES_AT_ONCE)

    async def one(image: Image) -> ImageReport:
        async with slots:
            return await examine(verifier, image, depth)

    return tuple(await asyncio.gather(*(one(image) for image in images)))


async def examine(verifier: Verifier, image: Image, depth: Depth) -> ImageReport:
    """One image; a runtime that goes away meanwhile makes it ``unknown``."""
    if not image.id:
        absent = Finding(CHECK, image.title, Verdict.UNKNOWN, Cause.UNKNOWN, "no image of this name is cached here")
        return ImageReport(image, Verdict.UNKNOWN, (absent,))
    try:
        findings = await verifier.image(image, read=depth is not Depth.QUICK)
    except Fault as fault:
        findings = (Finding(CHECK, image.title, Verdict.UNKNOWN, fault.cause, fault.detail, fault.evidence),)
    return ImageReport(image, worst(finding.verdict for finding in findings), findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """``bad`` over ``unknown`` over ``ok``; ``ok`` for none at all."""
    found = set(verdicts)
    return next((verdict for verdict in (Verdict.BAD, Verdict.UNKNOWN) if verdict in found), Verdict.OK)


def bytes_of(images: Iterable[Image]) -> int:
    """Bytes to read for `images`, each blob once however many share it."""
    return sum({blob.digest: blob.size for image in images for blob in image.blobs}.values())
