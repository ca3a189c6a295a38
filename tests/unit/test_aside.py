"""Putting back: of two files for one blob the sound one stays."""

import hashlib
from pathlib import Path

import pytest

from agent.runtime.aside import Parcel, _choose
from agent.runtime.content import BlobInfo
from agent.runtime.images import Record

GOOD = b"good bytes"
INFO = BlobInfo(f"sha256:{hashlib.sha256(GOOD).hexdigest()}", len(GOOD))


@pytest.mark.parametrize(
    ("there", "kept", "expected"),
    [
        (None, GOOD, GOOD),
        (b"bad  bytes", GOOD, GOOD),
        (b"short", GOOD, GOOD),
        (GOOD, b"bad  bytes", GOOD),
        (b"bad  bytes", b"worse bytes", b"bad  bytes"),
        (GOOD, None, GOOD),
        (None, None, None),
    ],
)
def test_the_sound_file_becomes_the_blob(
    folder: Path, there: bytes | None, kept: bytes | None, expected: bytes | None
) -> None:
    file, aside = folder / "file", folder / "aside"
    for path, content in ((file, there), (aside, kept)):
        if content is not None:
            path.write_bytes(content)
    _choose(file, aside, INFO)
    assert (file.read_bytes() if file.exists() else None) == expected


def test_a_parcel_is_the_same_after_the_ledger() -> None:
    parcel = Parcel("sha256:x", (Record("a:1", "sha256:x", "type", 3, {"k": "v"}),), (INFO,))
    assert Parcel.from_json(parcel.to_json()) == parcel


@pytest.mark.parametrize(
    "odd", [{}, {"image": "x", "records": 1, "blobs": []}, {"image": 1, "records": [{}], "blobs": []}]
)
def test_a_parcel_of_nonsense_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Parcel.from_json(odd)
