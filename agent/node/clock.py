"""Time, boots and the platform of the node."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

# uname's word → Go's (GOARCH); containerd/platforms database.go normalizeArch
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "loongarch64": "loong64",
    "mips64el": "mips64le",
    "mipsel": "mipsle",
}
# "CPU architecture" of /proc/cpuinfo → variant; containerd/platforms cpuinfo_linux.go getCPUVariant
_VARIANTS = {
    "8": "v8",
    "aarch64": "v8",
    **dict.fromkeys(("7", "7m", "?(12)", "?(13)", "?(14)", "?(15)", "?(16)", "?(17)"), "v7"),
    **dict.fromkeys(("6", "6tej"), "v6"),
    **dict.fromkeys(("5", "5t", "5te", "5tej"), "v5"),
    **dict.fromkeys(("4", "4t"), "v4"),
    "3": "v3",
}


@dataclass(frozen=True, slots=True)
class Platform:
    """In Go's words: ``linux``, ``amd64``, and a variant only on 32-bit ARM (``v7``)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def now() -> float:
    """Epoch seconds by the node's clock: containers share it."""
    return time.time()


def boot_id(proc: Path = PROC) -> str:
    """Another one after each boot (random(4)); empty if it cannot be read."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def uptime(proc: Path = PROC) -> float:
    """Seconds since the boot, the time asleep included."""
    return float((proc / "uptime").read_text().split()[0])


def platform(machine: str | None = None, proc: Path = PROC) -> Platform:
    """The platform for which containerd picks an image; ``machine`` is the kernel's word for the processor.

    A 64-bit ARM is ``arm64`` without a variant: containerd normalises ``v8`` away.
    """
    word = (machine or os.uname().machine).lower()
    if word.startswith("arm") and word != "arm64":
        return Platform("linux", "arm", _arm_variant(word, proc))
    return Platform("linux", _ARCHITECTURES.get(word, word))


def _arm_variant(machine: str, proc: Path) -> str:
    info = _cpuinfo(proc)
    said = info.get("cpu architecture") or machine.removeprefix("arm").removeprefix("v")[:1]
    if said == "7" and info.get("model name", "").lower().startswith("armv6-compatible"):
        said = "6"  # a Raspberry Pi 1 or Zero says 7: a quirk of its kernel
    return _VARIANTS.get(said.lower(), "v7")


def _cpuinfo(proc: Path) -> dict[str, str]:
    """The first value of each key, keys in lower case."""
    try:
        lines = (proc / "cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip().lower(), value.strip())
    return found
