"""Reading blobs: what is told of them, within which budget, and what stays of it in the page cache."""

import ctypes
import hashlib
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Blob, Fault, Role
from agent.runtime import blobs
from agent.runtime.blobs import Budget, Stopped, examine, examine_size

MIB = 1024 * 1024


@pytest.fixture
def written(folder: Path) -> Callable[[bytes], tuple[Path, Blob]]:
    def write(content: bytes) -> tuple[Path, Blob]:
        encoded = hashlib.sha256(content).hexdigest()
        path = folder / encoded
        path.write_bytes(content)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return path, Blob(f"sha256:{encoded}", len(content), Role.LAYER)

    return write


Written = Callable[[bytes], tuple[Path, Blob]]


def read(path: Path, blob: Blob, budget: Budget | None = None) -> int:
    """Examine and answer how many bytes were seen."""
    seen: list[int] = []
    examine(path, blob, budget or Budget(None), seen.append)
    return sum(seen)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4 * MIB - 1, 4 * MIB, 9 * MIB + 17])
def test_a_sound_blob_of_any_size_is_read_to_its_end(written: Written, size: int) -> None:
    path, blob = written(os.urandom(size))
    assert read(path, blob) == size


def damaged(path: Path, how: str) -> None:
    if how == "flipped":
        with path.open("r+b") as file:
            file.seek(5 * MIB)
            byte = file.read(1)
            file.seek(5 * MIB)
            file.write(bytes([byte[0] ^ 1]))
    elif how == "deleted":
        path.unlink()
    else:
        os.truncate(path, {"truncated": 5 * MIB, "emptied": 0, "longer": 7 * MIB}[how])


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("flipped", Cause.BLOB_CORRUPT),
        ("truncated", Cause.BLOB_TRUNCATED),
        ("emptied", Cause.BLOB_TRUNCATED),
        ("longer", Cause.BLOB_CORRUPT),
        ("deleted", Cause.BLOB_MISSING),
    ],
)
def test_damage_is_named(written: Written, how: str, cause: Cause) -> None:
    path, blob = written(os.urandom(6 * MIB))
    damaged(path, how)
    with pytest.raises(Fault) as caught:
        read(path, blob)
    assert caught.value.cause is cause
    assert blob.digest in caught.value.detail


@pytest.mark.parametrize(("how", "told"), [("flipped", False), ("truncated", True), ("deleted", True)])
def test_sizes_alone_tell_what_is_short_or_gone(written: Written, how: str, told: bool) -> None:
    path, blob = written(os.urandom(6 * MIB))
    damaged(path, how)
    if not told:
        examine_size(path, blob)
        return
    with pytest.raises(Fault):
        examine_size(path, blob)


def test_a_symbolic_link_in_the_place_of_a_blob_is_not_followed(written: Written, folder: Path) -> None:
    path, blob = written(b"content")
    link = folder / "link"
    link.symlink_to(path)
    with pytest.raises(Fault):
        read(link, blob)


def test_an_unknown_digest_algorithm_is_no_corruption(written: Written) -> None:
    path, blob = written(b"content")
    with pytest.raises(Fault) as caught:
        read(path, Blob("md5:" + "0" * 32, blob.size, Role.LAYER))
    assert caught.value.cause is Cause.UNKNOWN


def test_a_budget_slows_all_readers_together(written: Written) -> None:
    path, blob = written(os.urandom(2 * MIB))
    budget = Budget(8 * MIB)
    began = time.monotonic()
    readers = [threading.Thread(target=read, args=(path, blob, budget)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert 0.4 < time.monotonic() - began < 1.5  # 4 MiB at 8 MiB/s
    assert budget.spent == 4 * MIB


def test_a_closed_budget_stops_a_reader_that_waits(written: Written) -> None:
    path, blob = written(os.urandom(MIB))
    budget = Budget(1024)
    threading.Timer(0.2, budget.close).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        read(path, blob, budget)
    assert time.monotonic() - began < 5


def resident(path: Path) -> int:
    """How many pages of a file are in the page cache."""
    size = path.stat().st_size
    states = (ctypes.c_ubyte * ((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as view:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), states) == 0
    return sum(state & 1 for state in states)


def drop(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture(params=["newest kernel", "older kernel"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An older kernel refuses the flag RWF_DONTCACHE; a flag that no kernel knows stands in for that."""
    if request.param == "older kernel":
        monkeypatch.setattr(blobs, "RWF_DONTCACHE", 0x40000000)
    return str(request.param)


@pytest.mark.usefixtures("kernel")
def test_a_cold_file_leaves_next_to_nothing_in_the_page_cache(written: Written) -> None:
    path, blob = written(os.urandom(64 * MIB))
    drop(path)
    read(path, blob)
    assert resident(path) * mmap.PAGESIZE < 8 * MIB


@pytest.mark.usefixtures("kernel")
def test_a_hot_file_stays_in_the_page_cache(written: Written) -> None:
    path, blob = written(os.urandom(32 * MIB))
    path.read_bytes()
    read(path, blob)
    assert resident(path) * mmap.PAGESIZE > 31 * MIB
