"""Chains judged in a process apart, for a daemon that has to stay small.

Judging takes the library cryptography, which adds 11 MiB to a process for good (bench/), and a probe meets the same few
chains again and again. So the daemon has each chain judged by a short-lived child, which is given the chain and those
anchors that may matter, and remembers what was found good for an hour. Commands judge by themselves: they end soon.
"""

import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from agent.causes import Cause
from agent.model import Fault
from agent.registry.certificates import Judged, judge
from agent.registry.trust import Trust

Judge = Callable[[Sequence[bytes], Trust, str, datetime], Awaitable[Judged]]

SECONDS = 20.0
MEMORY = 3600.0
MOST = 1000


async def judge_here(chain: Sequence[bytes], trust: Trust, host: str, now: datetime) -> Judged:
    """`judge`, in this process."""
    return judge(chain, trust, host, now)


class JudgeApart:
    """`judge`, in a child process; what was good is good for an hour, or until the leaf ends."""

    def __init__(self) -> None:
        self._good: dict[tuple[object, ...], tuple[float, Judged]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, chain: Sequence[bytes], trust: Trust, host: str, now: datetime) -> Judged:
        """Raises Fault as `judge`, and ``unknown`` if the child did not answer."""
        anchors = trust.candidates(chain)
        key = (tuple(chain), anchors, host)
        async with self._one_at_a_time:
            until, known = self._good.get(key, (0.0, None))
            if known is not None and time.monotonic() < until and now < known.not_after:
                return known
            judged = _read(await _ask(_question(chain, anchors, host, now)))
            if len(self._good) >= MOST:
                self._good.clear()
            self._good[key] = (time.monotonic() + MEMORY, judged)
            return judged


async def _ask(question: bytes) -> bytes:
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = (sys.executable, "-P", "-m", "agent.registry.apart")  # -P: nothing is imported from the current folder
    try:
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=nowhere)
    except OSError as error:
        raise Fault(Cause.UNKNOWN, f"the certificate could not be judged: {error.strerror}") from None
    try:
        answer, _ = await asyncio.wait_for(child.communicate(question), SECONDS)
    except TimeoutError:
        raise Fault(Cause.UNKNOWN, f"the certificate was not judged within {SECONDS:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return answer


def _question(chain: Sequence[bytes], anchors: Sequence[bytes], host: str, now: datetime) -> bytes:
    texts = [[base64.b64encode(der).decode() for der in ders] for ders in (chain, anchors)]
    return json.dumps({"chain": texts[0], "anchors": texts[1], "host": host, "now": now.timestamp()}).encode()


def _answer(question: bytes) -> str:
    """The child's side: `judge`, or the fault that it raised."""
    told = json.loads(question)
    chain, anchors = ([base64.b64decode(text) for text in told[name]] for name in ("chain", "anchors"))
    try:
        judged = judge(chain, Trust.of(anchors), told["host"], datetime.fromtimestamp(told["now"], UTC))
    except Fault as fault:
        return json.dumps({"cause": fault.cause, "detail": fault.detail, "evidence": dict(fault.evidence)})
    return json.dumps([judged.subject, judged.issuer, judged.not_after.timestamp(), judged.path])


def _read(answer: bytes) -> Judged:
    try:
        told: Any = json.loads(answer)
    except ValueError:
        raise Fault(Cause.UNKNOWN, "the certificate could not be judged: the process for it failed") from None
    if isinstance(told, dict):
        raise Fault(Cause(told["cause"]), told["detail"], told["evidence"])
    subject, issuer, not_after, path = told
    return Judged(subject, issuer, datetime.fromtimestamp(not_after, UTC), tuple(path))


if __name__ == "__main__":
    sys.stdout.write(_answer(sys.stdin.buffer.read()))
