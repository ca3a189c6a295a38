"""How many pulls a registry still grants, and when it wants to be asked again.

Facts: Docker Hub, usage and limits: ``ratelimit-limit: 100;w=21600`` on GET and HEAD of a manifest,
absent where there is no limit; ``docker-ratelimit-source`` is the address or account that is counted.
RFC 9110 §10.2.3: ``Retry-After`` is seconds or an HTTP date.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from agent.quoting import quote
from agent.registry.messages import Headers

_COUNT = re.compile(r"\s*(\d{1,12})\s*(?:;\s*w\s*=\s*(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the headers of one answer say; None where they are silent. ``window`` and ``retry_after`` are seconds."""

    limit: int | None = None
    remaining: int | None = None
    window: int | None = None
    source: str | None = None
    retry_after: float | None = None

    @property
    def evidence(self) -> Mapping[str, str]:
        """What is known, as words."""
        known = {
            "limit": self.limit,
            "remaining": self.remaining,
            "window": self.window,
            "source": self.source,
            "retry_after": None if self.retry_after is None else f"{self.retry_after:.0f}",
        }
        return {name: str(value) for name, value in known.items() if value is not None}


def read(headers: Headers, now: datetime | None = None) -> Limits:
    """The limits told in ``headers``; ``now`` is what a date in Retry-After is compared with."""
    limit, window = _count(headers.get("ratelimit-limit"))
    remaining, _ = _count(headers.get("ratelimit-remaining"))
    source = quote(headers.get("docker-ratelimit-source"), 100) or None
    return Limits(limit, remaining, window, source, _seconds(headers.get("retry-after"), now or datetime.now(UTC)))


def _count(value: str) -> tuple[int | None, int | None]:
    match = _COUNT.match(value)
    if not match:
        return None, None
    return int(match[1]), int(match[2]) if match[2] else None


def _seconds(value: str, now: datetime) -> float | None:
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
