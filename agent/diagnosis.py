"""From the steps of a diagnosis to its one root cause: pure.

The rungs are climbed for every host in containerd's order, so several may have failed: a mirror that fails is not the
cause while the last host, the registry itself, can be reached, and if that fails too, what stopped it is. A step that
failed before any host was tried (the reference, the runtime, the disk) comes first; a pull that went through proves
that the image can be pulled, whatever our own requests met.
"""

import re
from collections.abc import Sequence

from agent.causes import Cause
from agent.meanings import MEANINGS
from agent.model import Diagnosis, Finding, Verdict

HOST_STEPS = ("proxy", "dns", "connect", "tls", "registry", "token", "manifest")
"""The rungs that are climbed once for each host, in this order."""


def judge(image: str, steps: Sequence[Finding], seconds: float, goal: str = "manifest") -> Diagnosis:
    """The diagnosis of `image` from its `steps`, in the order in which they were taken.

    ``goal`` is the rung that one host has to reach; a probe of a registry without an image goes up to ``registry``.
    """
    pulled = next((step for step in steps if step.check == "pull"), None)
    if pulled is not None and pulled.verdict is Verdict.OK:
        return Diagnosis(image, Verdict.OK, None, pulled.detail, tuple(steps), seconds)
    root = _root(steps, goal)
    if root is None:
        return Diagnosis(image, Verdict.OK, None, _success(steps, goal), tuple(steps), seconds)
    return Diagnosis(image, root.verdict, root.cause, root.detail, tuple(steps), seconds)


def _root(steps: Sequence[Finding], goal: str) -> Finding | None:
    """The step that stands for the whole: the one bad before all, or the last host's, or the first open question.

    Of several on one host it is the highest: hosts.toml may name it twice, once without its CA; ``/v2/`` may be
    refused where a manifest is not; the second of two credentials may lead further.
    """
    failed = [step for step in steps if step.verdict is Verdict.BAD and not _overcome(step, steps, goal)]
    open_questions = [step for step in steps if step.verdict is Verdict.UNKNOWN and not _overcome(step, steps, goal)]
    on_hosts = [step for step in failed if step.check in HOST_STEPS]
    elsewhere = [step for step in failed if step.check not in HOST_STEPS]
    if elsewhere and (not on_hosts or steps.index(elsewhere[0]) < steps.index(on_hosts[0])):
        return elsewhere[0]
    if on_hosts:
        last = _last_host(steps)
        if theirs := [step for step in on_hosts if step.subject == last]:
            return max(reversed(theirs), key=lambda step: HOST_STEPS.index(step.check))
        return open_questions[0] if open_questions else on_hosts[-1]
    return open_questions[0] if open_questions else None


def _overcome(step: Finding, steps: Sequence[Finding], goal: str) -> bool:
    """Whether a failure on one host did not matter, since another host answered for the manifest."""
    concerns_hosts = step.check in HOST_STEPS or step.cause is Cause.HOSTS_CONFIG_INVALID
    return concerns_hosts and any(other.check == goal and other.verdict is Verdict.OK for other in steps)


def _last_host(steps: Sequence[Finding]) -> str:
    return next(step.subject for step in reversed(steps) if step.check in HOST_STEPS)


def _success(steps: Sequence[Finding], goal: str) -> str:
    done = "can be pulled" if goal == "manifest" else "can be reached"
    failed = (step.subject for step in steps if step.verdict is not Verdict.OK and step.check in HOST_STEPS)
    reached = {step.subject for step in steps if step.verdict is Verdict.OK and step.check == goal}
    failing = [host for host in dict.fromkeys(failed) if host not in reached]  # it may have taken a second credential
    return f"{done}, but not from {', '.join(failing)}" if failing else done


def fix_of(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What to do about the cause, with the image, its host and its repository filled in where they are known."""
    if diagnosis.cause is None:
        return ()
    known = _known(diagnosis)
    fill = re.compile(rf"\b({'|'.join(known)})\b") if known else None
    steps = MEANINGS[diagnosis.cause].fix
    return tuple(fill.sub(lambda word: known[word[1]], step) for step in steps) if fill else steps


def _known(diagnosis: Diagnosis) -> dict[str, str]:
    """The words in capitals that a fix leaves to the reader, as far as the steps tell them."""
    normal = next((step.detail for step in diagnosis.steps if step.check == "reference" and not step.cause), "")
    if not normal:
        return {}
    registry, _, rest = normal.partition("/")
    fell = next((step for step in reversed(diagnosis.steps) if step.cause is diagnosis.cause), None)
    host = fell.subject if fell and fell.check in HOST_STEPS else registry
    return {"IMAGE": diagnosis.image, "HOST": host, "PATH": re.split("[:@]", rest)[0]}
