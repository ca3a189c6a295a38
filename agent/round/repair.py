"""Repair: carry out what the plan says about a damaged image, and look again.

The debt is on the disk before the deed and struck off after it, so that a process that is killed in between leaves a
trail; nothing is removed before its replacement was verified.
"""

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.actions import Abort, Leave
from agent.checks.climb import Climber
from agent.checks.ladder import Deadline
from agent.model import Check, Deed, Depth, Diagnosis, Fault, Finding, Image, ImageReport, Verdict
from agent.plan import Means, plan_repair, reference
from agent.round.rebuild import means_of
from agent.round.tools import DONE, Deeds, Tools, planned
from agent.round.verify import examine, unknown
from agent.round.work import begin, end
from agent.runtime import aside

IDLE = 10.0
"""Seconds without a byte after which nobody is at work on a download."""


async def repair_all(tools: Tools, reports: Sequence[ImageReport], *, dry: bool = False) -> tuple[ImageReport, ...]:
    """Mend all images that `verify` reported on, in the order given; twice, where one had to wait for another."""
    mended = [await repair_or_say(tools, report, dry=dry) for report in reports]
    if not dry and any(deed.outcome == DONE for report in mended for deed in report.deeds):
        for number, report in enumerate(mended):
            if report.verdict is Verdict.BAD:
                again = await repair_or_say(tools, report)
                mended[number] = replace(again, deeds=_last(report.deeds, again.deeds))
    return tuple(mended)


async def repair_or_say(tools: Tools, report: ImageReport, *, dry: bool = False) -> ImageReport:
    """`repair`; a runtime that goes away in the middle is the answer for that image alone."""
    try:
        return await repair(tools, report, dry=dry)
    except Fault as fault:
        return replace(
            unknown(report.image, fault), findings=(*report.findings, *unknown(report.image, fault).findings)
        )


def _last(before: tuple[Deed, ...], after: tuple[Deed, ...]) -> tuple[Deed, ...]:
    """What was done, and what was left in the end: the same reason need not be told twice."""
    return (*(deed for deed in before if deed not in after), *after)


async def repair(tools: Tools, report: ImageReport, *, dry: bool = False) -> ImageReport:
    """Mend one image that `verify` reported on, and look at it again. Raises `Fault` when the runtime goes away."""
    if report.verdict is not Verdict.BAD:
        return report
    if not report.image.id:
        return await _abort(tools, report, dry=dry)
    image = await _as_it_is(tools, report.image)
    tools.verifier.forget(image)
    now = await examine(tools.verifier, image, Depth.FULL)
    if now.verdict is Verdict.OK:  # it shared the damage with an image that was mended before it
        if not dry:
            await aside.wake(tools.store, report.image.id)
        return replace(report, verdict=Verdict.OK)
    return await _mend(tools, replace(now, findings=_all(report.findings, now.findings)), now.findings, dry=dry)


def _all(before: Iterable[Finding], now: Iterable[Finding]) -> tuple[Finding, ...]:
    """What was found at first, and what came to light since: of a damaged config nobody can tell its layers."""
    return tuple({(each.subject, each.cause): each for each in (*now, *before)}.values())


async def _as_it_is(tools: Tools, image: Image) -> Image:
    return next((each for each in await tools.store.cached() if each.id == image.id), image)


async def _abort(tools: Tools, report: ImageReport, *, dry: bool) -> ImageReport:
    """An unfinished download is no image yet: it is thrown away, unless somebody is at work on it."""
    deeds = Deeds(report.image)
    ref = report.findings[0].subject
    if ref not in {finding.subject for finding in await tools.verifier.ingests()}:
        return replace(report, verdict=Verdict.OK)
    ingest = next((each for each in await tools.store.content.ingests() if each.ref == ref), None)
    if ingest is None:
        return replace(report, verdict=Verdict.OK)
    if (idle := time.time() - ingest.updated.timestamp()) < IDLE:
        return replace(report, deeds=planned(report.image, (Leave("", f"it was written to {idle:.0f} s ago"),)))
    action = Abort(ref)
    if dry:
        return replace(report, deeds=planned(report.image, (action,)))
    with deeds.doing(action):
        await tools.store.content.abort(ref)
    gone = ref not in {each.ref for each in await tools.store.content.ingests()}
    return replace(report, verdict=Verdict.OK if gone else Verdict.BAD, deeds=tuple(deeds.done))


async def _mend(tools: Tools, report: ImageReport, findings: tuple[Finding, ...], *, dry: bool) -> ImageReport:
    image = report.image
    means = await means_of(tools.store, tools.verifier, image, findings, replace_files=tools.replace_files)
    climber = Climber(tools.view, tools.keyring, Deadline(tools.seconds))
    plan = plan_repair(image, findings, await _origin(climber, image, findings, means), means)
    if dry or all(isinstance(action, Leave) for action in plan):
        return replace(report, deeds=planned(image, plan))
    async with begin(tools, image, climber, plan) as work:
        with contextlib.suppress(Fault):  # the outcome is in the deeds, and looking again tells what is left
            await work.do(plan)
    after = await _look_again(tools, report)
    if work.owes:  # what was dropped is not unpacked: to look at it is to see nothing bad
        return replace(after, verdict=Verdict.BAD, findings=report.findings, deeds=tuple(work.deeds.done))
    end(tools, image, (finding.subject for finding in after.findings))
    return replace(after, findings=report.findings, deeds=tuple(work.deeds.done))


async def _origin(climber: Climber, image: Image, findings: Iterable[Finding], means: Means) -> Diagnosis | None:
    """Whether the image can be pulled again; not asked where nothing has to be fetched."""
    name = reference(image)
    fetched = means.lacking or any(finding.check == Check.CACHE for finding in findings)
    return await climber.image(name) if name and fetched else None


async def _look_again(tools: Tools, report: ImageReport) -> ImageReport:
    """The image as it is after the deeds: an "ok" of the runtime proves nothing."""
    await aside.wake(tools.store, report.image.id)
    image = await _as_it_is(tools, report.image)
    tools.verifier.forget(report.image)
    tools.verifier.forget(image)
    return await examine(tools.verifier, image, Depth.FULL)
