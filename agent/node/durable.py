"""Small files that must outlive a crash of the node: each writing is a whole new file that takes the old one's name.

The new file is made durable (fsync) before the rename, and the folder after it, so that a crash at any moment leaves
the old or the new one, never a torn one. Source: rename(2), fsync(2).
"""

import errno
import os
import time
from pathlib import Path

from agent.causes import Cause
from agent.model import Fault

_CAUSES = {
    errno.ENOSPC: Cause.DISK_FULL,
    errno.EDQUOT: Cause.DISK_FULL,
    errno.EROFS: Cause.DISK_READ_ONLY,
}


def read(path: Path, limit: int) -> bytes | None:
    """The whole content, None when there is no such file; `ValueError` beyond `limit` bytes, `OSError` as `open`."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(content) > limit:
        raise ValueError(f"longer than {limit} bytes")
    return content


def replace(path: Path, content: bytes) -> None:
    """Durable when this returns; needs ``<name>.new`` beside it for a moment. `Fault` as `trouble`."""
    try:
        _replace(path, content)
    except OSError as error:
        raise trouble(f"cannot write {path}", error) from error


def make_folder(folder: Path) -> None:
    """A folder for the agent alone, if there is none yet. `Fault` as `trouble`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise trouble(f"cannot make {folder}", error) from error


def set_aside(path: Path, error: Exception) -> str:
    """Rename a file that cannot be understood to ``<name>.corrupt-<epoch seconds>``; answers what is to be said."""
    aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
    try:
        path.rename(aside)
    except OSError as failed:
        return f"{path} can be neither read nor renamed: {failed.strerror or failed}"
    return f"{path} could not be understood ({type(error).__name__}) and is now {aside.name}"


def trouble(what: str, error: OSError) -> Fault:
    """A `Fault` DISK_FULL, DISK_READ_ONLY or UNKNOWN."""
    return Fault(_CAUSES.get(error.errno or 0, Cause.UNKNOWN), f"{what}: {error.strerror or error}")


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
