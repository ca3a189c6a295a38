"""Comparing in child processes: within the budget, whatever the layer, and never for a blob that is not itself."""

import asyncio
import gzip
import hashlib
import io
import os
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.runtime.blobs import Budget, Stopped
from agent.runtime.layers.apart import Layers
from agent.runtime.layers.records import Layer, Usage, What
from agent.runtime.layers.replace import QUARANTINE

MIB = 1024 * 1024
Made = Callable[[bytes], Layer]


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def made(folder: Path) -> Made:
    """A layer of these bytes over an empty folder."""

    def make(blob: bytes) -> Layer:
        (folder / "snapshot/fs").mkdir(parents=True, exist_ok=True)
        (folder / "blob").write_bytes(blob)
        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        return Layer(folder / "snapshot/fs", (), folder / "blob", digest, len(blob))

    return make


def unpacked(layer: Layer, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = layer.folder / name
        path.write_bytes(content)
        path.chmod(0o644)
        os.utime(path, (0, 0))


FILES = {"one": b"1" * 100, "two": os.urandom(2 * MIB), "three": b""}


async def test_each_byte_of_blob_and_folder_is_told_once(made: Made) -> None:
    layer = made(gzip.compress(tar_of(FILES)))
    unpacked(layer, FILES)
    seen: list[int] = []
    budget = Budget(None)
    async with Layers(2, budget, seen.append) as layers:
        comparison = await layers.compare(layer)
        assert (comparison.count, comparison.incomparable) == (0, "")
        assert await layers.usage(layer.folder) == comparison.usage
    assert sum(seen) == budget.spent == layer.size + sum(map(len, FILES.values()))


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("flipped", Cause.BLOB_CORRUPT),
        ("trailing", Cause.BLOB_CORRUPT),
        ("truncated", Cause.BLOB_TRUNCATED),
        ("deleted", Cause.BLOB_MISSING),
        ("no folder", Cause.SNAPSHOT_MISSING),
    ],
)
async def test_of_a_damaged_blob_only_that_is_said_and_nothing_is_touched(made: Made, how: str, cause: Cause) -> None:
    blob = bytearray(gzip.compress(tar_of(FILES)) + bytes(100))
    layer = made(bytes(blob))
    unpacked(layer, {"one": b"other"})
    if how in {"flipped", "trailing"}:
        blob[-1 if how == "trailing" else len(blob) // 2] ^= 1
        layer.blob.write_bytes(blob)
    elif how == "truncated":
        os.truncate(layer.blob, 1000)
    elif how == "deleted":
        layer.blob.unlink()
    else:
        layer.folder.rename(layer.folder.with_name("away"))
    async with Layers(1, Budget(None)) as layers:
        for work in (layers.compare, layers.replace_files):
            with pytest.raises(Fault) as caught:
                await work(layer)
            assert caught.value.cause is cause
    assert not (layer.folder.parent / QUARANTINE).exists()


async def test_what_is_no_tar_cannot_be_compared(made: Made) -> None:
    layer = made(os.urandom(10_000))
    async with Layers(1, Budget(None)) as layers:
        comparison = await layers.compare(layer)
    assert comparison.incomparable
    assert comparison.differences == ()


async def test_a_bomb_takes_no_memory(made: Made) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 1024 * MIB
    packer = io.BytesIO()
    with gzip.open(packer, "wb", compresslevel=9) as out:
        out.write(info.tobuf())
        for _ in range(1024):
            out.write(bytes(MIB))
        out.write(bytes(1024))
    layer = made(packer.getvalue())
    with (layer.folder / "zeros").open("wb") as file:
        file.truncate(info.size)
        os.utime(file.fileno(), (0, 0))
    (layer.folder / "zeros").chmod(0o644)
    assert await peak_mib(layer, 0) < 64


async def test_many_names_take_little_memory(made: Made) -> None:
    buffer = io.BytesIO()
    for number in range(300_000):
        buffer.write(tarfile.TarInfo(f"{number // 1000}/{number:060}").tobuf())
    assert await peak_mib(made(gzip.compress(buffer.getvalue(), 1)), 300_300) < 200


async def peak_mib(layer: Layer, count: int) -> int:
    async with Layers(1, Budget(None)) as layers:
        comparison = await layers.compare(layer)
        assert comparison.count == count
        (child,) = layers._idle
        status = Path(f"/proc/{child.pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


async def test_the_budget_slows_it_and_a_closed_one_stops_it(made: Made) -> None:
    layer = made(tar_of({"a": os.urandom(6 * MIB)}))
    budget = Budget(4 * MIB)
    async with Layers(1, budget) as layers:
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.8, budget.close)
        with pytest.raises(Stopped):
            await layers.compare(layer)
        assert 0.7 < time.monotonic() - began < 1.5


async def test_a_share_of_a_core_is_kept_to(made: Made) -> None:
    info = tarfile.TarInfo("a")
    info.size = 2048 * MIB
    layer = made(
        gzip.compress(info.tobuf()) + gzip.compress(bytes(64 * MIB), 1) * 32
    )  # little to read, much to inflate
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    async with Layers(1, Budget(None, cpu_share=0.2)) as layers:
        await layers.compare(layer)
        seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert seconds > 0.4 * (after.ru_utime - before.ru_utime) / 0.2


async def test_a_cancelled_comparison_leaves_no_child(made: Made) -> None:
    layer = made(tar_of({"a": os.urandom(6 * MIB)}))
    async with Layers(1, Budget(MIB)) as layers:
        task = asyncio.create_task(layers.compare(layer))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await layers.usage(layer.folder) == Usage(1, layer.folder.stat().st_blocks * 512)


async def test_no_link_of_a_stranger_leads_out_of_the_folder(made: Made, folder: Path) -> None:
    layer = made(tar_of({"link/passwd": b"root", "../../out": b"x", "deep/../../up": b"y"}))
    outside = folder / "outside"
    outside.mkdir()
    (outside / "passwd").write_bytes(b"root")
    (layer.folder / "link").symlink_to(outside)
    async with Layers(1, Budget(None)) as layers:
        found = {each.path: each.what for each in (await layers.compare(layer)).differences}
        assert found["link"] is What.TYPE
        assert found["link/passwd"] is What.MISSING
        await layers.replace_files(layer)
        assert (await layers.compare(layer)).count == 0
    assert [path.name for path in outside.iterdir()] == ["passwd"]
    assert (outside / "passwd").stat().st_mtime > 0


async def test_killed_at_any_moment_each_file_is_the_old_or_the_new(made: Made) -> None:
    files = {f"f{number}": f"{number}".encode() * 2000 for number in range(300)}
    layer = made(gzip.compress(tar_of(files), 1))
    unpacked(layer, dict.fromkeys(files, b"old"))
    for delay in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        async with Layers(1, Budget(None)) as layers:
            task = asyncio.create_task(layers.replace_files(layer))
            await asyncio.sleep(delay)
            task.cancel()  # which kills the child
            await asyncio.gather(task, return_exceptions=True)
        for name, content in files.items():
            assert (layer.folder / name).read_bytes() in {b"old", content}
    async with Layers(1, Budget(None)) as layers:
        await layers.replace_files(layer)
        assert (await layers.compare(layer)).count == 0
    assert not list((layer.folder.parent / QUARANTINE).glob("new*"))
