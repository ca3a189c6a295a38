"""What happens to the file of a blob. Its record stays: containerd looks at neither again."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """What a power loss leaves of a file whose name was written down before its bytes."""
    os.truncate(path, 0)


def delete(path: Path) -> None:
    path.unlink()


def alter_json(path: Path) -> None:
    """Valid JSON of the same size that says something else: the last digest in it is another one."""
    content = bytearray(path.read_bytes())
    last = [match.end() for match in _DIGEST.finditer(content)][-1] - 1
    content[last] = ord("0") if content[last] != ord("0") else ord("1")
    path.write_bytes(content)


FAULTS: Mapping[str, Callable[[Path], None]] = MappingProxyType(
    {"flipped": flip, "truncated": truncate, "emptied": empty, "deleted": delete}
)
"""What can happen to any blob."""
