"""Mend: carry out what a plan says about a cached image, never leaving the node worse than it was.

The debt is on the disk before the deed and struck off after the verified end of it; `settle` pays what a killed process
left behind, before anything else is done.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.causes import Cause
from agent.checks.cache import Verifier
from agent.checks.climb import Climber, Found
from agent.checks.ladder import Deadline
from agent.checks.view import View
from agent.model import (
    Action,
    Blob,
    Deed,
    Evict,
    Fault,
    Fetch,
    Image,
    ImageRef,
    ImageReport,
    Leave,
    Pull,
    Role,
    Verdict,
)  # fmt: skip
from agent.node.ledger import Debt, Ledger
from agent.plan import plan_repair, plan_repull, reference
from agent.registry.client import Client
from agent.registry.credentials import Keyring
from agent.registry.reference import parse
from agent.round.diagnose import Seen, pull_with
from agent.round.verify import Depth, examine, normal, store_of
from agent.runtime import aside
from agent.runtime.replace import Download, forget_bad_files
from agent.runtime.replace import replace as replace_blob
from agent.runtime.runtime import Runtime
from agent.runtime.store import Store

REPAIR, REPULL = "repair", "repull"


@dataclass(frozen=True, slots=True)
class Tools:
    """What mending takes. ``seconds`` is the deadline for climbing the rungs before anything is touched."""

    view: View
    ledger: Ledger
    keyring: Keyring
    verifier: Verifier
    seconds: float
    seen: Seen = lambda *_: None

    @property
    def store(self) -> Store:
        """containerd's services; `verify.store_of` has proved that they are there."""
        return store_of(self.view)

    @property
    def root(self) -> Path:
        """The content store's folder; the plan leaves everything alone where it cannot be reached."""
        assert self.store.content_root is not None, "a plan without files has no deeds"  # noqa: S101 - see plan
        return self.store.content_root


async def repair(tools: Tools, report: ImageReport, *, dry: bool = False) -> ImageReport:
    """Mend one image that `verify` reported on, and look at it again."""
    if report.verdict is not Verdict.BAD:
        return report
    climber = Climber(tools.view, tools.keyring, Deadline(tools.seconds))
    name = reference(report.image)
    origin = await climber.image(name) if name else None
    plan = plan_repair(report.image, report.findings, origin, files=tools.store.content_root is not None)
    if dry or all(isinstance(action, Leave) for action in plan):
        return replace(report, deeds=tuple(_deed(action, _intent(action)) for action in plan))
    tools.ledger.owe(Debt(report.image.id, report.image.names, REPAIR, since=time.time()))
    deeds = [await _carry_out(tools, action, report.image, climber) for action in plan]
    return await _look_again(tools, report, tuple(deeds))


async def _look_again(tools: Tools, report: ImageReport, deeds: tuple[Deed, ...]) -> ImageReport:
    """The image as it is after the deeds: an "ok" of the runtime proves nothing."""
    digests = tuple(blob.digest for blob in report.image.blobs)
    tools.verifier.forget(digests)
    images = {image.id: image for image in await tools.store.cached()}
    after = await examine(tools.verifier, images.get(report.image.id, report.image), Depth.BLOBS)
    if after.verdict is Verdict.OK:
        forget_bad_files(tools.root, set(digests))
        await aside.wake(tools.store, report.image.id)
    tools.ledger.strike(report.image.id)
    return replace(report, image=after.image, verdict=after.verdict, deeds=deeds)


async def _carry_out(tools: Tools, action: Action, image: Image, climber: Climber) -> Deed:
    """One action of a repair; its failure is its outcome."""
    began = time.monotonic()
    try:
        match action:
            case Fetch(digests=digests):
                await _fetch(tools, image, digests, climber)
            case Pull(image=name):
                await pull_with(
                    _runtime(tools), name, tools.keyring.lookup(parse(name)), tools.view.limits.pull, tools.seen
                )
            case _:
                raise AssertionError(f"a repair does not {action}")
    except Fault as fault:
        return _deed(action, f"failed: {fault.detail}", time.monotonic() - began)
    return _deed(action, "done", time.monotonic() - began)


async def _fetch(tools: Tools, image: Image, digests: Sequence[str], climber: Climber) -> None:
    name = reference(image)
    found: Found | None = climber.found(name) if name else None
    if not name or not found:
        raise Fault(Cause.UNKNOWN, "the registry was not reached")
    async with climber.client(name, found, tools.view.limits.pull) as client:
        for blob in image.blobs:
            if blob.digest in digests:
                await replace_blob(tools.root, blob, _download(client, parse(name), blob))


def _download(client: Client, ref: ImageRef, blob: Blob) -> Download:
    """How to get `blob` of the repository of `ref`: manifests and blobs have places of their own."""
    is_manifest = blob.role in {Role.TARGET, Role.MANIFEST}
    return lambda sink: client.download(ref.at(blob.digest), blob.size, sink, is_manifest=is_manifest)


async def repull(tools: Tools, name: str, images: Sequence[Image]) -> ImageReport:
    """A fresh copy of the reference `name`; where that cannot be had, the old one is there afterwards as before."""
    cached = next((image for image in images if normal(name) in image.names), None)
    climber = Climber(tools.view, tools.keyring, Deadline(tools.seconds), fresh=True)
    plan = plan_repull(cached, name, await climber.image(name), files=tools.store.content_root is not None)
    subject = cached or Image(id="", names=(normal(name),), blobs=())
    if isinstance(plan[0], Leave):
        return ImageReport(subject, Verdict.UNKNOWN, (), tuple(_deed(action, _intent(action)) for action in plan))
    began = time.monotonic()
    try:
        outcome = await _renew(tools, cached, name)
        verdict = Verdict.OK
    except Fault as fault:
        outcome, verdict = f"failed: {fault.detail}", Verdict.BAD
    deeds = [_deed(action, outcome, time.monotonic() - began) for action in plan]
    return ImageReport(await _now(tools, name) or subject, verdict, (), tuple(deeds))


async def _renew(tools: Tools, cached: Image | None, name: str) -> str:
    """Evict, pull, verify; on a fault everything is put back before it is raised again."""
    credentials = tools.keyring.lookup(parse(name))
    if cached is None:
        await pull_with(_runtime(tools), normal(name), credentials, tools.view.limits.pull, tools.seen)
        return "done"
    parcel = await aside.pack(tools.store, cached)
    tools.ledger.owe(Debt(cached.id, cached.names, REPULL, details=parcel.to_json(), since=time.time()))
    try:
        await aside.set_aside(tools.store, cached, tools.root)
        await pull_with(_runtime(tools), normal(name), credentials, tools.view.limits.pull, tools.seen)
        fresh = await _verified(tools, name)
    except BaseException:
        await aside.put_back(tools.store, parcel, tools.root)
        tools.ledger.strike(cached.id)
        raise
    if fresh.id == cached.id:
        await aside.restore_names(tools.store, parcel)
        aside.discard(parcel, tools.root)
    else:  # the tag moved: its old image stays under its digest, as after any pull
        await aside.put_back(tools.store, parcel, tools.root)
    tools.ledger.strike(cached.id)
    return "done" if fresh.id == cached.id else f"done: the tag moved from {cached.id} to {fresh.id}"


async def _verified(tools: Tools, name: str) -> Image:
    """The image that `name` stands for now, every blob read. Raises the `Fault` of the first that is not sound."""
    image = await _now(tools, name)
    if image is None:
        raise Fault(Cause.RUNTIME_ERROR, f"containerd says that it pulled {name}, but has no such image")
    tools.verifier.forget(tuple(blob.digest for blob in image.blobs))
    report = await examine(tools.verifier, image, Depth.BLOBS)
    if report.findings:
        first = report.findings[0]
        raise Fault(first.cause or Cause.UNKNOWN, f"the fresh copy is not sound: {first.detail}", first.evidence)
    return image


async def _now(tools: Tools, name: str) -> Image | None:
    return next((image for image in await tools.store.cached() if normal(name) in image.names), None)


async def settle(tools: Tools, say: Callable[[str], None]) -> None:
    """Pay the debts that a killed process left: what was set aside is put back, what was mended is verified.

    A debt that cannot be paid now (the runtime is away) stays in the ledger.
    """
    if tools.ledger.damage:
        say(tools.ledger.damage)
    for debt in tools.ledger.debts():
        if debt.what == REPULL:
            await aside.put_back(tools.store, aside.Parcel.from_json(debt.details), tools.root)
        else:
            await _finish_repair(tools, debt)
        tools.ledger.strike(debt.id)
        say(f"a {debt.what} of {debt.names[0] if debt.names else debt.id} was cut short: the image is as it was before")


async def _finish_repair(tools: Tools, debt: Debt) -> None:
    image = next((image for image in await tools.store.cached() if image.id == debt.id), None)
    if image:
        forget_bad_files(tools.root, {blob.digest for blob in image.blobs})


def _runtime(tools: Tools) -> Runtime:
    assert isinstance(tools.view.runtime, Runtime)  # noqa: S101 - `store_of` has proved it
    return tools.view.runtime


def _deed(action: Action, outcome: str, seconds: float = 0.0) -> Deed:
    return Deed(type(action).__name__.lower(), action.image, outcome, seconds)


def _intent(action: Action) -> str:
    """What would be done, for a dry run; the reason of a `Leave`."""
    match action:
        case Leave(reason=reason):
            return reason
        case Fetch(digests=digests) | Evict(digests=digests):
            return f"would {type(action).__name__.lower()} {', '.join(digests)}"
        case Pull(image=name):
            return f"would pull {name}"
