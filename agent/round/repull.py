"""Re-pull: a fresh copy of an image, and the old one back where none can be had; also after a kill.

What is needed to have the old copy back is in the ledger before it is touched. `settle` pays such debts before
anything else is done.
"""

import time
from collections.abc import Callable, Sequence

from agent.actions import Evict, Leave, Pull
from agent.causes import Cause
from agent.checks.climb import Climber
from agent.checks.ladder import Deadline
from agent.model import Depth, Fault, Image, ImageReport, Verdict
from agent.node.ledger import Debt
from agent.plan import keeper, plan_repull, reference
from agent.registry.reference import parse
from agent.round.diagnose import pull_with
from agent.round.tools import Deeds, Tools, planned
from agent.round.verify import examine, normal
from agent.round.work import REPAIR, settle_repair
from agent.runtime import aside
from agent.runtime.layout import QUARANTINE

REPULL = "repull"


async def repull(tools: Tools, name: str, images: Sequence[Image]) -> ImageReport:
    """A fresh copy of the reference `name`; where that cannot be had, the old one is there afterwards as before."""
    cached = next((image for image in images if normal(name) in image.names), None)
    subject = cached or Image(id="", names=(normal(name),), blobs=())
    wanted = (reference(subject) if name.startswith("sha256:") else name) or ""
    if not wanted:
        return _left(subject, "it has no name in a registry to pull it from")
    climber = Climber(tools.view, tools.keyring, Deadline(tools.seconds), fresh=True)
    plan = plan_repull(cached, wanted, await climber.image(wanted), files=tools.files)
    if isinstance(plan[0], Leave):
        return ImageReport(subject, Verdict.UNKNOWN, (), planned(subject, plan))
    deeds = Deeds(subject)
    try:
        await (_renew(tools, cached, wanted, deeds) if cached and len(plan) > 1 else _pull(tools, wanted, deeds))
        verdict = Verdict.OK
    except Fault as fault:  # the outcome of a deed says why, or nothing was begun
        verdict = Verdict.BAD
        if not deeds.done:
            return _left(subject, fault.detail)
    return ImageReport(await _now(tools, wanted) or subject, verdict, (), tuple(deeds.done))


def _left(image: Image, reason: str) -> ImageReport:
    return ImageReport(image, Verdict.UNKNOWN, (), planned(image, (Leave(image.id, reason),)))


async def _pull(tools: Tools, name: str, deeds: Deeds) -> Image:
    """Pull and verify."""
    with deeds.doing(Pull(name)):
        credentials = tools.keyring.lookup(parse(name))
        await pull_with(tools.runtime, normal(name), credentials, tools.view.limits.pull, tools.seen)
        return await _verified(tools, name)


async def _renew(tools: Tools, listed: Image, name: str, deeds: Deeds) -> None:
    """Evict, pull, verify; whatever goes wrong, everything is put back before it is raised again."""
    cached = await _still_free(tools, listed)
    parcel = await aside.pack(tools.store, cached)
    tools.ledger.owe(Debt(cached.id, cached.names, REPULL, parcel.to_json(), since=time.time()))
    try:
        with deeds.doing(Evict(cached.id, tuple(blob.digest for blob in cached.blobs))):
            await aside.set_aside(tools.store, cached, parcel, tools.root)
        fresh = await _pull(tools, name, deeds)
    except BaseException:
        await aside.put_back(tools.store, parcel, tools.root)
        tools.ledger.strike(cached.id)
        raise
    if fresh.id == cached.id:
        await aside.restore_names(tools.store, parcel)
        aside.discard(parcel, tools.root)
    else:  # the tag moved just now: its old image stays under its digest, as after any pull
        await aside.put_back(tools.store, parcel, tools.root)
    tools.ledger.strike(cached.id)


async def _still_free(tools: Tools, listed: Image) -> Image:
    """The image as it is now, after the rungs took their time. Raises `Fault` if it must not be evicted any more."""
    now = next((image for image in await tools.store.cached() if image.id == listed.id), None)
    if now is None:
        raise Fault(Cause.UNKNOWN, "it was removed meanwhile")
    if reason := keeper(now):
        raise Fault(Cause.UNKNOWN, reason)
    return now


async def _verified(tools: Tools, name: str) -> Image:
    """The image that `name` stands for now, every blob read. Raises the `Fault` of the first that is not sound."""
    image = await _now(tools, name)
    if image is None:
        raise Fault(Cause.RUNTIME_ERROR, f"containerd says that it pulled {name}, but has no such image")
    tools.verifier.forget(image)
    report = await examine(tools.verifier, image, Depth.FULL)
    if report.findings:
        first = report.findings[0]
        raise Fault(first.cause or Cause.UNKNOWN, f"the fresh copy is not sound: {first.detail}", first.evidence)
    return image


async def _now(tools: Tools, name: str) -> Image | None:
    return next((image for image in await tools.store.cached() if normal(name) in image.names), None)


async def settle(tools: Tools, say: Callable[[str], None]) -> None:
    """Pay the debts that a killed process left: what was set aside is put back, what was mended is tidied up.

    A debt stays in the ledger while the runtime is away: `Fault`.
    """
    if tools.ledger.damage:
        say(tools.ledger.damage)
    for debt in tools.ledger.debts():
        name = debt.names[0] if debt.names else debt.id
        say(f"a {debt.what} of {name} was cut short: {await _settled(tools, debt)}")


async def _settled(tools: Tools, debt: Debt) -> str:
    """How it ended. A repair that cannot be finished keeps nobody from the next one; what was set aside stays owed."""
    try:
        lost = await _pay(tools, debt)
    except Fault as fault:
        if fault.cause is Cause.RUNTIME_UNAVAILABLE:
            raise
        if debt.what == REPAIR:
            tools.ledger.strike(debt.id)
        return f"it could not be finished: {fault.detail}"
    tools.ledger.strike(debt.id)
    return f"{', '.join(lost)} is gone: pull it again" if lost else "nothing is lost"


async def _pay(tools: Tools, debt: Debt) -> tuple[str, ...]:
    """The digests that could not be had back. Raises `Fault` for a debt that stays."""
    if debt.what == REPAIR:
        await settle_repair(tools, debt)
        return ()
    try:
        parcel = aside.Parcel.from_json(debt.details)
    except (KeyError, TypeError, ValueError) as error:
        folder = tools.root / QUARANTINE
        raise Fault(
            Cause.UNKNOWN, f"the debt of {debt.id} makes no sense ({error!r}); its files are in {folder}"
        ) from None
    return await aside.put_back(tools.store, parcel, tools.root)
