"""Child processes that compare: the work is half inflating and half Python, and neither may hold up the event loop.

Each child does one layer at a time; of those that wait the largest goes first, so that none is left over for the end.
The children read within the parent's `Budget`: before each piece they ask and the parent answers when it is affordable.
A child is started when there is work and none is free, and ends when there was none for `IDLE_SECONDS`.
"""

import asyncio
import contextlib
import heapq
import itertools
import json
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.causes import Cause
from agent.model import Fault
from agent.runtime.blobs import Budget, Stopped
from agent.runtime.layers import messages
from agent.runtime.layers.messages import Answer, Task, Work
from agent.runtime.layers.records import Comparison, Layer, Usage

IDLE_SECONDS = 2.0
LONGEST_LINE = 16 * 1024 * 1024  # 100 differences whose every byte is escaped
GATHERING = 0.01  # before a child is started, which takes ten times as long: a larger layer may be on its way
NAP = 0.25  # the budget may be closed while a child waits for its leave
_COMMAND = (
    sys.executable,
    "-P",
    "-X",
    "utf8",
    "-m",
    "agent.runtime.layers.worker",
)  # -P: nothing from the current folder


class Layers:
    """At most `workers` children, which share `budget`; `seen` is told of every byte that they read.

    Leave it (``async with``) or `close` it, so that no child stays.
    """

    def __init__(self, workers: int, budget: Budget, seen: Callable[[int], None] = lambda _: None) -> None:
        self._free = workers
        self._budget = budget
        self._seen = seen
        self._idle: list[Process] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._turns = itertools.count()
        self._ending: asyncio.TimerHandle | None = None

    async def usage(self, folder: Path) -> Usage:
        """What `folder` takes on the disk. Raises `Fault`: ``snapshot_missing``, ``unknown``."""
        answer = await self._ask("usage", Layer(folder, (), Path(), "", 1 << 62))  # quick ones first
        assert isinstance(answer, Usage)  # noqa: S101 - one kind of answer to each kind of work
        return answer

    async def compare(self, layer: Layer) -> Comparison:
        """Read the blob and all that was unpacked from it, once.

        Raises `Fault`: ``blob_missing``, ``blob_truncated``, ``blob_corrupt`` (then nothing is said of the folder),
        ``snapshot_missing``, or ``unknown`` when something may not be read or the child died. Raises `Stopped` once the
        budget is closed.
        """
        answer = await self._ask("compare", layer)
        assert isinstance(answer, Comparison)  # noqa: S101 - as in `usage`
        return answer

    async def replace_files(self, layer: Layer) -> int:
        """Put right in place what differs, and say how many paths. Raises as `compare`; then nothing was touched.

        What was there is kept aside until `agent.runtime.layers.replace.forget_replaced`.
        """
        answer = await self._ask("replace", layer)
        assert isinstance(answer, int)  # noqa: S101 - as in `usage`
        return answer

    async def close(self) -> None:
        """End the children that rest. One that works ends with its task."""
        if self._ending is not None:
            self._ending.cancel()
        while self._idle:
            await _end(self._idle.pop())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, work: Work, layer: Layer) -> Answer:
        await self._take_turn(layer.size)
        child: Process | None = None
        try:
            child = await self._child()
            answer = await self._talk(child, Task(work, layer, self._budget.chunk()))
        except BaseException:
            if child is not None:
                await asyncio.shield(_kill(child))
            raise
        else:
            self._rest(child)
        finally:
            self._pass_turn()
        return messages.read_answer(answer)

    async def _take_turn(self, size: int) -> None:
        if self._free > 0 and self._idle:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        heapq.heappush(self._waiting, (-size, next(self._turns), turn))
        if self._free > 0:
            loop.call_later(GATHERING, self._begin)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_turn()
            raise

    def _begin(self) -> None:
        """Let the largest of those that came together begin, each with a child of its own."""
        while self._free > 0 and self._waiting:
            self._free -= 1
            self._pass_turn()

    def _pass_turn(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def _child(self) -> Process:
        while self._idle:
            child = self._idle.pop()
            if child.returncode is None:
                return child
        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            return await asyncio.create_subprocess_exec(
                *_COMMAND, stdin=pipe, stdout=pipe, stderr=nowhere, limit=LONGEST_LINE
            )
        except OSError as error:
            raise Fault(Cause.UNKNOWN, f"layers cannot be compared: {error.strerror}") from None

    async def _talk(self, child: Process, task: Task) -> dict[str, Any]:
        """Give a task and the leaves that it asks for, up to its answer."""
        assert child.stdin is not None and child.stdout is not None  # noqa: PT018, S101 - they are pipes
        try:
            child.stdin.write(messages.write_task(task))
            while line := await child.stdout.readline():
                told = json.loads(line)
                if isinstance(told, dict):
                    return self._heard(told)
                child.stdin.write(b"true\n" if await self._affordable(*told) else b"false\n")
        except (OSError, ValueError):
            pass
        raise Fault(Cause.UNKNOWN, "layers cannot be compared: the process for it ended")

    def _heard(self, told: dict[str, Any]) -> dict[str, Any]:
        if "stopped" in told:
            raise Stopped
        spent, cpu = told.get("spent", (0, 0.0))
        self._seen(spent)
        with contextlib.suppress(Stopped):  # the answer is there
            self._budget.reserve(spent, cpu)
        return told

    async def _affordable(self, spent: int, cpu: float) -> bool:
        """Wait until it is; False once the budget is closed."""
        self._seen(spent)
        try:
            wait = self._budget.reserve(spent, cpu)
            while wait > 0:
                await asyncio.sleep(min(wait, NAP))
                wait -= NAP
                self._budget.reserve(0)
        except Stopped:
            return False
        return True

    def _rest(self, child: Process) -> None:
        self._idle.append(child)
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._dismiss)

    def _dismiss(self) -> None:
        """Standard input ends, and so does the child."""
        for child in self._idle:
            if child.stdin is not None:
                child.stdin.close()


async def _end(child: Process) -> None:
    if child.stdin is not None:
        child.stdin.close()
    await child.wait()


async def _kill(child: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()
