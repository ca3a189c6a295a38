"""What outlives a containerd, as it is meant to, and must not outlive the stage: shims, containers, mounts, cgroups."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def shims(address: Path) -> list[int]:
    """The shims that serve the containerd at this socket."""
    words = {pid: _read(pid, "cmdline").split(b"\0") for pid in _pids()}
    return [pid for pid, (program, *rest) in words.items() if b"containerd-shim" in program and bytes(address) in rest]


def kill_tree(pid: int) -> None:
    """End a process that is not our child with all its children, the youngest first."""
    for child in _pids():
        if f"\nPPid:\t{pid}\n".encode() in _read(child, "status"):
            kill_tree(child)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return b""


def unmount_below(folder: Path) -> None:
    """Take away all mounts in a folder, the innermost first."""
    points = (line.split()[4] for line in Path("/proc/thread-self/mountinfo").read_text().splitlines())
    for point in reversed([point for point in points if Path(point).is_relative_to(folder.resolve())]):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def remove_cgroup(name: str, seconds: float = 2) -> None:
    """Remove a cgroup of the first level with all below it, in each hierarchy, once its processes are gone."""
    deadline = time.monotonic() + seconds
    places = [CGROUPS / name, *CGROUPS.glob(f"*/{name}")]
    while any([not _removed(place) for place in places]) and time.monotonic() < deadline:  # noqa: C419 - try each
        time.sleep(0.01)


def _removed(cgroup: Path) -> bool:
    with contextlib.suppress(OSError):  # busy: what was killed is not gone yet
        for inner in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
            inner.rmdir()
        cgroup.rmdir()
    return not cgroup.exists()
