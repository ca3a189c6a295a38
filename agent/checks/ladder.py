"""The ladder: rungs are climbed in order, each one timed; the rung that you fall from is the diagnosis."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from agent.causes import Cause
from agent.model import NOTHING, Fault, Finding, Verdict

T = TypeVar("T")


def finding_of(fault: Fault, check: str, subject: str, seconds: float = 0.0) -> Finding:
    """The finding that `fault` amounts to: bad, or unknown if its cause is."""
    verdict = Verdict.UNKNOWN if fault.cause is Cause.UNKNOWN else Verdict.BAD
    return Finding(check, subject, verdict, fault.cause, fault.detail, fault.evidence, seconds)


class Ladder:
    """Collects the findings of the rungs climbed so far, in ``steps``."""

    def __init__(self) -> None:
        self.steps: list[Finding] = []

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
        self.seconds = seconds

    def left(self, cap: float = float("inf")) -> float:
        """Seconds left, at most `cap`. Raises `Fault` (``unknown``) when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise Fault(Cause.UNKNOWN, f"not looked at: the deadline of {self.seconds:g} s had passed")
        return min(left, cap)
