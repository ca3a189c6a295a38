"""Extended attributes of what was unpacked, beside those that the layer names."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from agent.runtime.layers.records import What

Found = tuple[tuple[What, str, str], ...]
CAPABILITY = "security.capability"
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_CAP_SYS_ADMIN = 1 << 21
_NONE: Mapping[str, bytes] = {}
_SHOWN = 32


def listed(descriptor: int) -> list[str]:
    """Names of a file's attributes; none where the file system has no such thing. Raises OSError."""
    try:
        return os.listxattr(descriptor)
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.ENOSYS}:
            raise
        return []


def differences(descriptor: int, names: list[str], expected: Mapping[str, bytes] | None) -> Found:
    """What of `names`, as listed, is not as the layer says, and what it says and is not there. Raises OSError."""
    wanted = {name: value for name, value in (expected or _NONE).items() if is_ours(name)}
    found = {name: os.getxattr(descriptor, name) for name in names if is_ours(name)}
    lost = ((What.XATTR, _shown(name, wanted[name]), f"{name} is not set") for name in wanted if name not in found)
    other = (
        (What.XATTR, _shown(name, wanted[name]) if name in wanted else f"{name} is not set", _shown(name, value))
        for name, value in found.items()
        if value != wanted.get(name)
    )
    return (*(each for each in lost if _can_be_set(descriptor, each[2].split(" ")[0])), *other)


def is_opaque(descriptor: int, names: list[str]) -> bool:
    """Whether a directory hides what lies below it. Raises OSError."""
    return any(name in names and os.getxattr(descriptor, name) == b"y" for name in OPAQUE)


def sees_trusted() -> bool:
    """Whether ``trusted.*`` is shown to this process: the kernel lists it for CAP_SYS_ADMIN alone."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & _CAP_SYS_ADMIN)
    return False


def is_ours(name: str) -> bool:
    """``user.*`` and file capabilities; all else belongs to the kernel, its modules and the overlay."""
    return name == CAPABILITY or (name.startswith("user.") and not name.startswith("user.overlay."))


def _can_be_set(descriptor: int, name: str) -> bool:
    try:
        os.getxattr(descriptor, name)
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


def _shown(name: str, value: bytes) -> str:
    return f"{name}={value[:_SHOWN].hex()}{'…' if len(value) > _SHOWN else ''}"
