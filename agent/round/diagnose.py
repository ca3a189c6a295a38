"""Diagnose: many images under one deadline, answered as they are done; with ``pull``, proved by a pull through CRI."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from agent.checks import pull as pulling
from agent.checks.climb import Climber
from agent.checks.ladder import Deadline, Ladder
from agent.checks.view import View
from agent.diagnosis import judge
from agent.model import Credential, Diagnosis, Fault, Verdict
from agent.registry.credentials import Keyring
from agent.registry.reference import parse
from agent.runtime.runtime import Runtime
from agent.runtime.store import Store

Told = Callable[[Diagnosis], None]
Seen = Callable[[int, int], None]


async def diagnose(
    view: View, images: Iterable[str], keyring: Keyring, seconds: float, told: Told = lambda _: None
) -> tuple[Diagnosis, ...]:
    """One diagnosis for each name, in the order given; `told` hears of each as soon as it is known."""
    climber = Climber(view, keyring, Deadline(seconds))

    async def one(image: str) -> Diagnosis:
        diagnosis = await climber.image(image)
        told(diagnosis)
        return diagnosis

    return tuple(await asyncio.gather(*(one(image) for image in images)))


async def prove(view: View, diagnosis: Diagnosis, keyring: Keyring, seen: Seen = lambda *_: None) -> Diagnosis:
    """The diagnosis with one more step: the pull itself. The cache has the same names afterwards as before."""
    if not isinstance(view.runtime, Runtime) or diagnosis.steps[0].verdict is not Verdict.OK:
        return diagnosis
    began = time.monotonic()
    ladder = Ladder()
    try:
        proof = _pull(view.runtime, view.limits.pull, diagnosis, keyring, seen)
        await ladder.rung("pull", diagnosis.image, proof, lambda text: text)
    except Fault:
        pass  # written down as the rung's finding
    judged = judge(diagnosis.image, (*diagnosis.steps, *ladder.steps), diagnosis.seconds)
    return replace(judged, seconds=diagnosis.seconds + time.monotonic() - began)


async def _pull(runtime: Runtime, timeout: float, diagnosis: Diagnosis, keyring: Keyring, seen: Seen) -> str:
    """Pull by the digest that was found, so that no tag moves; what was not there before is removed again."""
    ref = parse(diagnosis.image)
    found = [step.detail for step in diagnosis.steps if step.check == "manifest" and step.verdict is Verdict.OK]
    name = str(ref.at(found[0])) if found else str(ref)
    before = await _names(runtime)
    began = time.monotonic()
    image_id = await pull_with(runtime, name, keyring.lookup(ref), timeout, seen)
    told = f"pulled by {runtime.version.name} in {time.monotonic() - began:.1f} s"
    try:
        await _remove_new(runtime, before, name, image_id)
    except Fault as fault:
        return f"{told}, but it could not be removed again: {fault.detail}"
    return told


async def pull_with(runtime: Runtime, name: str, credentials: Sequence[Credential], timeout: float, seen: Seen) -> str:
    """Pull with each credential in turn, as the kubelet does; raises the last `Fault`."""
    *others, last = credentials or (None,)
    for credential in others:
        try:
            return await pulling.pull(runtime, name, credential, timeout, seen)
        except Fault:
            continue
    return await pulling.pull(runtime, name, last, timeout, seen)


async def _names(runtime: Runtime) -> dict[str, str]:
    """Name → target digest (containerd) or image ID (other runtimes)."""
    if runtime.store:
        return {record.name: record.digest for record in await runtime.store.images.records()}
    return {name: image.id for image in await runtime.cri.images() for name in (*image.names, image.id)}


async def _remove_new(runtime: Runtime, before: dict[str, str], pulled: str, image_id: str) -> None:
    """Remove the names that pulling `pulled` made, unless somebody else came to need the image meanwhile."""
    after = await _names(runtime)
    new = {name for name in after if name not in before and after[name] == after.get(image_id)}
    digest_names = {name for name in new if "@" in name or name.startswith("sha256:")}
    if new - digest_names - {pulled}:
        return  # a pull by tag made these: the kubelet's
    if runtime.store is None:
        if image_id not in before:
            await runtime.cri.remove(image_id)
        return
    if not new or await _is_in_use(runtime.store, new):
        return
    for name in sorted(new):
        await runtime.store.images.delete(name)
    await runtime.store.leases.collect()


async def _is_in_use(store: Store, names: set[str]) -> bool:
    """Whether a container stands on the image by now: a pod may have named the same digest."""
    return any(image.in_use for image in await store.cached() if names & set(image.names))
