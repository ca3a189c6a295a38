"""What processes take, by /proc: memory and time of one and all its children."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> Iterator[int]:
    """All children of `pid`, and theirs, as far as they are there."""
    for child in _read(pid, f"task/{pid}/children").split():
        yield int(child)
        yield from descendants(int(child))


def rss_of(pid: int) -> int:
    """Resident memory in KiB; 0 for a process that ended."""
    lines = (line.split() for line in _read(pid, "status").splitlines())
    return next((int(words[1]) for words in lines if words[0] == "VmRSS:"), 0)


def cpu_of(pid: int) -> float:
    """Seconds of processor time of `pid`, of those of its children that live, and of those that it waited for."""
    return sum(_own(each) for each in (pid, *descendants(pid)))


def _own(pid: int) -> float:
    fields = _read(pid, "stat").rpartition(")")[2].split()  # utime, stime, cutime and cstime are fields 14 to 17
    return sum(map(int, fields[11:15])) / TICKS


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text()
    except OSError:
        return ""
