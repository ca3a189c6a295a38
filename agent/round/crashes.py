"""Containers that ended as damaged files make them end: which image that puts under suspicion, and for what reason.

A power loss leaves files of zeros: a program then is no program (``exec format error``), a library no library, a
script's interpreter is gone. The rule is generous, since a false suspicion costs one verification, and bounded: each
image is verified once an hour for it at most. Words are looked for in the runtime's message and at the end of the
container's log, which is read and never shown.
"""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from agent.causes import Cause
from agent.model import Fault, Verdict
from agent.node.roots import HostRoot
from agent.round.standing import Standing
from agent.runtime.cri import Exit

HOUR = 3600.0
TAIL = 4096
"""Bytes of a container's log that are read."""

AT_ONCE = 50
"""Containers that are asked about in one poll; the others wait for the next."""

START_ERROR = "StartError"  # containerd's reason for a container that never ran, with exit code 128

# What the kernel, runc, the dynamic linker and shells say; in lower case.
_WORDS = (
    "exec format error",
    "cannot execute binary file",
    "error while loading shared libraries",
    "error loading shared library",  # musl's linker
    "invalid elf header",
    "file too short",  # glibc's linker on a file that was truncated
)
_NO_ENTRY = re.compile(r"\b(?:exec|stat)\b[^\n]{0,300}: no such file or directory")
# Bash(1), EXIT STATUS; signal(7): 128 and the signal's number.
_CODES = {
    126: "exit code 126: the program cannot be executed",
    127: "exit code 127: the program was not found",
    132: "exit code 132 (SIGILL): the program is not what the processor can run",
    135: "exit code 135 (SIGBUS): a file that was mapped is shorter than it was",
    139: "exit code 139 (SIGSEGV)",
}


def suspicion(end: Exit, log: str) -> str:
    """Why damaged files may be behind this end, in words; empty if nothing says so. Pure."""
    if end.code == 0:
        return ""
    for text, where in ((end.message, "the runtime says"), (log, "its log says")):
        if words := _words(text.lower()):
            return f"{where} {words!r}"
    if end.code == 128 and end.reason == START_ERROR:
        return "it could not be started"
    return _CODES.get(end.code, "")


def _words(text: str) -> str:
    said = next((words for words in _WORDS if words in text), "")
    return said or ("no such file or directory" if _NO_ENTRY.search(text) else "")


def wanted(standing: Standing, asked: float, now: float, boot: str) -> bool:
    """Whether an image under suspicion is worth a verification now; `asked` is when it last had one for that. Pure.

    Not again within an hour, and not while it is known to be sound: read in full within the hour, in this boot.
    """
    sound = standing.verdict is Verdict.OK and standing.boot == boot and 0 <= now - standing.verified < HOUR
    return not sound and not 0 <= now - asked < HOUR


class Ends(Protocol):
    """What is asked of CRI: `agent.runtime.cri.Cri`."""

    async def exited(self) -> frozenset[str]: ...

    async def exit_of(self, id: str) -> Exit | None: ...  # noqa: A002 - CRI's word


class CrashWatch:
    """Asks the runtime for containers that ended since the last poll; each one is looked at once."""

    def __init__(self) -> None:
        self._seen: frozenset[str] = frozenset()

    async def poll(self, cri: Ends, now: float) -> tuple[Exit, ...]:
        """Those that ended, not with success, within the last hour. Raises `Fault` as CRI's calls do.

        What ended before is old news: a container that keeps crashing is started again within five minutes.
        """
        ended = await cri.exited()
        fresh = sorted(ended - self._seen)[:AT_ONCE]
        ends = [end for id in fresh if (end := await _exit(cri, id)) is not None]  # noqa: A001 - CRI's word
        self._seen = (self._seen & ended) | frozenset(fresh)
        return tuple(end for end in ends if end.code and end.images and now - end.finished < HOUR)


async def _exit(cri: Ends, id: str) -> Exit | None:  # noqa: A002 - CRI's word
    """None also for one whose status cannot be had: there are others. Raises `Fault` when the runtime is away."""
    try:
        return await cri.exit_of(id)
    except Fault as fault:
        if fault.cause is Cause.RUNTIME_UNAVAILABLE:
            raise
        return None


def suspects(ends: Iterable[Exit], root: HostRoot) -> tuple[tuple[Exit, str], ...]:
    """Those that raise a suspicion, with the reason. Reads their logs' tails below `root`."""
    found = ((end, suspicion(end, tail(root, end.log))) for end in ends)
    return tuple((end, reason) for end, reason in found if reason)


def tail(root: HostRoot, path: str) -> str:
    """The last `TAIL` bytes of a regular file of the host; empty for what cannot be read. Links lead nowhere outside.

    The last component may have been exchanged for a link since it was resolved: then it is not followed.
    """
    try:
        return _tail(root.real(path)) if path else ""
    except OSError:
        return ""


def _tail(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return ""
        return os.pread(descriptor, TAIL, max(0, found.st_size - TAIL)).decode(errors="replace")
    finally:
        os.close(descriptor)
