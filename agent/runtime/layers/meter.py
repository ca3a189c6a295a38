"""Accounts in the child for what it reads and for its time on a core, and waits for the parent's leave to go on."""

import time
from collections.abc import Callable

CPU_SECONDS = 0.05


class Meter:
    """Tells `ask` of the bytes and CPU seconds since the last time, whenever ``quantum`` bytes were read.

    `ask` may wait, and may raise to stop the work.
    """

    def __init__(self, ask: Callable[[int, float], None], quantum: int) -> None:
        self._ask = ask
        self._quantum = quantum
        self._bytes = 0
        self._cpu = time.process_time()

    def spend(self, count: int) -> None:
        """Account for `count` bytes; with 0, only for the time on a core: little may be inflated to much."""
        self._bytes += count
        if self._bytes >= self._quantum or (count == 0 and time.process_time() - self._cpu > CPU_SECONDS):
            self._ask(*self.rest())

    def rest(self) -> tuple[int, float]:
        """What was not told yet: bytes, and seconds of a core."""
        before, self._cpu = self._cpu, time.process_time()
        count, self._bytes = self._bytes, 0
        return count, self._cpu - before
