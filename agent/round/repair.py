"""Repair: carry out what the plan says about a damaged image, and look again.

The debt is on the disk before the deed and struck off after it, so that a process that is killed in between leaves a
trail; nothing is removed before its replacement was verified.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

from agent.causes import Cause
from agent.checks.climb import Climber
from agent.checks.disk import room
from agent.checks.ladder import Deadline
from agent.model import Action, Blob, Fault, Fetch, Finding, Image, ImageRef, ImageReport, Leave, Pull, Role, Verdict
from agent.node import disk
from agent.node.ledger import Debt
from agent.plan import plan_repair, reference
from agent.registry.client import Client
from agent.registry.reference import parse
from agent.round.diagnose import pull_with
from agent.round.tools import Deeds, Tools, planned
from agent.round.verify import Depth, examine
from agent.runtime import aside
from agent.runtime.replace import Download, forget_bad_files
from agent.runtime.replace import replace as replace_blob

REPAIR = "repair"
RESERVE = 0.05
"""Share of the file system that a mended blob may not take."""


async def repair(tools: Tools, report: ImageReport, *, dry: bool = False) -> ImageReport:
    """Mend one image that `verify` reported on, and look at it again; a runtime that goes away ends it."""
    if report.verdict is not Verdict.BAD:
        return report
    now = await examine(tools.verifier, report.image, Depth.BLOBS)
    if now.verdict is Verdict.OK:  # it shared the damage with an image that was mended before it
        await aside.wake(tools.store, report.image.id)
        return replace(report, verdict=Verdict.OK)
    return await _mend(tools, replace(now, findings=report.findings), now.findings, dry=dry)


async def _mend(tools: Tools, report: ImageReport, findings: tuple[Finding, ...], *, dry: bool) -> ImageReport:
    climber = Climber(tools.view, tools.keyring, Deadline(tools.seconds))
    name = reference(report.image)
    origin = await climber.image(name) if name else None
    plan = plan_repair(report.image, findings, origin, files=tools.store.content_root is not None)
    if dry or all(isinstance(action, Leave) for action in plan):
        return replace(report, deeds=planned(report.image, plan))
    digests = [blob.digest for blob in report.image.blobs]
    tools.ledger.owe(Debt(report.image.id, report.image.names, REPAIR, {"digests": digests}, since=time.time()))
    deeds = Deeds(report.image)
    with contextlib.suppress(Fault):  # the outcome is in the deeds, and looking again tells what is left
        for action in plan:
            with deeds.doing(action):
                await _carry_out(tools, action, report.image, climber)
    return replace(await _look_again(tools, report), deeds=tuple(deeds.done))


async def _look_again(tools: Tools, report: ImageReport) -> ImageReport:
    """The image as it is after the deeds: an "ok" of the runtime proves nothing."""
    digests = tuple(blob.digest for blob in report.image.blobs)
    tools.verifier.forget(digests)
    images = {image.id: image for image in await tools.store.cached()}
    after = await examine(tools.verifier, images.get(report.image.id, report.image), Depth.BLOBS)
    still_bad = {finding.subject for finding in after.findings}
    forget_bad_files(tools.root, [digest for digest in digests if digest not in still_bad])
    await aside.wake(tools.store, report.image.id)
    tools.ledger.strike(report.image.id)
    return replace(report, image=after.image, verdict=after.verdict)


async def _carry_out(tools: Tools, action: Action, image: Image, climber: Climber) -> None:
    match action:
        case Fetch(digests=digests):
            await _fetch(tools, image, digests, climber)
        case Pull(image=name):
            credentials = tools.keyring.lookup(parse(name))
            await pull_with(tools.runtime, name, credentials, tools.view.limits.pull, tools.seen)
        case _:
            raise AssertionError(f"a repair does not {action}")


async def _fetch(tools: Tools, image: Image, digests: Sequence[str], climber: Climber) -> None:
    name = reference(image)
    found = climber.found(name) if name else None
    if not name or not found:
        raise Fault(Cause.UNKNOWN, "the registry was not reached")
    async with climber.client(name, found, tools.view.limits.pull) as client:
        for blob in image.blobs:
            if blob.digest in digests:
                _expect_room(tools, blob)
                await replace_blob(tools.root, blob, _download(client, parse(name), blob))


def _expect_room(tools: Tools, blob: Blob) -> None:
    """A second copy must fit, and leave the kubelet no reason to evict pods. Raises `Fault` (``disk_full``)."""
    found = room(tools.view)
    disk.check(found, blob.size + int(found.total * RESERVE))


def _download(client: Client, ref: ImageRef, blob: Blob) -> Download:
    """How to get `blob` of the repository of `ref`: manifests and blobs have places of their own."""
    is_manifest = blob.role in {Role.TARGET, Role.MANIFEST}
    return lambda sink: client.download(ref.at(blob.digest), blob.size, sink, is_manifest=is_manifest)
