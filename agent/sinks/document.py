"""JSON for programs: the shapes of the command line's contract."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.causes import scope_of
from agent.diagnosis import fix_of
from agent.explain import Explanation
from agent.model import Deed, Diagnosis, Finding, ImageReport, Report


def diagnoses(found: Iterable[Diagnosis]) -> Iterator[str]:
    """``{"images": […]}`` of ``diagnose``, piece by piece: ten thousand images need not stand in memory twice."""
    yield '{"images": ['
    for number, diagnosis in enumerate(found):
        yield (",\n" if number else "\n") + _dump(_diagnosis(diagnosis))
    yield "\n]}\n"


def report(found: Report) -> str:
    """One whole round: ``{"trigger","findings","registries","cached","seconds"}``."""
    return _dump(
        {
            "trigger": found.trigger,
            "findings": [_step(finding) for finding in found.findings],
            "registries": [_diagnosis(diagnosis) for diagnosis in found.diagnoses],
            "cached": found.cached,
            "seconds": _seconds(found.seconds),
        }
    )


def images(found: Iterable[ImageReport], count: int, seconds: float, advised: Sequence[str] = ()) -> str:
    """``{"images": […], "bytes", "seconds", "advice": […]}`` of ``verify``, ``repair`` and ``repull``."""
    told = {"images": [_image(image) for image in found], "bytes": count, "seconds": _seconds(seconds)}
    return _dump({**told, "advice": list(advised)})


def explanation(found: Explanation) -> str:
    """One object on one line."""
    return _dump({"cause": found.cause, "scope": found.scope, "summary": found.summary, "fix": list(found.fix)})


def inventory(found: Mapping[str, Any]) -> str:
    """What ``node`` answers."""
    return _dump(found)


def _dump(value: Any) -> str:
    """On one line; bytes that are no text (Python's surrogates) are shown as escapes."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _diagnosis(found: Diagnosis) -> dict[str, Any]:
    return {
        "image": found.image,
        "verdict": found.verdict,
        "cause": found.cause,
        "scope": scope_of(found.cause) if found.cause else None,
        "summary": found.summary,
        "fix": list(fix_of(found)),
        "steps": [_step(step) for step in found.steps],
        "seconds": _seconds(found.seconds),
    }


def _step(found: Finding) -> dict[str, Any]:
    step = {
        "step": found.check,
        "host": found.subject,
        "verdict": found.verdict,
        "cause": found.cause,
        "seconds": _seconds(found.seconds),
        "detail": found.detail,
    }
    return {**step, "evidence": dict(found.evidence)} if found.evidence else step


def _image(found: ImageReport) -> dict[str, Any]:
    return {
        "names": list(found.image.names),
        "id": found.image.id,
        "verdict": found.verdict,
        "in_use": list(found.image.in_use),
        "findings": [_finding(finding) for finding in found.findings],
        "actions": [_deed(deed) for deed in found.deeds],
    }


def _finding(found: Finding) -> dict[str, Any]:
    return {
        "cause": found.cause,
        "subject": found.subject,
        "detail": found.detail,
        "evidence": dict(found.evidence),
    }


def _deed(deed: Deed) -> dict[str, Any]:
    return {
        "action": deed.action,
        "image": deed.image,
        "outcome": deed.outcome,
        "seconds": _seconds(deed.seconds),
    }


def _seconds(value: float) -> float:
    return round(value, 4)
