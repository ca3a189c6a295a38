"""Mending without being asked: what a scan found, one image at a time, so many an hour, with the ledger held alone.

Before it acts it looks again with readers of its own: one reading alone changes nothing on a node. Without credentials
only what public registries have, or what can be rebuilt from the node's own disk, is mended; the plan says so.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.actions import Leave
from agent.checks.cache import Verifier
from agent.checks.view import View
from agent.config import Settings
from agent.model import Fault, ImageReport, Verdict
from agent.node.ledger import Ledger, LedgerBusy
from agent.registry.credentials import Keyring
from agent.round.look import Eyes, look
from agent.round.repair import repair_all
from agent.round.repull import settle
from agent.round.tools import Tools, planned
from agent.round.verify import store_of
from agent.runtime.blobs import Budget

HOUR = 3600.0
LEAVE = "leave"
REPLACE_FILES = "replace-files"


class Allowance:
    """So many an hour. Pure: the caller tells the time, in seconds of any clock that does not go back."""

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._spent: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Whether one more is allowed."""
        while self._spent and self._spent[0] <= now - HOUR:
            self._spent.popleft()
        return len(self._spent) < self._per_hour

    def spend(self, now: float) -> None:
        """One was done."""
        self._spent.append(now)


class Mender:
    """Repairs, and the debts of processes that were killed.

    ``warn`` hears how each debt was paid; ``complain`` of what cannot be done and why, an empty reason when it can.
    """

    def __init__(
        self, settings: Settings, eyes: Eyes, *, warn: Callable[[str], None], complain: Callable[[str, str], None]
    ) -> None:
        self._settings = settings
        self._eyes = eyes
        self._warn = warn
        self._warned: set[str] = set()
        self._complain = complain
        self._ledger = Path(settings.state_dir) / "ledger.json"
        self._alone = asyncio.Lock()
        self._allowance = Allowance(settings.repair.per_hour)

    async def mend(self, report: ImageReport) -> ImageReport:
        """Mend what `report` found if that is allowed; the deeds say what was done, or why nothing was."""
        if not self._allowance.allows(time.monotonic()):
            limit = self._settings.repair.per_hour
            return _left(report, f"{limit} images were mended within the hour, which is the limit (repair.per_hour)")
        try:
            mended = await self._mend(report)
        except LedgerBusy as busy:
            return _left(report, str(busy))
        except Fault as fault:
            return _left(report, fault.detail)
        if any(deed.action != LEAVE for deed in mended.deeds):
            self._allowance.spend(time.monotonic())
        return mended

    async def _mend(self, report: ImageReport) -> ImageReport:
        async with self._alone:
            view = await look(self._eyes)
            store = store_of(view.runtime)
            verify = self._settings.verify
            with Ledger(self._ledger) as ledger, Budget(verify.boot_bytes_per_second) as budget:
                async with Verifier(store, budget, verify.concurrency) as verifier:
                    tools = self._tools(view, ledger, verifier)
                    await settle(tools, self._say)
                    (mended,) = await repair_all(tools, (report,))
                    return mended

    def _say(self, text: str) -> None:
        """How a debt was paid; of one that stays, once."""
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    @property
    def owes(self) -> bool:
        """Whether there may be debts to settle."""
        return not self._alone.locked() and self._ledger.exists()

    async def settle(self, view: View) -> None:
        """Pay the debts of a process that was killed, if they can be paid now.

        A repair of our own that is under way owes nothing yet, nor does a command at work on them.
        """
        if not self.owes:
            return
        async with self._alone:
            reason = ""
            try:
                await self._settle(view)
            except LedgerBusy:
                return
            except Fault as fault:
                reason = fault.detail
            self._complain("debts of an earlier run are not paid yet", reason)

    async def _settle(self, view: View) -> None:
        store = store_of(view.runtime)
        with Ledger(self._ledger) as ledger, Budget(self._settings.verify.boot_bytes_per_second) as budget:
            async with Verifier(store, budget, 1) as verifier:
                await settle(self._tools(view, ledger, verifier), self._say)

    def _tools(self, view: View, ledger: Ledger, verifier: Verifier) -> Tools:
        deadline, in_use = self._settings.probe.deadline, self._settings.repair.in_use
        return Tools(view, ledger, Keyring(), verifier, deadline, replace_files=in_use == REPLACE_FILES)


def _left(report: ImageReport, reason: str) -> ImageReport:
    return replace(report, deeds=planned(report.image, (Leave(report.image.id, reason),)))


def outcome(mended: ImageReport) -> str:
    """What a repair came to: ``mended``, ``failed``, or ``left`` as it was."""
    if mended.verdict is Verdict.OK:
        return "mended"
    return "left" if all(deed.action == LEAVE for deed in mended.deeds) else "failed"
