"""Watch: which registries the daemon probes, how often at most, and when one asked to be left alone."""

import math
from collections import defaultdict, deque
from collections.abc import Iterable

from agent.causes import Cause
from agent.model import Diagnosis, Fault, Image, ImageRef
from agent.registry.reference import parse

HOUR = 3600.0
DEFAULT_PAUSE = 900.0
"""Seconds without a probe after a 429 that names no time."""


class Pace:
    """Probes per registry and hour, and the pauses that registries asked for. Pure: the caller tells the time.

    ``least`` is the seconds between two probes of one name: rounds come more often while the runtime is away.
    """

    def __init__(self, per_hour: int, least: float = 0.0) -> None:
        self._per_hour = per_hour
        self._least = least
        self._last: dict[str, float] = {}
        self._asked: dict[str, deque[float]] = defaultdict(deque)
        self._paused: dict[str, float] = {}

    def allows(self, name: str, now: float) -> bool:
        """Whether `name`, a registry or an image of one, may be asked for now; an allowed probe counts."""
        registry = registry_of(name)
        if now < self._paused.get(registry, 0) or now < self._last.get(name, -math.inf) + self._least:
            return False
        asked = self._asked[registry]
        while asked and asked[0] <= now - HOUR:
            asked.popleft()
        if len(asked) >= self._per_hour:
            return False
        asked.append(now)
        self._last[name] = now
        return True

    def heed(self, diagnosis: Diagnosis, now: float) -> None:
        """Pause a registry that answered 429, until the time that it named."""
        for step in diagnosis.steps:
            if step.cause is Cause.RATE_LIMITED:
                pause = _seconds(step.evidence.get("retry_after", ""))
                self._paused[registry_of(diagnosis.image)] = now + pause


def registry_of(name: str) -> str:
    """The registry of an image; a name without a repository is one itself."""
    ref = _reference(name) if "/" in name else None
    return ref.registry if ref else name


def registries(configured: Iterable[str], images: Iterable[Image]) -> tuple[str, ...]:
    """What to probe: what is configured, in that order, then the registries that cached images come from."""
    cached = (ref.registry for image in images for name in image.names if (ref := _reference(name)))
    return tuple(dict.fromkeys((*configured, *sorted(set(cached)))))


def _reference(name: str) -> ImageRef | None:
    try:
        return None if name.startswith("sha256:") else parse(name)
    except Fault:
        return None


def _seconds(text: str) -> float:
    """A Retry-After in seconds, bounded to a day."""
    try:
        seconds = float(text)
    except ValueError:
        return DEFAULT_PAUSE
    return DEFAULT_PAUSE if math.isnan(seconds) else min(max(seconds, 1.0), 24 * HOUR)
