"""What an unfinished download may look like, and what it cannot: a layer's, a manifest's or a config's beginning."""

import asyncio
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
import zstandard

from agent.causes import Cause
from agent.checks import ingests
from agent.runtime.blobs import Budget
from agent.runtime.content import Ingest
from agent.runtime.store import Store

HOLE = b"\0" * 65536


class Unfinished:
    """A store with one unfinished download of a blob's first bytes."""

    def __init__(self, folder: Path, kind: str, blob: bytes, data: bytes) -> None:
        self.content = self
        self._path = folder / "data"
        with self._path.open("wb") as file:
            file.write(data.removesuffix(HOLE))
            file.truncate(len(data))
        digest = hashlib.sha256(blob).hexdigest()
        self._ingest = Ingest(f"{kind}-sha256:{digest}", len(data), len(blob), *[datetime.now(UTC)] * 2)

    async def ingests(self) -> tuple[Ingest, ...]:
        return (self._ingest,)

    def ingest_path(self, ref: str) -> Path:
        assert ref == self._ingest.ref
        return self._path


def layer() -> bytes:
    """A tar whose bytes compress a little, so that most of a compressed one is a beginning too."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("usr/bin/app")
        entry.size = 200_000
        tar.addfile(entry, io.BytesIO(os.urandom(entry.size // 2).hex().encode()))
    return buffer.getvalue()


TAR = layer()
GZIP = gzip.compress(TAR)
MEMBERS = gzip.compress(TAR[:1000]) + gzip.compress(TAR[1000:])
DOCUMENT = b'{"schemaVersion": 2, "layers": []}'


@pytest.fixture(autouse=True)
def _on_ext4(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests' own folder is."""
    monkeypatch.setattr(ingests, "is_ext4", lambda _: True)


def look(folder: Path, kind: str, blob: bytes, data: bytes) -> tuple[str, ...]:
    store = cast("Store", Unfinished(folder, kind, blob, data))
    found = asyncio.run(ingests.findings(store, Budget(None), lambda _: None))
    assert all(finding.cause is Cause.INGEST_STUCK for finding in found)
    return tuple(finding.detail for finding in found)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 1])
@pytest.mark.parametrize(
    ("kind", "blob"),
    [
        pytest.param("layer", GZIP, id="gzip"),
        pytest.param("layer", MEMBERS, id="gzip of several members"),
        pytest.param("layer", GZIP + b"\0" * 512, id="gzip with padding"),
        pytest.param("layer", gzip.compress(b"\0" * 40960, 0), id="gzip that stores zeros as they are"),
        pytest.param("layer", zstandard.compress(TAR), id="zstd"),
        pytest.param("layer", TAR, id="tar"),
        pytest.param("layer", b"\0" * 1024, id="empty layer"),
        pytest.param("layer", os.urandom(5000), id="an encrypted layer"),
        pytest.param("unknown", os.urandom(5000), id="an artifact"),
        pytest.param("layer", gzip.compress(b"\0" * 60_000_000), id="gzip of zeros, which is mostly zeros"),
        pytest.param("manifest", DOCUMENT, id="manifest"),
        pytest.param("config", b"\n " + DOCUMENT, id="config"),
    ],
)
def test_what_may_go_on_is_left_alone(tmp_path: Path, kind: str, blob: bytes, share: float) -> None:
    assert look(tmp_path, kind, blob, blob[: int(len(blob) * share)]) == ()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("kind", "blob", "spoil", "words"),
    [
        pytest.param("layer", GZIP, lambda b: b[:40_960] + HOLE, "never written", id="a hole after a power loss"),
        pytest.param("layer", TAR, lambda b: b[:40_960] + HOLE, "never written", id="a hole in a plain tar"),
        pytest.param("unknown", TAR, lambda b: b[:40_960] + HOLE, "never written", id="a hole in an artifact"),
        pytest.param("layer", GZIP, lambda b: b[:50_000] + b[:4096] + b[:20], "inflate", id="bytes of another place"),
        pytest.param("layer", GZIP, flipped, "another digest", id="all of it, and a bit flipped"),
        pytest.param(
            "layer", zstandard.compress(TAR), flipped, "another digest", id="all of a zstd, and a bit flipped"
        ),
        pytest.param("layer", GZIP, lambda b: b"\0" * (len(b) // 2), "nothing but zeros", id="zeros"),
        pytest.param("manifest", DOCUMENT, lambda _: b"\0" * 10, "JSON", id="a manifest of zeros"),
    ],
)
def test_what_can_never_be_finished_is_found(
    tmp_path: Path, kind: str, blob: bytes, spoil: Callable[[bytes], bytes], words: str
) -> None:
    (detail,) = look(tmp_path, kind, blob, spoil(blob))
    assert words in detail


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(200)) + packer.flush()
    assert look(tmp_path, "layer", bomb + b"x", bomb) == ()


def test_holes_are_not_believed_where_a_file_system_makes_them_of_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingests, "is_ext4", lambda _: False)
    assert look(tmp_path, "layer", TAR, TAR[:40_960] + HOLE) == ()
