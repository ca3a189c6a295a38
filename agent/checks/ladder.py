"""The ladder: rungs are climbed in order, each one timed; the rung that you fall from is the diagnosis."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from agent.causes import Cause
from agent.model import NOTHING, Fault, Finding, Verdict

T = TypeVar("T")

LEAST = 0.25
"""Seconds: what gets less of the deadline than this is not begun."""
OVERTIME = 0.5
"""Seconds after the deadline at which all ends."""


def finding_of(fault: Fault, check: str, subject: str, seconds: float = 0.0) -> Finding:
    """The finding that `fault` amounts to: bad, or unknown if its cause is."""
    verdict = Verdict.UNKNOWN if fault.cause is Cause.UNKNOWN else Verdict.BAD
    return Finding(check, subject, verdict, fault.cause, fault.detail, fault.evidence, seconds)


class Ladder:
    """Collects the findings of the rungs climbed so far, in ``steps``; ``at`` is the one under way, or the last."""

    def __init__(self) -> None:
        self.steps: list[Finding] = []
        self.at = ("reference", "")

    async def rung(
        self,
        check: str,
        subject: str,
        doing: Awaitable[T],
        tell: Callable[[T], str] = lambda _: "",
        show: Callable[[T], Mapping[str, str]] = lambda _: NOTHING,
    ) -> T:
        """Climb one rung: `doing` under the clock; `tell` puts its result into words, `show` into evidence.

        Raises the `Fault` again that it wrote down.
        """
        self.at = (check, subject)
        began = time.monotonic()
        try:
            value = await doing
        except Fault as fault:
            self.steps.append(finding_of(fault, check, subject, time.monotonic() - began))
            raise
        seconds = time.monotonic() - began
        self.steps.append(Finding(check, subject, Verdict.OK, None, tell(value), show(value), seconds))
        return value


class Deadline:
    """One end for everything that a round does. ``left(cap)`` is what a single step may take of it, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._least = min(LEAST, seconds / 10)
        self.seconds = seconds

    def left(self, cap: float = float("inf")) -> float:
        """Seconds left, at most `cap`. Raises `Fault` (``unknown``) when there are too few to blame anybody."""
        left = self._end - time.monotonic()
        if left < self._least:
            raise Fault(Cause.UNKNOWN, f"not looked at: the deadline of {self.seconds:g} s had passed")
        return min(left, cap)

    @asynccontextmanager
    async def bound(self) -> AsyncIterator[None]:
        """Ends what is under way a little after the deadline: a step that used up its share tells its cause first.

        Raises `Fault` (``unknown``) then: each request of many may be in time, and all together not.
        """
        try:
            async with asyncio.timeout(max(self._end - time.monotonic(), 0) + OVERTIME):
                yield
        except TimeoutError:
            raise Fault(Cause.UNKNOWN, f"not done within the deadline of {self.seconds:g} s") from None
