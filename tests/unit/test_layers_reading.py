"""Reading the files of a layer: an error of the disk, kernels that lack a flag, and tars cut at any place."""

import errno
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from agent.causes import Cause
from agent.model import Fault
from agent.runtime.blobs import RWF_DONTCACHE
from agent.runtime.layers import content, inflate, lane
from agent.runtime.layers.job import compare
from agent.runtime.layers.meter import Meter
from agent.runtime.layers.records import Comparison, Layer, What

FILES = {"small": b"s" * 5000, "dir/other": b"o" * 700, "large": os.urandom(3 * content.SCRATCH + 77), "empty": b""}
FORMS: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}
Preadv = Callable[[int, Sequence[memoryview], int, int], int]
_preadv = os.preadv


def tar_of(files: dict[str, bytes], form: int, headers: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, written in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.pax_headers = len(written), 1_700_000_000, headers
            tar.addfile(info, io.BytesIO(written))
    return buffer.getvalue()


def unpacked(folder: Path, files: dict[str, bytes], blob: bytes, nanoseconds: int = 0) -> Layer:
    root = folder / "fs"
    for name, written in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written)
        path.chmod(0o644)
        os.utime(path, ns=(0, 1_700_000_000 * 10**9 + nanoseconds))
    (folder / "blob").write_bytes(blob)
    return Layer(root, (), folder / "blob", "sha256:" + hashlib.sha256(blob).hexdigest(), len(blob))


@pytest.fixture
def layer(folder: Path) -> Layer:
    return unpacked(folder, FILES, gzip.compress(tar_of(FILES, tarfile.PAX_FORMAT, {})))


def compared(layer: Layer) -> Comparison:
    return compare(layer, Meter(lambda _bytes, _cpu: None, 1 << 20), 1 << 20)


def differences(layer: Layer) -> list[tuple[str, What]]:
    return [(each.path, each.what) for each in compared(layer).differences]


def read_with(monkeypatch: pytest.MonkeyPatch, preadv: Preadv) -> None:
    """Have this function in the place of the kernel's."""

    def instead(descriptor: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        return preadv(descriptor, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", instead)
    monkeypatch.setattr(lane, "_preadv", instead)


@pytest.mark.parametrize("name", ["small", "dir/other", "large"])
def test_a_file_that_the_disk_cannot_read_is_told_and_the_others_are_compared(
    layer: Layer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def broken(descriptor: int, buffers: Sequence[memoryview], offset: int, flags: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == layer.folder / name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return _preadv(descriptor, buffers, offset, flags)

    read_with(monkeypatch, broken)
    assert differences(layer) == [(name, What.UNREADABLE)]


def test_a_blob_that_the_disk_cannot_read_is_corrupt(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, buffers: Sequence[memoryview], offset: int, flags: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == layer.blob and offset > 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return _preadv(descriptor, buffers, offset, flags)

    read_with(monkeypatch, broken)
    with pytest.raises(Fault) as caught:
        compared(layer)
    assert caught.value.cause is Cause.BLOB_CORRUPT


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EINVAL])
@pytest.mark.parametrize("nowait", ["in memory", "cold", "unknown to the file system"])
def test_a_kernel_that_cannot_read_past_the_cache_reads_and_finds_the_same(
    layer: Layer, monkeypatch: pytest.MonkeyPatch, refusal: int, nowait: str
) -> None:
    asked: list[int] = []

    def older(descriptor: int, buffers: Sequence[memoryview], offset: int, flags: int) -> int:
        asked.append(flags)
        if flags & RWF_DONTCACHE:
            raise OSError(refusal, os.strerror(refusal))
        if flags & os.RWF_NOWAIT and nowait != "in memory":
            code = errno.EAGAIN if nowait == "cold" else errno.EOPNOTSUPP
            raise OSError(code, os.strerror(code))
        return _preadv(descriptor, buffers, offset, flags)

    read_with(monkeypatch, older)
    assert differences(layer) == []
    assert asked.count(RWF_DONTCACHE) == 2  # once for the blob, once for the files
    with (layer.folder / "large").open("r+b") as file:
        file.seek(content.SCRATCH + 5)
        file.write(bytes(3))
    os.utime(layer.folder / "large", (0, 1_700_000_000))
    assert differences(layer) == [("large", What.CONTENT)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("piece", [512, 513, 5000, 1 << 20])
def test_a_tar_cut_at_any_place_is_compared_in_every_form(
    folder: Path, monkeypatch: pytest.MonkeyPatch, form: str, piece: int
) -> None:
    files = {f"d/{number}": b"%d" % number * (number * 3) for number in range(300)}
    tar = tar_of(files, tarfile.PAX_FORMAT, {"mtime": "1700000000.000000007"})
    layer = unpacked(folder, files, FORMS[form](tar), nanoseconds=7)
    monkeypatch.setattr(inflate, "OUTPUT", piece)
    assert differences(layer) == []
    (layer.folder / "d/299").write_bytes(b"!" * len(files["d/299"]))
    os.utime(layer.folder / "d/299", ns=(0, 1_700_000_000_000_000_007))
    assert differences(layer) == [("d/299", What.CONTENT)]


@pytest.mark.parametrize("name", ["small", "dir/other", "large", "empty"])
@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?" * (path.stat().st_size > 0)), What.CONTENT),
        (lambda path: path.write_bytes(path.read_bytes() + b"?"), What.SIZE),
        (lambda path: os.setxattr(path, "user.new", b"n"), What.XATTR),
        (lambda path: os.chown(path, 0, 1), What.OWNER),
        (lambda path: path.chmod(0o600), What.MODE),
        (lambda path: os.utime(path, ns=(0, 5)), What.MTIME),
        (Path.unlink, What.MISSING),
    ],
)
def test_each_harm_of_a_file_is_told_alone(layer: Layer, name: str, harm: Callable[[Path], object], what: What) -> None:
    path = layer.folder / name
    harm(path)
    if what not in {What.MTIME, What.MISSING}:
        os.utime(path, ns=(0, 1_700_000_000 * 10**9))
    assert differences(layer) == ([] if (name, what) == ("empty", What.CONTENT) else [(name, what)])


@pytest.mark.parametrize("form", FORMS)
def test_of_a_broken_blob_nothing_is_said_of_the_folder(folder: Path, form: str) -> None:
    """Compressed data that nobody could unpack, under the digest that they have: no fault of the blob."""
    blob = bytearray(FORMS[form](tar_of(FILES, tarfile.GNU_FORMAT, {})))
    del blob[len(blob) // 2 :]
    comparison = compared(unpacked(folder, {"small": b"other"}, bytes(blob)))
    assert comparison.incomparable
    assert comparison.differences == ()


def test_odd_times_alone_do_not_have_the_folder_counted_anew(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = compared(layer).usage
    os.utime(layer.folder / "small", (1, 1))
    monkeypatch.setattr("agent.runtime.layers.job.count", None)
    comparison = compared(layer)
    assert [each.what for each in comparison.differences] == [What.MTIME]
    assert comparison.usage == counted
