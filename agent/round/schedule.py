"""Which image is verified next, and when: pure, the caller tells the time.

Images that were never read in full come first, the newest before all: it is the one that pods are being started from,
and that a crash may have caught half written. Then comes whichever waits longest. An image that was not sound is looked
at again sooner, so that it is seen when the fault is gone; each look in vain doubles the wait.
"""

import math
from collections.abc import Iterable, Mapping

from agent.model import Image, Verdict
from agent.round.standing import NEVER, Standing

AGAIN = 3600.0
"""Seconds until an image that was not sound is looked at again, the first time."""

SKEW = 3600.0
"""Seconds that a look may seem to lie ahead: one that lies further was written by a clock that was wrong."""


def due_at(standing: Standing | None, now: float, interval: float) -> float:
    """When an image is to be verified in full, in epoch seconds; minus infinity for at once."""
    if standing is None or standing.looked > now + SKEW:
        return -math.inf
    if standing.verdict is not Verdict.OK:
        return standing.looked + min(AGAIN * 2.0 ** min(standing.tries - 1, 30), max(interval, AGAIN))
    return standing.verified + interval if standing.verified != NEVER else -math.inf


def upcoming(images: Iterable[Image], standings: Mapping[str, Standing], now: float, interval: float) -> Image | None:
    """The image to verify now, None when none is due. What is corrupt goes first when its time has come."""
    due = (image for image in images if due_at(standings.get(image.id), now, interval) <= now)
    return min(due, key=lambda image: _rank(image, standings.get(image.id) or Standing()), default=None)


def pause(
    images: Iterable[Image], standings: Mapping[str, Standing], now: float, interval: float, most: float
) -> float:
    """Seconds until an image is due, at most `most`: by then, new ones may be there."""
    soonest = min((due_at(standings.get(image.id), now, interval) for image in images), default=math.inf)
    return min(max(soonest - now, 0.0), most)


def newest_first(images: Iterable[Image]) -> tuple[Image, ...]:
    """The order in which images are verified that all wait."""
    return tuple(sorted(images, key=lambda image: (-image.created, image.id)))


def _rank(image: Image, standing: Standing) -> tuple[bool, float, float, str]:
    # one that is corrupt may go first: its waits grow, so it does not keep the others from their turn
    return (standing.verdict is not Verdict.BAD, standing.verified, -image.created, image.id)
