"""Reading the cache at one rate, for as long as one pass over it takes."""

import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.causes import Cause
from agent.checks.cache import Verifier
from agent.model import CacheReport, Depth, Image, ImageReport, Trigger, Verdict
from agent.round.look import Eyes, runtime_of
from agent.round.verify import examine, store_of, verify_ingests
from agent.runtime.blobs import Budget
from agent.runtime.store import Store


class Reader:
    """Verifies images within a budget of its own; what several of them share is read once in the reader's time.

    ``rate`` in bytes per second, ``cpu_share`` of one core. Leaving it stops what is being read at once. The runtime is
    met anew for each image: one that was restarted may have its files elsewhere, and then nothing read before counts.
    """

    def __init__(self, eyes: Eyes, rate: float, workers: int, cpu_share: float | None = None) -> None:
        self._eyes = eyes
        self._workers = workers
        self._budget = Budget(rate, cpu_share)
        self._stack = AsyncExitStack()
        self._verifier: Verifier | None = None
        self._root: Path | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.close()
        await self._stack.aclose()

    async def verify(self, image: Image, depth: Depth, trigger: Trigger, *, afresh: bool = False) -> CacheReport:
        """Look at one image; `afresh` reads again what was read for another. Raises `Fault`: no runtime."""
        began, spent = time.monotonic(), self._budget.spent
        report = await self._look(image, depth, afresh=afresh)
        if report.verdict is not Verdict.OK and await self._is_doubtful(report):
            report = await self._look(image, depth, afresh=True)
        return CacheReport(trigger, depth, (report,), self._budget.spent - spent, time.monotonic() - began)

    def forget(self, image: Image) -> None:
        """It was mended: what it shares with others is read again for them."""
        if self._verifier is not None:
            self._verifier.forget(image)

    async def ingests(self, trigger: Trigger) -> CacheReport:
        """Look at unfinished downloads; those that no pull can ever finish are told. Raises `Fault` as `verify`."""
        began, spent = time.monotonic(), self._budget.spent
        reports = await verify_ingests(await self._verifier_of(await self._store()))
        if any([await self._is_doubtful(report) for report in reports]):
            reports = ()
        return CacheReport(trigger, Depth.BLOBS, reports, self._budget.spent - spent, time.monotonic() - began)

    async def _look(self, image: Image, depth: Depth, *, afresh: bool) -> ImageReport:
        verifier = await self._verifier_of(await self._store())
        if afresh:
            verifier.forget(image)
        return await examine(verifier, image, depth)

    async def _is_doubtful(self, report: ImageReport) -> bool:
        """Whether the runtime went away or was restarted while its files were read. Raises `Fault` if it is away."""
        moved = (await self._store()).content_root != self._root
        return moved or any(finding.cause is Cause.RUNTIME_UNAVAILABLE for finding in report.findings)

    async def _store(self) -> Store:
        return store_of(await runtime_of(self._eyes))

    async def _verifier_of(self, store: Store) -> Verifier:
        if self._verifier is None or store.content_root != self._root:
            await self._stack.aclose()
            self._root = store.content_root
            verifier = Verifier(store, self._budget, self._workers)
            self._verifier = await self._stack.enter_async_context(verifier)
        return self._verifier
